"""Differences of log gamma functions, without the cancellation of large terms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.math.everywhere import lgamma, select
from .calls import compiled

# From here on the asymptotic series below are exact to rounding.
_LARGE = 12.0


@compiled
def _stirling(x: Any) -> Any:
    """lgamma(x) - (x - 1/2) log(x) + x - log(2 pi)/2 for x >= 12."""
    r = 1.0 / x
    t = r * r
    p = -691.0 / 360360.0
    p = p * t + 1.0 / 1188.0
    p = p * t - 1.0 / 1680.0
    p = p * t + 1.0 / 1260.0
    p = p * t - 1.0 / 360.0
    p = p * t + 1.0 / 12.0
    return p * r


@compiled
def log_beta(a: Any, b: Any) -> Any:
    """log of the beta function of positive numbers: lgamma(a) + lgamma(b) - lgamma(a + b)."""
    small, large = np.minimum(a, b), np.maximum(a, b)
    total = small + large
    direct = lgamma(large) - lgamma(total)
    q = select(large < _LARGE, _LARGE, large)
    s = select(large < _LARGE, _LARGE, total)
    # (q - 1/2) log(q) - q less the same of s = q + small.
    series = small * (1.0 - np.log(s)) - (q - 0.5) * np.log1p(small / q)
    series = series + (_stirling(q) - _stirling(s))
    return lgamma(small) + select(large < _LARGE, direct, series)


@compiled
def log_gamma_step(a: Any) -> Any:
    """lgamma(a + 1/2) - lgamma(a) - log(a)/2 for a > 0: it goes to 0 for large a."""
    direct = lgamma(a + 0.5) - lgamma(a) - 0.5 * np.log(a)
    r = 1.0 / select(a < _LARGE, _LARGE, a)
    t = r * r
    p = 691.0 / 180224.0
    p = p * t - 31.0 / 18432.0
    p = p * t + 17.0 / 14336.0
    p = p * t - 1.0 / 640.0
    p = p * t + 1.0 / 192.0
    p = p * t - 1.0 / 8.0
    return select(a < _LARGE, direct, p * r)
