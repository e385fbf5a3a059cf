"""The lower tail of the log weights themselves: where the mean that the ELBO is may not exist."""

import warnings

import numpy as np
import pytest
import scipy.stats
from helpers import IGNORE_DIAGNOSTICS, bits, linear_gaussian, quiet

import fastelbo as fe
from fastelbo import reference
from fastelbo.engine.lower_tails import LARGEST_SHARE
from fastelbo.kernels.draws.blocks import CHUNK
from fastelbo.weights.diagnostics import heavy_means
from fastelbo.weights.pareto import fit_tails, k_threshold, kept_draws

NORMAL = fe.Gaussian([0.0], scale=1.0)


def cauchy(scale=1.0):
    return fe.StudentT(1.0, [0.0], scale=scale)


def plain(rows):
    """k-hat of -l for each row, from all of it; NaN where no draw has much of the variance."""
    kept = np.sort(-rows, axis=1)[:, ::-1][:, : kept_draws(rows.shape[1])]
    suspect = reference.largest_share(rows) > LARGEST_SHARE
    return np.where(suspect, reference.plain_pareto_k(kept), np.nan)


@pytest.mark.parametrize(
    ("c", "k", "sigma"),
    [
        (0.1, 0.11030538299874189, 0.9689311464171625),
        (0.5, 0.5035203992870904, 0.966373900167903),
        (1.0, 0.9891947607352517, 0.9688794540950301),
    ],
)
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e300])
def test_fit_of_plain_values(c, k, sigma, size):
    # The known answers of the fit of a generalised Pareto distribution, whatever the unit.
    x = scipy.stats.genpareto.rvs(c=c, size=3000, random_state=np.random.default_rng(123))
    fits = fit_tails(size * np.append(x, 0.0)[None], logs=False)
    assert abs(fits.pareto_k[0] - k) < 1e-10
    assert abs(fits.sigma[0] * x.max() - sigma) < 1e-10


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("n", [21, 100, 1000, CHUNK, 3 * CHUNK + 17])
@pytest.mark.parametrize("axis", [0, 1])
def test_k_hat_of_rows(n, axis):
    rng = np.random.default_rng(n)
    rows = -rng.pareto(rng.uniform(0.4, 5.0, (11, 1)), (11, n)) + rng.normal(size=(11, n))
    got = fe.summarize(rows if axis else np.ascontiguousarray(rows.T), axis)
    np.testing.assert_allclose(got.pareto_k_elbo, plain(rows), rtol=1e-9, atol=1e-10)
    withheld = got.pareto_k_elbo > k_threshold(n)
    np.testing.assert_array_equal(np.isnan(got.elbo_se), withheld)
    np.testing.assert_array_equal(
        np.isnan(got.jensen_gap_se), withheld | (got.pareto_k > k_threshold(n))
    )


