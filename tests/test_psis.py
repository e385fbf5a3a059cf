"""Pareto smoothing and k-hat: known answers, a plain oracle, layouts, degenerate rows."""

import warnings

import numba
import numpy as np
import plain_psis
import pytest
import scipy.stats
from helpers import IGNORE_DIAGNOSTICS, quiet

import fastelbo as fe
from fastelbo import errors
from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math import selection
from fastelbo.weights.pareto import draws_needed, fit_tails, k_threshold, tail_length


@kernel
def run_select(row, size, value, place):
    candidates = selection.make_candidates(size)
    count = selection.select_largest(row, row.shape[0], size, candidates)
    value[:count] = candidates.value[:count]
    place[:count] = candidates.place[:count]
    return count


# --- known answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c", "k", "sigma"),
    [
        (0.1, 0.11030538299874189, 0.9689311464171625),
        (0.5, 0.5035203992870904, 0.966373900167903),
        (1.0, 0.9891947607352517, 0.9688794540950301),
    ],
)
def test_fit(c, k, sigma):
    x = scipy.stats.genpareto.rvs(c=c, size=3000, random_state=np.random.default_rng(123))
    # The threshold is so small that the excesses over it lose no digit.
    threshold = 1e-6
    fits = fit_tails(np.log(threshold + np.append(x, 0.0))[None])
    assert abs(fits.pareto_k[0] - k) < 1e-10
    assert abs(fits.sigma[0] * (threshold + x.max()) - sigma) < 1e-10


EVIDENCE = {
    0.5: (0.9080815512205151, 0.0636420571267, 0.1924374252282),
    0.7: (0.6371459500343336, 0.0232999850682, 0.0322504239833),
    0.9: (0.27494481323913184, 0.0031833173820, 0.0031900456709),
    0.99: (0.08018355166699344, 0.0002547942784, 0.0002527680868),
}


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("s", EVIDENCE)
def test_smoothed_evidence(s):
    k, smoothed, raw = EVIDENCE[s]
    z = np.random.default_rng(42).normal(0.0, s, (50_000, 3))
    norm = scipy.stats.norm
    result = fe.psis((norm.logpdf(z) - norm.logpdf(z, scale=s)).sum(axis=1))
    assert abs(result.pareto_k - k) < 1e-10
    assert abs(result.smoothed_log_evidence - smoothed) < 1e-10
    assert abs(result.log_evidence - raw) < 1e-10
    # The smoothed log weights have the smoothed evidence.
    assert abs(fe.logmeanexp(result.log_weights) - smoothed) < 1e-10
    assert (result.tail_length, result.threshold) == (671, 0.7)


def test_rules():
    assert tail_length(10_000) == 300
    assert tail_length(4000) == 190
    assert tail_length(20) == 4
    np.testing.assert_array_equal(tail_length(4000, [1.0, 0.25, 0.001]), [190, 380, 800])
    assert k_threshold(100) == 0.5
    assert k_threshold(10_000) == 0.7
    np.testing.assert_allclose(
        draws_needed([-1.0, 0.0, 0.5, 0.7, 1.0, 2.0, np.inf, np.nan]),
        [10.0, 10.0, 100.0, 10 ** (1 / 0.3), np.inf, np.inf, np.inf, np.nan],
    )


# --- against the oracle -----------------------------------------------------------------------

