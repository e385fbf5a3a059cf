"""Draws of the posterior by importance resampling, and their form in ArviZ."""

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, linear_gaussian

import fastelbo as fe
from fastelbo.errors import (
    HighParetoKWarning,
    InvalidInputError,
    InvalidWeightError,
    ShortTailWarning,
)

Q = fe.StudentT(5.0, [0.2], scale=0.9)
NARROW = fe.Gaussian([0.5], scale=0.2)


@pytest.mark.parametrize("method", ["stratified", "systematic", "multinomial", "residual"])
def test_draws_are_those_of_the_posterior(method):
    got = fe.importance_resample(linear_gaussian(), Q, 20_000, rng=0, method=method)
    z = np.sort(got.draws[0, :, 0])
    assert got.draws.shape == (1, 20_000, 1)
    assert got.n_samples == 400_000
    assert abs(z.mean() - 0.5) < 4.5 * (0.5 / 20_000) ** 0.5
    assert abs(z.var() - 0.5) < 4.5 * 0.5 * (2.0 / 20_000) ** 0.5
    from scipy.stats import kstest, norm

    assert kstest(z, norm(0.5, 0.5**0.5).cdf).pvalue > 1e-5


@pytest.mark.parametrize("replace", [True, False])
def test_index_and_weights_are_those_of_log_weights(replace):
    model, q = linear_gaussian([1.0, -1.0, 4.0]), fe.Gaussian([[0.5], [-0.5], [2.0]], scale=0.9)
    got = fe.importance_resample(model, q, 300, n_samples=20_000, rng=5, replace=replace)
    log_weights, z = fe.log_weights(model, q, 20_000, rng=5), q.sample(20_000, rng=5)
    for i in range(3):
        np.testing.assert_array_equal(got.log_weights[i], log_weights[i, got.index[i]])
        np.testing.assert_array_equal(got.draws[i], z[got.index[i], i])
    assert got.index.dtype == np.int64
    assert got.replace == replace
    for each in got.index:
        assert (len(np.unique(each)) == 300) or replace
        assert (np.diff(each) >= 0).all() or not replace
    est = fe.estimate(model, q, 20_000, rng=5)
    np.testing.assert_array_equal(got.ess, est.ess)
    np.testing.assert_array_equal(got.pareto_k, est.pareto_k)


def test_chosen_by_resample():
    """One data point: the choice is that of `resample` with a generator of its own."""
    got = fe.importance_resample(linear_gaussian(), Q, 50, n_samples=3000, rng=5)
    counts = np.bincount(got.index[0], minlength=3000)
    w = np.exp(fe.log_weights(linear_gaussian(), Q, 3000, rng=5)[0])
    expected = 50.0 * w / w.sum()
    # Stratified: a count is within 2 of its expectation.
    assert counts.sum() == 50
    assert (np.abs(counts - expected) < 2.0).all()


def test_seeds_threads_and_pieces(monkeypatch):
    from fastelbo.engine import posterior

    q = fe.Gaussian(np.zeros((4, 3)), scale=1.2)
    p = fe.StudentT(9.0, np.zeros(3), scale=1.0)
    first = fe.importance_resample(p, q, 100, rng=1)
    monkeypatch.setattr(posterior, "_NUMBERS", 5000)
    again = fe.importance_resample(p, q, 100, rng=1, n_threads=1)
    other = fe.importance_resample(p, q, 100, rng=2)
    np.testing.assert_array_equal(first.draws, again.draws)
    assert not np.array_equal(first.draws, other.draws)
    assert first.n_samples == 2000
    assert fe.importance_resample(p, q, 5, rng=1).n_samples == 1000


def test_draws_in_single_precision_are_the_draws():
    model, q = linear_gaussian(), fe.Gaussian([0.5], scale=0.9)
    got = fe.importance_resample(model, q, 40, rng=0, precision="float32")
    key = int(np.random.default_rng(0).integers(0, 2**64, dtype=np.uint64))
    for z, k in zip(got.draws[0, :5], got.index[0, :5], strict=True):
        single = fe.draw(q, 0, int(k), key=key, precision="float32", batch_shape=(1,))
        np.testing.assert_array_equal(z, single)


def test_several_q():
    model = linear_gaussian()
    qs = fe.Proposals([fe.Gaussian([-0.2], scale=0.6), Q], [0.25, 0.75])
    got = fe.importance_resample(model, qs, 5000, rng=0)
    log_weights = fe.log_weights(model, qs, 100_000, rng=0)
    np.testing.assert_array_equal(got.log_weights, np.take_along_axis(log_weights, got.index, 1))
    z = got.draws[0]
    np.testing.assert_allclose(
        got.log_weights[0], model.log_joint(z[:, None])[:, 0] - qs.log_prob(z), atol=1e-12
    )
    assert abs(z.mean() - 0.5) < 4.5 * (0.5 / 5000) ** 0.5
    each = fe.importance_resample(model, list(qs.qs), 50, n_samples=[300, 900], rng=0)
    assert each.n_samples == 1200


