"""Weights relative to the largest one of a block, and their sum, by the partial sums of `sums`."""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower
from .scalar import exp_normal
from .simd import prefetch_rows
from .sums import PARTIAL_SUMS, STEP, TERMS, begin, close_sums

# Neighbouring numbers that are prefetched together: two cache lines.
WIDTH = 16


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
    begin(partial, 0.0)
    full = n - n % PARTIAL_SUMS
    each, left = (count * PARTIAL_SUMS + n - 1) // n if count > 0 else 0, count
    for first in range(0, full, PARTIAL_SUMS):
        prefetch_rows(later, place, stride, WIDTH, min(each, left))
        place += each * stride
        left -= each
        _scale_row(x, top, first, w, partial)
    if full < n:
        # A whole row takes less time than a part of it: the weight of -inf is 0.
        begin(last, -np.inf)
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
    begin(partial, 0.0)
    whole = n - n % STEP
    for first in range(0, whole, STEP):
        for j in range(PARTIAL_SUMS):
            rest = partial[j]
            for term in range(TERMS):
                weight = w[first + j + term * PARTIAL_SUMS]
                rest += weight if weight < 1.0 else 0.0
            partial[j] = rest
    full = n - n % PARTIAL_SUMS
    for first in range(whole, full, PARTIAL_SUMS):
        _add_below_one(w, first, partial)
    for k in range(full, n):
        partial[k - full] += w[k] if w[k] < 1.0 else 0.0
    return close_sums(partial)