KINDS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "pareto": lambda rng, n: 0.7 * rng.standard_exponential(n),
    "heaviest": lambda rng, n: 12.0 * rng.standard_exponential(n),
    "heavy": lambda rng, n: 4.0 * rng.standard_exponential(n),
    "bounded": lambda rng, n: np.log(rng.random(n)) - 700.0,
    "nearly_equal": lambda rng, n: 1e-4 * rng.normal(size=n) + 3.0,
    "ties": lambda rng, n: np.round(rng.normal(size=n), 1),
    "zeros": lambda rng, n: np.where(rng.random(n) < 0.5, -np.inf, rng.normal(size=n)),
    "ascending": lambda rng, n: np.sort(rng.normal(size=n)),
    "descending": lambda rng, n: -np.sort(rng.normal(size=n)),
}


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [21, 22, 64, 101, 1000, 4001, 30_000])
def test_against_oracle(kind, n):
    rows = np.array([KINDS[kind](np.random.default_rng([seed, n]), n) for seed in range(3)])
    before = rows.copy()
    got = fe.psis(rows)
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(got.pareto_k, fe.pareto_k(rows))
    # Excesses of nearly equal weights lose the digits that the weights share.
    tolerance = 1e-7 if kind == "nearly_equal" else 1e-10
    fitted = np.isfinite(got.pareto_k)
    assert fitted.all() or kind == "ties"
    for i in np.flatnonzero(fitted):
        weights, k, raw, smoothed = plain_psis.psis(rows[i])
        assert abs(got.pareto_k[i] - k) < tolerance
        np.testing.assert_allclose(got.log_weights[i], weights, rtol=tolerance, atol=tolerance)
        assert abs(got.log_evidence[i] - raw) < 1e-12 * (1 + abs(raw))
        assert abs(got.smoothed_log_evidence[i] - smoothed) < tolerance


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("layout", ["C", "F", "reversed", "strided", "read-only", "big-endian"])
def test_layouts(axis, layout):
    rng = np.random.default_rng(5)
    shape = [11, 3, 2]
    shape[axis] = 333
    plain = 0.5 * rng.standard_exponential(shape)
    array = {
        "C": lambda: plain.copy(),
        "F": lambda: np.asfortranarray(plain),
        "reversed": lambda: plain[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
        "strided": lambda: np.repeat(plain, 2, axis=axis).take(range(0, 666, 2), axis=axis),
        "read-only": lambda: np.broadcast_to(plain, plain.shape),
        "big-endian": lambda: plain.astype(">f8"),
    }[layout]()
    got = fe.psis(array, axis=axis)
    assert got.log_weights.shape == plain.shape
    rows = np.moveaxis(plain, axis, -1)
    assert got.pareto_k.shape == got.min_draws.shape == got.tail_length.shape == rows.shape[:-1]
    for index in np.ndindex(rows.shape[:-1]):
        weights, k, _, smoothed = plain_psis.psis(rows[index])
        assert abs(got.pareto_k[index] - k) < 1e-10
        assert abs(got.smoothed_log_evidence[index] - smoothed) < 1e-10
        np.testing.assert_allclose(
            np.moveaxis(got.log_weights, axis, -1)[index], weights, rtol=0, atol=1e-10
        )


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 1])
def test_matrices(order, axis):
    # More columns than are copied at once, and no multiple of that number.
    rows = np.random.default_rng(6).normal(size=(13, 200))
    array = np.asarray(rows if axis == 1 else rows.T, order=order)
    got, want = fe.psis(array, axis=axis), fe.psis(rows)
    np.testing.assert_array_equal(got.pareto_k, want.pareto_k)
    np.testing.assert_array_equal(np.moveaxis(got.log_weights, axis, -1), want.log_weights)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_dtypes(dtype):
    array = (20 * np.random.default_rng(7).normal(size=(2, 500))).astype(dtype)
    got, want = fe.psis(array), fe.psis(array.astype(np.float64))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert got.log_weights.dtype == np.float64


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_relative_efficiency():
    rows = 0.5 * np.random.default_rng(8).standard_exponential((3, 5000))
    r_eff = np.array([1.0, 0.3, 2.5])
    got = fe.psis(rows, r_eff)
    for i in range(3):
        weights, k, _, _ = plain_psis.psis(rows[i], r_eff[i])
        assert got.tail_length[i] == plain_psis.tail_length(5000, r_eff[i])
        assert abs(got.pareto_k[i] - k) < 1e-10
        np.testing.assert_allclose(got.log_weights[i], weights, rtol=0, atol=1e-10)
        assert fe.pareto_k(rows[i], r_eff[i]) == got.pareto_k[i]


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_number_of_threads():
    rows = np.random.default_rng(9).normal(size=(50, 3000))
    before = numba.get_num_threads()
    many = fe.psis(rows)
    numba.set_num_threads(1)
    try:
        one = fe.psis(rows)
    finally:
        numba.set_num_threads(before)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tails_alone():
    # What a stream keeps: the M + 1 largest, in any order.
    rows = np.random.default_rng(10).normal(size=(20, 4000))
    with quiet():
        k = fe.pareto_k(rows)
    tails = np.partition(rows, -191, axis=1)[:, -191:]
    fits = fit_tails(tails)
    np.testing.assert_allclose(fits.pareto_k, k, rtol=1e-12)
    np.testing.assert_array_equal(fit_tails(tails, grid=False).pareto_k, fits.pareto_k)
    assert fits.theta.shape == fits.k.shape == fits.log_likelihood.shape == (20, 30 + 13)


