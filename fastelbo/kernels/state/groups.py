"""Importance-weight groups in the mergeable state: k consecutive draws by address.

The value of a group is the log mean of its weights. A sum of weights is stored relative to
exp(shift). A chunk's border may split a group. So a state has three parts: the head (the end of a
group that began before the first draw of the state), the moments of the complete groups, and the
open group (not complete yet; it, too, may have begun before).
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower, exact
from ..math.scalar import exp, log_positive
from ..math.second_moments import finite_square_deviations
from ..math.simd import four_sums
from ..math.sums import range_sum, sum_all
from .scales import scale_of

# Fields of one group size.
HEAD_COUNT = 0  # the end of a group that began before the first draw of this state
HEAD_SHIFT = 1
HEAD_SUM = 2
OPEN_COUNT = 3  # the open group
OPEN_SHIFT = 4
OPEN_SUM = 5
CLOSED = 6  # number of complete groups, then mean and second moment of their values
CLOSED_MEAN = 7
CLOSED_M2 = 8
CLOSED_ZERO = 9  # number of complete groups whose weights are all 0: value -inf
CLOSED_SCALE = 10  # what their values were multiplied by; see `scales`
GROUP_SIZE = 11

# A sum of weights relative to the block's maximum, if below this, may have lost terms to underflow.
UNDERFLOW = 1e-250
# A sum of so many terms has a loop of known length, which is faster. The default group sizes, 10
# and 100, are made of such sums.
_TERMS = 10


@borrower
def clear_groups(groups):
    """Reset the groups to zero draws; the caller has set all fields to 0."""
    for offset in range(0, groups.shape[0], GROUP_SIZE):
        groups[offset + HEAD_SHIFT] = -np.inf
        groups[offset + OPEN_SHIFT] = -np.inf
        groups[offset + CLOSED_SCALE] = 1.0


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
def _rescale_closed(group, scale):
    """Scale the moments of the complete groups by ``scale`` if that is the smaller one."""
    if scale < group[CLOSED_SCALE]:
        ratio = scale / group[CLOSED_SCALE]
        group[CLOSED_MEAN] *= ratio
        # One factor after the other: the square of `TINY` is 0.
        group[CLOSED_M2] = group[CLOSED_M2] * ratio * ratio
        group[CLOSED_SCALE] = scale


@exact
def close_group(group, size):
    """The open group is complete: add its value to the moments, and open an empty group."""
    group[CLOSED] += 1.0
    if group[OPEN_SUM] > 0.0:
        value = group[OPEN_SHIFT] + log_positive(group[OPEN_SUM] / size)
        _rescale_closed(group, scale_of(value))
        value *= group[CLOSED_SCALE]
        finite = group[CLOSED] - group[CLOSED_ZERO]
        delta = value - group[CLOSED_MEAN]
        group[CLOSED_MEAN] += delta / finite
        group[CLOSED_M2] += delta * (value - group[CLOSED_MEAN])
    else:
        group[CLOSED_ZERO] += 1.0
    _reopen(group)


@borrower
def _reopen(group):
    group[OPEN_COUNT] = 0.0
    group[OPEN_SHIFT] = -np.inf
    group[OPEN_SUM] = 0.0


@exact
def merge_closed(group, count, zero, mean, m2, scale):
    """Append the moments of complete groups, of ``scale`` times their values."""
    na, nb = group[CLOSED] - group[CLOSED_ZERO], count - zero
    if nb > 0.0:
        _rescale_closed(group, scale)
        ratio = group[CLOSED_SCALE] / scale
        delta = mean * ratio - group[CLOSED_MEAN]
        group[CLOSED_MEAN] += delta * (nb / (na + nb))
        group[CLOSED_M2] += m2 * ratio * ratio + delta * delta * (na * nb / (na + nb))
    group[CLOSED] += count
    group[CLOSED_ZERO] += zero


@borrower
def finish_group(group, size):
    """Close the open group at its end, or make it the head if it began before this state."""
    if group[OPEN_COUNT] == size:
        close_group(group, size)
    else:
        group[HEAD_COUNT] = group[OPEN_COUNT]
        group[HEAD_SHIFT] = group[OPEN_SHIFT]
        group[HEAD_SUM] = group[OPEN_SUM]
        _reopen(group)


@borrower
def merge_group(group, other, size):
    """Append the groups of one size of the next draws."""
    if group[OPEN_COUNT] > 0.0:
        # The next draws continue the open group: with their head, which ends it, or with all of
        # them.
        if other[HEAD_COUNT] == 0.0:
            extend_open(group, other[OPEN_COUNT], other[OPEN_SHIFT], other[OPEN_SUM])
            return
        extend_open(group, other[HEAD_COUNT], other[HEAD_SHIFT], other[HEAD_SUM])
        finish_group(group, size)
    elif group[CLOSED] == 0.0 and group[HEAD_COUNT] == 0.0:
        # Without draws, the state takes the head.
        for field in range(HEAD_COUNT, HEAD_SUM + 1):
            group[field] = other[field]
    merge_closed(
        group, other[CLOSED], other[CLOSED_ZERO], other[CLOSED_MEAN], other[CLOSED_M2],
        other[CLOSED_SCALE],
    )  # fmt: skip
    group[OPEN_COUNT] = other[OPEN_COUNT]
    group[OPEN_SHIFT] = other[OPEN_SHIFT]
    group[OPEN_SUM] = other[OPEN_SUM]


# --- pushing a block ------------------------------------------------------------------------


@borrower
def _group_sums(x, start, size, count, sums):
    """Set the sums of ``count`` consecutive groups of ``size`` terms; ``sums`` may be x."""
    if size < 4 or count < 4:
        for g in range(count):
            first = start + g * size
            sums[g] = range_sum(x, first, first + size)
        return
    # The last four may begin among those before.
    if size == _TERMS:
        for g in range(0, count, 4):
            place = min(g, count - 4)
            four_sums(x, start + place * _TERMS, _TERMS, sums, place)
        return
    for g in range(0, count, 4):
        place = min(g, count - 4)
        four_sums(x, start + place * size, size, sums, place)


@borrower
def _any_underflow(sums, count):
    few = np.int64(0)
    for g in range(count):
        few += np.int64(1) if sums[g] < UNDERFLOW else np.int64(0)
    return few > 0


@borrower
def _extend_by_segment(group, log_weight, w, top, start, stop):
    """Add draws start to stop of a block to the open group; the block's maximum is ``top``."""
    count = float(stop - start)
    total = range_sum(w, start, stop)
    if total >= UNDERFLOW:
        extend_open(group, count, top, total)
        return
    # Relative to the block's maximum, weights may underflow: use the segment's own maximum.
    shift = -np.inf
    for k in range(start, stop):
        shift = max(shift, log_weight[k])
    total = 0.0
    if shift > -np.inf:
        for k in range(start, stop):
            total += exp(log_weight[k] - shift)
    extend_open(group, count, shift, total)


