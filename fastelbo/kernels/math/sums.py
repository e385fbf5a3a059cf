"""Sums over the lanes of a block: the arithmetic of the mergeable state.

A sum consists of `PARTIAL_SUMS` partial sums. Partial sum j takes the terms whose index is j modulo
`PARTIAL_SUMS`. The partial sums are added in one fixed order. So the loop vectorises, and the
compiler needs no permission to reorder: with it, the last bit would depend on the surrounding code.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, borrower, exact, scalar
from .scalar import exp_normal
from .simd import prefetch_rows

PARTIAL_SUMS = 32
# A partial sum takes this many terms in a register before it is stored.
_TERMS = 4
_STEP = _TERMS * PARTIAL_SUMS
# Neighbouring numbers that are prefetched together: two cache lines.
WIDTH = 16

_ALL_BUT_SIGN = np.int64(0x7FFFFFFFFFFFFFFF)


@block
def make_partial_sums():
    """Allocate the partial sums of three sums."""
    return np.empty((3, PARTIAL_SUMS))


@exact(interleave=2)
def close_sums(partial):
    """The sum of the partial sums."""
    for j in range(8):
        partial[j] = (partial[j] + partial[j + 8]) + (partial[j + 16] + partial[j + 24])
    return ((partial[0] + partial[1]) + (partial[2] + partial[3])) + (
        (partial[4] + partial[5]) + (partial[6] + partial[7])
    )


@borrower(interleave=4)
def _begin(partial, value):
    """Set all partial sums, or what stands in their place."""
    for j in range(PARTIAL_SUMS):
        partial[j] = value


@borrower(interleave=4)
def _add_row(x, first, partial):
    """Add a row of terms: one to each partial sum."""
    for j in range(PARTIAL_SUMS):
        # An unsigned index is not looked at for a sign.
        partial[j] += x[np.uint64(first) + np.uint64(j)]


@borrower
def sum_all(x, n, partial_sums):
    """Sum of x[:n]."""
    partial = partial_sums[0]
    _begin(partial, 0.0)
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            total = partial[j]
            for term in range(_TERMS):
                total += x[first + j + term * PARTIAL_SUMS]
            partial[j] = total
    full = n - n % PARTIAL_SUMS
    for first in range(whole, full, PARTIAL_SUMS):
        _add_row(x, first, partial)
    for k in range(full, n):
        partial[k - full] += x[k]
    return close_sums(partial)


@borrower
def range_sum(x, start, stop):
    """Sum of a few values, x[start:stop], in four partial sums."""
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


@borrower
def finite_sum(x, n, partial_sums):
    """Count and sum of the finite values."""
    total = sum_all(x, n, partial_sums)
    if abs(total) < np.inf:
        return n, total
    count = np.int64(0)
    for k in range(n):
        count += np.int64(1) if abs(x[k]) < np.inf else np.int64(0)
    partial = partial_sums[0]
    _begin(partial, 0.0)
    for first in range(0, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            value = x[first + j]
            partial[j] += value if abs(value) < np.inf else 0.0
    return count, close_sums(partial)


@scalar
def _deviation(x, mean):
    return x - mean if abs(x) < np.inf else 0.0


@borrower
def square_deviations(x, mean, n, partial_sums):
    """Sum of (x - mean)^2 over finite x."""
    partial = partial_sums[0]
    _begin(partial, 0.0)
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            total = partial[j]
            for term in range(_TERMS):
                deviation = _deviation(x[first + j + term * PARTIAL_SUMS], mean)
                total += deviation * deviation
            partial[j] = total
    for first in range(whole, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            deviation = _deviation(x[first + j], mean)
            partial[j] += deviation * deviation
    return close_sums(partial)


@borrower(interleave=4)
def _add_squares(x, mean, first, partial):
    """Add the squares of a row of deviations."""
    for j in range(PARTIAL_SUMS):
        deviation = x[np.uint64(first) + np.uint64(j)] - mean
        partial[j] += deviation * deviation


@borrower
def finite_square_deviations(x, mean, n, partial_sums):
    """As `square_deviations`, if all x are finite."""
    partial = partial_sums[0]
    _begin(partial, 0.0)
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            total = partial[j]
            for term in range(_TERMS):
                deviation = x[first + j + term * PARTIAL_SUMS] - mean
                total += deviation * deviation
            partial[j] = total
    full = n - n % PARTIAL_SUMS
    for first in range(whole, full, PARTIAL_SUMS):
        _add_squares(x, mean, first, partial)
    for k in range(full, n):
        deviation = x[k] - mean
        partial[k - full] += deviation * deviation
    return close_sums(partial)


@scalar
def order_key(x):
    """An integer for a float, in the same order (NaN aside); a maximum of integers vectorises."""
    bits = np.float64(x).view(np.int64)
    return bits ^ ((bits >> np.int64(63)) & _ALL_BUT_SIGN)


@scalar
def from_order_key(key):
    """The float that has this `order_key`."""
    bits = key ^ ((key >> np.int64(63)) & _ALL_BUT_SIGN)
    return np.int64(bits).view(np.float64)


@borrower
def largest(x, n):
    """The largest of x[:n]; none of them is NaN."""
    best = order_key(-np.inf)
    for k in range(n):
        best = max(best, order_key(np.float64(x[k])))
    return from_order_key(best)


@borrower
def smallest(x, n):
    """The smallest of x[:n]; none of them is NaN."""
    best = order_key(np.inf)
    for k in range(n):
        best = min(best, order_key(np.float64(x[k])))
    return from_order_key(best)


@scalar
def _larger(a, b):
    return a if a > b else b


@scalar
def _smaller(a, b):
    return a if a < b else b


@exact(interleave=2)
def _close_peaks(peak):
    """The largest of the partial maxima, which are not NaN."""
    for j in range(8):
        low, high = _larger(peak[j], peak[j + 8]), _larger(peak[j + 16], peak[j + 24])
        peak[j] = _larger(low, high)
    return _larger(
        _larger(_larger(peak[0], peak[4]), _larger(peak[1], peak[5])),
        _larger(_larger(peak[2], peak[6]), _larger(peak[3], peak[7])),
    )


@exact(interleave=2)
def _close_valleys(valley):
    """The smallest of the partial minima, which are not NaN."""
    for j in range(8):
        low, high = _smaller(valley[j], valley[j + 8]), _smaller(valley[j + 16], valley[j + 24])
        valley[j] = _smaller(low, high)
    return _smaller(
        _smaller(_smaller(valley[0], valley[4]), _smaller(valley[1], valley[5])),
        _smaller(_smaller(valley[2], valley[6]), _smaller(valley[3], valley[7])),
    )


@borrower
def highest(x, n, partial_sums):
    """The largest of x[:n], NaN aside."""
    partial = partial_sums[0]
    _begin(partial, -np.inf)
    whole = n - n % (2 * _STEP)
    for first in range(0, whole, 2 * _STEP):
        for j in range(PARTIAL_SUMS):
            top = partial[j]
            for term in range(2 * _TERMS):
                top = _larger(np.float64(x[first + j + term * PARTIAL_SUMS]), top)
            partial[j] = top
    for first in range(whole, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            partial[j] = _larger(np.float64(x[first + j]), partial[j])
    return _close_peaks(partial)


@borrower(interleave=2)
def _take_rows(x, first, second, peak, valley):
    """Raise maxima and lower minima by two rows of terms, which may be the same.

    Of a single row, LLVM would make a store under a mask, which takes ten times as long with AVX2.
    """
    for j in range(PARTIAL_SUMS):
        a, b = x[np.uint64(first) + np.uint64(j)], x[np.uint64(second) + np.uint64(j)]
        top, low = peak[j], valley[j]
        top = a if a > top else top
        low = a if a < low else low
        peak[j] = b if b > top else top
        valley[j] = b if b < low else low


@borrower
def extremes_and_sum(x, n, partial_sums):
    """The largest and the smallest of x[:n], NaN aside, and the sum of x[:n], NaN included."""
    peak, valley, partial = partial_sums[0], partial_sums[1], partial_sums[2]
    _begin(peak, -np.inf)
    _begin(valley, np.inf)
    _begin(partial, 0.0)
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            top, low, total = peak[j], valley[j], partial[j]
            for term in range(_TERMS):
                value = x[first + j + term * PARTIAL_SUMS]
                top = value if value > top else top
                low = value if value < low else low
                total += value
            peak[j], valley[j], partial[j] = top, low, total
    last = n - PARTIAL_SUMS
    if last >= 0:
        # To look at some terms twice changes no extreme.
        for first in range(whole, n, 2 * PARTIAL_SUMS):
            _take_rows(x, min(first, last), min(first + PARTIAL_SUMS, last), peak, valley)
    else:
        for k in range(n):
            peak[k] = x[k] if x[k] > -np.inf else -np.inf
            valley[k] = x[k] if x[k] < np.inf else np.inf
    full = n - n % PARTIAL_SUMS
    for first in range(whole, full, PARTIAL_SUMS):
        _add_row(x, first, partial)
    for k in range(full, n):
        partial[k - full] += x[k]
    return _close_peaks(peak), _close_valleys(valley), close_sums(partial)


@borrower(interleave=4)
def _scale_row(x, top, first, w, partial):
    """Set w = exp(x - top) and add to partial sums, for `PARTIAL_SUMS` terms."""
    for j in range(PARTIAL_SUMS):
        # An unsigned index is not looked at for a sign.
        k = np.uint64(first) + np.uint64(j)
        weight = exp_normal(x[k] - top)
        w[k] = weight
        partial[j] += weight


@borrower
def scale_weights(x, top, n, w, partial_sums):
    """Set w = exp(x - top) and return its sum; no x exceeds ``top``. NaN in x gives NaN.

    What lies behind x is prefetched: the next block, if x is part of a long row.
    """
    return scale_and_prefetch(x, top, n, w, x, n, WIDTH, n // WIDTH, partial_sums)


@borrower
def scale_and_prefetch(x, top, n, w, later, place, stride, count, partial_sums):
    """As `scale_weights`, but later[place + k stride : ... + `WIDTH`] is prefetched for k < count.

    The processor prefetches nothing by itself while exponentials are computed. It waits where many
    lines are asked for at once: a few are, beside each row of partial sums.
    """
    partial, last = partial_sums[0], partial_sums[1]
    _begin(partial, 0.0)
    full = n - n % PARTIAL_SUMS
    each, left = (count * PARTIAL_SUMS + n - 1) // n if count > 0 else 0, count
    for first in range(0, full, PARTIAL_SUMS):
        prefetch_rows(later, place, stride, WIDTH, min(each, left))
        place += each * stride
        left -= each
        _scale_row(x, top, first, w, partial)
    if full < n:
        # A whole row takes less time than a part of it: the weight of -inf is 0.
        _begin(last, -np.inf)
        for k in range(full, n):
            last[k - full] = x[k]
        _scale_row(last, top, 0, last, partial)
        for k in range(full, n):
            w[k] = last[k - full]
    return close_sums(partial)


@borrower(interleave=4)
def _add_below_one(w, first, partial):
    """Add a row of weights, without those that are 1."""
    for j in range(PARTIAL_SUMS):
        weight = w[np.uint64(first) + np.uint64(j)]
        partial[j] += weight if weight < 1.0 else 0.0


@borrower
def sum_of_rest(w, total, n, partial_sums):
    """The sum of the scaled weights without one maximal weight, which is 1."""
    if total >= 2.0:
        return total - 1.0
    # No other weight is 1. The rest is small against it: sum it separately, to keep its digits.
    partial = partial_sums[0]
    _begin(partial, 0.0)
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            rest = partial[j]
            for term in range(_TERMS):
                weight = w[first + j + term * PARTIAL_SUMS]
                rest += weight if weight < 1.0 else 0.0
            partial[j] = rest
    full = n - n % PARTIAL_SUMS
    for first in range(whole, full, PARTIAL_SUMS):
        _add_below_one(w, first, partial)
    for k in range(full, n):
        partial[k - full] += w[k] if w[k] < 1.0 else 0.0
    return close_sums(partial)


@borrower
def joint_moments(w, w_mean, x, x_mean, n, partial_sums):
    """Centred second moments of w and of x, and their co-moment, over finite x."""
    second_w, second_x, co_moment = partial_sums[0], partial_sums[1], partial_sums[2]
    _begin(second_w, 0.0)
    _begin(second_x, 0.0)
    _begin(co_moment, 0.0)
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            ww, xx, wx = second_w[j], second_x[j], co_moment[j]
            for term in range(_TERMS):
                k = first + j + term * PARTIAL_SUMS
                # A read that depends on x would stop the vectoriser where there is no AVX.
                weight = w[k]
                dw = weight - w_mean if abs(x[k]) < np.inf else 0.0
                dx = _deviation(x[k], x_mean)
                ww += dw * dw
                xx += dx * dx
                wx += dw * dx
            second_w[j], second_x[j], co_moment[j] = ww, xx, wx
    for first in range(whole, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            k = first + j
            dw = w[k] - w_mean if abs(x[k]) < np.inf else 0.0
            dx = _deviation(x[k], x_mean)
            second_w[j] += dw * dw
            second_x[j] += dx * dx
            co_moment[j] += dw * dx
    return close_sums(second_w), close_sums(second_x), close_sums(co_moment)


@borrower(interleave=2)
def _add_products(w, w_mean, x, x_mean, first, second_w, second_x, co_moment):
    """Add the squares of two rows of deviations, and their products."""
    for j in range(PARTIAL_SUMS):
        k = np.uint64(first) + np.uint64(j)
        dw, dx = w[k] - w_mean, x[k] - x_mean
        second_w[j] += dw * dw
        second_x[j] += dx * dx
        co_moment[j] += dw * dx


@borrower
def finite_joint_moments(w, w_mean, x, x_mean, n, partial_sums):
    """As `joint_moments`, if all x are finite."""
    second_w, second_x, co_moment = partial_sums[0], partial_sums[1], partial_sums[2]
    _begin(second_w, 0.0)
    _begin(second_x, 0.0)
    _begin(co_moment, 0.0)
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            ww, xx, wx = second_w[j], second_x[j], co_moment[j]
            for term in range(_TERMS):
                k = first + j + term * PARTIAL_SUMS
                dw, dx = w[k] - w_mean, x[k] - x_mean
                ww += dw * dw
                xx += dx * dx
                wx += dw * dx
            second_w[j], second_x[j], co_moment[j] = ww, xx, wx
    full = n - n % PARTIAL_SUMS
    for first in range(whole, full, PARTIAL_SUMS):
        _add_products(w, w_mean, x, x_mean, first, second_w, second_x, co_moment)
    for j in range(n - full):
        dw, dx = w[full + j] - w_mean, x[full + j] - x_mean
        second_w[j] += dw * dw
        second_x[j] += dx * dx
        co_moment[j] += dw * dx
    return close_sums(second_w), close_sums(second_x), close_sums(co_moment)


@borrower
def product_sums(x, y, z, n, partial_sums):
    """The sums of x z and of y z."""
    with_x, with_y = partial_sums[0], partial_sums[1]
    _begin(with_x, 0.0)
    _begin(with_y, 0.0)
    whole = n - n % _STEP
    for first in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            xz, yz = with_x[j], with_y[j]
            for term in range(_TERMS):
                k = first + j + term * PARTIAL_SUMS
                xz += x[k] * z[k]
                yz += y[k] * z[k]
            with_x[j], with_y[j] = xz, yz
    for first in range(whole, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            with_x[j] += x[first + j] * z[first + j]
            with_y[j] += y[first + j] * z[first + j]
    return close_sums(with_x), close_sums(with_y)
