"""Sums, maxima, and the largest values of a stream, over all threads of a CUDA block.

Every thread of a block calls these functions, with the same arguments except for its own value.
Sums have one fixed order. Atomic operations only assign places.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import exact
from ..math.extremes import from_order_key, order_key
from ..math.selection import rank_in_sample
from .device import BLOCK_THREADS, TILE, cuda
from .views import prevent_inlining

# Number of partial sums of a row of slots.
_PARTS = min(16, BLOCK_THREADS // 2)
# `thin` may keep more values than needed: one more for every eight.
_SLACK = 8
# A row of at least this many tiles is sampled first, one tile in all, to guess a threshold.
_SAMPLED = 4


@exact
def combine(slots, sums):
    """slots[r, 0] = sum of slots[r] for the first ``sums`` rows, maximum for the next row."""
    me = cuda.threadIdx.x
    cuda.syncthreads()
    for item in range(me, (sums + 1) * _PARTS, BLOCK_THREADS):
        row, part = item // _PARTS, item % _PARTS
        value = slots[row, part]
        for j in range(part + _PARTS, BLOCK_THREADS, _PARTS):
            other = slots[row, j]
            value = value + other if row < sums else max(value, other)
        slots[row, part] = value
    cuda.syncthreads()
    for row in range(me, sums + 1, BLOCK_THREADS):
        value = slots[row, 0]
        for part in range(1, _PARTS):
            other = slots[row, part]
            value = value + other if row < sums else max(value, other)
        slots[row, 0] = value
    cuda.syncthreads()


@exact
def sum_and_max(value, bound, slots):
    """Sum of the threads' values, and maximum of their bounds."""
    me = cuda.threadIdx.x
    slots[0, me] = value
    slots[1, me] = bound
    combine(slots, 1)
    total, top = slots[0, 0], slots[1, 0]
    # Barrier: `slots` must not change until every thread has read them.
    cuda.syncthreads()
    return total, top


@exact
def push_lowest(x, n, smallest, slots):
    """Lower ``smallest[0]`` to the smallest of x[:n]."""
    prevent_inlining()
    low = np.inf
    for k in range(cuda.threadIdx.x, n, BLOCK_THREADS):
        low = min(low, np.float64(x[k]))
    _, fall = sum_and_max(0.0, -low, slots)
    if cuda.threadIdx.x == 0:
        smallest[0] = min(smallest[0], -fall)
    cuda.syncthreads()


# --- the largest values of a stream -------------------------------------------------------------


@exact
def _count_above(values, count, threshold, slots):
    mine = 0.0
    for k in range(cuda.threadIdx.x, count, BLOCK_THREADS):
        mine += 1.0 if order_key(values[k]) > threshold else 0.0
    return sum_and_max(mine, 0.0, slots)[0]


@exact
def _middle(low, high):
    """The integer halfway between two, without overflow."""
    return (low & high) + ((low ^ high) >> np.int64(1))


@exact
def _compact(values, count, threshold, ties, counter):
    """Keep the values whose key is above the threshold, in place.

    If ``ties`` is not negative, keep only so many values whose key is the threshold + 1.
    """
    me = cuda.threadIdx.x
    end = count[0]
    cuda.syncthreads()
    if me == 0:
        count[0] = 0
        counter[0] = 0
    cuda.syncthreads()
    for start in range(0, end, BLOCK_THREADS):
        k = start + me
        value = values[k] if k < end else -np.inf
        key = order_key(value)
        # Barrier: every thread has read its value before any place is overwritten.
        cuda.syncthreads()
        keep = key > threshold and k < end
        if keep and ties >= 0 and key == threshold + 1:
            keep = cuda.atomic.add(counter, 0, 1) < ties
        if keep:
            values[cuda.atomic.add(count, 0, 1)] = value
        cuda.syncthreads()


@exact
def thin(values, count, threshold, needed, counter, slots):
    """Keep the ``needed`` largest of values[:count], and few others; raise the threshold to match.

    Bisects the interval of keys that contains the threshold.
    """
    size = count[0]
    low, high = order_key(threshold[0]), order_key(np.inf)
    most = float(needed + needed // _SLACK)
    above = float(size)
    # More than ``most`` values are above low, fewer than ``needed`` above high.
    while above > most and low + 1 < high:
        middle = _middle(low, high)
        found = _count_above(values, size, middle, slots)
        if found >= needed:
            low, above = middle, found
        else:
            high = middle
    ties = np.int64(-1)
    if above > most:
        # Many values equal the smallest one that is needed.
        ties = needed - np.int64(_count_above(values, size, high, slots))
    _compact(values, count, low, ties, counter)
    if cuda.threadIdx.x == 0:
        threshold[0] = from_order_key(high if ties >= 0 else low)
    cuda.syncthreads()


@exact
def _keep_above(x, k, values, count, threshold):
    """Keep x[k] if it is above the threshold and finite."""
    value = x[k]
    if value > threshold[0] and value < np.inf:
        values[cuda.atomic.add(count, 0, 1)] = value


@exact
def push_top(x, n, values, count, threshold, needed, counter, slots):
    """Add the values of x[:n] that may be among the ``needed`` largest; n is at most `TILE`."""
    prevent_inlining()
    _push_top(x, n, values, count, threshold, needed, counter, slots)


@exact
def _push_top(x, n, values, count, threshold, needed, counter, slots):
    for k in range(cuda.threadIdx.x, n, BLOCK_THREADS):
        _keep_above(x, k, values, count, threshold)
    cuda.syncthreads()
    full = count[0] > 2 * needed
    # Barrier: `count` must not change until every thread has read it.
    cuda.syncthreads()
    if full:
        thin(values, count, threshold, needed, counter, slots)


@exact
def _guess_threshold(row, start, stop, values, count, threshold, needed, counter, slots):
    """Raise the threshold, by a sample, so that most likely ``needed`` values are above it."""
    step = (stop - start) // TILE
    for k in range(cuda.threadIdx.x, TILE, BLOCK_THREADS):
        _keep_above(row, start + k * step, values, count, threshold)
    cuda.syncthreads()
    least = rank_in_sample(float(needed) / float(step))
    crowded = count[0] > least
    cuda.syncthreads()
    if crowded:
        thin(values, count, threshold, least, counter, slots)
    if cuda.threadIdx.x == 0:
        count[0] = 0
    cuda.syncthreads()


@exact
def push_top_row(row, start, stop, values, count, threshold, needed, counter, slots):
    """As `push_top`, for row[start:stop], while there are no values yet."""
    prevent_inlining()
    old_threshold = threshold[0]
    cuda.syncthreads()
    if stop - start >= _SAMPLED * TILE:
        _guess_threshold(row, start, stop, values, count, threshold, needed, counter, slots)
    for _ in range(2):
        for first in range(start, stop, TILE):
            n = min(TILE, stop - first)
            piece = row[first : first + n]
            _push_top(piece, n, values, count, threshold, needed, counter, slots)
        enough = count[0] >= needed or threshold[0] == old_threshold
        cuda.syncthreads()
        if enough:
            break
        # The guess was too high: start again from the old threshold.
        if cuda.threadIdx.x == 0:
            count[0] = 0
            threshold[0] = old_threshold
        cuda.syncthreads()


def values_size(needed: int) -> int:
    """Length of the array for the values of a stream while it runs; 0 if none are needed."""
    return 2 * needed + TILE if needed else 0
