"""Draws for a target standard error: how many, from what pilot, and what is said of them."""

import math

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, lognormal, quiet

import fastelbo as fe
from fastelbo.engine import states, targets
from fastelbo.engine.cpu import CPUBackend
from fastelbo.engine.requests import new_request
from fastelbo.errors import InvalidInputError, TargetErrorWarning
from fastelbo.random import pilot_key

MARGIN = 1.2


# --- arguments ------------------------------------------------------------------------------------

P, Q = lognormal([1.0, 2.0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target_se": 0.1, "n_samples": 100}, "n_samples must not be given with target_se"),
        ({"target_total_se": 0.1, "n_samples": 100}, "n_samples must not be given with target_tot"),
        ({"target_se": 0.1, "target_total_se": 0.1}, "target_se and target_total_se must not both"),
        ({"max_samples": 100}, "max_samples must not be given without target_se or target_total"),
        ({"target_se": 0.0}, r"target_se must be positive and finite, got 0\.0"),
        ({"target_se": math.inf}, "target_se must be positive and finite, got inf"),
        ({"target_se": math.nan}, "target_se must be positive and finite, got nan"),
        ({"target_total_se": -1}, "target_total_se must be positive and finite, got -1"),
        ({"target_se": "small"}, "target_se must be a real number, got 'small'"),
        ({"target_se": True}, "target_se must be a real number, got True"),
        ({"target_se": [0.1, 0.2]}, "target_se must be a real number"),
        ({"target_se": 0.1, "max_samples": 0}, "max_samples must be at least 1, got 0"),
        ({"target_se": 0.1, "max_samples": 1.5}, "max_samples must be an integer, got 1.5"),
        ({"target_se": 0.1, "max_samples": 50, "iw_sizes": [60]}, "iw_sizes must be at most"),
    ],
)
def test_arguments_that_are_refused(given, message):
    with pytest.raises(InvalidInputError, match=message):
        fe.estimate(P, Q, rng=0, **given)


@pytest.mark.parametrize("name", ["target_se", "target_total_se"])
def test_an_exact_sum_has_no_target(name):
    mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[-1.0], [1.0]], scale=1.0))
    model, q = fe.MixtureModel([[0.5]], mixture), fe.Categorical([0.5, 0.5])
    with pytest.raises(InvalidInputError, match=f"{name} must not be given for a MixtureModel"):
        fe.estimate(model, q, **{name: 0.1})


def test_a_total_needs_data_points():
    only_q = fe.Gaussian([[0.3], [0.5]], scale=1.0)
    with pytest.raises(InvalidInputError, match="only q has a batch"):
        fe.estimate(fe.Gaussian([0.0], scale=1.0), only_q, target_total_se=0.1)
    fe.estimate(fe.Gaussian([0.0], scale=1.0), only_q, target_se=0.1)


# --- numbers of draws -----------------------------------------------------------------------------


@pytest.mark.parametrize("least", [1, 100, 512, 700])
@pytest.mark.parametrize("most", [700, 2**14, 10**6, 2**40])
def test_allowed_sizes(least, most):
    sizes = targets._allowed_sizes(least, most)
    assert sizes[0] >= least
    assert sizes[-1] == most
    assert (np.diff(sizes) > 0).all()
    octaves = math.log2(most / targets.LANES)
    assert len(sizes) <= 8 * octaves + 3
    # One is at most a block or 9.1 % above the one before.
    steps = np.diff(sizes.astype(float))
    assert (steps <= np.maximum(targets.LANES, 0.091 * sizes[:-1] + targets.LANES)).all()


def pilot_variance(p, q, rng=0):
    with quiet():
        seed = pilot_key(int(np.random.default_rng(rng).integers(0, 2**64, dtype=np.uint64)), 2)
        logs = fe.reference.elbo_terms(p, q, targets.PILOT_DRAWS, seed)
    weights = np.exp(logs[1] - logs[2])
    return weights.var(axis=1, ddof=1) / weights.mean(axis=1) ** 2


