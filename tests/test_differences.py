"""Differences of results: log Bayes factors, and models compared by cross-validation."""

import copy
import pickle

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, linear_gaussian, quiet
from scipy.special import ndtri

import fastelbo as fe
from fastelbo.weights.combined_intervals import difference_interval
from fastelbo.weights.intervals import Interval

X = np.random.default_rng(0).normal(size=400)
NARROW = linear_gaussian(X)
WIDE = fe.LinearGaussian(X[:, None], [[1.0]], noise_cov=3.0)
Q = fe.Gaussian(0.5 * X[:, None], scale=0.8)


def estimate(model, rng, n_samples=1000, **options):
    with quiet():
        return fe.estimate(model, Q, n_samples, rng=rng, **options)


# --- log evidence ---------------------------------------------------------------------------------


def test_difference_of_log_evidences():
    first, second = estimate(NARROW, 0), estimate(WIDE, 1, 4000)
    got = first - second
    assert got.quantity == "log_evidence"
    np.testing.assert_array_equal(got.value, first.log_evidence - second.log_evidence)
    squares = first.log_evidence_se**2 + second.log_evidence_se**2
    np.testing.assert_allclose(got.se, np.sqrt(squares), rtol=1e-14)
    assert not got.flagged.any()
    assert got.value.shape == got.se.shape == got.flagged.shape == (400,)
    exact = NARROW.exact_log_evidence() - WIDE.exact_log_evidence()
    low, high = got.confidence_interval(0.9)
    # Of 400 intervals, 360 contain the exact value, with a standard deviation of 6.
    assert 335 <= ((low < exact) & (exact < high)).sum() <= 385
    z = (got.value - exact) / got.se
    assert abs(z.std() - 1.0) < 0.2
    back = second - first
    np.testing.assert_array_equal(back.value, -got.value)
    np.testing.assert_allclose(back.confidence_interval(0.9), [-high, -low], rtol=1e-12)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_shapes_are_kept(shape):
    rng = np.random.default_rng(0)
    with quiet():
        first, second = (fe.summarize(rng.normal(size=(*shape, 500))) for _ in range(2))
    got = first - second
    low, high = got.confidence_interval()
    for array in (got.value, got.se, got.flagged, low, high):
        assert array.shape == shape
    assert repr(got).startswith("Difference(log_evidence: ")


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_interval_of_light_tails_is_normal(level):
    rng = np.random.default_rng(0)
    first, second = (fe.summarize(0.3 * rng.random((20, 5000))) for _ in range(2))
    got = first - second
    low, high = got.confidence_interval(level)
    half = ndtri(0.5 + 0.5 * level) * got.se
    np.testing.assert_allclose(got.value - low, half, rtol=0.02)
    np.testing.assert_allclose(high - got.value, half, rtol=0.02)


def test_heavy_tails_are_carried():
    rng = np.random.default_rng(0)
    light = np.random.default_rng(1).normal(size=(2, 1000))
    heavy = np.stack([0.1 * rng.normal(size=1000), 1.5 * rng.standard_exponential(1000)])
    with quiet():
        first, second = fe.summarize(light), fe.summarize(heavy)
    got, back = first - second, second - first
    np.testing.assert_array_equal(got.flagged, [False, True])
    np.testing.assert_array_equal(np.isnan(got.se), [False, True])
    assert np.isfinite(got.value).all()
    low, high = got.confidence_interval()
    np.testing.assert_array_equal(np.isneginf(low), [False, True])
    assert np.isfinite(high).all()
    assert (low < got.value).all()
    assert (got.value < high).all()
    assert f"< {high[1]:.1f}" in repr(got)
    assert f"> {-high[1]:.1f}" in repr(back)
    assert "a result is flagged at 1 of them" in repr(got)
    with quiet():
        low, high = (second - fe.summarize(heavy + 1.0)).confidence_interval()
    np.testing.assert_array_equal(low[1:], [-np.inf])
    np.testing.assert_array_equal(high[1:], [np.inf])


