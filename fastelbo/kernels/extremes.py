"""The largest values of a stream, kept beside the mergeable state.

What is kept stands in a row of floats: a limit, a count, and the values, in no order. Nothing that
comes later is needed unless it is above the limit, for so many values that are not below it are
kept already. Which others are kept depends on how the stream was cut, the largest ones among them
do not.

While a stream runs, a `Keeper` has room for several times as many values, so that they have to be
thinned out only now and then. Few values are above the limit; the maxima of groups tell where.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from .compile import block
from .selection import (
    Candidates,
    guess_limit,
    make_candidates,
    select_largest,
    thin,
)
from .vectors import copy, fill

# Fields of a row.
LIMIT = 0
COUNT = 1
VALUES = 2

# Values that may be offered at once.
MOST_OFFERED = 2048
# Values of a group, which stand far apart, so that the maxima of all groups are one vector loop.
_GROUP = 8
# One value in so many above the limit is few.
_SPARSE = 40
# Values that are kept for one that is needed, before they are thinned out.
_SURPLUS = 3

# Room for the streams of several lanes: values, limits, counts; and to thin one of them out.
Keeper = namedtuple("Keeper", ["value", "limit", "count", "sparse", "peak", "hit", "candidates"])


def row_size(capacity: int) -> int:
    """Length of the row that keeps the ``capacity`` largest; none for 0."""
    return VALUES + capacity + capacity // 8 if capacity else 0


@block
def make_keeper(lanes, capacity):
    """Room for the streams of ``lanes`` neighbours; hardly any for a capacity of 0."""
    candidates = make_candidates(capacity + MOST_OFFERED if capacity > 0 else 0)
    return Keeper(
        np.empty((lanes, candidates.value.shape[0] if capacity > 0 else 0)),
        np.empty(lanes),
        np.empty(lanes, np.int64),
        np.empty(lanes, np.bool_),
        np.empty(candidates.value.shape[0] // _GROUP),
        np.empty(candidates.value.shape[0] // _GROUP, np.int64),
        candidates,
    )


@block
def open_row(keeper, lane, limit):
    """Begin a stream, of which nothing up to ``limit`` is needed."""
    keeper.limit[lane] = limit
    keeper.count[lane] = 0
    keeper.sparse[lane] = limit > -np.inf


@block
def clear_row(row):
    """Make the row that of an empty stream."""
    row[LIMIT] = -np.inf
    row[COUNT] = 0.0


@block
def close_row(keeper, lane, capacity, row):
    """Put what the stream has left into its row."""
    if keeper.count[lane] > row.shape[0] - VALUES:
        _thin_lane(keeper, lane, capacity)
    count = keeper.count[lane]
    row[LIMIT] = keeper.limit[lane]
    row[COUNT] = float(count)
    copy(keeper.value[lane], count, row[VALUES:])


@block
def _thin_lane(keeper, lane, capacity):
    spare = keeper.candidates
    candidates = Candidates(
        keeper.value[lane], spare.place, spare.other_value, spare.other_place, spare.met
    )
    count, limit = thin(candidates, keeper.count[lane], capacity)
    keeper.count[lane] = count
    keeper.limit[lane] = max(limit, keeper.limit[lane])


@block
def _gather(x, n, limit, value, count):
    """Append x[:n] above the limit to value[:count]; returns how many there are now."""
    for k in range(n):
        value[count] = x[k]
        count += np.int64(x[k] > limit)
    return count


@block
def _set_peaks(x, groups, peak):
    """Maxima of groups of 8 values that stand ``groups`` apart."""
    a, b, c, d = x[:groups], x[groups:], x[2 * groups :], x[3 * groups :]
    e, f, g, h = x[4 * groups :], x[5 * groups :], x[6 * groups :], x[7 * groups :]
    for k in range(groups):
        ab = a[k] if a[k] > b[k] else b[k]
        cd = c[k] if c[k] > d[k] else d[k]
        ef = e[k] if e[k] > f[k] else f[k]
        gh = g[k] if g[k] > h[k] else h[k]
        abcd = ab if ab > cd else cd
        efgh = ef if ef > gh else gh
        peak[k] = abcd if abcd > efgh else efgh


@block
def _gather_few(x, n, limit, value, count, peak, hit):
    """As `_gather`, quicker where few are above the limit."""
    groups = n // _GROUP
    _set_peaks(x, groups, peak)
    hits = 0
    for g in range(groups):
        hit[hits] = g
        hits += np.int64(peak[g] > limit)
    for h in range(hits):
        for j in range(_GROUP):
            # Read back from the place of the store, it would wait for the store.
            candidate = x[hit[h] + j * groups]
            value[count] = candidate
            count += np.int64(candidate > limit)
    return _gather(x[groups * _GROUP : n], n - groups * _GROUP, limit, value, count)


@block
def offer(keeper, lane, capacity, x, n, top):
    """Take what may be among the largest from x[:n], whose maximum is ``top``."""
    if not top > keeper.limit[lane]:
        return
    value = keeper.value[lane]
    if keeper.count[lane] + n > value.shape[0]:
        _thin_lane(keeper, lane, capacity)
    count, limit = keeper.count[lane], keeper.limit[lane]
    if limit > -np.inf:
        if keeper.sparse[lane]:
            reached = _gather_few(x, n, limit, value, count, keeper.peak, keeper.hit)
        else:
            reached = _gather(x, n, limit, value, count)
        keeper.sparse[lane] = reached - count < n // _SPARSE
    else:
        guess = guess_limit(x, n, capacity, keeper.candidates.other_value)
        reached = _gather(x, n, guess, value, count)
        if reached - count >= capacity:
            keeper.limit[lane] = guess
        elif guess != -np.inf:
            reached = _gather(x, n, -np.inf, value, count)
    keeper.count[lane] = reached
    if reached > _SURPLUS * capacity:
        _thin_lane(keeper, lane, capacity)


@block
def offer_row(keeper, lane, capacity, row):
    """Take in what another stream left in its row."""
    count = np.int64(row[COUNT])
    offer(keeper, lane, capacity, row[VALUES:], count, np.inf)
    keeper.limit[lane] = max(keeper.limit[lane], row[LIMIT])


@block
def sort_row(row, size, candidates, out):
    """The ``size`` largest of a row, descending; -inf where there are not so many."""
    count = np.int64(row[COUNT])
    found = select_largest(row[VALUES:], count, size, candidates)
    copy(candidates.value, found, out)
    fill(out[found:], size - found, -np.inf)