@borrower(interleave=2)
def _set_log_means(sums, size, count, values):
    """values = logs of means, from sums of ``size`` weights."""
    # Full vectors: a scalar remainder would take as long. What follows the sums is overwritten.
    padded = min((count + 7) // 8 * 8, sums.shape[0])
    for g in range(count, padded):
        sums[g] = size
    for g in range(padded):
        values[g] = log_positive(sums[g] / size)


@borrower
def add_values(group, size, sums, count, top, values, partial_sums):
    """Add complete groups by their sums of weights relative to exp(top).

    ``values`` is room for the logs of means.
    """
    if count > 0:
        _set_log_means(sums, size, count, values)
        mean = sum_all(values, count, partial_sums) / count
        m2 = finite_square_deviations(values, mean, count, partial_sums)
        scale = scale_of(top + mean)
        merge_closed(group, float(count), 0.0, (top + mean) * scale, m2 * scale * scale, scale)


@borrower
def _add_whole_groups(group, size, start, count, log_weight, w, top, sums, values, partial_sums):
    """Add complete groups, some of which may have lost weights to underflow."""
    kept = 0
    for g in range(count):
        if sums[g] >= UNDERFLOW:
            values[kept] = sums[g]
            kept += 1
        else:
            first = start + g * size
            _extend_by_segment(group, log_weight, w, top, first, first + size)
            close_group(group, float(size))
    add_values(group, size, values, kept, top, values, partial_sums)


@borrower
def push_groups(groups, iw_sizes, first, log_weight, w, top, n, sums, values, partial_sums):
    """Cut the block from draw ``first`` into groups of each size, by address, and add them.

    The sums of a size add up to those of the next size, if this is a multiple.
    """
    known_size, known_start = 1, 0
    for g in range(iw_sizes.shape[0]):
        size = iw_sizes[g]
        group = groups[g * GROUP_SIZE : (g + 1) * GROUP_SIZE]
        phase = first % size
        start = 0
        if phase > 0:
            start = min(n, size - phase)
            _extend_by_segment(group, log_weight, w, top, 0, start)
            if phase + start == size:
                finish_group(group, float(size))
        count = (n - start) // size
        if count > 0:
            if known_size > 1 and size % known_size == 0:
                place, terms = (start - known_start) // known_size, size // known_size
                _group_sums(sums, place, terms, count, sums)
            else:
                _group_sums(w, start, size, count, sums)
            known_size, known_start = size, start
            if _any_underflow(sums, count):
                _add_whole_groups(
                    group, size, start, count, log_weight, w, top, sums, values, partial_sums
                )
            else:
                add_values(group, size, sums, count, top, values, partial_sums)
        start += count * size
        if start < n:
            _extend_by_segment(group, log_weight, w, top, start, n)
