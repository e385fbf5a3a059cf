"""Scalar maths in float32: the functions of `scalar` for float32 arguments.

Every constant is a float32: one float64 would turn the whole expression into float64. The
polynomials come from the same Remez exchange as in `scalar`. A comment beside each gives its error
as a fraction of the result; 1 ulp is at most 1.2e-7.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import scalar
from .instructions import single_exp2, single_root

f32 = np.float32
u32 = np.uint32

# x + 1.5 * 2^23 has the nearest integer to x in its low bits.
_ROUND = f32(12582912.0)
_TWO23 = f32(8388608.0)
_TWO23_BITS = u32(0x4B000000)

_LOG2E = f32(1.44269504)
# ln 2 in two parts. The first has 16 bits, so that n * _LN2_HI is exact for |n| < 2^8.
_LN2_HI = f32(0.693145751953125)
_LN2_LO = f32(1.42860682e-6)
_LN2 = f32(0.693147181)

# Slightly beyond the largest and smallest arguments with a finite, non-zero exponential.
_EXP_MAX = f32(88.73)
_EXP_MIN = f32(-104.0)
# At this argument the power of two is 2^-127; its exponent bits are 0, so the factor is 0.
_EXP_ZERO = f32(-88.0)

_ONE = f32(1.0)
_HALF = f32(0.5)


@scalar
def _exp_parts(x):
    """(exp(x) / 2^n, n), where n is the integer nearest to x / ln 2."""
    n = (x * _LOG2E + _ROUND) - _ROUND
    r = (x - n * _LN2_HI) - n * _LN2_LO
    # exp(r) = 1 + r + r^2 P(r) on |r| <= ln(2)/2. Error: 3.1e-9.
    p = f32(1.381460245e-3)
    p = p * r + f32(8.368717157e-3)
    p = p * r + f32(4.166838799e-2)
    p = p * r + f32(0.1666652063)
    p = p * r + f32(0.4999999345)
    p = p * r + _ONE
    return p * r + _ONE, n


@scalar
def exp(x: np.float32) -> np.float32:
    """Exponential, within 1 ulp, including subnormal results."""
    # These comparisons are false for NaN, so NaN passes through.
    x = _EXP_MAX if x > _EXP_MAX else x
    x = _EXP_MIN if x < _EXP_MIN else x
    y, n = _exp_parts(x)
    # 2^n as two factors: each is a normal number, even where 2^n is subnormal or infinite.
    biased = f32(n + (_ROUND + f32(254.0))).view(np.uint32) & u32(0x1FF)
    half = biased >> u32(1)
    y = y * u32(half << u32(23)).view(np.float32)
    return y * u32((biased - half) << u32(23)).view(np.float32)


@scalar
def exp_moderate(x: np.float32) -> np.float32:
    """Exponential of a number from -87 to 88, within 1 ulp."""
    y, n = _exp_parts(x)
    biased = f32(n + (_ROUND + f32(127.0))).view(np.uint32)
    return y * u32(biased << u32(23)).view(np.float32)


@scalar
def exp_normal(x: np.float32) -> np.float32:
    """Exponential for x below 88: within 1 ulp if it is a normal number, 0 if it is smaller."""
    return exp_moderate(_EXP_ZERO if x < _EXP_ZERO else x)


@scalar
def exp_quickly(x: np.float32) -> np.float32:
    """Exponential within 2^-21 + 2^-23 |x|; 0 below 2^-126. Takes two instructions on a device."""
    return single_exp2(x * _LOG2E)


_MANTISSA = u32(0x007FFFFF)
_SQRT_HALF_BITS = u32(0x3F3504F3)
# Added before the bits of sqrt(1/2) are subtracted, so that the difference stays positive.
_EXPONENT_BIAS = u32(127 << 23)


@scalar
def _split(x):
    """(k, f) such that x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2)), for a positive normal x."""
    bits = u32(f32(x).view(np.uint32) + (_EXPONENT_BIAS - _SQRT_HALF_BITS))
    k = u32((bits >> u32(23)) | _TWO23_BITS).view(np.float32) - (_TWO23 + f32(127.0))
    return k, u32((bits & _MANTISSA) + _SQRT_HALF_BITS).view(np.float32) - _ONE


@scalar
def _join(k, f):
    """log(2^k (1 + f))."""
    # log(1 + f) = f - f^2/2 + f^3 P(f). Error: 5.8e-9. The float64 log has a division; this one
    # avoids it, as a division takes as long as eight products.
    p = f32(-0.07633727816)
    p = p * f + f32(0.1276054083)
    p = p * f - f32(0.1315996433)
    p = p * f + f32(0.1420187706)
    p = p * f - f32(0.1662339077)
    p = p * f + f32(0.2000122334)
    p = p * f - f32(0.2500082008)
    p = p * f + f32(0.3333333173)
    p = p * f - _HALF
    return k * _LN2 + (f + f * f * p)


@scalar
def log_positive(x: np.float32) -> np.float32:
    """Natural logarithm of a positive, normal, finite number, within 1 ulp, also near 1."""
    k, f = _split(x)
    return _join(k, f)


@scalar
def log1p(x: np.float32) -> np.float32:
    """log(1 + x) for x >= 0, within 2 ulp."""
    u = _ONE + x
    # Corrects the rounding error of 1 + x, to first order. At x = inf the correction is NaN.
    correction = (x - (u - _ONE)) / u
    y = log_positive(u)
    return y + correction if u < f32(np.inf) else u


@scalar
def sincos_right_angles(f: np.float32) -> tuple[np.float32, np.float32]:
    """(sin, cos) of f right angles for |f| <= 1; the cosine's error is at most 2^-23."""
    z = f * f
    # sin(f pi/2) = f + f S(z). Error: 5.3e-9.
    s = f32(1.514842457e-4)
    s = s * z - f32(4.673765021e-3)
    s = s * z + f32(7.968967806e-2)
    s = s * z - f32(0.6459637105)
    s = s * z + f32(0.5707963185)
    # cos(f pi/2) = (1 - f^2) C(z). Error: 9.8e-10. Near a zero, this form keeps the digits of f.
    c = f32(2.358787121e-5)
    c = c * z - f32(8.935097269e-4)
    c = c * z + f32(1.996858997e-2)
    c = c * z - f32(0.233700503)
    c = c * z + _ONE
    return f + f * s, (_ONE - f * f) * c


