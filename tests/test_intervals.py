"""The tail interval of the log evidence: coverage, width, quadrature, fallbacks."""

import itertools

import numpy as np
import plain_psis
import pytest
import scipy.optimize
import scipy.stats
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo.weights.intervals import tail_interval
from fastelbo.weights.pareto import tail_length

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)


def reduce(rows):
    """What a stream keeps of rows of log weights: log mean, relative variance, largest values."""
    top = rows.max(axis=1, keepdims=True)
    weights = np.exp(rows - top)
    mean = weights.mean(axis=1)
    size = int(tail_length(rows.shape[1])) + 1
    tail = np.partition(rows, -size, axis=1)[:, -size:]
    return top[:, 0] + np.log(mean), weights.var(axis=1, ddof=1) / mean**2, tail


def delta_interval(n, value, v, level=0.95):
    half = scipy.stats.norm.ppf(0.5 + 0.5 * level) * np.sqrt(v / n)
    return value - half, value + half


# --- coverage ---------------------------------------------------------------------------------


def gaussian(rng, shape, k, dim=1):
    """p = N(0, 1), q = N(0, 1 - k) in each dimension; k is the tail index."""
    norm = rng.chisquare(dim, shape) if dim > 1 else rng.normal(size=shape) ** 2
    return 0.5 * dim * np.log(1.0 - k) + 0.5 * k * norm


def pareto(rng, shape, k):
    """p = Exp(1), q = Exp(1 / (1 - k))."""
    return np.log(1.0 - k) + k * rng.standard_exponential(shape)


def coverage(draw, k, repeats, n=10_000, seed=0, **options):
    """Shares covered, and covered or flagged; mean width of the unflagged, relative to delta's."""
    flags, covered, widths = [], [], []
    for part in range(repeats // 250):
        rows = draw(np.random.default_rng([seed, part]), (250, n), k, **options)
        moments = reduce(rows)
        low, high = tail_interval(n, *moments)
        assert np.isfinite(low).all()
        assert np.isfinite(high).all()
        flags.append(fe.pareto_k(rows) > min(1.0 - 1.0 / np.log10(n), 0.7))
        covered.append((low <= 0.0) & (high >= 0.0))
        widths.append([high - low, np.subtract(*delta_interval(n, *moments[:2])[::-1])])
    flag, cover = np.concatenate(flags), np.concatenate(covered)
    width, delta = np.concatenate(widths, axis=1)[:, ~flag].mean(axis=1)
    return cover.mean(), (cover | flag).mean(), width / delta


@pytest.mark.parametrize("k", [0.6, 0.75, 0.9])
@pytest.mark.parametrize("draw", [gaussian, pareto])
def test_heavy_tails(draw, k):
    # ``either`` is .945 to .97, with a standard error of at most .0072: six of them from .9. The
    # delta interval has .75 to .89, and .96 where nearly all are flagged. ``covered`` is .944 to
    # .96. The delta interval has .31 to .89. So the delta interval would fail.
    covered, either, width = coverage(draw, k, 1000)
    assert either > 0.9
    assert covered > 0.9
    # 1.4 to 1.8, from 700 or more unflagged intervals, or from the 40 that are left.
    assert width < 2.5


@pytest.mark.slow
@pytest.mark.parametrize("k", [0.6, 0.75, 0.9])
@pytest.mark.parametrize("draw", [gaussian, pareto])
def test_heavy_tails_in_full(draw, k):
    # As above. The standard error is .0036, and .945 is 4.2 of them from .93.
    covered, either, width = coverage(draw, k, 4000, seed=1)
    assert either >= 0.93
    assert 0.92 <= covered <= 0.98
    assert width <= 2.5


@pytest.mark.slow
@pytest.mark.parametrize("k", [0.1, 0.25, 0.3, 0.4, 0.49])
@pytest.mark.parametrize("draw", [gaussian, pareto])
def test_light_tails_in_full(draw, k):
    # The standard error is .0035. The coverage is .95 or .955, in the middle of the band. The delta
    # interval leaves the band at k = .49.
    covered, _, width = coverage(draw, k, 4000, seed=2)
    assert 0.93 <= covered <= 0.97
    assert 0.99 < width < (1.1 if k <= 0.3 else 1.3)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1000, 5120])
def test_ten_dimensions_in_full(n):
    # The true k is .4, k-hat .53. The delta interval covers .89 and .92, this one .95, as above.
    covered, either, _ = coverage(gaussian, 0.4, 4000, n, seed=3, dim=10)
    assert 0.93 <= covered <= 0.97
    assert either >= 0.94


@pytest.mark.parametrize("k", [-1.0, 0.1, 0.3])
def test_light_tails(k):
    # The coverage is .95, with a standard error of .0069.
    covered, _, width = coverage(gaussian, k, 1000)
    assert 0.92 <= covered <= 0.98
    assert 0.99 < width < 1.1


# --- quadrature -------------------------------------------------------------------------------


