"""Log densities at points so far from a component that a square overflows.

A square overflows at distances from 1e154 scales on. A Student-t density is finite there, and a
Gaussian one up to 1.9e154. Such lanes are few: `mend_far` computes them again, one by one, with
distances divided by a power of two.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit.compile import borrower, by_target
from ..math.scalar import log, log1p
from .blocks import row_of
from .radial import GAUSSIAN, STUDENT_T

# A factor and a coordinate are each multiplied by this: a distance by its square.
ROOT_UNIT = 2.0**-500
_LOG_UNIT = -1000.0 * math.log(2.0)
# Squares of numbers below it do not overflow.
_SMALL = 1e150


@borrower
def far_residual(density, i, c, v, j, k):
    """Entry j of F_c (v - shift_c) - t_c for lane k, times 2^-1000, in float64."""
    rows = density.factor.shape[2]
    if rows == 0:
        return np.float64(v[j, k]) * ROOT_UNIT * ROOT_UNIT
    factor = density.factor[row_of(i, density.factor.shape[0]), c]
    target = density.target[row_of(i, density.target.shape[0]), c]
    shift = density.shift[row_of(i, density.shift.shape[0])]
    result = -np.float64(target[j]) * ROOT_UNIT * ROOT_UNIT
    for d in range(j if rows == 1 else 0, j + 1):
        place = np.float64(v[d, k]) * ROOT_UNIT
        if shift.shape[0] > 0:
            place -= np.float64(shift[c, d]) * ROOT_UNIT
        entry = factor[0, d] if rows == 1 else factor[j, d]
        result += np.float64(entry) * ROOT_UNIT * place
    return result


@borrower
def far_distance(density, i, c, v, dim, k):
    """(peak, sum) such that |F_c (v - shift_c) - t_c|^2 = (2^1000 peak)^2 sum, for lane k."""
    peak, total = 0.0, 0.0
    for j in range(dim):
        peak = max(peak, abs(far_residual(density, i, c, v, j, k)))
    for j in range(dim):
        part = far_residual(density, i, c, v, j, k) / peak
        total += part * part
    return peak, total


@borrower
def _far_log_radial(density, i, c, dim, peak, total):
    """g_c(s) of a squared distance as `far_distance` returns it."""
    distance = peak / ROOT_UNIT
    if density.radial == STUDENT_T:
        df = np.float64(density.df[row_of(i, density.df.shape[0]), c])
        if df < np.inf:
            power = 0.5 * (df + dim)
            ratio = distance / math.sqrt(df) / ROOT_UNIT
            if ratio < _SMALL:
                return -power * log1p(ratio * ratio * total)
            return -power * ((2.0 * (log(peak) - _LOG_UNIT) - log(df)) + log(total))
    distance = distance / ROOT_UNIT
    return -(0.5 * total * distance) * distance


@borrower
def mend_far(density, i, c, base, v, dim, n, out):
    """Replace ``out``, log_const_c - base + g_c, in the lanes where it is -inf or NaN."""
    const = density.log_const[row_of(i, density.log_const.shape[0]), c] - base
    # The density of a component of weight 0 is 0 everywhere; other families have no such points.
    if const == -np.inf or (density.radial != STUDENT_T and density.radial != GAUSSIAN):
        return
    for k in range(n):
        if not out[k] > -np.inf:
            peak, total = far_distance(density, i, c, v, dim, k)
            out[k] = const + _far_log_radial(density, i, c, dim, peak, total)


@borrower
def has_zero(log_density, n):
    """Whether a log density is -inf or NaN."""
    zeros = np.int64(0)
    for k in range(n):
        zeros += np.int64(0) if log_density[k] > -np.inf else np.int64(1)
    return zeros > 0


def _none_on_device(log_density, n):
    return lambda log_density, n: False


@by_target(_none_on_device)
def any_zero(log_density, n):
    """As `has_zero`, of Gaussians.

    Never on a device: what a second look finds there, densities between exp(-9e307) and
    exp(-2e308), is not worth the registers.
    """
    return has_zero(log_density, n)
