"""Importance-weight groups in the mergeable state: k draws in a row by address.

The value of a group is the log mean of its weights. A sum of weights is held relative to
exp(shift). Chunks cut through groups: a chunk's state keeps the end of a group that began before
it, the moments of the complete ones, and the group still open.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, exact
from ..math.scalar import exp, log_positive
from ..math.sums import range_sum, square_deviations

# Fields of one group size.
HEAD_COUNT = 0  # the end of a group that began before this state's first draw
HEAD_SHIFT = 1
HEAD_SUM = 2
OPEN_COUNT = 3  # the group still open
OPEN_SHIFT = 4
OPEN_SUM = 5
CLOSED = 6  # how many complete groups, with the mean and second moment of their values
CLOSED_MEAN = 7
CLOSED_M2 = 8
CLOSED_ZERO = 9  # complete groups without a single positive weight: value -inf
GROUP_SIZE = 10

# Below this a sum of weights relative to the block's maximum has lost terms to underflow.
UNDERFLOW = 1e-250


@block
def clear_groups(groups):
    """Make the fields of every group size those of no draws."""
    for offset in range(0, groups.shape[0], GROUP_SIZE):
        groups[offset + HEAD_SHIFT] = -np.inf
        groups[offset + OPEN_SHIFT] = -np.inf


# --- merging --------------------------------------------------------------------------------


@exact
def extend_open(group, count, shift, total):
    """Add a sum of weights, relative to exp(shift), to the open group."""
    if total > 0.0:
        if group[OPEN_SUM] == 0.0:
            group[OPEN_SHIFT], group[OPEN_SUM] = shift, total
        elif shift <= group[OPEN_SHIFT]:
            group[OPEN_SUM] += total * exp(shift - group[OPEN_SHIFT])
        else:
            group[OPEN_SUM] = group[OPEN_SUM] * exp(group[OPEN_SHIFT] - shift) + total
            group[OPEN_SHIFT] = shift
    group[OPEN_COUNT] += count


@exact
def close_group(group, size):
    """Turn the open group, now complete, into a value."""
    group[CLOSED] += 1.0
    if group[OPEN_SUM] > 0.0:
        value = group[OPEN_SHIFT] + log_positive(group[OPEN_SUM] / size)
        finite = group[CLOSED] - group[CLOSED_ZERO]
        delta = value - group[CLOSED_MEAN]
        group[CLOSED_MEAN] += delta / finite
        group[CLOSED_M2] += delta * (value - group[CLOSED_MEAN])
    else:
        group[CLOSED_ZERO] += 1.0
    _reopen(group)


@block
def _reopen(group):
    group[OPEN_COUNT] = 0.0
    group[OPEN_SHIFT] = -np.inf
    group[OPEN_SUM] = 0.0


@exact
def merge_closed(group, count, zero, mean, m2):
    """Append the moments of complete groups."""
    na, nb = group[CLOSED] - group[CLOSED_ZERO], count - zero
    if nb > 0.0:
        delta = mean - group[CLOSED_MEAN]
        group[CLOSED_MEAN] += delta * (nb / (na + nb))
        group[CLOSED_M2] += m2 + delta * delta * (na * nb / (na + nb))
    group[CLOSED] += count
    group[CLOSED_ZERO] += zero


@block
def merge_group(group, other, size):
    """Append the next chunk's groups of one size to a state that begins at draw 0."""
    if group[OPEN_COUNT] > 0.0:
        # The next chunk goes on in the open group: with its head, or, where it never reached the
        # group's end, with all it has.
        piece = HEAD_COUNT if other[HEAD_COUNT] > 0.0 else OPEN_COUNT
        extend_open(group, other[piece], other[piece + 1], other[piece + 2])
        if group[OPEN_COUNT] == size:
            close_group(group, size)
        if piece == OPEN_COUNT:
            return
    merge_closed(group, other[CLOSED], other[CLOSED_ZERO], other[CLOSED_MEAN], other[CLOSED_M2])
    group[OPEN_COUNT] = other[OPEN_COUNT]
    group[OPEN_SHIFT] = other[OPEN_SHIFT]
    group[OPEN_SUM] = other[OPEN_SUM]


# --- pushing a block ------------------------------------------------------------------------


@block
def _group_sums(w, start, size, count, values):
    """Sums of ``count`` groups of ``size`` weights in a row; returns the least of them."""
    least = np.inf
    for g in range(count):
        total = range_sum(w, start + g * size, start + (g + 1) * size)
        values[g] = total
        least = min(least, total)
    return least


@block
def _extend_by_segment(group, log_weight, w, top, start, stop):
    """Add draws start to stop of a block, whose maximum is ``top``, to the open group."""
    count = float(stop - start)
    total = range_sum(w, start, stop)
    if total >= UNDERFLOW:
        extend_open(group, count, top, total)
        return
    # Relative to the block's maximum, weights were lost to underflow: take the segment's own.
    shift = -np.inf
    for k in range(start, stop):
        shift = max(shift, log_weight[k])
    total = 0.0
    if shift > -np.inf:
        for k in range(start, stop):
            total += exp(log_weight[k] - shift)
    extend_open(group, count, shift, total)


@block
def finish_group(group, size):
    """The open group has reached its end: it is complete, or the tail of an earlier chunk's."""
    if group[OPEN_COUNT] == size:
        close_group(group, size)
    else:
        group[HEAD_COUNT] = group[OPEN_COUNT]
        group[HEAD_SHIFT] = group[OPEN_SHIFT]
        group[HEAD_SUM] = group[OPEN_SUM]
        _reopen(group)


@block
def _push_whole_groups(group, size, start, count, log_weight, w, top, values, partial_sums):
    """Take in ``count`` complete groups of a block."""
    least = _group_sums(w, start, size, count, values)
    kept = count
    if least < UNDERFLOW:
        kept = 0
        for g in range(count):
            if values[g] >= UNDERFLOW:
                values[kept] = values[g]
                kept += 1
            else:
                first = start + g * size
                _extend_by_segment(group, log_weight, w, top, first, first + size)
                close_group(group, float(size))
    if kept > 0:
        for g in range(kept):
            values[g] = log_positive(values[g] / size)
        mean = range_sum(values, 0, kept) / kept
        m2 = square_deviations(values, mean, kept, partial_sums)
        merge_closed(group, float(kept), 0.0, top + mean, m2)


@block
def push_groups(group, size, first, log_weight, w, top, n, values, partial_sums):
    """Cut the block at draw ``first`` into groups of ``size`` draws by address; take them in."""
    phase = first % size
    start = 0
    if phase > 0:
        start = min(n, size - phase)
        _extend_by_segment(group, log_weight, w, top, 0, start)
        if phase + start == size:
            finish_group(group, float(size))
    count = (n - start) // size
    if count > 0:
        _push_whole_groups(group, size, start, count, log_weight, w, top, values, partial_sums)
    start += count * size
    if start < n:
        _extend_by_segment(group, log_weight, w, top, start, n)
