"""Sums of scaled weights of neighbouring columns of an array, side by side: a column is a lane.

No column is copied. The results have the bits that `sums` gives to each column alone.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, borrower, exact, scalar
from .scalar import exp_normal
from .simd import prefetch_rows
from .sums import PARTIAL_SUMS, close_sums

# Columns that are taken together: two cache lines.
COLUMNS = 16

# Rows of the room, after the partial sums: the largest of each column, the sum of its scaled
# weights, and sums on the way to it. One array, as the compiler checks whether arrays overlap.
_TOP = PARTIAL_SUMS
_TOTAL = PARTIAL_SUMS + 1


@block
def make_column_sums():
    """Allocate the room for sums of `COLUMNS` columns."""
    return np.empty((_TOTAL + 8, COLUMNS))


@scalar
def _larger(value, top):
    return np.float64(value) if value > top else top


@borrower(rolled=True)
def _set_peaks(x, place, stride, count, sums):
    """Set the largest of each column, NaN aside."""
    for j in range(COLUMNS):
        sums[_TOP, j] = -np.inf
    whole = count - count % 8
    step = np.uint64(stride)
    # Eight rows before a maximum is stored: the next one waits for it.
    for k in range(0, whole, 8):
        first = np.uint64(place + k * stride)
        second, third, fourth = first + step, first + step + step, first + step + step + step
        four = step + step + step + step
        for j in range(COLUMNS):
            i = np.uint64(j)
            top = _larger(x[second + i], _larger(x[first + i], sums[_TOP, j]))
            top = _larger(x[fourth + i], _larger(x[third + i], top))
            i += four
            top = _larger(x[second + i], _larger(x[first + i], top))
            sums[_TOP, j] = _larger(x[fourth + i], _larger(x[third + i], top))
    for k in range(whole, count):
        first = np.uint64(place + k * stride)
        for j in range(COLUMNS):
            sums[_TOP, j] = _larger(x[first + np.uint64(j)], sums[_TOP, j])


@borrower(interleave=4, rolled=True)
def _add_rows(x, place, stride, count, ahead, sums):
    for k in range(count):
        prefetch_rows(x, ahead + k * stride, stride, COLUMNS, 1)
        row, partial = np.uint64(place + k * stride), k & (PARTIAL_SUMS - 1)
        for j in range(COLUMNS):
            sums[partial, j] += exp_normal(x[row + np.uint64(j)] - sums[_TOP, j])


@exact(rolled=True)
def _close(sums):
    """Add the partial sums, as `close_sums` does."""
    eight = _TOTAL
    for r in range(8):
        for j in range(COLUMNS):
            sums[eight + r, j] = (sums[r, j] + sums[r + 8, j]) + (sums[r + 16, j] + sums[r + 24, j])
    for j in range(COLUMNS):
        low = (sums[eight, j] + sums[eight + 1, j]) + (sums[eight + 2, j] + sums[eight + 3, j])
        high = (sums[eight + 4, j] + sums[eight + 5, j]) + (sums[eight + 6, j] + sums[eight + 7, j])
        sums[_TOTAL, j] = low + high


@borrower
def add_columns(x, place, stride, count, ahead, sums):
    """Sums of the scaled weights of the columns x[place + k stride + j], for `column` to read.

    The rows from ``ahead`` on are prefetched.
    """
    _set_peaks(x, place, stride, count, sums)
    sums[:PARTIAL_SUMS] = 0.0
    _add_rows(x, place, stride, count, ahead, sums)
    _close(sums)


@borrower
def column(j, sums):
    """The largest of column j, and the sum of its scaled weights."""
    return sums[_TOP, j], sums[_TOTAL, j]


@borrower(interleave=4)
def _scale(x, top, n):
    for k in range(n):
        x[k] = exp_normal(x[k] - top)


@borrower
def sum_of_column_rest(x, place, stride, count, j, sums, partial_sums):
    """As `sum_of_rest` of column j, whose scaled weights have a sum below 2.

    There are at most `PARTIAL_SUMS` rows for each partial sum.
    """
    partial, terms = partial_sums[0], partial_sums[1]
    # No other weight is 1, and only the partial sum with that weight reaches 1.
    largest = 0
    for r in range(PARTIAL_SUMS):
        partial[r] = sums[r, j]
        largest = r if partial[r] >= 1.0 else largest
    n = (count - largest + PARTIAL_SUMS - 1) // PARTIAL_SUMS
    for k in range(n):
        terms[k] = x[place + (largest + k * PARTIAL_SUMS) * stride + j]
    _scale(terms, sums[_TOP, j], n)
    rest = 0.0
    for k in range(n):
        rest += terms[k] if terms[k] < 1.0 else 0.0
    partial[largest] = rest
    return close_sums(partial)
