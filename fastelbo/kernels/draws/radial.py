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
from ..math.scalar import (
    GAMMA_NORMAL,
    GAMMA_UNIFORM,
    exp,
    log1p,
    log_positive,
    normal_pair,
    random_words,
    uniform,
)
from .blocks import row_of

# Codes of the families, which `Density` and `Sampler` name.
GAUSSIAN, STUDENT_T = range(2)

_ZERO = np.uint64(0)
_ATTEMPTS = 16


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
            work.scratch[1],
        )  # fmt: skip
    else:
        fill(factor, n, np.nan)
    for d in range(dim):
        for k in range(n):
            v[d, k] *= factor[k]


# --- Gamma --------------------------------------------------------------------------------------


@scalar
def _gamma_proposal(key, index, draw, attempt, shape):
    """One proposal of Marsaglia and Tsang (2000), for shape >= 1: (value, accepted)."""
    d = shape - 1.0 / 3.0
    w0, w1, w2, w3 = random_words(key, index, draw, _ZERO, GAMMA_NORMAL, attempt)
    x, _ = normal_pair(w0, w1, w2, w3)
    w0, w1, w2, w3 = random_words(key, index, draw, _ZERO, GAMMA_UNIFORM, attempt)
    t = 1.0 + x / math.sqrt(9.0 * d)
    cube = t * t * t
    positive = cube > 0.0
    cube = cube if positive else 1.0
    bound = 0.5 * x * x + d - d * cube + d * log_positive(cube)
    return d * cube, positive & (log_positive(uniform(w0, w1)) < bound)


@scalar
def _signed_proposal(df, key, index, draw, attempt):
    """A proposal for Gamma(df / 2), or Gamma(df / 2 + 1); a rejected one is negated."""
    shape = 0.5 * df
    shape = shape if shape >= 1.0 else shape + 1.0
    value, accepted = _gamma_proposal(key, index, draw, attempt, shape)
    return value if accepted else -value


@borrower(interleave=2)
def _propose(factor, df, key, index, first, n):
    """All lanes make their first proposal together."""
    for k in range(n):
        factor[k] = _signed_proposal(df[k], key, index, first + np.uint64(k), _ZERO)


@borrower(interleave=2)
def _propose_again(df, lane, key, index, first, attempt, n):
    """Replace df[j], that of lane[j], by a proposal."""
    for j in range(n):
        draw = first + np.uint64(lane[j])
        df[j] = _signed_proposal(df[j], key, index, draw, attempt)


@borrower
def _negative_lanes(x, n, lane):
    """Set lane[:count] to the lanes where x is negative, and return the count."""
    count = 0
    for k in range(n):
        lane[count] = k
        count += 1 if x[k] < 0.0 else 0
    return count


@borrower
def _repeat_packed(factor, df, key, index, first, n, lane, room):
    """As `_repeat`, with the lanes that are left packed: a proposal alone costs ten in vectors."""
    attempt, count = 1, _negative_lanes(factor, n, lane)
    while count > 0:
        for j in range(count):
            room[j] = df[lane[j]]
        _propose_again(room, lane, key, index, first, np.uint64(attempt), count)
        attempt += 1
        for j in range(count):
            factor[lane[j]] = abs(room[j]) if attempt == _ATTEMPTS else room[j]
        count = _negative_lanes(factor, n, lane)


@borrower(on_host=_repeat_packed)
def _repeat(factor, df, key, index, first, n, lane, room):
    """Replace rejected proposals; about one lane in twenty has one."""
    for k in range(n):
        attempt = 1
        while factor[k] < 0.0:
            draw = first + np.uint64(k)
            value = _signed_proposal(df[k], key, index, draw, np.uint64(attempt))
            attempt += 1
            factor[k] = abs(value) if attempt == _ATTEMPTS else value


@borrower
def gammas(factor, df, key, index, first, n, lane, room):
    """factor[k] = Gamma(a) with a = df[k] / 2, or Gamma(a + 1) where a < 1.

    Always in float64, so that acceptance does not depend on the precision of the draws. The arrays
    ``lane`` and ``room`` are for the lanes that need more than one proposal.
    """
    _propose(factor, df, key, index, first, n)
    _repeat(factor, df, key, index, first, n, lane, room)


# --- Student-t ----------------------------------------------------------------------------------


@borrower
def student_factors(factor, df, least, least_chi2, key, index, first, n, lane, room):
    """factor[k] = sqrt(df[k] / chi-square(df[k])); ``least`` is the smallest df."""
    gammas(factor, df, key, index, first, n, lane, room)
    if least < 2.0:
        for k in range(n):
            shape = 0.5 * df[k]
            _, _, w2, w3 = random_words(
                key, index, first + np.uint64(k), _ZERO, GAMMA_UNIFORM, _ZERO
            )
            boost = exp(log_positive(uniform(w2, w3)) / shape)
            factor[k] *= boost if shape < 1.0 else 1.0
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
