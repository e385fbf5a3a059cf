"""Bounds from log weights: exact averages over subsets, exact laws, known values, errors."""

import itertools
import math
import warnings

import mpmath
import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, quiet
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import digamma, logsumexp, polygamma
from scipy.stats import hypergeom

import fastelbo as fe

INF = np.inf
# Half-width of a band, in standard errors. Correct values leave one of a hundred bands with
# probability 7e-4.
SIGMAS = 4.5


def log_mean(x):
    return logsumexp(x) - math.log(len(x))


def subset_mean(x, k):
    """Mean of the log mean over all subsets of k, one by one."""
    return np.mean([log_mean(np.array(c)) for c in itertools.combinations(x, k)])


def jackknife_error(statistic, x):
    left_out = np.array([statistic(np.delete(x, i)) for i in range(len(x))])
    return np.sqrt((len(x) - 1) * left_out.var())


def gamma_weights(shape, size, seed):
    """Logarithms of Gamma(a)/a, whose mean over k is Gamma(k a)/(k a)."""
    return np.log(np.random.default_rng(seed).gamma(shape, size=size) / shape)


# --- importance-weighted bound: all subsets -----------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 5, 8])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 10.0, 100.0, 3000.0])
def test_all_subsets(length, scale):
    x = np.random.default_rng(length).normal(7.0, scale, length)
    sizes = range(1, length + 1)
    value, se = fe.iw_elbo(x, sizes)
    expected = [subset_mean(x, k) for k in sizes]
    np.testing.assert_allclose(value, expected, rtol=2e-15, atol=2e-15 * length * (1 + scale))
    for k in range(1, length):
        error = jackknife_error(lambda y, k=k: subset_mean(y, k), x)
        np.testing.assert_allclose(se[k - 1], error, rtol=1e-6, atol=1e-12)
    # For all draws, it is the jackknife error of the log evidence.
    np.testing.assert_allclose(se[-1], jackknife_error(log_mean, x), rtol=1e-6, atol=1e-12)


def test_all_subsets_with_zero_weights():
    x = np.array([0.3, -INF, 1.0, -2.0, -INF, 0.1, 0.2])
    sizes = range(1, 8)
    value, se = fe.iw_elbo(np.stack([x, np.zeros(7)]), sizes)
    # Two zero weights can form a group of two.
    assert np.isneginf(value[0, :2]).all()
    assert np.isnan(se[0, :2]).all()
    np.testing.assert_allclose(value[0, 2:], [subset_mean(x, k) for k in range(3, 8)], rtol=1e-14)
    for k in range(3, 7):
        error = jackknife_error(lambda y, k=k: subset_mean(y, k), x)
        np.testing.assert_allclose(se[0, k - 1], error, rtol=1e-6)
    np.testing.assert_allclose(value[1], 0.0, atol=1e-15)
    np.testing.assert_allclose(se[1], 0.0, atol=1e-15)


@pytest.mark.parametrize(("length", "k"), [(1000, 2), (1000, 100), (1000, 700), (20_000, 300)])
@pytest.mark.parametrize("ratio", [0.5, 1e-3, 1e-30])
def test_two_kinds_of_weight(length, k, ratio):
    # The number of large weights in a subset is hypergeometric.
    large = length // 3
    x = np.where(np.arange(length) % 3 == 0, 0.0, math.log(ratio))
    large = int((x == 0.0).sum())
    count = np.arange(k + 1)
    values = np.log((count + (k - count) * ratio) / k)

    def expected(large, length):
        return hypergeom.pmf(count, length, large, k) @ values

    value, se = fe.iw_elbo(x, k)
    exact = expected(large, length)
    assert abs(value - exact) < 1e-11
    without = np.where(x == 0.0, expected(large - 1, length - 1), expected(large, length - 1))
    error = math.sqrt((length - 1) * np.mean((without - exact) ** 2))
    assert se == pytest.approx(error, rel=1e-5)


