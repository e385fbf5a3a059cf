"""Scalar maths: exp, log, sine and cosine, Philox. Plain Python, without branches.

Every function takes and returns scalars. It has no branch (a select is not a branch), every call
is inlined, and it needs no conversion between integers and floats that AVX2 lacks. So a loop around
it vectorises. The same source runs as plain Python, under numba on a CPU, and on a GPU.

No function adds two products, unless they are exact. In ``a b + c d``, a compiler that contracts
may fuse either product into the addition. The surrounding code would decide which one, and the last
bit would depend on it.

The polynomials are minimax approximations (Remez exchange in 60 digits). A comment beside each
gives its error as a fraction of the result; 1 ulp is at most 2.2e-16.

Functions that blocks need in both precisions are `by_precision`: float64 here, float32 in
`scalar32`.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit.compile import by_precision, scalar
from . import scalar32
from .instructions import wide_product

# --- floating point -------------------------------------------------------------------------

# x + 1.5 * 2^52 has the nearest integer to x in its low bits. This rounding always vectorises and
# never raises.
_ROUND = 6755399441055744.0
_TWO52 = 4503599627370496.0
_TWO52_BITS = np.uint64(0x4330000000000000)

_LOG2E = 1.4426950408889634
# ln 2 in two parts. The first ends in 20 zero bits, so that n * _LN2_HI is exact for |n| < 2^20.
_LN2_HI = 0.6931471803691238
_LN2_LO = 1.9082149292705877e-10

# Slightly beyond the largest and smallest arguments with a finite, non-zero exponential.
_EXP_MAX = 709.79
_EXP_MIN = -745.2
# At this argument the power of two is 2^-1023; its exponent bits are 0, so the factor is 0.
_EXP_ZERO = -709.0
_ROUND_BIASED = _ROUND + 1023.0


@scalar
def exp_tail(r):
    """P(r) of exp(r) = 1 + r + r^2 P(r) on |r| <= ln(2)/2."""
    # Error of exp(r): 8.8e-18 for r < 0; 1.8e-17 for r > 0, where an ulp is twice as large.
    p = 2.5086968622116385707e-8
    p = p * r + 2.7625781016617833178e-7
    p = p * r + 2.7557308891482639726e-6
    p = p * r + 2.4801506001624868057e-5
    p = p * r + 1.9841269820376834275e-4
    p = p * r + 1.3888888930858248159e-3
    p = p * r + 8.3333333333482890627e-3
    p = p * r + 4.1666666666579438937e-2
    p = p * r + 0.16666666666666642062
    return p * r + 0.50000000000000048656


@scalar
def beside_multiple(x, n):
    """x - n ln 2 for an integer n below 2^20."""
    return (x - n * _LN2_HI) - n * _LN2_LO


@scalar
def _exp_beside(x, n):
    """exp(x) / 2^n, where n is the integer nearest to x / ln 2."""
    r = beside_multiple(x, n)
    p = exp_tail(r) * r + 1.0
    return p * r + 1.0


@scalar
def times_power(y, n):
    """2^n y for an integer n in [-1075, 1024]."""
    # 2^n as two factors: each is a normal number, even where 2^n is subnormal or infinite.
    biased = np.float64(n + (_ROUND + 2046.0)).view(np.uint64) & np.uint64(0xFFF)
    half = biased >> np.uint64(1)
    y = y * np.uint64(half << np.uint64(52)).view(np.float64)
    return y * np.uint64((biased - half) << np.uint64(52)).view(np.float64)


@by_precision(scalar32.exp)
def exp(x: float) -> float:
    """Exponential, within 1 ulp, including subnormal results."""
    # These comparisons are false for NaN, so NaN passes through.
    x = _EXP_MAX if x > _EXP_MAX else x
    x = _EXP_MIN if x < _EXP_MIN else x
    n = (x * _LOG2E + _ROUND) - _ROUND
    return times_power(_exp_beside(x, n), n)


@by_precision(scalar32.exp_moderate)
def exp_moderate(x: float) -> float:
    """Exponential, within 1 ulp, of a number from -708 to 709 (from -87 to 88 in single precision).

    The function does not check the number.
    """
    # One rounding gives both n and its exponent bits.
    biased = x * _LOG2E + _ROUND_BIASED
    y = _exp_beside(x, biased - _ROUND_BIASED)
    return y * np.uint64(np.float64(biased).view(np.uint64) << np.uint64(52)).view(np.float64)


@by_precision(scalar32.exp_normal)
def exp_normal(x: float) -> float:
    """Exponential, within 1 ulp if it is a normal number; 0 if it is smaller.

    For weights that are added to a weight of 1: smaller ones change nothing. The function does not
    check that x is below 709.
    """
    return exp_moderate(_EXP_ZERO if x < _EXP_ZERO else x)


@by_precision(scalar32.exp_quickly)
def exp_quickly(x: float) -> float:
    """The fastest exponential of its precision, for x below 709 (below 88 in single precision)."""
    return exp_normal(x)


_MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
_SQRT_HALF_BITS = np.uint64(0x3FE6A09E667F3BCD)
# Added before the bits of sqrt(1/2) are subtracted, so that the difference stays positive.
_EXPONENT_BIAS = np.uint64(1023 << 52)
_ONE_BITS = np.uint64(0x3FF0000000000000)
_NAN = float("nan")
_TINY = 2.2250738585072014e-308
_TWO54 = 18014398509481984.0


@scalar
def bits_near_one(x):
    """Bits of x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), less the smallest: exponent k."""
    return np.float64(x).view(np.uint64) + (_EXPONENT_BIAS - _SQRT_HALF_BITS)


@scalar
def split_near_one(x):
    """(k, f) such that x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); x as in `log_positive`."""
    bits = bits_near_one(x)
    k = np.uint64((bits >> np.uint64(52)) | _TWO52_BITS).view(np.float64) - (_TWO52 + 1023.0)
    return k, np.uint64((bits & _MANTISSA) + _SQRT_HALF_BITS).view(np.float64) - 1.0


@scalar
def log_tail(z):
    """R(z) of log(1 + f) = 2 s + s z R(z), with s = f / (2 + f) and z = s^2."""
    # Error of log(1 + f): 9.1e-18.
    p = 0.14619097411090310848
    p = p * z + 0.15331497695876502154
    p = p * z + 0.18182896211173212454
    p = p * z + 0.22222211031671440689
    p = p * z + 0.28571428626652149343
    p = p * z + 0.39999999999897885324
    return p * z + 0.66666666666666697487


@scalar
def log_beside(k, f):
    """k ln 2 + log(1 + f), for an integer k and 1 + f in [sqrt(1/2), sqrt(2)]."""
    s = f / (2.0 + f)
    z = s * s
    p = log_tail(z)
    # 2 s = f - s f. Written with f^2/2, so that the rounded s enters only the small terms.
    half = 0.5 * f * f
    return k * _LN2_HI - (((half - s * (half + z * p)) - k * _LN2_LO) - f)


@by_precision(scalar32.log_positive)
def log_positive(x: float) -> float:
    """Natural logarithm of a positive, normal, finite number, within 1 ulp, also near 1."""
    k, f = split_near_one(x)
    return log_beside(k, f)


@scalar
def split_exponent(x: float) -> tuple[float, float]:
    """(m, k) such that x = 2^k m, with m in [1, 2), for a positive, normal, finite x."""
    bits = np.float64(x).view(np.uint64)
    k = np.uint64((bits >> np.uint64(52)) | _TWO52_BITS).view(np.float64) - (_TWO52 + 1023.0)
    return np.uint64((bits & _MANTISSA) | _ONE_BITS).view(np.float64), k


@scalar
def log(x: float) -> float:
    """Natural logarithm of any number: -inf at 0, NaN below 0."""
    small = x < _TINY
    y = log_positive(x * _TWO54 if small else x)
    y = y - 54.0 * 0.6931471805599453 if small else y
    y = x if x == np.inf else y
    y = -np.inf if x == 0.0 else y
    return y if x >= 0.0 else _NAN


@by_precision(scalar32.log1p)
def log1p(x: float) -> float:
    """log(1 + x) for x >= 0, within 2 ulp."""
    u = 1.0 + x
    # Corrects the rounding error of 1 + x, to first order. At x = inf the correction is NaN.
    correction = (x - (u - 1.0)) / u
    y = log(u)
    return y + correction if u < np.inf else y


# pi/2 in two parts.
_HALF_PI = 1.5707963267948966
_HALF_PI_LO = 6.123233995736766e-17


@scalar
def sincos_quarter(f: float) -> tuple[float, float]:
    """(sin, cos) of f pi/2 for |f| <= 1/2, within 1 ulp; near 0, the sine's error is relative."""
    z = f * f
    # sin(f pi/2) = f (pi/2 + z S(z)). Error: 2.0e-17.
    s = 5.6422251022788126212e-8
    s = s * z - 3.5987029524150498366e-6
    s = s * z + 1.6044116661508994389e-4
    s = s * z - 4.6817541342543573762e-3
    s = s * z + 7.9692626246144245123e-2
    s = s * z - 0.64596409750624617451
    sine = f + f * ((z * s + _HALF_PI_LO) + (_HALF_PI - 1.0))
    # cos(f pi/2) = 1 + z C(z). Error: 1.2e-19.
    c = -6.3293947513221506999e-9
    c = c * z + 4.710678397114688088e-7
    c = c * z - 2.5202039027893448578e-5
    c = c * z + 9.1926027454684004846e-4
    c = c * z - 2.0863480763340773021e-2
    c = c * z + 0.25366950790104782324
    c = c * z - 1.2337005501361698269
    return sine, 1.0 + z * c


