"""Resampling: expected counts, the spread of counts, and draws without replacement."""

import itertools

import numpy as np
import pytest

import fastelbo as fe

INF = np.inf
METHODS = ("systematic", "stratified", "multinomial", "residual")
each_method = pytest.mark.parametrize("method", METHODS)

WEIGHTS = np.array([0.05, 0.0, 0.4, 0.15, 0.001, 0.25, 0.149])
# These are neither normalised nor near 0.
LOG_WEIGHTS = np.where(WEIGHTS > 0, np.log(np.where(WEIGHTS > 0, WEIGHTS, 1.0)), -INF) - 2000.0
REPEATS = 4000
# Half-width of a band, in standard errors. One of a hundred correct counts leaves its band with
# probability 7e-4.
SIGMAS = 4.5


def counts(indices):
    return np.stack([(indices == i).sum(axis=-1) for i in range(len(WEIGHTS))], axis=-1)


def repeated(n, method, seed):
    rows = np.broadcast_to(LOG_WEIGHTS, (REPEATS, len(WEIGHTS)))
    indices = fe.resample(rows, n, method, rng=seed, axis=-1)
    assert indices.shape == (REPEATS, n)
    assert indices.dtype == np.int64
    assert (np.diff(indices, axis=1) >= 0).all()
    return counts(indices)


@each_method
@pytest.mark.parametrize("n", [1, 10, 37])
def test_counts_are_unbiased(method, n):
    got = repeated(n, method, seed=n)
    # No method varies more than independent draws. For n = 10 the band is .04 to .1 of a count.
    error = np.sqrt(n * WEIGHTS * (1 - WEIGHTS) / REPEATS)
    assert (np.abs(got.mean(axis=0) - n * WEIGHTS) <= SIGMAS * error).all()
    assert (got[:, WEIGHTS == 0] == 0).all()


@pytest.mark.parametrize("n", [10, 37])
def test_spread_of_counts(n):
    spread = {method: repeated(n, method, seed=5) for method in METHODS}
    expected = n * WEIGHTS
    slack = 1e-9
    assert (np.abs(spread["systematic"] - expected) < 1 + slack).all()
    assert (np.abs(spread["stratified"] - expected) < 2 + slack).all()
    assert (np.abs(spread["stratified"] - expected) > 1).any()
    assert (spread["residual"] >= np.floor(expected - slack)).all()
    # 4000 repeats give a variance within 2.2%, less precisely for a rare index.
    likely = WEIGHTS > 0.01
    variance = (expected * (1 - WEIGHTS))[likely]
    np.testing.assert_allclose(spread["multinomial"][:, likely].var(axis=0), variance, rtol=0.15)
    for method in ("systematic", "stratified", "residual"):
        assert spread[method][:, likely].var(axis=0).sum() < 0.6 * variance.sum()


@each_method
def test_equal_weights(method):
    indices = fe.resample(np.zeros(50), 50, method, rng=3)
    if method != "multinomial" and method != "stratified":
        np.testing.assert_array_equal(indices, np.arange(50))
    assert indices.min() >= 0
    assert indices.max() < 50


@each_method
@pytest.mark.parametrize("replace", [True, False])
def test_single_positive_weight(method, replace):
    row = [-INF, -INF, -1e4, -INF]
    n = 5 if replace else 1
    np.testing.assert_array_equal(fe.resample(row, n, method, replace, rng=0), np.full(n, 2))


@each_method
def test_last_index_at_the_end(method):
    # A cumulative sum of many weights ends slightly off 1, and zero weights follow.
    row = np.append(np.full(30_000, -np.log(3.0)), -INF)
    indices = fe.resample(row, 200_000, method, rng=1)
    assert indices.max() <= 29_999
    assert np.unique(indices).size > 29_000


# --- without replacement ------------------------------------------------------------------------


def test_without_replacement():
    # The bands of the first draws are .003 to .007 wide.
    repeats = 100_000
    rows = np.broadcast_to(LOG_WEIGHTS, (repeats, len(WEIGHTS)))
    pairs = fe.resample(rows, 2, replace=False, rng=7, axis=-1)
    assert (pairs[:, 0] != pairs[:, 1]).all()

    def close(got, share):
        return abs(got.mean() - share) < SIGMAS * np.sqrt(share * (1 - share) / repeats)

    # Draws come one after the other, in proportion to the weights that are left.
    for i in np.flatnonzero(WEIGHTS):
        assert close(pairs[:, 0] == i, WEIGHTS[i])
    for i, j in itertools.permutations(np.flatnonzero(WEIGHTS > 0.01), 2):
        both = (pairs[:, 0] == i) & (pairs[:, 1] == j)
        assert close(both, WEIGHTS[i] * WEIGHTS[j] / (1 - WEIGHTS[i]))


def test_all_without_replacement():
    positive = np.flatnonzero(WEIGHTS)
    chosen = fe.resample(LOG_WEIGHTS, 6, replace=False, rng=0)
    np.testing.assert_array_equal(np.sort(chosen), positive)
    with pytest.raises(fe.errors.InvalidInputError, match="got 7 for the 6 of row 0"):
        fe.resample(LOG_WEIGHTS, 7, replace=False)


# --- arguments ----------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize("replace", [True, False])
def test_shapes_and_seeds(method, replace):
    x = np.random.default_rng(2).normal(size=(2, 3, 20))
    first = fe.resample(x, 4, method=method, replace=replace, rng=9)
    assert first.shape == (2, 3, 4)
    np.testing.assert_array_equal(first, fe.resample(x, 4, method, replace, rng=9))
    generator = np.random.default_rng(9)
    np.testing.assert_array_equal(first, fe.resample(x, 4, method, replace, rng=generator))
    assert (first != fe.resample(x, 4, method, replace, rng=generator)).any()
    assert fe.resample(x[:0], 4, method, replace).shape == (0, 3, 4)
    assert fe.resample(x[0, 0].astype(np.float32), 1, method, replace, rng=0).shape == (1,)


def test_bad_arguments():
    x = np.zeros((2, 3))
    for call, kind, message in (
        (lambda: fe.resample(x, 0), fe.errors.InvalidInputError, "n must be at least 1"),
        (lambda: fe.resample(x, 1.5), fe.errors.InvalidInputError, "n must be an integer"),
        (lambda: fe.resample(x, True), fe.errors.InvalidInputError, "got the bool"),
        (lambda: fe.resample(x, 2, "random"), fe.errors.InvalidInputError, "got 'random'"),
        (lambda: fe.resample([0, np.nan], 2), fe.errors.InvalidWeightError, "draw 1"),
        (lambda: fe.resample([0, INF], 2), fe.errors.InvalidWeightError, "draw 1"),
        (lambda: fe.resample([[0], [-INF]], 2), fe.errors.InvalidWeightError, "row 1 is 0"),
        (lambda: fe.resample(["a"], 2), fe.errors.UnsupportedDTypeError, "float64"),
    ):
        with pytest.raises(kind, match=message):
            call()
