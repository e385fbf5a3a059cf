"""logsumexp, logmeanexp and ess: the corners, SciPy's results, and the bound on the error."""

import math

import mpmath
import numpy as np
import pytest
import scipy
import scipy.special
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fastelbo as fe

# Whose shapes and types, of scalars, empty arrays and mixed factors, are those of later versions.
later_scipy = pytest.mark.skipif(
    tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 16), reason="needs SciPy 1.16"
)
INF, NAN = np.inf, np.nan
U = 2.0**-53


def exact_logsumexp(a, b=None):
    """log |sum b exp(a)| of finite numbers, in 60 digits."""
    with mpmath.workdps(60):
        factors = np.ones(len(a)) if b is None else b
        total = mpmath.fsum(
            mpmath.mpf(float(y)) * mpmath.exp(mpmath.mpf(float(x)))
            for x, y in zip(a, factors, strict=True)
        )
        return mpmath.log(abs(total))


def error_bound(exact, n, depth):
    """Half a unit of the result, and the rounding of exponentials and sums of the given depth."""
    return np.spacing(abs(float(exact))) / 2 + U * (3 * math.log(n) + depth + 4)


# --- corners ------------------------------------------------------------------------------------

CORNERS = [
    ([], -INF),
    ([-INF], -INF),
    ([-INF, -INF], -INF),
    ([INF], INF),
    ([INF, -INF], INF),
    ([1.0, INF], INF),
    ([NAN], NAN),
    ([0.0, NAN], NAN),
    ([INF, NAN], NAN),
    ([NAN, INF], NAN),
    ([-INF, NAN], NAN),
    ([1.0, -INF], 1.0),
    ([-INF, -3.3, -INF], -3.3),
    ([0.1], 0.1),
    ([-1e300], -1e300),
    ([5e-324], 5e-324),
    ([1e308, 1e308], 1e308),
    ([-1e308, -1e308], -1e308),
    ([0.0, -40.0], 4.248354255291589e-18),
    ([-40.0, 0.0], 4.248354255291589e-18),
    ([-1500.0] * 10, -1500.0 + math.log(10.0)),
]


@pytest.mark.parametrize(("a", "expected"), CORNERS)
@pytest.mark.parametrize("padding", [0, 3, 5000])
def test_corners(a, expected, padding):
    # Zero weights before and after change nothing, even if they fill whole pieces.
    padded = [-INF] * padding + a + [-INF] * padding
    assert fe.logsumexp(padded).tobytes() == np.float64(expected).tobytes()
    columns = np.array([padded, padded]).T
    np.testing.assert_array_equal(fe.logsumexp(columns, axis=0), [expected] * 2, strict=True)


