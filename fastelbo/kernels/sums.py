"""Sums over the lanes of a block: the arithmetic of the mergeable state."""

from __future__ import annotations

import numpy as np

from .compile import block, reduction, scalar, stand_alone
from .scalar import exp

_ALL_BUT_SIGN = np.int64(0x7FFFFFFFFFFFFFFF)


@block
def range_sum(x, start, stop):
    """Sum of x[start:stop] in four strands.

    Their order is spelled out, because a short sum that the compiler may reorder comes out
    differently with what stands around it.
    """
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


@reduction
def finite_sum(x, n):
    """How many values are finite, and their sum."""
    stand_alone()
    count = np.int64(0)
    total = 0.0
    for k in range(n):
        finite = abs(x[k]) < np.inf
        count += np.int64(1) if finite else np.int64(0)
        total += x[k] if finite else 0.0
    return count, total


@reduction
def square_deviations(x, mean, n):
    """Sum of (x - mean)^2 over finite x."""
    stand_alone()
    total = 0.0
    for k in range(n):
        deviation = x[k] - mean if abs(x[k]) < np.inf else 0.0
        total += deviation * deviation
    return total


@scalar
def order_key(x):
    """Integers in the order of the floats (NaN aside), whose maximum vectorises freely."""
    bits = np.float64(x).view(np.int64)
    return bits ^ ((bits >> np.int64(63)) & _ALL_BUT_SIGN)


@block
def largest(x, n):
    """Largest of x[:n], none of which is NaN."""
    best = order_key(-np.inf)
    for k in range(n):
        best = max(best, order_key(np.float64(x[k])))
    bits = best ^ ((best >> np.int64(63)) & _ALL_BUT_SIGN)
    return np.int64(bits).view(np.float64)


@reduction
def scale_weights(x, top, n, w):
    """w = exp(x - top), and its sum."""
    stand_alone()
    total = 0.0
    for k in range(n):
        value = exp(x[k] - top)
        w[k] = value
        total += value
    return total


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


@reduction
def joint_moments(w, w_mean, x, x_mean, n):
    """Centred second moments of w and x, and their co-moment, over finite x."""
    stand_alone()
    second_w = 0.0
    second_x = 0.0
    co_moment = 0.0
    for k in range(n):
        finite = abs(x[k]) < np.inf
        dw = w[k] - w_mean if finite else 0.0
        dx = x[k] - x_mean if finite else 0.0
        second_w += dw * dw
        second_x += dx * dx
        co_moment += dw * dx
    return second_w, second_x, co_moment
