"""The radial part of each elliptical family: its log density and its draws.

A family's density depends on ``s = |S^-1 (z - m)|^2`` through a function g(s), `log_radial`. A draw
is a standard normal vector times a factor, `scale_radius`. A new family adds its code and a branch
in each of the two. A parameter of the family, one a component, arrives as ``df``.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit.compile import borrower, by_precision, scalar
from ..math.copies import fill, least
from ..math.gather import gather
from ..math.scalar import log1p
from .blocks import row_of
from .gammas import gammas, multiply_by_powers

# Codes of the families, which `Density` and `Sampler` name.
GAUSSIAN, STUDENT_T = range(2)


@borrower
def log_radial(density, i, c, base, square, dim, n, out):
    """out = log_const_c - base + g_c(square); NaN for a code that no family has."""
    const = out.dtype.type(density.log_const[row_of(i, density.log_const.shape[0]), c] - base)
    gaussian = density.radial == GAUSSIAN
    if density.radial == STUDENT_T:
        df = density.df[row_of(i, density.df.shape[0]), c]
        gaussian = df == np.inf
        power = square.dtype.type(0.5 * (df + dim))
        if not gaussian:
            for k in range(n):
                out[k] = const - power * log1p(square[k] / df)
    elif not gaussian:
        fill(out, n, np.nan)
    if gaussian:
        half = square.dtype.type(0.5)
        for k in range(n):
            out[k] = const - half * square[k]


@borrower
def scale_radius(sampler, i, dim, work, key, index, first, n):
    """Multiply the standard normals v[:dim, :n] by the factors of a family that is not Gaussian.

    The factors of a code that no family has are NaN.
    """
    v, factor = work.v, work.scratch[0]
    # The parameter of each draw's component, in float64.
    df = sampler.df[row_of(i, sampler.df.shape[0])]
    gather(df, work.component, n, work.log_q)
    if sampler.radial == STUDENT_T:
        student_factors(
            factor, work.log_q, least(df), _least_chi2(v), key, index, first, n, work.lane,
            work.scratch[1:],
        )  # fmt: skip
    else:
        fill(factor, n, np.nan)
    for d in range(dim):
        for k in range(n):
            v[d, k] *= factor[k]


# --- Student-t ----------------------------------------------------------------------------------


@borrower
def student_factors(factor, df, least, least_chi2, key, index, first, n, lane, room):
    """factor[k] = sqrt(df[k] / chi-square(df[k])); ``least`` is the smallest df."""
    gammas(factor, df, key, index, first, n, lane, room)
    if least < 2.0:
        multiply_by_powers(factor, df, n, room[0])
    for k in range(n):
        chi2 = 2.0 * factor[k]
        chi2 = chi2 if chi2 > least_chi2 else least_chi2
        factor[k] = math.sqrt(df[k] / chi2)


@scalar
def _single_least_chi2(like):
    return 2.0**-100


@by_precision(_single_least_chi2)
def _least_chi2(like):
    """Lower bound of a chi-square draw: the square of v stays finite even for tiny ``df``."""
    return 2.0**-1000
