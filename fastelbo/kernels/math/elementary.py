"""More functions of one number: expm1, exp2, log1p, log2, log10, tanh, pow, sin, cos, tan.

The rules are those of `scalar`: no branch, no sum of two inexact products. They stand on its
polynomials. A function named ``libm_...`` is called for the few arguments that a formula does not
cover; vectors call it for the lanes that need it alone.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit.compile import scalar
from .scalar import (
    beside_multiple,
    bits_near_one,
    exp,
    exp_tail,
    log,
    log_beside,
    sincos_quarter,
    split_near_one,
    times_power,
    two_sum,
)

_ROUND = 6755399441055744.0
_NAN = float("nan")
_LOG2E = 1.4426950408889634
_LOG10E = 0.4342944819032518
_LN2 = 0.6931471805599453
# In two parts, the first with 20 zero bits, as in `scalar`.
_LN2_HI = 0.6931471803691238
_LN2_LO = 1.9082149292705877e-10
# Below this, x + x^2 rounds to x.
_EPSILON = 1e-17
_TINY = 2.2250738585072014e-308
_TWO54 = 18014398509481984.0
# The upper 26 bits of a float: the product of two such heads is exact.
_HEAD = np.uint64(0xFFFFFFFFF8000000)
_SIGN = np.uint64(1 << 63)
_EXPONENT = np.uint64(0x7FF << 52)
# The exponent of 4, and the bias of another.
_FOUR = np.uint64((1025 + 1023) << 52)


@scalar
def head(x):
    """x without the lower 27 bits."""
    return np.uint64(np.float64(x).view(np.uint64) & _HEAD).view(np.float64)


@scalar
def expm1(x: float) -> float:
    """exp(x) - 1, within 2 ulp."""
    y = 709.79 if x > 709.79 else x
    y = -40.0 if y < -40.0 else y
    n = (y * _LOG2E + _ROUND) - _ROUND
    r = beside_multiple(y, n)
    near = r + r * r * exp_tail(r)
    # 2^n (near + 1) - 1, in halves: 2^1024 is no float.
    power = times_power(0.5, n)
    y = power * near + (power - 0.5)
    return x if abs(x) < _EPSILON else y + y


@scalar
def exp2(x: float) -> float:
    """2^x, within 1 ulp."""
    y = 1024.0 if x > 1024.0 else x
    y = -1075.5 if y < -1075.5 else y
    n = (y + _ROUND) - _ROUND
    r = (y - n) * _LN2
    p = exp_tail(r) * r + 1.0
    return times_power(p * r + 1.0, n)


@scalar
def log1p_signed(x: float) -> float:
    """log(1 + x) of any number, within 2 ulp."""
    u = 1.0 + x
    k, _ = split_near_one(u)
    # 4 / 2^k, which is never subnormal.
    bits = _FOUR - (bits_near_one(u) & _EXPONENT)
    power = np.uint64(bits).view(np.float64)
    # (1 + x) / 2^k - 1, rounded once: the other operations are exact where they matter.
    f = (0.25 * x) * power + (0.25 * power - 1.0)
    y = log_beside(k, f)
    y = y if x < np.inf else x
    y = y if x > -1.0 else (-np.inf if x == -1.0 else _NAN)
    return x if abs(x) < _EPSILON else y


@scalar
def _log2_near(f):
    """log2(1 + f)."""
    return log(1.0 + f) * _LOG2E


@scalar
def log2(x: float) -> float:
    """Logarithm to base 2, within 2 ulp; exact for powers of two."""
    small = x < _TINY
    k, f = split_near_one(x * _TWO54 if small else x)
    y = (k - 54.0 if small else k) + _log2_near(f)
    y = y if x < np.inf else x
    y = -np.inf if x == 0.0 else y
    return y if x >= 0.0 else _NAN


@scalar
def log10(x: float) -> float:
    """Logarithm to base 10, within 2 ulp."""
    return log(x) * _LOG10E


@scalar
def tanh(x: float) -> float:
    """Hyperbolic tangent, within 3 ulp."""
    a = abs(x)
    m = expm1(44.0 if a > 22.0 else a + a)
    y = m / (m + 2.0)
    y = -y if x < 0.0 else y
    return x if a < 1e-9 else y


# --- powers ---------------------------------------------------------------------------------


@scalar
def _log_tail_for_powers(z):
    """`log_tail` with one term more: an exponent multiplies its error, which is 5.4e-19 here."""
    p = 0.13086767009948175
    p = p * z + 0.13268759668560612
    p = p * z + 0.15386240205813478
    p = p * z + 0.18181795630884753
    p = p * z + 0.2222222239180047
    p = p * z + 0.2857142857080323
    p = p * z + 0.4000000000000088
    return p * z + 0.6666666666666666


@scalar
def _log_parts(x, offset):
    """log(x) + offset log(2) as a sum of two floats; x is positive, normal and finite."""
    k, f = split_near_one(x)
    k = k + offset
    d = 2.0 + f
    # s = f / (2 + f) as s1 + s2. All products here are of heads, and exact.
    s1 = head(f / d)
    d1 = head(d)
    s2 = ((f - s1 * d1) - s1 * (f - (d1 - 2.0))) / d
    s = s1 + s2
    z = s * s
    high, low = two_sum(k * _LN2_HI, s1 + s1)
    low = low + (s2 + s2)
    low = s * (z * _log_tail_for_powers(z)) + low
    low = k * _LN2_LO + low
    total = high + low
    return total, low - (total - high)


@scalar
def pow(x: float, y: float) -> float:
    """x^y, within 1.2 + |log(x^y)| / 20 ulp."""
    a = abs(x)
    small = a < _TINY
    high, low = _log_parts(a * _TWO54 if small else a, -54.0 if small else 0.0)
    high = high if a < np.inf else a
    high = -np.inf if a == 0.0 else high
    # y log(x) as a sum of two floats. The products that matter are exact.
    y1 = head(y)
    h1 = head(high)
    rest = y1 * (high - h1) + (y - y1) * h1
    rest = (y - y1) * (high - h1) + rest
    rest = y * low + rest
    p, e = two_sum(y1 * h1, rest)
    whole = 0.0 if high == 0.0 else y * high
    # It is NaN where a factor is infinite.
    near = abs(p) < 1000.0
    p = p if near else whole
    e = e if near else 0.0
    r = exp(p)
    r = r + r * e if r < np.inf else r
    # A negative base.
    half = 0.5 * y
    negated = -r if np.floor(half) != half else r
    fraction = r if a == 0.0 else (r if a == np.inf else _NAN)
    negated = negated if np.floor(y) == y else fraction
    negative = (np.float64(x).view(np.uint64) & _SIGN) != np.uint64(0)
    r = negated if negative else r
    r = 1.0 if x == 1.0 else r
    return 1.0 if y == 0.0 else (x if x != x else r)


# --- angles ---------------------------------------------------------------------------------

# pi/2 in four parts. Three have 33 bits, so that their products with integers below 2^20 are exact.
_HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32)
_HALF_PI_0, _HALF_PI_1, _HALF_PI_2, _HALF_PI_3 = _HALF_PI
_TWO_BY_PI = 0.6366197723675814
# Beyond this the reduction loses bits.
_FAR = 1e6
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_TO_SIGN = np.uint64(62)


@scalar
def libm_sin(x):
    """The C library's sine."""
    return math.sin(x) if abs(x) < np.inf else _NAN