def test_curve_and_single_sizes_agree():
    x = np.random.default_rng(3).normal(size=(2, 3, 40))
    curve = fe.iw_elbo(x, [30, 1, 5, 40, 5])
    assert curve.value.shape == curve.se.shape == (2, 3, 5)
    for j, k in enumerate([30, 1, 5, 40, 5]):
        single = fe.iw_elbo(x, k)
        np.testing.assert_allclose(curve.value[..., j], single.value, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(curve.se[..., j], single.se, rtol=1e-6)
    np.testing.assert_allclose(fe.iw_elbo(x, 1).value, x.mean(axis=-1), rtol=1e-14)
    np.testing.assert_array_equal(fe.iw_elbo(x, 40).value, fe.iw_elbo(x[..., ::-1], 40).value)
    assert isinstance(fe.iw_elbo(x[0, 0], 5).value, float)


def test_rows_do_not_touch_each_other():
    # Rows of very different ranges, in slices; the last slice is not full.
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2500, 21)) * np.exp(rng.normal(0, 1.5, (2500, 1)))
    together = fe.iw_elbo(x, [2, 7, 20], axis=-1)
    for i in (0, 150, 2499):
        alone = fe.iw_elbo(x[i], [2, 7, 20])
        np.testing.assert_allclose(together.value[i], alone.value, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(together.se[i], alone.se, rtol=1e-6)


# --- importance-weighted bound: exact law -------------------------------------------------------

SIZES = np.array([1, 2, 10, 100])
# 1000 repeats give a standard deviation within 2.2%: the band catches an error that is 11% off.
REPEATS, SE_BAND = 1000, SIGMAS * 0.0224


@pytest.mark.statistical
@pytest.mark.parametrize("shape", [0.2, 3.0])
@pytest.mark.parametrize("method", ["complete", "partitions"])
def test_gamma_weights(shape, method):
    x = gamma_weights(shape, (REPEATS, 500), seed=1)
    value, se = fe.iw_elbo(x, SIZES, method=method, rng=1)
    expected = digamma(SIZES * shape) - np.log(SIZES * shape)
    spread = value.std(axis=0, ddof=1)
    assert (np.abs(value.mean(axis=0) - expected) < SIGMAS * spread / math.sqrt(REPEATS)).all()
    np.testing.assert_allclose(np.sqrt((se**2).mean(axis=0)), spread, rtol=SE_BAND)
    # The first term of the variance is known for groups of one, and for one group of all draws.
    assert spread[0] == pytest.approx(math.sqrt(polygamma(1, shape) / 500), rel=SE_BAND)
    total = fe.iw_elbo(x, 500)
    error = math.sqrt(polygamma(1, 500 * shape))
    assert np.sqrt((total.se**2).mean()) == pytest.approx(error, rel=0.03)


def test_all_subsets_vary_less_than_disjoint_groups():
    x = gamma_weights(0.3, (400, 500), seed=2)
    groups = logsumexp(x.reshape(400, 50, 10), axis=2).mean(axis=1) - math.log(10)
    ratio = fe.iw_elbo(x, 10).value.var() / groups.var()
    # 400 repeats of correlated estimates give the ratio within 5%.
    assert 0.5 < ratio < 0.9


def test_partitions_estimate_the_same():
    x = gamma_weights(0.5, (200, 300), seed=3)
    complete = fe.iw_elbo(x, 30)
    partitions = fe.iw_elbo(x, 30, method="partitions", rng=5)
    difference = partitions.value - complete.value
    # Not the same statistic, but a close one: 16 partitions leave a part of the difference.
    assert 0.0 < difference.std() < 0.3 * complete.value.std()
    assert abs(difference.mean()) < SIGMAS * difference.std() / math.sqrt(200)
    again = fe.iw_elbo(x, 30, method="partitions", rng=5)
    np.testing.assert_array_equal(partitions, again)


def test_partitions_are_taken_for_large_groups():
    x = gamma_weights(1.0, 12_000, seed=4)
    assert fe.iw_elbo(x, 4000, rng=0).value != fe.iw_elbo(x, 4000, rng=1).value
    assert fe.iw_elbo(x, 20, rng=0).value == fe.iw_elbo(x, 20, rng=1).value
    with pytest.warns(fe.errors.ShortTailWarning, match="groups"):
        value, se = fe.iw_elbo(x, 7000, rng=0)
    assert np.isfinite(value)
    assert np.isnan(se)


def test_weights_that_are_worlds_apart():
    x = np.array([[0.0, 0.0, -1e9, -1e9, -1e9, -1e300], [0.0, 0.0, -1e3, -1e3, -1e3, -2e3]])
    with pytest.warns(fe.errors.ShortTailWarning, match=r"1 of 2 \(first: 0\)"):
        value, se = fe.iw_elbo(x, 5, rng=0)
    # The second row is narrow enough for an average over all its subsets; each subset has a 0.
    np.testing.assert_allclose(value[1], subset_mean(x[1], 5), rtol=1e-14)
    assert np.isfinite(se[1])
    # Partitions only give a value between the least and the greatest value of a subset.
    assert math.log(1 / 5) - 1e-15 <= value[0] <= math.log(2 / 5) + 1e-15


# --- known values -------------------------------------------------------------------------------

# z ~ N(0, 1), x | z ~ N(z, 1), x = 1.
LOG_EVIDENCE = -1.5155121234846454
TABLE = {1: (-1.91893853, -1.53708390), 2: (-1.65347379, -1.52827771),
         5: (-1.55741058, -1.52139426), 10: (-1.53494159, -1.51864144),
         50: (-1.51919852, -1.51617766), 100: (-1.51734391, -1.51584791),
         1000: (-1.51569429, -1.51554599)}  # fmt: skip
RENYI_HALF = (-1.65773697, -1.52727894)
CUBO_2 = (-1.36025827, -1.48271083)


def model_weights(which, size, seed):
    """Log weights under q = N(0, 1), or q = N(.4, variance .4)."""
    mean, variance = [(0.0, 1.0), (0.4, 0.4)][which]
    z = mean + math.sqrt(variance) * np.random.default_rng(seed).normal(size=size)
    log_joint = -0.5 * z**2 - 0.5 * (1 - z) ** 2 - math.log(2 * math.pi)
    return log_joint + 0.5 * (z - mean) ** 2 / variance + 0.5 * math.log(2 * math.pi * variance)


@pytest.mark.parametrize("which", [0, 1])
def test_importance_weighted_table(which):
    x = model_weights(which, 20_000, seed=11 + which)
    bound = fe.iw_elbo(x, sorted(TABLE))
    expected = np.array([TABLE[k][which] for k in sorted(TABLE)])
    assert (np.abs(bound.value - expected) < SIGMAS * bound.se).all()
    # The errors are small enough to distinguish the first sizes.
    assert (bound.se < 0.01).all()


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("which", [0, 1])
def test_power_mean_values(which):
    x = model_weights(which, (50, 10_000), seed=21 + which)
    for bound, expected in (
        (fe.renyi_bound(x, 0.5), RENYI_HALF[which]),
        (fe.cubo(x, 2), CUBO_2[which]),
        (fe.renyi_bound(x, -1.0), CUBO_2[which]),
        (fe.renyi_bound(x, 0.0), LOG_EVIDENCE),
        (fe.renyi_bound(x, 1.0), TABLE[1][which]),
    ):
        se = bound.value.std(ddof=1) / math.sqrt(50)
        assert abs(bound.value.mean() - expected) < SIGMAS * se
        assert se < 3e-3
        # 50 repeats give a standard deviation within 10%: catches an error off by a factor of 1.5.
        ratio = np.nanmean(bound.se) / bound.value.std(ddof=1)
        assert 0.6 < ratio < 1.5


# --- Renyi bound and CUBO -----------------------------------------------------------------------


def exact_power_mean(x, power):
    with mpmath.workdps(60):
        power = mpmath.mpf(power)
        mean = mpmath.fsum(mpmath.exp(power * mpmath.mpf(float(y))) for y in x) / len(x)
        return mpmath.log(mean) / power


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize(
    "distance", [1e-300, 1e-17, 1e-12, 1e-9, 1e-6, 1e-3, 0.02, 0.3, 1.0, 4.0, -1e-12, -1e-4, -2.0]
)
@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_power_means_to_rounding(scale, distance):
    x = np.random.default_rng(8).normal(-3.0, scale, 50)
    alpha = 1.0 - distance
    value = fe.renyi_bound(x, alpha).value
    power = 1.0 - alpha
    expected = x.mean() if power == 0.0 else float(exact_power_mean(x, power))
    assert abs(value - expected) <= 2e-15 * (3.0 + np.abs(x).max())


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_renyi_is_continuous_at_one():
    x = np.random.default_rng(9).normal(size=(4, 200))
    at_one = fe.renyi_bound(x, 1.0)
    np.testing.assert_allclose(at_one.value, x.mean(axis=1), rtol=1e-14)
    np.testing.assert_allclose(at_one.se, x.std(axis=1, ddof=1) / math.sqrt(200), rtol=1e-13)
    for distance in (1e-13, -1e-13, 1e-8, -1e-8, 1e-5, -1e-5):
        near = fe.renyi_bound(x, 1.0 - distance)
        # The first term of the expansion is half the variance.
        slope = 0.5 * x.var(axis=1)
        np.testing.assert_allclose(
            near.value, at_one.value + distance * slope, rtol=0, atol=3 * distance**2 + 1e-15
        )
        np.testing.assert_allclose(near.se, at_one.se, rtol=3 * abs(distance) + 1e-12)


def test_log_evidence_is_a_power_mean():
    x = np.random.default_rng(10).normal(size=(3, 500))
    summary = fe.summarize(x)
    for bound in (fe.renyi_bound(x, 0.0), fe.cubo(x, 1.0)):
        np.testing.assert_allclose(bound.value, summary.log_evidence, rtol=1e-14)
        np.testing.assert_allclose(bound.se, summary.log_evidence_se, rtol=1e-12)


@given(hnp.arrays(np.float64, st.integers(4, 12), elements=st.floats(-300, 300)))
@settings(max_examples=60, deadline=None)
def test_order_of_bounds(x):
    # These orders hold for any one set of draws, by algebra.
    with quiet():
        curve = fe.iw_elbo(x, range(1, len(x) + 1)).value
        renyi = [fe.renyi_bound(x, a).value for a in (1.0, 0.999, 0.5, 0.0)]
        upper = [fe.cubo(x, n).value for n in (1.0, 1.5, 2.0, 10.0)]
    chain = np.array([x.min(), *renyi, *upper, x.max()])
    slack = 1e-13 * (1 + np.abs(x).max())
    assert (np.diff(chain) >= -slack).all()
    assert (np.diff(curve) >= -slack).all()
    np.testing.assert_allclose(curve[[0, -1]], [renyi[0], renyi[-1]], rtol=0, atol=slack)


def test_heavy_powers_are_flagged():
    # w is exactly Pareto of index k: w^2 has no variance from k = 1/4 on, no mean from 1/2 on.
    uniform = np.random.default_rng(12).random((3, 20_000))
    x = -np.array([[0.1], [0.4], [0.8]]) * np.log(uniform)
    with pytest.warns(fe.errors.HighParetoKWarning, match=r"2 of 3 \(first: 1\)") as record:
        bound = fe.cubo(x, 2)
    assert record[0].filename == __file__
    np.testing.assert_array_equal(np.isnan(bound.se), [False, True, True])
    assert np.isfinite(bound.value).all()
    with pytest.warns(fe.errors.HighParetoKWarning):
        fe.renyi_bound(x[2], -0.5)
    # Negative powers: the tail is that of the smallest weights.
    with pytest.warns(fe.errors.HighParetoKWarning):
        fe.renyi_bound(-x[2], 2.0)
    assert np.isfinite(fe.renyi_bound(x[2], 2.0).se)
    assert np.isfinite(fe.renyi_bound(x[2], 0.5).se)


def test_too_few_draws_to_check_a_tail():
    with pytest.warns(fe.errors.ShortTailWarning, match="tail index"):
        bound = fe.cubo([0.0, 0.5, 1.0])
    assert np.isfinite(bound.se)
    # Equal weights have no tail, and no error.
    assert fe.cubo(np.zeros(100)) == (0.0, 0.0)


# --- jackknife ----------------------------------------------------------------------------------


def exact_jackknife(x, order):
    """The combination of subset means, in 60 digits: its terms cancel."""
    with mpmath.workdps(60):
        w = [mpmath.exp(mpmath.mpf(float(y))) for y in x]
        total = mpmath.mpf(0)
        for j in range(order + 1):
            k = len(x) - j
            logs = [mpmath.log(mpmath.fsum(c) / k) for c in itertools.combinations(w, k)]
            sign = (-1) ** j / (mpmath.factorial(j) * mpmath.factorial(order - j))
            total += sign * mpmath.mpf(k) ** order * mpmath.fsum(logs) / len(logs)
        return float(total)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("length", [3, 4, 9, 40])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0, 400.0])