def direct_interval(row, level):
    """The ends, computed another way: 4000 exact quantiles of k given theta, and a root finder."""
    n, size = len(row), plain_psis.tail_length(len(row))
    weights = np.sort(np.exp(row - row.max()))[::-1]
    u, x = weights[size], weights[:size] - weights[size]
    points = 30 + int(np.sqrt(size))
    j = np.arange(1, points + 1)
    quartile = np.sort(x)[int(size / 4 + 0.5) - 1]
    theta = (1 / x.max() + (1 - np.sqrt(points / (j - 0.5))) / (3 * quartile))[:, None]
    mode = np.log1p(-theta * x).mean(axis=1, keepdims=True)
    # |k| given theta, cut off at 1 where k is positive.
    law = scipy.stats.invgamma(size, scale=size * np.abs(mode))
    share = np.where(mode > 0.0, law.cdf(1.0), 1.0)
    k = np.sign(mode) * law.ppf(share * (np.arange(4000) + 0.5) / 4000)
    log_weight = size * (np.log(-theta / mode) - mode - 1.0)
    weight = np.exp(log_weight - log_weight.max()) * share / k.shape[1]
    weight = np.broadcast_to(weight / (weight.sum() * k.shape[1]), k.shape)
    y = np.broadcast_to(-k / theta / (1.0 - k) + u, k.shape)
    mean = (weights[size:].sum() + size * y) / n
    square = ((weights[size:] ** 2).sum() + size * y**2) / n
    sd = np.sqrt((square - mean**2) / n) / mean
    centre = np.log(mean) + row.max()

    def excess(end, probability):
        return (weight * scipy.stats.norm.cdf(end, centre, sd)).sum() - probability

    bracket = (centre - 9.0 * sd).min(), (centre + 9.0 * sd).max()
    return [
        scipy.optimize.brentq(excess, *bracket, args=(p,), xtol=1e-12)
        for p in (0.5 - 0.5 * level, 0.5 + 0.5 * level)
    ]


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize(("n", "k"), [(30, 0.3), (200, 0.5), (1000, 0.8), (4000, 0.2), (1000, 1.5)])
def test_quadrature(n, k, level):
    row = k * np.random.default_rng([4, n]).standard_exponential(n)
    value, v, tail = reduce(row[None])
    low, high = tail_interval(n, value, v, tail, level)
    want = direct_interval(row, level)
    assert want[0] < value[0] < want[1]
    np.testing.assert_allclose([low[0], high[0]], want, atol=0.01 * (want[1] - want[0]))


def test_light_tail_is_the_delta_interval():
    rows = np.log(np.random.default_rng(5).random((20, 5000)))
    moments = reduce(rows)
    ends, delta = tail_interval(5000, *moments), delta_interval(5000, *moments[:2])
    width = delta[1] - delta[0]
    assert (np.abs(np.subtract(ends, delta)) / width).max() < 0.01


# --- what an interval owes --------------------------------------------------------------------


def heavy_rows(rows=300, n=1000, k=0.8):
    return k * np.random.default_rng(6).standard_exponential((rows, n))


def test_nested_and_around_the_estimate():
    moments = reduce(heavy_rows())
    ends = [np.array(tail_interval(1000, *moments, level)) for level in (0.5, 0.9, 0.99)]
    for inner, outer in itertools.pairwise(ends):
        assert (outer[0] <= inner[0]).all()
        assert (inner[1] <= outer[1]).all()
    assert (ends[0][0] <= moments[0]).all()
    assert (moments[0] <= ends[0][1]).all()
    # A heavy tail reaches up.
    assert ((ends[1][1] - moments[0]) > (moments[0] - ends[1][0])).mean() > 0.9


def test_shift_shape_and_order():
    rows = heavy_rows(6)
    value, v, tail = reduce(rows)
    want = np.array(tail_interval(1000, value, v, tail))
    shuffled = np.random.default_rng(7).permuted(tail, axis=1)
    np.testing.assert_array_equal(tail_interval(1000, value, v, shuffled), want)
    got = tail_interval(1000, *(a.reshape(2, 3, *a.shape[1:]) for a in (value, v, tail)))
    np.testing.assert_array_equal(got, want.reshape(2, 2, 3))
    moved = tail_interval(1000, value - 5000.0, v, tail - 5000.0)
    np.testing.assert_allclose(moved, want - 5000.0, atol=1e-8)
    one = tail_interval(1000, value[0], v[0], tail[0])
    assert one[0] == want[0, 0]
    assert one[0].shape == ()


def test_without_a_tail():
    rng = np.random.default_rng(8)
    # Too short; too many ties; too few that are not 0.
    for rows in (
        rng.normal(size=(3, 20)),
        rng.integers(0, 3, (3, 500)).astype(float),
        np.where(np.arange(500) < 20, rng.normal(size=(3, 500)), -np.inf),
    ):
        value, v, tail = reduce(rows)
        n = rows.shape[1]
        got, want = tail_interval(n, value, v, tail), delta_interval(n, value, v)
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_hopeless_tails():
    # All weights underflow relative to the largest: nothing bounds the evidence from above.
    low, high = tail_interval(1000, *reduce(heavy_rows(2, k=1000.0)))
    assert np.isfinite(low).all()
    assert (high == np.inf).all()
    # k-hat of 3: far above 1, and still finite.
    low, high = tail_interval(1000, *reduce(heavy_rows(50, k=3.0)))
    assert np.isfinite(high).all()
    assert (high - low > 1.0).all()
    none = np.full((1, 101), -np.inf)
    ends = tail_interval(1000, np.array([-np.inf]), np.array([np.nan]), none)
    assert np.isnan(ends).all()
    assert tail_interval(1000, np.zeros(0), np.zeros(0), np.zeros((0, 101)))[0].shape == (0,)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, np.nan])
def test_confidence_level(level):
    with pytest.raises(fe.errors.InvalidInputError, match="between 0 and 1"):
        tail_interval(1000, *reduce(heavy_rows(1)), confidence_level=level)