def test_no_data_points():
    got = fe.importance_resample(
        fe.Gaussian([0.0, 0.0], scale=1.0), fe.Gaussian(np.zeros((0, 2)), scale=1.0), 7
    )
    assert got.draws.shape == (0, 7, 2)
    assert got.pareto_k.shape == (0,)


@pytest.mark.filterwarnings("ignore::fastelbo.errors.LowESSWarning")
def test_high_k_warns():
    with pytest.warns(HighParetoKWarning, match="not those of the posterior"):
        got = fe.importance_resample(linear_gaussian(), NARROW, 1000, rng=0)
    assert got.pareto_k[0] > 0.7
    with pytest.warns(ShortTailWarning):
        fe.importance_resample(linear_gaussian(), Q, 5, n_samples=10, rng=0)


BAD = [
    ({"n": 0}, "n must be at least 1"),
    ({"n": 1.5}, "n must be an integer"),
    ({"method": "best"}, "method must be"),
    ({"replace": 1}, "replace must be True or False"),
    ({"n_samples": 0}, "n_samples"),
    ({"n": 200, "n_samples": 100, "replace": False}, "at least 200 draws of positive weight"),
    ({"q": 3}, "q must be a distribution"),
    ({"model": 3}, "model must be"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(given, message):
    arguments = {"model": linear_gaussian(), "q": Q, "n": 10, "rng": 0} | given
    with pytest.raises(InvalidInputError, match=message):
        fe.importance_resample(**arguments)


def test_models_without_draws_or_weights_are_refused():
    mixture = fe.MixtureModel(
        [[0.0]], fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1.0]], scale=1.0))
    )
    with pytest.raises(InvalidInputError, match="summed exactly"):
        fe.importance_resample(mixture, Q, 10)
    model = fe.Model(log_joint=lambda z: -1.0 * z[0] ** 2 if z[0] > 50.0 else -np.inf, dim=1)
    with pytest.raises(InvalidWeightError, match="positive weight"):
        fe.importance_resample(model, fe.Gaussian([0.0], scale=1.0), 10, rng=0)


def test_a_result_says_what_it_is():
    got = fe.importance_resample(linear_gaussian(), Q, 10, rng=0, replace=False)
    assert repr(got).startswith("PosteriorDraws(1 data points, 10 draws, D=1, without replacement")
    with pytest.raises(AttributeError, match="cannot assign"):
        got.draws = 0.0
    with pytest.raises(ValueError, match="read-only"):
        got.draws[0] = 0.0


# --- ArviZ ----------------------------------------------------------------------------------------


def two_names(z):
    return -0.5 * (z[0] ** 2 + (z[1] - 1.0) ** 2)


@pytest.mark.filterwarnings("ignore")
def test_arviz():
    arviz = pytest.importorskip("arviz")
    got = fe.importance_resample(linear_gaussian([1.0, 2.0]), Q, 50, rng=0)
    data = got.to_arviz()
    posterior, stats = data["posterior"], data["sample_stats"]
    assert dict(posterior["z"].sizes) == {"chain": 1, "draw": 50, "point": 2, "z_dim": 1}
    np.testing.assert_array_equal(posterior["z"].values[0, :, 1], got.draws[1])
    np.testing.assert_array_equal(stats["log_weight"].values[0, :, 1], got.log_weights[1])
    np.testing.assert_array_equal(stats["pareto_k"].values, got.pareto_k)
    assert posterior.attrs["inference_library"] == "fastelbo"
    summary = arviz.summary(data)
    assert len(summary) == 2


@pytest.mark.filterwarnings("ignore")
def test_arviz_has_the_names_of_a_model():
    arviz = pytest.importorskip("arviz")
    model = fe.Model(log_joint=two_names, dim=2, names=("mu", "tau"))
    got = fe.importance_resample(model, fe.StudentT(5.0, [0.0, 1.0], scale=1.2), 50, rng=0)
    data = got.to_arviz()
    assert sorted(data["posterior"].data_vars) == ["mu", "tau"]
    np.testing.assert_array_equal(data["posterior"]["tau"].values, got.draws[None, :, 1])
    assert data["sample_stats"]["pareto_k"].values == got.pareto_k
    assert list(arviz.summary(data).index) == ["mu", "tau"]


def test_arviz_is_asked_for_where_it_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match="pip install arviz"):
        fe.importance_resample(linear_gaussian(), Q, 5, rng=0).to_arviz()


@pytest.mark.statistical
@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("method", ["stratified", "multinomial"])
def test_means_of_draws_scatter_as_they_should(method):
    """500 data points of 100 draws: the mean has the posterior's variance over 100."""
    model = fe.LinearGaussian(np.ones((500, 1)), [[1.0]], noise_cov=1.0)
    got = fe.importance_resample(model, Q, 100, rng=0, method=method)
    z = (got.draws[..., 0].mean(axis=1) - 0.5) / np.sqrt(0.5 / 100)
    assert abs(z.mean()) < 4.5 / np.sqrt(500)
    # Some draws are chosen twice.
    assert 0.85 < z.std() < 1.2
