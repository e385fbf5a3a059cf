"""Selection of the largest values of a row, in descending order, with their places in the row.

Branches on random data make a selection slow, so this code has few of them:

- Comparisons with a threshold are packed into the bits of a word. A loop visits the set bits only,
  four at a time.
- Candidates are thinned by counting: a search finds a higher threshold.
- Candidates are sorted in short runs, and the runs are merged from both ends.
- The rank of a value in its run is the number of larger values. Ranks come from 32-bit keys, as
  more of them are compared at once. A few values are too close for such keys: their order is
  corrected afterwards.

Of equal values, the first in the row comes first.
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np

from ..jit.compile import block, borrower, scalar
from .copies import copy, fill
from .extremes import from_order_key, largest, order_key, smallest
from .simd import BITS, lowest_bit, word_above, word_below

# Length of a run. A run is ranked by comparing all pairs, which vectorises. Behind the candidates,
# room for one more run stays free.
RUN = 128
# The whole run is compared with this many of its values at once.
_STEP = 8
# Steps from the smallest to the largest value of a run. A 32-bit key has room for one more step.
_STEPS = 2.0**31 / RUN - 2.0
# A key below the key of every value.
_LEAST = np.int64(-(2**63))
# Size of the sample of a row from which the first threshold is guessed.
_SAMPLE = 256
# Set bits of a word that are looked up at a time.
_AT_ONCE = 4
# If this many trials find no threshold, the candidates are sorted instead.
_TRIALS = 20

# Candidates with their places, and room to sort them. Keys are integers in the order of the values:
# integers are faster to compare.
Candidates = namedtuple(
    "Candidates", ["value", "place", "key", "other_key", "other_place", "coarse", "rank"]
)


@block
def make_candidates(size):
    """Allocate room to select up to ``size`` values."""
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


@borrower
def _word_above(x, first, n, threshold):
    """`word_above`, or 0 where x[:n] has no whole word."""
    return word_above(x, first, threshold) if first + BITS <= n else np.uint64(0)


@borrower
def take_above(x, n, threshold, start, value, place):
    """Copy the values of x[start:n] above the threshold to ``value``, their indices to ``place``.

    Returns how many, and the index in x at which it stopped. It stops before n if ``value`` has no
    room for another `BITS` values. ``value`` may be x.
    """
    count, room = np.uint64(0), np.uint64(value.shape[0] - BITS)
    first = start
    word = _word_above(x, first, n, threshold)
    while first + BITS <= n and count <= room:
        # The next word is on its way while a branch on this one may be mispredicted.
        following = _word_above(x, first + BITS, n, threshold)
        while word != 0:
            # Several without a branch: what follows the last set bit is overwritten. If ``value``
            # is x, that is in this word or before it, where nothing is needed any more.
            for _ in range(_AT_ONCE):
                k = first + lowest_bit(word)
                value[count], place[count] = x[np.uint64(k)], k
                count += np.uint64(word != 0)
                word &= word - np.uint64(1)
        word = following
        first += BITS
    if n - first < BITS and count <= room:
        for k in range(first, n):
            if x[k] > threshold:
                value[count], place[count] = x[k], k
                count += np.uint64(1)
        first = n
    return np.int64(count), first


@borrower
def take_below(x, n, threshold, out):
    """Copy minus the values of x[:n] that are finite and below the threshold; returns how many.

    ``out`` has room for n values.
    """
    count, first = np.uint64(0), 0
    while first + BITS <= n:
        word = word_below(x, first, threshold)
        while word != 0:
            value = x[np.uint64(first + lowest_bit(word))]
            out[count] = -value
            count += np.uint64(value > -np.inf)
            word &= word - np.uint64(1)
        first += BITS
    for k in range(first, n):
        if -np.inf < x[k] < threshold:
            out[count] = -x[k]
            count += np.uint64(1)
    return np.int64(count)


@borrower
def _count_above(values, threshold, n):
    count = np.int64(0)
    for k in range(n):
        count += np.int64(1) if values[k] > threshold else np.int64(0)
    return count


@borrower
def _set_coarse_keys(value, n, coarse):
    """Set 32-bit keys that nearly have the order of value[:n].

    All keys differ. Within one step, an earlier value has a larger key. Keys from n on are below
    all others.
    """
    low, high = smallest(value, n), largest(value, n)
    scale = _STEPS / (high - low) if high > low else 0.0
    for k in range(RUN):
        step = (value[k] - low) * scale
        # The step is NaN if the range of the values overflows.
        step = step if step < _STEPS else _STEPS
        step = np.int32(step + 1.0) if k < n else np.int32(0)
        coarse[k] = step * np.int32(RUN) + np.int32(RUN - 1 - k)


@borrower
def _set_ranks(coarse, n, rank):
    """rank[k] = how many of the first n keys of a run are above coarse[k]."""
    for k in range(RUN):
        rank[k] = np.int32(0)
    for i in range(0, n, _STEP):
        for k in range(RUN):
            above = np.int32(0)
            for j in range(_STEP):
                above += np.int32(coarse[i + j] > coarse[k])
            rank[k] += above


@borrower
def _mend(key, place, n):
    """Sort nearly sorted keys, descending; equal keys keep their order."""
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


@borrower
def _sort_run(value, place, n, coarse, rank, out_key, out_place):
    """Sort the first n values of one run, descending; `_LEAST` fills the output behind them."""
    _set_coarse_keys(value, n, coarse)
    _set_ranks(coarse, n, rank)
    for k in range(n):
        target = np.uint64(rank[k])
        # Adding 0.0 turns -0.0 into 0.0, so that both zeros have one key.
        out_key[target] = order_key(value[k] + 0.0)
        out_place[target] = place[k]
    _mend(out_key, out_place, n)


@borrower
def _merge_runs(key, place, middle, n, out_key, out_place):
    """Merge two descending runs: key[:middle], and key[middle:n], which is not longer.

    The merge goes from both ends at once, so that two chains of comparisons run side by side. The
    first run is at least half of the keys, so it lasts until the chains end. The second run may end
    sooner; `_LEAST` follows it then.
    """
    # Unsigned indices: a signed one is tested for negative values, which count from the end.
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


@borrower
def _is_descending(value, n):
    rises = np.int64(0)
    for k in range(1, n):
        rises += np.int64(1) if value[k] > value[k - 1] else np.int64(0)
    return rises == 0


@borrower
def sort_descending(candidates, n):
    """Sort the first ``n`` candidates, descending."""
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


@scalar
def _rough_log(count):
    """2^52 (log2 count + 1023), within 0.09 in the logarithm: the bits of a float."""
    return np.float64(np.float64(count).view(np.int64))


@borrower
def find_threshold(values, n, least, most):
    """A threshold with ``least`` to ``most`` values above it; NaN if `_TRIALS` find none.

    The number of values above a threshold falls about exponentially, as in the tail of a density.
    Every third trial halves the range, whatever the values are.
    """
    low, high = smallest(values, n), largest(values, n)
    goal, below, beyond = _rough_log(0.5 * (least + most)), _rough_log(n), _rough_log(0.5)
    for trial in range(_TRIALS):
        part = 0.5
        if trial % 3 < 2:
            part = min(max((below - goal) / (below - beyond), 0.03125), 0.96875)
        threshold = (1.0 - part) * low + part * high
        above = _count_above(values, threshold, n)
        if above < least:
            high, beyond = threshold, _rough_log(max(above, 0.5))
        elif above > most:
            low, below = threshold, _rough_log(above)
        else:
            return threshold
    return np.nan


@borrower
def thin(candidates, n, size):
    """Move the ``size`` largest candidates, and perhaps a few more, to the front.

    Returns how many, and a threshold: later values are needed only if they are above it.
    """
    value, place = candidates.value, candidates.place
    threshold = find_threshold(value, n, size, size + size // 8)
    if threshold != threshold:
        sort_descending(candidates, n)
        return size, value[size - 1]
    count, _ = take_above(value, n, threshold, 0, value, candidates.other_place)
    for k in range(count):
        # other_place[k] >= k, so that this place is not overwritten yet.
        place[k] = place[np.uint64(candidates.other_place[k])]
    return count, threshold


@scalar
def rank_in_sample(expected):
    """A rank in a sample, two standard deviations further down than the ``expected`` rank.

    The sample value at this rank is most likely below the value that has the ``expected`` rank.
    """
    return np.int64(expected + 2.0 * math.sqrt(expected)) + 1


@borrower
def guess_threshold(row, n, size, sample):
    """A threshold that most likely has ``size`` values of the row above it.

    It comes from a sample of the row. For a short row, and for more than half of a row, it is -inf.
    """
    if n < 2 * _SAMPLE or n < 2 * size:
        return -np.inf
    step = n // _SAMPLE
    for k in range(_SAMPLE):
        sample[k] = row[k * step]
    least = rank_in_sample(size * _SAMPLE / n)
    return find_threshold(sample, _SAMPLE, least, least + least // 4)


@borrower
def _gather(row, n, size, threshold, candidates):
    """Make candidates of all values that may be among the ``size`` largest; returns how many.

    Values of row[:n] up to the threshold are ignored.
    """
    value, place = candidates.value, candidates.place
    # Room for one run stays free behind the candidates, for sorting them.
    room = value.shape[0] - RUN
    count = start = 0
    while start < n:
        found, start = take_above(row, n, threshold, start, value[count:room], place[count:])
        count += found
        # A few more than needed cost less to sort than to sort out.
        if count > size + size // 8 and (start == n or count > room - BITS):
            count, threshold = thin(candidates, count, size)
    return count


@borrower
def _take_all(row, n, candidates):
    """Make candidates of all values of a short row[:n] above -inf; returns how many."""
    count = _count_above(row, -np.inf, n)
    if count < n:
        return _gather(row, n, n, -np.inf, candidates)
    copy(row, n, candidates.value)
    for k in range(n):
        candidates.place[k] = k
    return n


@borrower
def select_largest(row, n, size, candidates):
    """Make the ``size`` largest values of row[:n] the first candidates, descending.

    Returns how many: fewer than ``size`` if fewer values are above -inf. NaN is never selected.
    """
    count = 0
    if n <= size + size // 8:
        count = _take_all(row, n, candidates)
    else:
        threshold = guess_threshold(row, n, size, candidates.value)
        count = _gather(row, n, size, threshold, candidates)
        if count < size and threshold != -np.inf:
            count = _gather(row, n, size, -np.inf, candidates)
    sort_descending(candidates, count)
    return min(count, size)
