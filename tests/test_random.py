"""Draws as functions of their address, and the distributions that they follow."""

import math

import numpy as np
import pytest
import scipy.stats as st
from helpers import ulps
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.special import betaincc

import fastelbo as fe
from fastelbo import reference
from fastelbo.kernels.draws.blocks import LANES, make_workspace
from fastelbo.kernels.draws.sampling import standard_normals
from fastelbo.kernels.jit.compile import block, kernel
from fastelbo.kernels.math import scalar
from fastelbo.random import philox_key

KEY = 0x0123456789ABCDEF
MILLION = 10**6
STANDARD = fe.Gaussian(np.zeros(2), scale=1.0)

# --- addresses --------------------------------------------------------------------------------


@kernel
def run_words(key, index, draw, pair, purpose, attempt, out):
    out[0], out[1], out[2], out[3] = scalar.random_words(key, index, draw, pair, purpose, attempt)


@kernel
def run_normals(dim, key, index, first, n):
    work = make_workspace(dim, np.empty(0))
    standard_normals(work, dim, key, index, first, n)
    return work.v


def normals(index, first, n, dim):
    """(n, dim) normals of the kernels, from draw ``first`` on; n is at most a block."""
    v = run_normals(dim, np.uint64(KEY), np.uint64(index), np.uint64(first), n)
    return v[:dim, :n].T


ADDRESSES = [
    {},
    {"draw": 2**32 - 1},
    {"draw": 2**32},
    {"draw": 2**33},
    {"draw": 2**40 - 1},
    {"index": 2**32 - 1},
    {"pair": 2**24 - 1},
    {"purpose": 3, "attempt": 15},
    {"draw": 2**40 - 1, "index": 2**32 - 1, "pair": 2**24 - 1, "purpose": 255, "attempt": 255},
]


