"""Sums over the lanes of a block: the arithmetic of the mergeable state.

A sum runs in `STRANDS` strands side by side, strand j taking every term whose place is j modulo
`STRANDS`, and the strands are then added in one order. So it vectorises without a compiler that is
free to reorder it, whose choice, and with it the last bit, would depend on what stands around.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, exact, scalar
from .scalar import exp_normal

STRANDS = 32
# Terms that a strand takes before it goes back to memory.
_TERMS = 4
_STEP = _TERMS * STRANDS

_ALL_BUT_SIGN = np.int64(0x7FFFFFFFFFFFFFFF)


@block
def make_strands():
    """Room for three sums at a time."""
    return np.empty((3, STRANDS))


@exact
def _close(strand):
    """The sum of the strands."""
    for j in range(8):
        strand[j] = (strand[j] + strand[j + 8]) + (strand[j + 16] + strand[j + 24])
    return ((strand[0] + strand[1]) + (strand[2] + strand[3])) + (
        (strand[4] + strand[5]) + (strand[6] + strand[7])
    )


@block
def sum_all(x, n, strands):
    """Sum of x[:n]."""
    strand = strands[0]
    strand[:] = 0.0
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(STRANDS):
            total = strand[j]
            for term in range(_TERMS):
                total += x[first + j + term * STRANDS]
            strand[j] = total
    full = n - n % STRANDS
    for first in range(whole, full, STRANDS):
        for j in range(STRANDS):
            strand[j] += x[first + j]
    for k in range(full, n):
        strand[k - full] += x[k]
    return _close(strand)


@block
def range_sum(x, start, stop):
    """Sum of the few values x[start:stop], in four strands."""
    a = b = c = d = 0.0
    k = start
    while k + 4 <= stop:
        a += x[k]
        b += x[k + 1]
        c += x[k + 2]
        d += x[k + 3]
        k += 4
    while k < stop:
        a += x[k]
        k += 1
    return (a + b) + (c + d)


@block
def finite_sum(x, n, strands):
    """How many values are finite, and their sum."""
    total = sum_all(x, n, strands)
    if abs(total) < np.inf:
        return n, total
    count = np.int64(0)
    for k in range(n):
        count += np.int64(1) if abs(x[k]) < np.inf else np.int64(0)
    strand = strands[0]
    strand[:] = 0.0
    for first in range(0, n, STRANDS):
        for j in range(min(STRANDS, n - first)):
            value = x[first + j]
            strand[j] += value if abs(value) < np.inf else 0.0
    return count, _close(strand)


@scalar
def _deviation(x, mean):
    return x - mean if abs(x) < np.inf else 0.0


@block
def square_deviations(x, mean, n, strands):
    """Sum of (x - mean)^2 over finite x."""
    strand = strands[0]
    strand[:] = 0.0
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(STRANDS):
            total = strand[j]
            for term in range(_TERMS):
                deviation = _deviation(x[first + j + term * STRANDS], mean)
                total += deviation * deviation
            strand[j] = total
    for first in range(whole, n, STRANDS):
        for j in range(min(STRANDS, n - first)):
            deviation = _deviation(x[first + j], mean)
            strand[j] += deviation * deviation
    return _close(strand)


@scalar
def order_key(x):
    """Integers in the order of the floats (NaN aside), whose maximum vectorises freely."""
    bits = np.float64(x).view(np.int64)
    return bits ^ ((bits >> np.int64(63)) & _ALL_BUT_SIGN)


@scalar
def from_order_key(key):
    """The float of an `order_key`."""
    bits = key ^ ((key >> np.int64(63)) & _ALL_BUT_SIGN)
    return np.int64(bits).view(np.float64)


@block
def largest(x, n):
    """Largest of x[:n], none of which is NaN."""
    best = order_key(-np.inf)
    for k in range(n):
        best = max(best, order_key(np.float64(x[k])))
    return from_order_key(best)


@block
def peak_and_sum(x, n, strands):
    """The largest of x[:n], NaN aside, and the sum of all."""
    peak, strand = strands[0], strands[1]
    for j in range(STRANDS):
        peak[j] = -np.inf
        strand[j] = 0.0
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(STRANDS):
            top, total = peak[j], strand[j]
            for term in range(_TERMS):
                value = x[first + j + term * STRANDS]
                top = value if value > top else top
                total += value
            peak[j], strand[j] = top, total
    for first in range(whole, n, STRANDS):
        for j in range(min(STRANDS, n - first)):
            value = x[first + j]
            peak[j] = value if value > peak[j] else peak[j]
            strand[j] += value
    return largest(peak, STRANDS), _close(strand)


@block
def scale_weights(x, top, n, w, strands):
    """w = exp(x - top) for a ``top`` that no x exceeds, and its sum; NaN where one of x is."""
    for k in range(n):
        w[k] = exp_normal(x[k] - top)
    return sum_all(w, n, strands)


@block
def sum_of_rest(w, total, n):
    """The sum of scaled weights without one maximal weight, which is 1."""
    if total >= 2.0:
        return total - 1.0
    # The rest is small against 1: add it up by itself.
    place = 0
    while w[place] != 1.0:
        place += 1
    return range_sum(w, 0, place) + range_sum(w, place + 1, n)


@block
def joint_moments(w, w_mean, x, x_mean, n, strands):
    """Centred second moments of w and x, and their co-moment, over finite x."""
    second_w, second_x, co_moment = strands[0], strands[1], strands[2]
    strands[:] = 0.0
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(STRANDS):
            ww, xx, wx = second_w[j], second_x[j], co_moment[j]
            for term in range(_TERMS):
                k = first + j + term * STRANDS
                dw = w[k] - w_mean if abs(x[k]) < np.inf else 0.0
                dx = _deviation(x[k], x_mean)
                ww += dw * dw
                xx += dx * dx
                wx += dw * dx
            second_w[j], second_x[j], co_moment[j] = ww, xx, wx
    for first in range(whole, n, STRANDS):
        for j in range(min(STRANDS, n - first)):
            k = first + j
            dw = w[k] - w_mean if abs(x[k]) < np.inf else 0.0
            dx = _deviation(x[k], x_mean)
            second_w[j] += dw * dw
            second_x[j] += dx * dx
            co_moment[j] += dw * dx
    return _close(second_w), _close(second_x), _close(co_moment)
