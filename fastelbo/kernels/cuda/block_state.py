"""The mergeable state of a tile of draws, computed by all threads of a CUDA block.

The fields are those of `state` and `groups`. One thread merges states, with the functions of these
modules. This file holds only the sums over a tile, which `push_block` computes on a CPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..jit.compile import exact
from ..math.scalar import exp, log_positive
from ..state.groups import (
    GROUP_SIZE,
    UNDERFLOW,
    close_group,
    extend_open,
    finish_group,
    merge_closed,
)
from ..state.state import (
    BAD,
    CO_MOMENT,
    COUNT,
    FINITE,
    FIRST_BAD,
    GROUPS,
    LOG_LIKELIHOOD,
    LOG_RATIO,
    LOG_WEIGHT,
    M2,
    M2_WEIGHT,
    MAX,
    MIN,
    REST_HI,
    REST_LO,
    SCALE,
    SUM_HI,
    SUM_LO,
    merge_moments,
)
from .block_reduce import combine, sum_and_max
from .device import BLOCK_THREADS, cuda
from .views import prevent_inlining

# Rows of `Tile.slots`: up to eight sums at a time, and a maximum.
SLOTS = 9
# One thread sums a whole group if the group has fewer draws than this.
_FEW = 64


class Tile(NamedTuple):
    """Terms of consecutive draws in shared memory, and scratch memory for their sums."""

    log_weight: Any  # (TILE,)
    log_likelihood: Any  # (TILE,)
    log_ratio: Any  # (TILE,) log q - log prior
    weight: Any  # (TILE,)
    slots: Any  # (SLOTS, BLOCK_THREADS)
    fresh: Any  # (GROUPS,) the state of the tile


@exact
def _finite(x):
    return x if abs(x) < np.inf else 0.0


@exact
def _is_finite(x):
    return 1.0 if abs(x) < np.inf else 0.0


@exact
def _sum_terms(tile, first, n):
    """Write counts and sums of the three terms, and the maximum, to the tile's state.

    A log weight that is NaN or +inf is counted, and replaced by -inf.
    """
    me = cuda.threadIdx.x
    slots, fresh = tile.slots, tile.fresh
    for row in range(8):
        slots[row, me] = 0.0
    top, place = -np.inf, -np.inf
    for k in range(me, n, BLOCK_THREADS):
        value = tile.log_weight[k]
        if not value < np.inf:
            slots[0, me] += 1.0
            place = max(place, -float(k))
            value = -np.inf
            tile.log_weight[k] = value
        top = max(top, value)
        slots[1, me] += _is_finite(value)
        slots[2, me] += _finite(value)
        slots[3, me] += _is_finite(tile.log_likelihood[k])
        slots[4, me] += _finite(tile.log_likelihood[k])
        slots[5, me] += _is_finite(tile.log_ratio[k])
        slots[6, me] += _finite(tile.log_ratio[k])
    slots[8, me] = top
    combine(slots, 8)
    if me == 0:
        fresh[COUNT] = float(n)
        fresh[BAD] = slots[0, 0]
        fresh[FIRST_BAD] = np.inf
        fresh[MAX], fresh[MIN] = slots[8, 0], np.inf
        for row, offset in ((1, LOG_WEIGHT), (3, LOG_LIKELIHOOD), (5, LOG_RATIO)):
            fresh[offset + FINITE] = slots[row, 0]
            fresh[offset + SUM_HI] = slots[row + 1, 0]
            fresh[offset + SUM_LO] = 0.0
            fresh[offset + SCALE] = 1.0
    cuda.syncthreads()
    if fresh[BAD] > 0.0:
        _, nearest = sum_and_max(0.0, place, slots)
        if me == 0:
            fresh[FIRST_BAD] = float(first) - nearest
        cuda.syncthreads()


@exact
def _scale_weights(tile, n):
    """Scale the weights by the largest, and sum them without one largest weight, which is 1."""
    me = cuda.threadIdx.x
    slots, fresh = tile.slots, tile.fresh
    top = fresh[MAX]
    some = top > -np.inf
    rest, ones = 0.0, 0.0
    for k in range(me, n, BLOCK_THREADS):
        weight = exp(tile.log_weight[k] - top) if some else 0.0
        tile.weight[k] = weight
        rest += weight if weight != 1.0 else 0.0
        ones += 1.0 if weight == 1.0 else 0.0
    slots[0, me], slots[1, me], slots[2, me] = rest, ones, 0.0
    combine(slots, 2)
    if me == 0:
        fresh[REST_HI] = slots[0, 0] + (slots[1, 0] - 1.0) if some else 0.0
        fresh[REST_LO] = 0.0
    cuda.syncthreads()


@exact
def _mean(fresh, offset):
    return fresh[offset + SUM_HI] / fresh[offset + FINITE] if fresh[offset + FINITE] > 0.0 else 0.0


@exact
def _deviation(x, mean):
    return x - mean if abs(x) < np.inf else 0.0


@exact
def _centred_moments(tile, n):
    """Second moments of terms and scaled weights; co-moment of scaled and log weights."""
    me = cuda.threadIdx.x
    slots, fresh = tile.slots, tile.fresh
    finite = fresh[LOG_WEIGHT + FINITE]
    weight_mean = (1.0 + fresh[REST_HI]) / finite if finite > 0.0 else 0.0
    mean = _mean(fresh, LOG_WEIGHT)
    mean_likelihood, mean_ratio = _mean(fresh, LOG_LIKELIHOOD), _mean(fresh, LOG_RATIO)
    ww, xx, wx, likelihood, ratio = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(me, n, BLOCK_THREADS):
        x = tile.log_weight[k]
        dw = tile.weight[k] - weight_mean if abs(x) < np.inf else 0.0
        dx = _deviation(x, mean)
        ww += dw * dw
        xx += dx * dx
        wx += dw * dx
        dx = _deviation(tile.log_likelihood[k], mean_likelihood)
        likelihood += dx * dx
        dx = _deviation(tile.log_ratio[k], mean_ratio)
        ratio += dx * dx
    slots[0, me], slots[1, me], slots[2, me] = ww, xx, wx
    slots[3, me], slots[4, me], slots[5, me] = likelihood, ratio, 0.0
    combine(slots, 5)
    if me == 0:
        fresh[M2_WEIGHT], fresh[CO_MOMENT] = slots[0, 0], slots[2, 0]
        fresh[LOG_WEIGHT + M2] = slots[1, 0]
        fresh[LOG_LIKELIHOOD + M2] = slots[3, 0]
        fresh[LOG_RATIO + M2] = slots[4, 0]
    cuda.syncthreads()


# --- importance-weight groups -------------------------------------------------------------------


@exact
def _extend_by_segment(group, tile, start, stop):
    """Add draws start to stop of the tile to the open group."""
    me = cuda.threadIdx.x
    total, top = 0.0, -np.inf
    for k in range(start + me, stop, BLOCK_THREADS):
        total += tile.weight[k]
        top = max(top, tile.log_weight[k])
    total, top = sum_and_max(total, top, tile.slots)
    shift = tile.fresh[MAX]
    if total < UNDERFLOW and top > -np.inf:
        # Weights underflow relative to the tile's maximum: use the segment's own maximum.
        total, shift = 0.0, top
        for k in range(start + me, stop, BLOCK_THREADS):
            total += exp(tile.log_weight[k] - top)
        total, _ = sum_and_max(total, 0.0, tile.slots)
    if me == 0:
        extend_open(group, float(stop - start), shift, total)


@exact
def _group_value(tile, start, stop):
    """Log of the sum of weights of one group; -inf if all are 0."""
    total, shift = 0.0, tile.fresh[MAX]
    for k in range(start, stop):
        total += tile.weight[k]
    if total < UNDERFLOW:
        shift = -np.inf
        for k in range(start, stop):
            shift = max(shift, tile.log_weight[k])
        if shift == -np.inf:
            return shift
        total = 0.0
        for k in range(start, stop):
            total += exp(tile.log_weight[k] - shift)
    return shift + log_positive(total)


@exact
def _close_values(group, size, values, count, total, some, slots):
    """Add groups by logs of their sums of weights. ``total`` is a thread's sum of the finite ones.

    ``some`` is how many these are.
    """
    me = cuda.threadIdx.x
    slots[0, me], slots[1, me], slots[2, me] = total, some, 0.0
    combine(slots, 2)
    total, some = slots[0, 0], slots[1, 0]
    cuda.syncthreads()
    mean = total / some if some > 0.0 else 0.0
    second = 0.0
    for g in range(me, count, BLOCK_THREADS):
        deviation = _deviation(values[g], mean)
        second += deviation * deviation
    second, _ = sum_and_max(second, 0.0, slots)
    if me == 0:
        zero = float(count) - some
        merge_closed(group, float(count), zero, mean - log_positive(float(size)), second, 1.0)


@exact
def _push_small_groups(group, size, start, count, tile):
    """Add ``count`` whole groups; a thread takes one at a time. Values overwrite ``log_ratio``."""
    values = tile.log_ratio
    total, some = 0.0, 0.0
    for g in range(cuda.threadIdx.x, count, BLOCK_THREADS):
        value = _group_value(tile, start + g * size, start + (g + 1) * size)
        values[g] = value
        total += _finite(value)
        some += _is_finite(value)
    _close_values(group, size, values, count, total, some, tile.slots)


@exact
def push_values(group, size, shift, sums, count, slots):
    """Add groups whose weights have the sums ``sums exp(shift)``. Values overwrite ``shift``."""
    prevent_inlining()
    total, some = 0.0, 0.0
    for g in range(cuda.threadIdx.x, count, BLOCK_THREADS):
        shift[g] = shift[g] + log_positive(sums[g]) if sums[g] > 0.0 else -np.inf
        total += _finite(shift[g])
        some += _is_finite(shift[g])
    _close_values(group, size, shift, count, total, some, slots)


@exact
def _push_group_size(group, size, first, tile, n):
    """Cut the tile from draw ``first`` into groups of ``size`` draws, by address, and add them."""
    me = cuda.threadIdx.x
    phase = first % size
    start = np.int64(0)
    if phase > 0:
        start = min(n, size - phase)
        _extend_by_segment(group, tile, 0, start)
        if phase + start == size and me == 0:
            finish_group(group, float(size))
    count = (n - start) // size
    if size < _FEW:
        if count > 0:
            _push_small_groups(group, size, start, count, tile)
    else:
        for g in range(count):
            _extend_by_segment(group, tile, start + g * size, start + (g + 1) * size)
            if me == 0:
                close_group(group, float(size))
    start += count * size
    if start < n:
        _extend_by_segment(group, tile, start, n)


@exact
def push_tile(state, iw_sizes, first, tile, n):
    """Add a tile, whose draws start at ``first``, to the state of its chunk."""
    prevent_inlining()
    _sum_terms(tile, first, n)
    _scale_weights(tile, n)
    _centred_moments(tile, n)
    if cuda.threadIdx.x == 0:
        merge_moments(state, tile.fresh)
    for g in range(iw_sizes.shape[0]):
        offset = GROUPS + g * GROUP_SIZE
        _push_group_size(state[offset : offset + GROUP_SIZE], iw_sizes[g], first, tile, n)
    cuda.syncthreads()