@pytest.mark.filterwarnings("ignore::fastelbo.errors.FastElboWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_have_the_bits_of_rows(dtype):
    # Sixteen columns at a cache line are summed side by side, others are copied first.
    x = (4 * np.random.default_rng(5).normal(size=(1103, 301))).astype(dtype)
    x[::2, 40], x[:, 41], x[5, 42] = -INF, 700.0, 90.0
    summarized = x[:, :290]
    x[:, 290], x[7, 291], x[8, 292], x[1:, 293], x[9, 294] = -INF, NAN, INF, -INF, -INF
    x[3, 295], x[4, 295], x[:, 296], x[6, 297] = NAN, INF, -1e30, -NAN
    # A sum of scaled weights below 2 is taken apart.
    for part in (x, x[:, 1:], x[:1030, 280:], x[:3], 30 * x):
        columns, rows = (np.ascontiguousarray(each) for each in (part, part.T))
        np.testing.assert_array_equal(fe.logsumexp(columns, axis=0), fe.logsumexp(rows, axis=1))
    columns, rows = (np.ascontiguousarray(each) for each in (summarized, summarized.T))
    one, other = (
        fe.summarize(each, axis=axis, pareto_k=False) for each, axis in ((columns, 0), (rows, 1))
    )
    for name in ("log_evidence", "elbo", "ess", "log_evidence_se"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


FACTORS = [
    ([1, NAN], [1, 0], 1.0, 1.0),
    ([1, INF], [1, 0], 1.0, 1.0),
    ([INF], [0], -INF, 0.0),
    ([NAN], [0], -INF, 0.0),
    ([0, 0], [1, -1], -INF, 0.0),
    ([0, 0], [0, 0], -INF, 0.0),
    ([1, 2], [-1, -1], 2.313261687518223, -1.0),
    ([1000, 1000], [1, -2], 1000.0, -1.0),
    ([-INF, 1], [-1, 1], 1.0, 1.0),
    ([0, -40], [1, 1], 4.248354255291589e-18, 1.0),
    ([0, -40], [-1, -1], 4.248354255291589e-18, -1.0),
    ([INF, 1], [1, -1], INF, 1.0),
    ([INF, 1], [-1, 1], INF, -1.0),
    ([INF, INF], [1, -1], NAN, NAN),
    ([INF, 1000], [1, -1], INF, 1.0),
    ([0], [INF], INF, 1.0),
    ([0], [-INF], INF, -1.0),
    ([-INF], [INF], NAN, NAN),
    ([0, 1], [NAN, 1], NAN, NAN),
    # exp(a) or b alone would overflow or underflow.
    ([1000, 1000], [1e308, 1e308], 1000 + math.log(1e308) + math.log(2), 1.0),
    ([0, -1000], [1e-300, 1e300], -1000 + math.log(1e300), 1.0),
    ([0, 0], [2e-313, 2e-313], math.log(2e-313) + math.log(2), 1.0),
    ([], [], -INF, 0.0),
]


@pytest.mark.parametrize(("a", "b", "expected", "sign"), FACTORS)
def test_corners_with_factors(a, b, expected, sign):
    value, got_sign = fe.logsumexp(a, b=b, return_sign=True)
    np.testing.assert_allclose(value, expected, rtol=2e-16, atol=0)
    np.testing.assert_array_equal(got_sign, sign)
    without_sign = fe.logsumexp(a, b=b)
    np.testing.assert_array_equal(without_sign, NAN if sign < 0 else value)


@pytest.mark.parametrize(("a", "sign"), [([], 0), ([-INF], 0), ([-800.0], 1), ([INF], 1)])
def test_sign_without_factors(a, sign):
    assert fe.logsumexp(a, return_sign=True)[1] == sign
    assert np.isnan(fe.logsumexp([NAN], return_sign=True)[1])


def test_float32_is_summed_in_float64():
    assert fe.logsumexp(np.full(2, 1e4, np.float32)) == np.float32(10000.693)
    # A float32 sum of ones stops at 2^24.
    result = fe.logsumexp(np.zeros(2**25, np.float32))
    assert result.dtype == np.float32
    assert result == np.float32(25 * math.log(2))


# --- the bound on the error ---------------------------------------------------------------------

FLOATS = st.one_of(
    st.floats(-800, 800),
    st.floats(-1e-3, 1e-3),
    st.floats(-40, 1),
    st.floats(-1e300, 1e300),
    st.just(-INF),
)


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=FLOATS))
@settings(max_examples=300, deadline=None)
def test_error_bound(a):
    finite = a[np.isfinite(a)]
    if not finite.size:
        assert fe.logsumexp(a) == -INF
        return
    exact = exact_logsumexp(finite)
    assert abs(mpmath.mpf(float(fe.logsumexp(a))) - exact) <= error_bound(exact, a.size, a.size)
    with mpmath.workprec(300):
        log_mean = exact - mpmath.log(a.size)
    assert abs(mpmath.mpf(float(fe.logmeanexp(a))) - log_mean) <= error_bound(
        log_mean, a.size, a.size
    )