@pytest.mark.parametrize("n", [1, 20, 300, 5000])
@pytest.mark.parametrize("size", [1, 6, 100, 1000])
def test_selection(n, size):
    rng = np.random.default_rng([n, size])
    for row in [
        rng.normal(size=n),
        rng.integers(0, 5, n).astype(float),
        np.zeros(n),
        np.where(rng.random(n) < 0.9, -np.inf, rng.normal(size=n)),
        # Bisection does not help with this range, nor with such values at the sampled places.
        rng.standard_cauchy(n) ** 51,
        np.where(np.arange(n) % max(1, n // 256) == 0, 1.0, rng.normal(size=n)),
    ]:
        value, place = np.empty(size), np.empty(size, np.int64)
        count = run_select(row, size, value, place)
        want = np.argsort(-row, kind="stable")[:size]
        want = want[row[want] > -np.inf]
        np.testing.assert_array_equal(place[:count], want)
        np.testing.assert_array_equal(value[:count], row[want])


# --- statistics -------------------------------------------------------------------------------


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("k", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_mean_of_k(k):
    # k-hat has a standard deviation of .06 to .11. Its mean has a standard error of at most .0025.
    # The rest is bias: the prior, worth ten draws, pulls the most extreme k by .02 towards 1/2. The
    # band is 5 standard errors from that. A tail twice too long, or a fit without the prior, leaves
    # the band.
    found = np.concatenate(
        [
            fe.pareto_k(k * np.random.default_rng([11, seed]).standard_exponential((200, 10_000)))
            for seed in range(10)
        ]
    )
    assert found.shape == (2000,)
    assert abs(found.mean() - k) < 0.03


# --- degenerate rows --------------------------------------------------------------------------


def caught(function, *args):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        result = function(*args)
    return result, [(entry.category, str(entry.message)) for entry in record]


def assert_unsmoothed(result, rows):
    np.testing.assert_array_equal(result.log_weights, rows)
    np.testing.assert_array_equal(result.smoothed_log_evidence, result.log_evidence)
    assert np.isnan(result.pareto_k).all()
    assert np.isnan(result.min_draws).all()


@pytest.mark.parametrize("n", [1, 2, 20])
def test_short_tail(n):
    rows = np.random.default_rng(12).normal(size=(2, n))
    result, found = caught(fe.psis, rows)
    assert_unsmoothed(result, rows)
    np.testing.assert_allclose(result.log_evidence, fe.logmeanexp(rows, axis=1), atol=1e-14)
    assert [kind for kind, _ in found] == [errors.ShortTailWarning]
    assert "2 of 2" in found[0][1]
    # One draw more makes a tail of five.
    assert np.isfinite(fe.pareto_k(rows.ravel()[:1].repeat(21) + np.arange(21) / 50)).all()


def test_constant_rows():
    rows = np.full((3, 100), -7.25)
    # The values of the row differ by no more than rounding.
    rows[1] += 1e-12 * np.arange(100)
    result, found = caught(fe.psis, rows)
    assert_unsmoothed(result, rows)
    np.testing.assert_allclose(result.log_evidence, -7.25, atol=1e-10)
    assert [kind for kind, _ in found] == [errors.ConstantWeightsWarning]
    assert "3 of 3" in found[0][1]


def test_zero_rows():
    rows = np.full((2, 100), -np.inf)
    result, found = caught(fe.psis, rows)
    assert_unsmoothed(result, rows)
    assert (result.log_evidence == -np.inf).all()
    assert [kind for kind, _ in found] == [errors.AllWeightsZeroWarning]


def test_tied_tails():
    rng = np.random.default_rng(13)
    rows = np.array(
        [
            # All values of the tail are equal; most equal the threshold u; too few are finite.
            np.append(np.ones(500), rng.normal(size=500) - 10.0),
            np.append([5.0, 4.0, 3.0], np.zeros(997)),
            np.append(rng.normal(size=30), np.full(970, -np.inf)),
        ]
    )
    result, found = caught(fe.psis, rows)
    assert_unsmoothed(result, rows)
    np.testing.assert_allclose(result.log_evidence, fe.logmeanexp(rows, axis=1), atol=1e-14)
    assert [kind for kind, _ in found] == [errors.ShortTailWarning]
    assert "3 of 3" in found[0][1]


def test_underflow_is_not_a_tie():
    # Nearly all weights underflow relative to the largest. There are enough draws; k-hat is too
    # large.
    rows = np.array([1000.0 * np.random.default_rng(14).standard_exponential(1000)])
    result, found = caught(fe.psis, rows)
    assert result.pareto_k[0] == np.inf
    assert result.min_draws[0] == np.inf
    np.testing.assert_array_equal(result.log_weights, rows)
    assert [kind for kind, _ in found] == [errors.HighParetoKWarning]


def test_zero_weights():
    rng = np.random.default_rng(15)
    rows = rng.normal(size=(1, 4000))
    rows[0, rng.choice(4000, 1000, replace=False)] = -np.inf
    result, found = caught(fe.psis, rows)
    assert not found
    assert abs(result.pareto_k[0] - plain_psis.psis(rows[0])[1]) < 1e-10
    np.testing.assert_array_equal(np.isneginf(result.log_weights), np.isneginf(rows))


def test_high_k_warning():
    rng = np.random.default_rng(16)
    rows = 0.2 * rng.standard_exponential((6, 4000))
    rows[[1, 4]] *= [[7.0], [10.0]]
    result, found = caught(fe.psis, rows)
    np.testing.assert_array_equal(result.pareto_k > result.threshold, [0, 1, 0, 0, 1, 0])
    assert [kind for kind, _ in found] == [errors.HighParetoKWarning]
    assert "2 of 6 data points (worst: 4, 1)" in found[0][1]
    # The warning points at the call.
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        fe.pareto_k(rows)
    assert [entry.filename for entry in record] == [__file__]


@pytest.mark.parametrize("shape", [(0, 100), (100, 0), (2, 0, 50)])
def test_no_rows(shape):
    axis = 0 if shape[0] == 100 else -1
    result = fe.psis(np.zeros(shape), axis=axis)
    assert result.log_weights.shape == shape
    assert result.pareto_k.size == 0


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [fe.psis, fe.pareto_k])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("n", [10, 5000])
def test_bad_log_ratios(function, bad, n):
    rows = np.random.default_rng(17).normal(size=(4, n))
    rows[2, 7] = rows[3, 1] = bad
    with pytest.raises(errors.InvalidWeightError, match=r"2 numbers.*data point 2, draw 7"):
        function(rows)
    with pytest.raises(errors.InvalidWeightError, match=r"2 numbers.*data point 2, draw 7"):
        function(rows.T, axis=0)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((0.0,), errors.InvalidInputError, "scalar"),
        ((np.zeros((3, 0)),), errors.InvalidInputError, "at least 1"),
        ((np.zeros(100), 1.0, 1), errors.InvalidInputError, "axis"),
        ((np.zeros((2, 100)), [1.0, 1.0, 1.0]), errors.InvalidInputError, r"\(2,\).*\(3,\)"),
        ((np.zeros(100), 0.0), errors.InvalidInputError, "r_eff must be positive"),
        ((np.zeros(100), np.nan), errors.InvalidInputError, "r_eff must be finite"),
        ((np.zeros(100, complex),), errors.UnsupportedDTypeError, "complex"),
        ((np.ma.zeros(100),), errors.UnsupportedDTypeError, "masked"),
    ],
)
def test_bad_arguments(args, error, message):
    with pytest.raises(error, match=message):
        fe.psis(*args)