def test_weights_of_0_leave_no_interval():
    rows = np.array([np.zeros(100), np.full(100, -np.inf)])
    noise = 0.1 * np.random.default_rng(0).normal(size=(2, 100))
    with quiet():
        first, second = fe.summarize(noise), fe.summarize(rows + noise[:, ::-1])
        with np.errstate(all="raise"):
            got, back, nothing = first - second, second - first, second - fe.summarize(rows - noise)
            intervals = [each.confidence_interval() for each in (got, back, nothing)]
    assert got.value[1] == np.inf
    assert back.value[1] == -np.inf
    assert np.isnan(nothing.value[1])
    for low, high in intervals:
        assert (low[1], high[1]) == (-np.inf, np.inf)
        assert np.isfinite([low[0], high[0]]).all()
        assert "nan" not in repr(got)


def test_an_exact_sum_has_no_error():
    components = fe.Gaussian([[-1.0], [1.0]], scale=1.0)
    model = fe.MixtureModel([[0.0]], fe.Mixture([0.5, 0.5], components))
    exact = fe.estimate(model, model.exact_posterior())
    drawn = fe.summarize(np.random.default_rng(0).normal(size=(1, 1000)))
    got = drawn - exact
    np.testing.assert_array_equal(got.se, drawn.log_evidence_se)
    assert (exact - exact).value == 0.0
    expected = drawn.confidence_interval().low - exact.log_evidence
    np.testing.assert_allclose(got.confidence_interval().low, expected, rtol=1e-12)


SHARED = "draws of their own"


@pytest.mark.parametrize("options", [{}, {"backend": "numpy"}, {"precision": "float32"}])
def test_shared_draws_are_refused(options):
    first = estimate(NARROW, 7)
    for second in (
        estimate(WIDE, 7, 500, **options),
        estimate(NARROW, np.random.SeedSequence(7), 30, **options),
        estimate(NARROW, np.random.default_rng(7), 30, first_index=399, **options),
        first,
        copy.copy(first),
        pickle.loads(pickle.dumps(first)),
    ):
        with pytest.raises(fe.errors.InvalidInputError, match=SHARED):
            first - second


def test_other_draws_are_taken():
    first = estimate(NARROW, 7)
    generator = np.random.default_rng(7)
    estimate(NARROW, generator, 30)
    for second in (
        estimate(WIDE, 8),
        estimate(WIDE, None, 30),
        estimate(WIDE, generator, 30),
        estimate(WIDE, 7, 30, first_index=400),
    ):
        assert (first - second).value.shape == (400,)


def test_the_draws_of_one_object_are_shared():
    est = fe.summarize(np.random.default_rng(0).normal(size=1000))
    with pytest.raises(fe.errors.InvalidInputError, match=SHARED):
        est - est


def test_other_shapes_are_refused():
    rng = np.random.default_rng(0)
    with quiet():
        first, second = (fe.summarize(rng.normal(size=(n, 500))) for n in (3, 1))
    with pytest.raises(fe.errors.InvalidInputError, match=r"got \(3,\) and \(1,\)"):
        first - second
    for other in (1.0, None, fe.loo(rng.normal(size=(500, 3)))):
        for both in ((first, other), (other, first)):
            with pytest.raises(TypeError):
                both[0] - both[1]


def test_differences_are_pickled():
    got = estimate(NARROW, 0) - estimate(WIDE, 1)
    twin = pickle.loads(pickle.dumps(got))
    np.testing.assert_array_equal(twin.confidence_interval(), got.confidence_interval())
    with pytest.raises(fe.errors.InvalidInputError, match="confidence_level"):
        got.confidence_interval(95)


