"""The largest values of a stream, kept beside the mergeable state.

What is kept stands in a row of floats: a limit, a count, and the values, in no order. Nothing that
comes later is needed unless it is above the limit, for so many values that are not below it are
kept already. Which others are kept depends on how the stream was cut, the largest ones among them
do not.

While a stream runs, a `TopK` has room for several times as many values, so that they have to be
thinned out only now and then.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from ..jit.compile import block
from ..math.copies import copy, fill
from ..math.selection import (
    RUN,
    Candidates,
    guess_limit,
    make_candidates,
    select_largest,
    take_above,
    thin,
)

# Fields of a row.
LIMIT = 0
COUNT = 1
VALUES = 2

# Values that may be pushed at once.
MOST_PUSHED = 2048
# Values that are kept for one that is needed, before they are thinned out.
_SURPLUS = 3

# Room for the streams of several lanes: values, limits, counts; and to thin one of them out.
TopK = namedtuple("TopK", ["value", "limit", "count", "candidates"])


def row_size(capacity: int) -> int:
    """Length of the row that keeps the ``capacity`` largest; none for 0."""
    return VALUES + capacity + capacity // 8 if capacity else 0


@block
def make_top_k(lanes, capacity):
    """Room for the streams of ``lanes`` neighbours; hardly any for a capacity of 0."""
    candidates = make_candidates(capacity + MOST_PUSHED if capacity > 0 else 0)
    return TopK(
        np.empty((lanes, candidates.value.shape[0] if capacity > 0 else 0)),
        np.empty(lanes),
        np.empty(lanes, np.int64),
        candidates,
    )


@block
def open_row(top_k, lane, limit):
    """Begin a stream, of which nothing up to ``limit`` is needed."""
    top_k.limit[lane] = limit
    top_k.count[lane] = 0


@block
def clear_row(row):
    """Make the row that of an empty stream."""
    row[LIMIT] = -np.inf
    row[COUNT] = 0.0


@block
def close_row(top_k, lane, capacity, row):
    """Put what the stream has left into its row."""
    if top_k.count[lane] > row.shape[0] - VALUES:
        _thin_lane(top_k, lane, capacity)
    count = top_k.count[lane]
    row[LIMIT] = top_k.limit[lane]
    row[COUNT] = float(count)
    copy(top_k.value[lane], count, row[VALUES:])


@block
def _thin_lane(top_k, lane, capacity):
    spare = top_k.candidates
    candidates = Candidates(
        top_k.value[lane], spare.place, spare.key, spare.other_key, spare.other_place,
        spare.coarse, spare.rank,
    )  # fmt: skip
    count, limit = thin(candidates, top_k.count[lane], capacity)
    top_k.count[lane] = count
    top_k.limit[lane] = max(limit, top_k.limit[lane])


@block
def push_top(top_k, lane, capacity, x, n, top):
    """Take what may be among the largest from x[:n], whose maximum is ``top``."""
    if not top > top_k.limit[lane]:
        return
    value, place = top_k.value[lane], top_k.candidates.place
    if top_k.count[lane] + n > value.shape[0] - RUN:
        _thin_lane(top_k, lane, capacity)
    count, limit = top_k.count[lane], top_k.limit[lane]
    if limit > -np.inf:
        found, _ = take_above(x, n, limit, 0, value[count:], place)
    else:
        guess = guess_limit(x, n, capacity, top_k.candidates.value)
        found, _ = take_above(x, n, guess, 0, value[count:], place)
        if found >= capacity:
            top_k.limit[lane] = guess
        elif guess != -np.inf:
            found, _ = take_above(x, n, -np.inf, 0, value[count:], place)
    top_k.count[lane] = count + found
    if count + found > _SURPLUS * capacity:
        _thin_lane(top_k, lane, capacity)


@block
def push_top_row(top_k, lane, capacity, row):
    """Take in what another stream left in its row."""
    count = np.int64(row[COUNT])
    push_top(top_k, lane, capacity, row[VALUES:], count, np.inf)
    top_k.limit[lane] = max(top_k.limit[lane], row[LIMIT])


@block
def sort_row(row, size, candidates, out):
    """The ``size`` largest of a row, descending; -inf where there are not so many."""
    count = np.int64(row[COUNT])
    found = select_largest(row[VALUES:], count, size, candidates)
    copy(candidates.value, found, out)
    fill(out[found:], size - found, -np.inf)
