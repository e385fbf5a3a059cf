"""Means and second moments, over groups of draws, of sums of products of two rows.

Every gradient is a set of products of rows of a block, summed over the draws of a group. The state
of some groups has their count, and mean and centred second moment of the bound and of each product.
States are merged as those of Chan, Golub and LeVeque (1983).
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower, exact
from ..math.shifted_sums import (
    grouped_products,
    range_product,
    shifted_product_sums,
)

COUNT = 0  # groups
EMPTY = 1  # groups of which no weight is positive
ZEROS = 2  # draws whose weight is 0
BAD_WEIGHT = 3  # the first draw whose log weight is NaN or +inf; -1 for none
BAD_SLOPE = 4  # the first draw whose gradient is not finite; -1 for none
HEAD = 5  # then the means, then the second moments


@borrower
def clear_moments(state):
    """No groups."""
    for j in range(state.shape[0]):
        state[j] = 0.0
    state[BAD_WEIGHT], state[BAD_SLOPE] = -1.0, -1.0


@exact
def merge_one(state, p, count, n, mean, m2):
    """Append moments of n groups to those of quantity p, of ``count`` groups."""
    m = (state.shape[0] - HEAD) // 2
    share = n / (count + n)
    delta = mean - state[HEAD + p]
    state[HEAD + p] += delta * share
    state[HEAD + m + p] += m2 + delta * delta * (count * share)


@exact
def _append(state, p, count, n, shift, first, second):
    """Append n values with those sums about a shift."""
    offset = first / n
    m2 = second - first * offset
    merge_one(state, p, count, n, shift + offset, m2 if m2 > 0.0 or m2 != m2 else 0.0)


@borrower
def push_bounds(state, bound, ones, groups, partial_sums):
    """Append the bounds of groups, before their products."""
    shift = bound[0]
    first, second = shifted_product_sums(bound, ones, groups, shift, partial_sums)
    _append(state, 0, state[COUNT], float(groups), shift, first, second)


@borrower
def push_products(state, rows, left, right, size, groups, across, room, partial_sums):
    """Append the products of rows left and right of groups; the count is not changed.

    Row 0 is 1.
    """
    count, n = state[COUNT], float(groups)
    for p in range(left.shape[0]):
        x, y = rows[left[p]], rows[right[p]]
        if size == 1:
            shift = x[0] * y[0]
            first, second = shifted_product_sums(x, y, groups, shift, partial_sums)
        else:
            if across:
                grouped_products(x, y, size, groups, room)
            else:
                for g in range(groups):
                    room[g] = range_product(x, y, g * size, (g + 1) * size, partial_sums)
            shift = room[0]
            first, second = shifted_product_sums(room, rows[0], groups, shift, partial_sums)
        _append(state, p + 1, count, n, shift, first, second)


@borrower
def add_products(sums, rows, left, right, n, partial_sums):
    """Add the sums of products of n draws of one group to ``sums``."""
    for p in range(left.shape[0]):
        sums[p] += range_product(rows[left[p]], rows[right[p]], 0, n, partial_sums)


@borrower
def push_sums(state, bound, sums):
    """Append one group by its bound and its sums of products."""
    count = state[COUNT]
    merge_one(state, 0, count, 1.0, bound, 0.0)
    for p in range(sums.shape[0]):
        merge_one(state, p + 1, count, 1.0, sums[p], 0.0)


@borrower
def merge_moments(state, other):
    """Append the state of later groups."""
    m = (state.shape[0] - HEAD) // 2
    for j in range(BAD_WEIGHT, HEAD):
        if state[j] < 0.0:
            state[j] = other[j]
    count, n = state[COUNT], other[COUNT]
    if n > 0.0:
        for p in range(m):
            merge_one(state, p, count, n, other[HEAD + p], other[HEAD + m + p])
    state[COUNT] += n
    state[EMPTY] += other[EMPTY]
    state[ZEROS] += other[ZEROS]


@borrower
def first_bad(x, n):
    """The first of x[:n] that is NaN or +inf; -1 for none."""
    bad = np.int64(0)
    for k in range(n):
        bad += np.int64(0) if x[k] < np.inf else np.int64(1)
    if bad > 0:
        for k in range(n):
            if not x[k] < np.inf:
                return k
    return -1