@scalar
def libm_cos(x):
    """The C library's cosine."""
    return math.cos(x) if abs(x) < np.inf else _NAN


@scalar
def libm_tan(x):
    """The C library's tangent."""
    return math.tan(x) if abs(x) < np.inf else _NAN


@scalar
def _sincos(x):
    """(n, sin, cos): n right angles, as an integer's bits, and sine and cosine of the rest."""
    n = (x * _TWO_BY_PI + _ROUND) - _ROUND
    high, low = two_sum(x - n * _HALF_PI_0, -(n * _HALF_PI_1))
    low = (low - n * _HALF_PI_2) - n * _HALF_PI_3
    sine, cosine = sincos_quarter((high + low) * _TWO_BY_PI)
    return np.float64(n + _ROUND).view(np.uint64), sine, cosine


@scalar
def sin(x: float) -> float:
    """Sine, within 3 ulp."""
    n, s, c = _sincos(x)
    y = c if (n & _ONE) != np.uint64(0) else s
    bits = np.float64(y).view(np.uint64) ^ ((n & _TWO) << _TO_SIGN)
    y = np.uint64(bits).view(np.float64)
    y = x if abs(x) < 1e-9 else y
    return libm_sin(x) if abs(x) > _FAR else y


@scalar
def cos(x: float) -> float:
    """Cosine, within 3 ulp."""
    n, s, c = _sincos(x)
    y = s if (n & _ONE) != np.uint64(0) else c
    bits = np.float64(y).view(np.uint64) ^ (((n + _ONE) & _TWO) << _TO_SIGN)
    y = np.uint64(bits).view(np.float64)
    return libm_cos(x) if abs(x) > _FAR else y


@scalar
def tan(x: float) -> float:
    """Tangent, within 4 ulp."""
    n, s, c = _sincos(x)
    odd = (n & _ONE) != np.uint64(0)
    y = (c if odd else s) / (-s if odd else c)
    y = x if abs(x) < 1e-9 else y
    return libm_tan(x) if abs(x) > _FAR else y