@scalar
def two_sum(a, b):
    """The rounded sum of a and b, and its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


# --- random numbers -------------------------------------------------------------------------

_U32 = np.uint64(0xFFFFFFFF)
_S32 = np.uint64(32)
_PHILOX_M0 = np.uint64(0xD2511F53)
_PHILOX_M1 = np.uint64(0xCD9E8D57)
_PHILOX_W0 = np.uint64(0x9E3779B9)
_PHILOX_W1 = np.uint64(0xBB67AE85)


@scalar
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 (Salmon et al., 2011): four random words from four counter and two key words.

    A 32-bit word is the lower half of a uint64; the upper half may hold other bits. A
    multiplication reads the lower half only, so truncation costs nothing.
    """
    for _ in range(10):
        p0 = wide_product(_PHILOX_M0, c0)
        p1 = wide_product(_PHILOX_M1, c2)
        c0 = (p1 >> _S32) ^ c1 ^ k0
        c1 = p1
        c2 = (p0 >> _S32) ^ c3 ^ k1
        c3 = p0
        k0 = (k0 + _PHILOX_W0) & _U32
        k1 = (k1 + _PHILOX_W1) & _U32
    return c0 & _U32, c1 & _U32, c2 & _U32, c3 & _U32


_FIRST_BIT = np.uint64(1 << 63)
_SECOND_BIT = np.uint64(1 << 62)
# Purpose of a Philox call: part of its address.
NORMAL = np.uint64(0)
CHOICE = np.uint64(1)
GAMMA_NORMAL = np.uint64(2)
GAMMA_UNIFORM = np.uint64(3)
SHIFT = np.uint64(4)
SCRAMBLE = np.uint64(5)
PERMUTE = np.uint64(6)


