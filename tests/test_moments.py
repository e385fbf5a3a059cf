"""The state of weighted moments against plain NumPy, and the moments of an estimate."""

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, bits, quiet

import fastelbo as fe
from fastelbo.engine.moments import Pool, WeightedDraws
from fastelbo.engine.requests import new_request
from fastelbo.errors import HighParetoKWarning, InvalidInputError
from fastelbo.kernels.cpu import moments as drivers
from fastelbo.kernels.cpu.launch import launch
from fastelbo.kernels.state import moments as state
from fastelbo.models.integrand import Coordinates
from fastelbo.models.sampling import IID, as_sampling

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)


def folded(values, log_weights, full, size=8192, per_replicate=None, n_threads=None):
    """States (N, replicates, size) of values (N, P, n), by the kernels."""
    points, count, n = values.shape
    chunks = -(-n // size)
    per_replicate = per_replicate or chunks
    length = state.state_size(count, full)
    states = np.empty((points, chunks, length))
    launch(drivers.value_states, values, full, log_weights, 0, size, states, n_threads=n_threads)
    prefix = np.zeros((points, chunks // per_replicate, length))
    prefix[..., state.MAX], prefix[..., state.FIRST_BAD] = -np.inf, np.inf
    launch(drivers.fold, states, count, full, 0, per_replicate, prefix, n_threads=n_threads)
    return prefix


def plain(values, log_weights, full):
    """The moments of values (P, n) in long doubles."""
    w = np.exp(log_weights - log_weights.max()).astype(np.longdouble)
    f = np.where(w > 0.0, values, 0.0).astype(np.longdouble)
    mean = (w * f).sum(axis=1) / w.sum()
    d = f - mean[:, None]
    pairs = [(p, q) for p in range(len(f)) for q in range(0 if full else p, p + 1)]
    return {
        "positive": (log_weights > -np.inf).sum(),
        "top": log_weights.max(),
        "total": w.sum(),
        "squares": (w * w).sum(),
        "mean": mean,
        "square_first": (w * w * d).sum(axis=1),
        "products": np.array([(w * d[p] * d[q]).sum() for p, q in pairs]),
        "square_products": np.array([(w * w * d[p] * d[q]).sum() for p, q in pairs]),
    }


def close(read, expected, tolerance):
    """Every moment, relative to the sizes that its terms have."""
    deviations = np.sqrt(expected["products"].astype(float).max() / float(expected["total"]))
    scales = {
        "square_first": float(expected["squares"]) * deviations,
        "mean": deviations,
        "products": float(expected["total"]) * deviations**2,
        "square_products": float(expected["squares"]) * deviations**2,
    }
    for name, value in expected.items():
        scale = scales.get(name, np.abs(np.float64(value)))
        error = np.abs(getattr(read, name) - value.astype(float)).max() / scale
        assert error < tolerance, name


def example(seed, points=2, count=3, n=20_001, spread=1.5):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(points, count, n)) * np.arange(1.0, count + 1.0)[:, None]
    log_weights = spread * rng.normal(size=(points, n)) - 700.0
    log_weights[:, ::7] = -np.inf
    return values, log_weights


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("n", [1, 31, 512, 700, 8192, 20_001])
def test_state_is_that_of_numpy(full, n):
    values, log_weights = example(n, n=n)
    log_weights[:, 0] = -690.0
    read = state.read(folded(values, log_weights, full)[:, 0], 3, full)
    for i in range(2):
        own = type(read)(*(each[i] for each in read))
        expected = plain(values[i], log_weights[i], full)
        if n == 1:
            assert np.array_equal(own.mean, values[i, :, 0])
            assert not own.products.any()
            continue
        close(own, expected, 1e-13)


def test_no_digits_are_lost_far_from_zero():
    values, log_weights = example(1)
    values = np.round(values * 2.0**20) / 2.0**20  # which 2^30 moves without an error
    near = state.read(folded(values, log_weights, True)[:, 0], 3, True)
    far = state.read(folded(values + 2.0**30, log_weights, True)[:, 0], 3, True)
    for name in ("products", "square_products"):
        largest = np.abs(getattr(near, name)).max()
        error = np.abs(getattr(far, name) - getattr(near, name)).max()
        # Means that large have an ulp of 2^-22. Sums of squares would have one of 2^14.
        assert error < 1e-7 * largest, name
    np.testing.assert_allclose(far.mean - 2.0**30, near.mean, atol=2.0**-21)


def test_first_draws_without_weight_that_are_far_away_leave_no_trace():
    """A state about the first draws that have any weight would lose 16 digits here."""
    values, log_weights = example(2, points=1)
    values[..., :512] += 1e8
    log_weights[:, :512] = -5000.0
    got = state.read(folded(values, log_weights, True)[:, 0], 3, True)
    rest = state.read(
        folded(values[..., 512:].copy(), log_weights[:, 512:].copy(), True)[:, 0], 3, True
    )
    for name in ("mean", "products", "square_products"):
        np.testing.assert_allclose(getattr(got, name), getattr(rest, name), rtol=1e-11, atol=1e-11)


def test_one_heavy_draw_at_the_end_takes_over():
    values, log_weights = example(3, points=1)
    log_weights[0, -1] = 300.0
    got = state.read(folded(values, log_weights, True)[:, 0], 3, True)
    np.testing.assert_array_equal(got.mean[0], values[0, :, -1])
    assert got.total == 1.0
    assert got.squares == 1.0
    assert not got.products.any()


def test_values_that_are_not_finite_count_at_positive_weights_alone():
    values, log_weights = example(4, points=1)
    zero = np.flatnonzero(np.isneginf(log_weights[0]))
    clean = folded(values, log_weights, True)
    values[0, 0, zero[:3]] = np.nan, np.inf, -np.inf
    assert np.array_equal(folded(values, log_weights, True), clean)
    values[0, 1, [9000, 17_001]] = np.inf, np.nan
    values[0, 2, 9001] = np.nan
    bad = folded(values, log_weights, True)[0, 0]
    assert bad[state.BAD] == 3.0
    assert bad[state.FIRST_BAD] == 9000.0


def test_no_weight_at_all():
    values, log_weights = example(5)
    empty = folded(values, np.full_like(log_weights, -np.inf), True)
    read = state.read(empty, 3, True)
    assert not read.positive.any()
    assert not read.total.any()
    assert np.isneginf(read.top).all()


@pytest.mark.parametrize("full", [True, False])
def test_threads_change_no_bit_and_cuts_only_rounding(full):
    values, log_weights = example(6)
    whole = folded(values, log_weights, full)
    assert np.array_equal(whole, folded(values, log_weights, full, n_threads=1))
    other = state.read(folded(values, log_weights, full, size=1024)[:, 0], 3, full)
    for got, expected in zip(other, state.read(whole[:, 0], 3, full), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


QS = {
    "Gaussian": lambda: fe.Gaussian([0.0, 1.0, -1.0], scale_tril=np.tril(np.full((3, 3), 0.7))),
    "StudentT": lambda: fe.StudentT(4.0, np.zeros((2, 3)), scale=[1.0, 2.0, 0.5]),
    "Mixture": lambda: fe.Mixture([0.3, 0.7], fe.Gaussian([[1.0] * 3, [-1.0] * 3], scale=1.0)),
}


def weighted(q, n=9000, precision="float64", sampling=IID, n_threads=None):
    p = fe.StudentT(5.0, np.zeros((2, 3)), scale=1.5)
    request = new_request(p, q, n, 0, 5, precision, (), True, sampling)
    log_weights = fe.log_weights(
        p, q, n, rng=0, first_index=5, precision=precision,
        sampler="iid" if sampling is IID else "sobol", rotate=False,
    ).reshape(2, n)  # fmt: skip
    return WeightedDraws(request, 0, log_weights, n_threads)


@pytest.mark.parametrize("name", QS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_draws_that_are_made_again_are_the_draws(name, precision):
    draws = weighted(QS[name](), precision=precision)
    z = draws.redraw.at(0, draws.n_samples)
    if precision == "float64":
        np.testing.assert_array_equal(
            z[17, 1],
            fe.draw(QS[name](), 1, 17, key=draws.request.key, first_index=5, batch_shape=(2,)),
        )
    values = np.ascontiguousarray(Coordinates(3).values(z))
    got = draws.moments(Coordinates(3), full=True)
    np.testing.assert_array_equal(got, folded(values, draws.log_weights, True))
    alone = weighted(QS[name](), precision=precision, n_threads=1)
    np.testing.assert_array_equal(got, alone.moments(Coordinates(3), full=True))


@pytest.mark.parametrize("n", [16 * 64, 2 * 16384])
def test_replicates_have_states_of_their_own(n):
    sampling = as_sampling("sobol", 16 if n < 2000 else 2, "box_muller", False)
    draws = weighted(QS["Gaussian"](), n, sampling=sampling)
    states, each = draws.moments(Coordinates(3)), n // sampling.replicates
    z = np.ascontiguousarray(Coordinates(3).values(draws.redraw.at(0, n)))
    for r in range(sampling.replicates):
        own = np.s_[..., r * each : (r + 1) * each]
        alone = folded(z[own].copy(), draws.log_weights[own].copy(), False)
        np.testing.assert_array_equal(states[:, r], alone[:, 0])
    whole = state.read(folded(z, draws.log_weights, False)[:, 0], 3, False)
    for got, expected in zip(
        state.read(Pool([draws]).merged([states], 3), 3, False), whole, strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


# --- moments of estimates ---------------------------------------------------------------------


def linear(points=40):
    rng = np.random.default_rng(7)
    model = fe.LinearGaussian(rng.normal(size=(points, 3)), rng.normal(size=(3, 2)), noise_cov=0.5)
    return model, model.exact_posterior()


OPTIONS = [
    {},
    {"n_samples": 9001},
    {"sampler": "sobol", "n_samples": 1024},
    {"precision": "float32"},
    {"backend": "numpy"},
    {"target_se": 0.05},
    {"sampler": "sobol", "target_se": 0.02},
    {"first_index": 3, "iw_sizes": (7,)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_estimate_with_moments_is_the_same_estimate(options):
    model, posterior = linear()
    q = fe.StudentT(7.0, posterior.mean + 0.1, scale=0.7)
    without = fe.estimate(model, q, rng=3, **options)
    est = fe.estimate(model, q, rng=3, moments=True, **options)
    assert bits(est) == bits(without)
    assert est.confidence_interval()[0].tobytes() == without.confidence_interval()[0].tobytes()
    z = (est.posterior_mean - posterior.mean) / est.posterior_mean_se
    assert est.posterior_mean.shape == (40, 2)
    assert 0.7 < np.sqrt(np.mean(z**2)) < 1.4
    assert np.abs(est.posterior_cov - posterior.cov).max() < 0.15
    np.testing.assert_array_equal(est.posterior_cov, np.swapaxes(est.posterior_cov, 1, 2))


def test_moments_of_slices_are_those_of_all(monkeypatch):
    from fastelbo.engine import stored

    model, posterior = linear()
    q = fe.Gaussian(posterior.mean, scale=0.8)
    whole = fe.estimate(model, q, 2000, rng=0, moments=True)
    monkeypatch.setattr(stored, "STORED_NUMBERS", 30_000)
    parts = fe.estimate(model, q, 2000, rng=0, moments=True)
    assert bits(whole) == bits(parts)
    np.testing.assert_array_equal(whole.posterior_mean, parts.posterior_mean)
    np.testing.assert_array_equal(whole.posterior_cov, parts.posterior_cov)


def test_moments_are_those_of_plain_numpy():
    p, q = fe.StudentT(9.0, [1.0, 2.0], scale=1.0), fe.StudentT(5.0, [0.5, 2.0], scale=1.5)
    est = fe.estimate(p, q, 5000, rng=1, moments=True)
    w = np.exp(fe.log_weights(p, q, 5000, rng=1))
    z = q.sample(5000, rng=1)
    mean = (w[:, None] * z).sum(axis=0) / w.sum()
    d = z - mean
    np.testing.assert_allclose(est.posterior_mean, mean, rtol=1e-13)
    se = np.sqrt((w[:, None] ** 2 * d**2).sum(axis=0)) / w.sum()
    np.testing.assert_allclose(est.posterior_mean_se, se, rtol=1e-12)
    np.testing.assert_allclose(est.posterior_cov, (w[:, None] * d).T @ d / w.sum(), rtol=1e-11)


def test_errors_are_those_of_replicates():
    p, q = fe.Gaussian([1.0], scale=1.0), fe.Gaussian([0.5], scale=1.5)
    est = fe.estimate(p, q, 1024, rng=1, moments=True, sampler="sobol", rotate=False)
    w = np.exp(fe.log_weights(p, q, 1024, rng=1, sampler="sobol", rotate=False))
    z = weighted_sobol(p, q, 1024)
    mean = (w * z).sum() / w.sum()
    scatter = (w * (z - mean)).sum(axis=1)
    se = scatter.std(ddof=1) / 4.0 / (w.sum() / 16)
    np.testing.assert_allclose(est.posterior_mean, [mean], rtol=1e-13)
    np.testing.assert_allclose(est.posterior_mean_se, [se], rtol=1e-9)


def weighted_sobol(p, q, n):
    sampling = as_sampling("sobol", 16, "box_muller", False)
    request = new_request(p, q, n, 1, 0, "float64", (), True, sampling)
    z = WeightedDraws(request, 0, np.zeros((1, n)), None).redraw.at(0, n)
    return z.reshape(16, n // 16)


def test_moments_of_several_q():
    model, posterior = linear()
    qs = fe.defensive(
        fe.Gaussian(posterior.mean, scale=0.6), fe.StudentT(5.0, [0.0, 0.0], scale=2.0)
    )
    without = fe.estimate(model, qs, 4000, rng=3)
    est = fe.estimate(model, qs, 4000, rng=3, moments=True)
    assert bits(est) == bits(without)
    mean = fe.expectation("mean", model, qs, 4000, rng=3)
    np.testing.assert_array_equal(est.posterior_mean, mean.value)
    np.testing.assert_allclose(est.posterior_mean_se, mean.se, rtol=1e-10)
    cov = fe.expectation("cov", model, qs, 4000, rng=3).value
    np.testing.assert_allclose(est.posterior_cov, cov, rtol=1e-10, atol=1e-12)


def test_moments_without_an_error_where_k_is_too_high():
    p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([[0.0], [0.5]], scale=[[1.2], [0.3]])
    with quiet():
        est = fe.estimate(p, q, 4000, rng=0, moments=True)
    assert np.array_equal(np.isnan(est.posterior_mean_se[:, 0]), [False, True])
    assert np.isfinite(est.posterior_mean).all()


def test_a_mean_with_a_heavier_tail_than_the_weights():
    """A Cauchy has no mean: w has k = 1/2, and w z has k = 1."""
    p, q = fe.StudentT(1.0, [0.0], scale=1.0), fe.StudentT(2.0, [0.0], scale=1.0)
    with pytest.warns(HighParetoKWarning, match="entries of posterior_mean"):
        est = fe.estimate(p, q, 50_000, rng=0, moments=True)
    assert np.isfinite(est.log_evidence_se)
    assert np.isnan(est.posterior_mean_se).all()
    assert np.isnan(fe.expectation("mean", p, q, 50_000, rng=0).se).all()
    # Without k-hats nothing is refused.
    est = fe.estimate(p, q, 50_000, rng=0, moments=True, pareto_k=False)
    assert np.isfinite(est.posterior_mean_se).all()


def test_moments_of_weights_of_zero_are_not_known():
    model = fe.Model(log_joint=lambda z: -1.0 * z[0] ** 2 if z[0] > 50.0 else -np.inf, dim=1)
    with quiet():
        est = fe.estimate(model, fe.Gaussian([0.0], scale=1.0), 100, rng=0, moments=True)
    assert np.isnan(est.posterior_mean).all()
    assert np.isnan(est.posterior_cov).all()


def test_moments_that_nobody_asked_for():
    p = fe.Gaussian([0.0], scale=1.0)
    est = fe.estimate(p, p, 100, rng=0)
    for name in ("posterior_mean", "posterior_mean_se", "posterior_cov"):
        with pytest.raises(InvalidInputError, match="moments=True"):
            getattr(est, name)
    mixture = fe.MixtureModel(
        [[0.0]], fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1.0]], scale=1.0))
    )
    with pytest.raises(InvalidInputError, match="moments must not be given"):
        fe.estimate(mixture, mixture.exact_posterior(), moments=True)
    with pytest.raises(InvalidInputError, match="moments must be True or False"):
        fe.estimate(p, p, 100, moments=1)


def test_no_data_points():
    q = fe.Gaussian(np.zeros((0, 2)), scale=1.0)
    est = fe.estimate(fe.Gaussian([0.0, 0.0], scale=1.0), q, 100, moments=True)
    assert est.posterior_mean.shape == (0, 2)
    assert est.posterior_cov.shape == (0, 2, 2)