@pytest.mark.parametrize("n", [100, 1000, 5000, 20_000])
@pytest.mark.parametrize("k", [0.7, 1.0, 1.5])
def test_heavy_tails_are_looked_at(n, k):
    # A draw with little of the variance may be missed only where k-hat is low.
    rng = np.random.default_rng([n, int(10 * k)])
    rows = 1.0 - rng.random((2_000_000 // n, n)) ** -k
    for signs in (1.0, rng.choice([-1.0, 1.0], rows.shape)):
        kept = np.sort(-rows * signs, axis=1)[:, ::-1][:, : kept_draws(n)]
        high = fit_tails(kept, logs=False, grid=False).pareto_k > k_threshold(n)
        seen = reference.largest_share(rows * signs) > LARGEST_SHARE
        assert high.any()
        assert seen[high].mean() >= 0.97


@pytest.mark.parametrize("n", [1000, 10_000])
def test_light_tails_are_not_looked_at(n):
    rows = -(np.random.default_rng(n).standard_normal((100, n)) ** 2)
    with quiet():
        got = fe.summarize(rows)
    assert np.isnan(got.pareto_k_elbo).mean() >= 0.8
    assert np.isfinite(got.elbo_se).all()


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("df", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_k_hat_of_student_t(df, backend):
    # -l is z^2/2 beside logarithms, and P(z^2 > t) falls as t^(-df/2).
    q = fe.StudentT(df, np.zeros((8, 1)), scale=1.0)
    got = fe.estimate(NORMAL, q, 30_000, rng=0, backend=backend)
    # Few of the lightest tails are suspect.
    assert abs(np.nanmean(got.pareto_k_elbo) - 2.0 / df) < 0.12


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_cauchy_has_no_elbo(backend):
    with pytest.warns(
        fe.errors.HighParetoKWarning, match=r"lower tail.*: elbo_se and kl_se are NaN"
    ) as told:
        got = fe.estimate(NORMAL, cauchy(), 10_000, rng=0, backend=backend)
    assert len(told) == 1
    assert got.pareto_k_elbo > 1.5
    assert np.isnan([got.elbo_se, got.kl_se, got.jensen_gap_se]).all()
    # The log evidence and the likelihood, which is 1, have their errors.
    assert got.log_evidence_se < 0.01
    assert got.expected_log_likelihood_se == 0.0
    # The mean of k weights is as small only if all are: its tail index is 2 / k.
    with quiet():
        bounds = fe.estimate(NORMAL, cauchy(), 10_000, rng=0, backend=backend, iw_sizes=[2, 10])
    assert np.isnan(bounds.iw_elbo(1).se)
    assert np.isnan(bounds.iw_elbo(2).se)
    assert bounds.iw_elbo(10).se < 0.01


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_terms_by_their_own_tails(backend):
    model, q = linear_gaussian([1.0, -2.0, 0.0]), fe.StudentT(1.0, np.zeros((3, 1)), scale=1.0)
    with pytest.warns(
        fe.errors.HighParetoKWarning, match="elbo_se, kl_se and expected_log_likelihood_se are NaN"
    ):
        got = fe.estimate(model, q, 10_000, rng=1, backend=backend)
    assert np.isnan([got.elbo_se, got.kl_se, got.expected_log_likelihood_se]).all()


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_no_interval_of_a_mean_that_may_not_exist(backend):
    with quiet():
        got = fe.estimate(NORMAL, cauchy(), 10_000, rng=0, backend=backend)
    for quantity in ("elbo", "kl", "jensen_gap"):
        assert np.isnan(got.confidence_interval(quantity)).all(), quantity
    assert np.isnan(got.confidence_interval("iw_elbo", k=1)).all()
    # The tail of the weights is light: their mean has its interval.
    assert np.isfinite(got.confidence_interval("log_evidence")).all()
    assert "+-" not in got.summary().splitlines()[1].split(f"{float(got.elbo):.4f}")[1][:6]


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_a_total_with_such_a_mean_has_no_error():
    q = fe.StudentT(1.0, np.zeros((3, 1)), scale=[[1.0]] * 3)
    total = fe.estimate(linear_gaussian([1.0, -2.0, 0.0]), q, 10_000, rng=1).total()
    assert np.isnan([total.elbo_se, total.kl_se]).all()
    assert np.isfinite(total.elbo)


def test_each_mean_has_a_rule_of_its_own():
    values = {
        "pareto_k_elbo": np.array([0.9, 0.9, 0.9, 0.1, np.nan, 0.9, 0.9]),
        "pareto_k_kl": np.array([0.9, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9]),
        "pareto_k_likelihood": np.array([0.1, 0.9, np.nan, 0.9, 0.9, 0.9, 0.9]),
        # The last two have an ELBO that is -inf, and weights that are equal but for rounding.
        "elbo": np.array([-1.0, -1.0, -1.0, -1.0, -1.0, -np.inf, -1.0]),
        "relative_variance": np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1e-20]),
    }
    flags = {
        name: np.flatnonzero(each).tolist() for name, each in heavy_means(values, 1000).items()
    }
    assert flags == {"elbo": [0, 1, 2], "kl": [0], "expected_log_likelihood": [1]}


def test_the_terms_of_many_draws_are_drawn_again_in_pieces(monkeypatch):
    from fastelbo.engine import lower_tails

    def found():
        with quiet():
            return bits(fe.estimate(linear_gaussian(), cauchy(), 5000, rng=0, first_index=3))

    whole = found()
    monkeypatch.setattr(lower_tails, "_PIECE", 1024)
    assert found() == whole


@pytest.mark.parametrize("n", [1000, 10_000])
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.3, 2.0])
def test_gaussian_q_keeps_its_errors(n, scale):
    # -l is a square of a normal or less, whose tail index is 0.
    q = fe.Gaussian(np.full((200, 1), 0.5), scale=scale)
    with warnings.catch_warnings():
        # A q that is too narrow has weights with a heavy tail, of which the other warning tells.
        warnings.filterwarnings("ignore", "k-hat exceeds")
        warnings.filterwarnings("ignore", category=fe.errors.LowESSWarning)
        got = fe.estimate(linear_gaussian(), q, n, rng=0)
    assert np.isfinite([got.elbo_se, got.kl_se, got.expected_log_likelihood_se]).all()


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_rows_without_a_tail():
    zero = np.random.default_rng(0).standard_cauchy((1, 1000))
    zero[0, 3] = -np.inf
    for rows in (zero, np.full((1, 1000), -2.5), np.zeros((1, 20))):
        assert np.isnan(fe.summarize(rows).pareto_k_elbo).all()
    # Equal but for rounding, where a k-hat would be that of the rounding.
    assert fe.summarize(-3.0 + 1e-15 * np.random.default_rng(1).normal(size=40)).elbo_se < 1e-15
    nothing = fe.summarize(zero[:, 4:], pareto_k=False)
    assert np.isnan(nothing.pareto_k_elbo).all()
    assert np.isfinite(nothing.elbo_se).all()


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_pieces_and_merges_keep_the_tail():
    rows = np.random.default_rng(5).standard_t(1.5, (3, 2 * CHUNK + 99))
    want = fe.summarize(rows)
    first = fe.LogWeightAccumulator()
    for piece in np.array_split(rows[:, :CHUNK], 3, axis=1):
        first.update(piece)
    rest = fe.LogWeightAccumulator(first_draw=CHUNK)
    rest.update(rows[:, CHUNK:])
    first.merge(rest)
    assert bits(first.result()) == bits(want)
    apart = fe.LogWeightAccumulator()
    apart.update(rows[:, :777])
    other = fe.LogWeightAccumulator()
    other.update(rows[:, 777:])
    apart.merge(other)
    np.testing.assert_array_equal(apart.result().pareto_k_elbo, want.pareto_k_elbo)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_it_is_told_with_the_rest():
    got = fe.estimate(NORMAL, fe.StudentT(1.0, np.zeros((2, 1)), scale=1.0), 1000, rng=0)
    np.testing.assert_array_equal(got.to_dict()["pareto_k_elbo"], got.pareto_k_elbo)
    np.testing.assert_array_equal(got.to_pandas()["pareto_k_elbo"], got.pareto_k_elbo)
    assert got.to_xarray()["pareto_k_elbo"].attrs["units"] == "1"
    assert f"{got.pareto_k_elbo[0]:.2f}" in got.summary()
    assert "pareto_k_elbo" in got.summary()
