"""Sums of scaled weights of neighbouring columns of an array, side by side: a column is a lane.

No column is copied. The results have the bits that `sums` gives to each column alone.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, borrower, exact, scalar
from .scalar import exp_normal
from .simd import prefetch_rows
from .sums import PARTIAL_SUMS

# Columns that are taken together: two cache lines.
COLUMNS = 16

# Rows of the room: partial sums of the weights, and of those below 1; then the largest of each
# column. One array, as the compiler checks whether arrays overlap.
_TOP = PARTIAL_SUMS


@block
def make_column_sums():
    """Allocate the room for sums of `COLUMNS` columns."""
    return np.empty((PARTIAL_SUMS + 1, 2 * COLUMNS))


@scalar
def _larger(value, top):
    return np.float64(value) if value > top else top


@borrower
def _set_peaks(x, place, stride, count, sums):
    """Set the largest of each column, NaN aside."""
    for j in range(COLUMNS):
        sums[_TOP, j] = -np.inf
    whole = count - count % 4
    step = np.uint64(stride)
    # Four rows before a maximum is stored: the next one waits for it.
    for k in range(0, whole, 4):
        first = np.uint64(place + k * stride)
        second, third, fourth = first + step, first + step + step, first + step + step + step
        for j in range(COLUMNS):
            i = np.uint64(j)
            top = _larger(x[first + i], sums[_TOP, j])
            top = _larger(x[third + i], _larger(x[second + i], top))
            sums[_TOP, j] = _larger(x[fourth + i], top)
    for k in range(whole, count):
        first = np.uint64(place + k * stride)
        for j in range(COLUMNS):
            sums[_TOP, j] = _larger(x[first + np.uint64(j)], sums[_TOP, j])


@borrower(interleave=4)
def _add_rows(x, place, stride, count, ahead, sums):
    for k in range(count):
        prefetch_rows(x, ahead + k * stride, stride, COLUMNS, 1)
        row, partial = np.uint64(place + k * stride), k & (PARTIAL_SUMS - 1)
        for j in range(COLUMNS):
            weight = exp_normal(x[row + np.uint64(j)] - sums[_TOP, j])
            sums[partial, j] += weight
            sums[partial, COLUMNS + j] += weight if weight < 1.0 else 0.0


@exact
def _close(sums):
    """Add the partial sums, as `close_sums` does."""
    for r in range(8):
        for j in range(2 * COLUMNS):
            sums[r, j] = (sums[r, j] + sums[r + 8, j]) + (sums[r + 16, j] + sums[r + 24, j])
    for j in range(2 * COLUMNS):
        sums[0, j] = ((sums[0, j] + sums[1, j]) + (sums[2, j] + sums[3, j])) + (
            (sums[4, j] + sums[5, j]) + (sums[6, j] + sums[7, j])
        )


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
    """The largest of column j, the sum of its scaled weights, and of those below 1."""
    return sums[_TOP, j], sums[0, j], sums[0, COLUMNS + j]