def test_jackknife(order, length, scale):
    x = np.random.default_rng(length).normal(-50.0, scale, length)
    value, se = fe.jackknife(x, order)
    expected = exact_jackknife(x, order)
    assert abs(value - expected) <= 1e-13 * (50 + length * scale)
    np.testing.assert_allclose(se, jackknife_error(log_mean, x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "x",
    [
        [0.0, -60.0, -61.0, -62.0],
        [0.0, 0.0, -60.0, -61.0],
        [0.0, 0.0, 0.0, -60.0],
        [0.0, -800.0, -1600.0, -1601.0],
        [0.0, -1.0, -INF, -2.0],
    ],
)
def test_jackknife_of_dominant_weights(x):
    # The sum without its largest weights cannot come from a subtraction: no digit would be left.
    for order in (1, 2):
        assert fe.jackknife(x, order).value == pytest.approx(exact_jackknife(x, order), rel=1e-14)


@pytest.mark.parametrize("order", [1, 2])
def test_jackknife_reduces_the_bias(order):
    length, repeats = 10, 20_000
    x = gamma_weights(1.0, (repeats, length), seed=31)
    value, se = fe.jackknife(x, order, axis=-1)
    sizes = length - np.arange(order + 1)
    factors = np.array([(-1) ** j * float(k) ** order for j, k in enumerate(sizes)])
    factors /= [math.factorial(j) * math.factorial(order - j) for j in range(order + 1)]
    expected = factors @ (digamma(sizes) - np.log(sizes))
    band = SIGMAS * value.std() / math.sqrt(repeats)
    assert abs(value.mean() - expected) < band
    # The plain estimate is off by -.05, ten times the band.
    assert abs(expected) < 0.005
    assert band < 0.012
    # At K = 10 the error is that of a first-order expansion.
    assert np.sqrt((se**2).mean()) == pytest.approx(value.std(), rel=0.15)


# --- corners and bad input ----------------------------------------------------------------------

BOUNDS = [
    lambda x: fe.iw_elbo(x, 2),
    lambda x: fe.iw_elbo(x, 3),
    lambda x: fe.iw_elbo(x, 2, method="partitions", rng=0),
    lambda x: fe.renyi_bound(x, 0.5),
    lambda x: fe.renyi_bound(x, 1.0),
    lambda x: fe.renyi_bound(x, 1.5),
    lambda x: fe.cubo(x),
    lambda x: fe.jackknife(x, 1),
    lambda x: fe.jackknife(x, 2),
]
each_bound = pytest.mark.parametrize("bound", BOUNDS)


@each_bound
def test_all_weights_zero(bound):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        value, se = bound([[0.0, -1.0, -2.0], [-INF, -INF, -INF]])
    messages = [str(w.message) for w in record if w.category is fe.errors.AllWeightsZeroWarning]
    assert len(messages) == 1
    assert "1 of 2 (first: 1)" in messages[0]
    assert np.isfinite(value[0])
    assert value[1] == -INF
    assert np.isnan(se[1])


@each_bound
@pytest.mark.parametrize("bad", [np.nan, INF])
def test_bad_weights(bound, bad):
    with pytest.raises(fe.errors.InvalidWeightError, match=r"^1 .*data point 1, draw 2"):
        bound([[0.0, 0.0, 0.0], [0.0, 0.0, bad]])
    with pytest.raises(fe.errors.UnsupportedDTypeError):
        bound(np.zeros(3, complex))
    with pytest.raises(fe.errors.InvalidInputError, match="scalar"):
        bound(1.0)
    with pytest.raises(fe.errors.InvalidInputError, match="number of draws"):
        bound(np.zeros((2, 0)))


@each_bound
@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_any_array(bound):
    x = np.random.default_rng(5).normal(size=(2, 3, 8))
    expected = bound(x)
    assert expected.value.shape == expected.se.shape == (2, 3)
    for other in (np.asfortranarray(x), x.astype(">f8"), x.tolist()):
        np.testing.assert_array_equal(bound(other), expected)
    single = bound(x.astype(np.float32))
    assert single.value.dtype == np.float64
    np.testing.assert_allclose(single.value, expected.value, rtol=1e-5, atol=1e-6)
    x.setflags(write=False)
    np.testing.assert_array_equal(bound(x), expected)
    assert bound(x[:0]).value.shape == (0, 3)
    # A common offset of the log weights moves the bound by the same amount.
    shifted = bound(x + 1000.0)
    np.testing.assert_allclose(shifted.value, expected.value + 1000.0, rtol=1e-15)
    np.testing.assert_allclose(shifted.se, expected.se, rtol=1e-6)


@pytest.mark.parametrize("k", [0, -1, 4, [1, 4], 2.0, True, "2", [1, None]])
def test_bad_sizes(k):
    with pytest.raises(fe.errors.InvalidInputError, match="k must be"):
        fe.iw_elbo(np.zeros(3), k)


def test_bad_arguments():
    x = np.zeros(3)
    for call, message in (
        (
            lambda: fe.iw_elbo(x, 2, method="all"),
            'method must be "auto", "complete" or "partitions", got .all',
        ),
        (lambda: fe.renyi_bound(x, INF), "alpha must be finite"),
        (lambda: fe.renyi_bound(x, math.nan), "alpha must be finite"),
        (lambda: fe.cubo(x, 0.5), "n must be"),
        (lambda: fe.cubo(x, INF), "n must be"),
        (lambda: fe.jackknife(x, 0), "order must be"),
        (lambda: fe.jackknife(x, 3), "order must be 1 or 2"),
        (lambda: fe.jackknife(x[:1], 1), "at least 2 draws, got 1"),
        (lambda: fe.jackknife(x[:2], 2), "at least 3 draws, got 2"),
    ):
        with pytest.raises(fe.errors.InvalidInputError, match=message):
            call()


@pytest.mark.parametrize("bound", [lambda x: fe.iw_elbo(x, 1), lambda x: fe.renyi_bound(x, 0.0)])
def test_one_draw(bound):
    with pytest.warns(fe.errors.ShortTailWarning, match=r"1 of 1 \(first: 0\)") as record:
        value, se = bound([0.3])
    assert record[0].filename == __file__
    assert value == pytest.approx(0.3)
    assert np.isnan(se)


def test_one_positive_weight():
    with pytest.warns(fe.errors.ShortTailWarning):
        value, se = fe.jackknife([0.0, -INF, -INF, -INF])
    assert np.isnan(value)
    assert np.isnan(se)
    with pytest.warns(fe.errors.ShortTailWarning):
        value, se = fe.iw_elbo([0.0, -INF, -INF, -INF], 4)
    assert value == -math.log(4)
    assert np.isnan(se)
