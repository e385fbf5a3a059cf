"""The largest values of a row, in order, with their places.

Branches on random data are what makes a selection slow, so there are few: comparisons with a limit
are packed into the bits of a word, whose ones are taken out one by one; candidates are thinned out
by counting, and sorted in short runs, which are then merged from both ends. A run is sorted by
counting how many of its values are above each: of short integers, as more of them are compared at
once. Few are so close that these say nothing, and are put right afterwards. Of equal values, the
one that stands first in the row comes first.
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np

from ..jit.compile import block, scalar
from .copies import copy, fill
from .simd import BITS, lowest_bit, word_above
from .sums import from_order_key, largest, order_key

# A run this long is ranked by comparing all pairs, which vectorises. So much room is left behind
# all candidates.
RUN = 128
# Values that all of a run are compared with at once.
_STEP = 8
# Steps from the least to the largest value of a run, of which an integer has room for one more.
_STEPS = 2.0**31 / RUN - 2.0
# Below the key of any value.
_LEAST = np.int64(-(2**63))
# Values of a row that tell where about its largest begin.
_SAMPLE = 256
# Bisections of the range of the candidates before they are sorted instead.
_BISECTIONS = 16

# Candidates with their places, and room to sort them: by integers in the order of the values, which
# are compared sooner.
Candidates = namedtuple(
    "Candidates", ["value", "place", "key", "other_key", "other_place", "coarse", "rank"]
)


@block
def make_candidates(size):
    """Room to select up to ``size`` values."""
    room = max(256, 4 * size) + RUN
    return Candidates(
        np.empty(room),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(RUN, np.int32),
        np.empty(RUN, np.int32),
    )


@block
def take_above(x, n, limit, start, value, place):
    """Put values of x[start:n] above the limit in front, and their places.

    Returns how many, and where it stopped: where ``value``, which may be x, has no room for as many
    as there are bits in a word.
    """
    count, room = np.uint64(0), np.uint64(value.shape[0] - BITS)
    first = start
    while first + BITS <= n and count <= room:
        word = word_above(x, first, limit)
        while word != 0:
            k = first + lowest_bit(word)
            value[count], place[count] = x[np.uint64(k)], k
            count += np.uint64(1)
            word &= word - np.uint64(1)
        first += BITS
    if n - first < BITS and count <= room:
        for k in range(first, n):
            if x[k] > limit:
                value[count], place[count] = x[k], k
                count += np.uint64(1)
        first = n
    return np.int64(count), first


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
def _set_coarse_keys(value, n, coarse):
    """Nearly the order of value[:n] in integers, each different: of one step, the first is largest.

    Whatever stands behind is below all.
    """
    low, high = smallest(value, n), largest(value, n)
    scale = _STEPS / (high - low) if high > low else 0.0
    for k in range(RUN):
        step = (value[k] - low) * scale
        # Not a number where values are infinitely far apart.
        step = step if step < _STEPS else _STEPS
        step = np.int32(step + 1.0) if k < n else np.int32(0)
        coarse[k] = step * np.int32(RUN) + np.int32(RUN - 1 - k)


@block
def _set_ranks(coarse, n, rank):
    """How many of the first n keys of a run are above each."""
    for k in range(RUN):
        rank[k] = np.int32(0)
    for i in range(0, n, _STEP):
        for k in range(RUN):
            above = np.int32(0)
            for j in range(_STEP):
                # The sign of the difference.
                above += np.int32(np.uint32(coarse[k] - coarse[i + j]) >> np.uint32(31))
            rank[k] += above


@block
def _mend(key, place, n):
    """Sort keys that are nearly so, descending; equal ones stay in turn."""
    rises = np.int64(0)
    for k in range(1, n):
        rises += np.int64(1) if key[k] > key[k - 1] else np.int64(0)
    if rises == 0:
        return
    for k in range(1, n):
        moved, origin = key[k], place[k]
        target = k
        while target > 0 and key[target - 1] < moved:
            key[target], place[target] = key[target - 1], place[target - 1]
            target -= 1
        key[target], place[target] = moved, origin


@block
def _sort_run(value, place, n, coarse, rank, out_key, out_place):
    """Sort the first n of one run, descending; `_LEAST` stands behind them."""
    _set_coarse_keys(value, n, coarse)
    _set_ranks(coarse, n, rank)
    for k in range(n):
        target = np.uint64(rank[k])
        # Of the zeros, neither is larger.
        out_key[target] = order_key(value[k] + 0.0)
        out_place[target] = place[k]
    _mend(out_key, out_place, n)


@block
def _merge_runs(key, place, middle, n, out_key, out_place):
    """Merge key[:middle] and the rest of key[:n], not longer, both descending.

    From both ends at once, so that two chains of comparisons run side by side. The first run does
    not end before its chain does. The second may, and has `_LEAST` behind it then.
    """
    # Unsigned, as a negative index would count from the end.
    a, b, border = np.uint64(0), np.uint64(middle), np.uint64(middle)
    c, d = np.uint64(middle - 1), np.uint64(n - 1)
    front, back = np.uint64(0), np.uint64(n - 1)
    for _ in range(n // 2):
        first = np.uint64(key[a] >= key[b])
        source = a if first else b
        out_key[front], out_place[front] = key[source], place[source]
        front += np.uint64(1)
        a += first
        b += np.uint64(1) - first
        last = np.uint64(d >= border) & np.uint64(key[c] >= key[d])
        source = d if last else c
        out_key[back], out_place[back] = key[source], place[source]
        back -= np.uint64(1)
        d -= last
        c -= np.uint64(1) - last
    if n % 2:
        source = a if key[a] >= key[b] else b
        out_key[front], out_place[front] = key[source], place[source]


@block
def _is_descending(value, n):
    rises = np.int64(0)
    for k in range(1, n):
        rises += np.int64(1) if value[k] > value[k - 1] else np.int64(0)
    return rises == 0


@block
def sort_descending(candidates, n):
    """Sort the first ``n`` candidates."""
    value, place, key, other_key, other_place, coarse, rank = candidates
    if _is_descending(value, n):
        return
    padded = n - n % RUN + RUN
    fill(key[n:], padded - n, _LEAST)
    fill(other_key[n:], padded - n, _LEAST)
    for lo in range(0, n, RUN):
        _sort_run(
            value[lo : lo + RUN], place[lo : lo + RUN], min(RUN, n - lo), coarse, rank,
            other_key[lo : lo + RUN], other_place[lo : lo + RUN],
        )  # fmt: skip
    width = RUN
    while width < n:
        key, place, other_key, other_place = other_key, other_place, key, place
        for lo in range(0, n, 2 * width):
            length = min(2 * width, n - lo)
            _merge_runs(
                key[lo:], place[lo:], min(width, length), length, other_key[lo:], other_place[lo:]
            )
        width *= 2
    for k in range(n):
        value[k] = from_order_key(other_key[k])
    copy(other_place, n, candidates.place)


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
    count, _ = take_above(value, n, limit, 0, value, candidates.other_place)
    for k in range(count):
        # Never before k: what is moved is still in its place.
        place[k] = place[np.uint64(candidates.other_place[k])]
    return count, limit


@scalar
def rank_in_sample(expected):
    """A rank in a sample that is most likely below another, whose place is expected there."""
    return np.int64(expected + 2.0 * math.sqrt(expected)) + 1


@block
def guess_limit(row, n, size, sample):
    """A limit that most likely has ``size`` of a long row above it, from a sample of the row."""
    if n < 2 * _SAMPLE:
        return -np.inf
    step = n // _SAMPLE
    for k in range(_SAMPLE):
        sample[k] = row[k * step]
    least = rank_in_sample(size * _SAMPLE / n)
    return _bisect(sample, _SAMPLE, least, least + least // 4)


@block
def _gather(row, n, size, limit, candidates):
    """Put what may be among the ``size`` largest of row[:n] in front of the candidates."""
    value, place = candidates.value, candidates.place
    # A run of room is left behind the candidates, for sorting them.
    room = value.shape[0] - RUN
    count = start = 0
    while start < n:
        found, start = take_above(row, n, limit, start, value[count:room], place[count:])
        count += found
        if count > size and (start == n or count > room - BITS):
            count, limit = thin(candidates, count, size)
    return count


@block
def select_largest(row, n, size, candidates):
    """Put the ``size`` largest of row[:n] in front of the candidates, descending.

    Fewer where there are not so many above -inf; returns how many. NaN is never among them.
    """
    limit = guess_limit(row, n, size, candidates.value)
    count = _gather(row, n, size, limit, candidates)
    if count < size and limit != -np.inf:
        count = _gather(row, n, size, -np.inf, candidates)
    sort_descending(candidates, count)
    return min(count, size)