@pytest.mark.parametrize("address", ADDRESSES, ids=str)
def test_words_are_philox_of_the_documented_counter(address):
    address = dict.fromkeys(["index", "draw", "pair", "purpose", "attempt"], 0) | address
    index, draw, pair, purpose, attempt = address.values()
    counter = (draw % 2**32, draw // 2**32 + pair * 2**8, index, purpose + attempt * 2**8)
    expected = np.array(reference.philox(counter, (KEY % 2**32, KEY // 2**32)))
    words = [np.uint64(word) for word in (KEY, index, draw, pair, purpose, attempt)]
    compiled = np.empty(4, dtype=np.uint64)
    run_words(*words, compiled)
    np.testing.assert_array_equal(compiled, expected)
    np.testing.assert_array_equal(scalar.random_words(*words), expected)


def word(size):
    return some.integers(0, 2**size - 1)


@settings(deadline=None, derandomize=True)
@given(key=word(64), index=word(32), draw=word(40), pair=word(24), purpose=word(8), attempt=word(8))
def test_address_map_is_injective(key, index, draw, pair, purpose, attempt):
    # With a Philox that returns its arguments, an address can be read back from the counter.
    address = [np.uint64(value) for value in (key, index, draw, pair, purpose, attempt)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scalar, "philox", lambda *words: words)
        c0, c1, c2, c3, k0, k1 = map(int, scalar.random_words(*address))
    assert max(c0, c1, c2, c3, k0, k1) < 2**32
    assert (c0 + (c1 % 2**8) * 2**32, c1 // 2**8, c2) == (draw, pair, index)
    assert (c3 % 2**8, c3 // 2**8, k0 + k1 * 2**32) == (purpose, attempt, key)


@pytest.mark.parametrize("first", [0, 2**32 - 1, 2**32 - 5, 2**33, 2**40 - 10])
@pytest.mark.parametrize("index", [0, 2**32 - 1])
def test_normals_carry_as_the_reference(index, first):
    got = normals(index, first, 10, dim=5)
    expected = reference.standard_normals(KEY, index, first + np.arange(10), 5)
    assert ulps(got, expected).max() <= 4.0


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 17])
def test_normals_against_the_reference(dim):
    points, draws = 3, 20_000
    got = fe.Gaussian(np.zeros((points, dim)), scale=1.0).sample(draws, rng=7)
    expected = reference.standard_normals(
        philox_key(7), np.arange(points), np.arange(draws)[:, None], dim
    )
    assert ulps(got, expected).max() <= 4.0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: fe.estimate(STANDARD, STANDARD, 2**40 + 1), "n_samples.*1099511627777"),
        (lambda: fe.elbo_terms(STANDARD, STANDARD, 2**40 + 1), "n_samples.*1099511627777"),
        (lambda: STANDARD.sample(2**40 + 1), "n must.*1099511627777"),
        (lambda: fe.estimate(STANDARD, STANDARD, first_index=2**32), "first_index.*4294967296"),
        (lambda: fe.Gaussian(np.zeros(2**25 + 1, np.int8), scale=1.0), "mean.*33554433"),
        (lambda: reference.standard_normals(KEY, 2**32, 0, 1), "index"),
        (lambda: reference.standard_normals(KEY, 0, 2**40, 1), "draw"),
        (lambda: reference.standard_normals(KEY, -1, 0, 1), "index"),
    ],
)
def test_addresses_out_of_range(call, match):
    with pytest.raises(OverflowError, match=match):
        call()


def test_last_data_point_has_an_address():
    q = fe.Gaussian(np.zeros((2, 1)), scale=1.0)
    terms = fe.elbo_terms(fe.Gaussian([0.0], scale=2.0), q, 3, rng=1, first_index=2**32 - 2)
    assert np.isfinite(terms.log_q).all()


# --- normals ----------------------------------------------------------------------------------

# The probability that a mean is 4 standard errors off.
P_VALUE = 6e-5


@pytest.fixture(scope="module")
def million():
    return STANDARD.sample(MILLION, rng=2024)


@pytest.mark.parametrize("coordinate", [0, 1])
def test_kolmogorov_smirnov(million, coordinate):
    # Catches a distribution function that is off by .0023 anywhere.
    assert st.kstest(million[:, coordinate], st.norm.cdf).pvalue > P_VALUE


@pytest.mark.parametrize("coordinate", [0, 1])
def test_anderson_darling(million, coordinate):
    # Weighs the tails. By chance the statistic exceeds 9 once in 30 000. A sigma that is .6% off
    # adds 9.
    x = np.sort(million[:, coordinate])
    rank = np.arange(1, x.size + 1)
    logs = st.norm.logcdf(x) + st.norm.logsf(x)[::-1]
    assert -x.size - ((2 * rank - 1) * logs).mean() < 9.0


@pytest.mark.parametrize("order", range(1, 9))
def test_moments(million, order):
    # Catches errors of .0035 in the mean, .005 in the variance, 5 of 105 in the eighth moment.
    x = million.ravel()
    moment, second = (st.norm.moment(m) for m in (order, 2 * order))
    se = math.sqrt((second - moment**2) / x.size)
    assert abs((x**order).mean() - moment) < 5 * se


@pytest.mark.parametrize("power", [1, 2])
def test_neighbours_are_uncorrelated(power):
    # Correlation of draws, of coordinates (from one Philox call and from two) and of data points.
    # Catches r = .005.
    x = fe.Gaussian(np.zeros((2, 3)), scale=1.0).sample(MILLION, rng=11) ** power
    pairs = {
        "draws": (x[:-1, 0, 0], x[1:, 0, 0]),
        "coordinates of a pair": (x[:, 0, 0], x[:, 0, 1]),
        "pairs": (x[:, 0, 1], x[:, 0, 2]),
        "points": (x[:, 0, 0], x[:, 1, 0]),
    }
    for what, (a, b) in pairs.items():
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(MILLION), what


@block
def _count_block(thresholds, v, dim, n, counts):
    for d in range(dim):
        for k in range(n):
            for t in range(thresholds.size):
                counts[t] += np.int64(1) if abs(v[d, k]) > thresholds[t] else np.int64(0)


@kernel
def run_tail_counts(key, n_blocks, dim, thresholds, counts):
    work = make_workspace(dim, np.empty(0))
    for b in range(n_blocks):
        standard_normals(work, dim, key, np.uint64(0), np.uint64(b * LANES), LANES)
        _count_block(thresholds, work.v, dim, LANES, counts)


@pytest.mark.parametrize("n", [10**8, pytest.param(10**9, marks=pytest.mark.slow)])
def test_tail_counts(n):
    # With 1e9 draws, catches counts that are off by .3% beyond 3 sigma, 2% beyond 4 and 20% beyond
    # 5, and 10 draws beyond 6 instead of the expected 2.
    sigmas, dim = np.array([3.0, 4.0, 5.0, 6.0]), 8
    counts, n_blocks = np.zeros(4, np.int64), n // (dim * LANES)
    run_tail_counts(np.uint64(KEY), n_blocks, dim, sigmas, counts)
    expected = n_blocks * dim * LANES * 2 * st.norm.sf(sigmas)
    low, high = st.poisson.interval(1 - P_VALUE, expected)
    assert (low <= counts).all(), (counts, expected)
    assert (counts <= high).all(), (counts, expected)


# --- mixtures and Student t -------------------------------------------------------------------

WEIGHTS = np.array([0.0, 0.5, 0.001, 0.0, 0.299, 0.2, 0.0])


@pytest.mark.parametrize("scale", [{"scale": 1e-3}, {"scale_tril": 1e-3 * np.eye(2)}], ids=str)
def test_mixture_choice(scale):
    # Components are far apart, so that a draw shows its component. Catches .002 in a share of 1/2.
    places = 10.0 * np.arange(WEIGHTS.size)
    q = fe.Mixture(WEIGHTS, fe.Gaussian(np.stack([places, -places], axis=-1), **scale))
    z = q.sample(MILLION, rng=3)
    chosen = np.rint(z[:, 0] / 10.0).astype(int)
    np.testing.assert_array_equal(chosen, -np.rint(z[:, 1] / 10.0).astype(int))
    check_shares(chosen)


def test_categorical_choice():
    chosen = fe.Categorical(WEIGHTS).sample(MILLION, rng=4)
    assert chosen.shape == (MILLION, 1)
    check_shares(chosen[:, 0])


def check_shares(chosen):
    counts = np.bincount(chosen, minlength=WEIGHTS.size)
    assert (counts[WEIGHTS == 0.0] == 0).all()
    se = np.sqrt(MILLION * WEIGHTS * (1.0 - WEIGHTS))
    assert (np.abs(counts - MILLION * WEIGHTS) <= 4.5 * se).all()


@pytest.mark.parametrize("df", [0.1, 0.3, 1.5, 2.0, 3.0, 30.0, 1e6])
def test_student_t(df):
    # One chi-square per draw: the squared radius over D follows F(D, df). Catches .005 in either
    # distribution function.
    dim = 3
    x = fe.StudentT(df, np.zeros(dim), scale=1.0).sample(200_000, rng=5)
    assert np.isfinite(x).all()
    for d in range(dim):
        assert st.kstest(x[:, d], st.t(df).cdf).pvalue > P_VALUE
    radius = (x**2).mean(axis=-1)

    def cdf(r):
        # As F(D, df) has it in SciPy 1.17; before, it is wrong by .1 beyond 1e15.
        return betaincc(df / 2, dim / 2, df / (df + dim * r))

    assert st.kstest(radius, cdf).pvalue > P_VALUE


def test_student_t_components_have_their_own_df():
    places, df = np.array([-1e9, 1e9]), np.array([1.5, 20.0])
    q = fe.Mixture([0.3, 0.7], fe.StudentT(df, places[:, None], scale=[[1.0], [2.0]]))
    x = q.sample(200_000, rng=6)[:, 0]
    for side, place, freedom, scale in zip((x < 0, x > 0), places, df, (1.0, 2.0), strict=True):
        # Rounding at 1e9 leaves steps of 1e-7, too small for the test to notice.
        assert st.kstest((x[side] - place) / scale, st.t(freedom).cdf).pvalue > P_VALUE


# --- rng by SPEC 7 ----------------------------------------------------------------------------

CALLS = {
    "sample": lambda rng: STANDARD.sample(5, rng),
    "categorical": lambda rng: fe.Categorical([0.5] * 2).sample(100, rng),
    "estimate": lambda rng: fe.estimate(fe.Gaussian([0.0], scale=2.0), ONE, 10, rng=rng).elbo,
    "elbo_terms": lambda rng: fe.elbo_terms(ONE, ONE, 5, rng).log_q,
    "log_weights": lambda rng: fe.log_weights(fe.Gaussian([1.0], scale=1.0), ONE, 5, rng),
}
ONE = fe.Gaussian([0.0], scale=1.5)


@pytest.mark.filterwarnings("ignore::fastelbo.errors.LowESSWarning")
@pytest.mark.filterwarnings("ignore::fastelbo.errors.ShortTailWarning")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_rng(call):
    first, seed = call(3), np.random.SeedSequence(3)
    np.testing.assert_array_equal(call(3), first)
    np.testing.assert_array_equal(call(seed), first)
    generator = np.random.default_rng(3)
    np.testing.assert_array_equal(call(generator), first)
    assert not np.array_equal(call(generator), first)
    assert not np.array_equal(call(None), call(None))
    assert not np.array_equal(call(4), first)


def test_none_leaves_the_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    STANDARD.sample(1)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_key_is_the_first_word_of_the_generator():
    expected = np.random.default_rng(9).integers(0, 2**64, dtype=np.uint64)
    assert philox_key(9) == expected
    q = fe.Gaussian([0.0], scale=1.0)
    normal = reference.standard_normals(int(expected), 0, np.arange(4), 1)
    np.testing.assert_allclose(q.sample(4, rng=9), normal, rtol=1e-15)


def test_draws_do_not_depend_on_how_many_or_on_the_batch():
    few, many = STANDARD.sample(10, rng=1), STANDARD.sample(2000, rng=1)
    np.testing.assert_array_equal(few, many[:10])
    batch = fe.Gaussian(np.zeros((3, 2)), scale=1.0).sample(10, rng=1)
    np.testing.assert_array_equal(few, batch[:, 0])
    longer = fe.Gaussian(np.zeros(5), scale=1.0).sample(10, rng=1)
    np.testing.assert_array_equal(few, longer[:, :2])