@scalar
def random_words(key, index, draw, pair, purpose, attempt):
    """Four words at an address: draw 40 bits, pair 24, data point 32, purpose 8, attempt 8."""
    return philox(
        draw & _U32,
        (draw >> _S32) | (pair << np.uint64(8)),
        index,
        purpose | (attempt << np.uint64(8)),
        key & _U32,
        key >> _S32,
    )


@scalar
def word53(high, low):
    """An integer of 53 random bits, from two words."""
    return (high << np.uint64(21)) | (low >> np.uint64(11))


# 2^20, whose mantissa ends at 2^-32, and 2^-12, whose mantissa ends at 2^-64. The second has 2^-53
# more.
_ABOVE = np.uint64(0x4130000000000000)
_BELOW = np.uint64(0x3F30000000000800)
_UPPER_21 = np.uint64(0xFFFFF800)


@scalar
def uniform(high, low):
    """(word53 + 1) / 2^53, exactly: in (0, 1], never 0."""
    # AVX2 has no conversion of integers. Words become mantissas, at their places; nothing here is
    # rounded.
    a = np.uint64(high | _ABOVE).view(np.float64) - (2.0**20 + 2.0**-12)
    return a + np.uint64((low & _UPPER_21) + _BELOW).view(np.float64)


@by_precision(scalar32.radius_argument)
def radius_argument(kind, high, low):
    """The argument of `radius` in the precision of ``kind``; in float64, `uniform` of the words."""
    return uniform(high, low)


@by_precision(scalar32.radius)
def radius(u):
    """Radius of a pair of standard normals; u is uniform in (0, 1] (Box and Muller, 1958)."""
    return math.sqrt(-2.0 * log_positive(u))


@by_precision(scalar32.point_at)
def point_at(r, angle):
    """(r cos, r sin) of an angle; the angle is 64 random bits.

    The angle is quadrant + f right angles: two bits give the quadrant, 52 bits give f in
    [-1/2, 1/2). It is never rounded to one float: its cosine would be many ulp wrong near a zero.
    """
    f = _ONE_BITS | ((angle >> np.uint64(10)) & _MANTISSA)
    s, c = sincos_quarter(np.uint64(f).view(np.float64) - 1.5)
    odd = (angle & _SECOND_BIT) != np.uint64(0)
    x = s if odd else c
    y = c if odd else s
    # Signs in the four quadrants: cosine + - - +, sine + + - -.
    x = np.uint64(np.float64(r * x).view(np.uint64) ^ ((angle + _SECOND_BIT) & _FIRST_BIT))
    y = np.uint64(np.float64(r * y).view(np.uint64) ^ (angle & _FIRST_BIT))
    return x.view(np.float64), y.view(np.float64)


@by_precision(scalar32.angle_bits)
def angle_bits(kind, high, low):
    """64 random bits from two words; for a ``kind`` of float32, only 32 bits."""
    return (high << _S32) | low


@scalar
def normal_pair(w0, w1, w2, w3):
    """Two standard normals from four words."""
    r = radius(uniform(w0, w1))
    return point_at(r, angle_bits(r, w2, w3))
