"""Constants of Student-t distributions, without differences of large log-Gammas or digammas.

For a large df, such differences cancel. Here a whole step of the Gamma function is a term of a sum,
and a half step is a series. All hold at df = inf, where they are those of a Gaussian.
"""

from __future__ import annotations

import math

import numpy as np

from ..validation import Floats

_LOG_2PI = math.log(2.0 * math.pi)
# Steps before the series, so that its argument is at least this large.
_SHIFT = 16
# log(Gamma(b + 1/2) / (Gamma(b) sqrt(b))) = sum c / b^p for p = 1, 3, ...; c = (2^-p - 2) B_(p+1) /
# (p (p + 1)) with Bernoulli numbers B (DLMF 5.11.8). Error at b = 16: 3e-18.
_SERIES = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336, -31 / 18432, 691 / 180224)
# b (digamma(b + 1/2) - digamma(b)) - 1/2 = sum -p c / b^p: the derivative.
_SLOPES = tuple(-(2 * place + 1) * c for place, c in enumerate(_SERIES))


@np.errstate(under="ignore")
def log_const(df: Floats, dim: int) -> Floats:
    """log of Gamma((df + D)/2) / (Gamma(df/2) (df pi)^(D/2))."""
    half = 0.5 * np.asarray(df)
    result = np.full(half.shape, -0.5 * dim * _LOG_2PI)
    for step in range(dim // 2):
        result = result + np.log1p(step / half)
    if dim % 2:
        steps = dim // 2
        result = result + (_log_half_step(half + steps) + 0.5 * np.log1p(steps / half))
    return np.asarray(result)


@np.errstate(under="ignore")
def entropy_excess(df: Floats, dim: int) -> Floats:
    """(df + D)/2 (digamma((df + D)/2) - digamma(df/2)), which is D/2 at df = inf."""
    half, power = 0.5 * np.asarray(df), 0.5 * dim
    # A whole step from b adds 1 / b, and (df/2 + D/2) / b = 1 + (D/2 - step) / b.
    result = np.zeros(half.shape)
    for step in range(dim // 2):
        result = result + (1.0 + (power - step) / (half + step))
    if dim % 2:
        start = half + dim // 2
        result = result + (1.0 + 0.5 / start) * _scaled_half_step(start)
    return np.asarray(result)


def _log_half_step(b: Floats) -> Floats:
    """log(Gamma(b + 1/2) / (Gamma(b) sqrt(b)))."""
    result = _odd_series(_SERIES, b + _SHIFT) + 0.5 * np.log1p(_SHIFT / b)
    for step in range(_SHIFT):
        result = result + np.log1p(-0.5 / (b + step + 0.5))
    return np.asarray(result)


def _scaled_half_step(b: Floats) -> Floats:
    """b (digamma(b + 1/2) - digamma(b)), which is 1/2 at b = inf."""
    # b / (b + k) is written as 1 / (1 + k / b), which holds at b = inf.
    result = (0.5 + _odd_series(_SLOPES, b + _SHIFT)) / (1.0 + _SHIFT / b)
    for step in range(_SHIFT):
        result = result + 0.5 / ((1.0 + step / b) * (b + step + 0.5))
    return np.asarray(result)


def _odd_series(terms: tuple[float, ...], b: Floats) -> Floats:
    """sum of terms[j] / b^(2 j + 1)."""
    inverse = 1.0 / b
    square, result = inverse * inverse, np.zeros_like(b)
    for term in reversed(terms):
        result = result * square + term
    return np.asarray(result * inverse)