@given(
    hnp.arrays(np.float64, 12, elements=st.floats(-50, 50)),
    hnp.arrays(np.float64, 12, elements=st.floats(-10, 10)),
)
@example(np.full(12, -35.0), np.full(12, 2.0**-1025))
@settings(max_examples=200, deadline=None)
def test_error_bound_with_factors(a, b):
    if np.count_nonzero(b) == 0:
        assert fe.logsumexp(a, b=b) == -INF
        return
    exact = exact_logsumexp(a, b)
    # A sum of terms of both signs loses the digits that cancel, at worst all of them.
    condition = float(mpmath.exp(exact_logsumexp(a, np.abs(b)) - exact))
    if condition > 1e12:
        return
    got, sign = fe.logsumexp(a, b=b, return_sign=True)
    bound = error_bound(exact, a.size, a.size) + U * condition * (a.size + 16)
    # The logarithm of the leading factor is rounded too.
    bound += 2 * np.spacing(np.abs(np.log(np.abs(b[b != 0]))).max())
    assert abs(mpmath.mpf(float(got)) - exact) <= bound
    # Relative to the largest, so that the terms of tiny factors do not all underflow.
    most, top = np.abs(b).max(), a[b != 0].max()
    total = math.fsum(y / most * math.exp(x - top) for x, y in zip(a, b, strict=True))
    assert sign == np.sign(total)


MILLION = 10**6


def ascending():
    """Each weight is larger than the one before, by about 1e-9: a geometric series of n terms."""
    step = mpmath.mpf(2) ** -30
    exact = mpmath.log(mpmath.expm1(MILLION * step) / mpmath.expm1(step))
    return np.arange(MILLION) * 2.0**-30, exact


def one_and_small():
    """1 and a million small terms: 1 + each of them is 1, but together they are 1e-10."""
    exact = mpmath.log1p((MILLION - 1) * mpmath.exp(mpmath.mpf(-36.8)))
    return np.concatenate([[0.0], np.full(MILLION - 1, -36.8)]), exact


@pytest.mark.parametrize("stream", [ascending, one_and_small])
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_adversarial_streams(stream, order):
    a, exact = stream()
    # The depth of a compensated sum: errors of the pieces, each of a few thousand, average out.
    bound = error_bound(exact, a.size, 2)
    assert abs(mpmath.mpf(float(fe.logsumexp(a[order]))) - exact) <= bound
    # The same as one column of two.
    columns = np.stack([a[order], np.zeros(MILLION)], axis=1)
    assert abs(mpmath.mpf(float(fe.logsumexp(columns, axis=0)[0])) - exact) <= bound


# --- SciPy's results ----------------------------------------------------------------------------

RNG = np.random.default_rng(20240501)
CUBE = RNG.normal(scale=3.0, size=(3, 4, 5))
LAYOUTS = {
    "contiguous": CUBE,
    "fortran": np.asfortranarray(CUBE),
    "transposed": CUBE.T,
    "reversed": CUBE[::-1, :, ::-1],
    "strided": CUBE[:, ::2, 1::3],
    "matrix_fortran": np.asfortranarray(CUBE[0]),
    "row": CUBE[:1, :1, :],
    "empty": np.zeros((2, 0, 3)),
    "scalar": np.array(1.5),
}
DTYPES = ["f2", "f4", "f8", ">f2", ">f4", ">f8", "i1", "i4", ">i4", "i8", "u1", "u8", "?"]
TOLERANCE = {2: 4e-3, 4: 5e-7, 8: 1e-13}


def assert_like_scipy(a, **kwargs):
    expected = scipy.special.logsumexp(a, **kwargs)
    got = fe.logsumexp(a, **kwargs)
    for one, other in zip(np.atleast_1d(got), np.atleast_1d(expected), strict=True):
        tolerance = TOLERANCE[np.asarray(other).dtype.itemsize]
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, strict=True)
    assert np.asarray(got).dtype == np.asarray(expected).dtype
    assert np.shape(got) == np.shape(expected)
    assert isinstance(got, np.ndarray) == isinstance(expected, np.ndarray)


