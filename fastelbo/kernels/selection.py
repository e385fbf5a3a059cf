"""The largest values of a row, in order, with their places.

Branches on random data are what makes a selection slow, so there are few: comparisons with a limit
are packed into the bits of a word, whose ones are taken out one by one; candidates are thinned out
by counting, and sorted by counting ranks in short runs, which are then merged from both ends. Of
equal values, the one that stands first in the row comes first.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from .compile import block
from .sums import from_order_key, largest, order_key
from .vectors import copy, fill

# A run this long is ranked by comparing all pairs, which vectorises. So many comparisons are bits
# of a word, too; and so much room is left behind all candidates.
RUN = 64
# Values that all of a run are compared with at once.
_STEP = 4
_EXPONENT = np.int64(0x7FF)
# Below the key of any value.
_LEAST = np.int64(-(2**63))
# Values of a row that tell where about its largest begin.
_SAMPLE = 256
# Bisections of the range of the candidates before they are sorted instead.
_BISECTIONS = 16

# Candidates with their places, and room to sort them: by integers in the order of the values, which
# are compared sooner.
Candidates = namedtuple(
    "Candidates", ["value", "place", "key", "other_key", "other_place", "rank", "met"]
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
        np.empty(RUN, np.int64),
        np.empty(RUN, np.int64),
    )


@block
def _word_above(x, limit):
    """Bit k tells whether x[k] is above the limit, for a run."""
    word = np.int64(0)
    for k in range(RUN):
        word |= np.int64(1) << np.int64(k) if x[k] > limit else np.int64(0)
    return word


@block
def find_above(x, n, limit, place):
    """Put the places of values of x[:n] above the limit into ``place``; returns how many."""
    count = np.uint64(0)
    whole = n - n % RUN
    for first in range(0, whole, RUN):
        word = _word_above(x[first : first + RUN], limit)
        while word != 0:
            # The exponent of the lowest bit is its place. (The last one has a sign, too.)
            bits = np.float64(word & -word).view(np.int64)
            place[count] = first - 1023 + ((bits >> np.int64(52)) & _EXPONENT)
            count += np.uint64(1)
            word &= word - 1
    for k in range(whole, n):
        if x[k] > limit:
            place[count] = k
            count += np.uint64(1)
    return np.int64(count)


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
def _set_ranks(key, n, rank):
    """How many of the first n keys of a run are above each."""
    fill(rank, RUN, 0)
    for i in range(0, n, _STEP):
        for k in range(RUN):
            above = np.int64(0)
            for j in range(_STEP):
                above += np.int64(1) if key[i + j] > key[k] else np.int64(0)
            rank[k] += above


@block
def _set_own_ranks(rank, n, met):
    """Make ranks different: equal keys have one, and take those from there on in turn."""
    total = np.int64(0)
    for k in range(n):
        total += rank[k]
    if 2 * total == n * (n - 1):
        return
    fill(met, RUN, 0)
    for k in range(n):
        above = rank[k]
        rank[k] += met[above]
        met[above] += 1


@block
def _sort_run(key, place, n, rank, met, out_key, out_place):
    """Sort the first n of one run, descending; `_LEAST` stands behind them."""
    _set_ranks(key, n, rank)
    _set_own_ranks(rank, n, met)
    for k in range(n):
        target = np.uint64(rank[k])
        out_key[target] = key[k]
        out_place[target] = place[k]


@block
def _merge_runs(key, place, middle, n, out_key, out_place):
    """Merge key[:middle] and the rest of key[:n], not longer, both descending.

    From both ends at once, so that two chains of comparisons run side by side. The first run does
    not end before its chain does. The second may, and has `_LEAST` behind it then.
    """
    # Unsigned, as a negative index would count from the end.
    a, b, border = np.uint64(0), np.uint64(middle), np.uint64(middle)
    c, d = np.uint64(middle - 1), np.uint64(n - 1)
    for k in range(n // 2):
        first = np.uint64(key[a] >= key[b])
        source = a if first else b
        out_key[k], out_place[k] = key[source], place[source]
        a += first
        b += np.uint64(1) - first
        last = np.uint64(d >= border) & np.uint64(key[c] >= key[d])
        source = d if last else c
        out_key[n - 1 - k], out_place[n - 1 - k] = key[source], place[source]
        d -= last
        c -= np.uint64(1) - last
    if n % 2:
        source = a if key[a] >= key[b] else b
        out_key[n // 2], out_place[n // 2] = key[source], place[source]


@block
def _is_descending(value, n):
    rises = np.int64(0)
    for k in range(1, n):
        rises += np.int64(1) if value[k] > value[k - 1] else np.int64(0)
    return rises == 0


@block
def sort_descending(candidates, n):
    """Sort the first ``n`` candidates."""
    value, place, key, other_key, other_place, rank, met = candidates
    if _is_descending(value, n):
        return
    for k in range(n):
        # Of the zeros, neither is larger.
        key[k] = order_key(value[k] + 0.0)
    padded = n - n % RUN + RUN
    fill(key[n:], padded - n, _LEAST)
    fill(other_key[n:], padded - n, _LEAST)
    for lo in range(0, n, RUN):
        _sort_run(
            key[lo : lo + RUN], place[lo : lo + RUN], min(RUN, n - lo), rank, met,
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
    count = find_above(value, n, limit, candidates.other_place)
    for k in range(count):
        source = candidates.other_place[k]
        value[k], place[k] = value[source], place[source]
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
    room = value.shape[0] - RUN
    count = 0
    start = 0
    while start < n:
        stop = min(n, start + room - count)
        found = find_above(row[start:stop], stop - start, limit, place[count:])
        for k in range(count, count + found):
            place[k] += start
            value[k] = row[place[k]]
        count += found
        start = stop
        if count > size and (start == n or 4 * count > 3 * room):
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
