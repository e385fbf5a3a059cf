"""Gamma draws of a block, by the rejection method of Marsaglia and Tsang (2000).

A proposal takes a standard normal and a uniform number. About one in twenty is rejected; its lane
makes the next one, at the address of the next attempt. Everything is in float64, so that acceptance
does not depend on the precision of the draws.

On a CPU, a proposal is made in several loops over arrays, each with few enough constants for the
registers. In one loop they would be kept on the stack.
"""

from __future__ import annotations

import math

import numpy as np

from ..jit.compile import borrower, scalar
from ..math.scalar import (
    GAMMA_NORMAL,
    GAMMA_UNIFORM,
    exp,
    log_positive,
    normal_pair,
    point_at,
    random_words,
    uniform,
)

# The rows of `gammas` are for so many lanes, or a multiple.
WHOLE = 8

_ZERO = np.uint64(0)
_U32, _S32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_ATTEMPTS = np.uint64(16)


@scalar
def _shape_less_third(df):
    """The shape of a Gamma(df / 2), or of Gamma(df / 2 + 1) where df / 2 < 1, less a third."""
    shape = 0.5 * df
    shape = shape if shape >= 1.0 else shape + 1.0
    return shape - 1.0 / 3.0


@scalar
def _signed_proposal(d, x, log_u):
    """A proposal of a standard normal x and a uniform number u; a rejected one is negated."""
    t = 1.0 + x / math.sqrt(9.0 * d)
    cube = t * t * t
    positive = cube > 0.0
    cube = cube if positive else 1.0
    bound = 0.5 * x * x + d - d * cube + d * log_positive(cube)
    value = d * cube
    return value if positive & (log_u < bound) else -value


@scalar
def _as_float(high, low):
    """The bits of two words, as those of a float."""
    return np.uint64((high << _S32) | low).view(np.float64)


@scalar
def _log_uniform(words):
    """The logarithm of the uniform number of two words."""
    bits = np.float64(words).view(np.uint64)
    return log_positive(uniform(bits >> _S32, bits & _U32))


# --- on a CPU -----------------------------------------------------------------------------------


@borrower(interleave=2)
def _set_words(draw, key, index, purpose, attempt, n, upper, lower):
    """Set the words at the addresses of draws, two in a float."""
    for j in range(n):
        address = np.uint64(draw[j])
        w0, w1, w2, w3 = random_words(key, index, address, _ZERO, purpose, attempt)
        upper[j], lower[j] = _as_float(w0, w1), _as_float(w2, w3)


@borrower(interleave=4)
def _set_logs(words, n):
    for j in range(n):
        words[j] = _log_uniform(words[j])


@borrower(interleave=4)
def _set_normals(log_u, angle, n):
    for j in range(n):
        bits = np.float64(angle[j]).view(np.uint64)
        log_u[j], _ = point_at(math.sqrt(-2.0 * log_u[j]), bits)


@borrower(interleave=2)
def _set_proposals(d, x, log_u, n):
    """Replace d by proposals."""
    for j in range(n):
        d[j] = _signed_proposal(d[j], x[j], log_u[j])


@borrower
def _propose(d, draw, key, index, attempt, n, room, power):
    """Replace d by the proposals of an attempt at draws; ``power`` gets the words that are left."""
    x, angle, log_u = room[0], room[1], room[2]
    _set_words(draw, key, index, GAMMA_UNIFORM, attempt, n, log_u, power)
    _set_logs(log_u, n)
    _set_words(draw, key, index, GAMMA_NORMAL, attempt, n, x, angle)
    _set_logs(x, n)
    _set_normals(x, angle, n)
    _set_proposals(d, x, log_u, n)


@borrower
def _gammas_packed(factor, df, key, index, first, n, lane, room):
    """As `gammas`: lanes without an accepted proposal are packed, and make one together."""
    start = np.int64(first)
    for k in range(n):
        lane[k] = start + k
    attempt, count, d, power = _ZERO, n, room[1], room[0]
    while count > 0:
        size = (count + WHOLE - 1) // WHOLE * WHOLE
        for j in range(count, size):
            lane[j] = lane[0]
        for j in range(size):
            d[j] = _shape_less_third(df[lane[j] - start])
        _propose(d, lane, key, index, attempt, size, room[2:], power)
        attempt += np.uint64(1)
        left = 0
        for j in range(count):
            draw = lane[j]
            factor[draw - start] = abs(d[j])
            lane[left] = draw
            left += 1 if d[j] < 0.0 else 0
        count = left if attempt < _ATTEMPTS else 0
        # Nobody reads what is left of later attempts: `_propose` overwrites this row.
        power = room[3]


# --- anywhere -----------------------------------------------------------------------------------


@borrower(on_host=_gammas_packed)
def gammas(factor, df, key, index, first, n, lane, room):
    """factor[k] = Gamma(a) with a = df[k] / 2, or Gamma(a + 1) where a < 1.

    The arrays ``lane`` and ``room`` (5, lanes) have a multiple of `WHOLE` lanes, and what is in
    them is lost. The first row of ``room`` is left with words for `multiply_by_powers`; a device
    needs no other row.
    """
    for k in range(n):
        draw, d = first + np.uint64(k), _shape_less_third(df[k])
        attempt, value = _ZERO, -1.0
        while value < 0.0 and attempt < _ATTEMPTS:
            w0, w1, w2, w3 = random_words(key, index, draw, _ZERO, GAMMA_NORMAL, attempt)
            x, _ = normal_pair(w0, w1, w2, w3)
            w0, w1, _, _ = random_words(key, index, draw, _ZERO, GAMMA_UNIFORM, attempt)
            value = _signed_proposal(d, x, log_positive(uniform(w0, w1)))
            attempt += np.uint64(1)
        factor[k] = abs(value)
        # They are made again, where somebody reads them. To keep them takes two registers.
        _, _, w2, w3 = random_words(key, index, draw, _ZERO, GAMMA_UNIFORM, _ZERO)
        room[0, k] = _as_float(w2, w3)


@borrower
def multiply_by_powers(factor, df, n, words):
    """Gamma(a) = Gamma(a + 1) u^(1/a), where a = df[k] / 2 < 1; ``words`` become logarithms."""
    _set_logs(words, n)
    for k in range(n):
        shape = 0.5 * df[k]
        power = exp(words[k] / shape)
        factor[k] *= power if shape < 1.0 else 1.0
