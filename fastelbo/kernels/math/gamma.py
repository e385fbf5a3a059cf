"""The logarithm of the gamma function and its derivative, under the rules of `scalar`.

The polynomials interpolate at the Chebyshev points, in 60 digits; a comment gives the error.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit.compile import scalar
from .scalar import log

_HALF_LOG_2PI = 0.9189385332046728
_NAN = float("nan")


@scalar
def _lgamma_near_two(d):
    """lgamma(2 + d) / d for |d| <= 1/2. Error: 2.4e-17 of the value."""
    p = 6.379047507619774e-08
    p = p * d - 1.3412819758517287e-07
    p = p * d + 2.0304806751615227e-07
    p = p * d - 4.303558760359961e-07
    p = p * d + 9.578663334114758e-07
    p = p * d - 2.0449201467015115e-06
    p = p * d + 4.374374916915131e-06
    p = p * d - 9.438458716242811e-06
    p = p * d + 2.050726741605779e-05
    p = p * d - 4.4926351103833334e-05
    p = p * d + 9.945750909889392e-05
    p = p * d - 0.00022315475074520367
    p = p * d + 0.0005096695248853096
    p = p * d - 0.0011927539120010226
    p = p * d + 0.002890510330738737
    p = p * d - 0.0073855510286681535
    p = p * d + 0.02058080842778457
    p = p * d - 0.06735230105319814
    p = p * d + 0.3224670334241132
    return p * d + 0.42278433509846713


@scalar
def _stirling(t):
    """P(t) of lgamma(x) = (x - 1/2) log(x) - x + log(2 pi)/2 + P(t) / x, t = 1/x^2, x >= 5.5.

    Error of P(t) / x: 1.4e-17.
    """
    p = 0.0040186385807453665
    p = p * t - 0.0018215562085973373
    p = p * t + 0.0008397118334714124
    p = p * t - 0.0005952152496136757
    p = p * t + 0.0007936506700323106
    p = p * t - 0.0027777777775246626
    return p * t + 0.08333333333333325


@scalar
def libm_lgamma(x):
    """The C library's lgamma: inf at the poles."""
    if x <= 0.0 and np.floor(x) == x:
        return np.inf
    return math.lgamma(x)


@scalar
def lgamma(x: float) -> float:
    """log |gamma(x)|, within 5 ulp for x > 0, near the zeros at 1 and 2, too."""
    # For x < 5.5: x = 2 + d + steps, and the recurrence gives a product under the logarithm.
    low = x < 0.5
    below = x < 1.5
    y = x
    product = 1.0
    for bound in (4.5, 3.5, 2.5):
        above = y >= bound
        y = y - 1.0 if above else y
        product = product * y if above else product
    product = x if below else product
    product = x * (x + 1.0) if low else product
    # 1 and 2 are subtracted from x itself: exactly.
    d = y - 2.0
    d = x - 1.0 if below else d
    d = x if low else d
    large = x >= 5.5
    lx = log(x if large else product)
    near = d * _lgamma_near_two(d) + (-lx if below else lx)
    r = 1.0 / x
    far = ((x - 0.5) * (lx - 1.0) + (_HALF_LOG_2PI - 0.5)) + r * _stirling(r * r)
    z = far if large else near
    z = x if x == np.inf else z
    return libm_lgamma(x) if x <= 0.0 else z


@scalar
def _digamma_tail(t):
    """P(t) of digamma(x) = log(x) - 1/(2x) - t P(t), t = 1/x^2, x >= 6. Error: 9.1e-18."""
    p = 0.05278357044405221
    p = p * t - 0.02005781244262451
    p = p * t + 0.007557240323462052
    p = p * t - 0.004166492133359842
    p = p * t + 0.003968253174193183
    p = p * t - 0.008333333331966718
    return p * t + 0.08333333333333294


@scalar
def digamma(x: float) -> float:
    """The derivative of lgamma for x > 0, within 2e-15 or 4 ulp, the larger; NaN for x <= 0."""
    small = x < 6.0
    # digamma(x) = digamma(x + 6) - sum_k 1/(x + k). The sum is one fraction in a = x (x + 5), as
    # (x + 1) (x + 4) = a + 4 and (x + 2) (x + 3) = a + 6.
    a = x * (x + 5.0)
    above = (3.0 * a + 20.0) * a + 24.0
    fraction = (x + x + 5.0) * (above / (a * (a + 4.0) * (a + 6.0)))
    y = x + 6.0 if small else x
    r = 1.0 / y
    t = r * r
    z = (log(y) - 0.5 * r) - t * _digamma_tail(t)
    z = z - fraction if small else z
    return z if x > 0.0 else _NAN
