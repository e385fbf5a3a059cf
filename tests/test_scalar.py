"""Scalar maths against mpmath: in a kernel with the production flags, and in plain Python."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from helpers import elementwise, errors, plainly, ulps

from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math import scalar

RNG = np.random.default_rng(20240501)
MAX = np.finfo(float).max
TINY = np.finfo(float).tiny
SUBNORMALS = np.concatenate(
    [[5e-324, 1e-323, np.nextafter(TINY, 0.0)], np.exp2(RNG.uniform(-1074, -1022, 300))]
)
# Numbers at every distance from 1, on both sides.
NEAR_ONE = 1.0 + np.outer([-1.0, 1.0], np.exp2(-RNG.uniform(1.0, 53.0, 1000))).ravel()
WHOLE_RANGE = np.concatenate(
    [np.exp2(RNG.uniform(-1022, 1024, 2000)), [1.0, 2.0, math.sqrt(0.5), math.sqrt(2.0), TINY, MAX]]
)

ARGUMENTS = {
    "exp": np.concatenate(
        [
            RNG.uniform(-746.0, 710.0, 3000),
            # Halfway between multiples of log 2, where the reduced argument is largest.
            (np.arange(-1075, 1024) + 0.5) * math.log(2.0),
            np.outer([-1.0, 1.0], np.exp2(RNG.uniform(-60.0, 0.0, 500))).ravel(),
            [0.0, -0.0, 709.782712893384, 709.79, -708.3964, -745.1332, -745.2, -800.0, 800.0],
            [MAX, -MAX, 5e-324, -5e-324],
        ]
    ),
    "exp_normal": np.concatenate(
        [
            RNG.uniform(-708.0, 709.0, 3000),
            (np.arange(-1021, 1023) + 0.5) * math.log(2.0),
            np.outer([-1.0, 1.0], np.exp2(RNG.uniform(-60.0, 0.0, 500))).ravel(),
            [0.0, -0.0, -708.3964, -5e-324],
        ]
    ),
    "log": np.concatenate([WHOLE_RANGE, NEAR_ONE, SUBNORMALS]),
    "log_positive": np.concatenate([WHOLE_RANGE, NEAR_ONE]),
    "log1p": np.concatenate(
        [np.exp2(RNG.uniform(-1074, 1024, 3000)), np.exp2(RNG.uniform(-60, 4, 3000)), [0.0, MAX]]
    ),
}
ALLOWED = {"exp": 1.0, "exp_normal": 1.0, "log": 1.0, "log_positive": 1.0, "log1p": 2.0}
EXACT = {
    "exp": mpmath.exp,
    "exp_normal": mpmath.exp,
    "log": mpmath.log,
    "log_positive": mpmath.log,
    "log1p": mpmath.log1p,
}

SPECIAL = {
    "exp": (
        [np.inf, -np.inf, np.nan, -np.nan, 1e300, -1e300],
        [np.inf, 0, np.nan, np.nan, np.inf, 0],
    ),
    "exp_normal": ([-np.inf, np.nan, -709.0, -745.0, -1e300], [0, np.nan, 0, 0, 0]),
    "log": (
        [np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0, -1.0, -5e-324, 1.0],
        [np.inf, np.nan, np.nan, np.nan, -np.inf, -np.inf, np.nan, np.nan, 0.0],
    ),
    "log1p": ([np.inf, np.nan, 0.0, 5e-324], [np.inf, np.nan, 0.0, 5e-324]),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_accuracy(name):
    x = ARGUMENTS[name]
    got = elementwise(getattr(scalar, name))(x)
    error = errors(EXACT[name], got, x)
    worst = error.argmax()
    assert error[worst] <= ALLOWED[name], f"{name}({x[worst]!r}) is off by {error[worst]:.2f} ulp"


@pytest.mark.parametrize("name", ALLOWED)
def test_plain_source_gives_the_same(name):
    function, x = getattr(scalar, name), ARGUMENTS[name]
    compiled, plain = elementwise(function)(x), plainly(function)(x)
    finite = np.isfinite(compiled)
    np.testing.assert_array_equal(compiled[~finite], plain[~finite])
    assert ulps(plain[finite], compiled[finite]).max() <= 1.0


@pytest.mark.parametrize("how", [elementwise, plainly])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name, how):
    x, expected = map(np.array, SPECIAL[name])
    np.testing.assert_array_equal(how(getattr(scalar, name))(x), expected)


def test_split_exponent():
    x = WHOLE_RANGE[np.isfinite(WHOLE_RANGE)]
    pairs = np.array([scalar.split_exponent(value) for value in x])
    mantissa, exponent = np.frexp(x)
    np.testing.assert_array_equal(pairs, np.array([2.0 * mantissa, exponent - 1.0]).T)


@kernel
def run_sincos(f, sine, cosine):
    for k in range(f.size):
        sine[k], cosine[k] = scalar.sincos_quarter(f[k])


def test_sincos_quarter():
    f = np.concatenate(
        [
            RNG.uniform(-0.5, 0.5, 2000),
            np.outer([-1.0, 1.0], np.exp2(RNG.uniform(-52.0, -1.0, 1000))).ravel(),
            [0.0, 0.5, -0.5, 2.0**-52, -(2.0**-52)],
        ]
    )
    sine, cosine = np.empty_like(f), np.empty_like(f)
    run_sincos(f, sine, cosine)
    with mpmath.workprec(200):
        right_angle = mpmath.pi / 2
        assert errors(lambda v: mpmath.sin(v * right_angle), sine, f).max() <= 1.0
        assert errors(lambda v: mpmath.cos(v * right_angle), cosine, f).max() <= 1.0
    plain = np.array([scalar.sincos_quarter(float(value)) for value in f]).T
    assert ulps(plain, np.array([sine, cosine])).max() <= 1.0


# --- flags ------------------------------------------------------------------------------------


@kernel
def run_two_sum(a, b, high, low):
    for k in range(a.size):
        high[k], low[k] = scalar.two_sum(a[k], b[k])


def test_two_sum_is_exact():
    a = RNG.normal(size=1000) * np.exp2(RNG.integers(-60, 60, 1000))
    b = RNG.normal(size=1000) * np.exp2(RNG.integers(-60, 60, 1000))
    high, low = np.empty_like(a), np.empty_like(a)
    run_two_sum(a, b, high, low)
    np.testing.assert_array_equal(high, a + b)
    for values in zip(a, b, high, low, strict=True):
        x, y, s, e = map(Fraction, values)
        assert x + y == s + e


# --- Philox -----------------------------------------------------------------------------------

# Known answers of Random123: counter, key, words.
PHILOX = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@kernel
def run_philox(inputs, words):
    for k in range(inputs.shape[1]):
        c0, c1, c2, c3, k0, k1 = inputs[:, k]
        words[0, k], words[1, k], words[2, k], words[3, k] = scalar.philox(c0, c1, c2, c3, k0, k1)


def test_philox_known_answers():
    inputs = np.array([counter + key for counter, key, _ in PHILOX], dtype=np.uint64)
    words = np.empty((4, len(PHILOX)), dtype=np.uint64)
    run_philox(inputs.T.copy(), words)
    expected = np.array([answer for _, _, answer in PHILOX], dtype=np.uint64)
    np.testing.assert_array_equal(words.T, expected)
    np.testing.assert_array_equal([scalar.philox(*row) for row in inputs], expected)


@kernel
def run_normal_pair(words, out):
    for k in range(words.shape[1]):
        w0, w1, w2, w3 = words[0, k], words[1, k], words[2, k], words[3, k]
        out[0, k] = scalar.uniform(w0, w1)
        out[1, k], out[2, k] = scalar.normal_pair(w0, w1, w2, w3)


def test_extreme_words_are_finite():
    ends = np.array([0, 1, 2**29, 2**31 - 1, 2**31, 2**32 - 1], dtype=np.uint64)
    words = np.array(np.meshgrid(ends, ends, ends, ends)).reshape(4, -1)
    out = np.empty((3, words.shape[1]))
    run_normal_pair(words, out)
    uniform, normals = out[0], out[1:]
    assert uniform.min() == 2.0**-53
    assert uniform.max() == 1.0
    assert np.isfinite(normals).all()
    # The largest possible radius, at angle 0. With a 32-bit word it would be 6.66.
    assert np.abs(normals).max() == pytest.approx(math.sqrt(2 * 53 * math.log(2.0)), rel=1e-12)
    word53 = ((words[0] << np.uint64(21)) | (words[1] >> np.uint64(11))).astype(object)
    assert all(Fraction(u) == Fraction(w + 1, 2**53) for u, w in zip(uniform, word53, strict=True))
    with np.errstate(over="ignore"):
        plain = np.array([scalar.normal_pair(*column) for column in words.T]).T
    assert ulps(plain, normals).max() <= 4.0