def assert_rounded_up(sizes, wanted, most=targets.DEFAULT_MOST_SAMPLES):
    """Sizes are at least what is wanted, but for the largest, and little more."""
    wanted = np.minimum(wanted, most)
    assert (sizes >= wanted * (1 - 1e-9)).all()
    assert (sizes <= np.maximum(1.091 * wanted + 2 * targets.LANES, targets.LANES)).all()


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("target", [0.5, 0.05, 0.01])
def test_sizes_for_each_data_point(target):
    p, q = lognormal([0.01, 0.3, 1.0, 3.4, 5.0])
    est = fe.estimate(p, q, target_se=target, rng=0)
    assert est.n_samples.shape == (5,)
    assert est.n_samples.dtype == np.int64
    assert est.pilot_samples == 1024
    assert_rounded_up(est.n_samples, MARGIN * pilot_variance(p, q) / target**2)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_sizes_for_a_total():
    p, q = lognormal([0.1, 0.3, 1.0, 3.4, 5.0])
    v = pilot_variance(p, q)
    est = fe.estimate(p, q, target_total_se=0.05, rng=0)
    assert_rounded_up(est.n_samples, MARGIN * np.sqrt(v) * np.sqrt(v).sum() / 0.05**2)
    # A total needs fewer draws than data points of equal errors.
    assert est.total().log_evidence_se < 0.052
    equal = fe.estimate(p, q, target_se=0.05 / math.sqrt(5), rng=0)
    assert est.n_samples.sum() < 0.95 * equal.n_samples.sum()


def test_all_draws_are_counted():
    target = targets.as_target(0.02, None, None, None)
    model, q = MODELS["own q"]
    request = new_request(model, q, target.max_samples, 0, 0, "float64", None, True)
    done, sizes = [], np.array([512, 1024, 512, 513, 20_000, 512, 512, 1024, 512])
    values = targets.grouped_quantities(request, sizes, CPUBackend(), done.append)
    assert sum(done) == sizes.sum()
    assert all(len(array) == 9 for array in values.values())
    alike = targets.mean_request(request, sizes)
    assert 0 <= alike.points * alike.n_samples - sizes.sum() < 9


def test_sizes_hold_the_largest_group():
    est = fe.estimate(P, Q, target_se=0.1, iw_sizes=[3000], rng=0)
    assert (est.n_samples >= 3000).all()
    assert np.isfinite(est.iw_elbo(3000).value).all()


@pytest.mark.filterwarnings("error")
def test_equal_weights_take_the_least_draws():
    p, q = lognormal([0.0, 1.0])
    with pytest.warns(fe.errors.ConstantWeightsWarning):
        est = fe.estimate(p, q, target_se=0.05, rng=0)
    assert est.n_samples[0] == targets.LANES
    assert est.log_evidence[0] == 0.0


@pytest.mark.parametrize("name", ["target_se", "target_total_se"])
@pytest.mark.parametrize("options", [{}, {"backend": "numpy"}, {"sampler": "sobol"}])
def test_a_batch_without_data_points(name, options):
    p = fe.Gaussian(np.empty((0, 1)), scale=1.0)
    est = fe.estimate(p, fe.Gaussian([0.0], scale=1.0), **{name: 0.1}, **options)
    assert est.n_samples.shape == est.log_evidence.shape == (0,)
    assert 10 in est.iw_sizes
    assert "n_samples=none" in repr(est)
    assert est.total().log_evidence == 0.0


@pytest.mark.parametrize("most", [1, 20, 50, 700])
@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_any_limit_is_kept(most):
    est = fe.estimate(P, Q, target_se=1e-200, max_samples=most, rng=0)
    np.testing.assert_array_equal(est.n_samples, most)
    assert est.iw_sizes == tuple(k for k in (10, 100) if k <= most)


# --- messages -------------------------------------------------------------------------------------


def test_a_limit_that_is_too_small():
    p, q = lognormal([0.01, 3.4, 1.0])
    with pytest.warns(TargetErrorWarning, match="max_samples = 1000 is too small") as met:
        est = fe.estimate(p, q, target_se=0.01, max_samples=1000, rng=3)
    (text,) = (str(each.message) for each in met if "too small" in str(each.message))
    assert met[0].filename == __file__
    assert "target_se = 0.01 at 2 of 3 data points (worst: 1, 2)" in text
    expected = float(text.split("up to ")[1].split()[0])
    assert expected == pytest.approx(est.log_evidence_se[1], rel=0.3)


def test_a_limit_that_is_too_small_for_a_total():
    p, q = lognormal([1.0, 2.0])
    with pytest.warns(TargetErrorWarning, match="a standard error of the total of") as met:
        est = fe.estimate(p, q, target_total_se=0.01, max_samples=1000, rng=3)
    (text,) = (str(each.message) for each in met if "too small" in str(each.message))
    expected = float(text.rsplit("of ", 1)[1])
    assert expected == pytest.approx(est.total().log_evidence_se, rel=0.3)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_weights_that_are_all_zero():
    model = fe.Model(log_joint=lambda z: -np.inf if z[0] < 50.0 else 0.0, dim=1)
    with pytest.warns(TargetErrorWarning, match="whose weights are all 0 tells nothing") as met:
        est = fe.estimate(model, Q, target_se=0.05, max_samples=5000, rng=0)
    assert len([each for each in met if each.category is TargetErrorWarning]) == 1
    assert est.n_samples.item() == 5000
    assert est.log_evidence.item() == -np.inf