def test_repr():
    got = estimate(NARROW, 0) - estimate(WIDE, 1)
    assert repr(got).count("+-") == 5
    assert repr(got).endswith(", ...] at 400 data points)")
    single = fe.summarize(np.linspace(0.0, 1.0, 100)) - fe.summarize(np.linspace(0.0, 2.0, 100))
    assert repr(single) == f"Difference(log_evidence: {single.value:.3f} +- {single.se:.3f})"


@pytest.mark.slow
@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("k", [0.3, 0.5, 0.65])
def test_coverage_of_heavy_tails(k):
    # Exact Pareto weights: E w = 1 / (1 - k).
    rng = np.random.default_rng(0)
    heavy = fe.summarize(k * rng.standard_exponential((4000, 1000)), iw_sizes=())
    other = fe.summarize(0.4 * rng.standard_exponential((4000, 1000)), iw_sizes=())
    low, high = (heavy - other).confidence_interval()
    exact = -np.log1p(-k) + np.log1p(-0.4)
    assert ((low < exact) & (exact < high)).mean() >= 0.94


@pytest.mark.parametrize("a", [0.3, np.inf])
@pytest.mark.parametrize("b", [0.4, np.inf])
def test_ends_of_an_interval(a, b):
    first, second = np.array(1.0), np.array(3.0)
    ends = Interval(first - 0.6, first + a), Interval(second - 0.8, second + b)
    low, high = difference_interval(first, second, *ends)
    assert float(low) == pytest.approx(-2.0 - np.hypot(0.6, b))
    assert float(high) == pytest.approx(-2.0 + np.hypot(a, 0.8))


# --- cross-validation -----------------------------------------------------------------------------


def regression(n=60):
    """Log likelihoods (draws, n) of two models of the same observations."""
    rng = np.random.default_rng(0)
    y = rng.normal(0.5, 1.0, n)
    mean = rng.normal(y.mean(), n**-0.5, (2000, 1))
    log_likelihood = -0.5 * (y - mean) ** 2 - 0.5 * np.log(2.0 * np.pi)
    return log_likelihood, -0.5 * (y + 0.0 * mean) ** 2 - 0.5 * np.log(2.0 * np.pi)


def test_difference_of_cross_validations():
    first, second = regression()
    with quiet():
        noise = 1e-3 * np.random.default_rng(1).normal(size=second.shape)
        one, other = fe.loo(first), fe.loo(second + noise)
    got = one - other
    pairs = one.pointwise - other.pointwise
    assert got.quantity == "elpd_loo"
    assert got.value.shape == got.se.shape == got.flagged.shape == ()
    assert float(got.value) == pytest.approx(one.elpd_loo - other.elpd_loo, rel=1e-12)
    assert float(got.se) == pytest.approx(np.sqrt(60) * np.std(pairs, ddof=1), rel=1e-12)
    assert got.se < 0.6 * np.hypot(one.elpd_loo_se, other.elpd_loo_se)
    low, high = got.confidence_interval()
    assert float(high - low) == pytest.approx(2.0 * ndtri(0.975) * got.se, rel=1e-12)
    assert not got.flagged
    assert repr(got) == f"Difference(elpd_loo: {got.value:.1f} +- {got.se:.1f})"
    assert ((one - one).value, (one - one).se) == (0.0, 0.0)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_flags_of_cross_validations():
    rng = np.random.default_rng(0)
    light = fe.loo(0.1 * rng.normal(size=(1000, 4)))
    heavy = fe.loo(-1.5 * rng.standard_exponential((1000, 4)))
    assert (light - heavy).flagged
    assert (heavy - light).flagged
    assert "a result is flagged" in repr(light - heavy)
    with pytest.raises(fe.errors.InvalidInputError, match="same observations, got 4 and 3"):
        light - fe.loo(0.1 * rng.normal(size=(1000, 3)))
    single = [fe.loo(0.1 * rng.normal(size=(1000, 1))) for _ in range(2)]
    assert np.isnan((single[0] - single[1]).se)
