"""What the threads of a CUDA block do together: sums, maxima, and the largest values of a stream.

Every thread of a block calls these functions, with the same arguments but for its own value.
Sums are taken in one fixed order; atomic operations hand out places alone.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import exact
from ..math.selection import rank_in_sample
from ..math.sums import from_order_key, order_key
from .device import BLOCK_THREADS, TILE, cuda
from .views import stay_a_call

# Partial sums of a row of slots.
_PARTS = min(16, BLOCK_THREADS // 2)
# Values that may be kept beyond those that are needed, as a fraction of them: one in eight.
_SLACK = 8
# Tiles of a row from which a sample, of one tile, tells where about its largest values begin.
_SAMPLED = 4


@exact
def combine(slots, sums):
    """slots[r, 0] = sum of slots[r] for the first ``sums`` rows; of the next, the maximum."""
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
    # Nobody writes to the slots before all have read them.
    cuda.syncthreads()
    return total, top


# --- the largest values of a stream -------------------------------------------------------------


@exact
def _count_above(values, count, limit, slots):
    mine = 0.0
    for k in range(cuda.threadIdx.x, count, BLOCK_THREADS):
        mine += 1.0 if order_key(values[k]) > limit else 0.0
    return sum_and_max(mine, 0.0, slots)[0]


@exact
def _middle(low, high):
    """The integer halfway between two, which cannot overflow."""
    return (low & high) + ((low ^ high) >> np.int64(1))


@exact
def _compact(values, count, limit, ties, counter):
    """Keep what is above the limit, and so many of the values just above it, in place."""
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
        # All of these have been read before one of their places is taken.
        cuda.syncthreads()
        kept = key > limit and k < end
        if kept and ties >= 0 and key == limit + 1:
            kept = cuda.atomic.add(counter, 0, 1) < ties
        if kept:
            values[cuda.atomic.add(count, 0, 1)] = value
        cuda.syncthreads()


@exact
def thin(values, count, limit, needed, counter, slots):
    """Keep the ``needed`` largest of values[:count], and few others; raise the limit accordingly.

    By halving the interval of keys that the limit is in.
    """
    size = count[0]
    low, high = order_key(limit[0]), order_key(np.inf)
    most = float(needed + needed // _SLACK)
    above = float(size)
    # More than enough are above low, too few above high.
    while above > most and low + 1 < high:
        middle = _middle(low, high)
        found = _count_above(values, size, middle, slots)
        if found >= needed:
            low, above = middle, found
        else:
            high = middle
    ties = np.int64(-1)
    if above > most:
        # Many are equal to the smallest one that is needed.
        ties = needed - np.int64(_count_above(values, size, high, slots))
    _compact(values, count, low, ties, counter)
    if cuda.threadIdx.x == 0:
        limit[0] = from_order_key(high if ties >= 0 else low)
    cuda.syncthreads()


@exact
def push_top(x, n, values, count, limit, needed, counter, slots):
    """Take what may be among the ``needed`` largest from x[:n], of at most `TILE` values."""
    stay_a_call()
    for k in range(cuda.threadIdx.x, n, BLOCK_THREADS):
        value = x[k]
        if value > limit[0]:
            values[cuda.atomic.add(count, 0, 1)] = value
    cuda.syncthreads()
    full = count[0] > 2 * needed
    # Nobody counts on before all have seen it.
    cuda.syncthreads()
    if full:
        thin(values, count, limit, needed, counter, slots)


@exact
def _guess_limit(row, start, stop, values, count, limit, needed, counter, slots):
    """Raise the limit to one that most likely has ``needed`` values above it, by a sample."""
    step = (stop - start) // TILE
    for k in range(cuda.threadIdx.x, TILE, BLOCK_THREADS):
        value = row[start + k * step]
        if value > limit[0]:
            values[cuda.atomic.add(count, 0, 1)] = value
    cuda.syncthreads()
    least = rank_in_sample(float(needed) / float(step))
    crowded = count[0] > least
    cuda.syncthreads()
    if crowded:
        thin(values, count, limit, least, counter, slots)
    if cuda.threadIdx.x == 0:
        count[0] = 0
    cuda.syncthreads()


@exact
def push_top_row(row, start, stop, values, count, limit, needed, counter, slots):
    """Take what may be among the ``needed`` largest of row[start:stop], after no others."""
    stay_a_call()
    known = limit[0]
    cuda.syncthreads()
    if stop - start >= _SAMPLED * TILE:
        _guess_limit(row, start, stop, values, count, limit, needed, counter, slots)
    for _ in range(2):
        for first in range(start, stop, TILE):
            n = min(TILE, stop - first)
            push_top(row[first : first + n], n, values, count, limit, needed, counter, slots)
        enough = count[0] >= needed or limit[0] == known
        cuda.syncthreads()
        if enough:
            break
        # The guess was too high.
        if cuda.threadIdx.x == 0:
            count[0] = 0
            limit[0] = known
        cuda.syncthreads()


def kept_size(needed: int) -> int:
    """Room that a stream of values needs while it runs; none where none is needed."""
    return 2 * needed + TILE if needed else 0