def test_no_promise_where_the_pilot_cannot_tell():
    p, q = lognormal(np.full(200, 20.0))
    with quiet(), pytest.warns(TargetErrorWarning, match="target_se = 0.1 is not promised") as met:
        fe.estimate(p, q, target_se=0.1, rng=0)
    (text,) = (str(each.message) for each in met if "promised" in str(each.message))
    count = int(text.split(" for ")[1].split()[0])
    assert 0.6 <= count / 200 <= 0.8
    assert met[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_silence_where_nothing_is_in_doubt():
    est = fe.estimate(*lognormal([0.01, 0.1, 0.2]), target_se=0.01, rng=0)
    assert (est.log_evidence_se < 1.05 * 0.01).all()


def test_bad_weights_of_a_pilot_are_refused():
    model = fe.Model(log_joint=lambda z: np.nan if z[0] > 2.0 else 0.0, dim=1)
    with pytest.raises(fe.errors.InvalidWeightError, match=r"fastelbo.draw\(q, 0, \d+, key="):
        fe.estimate(model, Q, target_se=0.05, rng=0)


# --- the same draws as of given sizes -------------------------------------------------------------

ARRAYS = (
    "elbo", "elbo_se", "kl", "kl_se", "expected_log_likelihood", "log_evidence_se", "ess",
    "relative_variance", "pareto_k", "pareto_k_elbo", "n_zero", "iw_elbo_10", "iw_elbo_100_se",
)  # fmt: skip


def own_density(z, x):
    return -0.5 * (z[0] - x[0]) ** 2 - 0.3 * abs(z[1]) ** 3


def models():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(9, 2)) * np.linspace(0.2, 2.0, 9)[:, None]
    linear = fe.LinearGaussian(x, [[1.0, 0.5], [0.2, 1.0]], noise_cov=0.5)
    own = fe.Gaussian(linear.exact_posterior().mean, scale=np.linspace(0.5, 0.9, 18).reshape(9, 2))
    mixture = fe.Mixture([0.3, 0.7], fe.Gaussian([[0.0, 0.0], [0.5, -0.5]], scale=1.2))
    yield "own q", linear, own
    yield "Student-t", linear, fe.StudentT(5.0, own.mean, scale=own.scale)
    yield "mixture", linear, mixture
    yield (
        "function",
        fe.Model(log_joint=own_density, dim=2, data=x),
        fe.StudentT(6.0, own.mean, scale=1.0),
    )
    yield "one", fe.Gaussian([0.3, 0.2], scale=1.0), fe.Gaussian([0.0, 0.0], scale=1.3)


MODELS = {name: (model, q) for name, model, q in models()}


def assert_equal_to_plain(est, model, q, **options):
    """Each data point has the bits of a plain estimate of its size."""
    sizes = np.broadcast_to(est.n_samples, est.batch_shape)
    for size in np.unique(sizes).tolist():
        plain = fe.estimate(model, q, size, **options)
        at = sizes == size
        for name in ARRAYS:
            np.testing.assert_array_equal(
                est.to_dict()[name][at], plain.to_dict()[name][at], err_msg=name
            )
        # A target's log evidence has the bias of a log of a mean added, v / 2K.
        bias = np.nan_to_num(0.5 * plain.log_evidence_se**2)
        np.testing.assert_array_equal(est.log_evidence[at], (plain.log_evidence + bias)[at])
        np.testing.assert_array_equal(est.jensen_gap[at], (est.log_evidence - est.elbo)[at])


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("name", MODELS)
def test_data_points_have_the_draws_of_a_plain_estimate(name):
    model, q = MODELS[name]
    options = {"rng": 7, "first_index": 5}
    est = fe.estimate(model, q, target_se=0.02, **options)
    assert name == "one" or len(np.unique(est.n_samples)) > 2
    assert_equal_to_plain(est, model, q, **options)
    again = fe.estimate(model, q, target_se=0.02, n_threads=1, **options)
    np.testing.assert_array_equal(est.log_evidence, again.log_evidence)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("options", [{"backend": "numpy"}, {"precision": "float32"}])
