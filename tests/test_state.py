"""The mergeable state against two-pass NumPy: chunks, merges, groups, zero weights."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp

from fastelbo import reference
from fastelbo.engine import readings
from fastelbo.engine.readings import make_readings
from fastelbo.kernels.draws.blocks import CHUNK, LANES, make_workspace
from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math import simd
from fastelbo.kernels.state import groups, state

SIZES = [1, 2, 3, 7, 10, 100, 511, 512, 513, 8192, 10_000, 20_000]
# Prime, and so no multiple of a lane count, of a chunk or of a group size.
K = 50_021


@kernel
def run_push(terms, first, sizes, out):
    """State of draws from ``first`` on. Their three log densities are the rows of ``terms``."""
    work, fresh = make_workspace(1, np.empty(0)), np.zeros(out.size)
    state.clear(out)
    for lo in range(0, terms.shape[1], LANES):
        n = min(LANES, terms.shape[1] - lo)
        for k in range(n):
            work.log_likelihood[k] = terms[0, lo + k]
            work.log_prior[k] = terms[1, lo + k]
            work.log_q[k] = terms[2, lo + k]
            work.log_weight[k] = terms[0, lo + k] + (terms[1, lo + k] - terms[2, lo + k])
        state.push_block(out, fresh, sizes, first + lo, work, n)


@kernel
def run_four_sums(x, first, size, out, place):
    simd.four_sums(x, first, size, out, place)


@kernel
def run_group_sums(x, start, size, count, out):
    groups._group_sums(x, start, size, count, out)


@kernel
def run_merge(prefix, states, sizes):
    for c in range(states.shape[0]):
        state.merge(prefix, states[c], sizes)


@kernel
def run_merge_often(prefix, row, times):
    for _ in range(times):
        state.merge(prefix, row, np.empty(0, np.int64))


@kernel
def run_clear(out):
    state.clear(out)


def as_terms(log_weights):
    """Terms with given log weights: these are the likelihood; prior and q cancel."""
    zeros = np.zeros_like(log_weights)
    return np.array([log_weights, zeros, zeros])


def push(terms, first=0, sizes=SIZES):
    out = np.empty(state.state_size(len(sizes)))
    run_push(np.ascontiguousarray(terms), first, np.array(sizes, dtype=np.int64), out)
    return out


def fold(states, prefix=None, sizes=SIZES):
    """Merge states from the left, onto a prefix if there is one."""
    if prefix is None:
        prefix = np.empty(state.state_size(len(sizes)))
        run_clear(prefix)
    prefix = prefix.copy()
    run_merge(prefix, np.reshape(states, (-1, prefix.size)), np.array(sizes, dtype=np.int64))
    return prefix


def pieces(terms, cuts, sizes=SIZES):
    """States of the draws between the cuts."""
    edges = itertools.pairwise([0, *cuts, terms.shape[1]])
    return [push(terms[:, lo:hi], lo, sizes) for lo, hi in edges]


def chunked(terms, sizes=SIZES):
    """The state as an estimate makes it: folded chunks."""
    return fold(pieces(terms, range(CHUNK, terms.shape[1], CHUNK), sizes), sizes=sizes)


FIELDS = [
    "log_evidence", "relative_variance", "ess", "elbo", "elbo_se", "expected_log_likelihood",
    "expected_log_likelihood_se", "kl", "kl_se", "jensen_gap_se", "n_zero", "iw_value", "iw_se",
]  # fmt: skip


def read(row, sizes=SIZES):
    values = make_readings(1, len(sizes))
    readings.read(row[None], values)
    return {name: value[0] for name, value in values._asdict().items()}


def expected(terms, sizes=SIZES):
    values = reference.summaries(*terms[:, None], sizes)
    missing = (np.array([np.nan]),) * 2
    bounds = [values["iw"].get(size, missing) for size in sizes]
    values["iw_value"], values["iw_se"] = np.reshape(bounds, (-1, 2)).T
    return {name: values[name].squeeze() for name in FIELDS}


def assert_close(got, want, rtol=1e-11):
    for name in FIELDS:
        np.testing.assert_allclose(got[name], want[name], rtol=rtol, atol=rtol, err_msg=name)


def random_terms(n=K, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=spread, size=(3, n)) - np.array([[40.0], [3.0], [2.0]])


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [1e-6, 1.0, 30.0])
@pytest.mark.parametrize("n", [1, 2, 511, 512, 513, CHUNK, CHUNK + 1, K])
def test_moments(n, spread):
    # At 1e-6, a variance from raw moments would keep 4 digits.
    terms = random_terms(n, spread)
    assert_close(read(chunked(terms)), expected(terms), rtol=1e-8 if spread < 1.0 else 1e-11)


def test_far_terms_do_not_cancel():
    terms = random_terms() + np.array([[-1e9], [0.0], [0.0]])
    got, want = read(chunked(terms)), expected(terms)
    # Steps of 1e-7 between floats at 1e9; their spread is 1.
    assert got["elbo_se"] == pytest.approx(want["elbo_se"], rel=1e-9)
    assert got["log_evidence"] == pytest.approx(want["log_evidence"], abs=2e-7)


def test_sums_are_compensated():
    # Over 10^6 merges, plain sums drift by about 1e-11, relative to their size.
    prefix = fold([], sizes=[])
    run_merge_often(prefix, push(as_terms(np.log([1.0, 0.1])), sizes=[]), 10**6)
    got = read(prefix, [])
    assert got["elbo"] == pytest.approx(np.log(0.1) / 2, rel=1e-15, abs=0.0)
    # It is read as log1p(rest) - log n; both are about 14.
    assert got["log_evidence"] == pytest.approx(np.log(0.55), abs=5e-15)


@pytest.mark.parametrize("size", [4, 5, 6, 7, 8, 10, 100, 255])
def test_sums_of_groups_have_the_bits_of_plain_python(size):
    x = np.random.default_rng(size).exponential(size=4 * size + 3)
    got, plain = np.zeros(7), np.zeros(7)
    run_four_sums(x, 3, size, got, 2)
    simd.four_sums(x, 3, size, plain, 2)
    np.testing.assert_array_equal(got, plain)
    np.testing.assert_allclose(got[2:6], x[3:].reshape(4, size).sum(axis=1), rtol=1e-15)
    assert not got[:2].any()
    assert got[6] == 0.0


@pytest.mark.parametrize("count", [1, 3, 4, 5, 6, 9, 50])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 10])
def test_sums_may_take_the_place_of_their_terms(size, count):
    x = np.random.default_rng(size).exponential(size=2 + size * count)
    expected = x[2:].reshape(count, size).sum(axis=1)
    run_group_sums(x, 2, size, count, x)
    np.testing.assert_allclose(x[:count], expected, rtol=1e-15)


def test_underflow_inside_groups():
    # Log weights spread over 2000 nats: most groups underflow relative to their block's maximum.
    log_weights = np.random.default_rng(1).uniform(-2000.0, 0.0, K)
    terms = as_terms(log_weights)
    got, want = read(chunked(terms)), expected(terms)
    assert np.isfinite(want["iw_value"]).all()
    assert_close(got, want)


def test_maximum_that_rises_and_falls():
    for log_weights in (np.linspace(-3000.0, 0.0, K), np.linspace(0.0, -3000.0, K)):
        terms = as_terms(log_weights)
        assert_close(read(chunked(terms)), expected(terms))


# --- zero weights -----------------------------------------------------------------------------


def with_zeros(where):
    terms = random_terms()
    terms[1, where] = -np.inf
    return terms


ZEROS = {
    "first": with_zeros(0),
    "last": with_zeros(-1),
    "scattered": with_zeros(np.random.default_rng(2).random(K) < 0.3),
    "a block": with_zeros(slice(LANES, 2 * LANES)),
    "first block": with_zeros(slice(0, LANES)),
    "a chunk": with_zeros(slice(CHUNK, 2 * CHUNK)),
    "first chunk": with_zeros(slice(0, CHUNK)),
    "last chunk": with_zeros(slice(6 * CHUNK, None)),
    "all but one": with_zeros(np.arange(K) != 30_000),
    "all": with_zeros(slice(None)),
}


@pytest.mark.parametrize("terms", ZEROS.values(), ids=ZEROS.keys())
def test_zero_weights(terms):
    row = chunked(terms)
    got, want = read(row), expected(terms)
    assert got["elbo"] == -np.inf
    assert np.isnan(got["elbo_se"])
    assert got["kl"] == np.inf
    want["jensen_gap_se"] = np.nan
    assert_close(got, want)
    # No infinite mean is merged: only maxima and addresses may be infinite.
    infinite = np.isinf(row)
    assert not np.isnan(row).any()
    for offset in (state.LOG_WEIGHT, state.LOG_LIKELIHOOD, state.LOG_RATIO):
        assert not infinite[offset : offset + state.TERM_SIZE].any()


def test_all_weights_zero():
    got = read(chunked(ZEROS["all"]))
    assert got["log_evidence"] == -np.inf
    assert got["ess"] == 0.0
    assert got["n_zero"] == K
    assert (got["iw_value"] == -np.inf).all()
    assert np.isnan(got["relative_variance"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_weights_are_counted_with_the_address_of_the_first(bad):
    log_weights = random_terms()[0]
    log_weights[[30_000, 30_001, 45_000]] = bad
    got = read(chunked(as_terms(log_weights)))
    assert got["n_bad"] == 3
    assert got["first_bad"] == 30_000
    assert read(chunked(random_terms()))["n_bad"] == 0


# --- merging ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_split_at_chunk_borders_is_exact(cut):
    chunks = pieces(random_terms(), range(CHUNK, K, CHUNK))
    whole = fold(chunks)
    halves = fold(chunks[cut:], prefix=fold(chunks[:cut]))
    np.testing.assert_array_equal(whole, halves)


def test_merging_nothing_changes_nothing():
    row = chunked(random_terms())
    np.testing.assert_array_equal(fold([push(np.empty((3, 0)), K)], prefix=row), row)


CUTS = {
    "one": [20_000],
    "single draws": [1, 2, 3, 49_000, 49_001],
    "within a block": [100, 200, 300, 30_100],
    "blocks and a bit": list(range(513, K, 5130)),
    "prime": list(range(1009, K, 1009)),
}


@pytest.mark.parametrize("kind", ["random", "spread", "zeros"])
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS.keys())
def test_split_anywhere_equals_the_whole_to_rounding(cuts, kind):
    terms = {
        "random": random_terms(),
        "spread": as_terms(np.random.default_rng(1).uniform(-2000.0, 0.0, K)),
        "zeros": ZEROS["a chunk"],
    }[kind]
    got, want = read(fold(pieces(terms, cuts))), read(chunked(terms))
    assert_close(got, want, rtol=1e-12)


# --- groups -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "size"), [(n, size) for n in (CHUNK, 20_001, K) for size in SIZES if size <= n]
)
def test_groups(n, size):
    terms = random_terms(n, spread=3.0, seed=size)
    got, want = read(chunked(terms, [size]), [size]), expected(terms, [size])
    assert_close(got, want)


def test_group_of_one_is_the_elbo():
    got = read(chunked(random_terms(), [1]), [1])
    assert got["iw_value"][0] == pytest.approx(got["elbo"], rel=1e-14, abs=0.0)
    assert got["iw_se"][0] == pytest.approx(got["elbo_se"], rel=1e-12)


def test_one_group_of_everything_is_the_evidence():
    terms = random_terms(CHUNK * 2)
    got = read(chunked(terms, [CHUNK * 2]), [CHUNK * 2])
    assert got["iw_value"][0] == pytest.approx(got["log_evidence"], rel=1e-14, abs=0.0)
    assert np.isnan(got["iw_se"][0])


def test_leftovers_are_left_out():
    terms = random_terms(1000)
    terms[0, 994:] += 50.0
    got, want = read(chunked(terms, [7]), [7]), expected(terms[:, :994], [7])
    for name in ("iw_value", "iw_se"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-11)


# --- properties -------------------------------------------------------------------------------

LOG_WEIGHTS = arrays(
    np.float64,
    some.integers(1, 1500),
    elements=some.floats(-700.0, 700.0) | some.just(-np.inf),
    fill=some.floats(-5.0, 5.0),
)
EACH = settings(deadline=None, derandomize=True, max_examples=60)


def summary(log_weights):
    return read(chunked(as_terms(log_weights), []), [])


@EACH
@given(LOG_WEIGHTS, some.floats(-300.0, 300.0))
def test_shift(log_weights, shift):
    plain, shifted = summary(log_weights), summary(log_weights + shift)
    np.testing.assert_allclose(
        shifted["log_evidence"], plain["log_evidence"] + shift, rtol=1e-12, atol=1e-10
    )
    np.testing.assert_allclose(shifted["ess"], plain["ess"], rtol=1e-9)
    assert shifted["n_zero"] == plain["n_zero"]


@EACH
@given(LOG_WEIGHTS, some.randoms(use_true_random=False))
def test_permutation(log_weights, random):
    order = list(range(log_weights.size))
    random.shuffle(order)
    plain, permuted = summary(log_weights), summary(log_weights[order])
    for name in ("log_evidence", "ess", "elbo", "relative_variance", "n_zero"):
        np.testing.assert_allclose(permuted[name], plain[name], rtol=1e-11, atol=1e-11)


@EACH
@given(LOG_WEIGHTS)
def test_bounds_and_order(log_weights):
    got, n = summary(log_weights), log_weights.size
    top = log_weights.max()
    assert got["elbo"] <= got["log_evidence"] + 1e-9
    assert top - np.log(n) - 1e-9 <= got["log_evidence"] <= top + 1e-9 or top == -np.inf
    assert 0.0 <= got["ess"] <= (n - got["n_zero"]) * (1.0 + 1e-12)


@EACH
@given(LOG_WEIGHTS, some.lists(some.integers(1, 1499), max_size=4))
def test_split_anywhere(log_weights, cuts):
    terms = as_terms(log_weights)
    cuts = sorted({cut for cut in cuts if cut < log_weights.size})
    sizes = [1, 2, 5, 600]
    got = read(fold(pieces(terms, cuts, sizes), sizes=sizes), sizes)
    assert_close(got, read(push(terms, 0, sizes), sizes), rtol=1e-10)


def groups_of(log_weights, first, size):
    """Head, values of complete groups, and open group of draws from ``first`` on."""
    ends = np.arange(-first % size, len(log_weights), size)
    parts = np.split(log_weights, ends) if len(ends) else [log_weights]
    head, *rest = parts if first % size else [log_weights[:0], *parts]
    if not first % size:
        rest = [part for part in rest if len(part)]
    elif len(log_weights) < -first % size:
        # All draws are within one group.
        return log_weights[:0], [], head
    whole = [part for part in rest if len(part) == size]
    return (
        head,
        [logsumexp(part) - np.log(size) for part in whole],
        np.concatenate([log_weights[:0], *(part for part in rest if len(part) < size)]),
    )


@EACH
@given(
    LOG_WEIGHTS, some.integers(0, 30), some.sampled_from([1, 2, 3, 7, 16, 100, 1000, 5000]),
    some.lists(some.integers(1, 1499), max_size=6), some.randoms(use_true_random=False),
)  # fmt: skip
def test_groups_of_states_that_begin_anywhere(log_weights, first, size, cuts, random):
    cuts = sorted({cut for cut in cuts if cut < len(log_weights)})
    edges = itertools.pairwise([0, *cuts, len(log_weights)])
    states = [push(as_terms(log_weights[lo:hi]), first + lo, [size]) for lo, hi in edges]
    # Neighbours are merged in any order.
    while len(states) > 1:
        i = random.randrange(len(states) - 1)
        states[i : i + 2] = [fold(states[i : i + 2], sizes=[size])]
    group = states[0][state.GROUPS :]
    head, values, rest = groups_of(log_weights, first, size)
    for place, part in ((groups.HEAD_COUNT, head), (groups.OPEN_COUNT, rest)):
        count, shift, total = group[place : place + 3]
        assert count == len(part)
        expected = logsumexp(part) if len(part) else -np.inf
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(shift + np.log(total), expected, rtol=1e-12, atol=1e-12)
    finite = np.array([value for value in values if value > -np.inf])
    assert group[groups.CLOSED] == len(values)
    assert group[groups.CLOSED_ZERO] == len(values) - len(finite)
    if len(finite):
        mean, m2 = group[groups.CLOSED_MEAN], group[groups.CLOSED_M2]
        np.testing.assert_allclose(mean, finite.mean(), rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(m2, ((finite - finite.mean()) ** 2).sum(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n", [1, 31, 128, 129, 512, 1024])
def test_the_smallest_log_weight_of_blocks_and_chunks(n):
    rng = np.random.default_rng(n)
    chunks = []
    for x in rng.normal(size=(3, 2, n)):
        chunks.append(push(as_terms(x.reshape(-1)), sizes=()))
        assert chunks[-1][state.MIN] == x.min()
    smallest = min(chunk[state.MIN] for chunk in chunks)
    assert fold(chunks, sizes=())[state.MIN] == smallest
    share = read(fold(chunks, sizes=()), ())["largest_share"]
    x = np.random.default_rng(n).normal(size=6 * n)
    np.testing.assert_allclose(share, reference.largest_share(x), rtol=1e-10)
