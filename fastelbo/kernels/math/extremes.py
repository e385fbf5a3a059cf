"""The largest and the smallest of the lanes of a block.

The rows of partial sums of `sums` hold partial maxima, too.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower, exact, scalar
from .sums import PARTIAL_SUMS, STEP, TERMS, add_row, begin, close_sums

_ALL_BUT_SIGN = np.int64(0x7FFFFFFFFFFFFFFF)


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
    begin(partial, -np.inf)
    whole = n - n % (2 * STEP)
    for first in range(0, whole, 2 * STEP):
        for j in range(PARTIAL_SUMS):
            top = partial[j]
            for term in range(2 * TERMS):
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
    begin(peak, -np.inf)
    begin(valley, np.inf)
    begin(partial, 0.0)
    whole = n - n % STEP
    for first in range(0, whole, STEP):
        for j in range(PARTIAL_SUMS):
            top, low, total = peak[j], valley[j], partial[j]
            for term in range(TERMS):
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
        add_row(x, first, partial)
    for k in range(full, n):
        partial[k - full] += x[k]
    return _close_peaks(peak), _close_valleys(valley), close_sums(partial)
