"""The largest values of a row, in order, with their places.

Branches on random data are what makes a selection slow, so there are none: candidates are gathered
by a store and a conditional step, thinned out by counting, and sorted by counting ranks in short
runs, which are then merged. Of equal values, the one that stands first in the row comes first.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from .compile import block
from .sums import from_order_key, largest, order_key
from .vectors import copy, fill

# A run this long is ranked by comparing all pairs, which vectorises.
_RUN = 64
# Values of a row that tell where about its largest begin.
_SAMPLE = 256
# Bisections of the range of the candidates before they are sorted instead.
_BISECTIONS = 16

# Candidates with their places, and room to sort them.
Candidates = namedtuple("Candidates", ["value", "place", "other_value", "other_place", "met"])


@block
def make_candidates(size):
    """Room to select up to ``size`` values."""
    room = max(256, 4 * size)
    return Candidates(
        np.empty(room),
        np.empty(room, np.int64),
        np.empty(room),
        np.empty(room, np.int64),
        np.empty(_RUN, np.int64),
    )


@block
def _count_above(values, limit, n):
    count = np.int64(0)
    for k in range(n):
        count += np.int64(1) if values[k] > limit else np.int64(0)
    return count


@block
def smallest(values, n):
    """Least of values[:n], none of which is NaN."""
    best = order_key(np.inf)
    for k in range(n):
        best = min(best, order_key(values[k]))
    return from_order_key(best)


@block
def _rank_run(value, place, n, met, out_value, out_place):
    """Sort one run, descending, by how many values are above each."""
    fill(met, n, 0)
    for k in range(n):
        above = _count_above(value, value[k], n)
        # Equal values have one rank, and take the places from there on in turn.
        out_value[above + met[above]] = value[k]
        out_place[above + met[above]] = place[k]
        met[above] += 1


@block
def _merge_runs(value, place, middle, n, out_value, out_place):
    """Merge value[:middle] and value[middle:n], both descending."""
    a, b = 0, middle
    for k in range(n):
        first = b >= n or (a < middle and value[a] >= value[b])
        source = a if first else b
        out_value[k] = value[source]
        out_place[k] = place[source]
        a += np.int64(first)
        b += np.int64(not first)


@block
def _is_descending(value, n):
    rises = np.int64(0)
    for k in range(1, n):
        rises += np.int64(1) if value[k] > value[k - 1] else np.int64(0)
    return rises == 0


@block
def sort_descending(candidates, n):
    """Sort the first ``n`` candidates."""
    value, place, other_value, other_place, met = candidates
    if _is_descending(value, n):
        return
    for lo in range(0, n, _RUN):
        hi = min(n, lo + _RUN)
        _rank_run(value[lo:hi], place[lo:hi], hi - lo, met, other_value[lo:hi], other_place[lo:hi])
    copy(other_value, n, value)
    copy(other_place, n, place)
    width = _RUN
    while width < n:
        for lo in range(0, n, 2 * width):
            hi = min(n, lo + 2 * width)
            middle = min(width, hi - lo)
            _merge_runs(
                value[lo:hi], place[lo:hi], middle, hi - lo, other_value[lo:hi], other_place[lo:hi]
            )
        copy(other_value, n, value)
        copy(other_place, n, place)
        width *= 2


@block
def _bisect(values, n, least, most):
    """A limit with ``least`` to ``most`` of the values above it; NaN where none is found soon."""
    low, high = smallest(values, n), largest(values, n)
    for _ in range(_BISECTIONS):
        limit = 0.5 * low + 0.5 * high
        above = _count_above(values, limit, n)
        if above < least:
            high = limit
        elif above > most:
            low = limit
        else:
            return limit
    return np.nan


@block
def thin(candidates, n, size):
    """Leave ``size`` of the largest candidates, or a few more, in front.

    Returns how many, and a limit: whatever is not above it, and comes later, is not needed.
    """
    value, place = candidates.value, candidates.place
    limit = _bisect(value, n, size, size + size // 8)
    if limit != limit:
        sort_descending(candidates, n)
        return size, value[size - 1]
    count = 0
    for k in range(n):
        value[count] = x = value[k]
        place[count] = place[k]
        count += np.int64(x > limit)
    return count, limit


@block
def guess_limit(row, n, size, sample):
    """A limit that most likely has ``size`` of a long row above it, from a sample of the row."""
    if n < 2 * _SAMPLE:
        return -np.inf
    step = n // _SAMPLE
    for k in range(_SAMPLE):
        sample[k] = row[k * step]
    expected = size * _SAMPLE / n
    least = np.int64(expected + 2.0 * np.sqrt(expected)) + 1
    return _bisect(sample, _SAMPLE, least, least + least // 4)


@block
def _gather(row, n, size, limit, candidates):
    """Put what may be among the ``size`` largest of row[:n] in front of the candidates."""
    value, place = candidates.value, candidates.place
    room = value.shape[0]
    count = 0
    start = 0
    while start < n:
        stop = min(n, start + room - count)
        old = count
        piece = row[start:stop]
        for k in range(stop - start):
            place[count] = start + k
            count += np.int64(piece[k] > limit)
        for k in range(old, count):
            value[k] = row[place[k]]
        start = stop
        if count > size and (start == n or 4 * count > 3 * room):
            count, limit = thin(candidates, count, size)
    return count


@block
def select_largest(row, n, size, candidates):
    """Put the ``size`` largest of row[:n] in front of the candidates, descending.

    Fewer where there are not so many above -inf; returns how many. NaN is never among them.
    """
    limit = guess_limit(row, n, size, candidates.other_value)
    count = _gather(row, n, size, limit, candidates)
    if count < size and limit != -np.inf:
        count = _gather(row, n, size, -np.inf, candidates)
    sort_descending(candidates, count)
    return min(count, size)