# The first 32 bits of sqrt(1/2).
_SQRT_HALF_WORD = u32(0xB504F333)


@scalar
def radius_argument(kind, high, low):
    """`scalar.uniform` u of two words as a float32 that keeps its digits near 0 and near 1.

    Returns u if u is below sqrt(1/2). Otherwise it returns u - 1, which is not positive.
    """
    high, low = u32(high), u32(low)
    # A word from 2^31 on, read as a signed integer, is the word minus 2^32.
    whole = f32(high.view(np.int32)) if high >= _SQRT_HALF_WORD else f32(high)
    rest = f32(u32(u32(low >> u32(11)) + u32(1)).view(np.int32))
    return (whole + rest * f32(2.0**-21)) * f32(2.0**-32)


@scalar
def radius(t):
    """Radius of a pair of standard normals; t is a `radius_argument`."""
    near_one = t <= f32(0.0)
    k, f = _split(_ONE if near_one else t)
    return single_root(f32(-2.0) * _join(k, t if near_one else f))


@scalar
def angle_bits(kind, high, low):
    """32 random bits. A second word would change the angle by 2^-30 of a right angle at most."""
    return u32(high)


_FIRST_BIT = u32(1 << 31)
_EIGHTH = u32(1 << 29)
_QUARTER_AND_HALF_A_BIT = u32((1 << 32) - (1 << 30) + 1)


@scalar
def point_at(r, angle):
    """(r cos, r sin) of an angle; its 32 random bits are the upper 32 of the angle in `scalar`.

    The angle is (bits + 1/2) 2^-32 - 1/8 turns. It is reduced by half turns; one half turn changes
    both signs. Exchanging sine and cosine, as `scalar.point_at` does, would keep more digits near
    the zeros of the cosine. The radius does not have so many digits, so this is not worth it.
    """
    # Twice the angle as a signed integer around 0: only the remainder beside a whole number of
    # half turns becomes a float.
    f = u32(u32(angle << u32(1)) + _QUARTER_AND_HALF_A_BIT)
    s, c = sincos_right_angles(f32(u32(f).view(np.int32)) * f32(2.0**-31))
    r = u32(f32(r).view(np.uint32) ^ (u32(angle + _EIGHTH) & _FIRST_BIT)).view(np.float32)
    return r * c, r * s