@later_scipy
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [None, 0, -1, 1, (0, 1), (-1, 0), (0, 1, 2), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_layouts(layout, axis, keepdims):
    a = LAYOUTS[layout]
    ndim = max(a.ndim, 1)
    given = range(ndim) if axis is None else np.atleast_1d(axis).tolist()
    if not all(-ndim <= i < ndim for i in given) or len({i % ndim for i in given}) < len(given):
        with pytest.raises(fe.errors.InvalidInputError, match="axis"):
            fe.logsumexp(a, axis=axis)
    elif a.size:
        assert_like_scipy(a, axis=axis, keepdims=keepdims)
        factors = RNG.uniform(0.5, 2, a.shape[-1:])
        assert_like_scipy(a, axis=axis, keepdims=keepdims, b=factors)
    elif axis == 1:
        # SciPy raises for several axes of an empty array.
        assert_like_scipy(a, axis=axis, keepdims=keepdims)
    else:
        got = fe.logsumexp(a, axis=axis, keepdims=keepdims)
        assert got.shape == a.sum(axis=axis, keepdims=keepdims).shape


def test_empty():
    assert fe.logsumexp(np.zeros((2, 0, 3))) == -INF
    np.testing.assert_array_equal(
        fe.logsumexp(np.zeros((2, 0, 3)), axis=(0, 1)), np.full(3, -INF), strict=True
    )
    assert fe.logsumexp(np.zeros((2, 0, 3)), axis=(0, 2), keepdims=True).shape == (1, 0, 1)
    assert fe.logsumexp(np.zeros((0, 3)), axis=1).shape == (0,)


@later_scipy
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    a = (4 + 2 * CUBE).clip(0, 20).astype(dtype)
    assert_like_scipy(a)
    assert_like_scipy(a, axis=1)
    assert_like_scipy(a, axis=0, b=2.0)
    for other in DTYPES:
        assert_like_scipy(a, axis=-1, b=np.ones(5, dtype=other))


@later_scipy
@pytest.mark.parametrize(("a", "b"), [(3, None), (3.5, 2), ([1, 2], 0.5), (np.float32(2.0), 2)])
def test_python_numbers(a, b):
    assert_like_scipy(a, b=b)


def test_factors_broadcast_both_ways():
    assert_like_scipy(CUBE[0, :, :1], b=RNG.uniform(0.5, 2, (1, 6)), axis=1)
    assert_like_scipy(1.0, b=np.arange(1.0, 5.0))
    signed = RNG.normal(size=CUBE.shape)
    for axis in (None, 1, (0, 2)):
        got = fe.logsumexp(CUBE, axis=axis, b=signed, return_sign=True)
        expected = scipy.special.logsumexp(CUBE, axis=axis, b=signed, return_sign=True)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(got[1], expected[1])
    with pytest.raises(fe.errors.InvalidInputError, match=r"\(3,\) and \(2,\)"):
        fe.logsumexp(np.zeros(3), b=np.zeros(2))


def test_memmap(tmp_path):
    path = tmp_path / "weights.npy"
    np.save(path, CUBE)
    mapped = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(fe.logsumexp(mapped, axis=1), fe.logsumexp(CUBE, axis=1))
    np.testing.assert_array_equal(fe.logmeanexp(mapped), fe.logmeanexp(CUBE))


def test_input_is_not_written():
    a, b = CUBE.copy(), RNG.normal(size=CUBE.shape)
    b[0] = 0.0
    kept = b.copy()
    fe.logsumexp(a, b=b, return_sign=True)
    fe.logsumexp(a, axis=1)
    fe.ess(a)
    np.testing.assert_array_equal(a, CUBE)
    np.testing.assert_array_equal(b, kept)
    for array in (a, b):
        array.setflags(write=False)
    np.testing.assert_array_equal(
        fe.logsumexp(a, axis=1, b=b, return_sign=True),
        fe.logsumexp(CUBE, axis=1, b=kept, return_sign=True),
    )


UNSUPPORTED = [
    np.ones(2, complex),
    np.ones(2, object),
    np.array(["a", "b"]),
    np.ones(2, np.longdouble),
    np.ma.array([1.0, 2.0], mask=[True, False]),
    np.array(["2024-01-01"], "M8[D]"),
    None,
]


@pytest.mark.parametrize("a", UNSUPPORTED, ids=lambda a: str(getattr(a, "dtype", a)))
def test_unsupported_dtypes(a):
    if np.asarray(a).dtype == np.float64 and not isinstance(a, np.ma.MaskedArray):
        pytest.skip("long double is double here")
    calls = [fe.logsumexp, fe.logmeanexp, fe.ess]
    if a is not None:
        calls.append(lambda b: fe.logsumexp([0.0, 0.0], b=b))
    for call in calls:
        with pytest.raises(fe.errors.UnsupportedDTypeError, match=r"float64|masked"):
            call(a)


@pytest.mark.parametrize("axis", [2, -3, (0, 0), (0, 5), 1.5, "0"])
def test_bad_axis(axis):
    with pytest.raises(fe.errors.InvalidInputError, match="axis"):
        fe.logsumexp(np.zeros((2, 3)), axis=axis)


# --- logmeanexp and ess -------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 1000, 10**5])
@pytest.mark.parametrize("value", [0.0, -1234.5678, 1e300, 0.1])
def test_mean_of_equal_numbers(n, value):
    assert abs(fe.logmeanexp(np.full(n, value)) - value) <= np.spacing(abs(value)) + U * 4


def test_mean_of_nothing():
    assert np.isnan(fe.logmeanexp([]))
    assert fe.logmeanexp([-INF, -INF]) == -INF


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
def test_logmeanexp_axes(axis):
    expected = np.log(np.mean(np.exp(CUBE), axis=axis, keepdims=True))
    got = fe.logmeanexp(CUBE, axis=axis, keepdims=True)
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14, strict=True)
    np.testing.assert_array_equal(fe.logmeanexp(CUBE, axis=axis), got.squeeze(axis))
    assert fe.logmeanexp(CUBE.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("log_weights", "expected"),
    [
        ([0.0], 1.0),
        ([5.0] * 7, 7.0),
        ([-1e5] * 3, 3.0),
        ([0.0, -INF, 0.0], 2.0),
        ([0.0, -1e4], 1.0),
        ([-INF, -INF], 0.0),
        (np.log([1.0, 2.0, 3.0]), 36 / 14),
    ],
)
def test_ess(log_weights, expected):
    assert fe.ess(log_weights) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_ess_axes(axis):
    w = np.exp(CUBE)
    expected = w.sum(axis=axis) ** 2 / (w**2).sum(axis=axis)
    np.testing.assert_allclose(fe.ess(CUBE, axis=axis), expected, rtol=1e-13, strict=True)
    np.testing.assert_allclose(fe.ess(CUBE + 500.0, axis=axis), expected, rtol=1e-11)


def test_ess_of_nearly_equal_weights():
    # K - ESS = K v. Raw moments would keep no digit of it.
    a = 1e-7 * np.array([-1.0, 1.0] * 500)
    assert fe.ess(a) <= 1000.0
    assert 1000.0 - fe.ess(a) == pytest.approx(1000.0 * 1e-14, rel=0.02)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_ess_of_bad_weights(bad):
    with pytest.raises(fe.errors.InvalidWeightError, match="data point 1, draw 2"):
        fe.ess([[0.0, 0.0, 0.0], [0.0, 0.0, bad]])
    with pytest.raises(fe.errors.InvalidInputError):
        fe.ess(np.zeros((3, 0)))
    with pytest.raises(fe.errors.InvalidInputError, match="one axis"):
        fe.ess(np.zeros((3, 2)), axis=(0, 1))