def test_other_backends_and_precisions(options):
    model, q = MODELS["own q"]
    est = fe.estimate(model, q, target_se=0.05, rng=7, **options)
    assert_equal_to_plain(est, model, q, rng=7, **options)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_intervals_are_those_of_a_plain_estimate():
    model, q = MODELS["own q"]
    est = fe.estimate(model, q, target_se=0.02, rng=7)
    interval = est.confidence_interval()
    for i, size in enumerate(est.n_samples.tolist()):
        plain = fe.estimate(model, q, size, rng=7)
        bias = plain.relative_variance[i] / (2 * size)
        for end, other in zip(interval, plain.confidence_interval(), strict=True):
            assert end[i] == pytest.approx(other[i] + bias, abs=1e-12)
    # However short, an interval holds the estimate.
    low, high = est.confidence_interval("log_evidence", 0.001)
    assert ((low <= est.log_evidence) & (est.log_evidence <= high)).all()


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_tails_that_would_fill_the_memory_are_not_kept(monkeypatch):
    model, q = MODELS["own q"]
    expected = fe.estimate(model, q, target_se=0.02, rng=7)
    # Room for the tails of each size, but not for all.
    monkeypatch.setattr(states, "_TAIL_BYTES", expected._tail.nbytes - 1)
    est = fe.estimate(model, q, target_se=0.02, rng=7)
    assert est._tail is None
    np.testing.assert_array_equal(est.pareto_k, expected.pareto_k)
    np.testing.assert_array_equal(est.log_evidence, expected.log_evidence)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_a_total_is_corrected_once():
    model, q = MODELS["own q"]
    est = fe.estimate(model, q, target_se=0.05, rng=7)
    total = est.total()
    bias = (est.relative_variance / (2 * est.n_samples)).sum()
    assert total.bias_correction == pytest.approx(bias, rel=1e-6)
    assert total.log_evidence == pytest.approx(est.log_evidence.sum(), rel=1e-12)
    error = np.sqrt((est.relative_variance / est.n_samples).sum())
    assert total.log_evidence_se == pytest.approx(error, rel=1e-9)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("replicates", [4, 16])
def test_quasi_random_draws(name, replicates):
    model, q = MODELS[name]
    # Only the rotation of a linear-Gaussian target does not depend on the number of draws.
    options = {"sampler": "sobol", "replicates": replicates, "rotate": name == "own q"}
    options["iw_sizes"] = [2]
    est = fe.estimate(model, q, target_se=0.01, rng=7, **options)
    assert est.pilot_samples == 64 * replicates
    per_replicate = est.n_samples // replicates
    np.testing.assert_array_equal(2 ** np.log2(per_replicate).astype(int), per_replicate)
    assert (per_replicate >= 64).all()
    assert name == "one" or len(np.unique(per_replicate)) > 1
    for size in np.unique(est.n_samples).tolist():
        plain, at = fe.estimate(model, q, size, rng=7, **options), est.n_samples == size
        for key, value in plain.to_dict().items():
            if isinstance(value, np.ndarray) and value.shape == at.shape:
                np.testing.assert_array_equal(est.to_dict()[key][at], value[at], err_msg=key)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_sizes_of_quasi_random_draws():
    model, q = MODELS["own q"]
    options = {"sampler": "sobol", "rotate": False, "rng": 7}
    largest = fe.estimate(model, q, target_se=1e-9, max_samples=5000, **options)
    np.testing.assert_array_equal(largest.n_samples, 4096)
    few = fe.estimate(model, q, target_se=0.2, **options)
    np.testing.assert_array_equal(few.n_samples, 1024)
    # Half the error needs four times the draws: an error is taken to fall by 1 / sqrt(K).
    first, second = (fe.estimate(model, q, target_se=tau, **options) for tau in (5e-3, 2.5e-3))
    more = first.n_samples > 1024
    assert more.any()
    np.testing.assert_array_equal(second.n_samples[more], 4 * first.n_samples[more])
    whole = fe.estimate(model, q, target_total_se=0.02, **options)
    assert len(np.unique(whole.n_samples)) > 1
    assert abs(whole.total().log_evidence - model.exact_log_evidence().sum()) < 4 * 0.02
    with pytest.raises(InvalidInputError, match="max_samples must be at least 1024, 64 points"):
        fe.estimate(model, q, target_se=0.1, max_samples=1023, **options)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_functions_on_the_host():
    x = np.linspace(-1.0, 2.0, 7)[:, None]
    model = fe.Model(
        log_joint=lambda z, x: -0.5 * ((z - x) ** 2).sum(-1), dim=1, data=x, vectorized=True
    )
    q = fe.Gaussian([0.0], scale=1.3)
    est = fe.estimate(model, q, target_se=0.03, rng=2)
    for size in np.unique(est.n_samples).tolist():
        plain = fe.estimate(model, q, size, rng=2)
        at = est.n_samples == size
        # The sizes of batches, and with them the last bits, depend on the number of data points.
        np.testing.assert_allclose(est.elbo[at], plain.elbo[at], rtol=1e-12)


def test_the_pilot_has_draws_of_its_own():
    keys = {pilot_key(key, purpose) for key in (0, 1, 2**63) for purpose in (1, 2)}
    assert len(keys | {0, 1, 2**63}) == 9
    assert pilot_key(5, 2) == pilot_key(5, 2)
