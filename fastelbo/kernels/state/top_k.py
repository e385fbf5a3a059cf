"""The k largest values of a stream (top k), stored beside the mergeable state.

A data point has one stream or two: its log weights l, whose largest tell of the weights' tail, and
-l, whose largest tell of the tail that the mean of l has. The second is followed where draws are
not kept and cannot be made again. A stream has a row, and a lane.

A row of floats stores a threshold, a count, and the values, in no order. The threshold is -inf, or
at least k values at or above it are stored already, in this row or an earlier one. So a later value
is needed only if it is above the threshold. The k largest values do not depend on how the stream
was cut. The other stored values do. A threshold of +inf is that of a stream that was not followed
from its start: it has no values, nor has one to which it is added.

While a stream runs, a `TopK` has room for several times k values, so that it is thinned only now
and then.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from ..jit.compile import block, borrower
from ..math.copies import copy, fill
from ..math.extremes import from_order_key, order_key
from ..math.selection import (
    RUN,
    Candidates,
    find_threshold,
    guess_threshold,
    make_candidates,
    take_above,
    take_below,
    thin,
)
from ..math.sorting import room_to_sort, sort_copy

# Fields of a row.
THRESHOLD = 0
COUNT = 1
VALUES = 2

# Most values that one push may bring.
MOST_PUSHED = 2048
# A stream with more than this times ``capacity`` values is thinned.
_SURPLUS = 3

# A row has room for one value more in so many.
_SHARE = 5

# How far the score of a threshold follows the number of values above it. One row alone tells it
# with some error; in the tail of normal values, the number falls by a share of two to three times a
# change of the score.
_GAIN = 0.1

# The streams of several lanes: values, thresholds and counts; and room to thin one of them. The
# standard score of a threshold that suited an earlier stream is that of the first one to be tried.
TopK = namedtuple("TopK", ["value", "threshold", "count", "score", "candidates"])

# Room to sort a row: a stream for what is too long, and two arrays.
Sorting = namedtuple("Sorting", ["top_k", "spare", "found"])


def row_size(capacity: int) -> int:
    """Length of a row for the ``capacity`` largest values; 0 if ``capacity`` is 0."""
    return VALUES + capacity + capacity // _SHARE if capacity else 0


@block
def make_top_k(lanes, capacity):
    """Allocate ``lanes`` streams; they take little memory for a capacity of 0."""
    candidates = make_candidates(capacity + MOST_PUSHED if capacity > 0 else 0)
    return TopK(
        np.empty((lanes, candidates.value.shape[0] if capacity > 0 else 0)),
        np.empty(lanes),
        np.empty(lanes, np.int64),
        np.full(lanes, np.nan),
        candidates,
    )


@borrower
def open_row(top_k, lane, threshold):
    """Begin a stream: values at or below the threshold are not needed."""
    top_k.threshold[lane] = threshold
    top_k.count[lane] = 0


@borrower
def clear_row(row):
    """Reset the row to an empty stream."""
    row[THRESHOLD] = -np.inf
    row[COUNT] = 0.0


@borrower
def close_row(top_k, lane, capacity, row):
    """Write the values of the stream to its row."""
    if top_k.count[lane] > row.shape[0] - VALUES:
        _thin_lane(top_k, lane, capacity)
    count = top_k.count[lane]
    row[THRESHOLD] = top_k.threshold[lane]
    row[COUNT] = float(count)
    copy(top_k.value[lane], count, row[VALUES:])


@borrower
def _thin_lane(top_k, lane, capacity):
    spare = top_k.candidates
    candidates = Candidates(
        top_k.value[lane], spare.place, spare.key, spare.other_key, spare.other_place,
        spare.coarse, spare.rank,
    )  # fmt: skip
    count, threshold = thin(candidates, top_k.count[lane], capacity)
    top_k.count[lane] = count
    top_k.threshold[lane] = max(threshold, top_k.threshold[lane])


@borrower
def _take(top_k, lane, capacity, x, n, threshold):
    """Add the values of x[:n] above the threshold; returns how many."""
    value, place = top_k.value[lane], top_k.candidates.place
    room = value.shape[0] - RUN
    taken = start = 0
    while start < n:
        count = top_k.count[lane]
        found, start = take_above(x, n, threshold, start, value[count:room], place)
        top_k.count[lane] = count + found
        taken += found
        if start < n or count + found > _SURPLUS * capacity:
            _thin_lane(top_k, lane, capacity)
            threshold = max(threshold, top_k.threshold[lane])
    return taken


@borrower
def push_top(top_k, lane, capacity, x, n, top):
    """Add the values of x[:n] that may be among the largest; the maximum of x[:n] is ``top``."""
    threshold = top_k.threshold[lane]
    if not top > threshold:
        return
    if threshold > -np.inf or top_k.count[lane] > 0:
        _take(top_k, lane, capacity, x, n, threshold)
        return
    guess = guess_threshold(x, n, capacity, top_k.candidates.value)
    if _take(top_k, lane, capacity, x, n, guess) >= capacity:
        top_k.threshold[lane] = max(guess, top_k.threshold[lane])
    elif guess != -np.inf:
        top_k.count[lane] = 0
        _take(top_k, lane, capacity, x, n, -np.inf)


@borrower
def push_row(top_k, lane, capacity, x, n, top, mean, deviation):
    """`push_top`; the finite x have this mean and standard deviation.

    Rows are often alike. A threshold that suits the last one suits this one, relative to both.
    """
    guess = mean + top_k.score[lane] * deviation
    if top_k.threshold[lane] > -np.inf or top_k.count[lane] > 0:
        push_top(top_k, lane, capacity, x, n, top)
        return
    taken = _take(top_k, lane, capacity, x, n, guess) if guess < top else 0
    if taken >= capacity:
        top_k.threshold[lane] = max(guess, top_k.threshold[lane])
    else:
        open_row(top_k, lane, -np.inf)
        push_top(top_k, lane, capacity, x, n, top)
    # So many more values that chance makes them rarely too few, or more than a row has room for.
    least, most = capacity + capacity // 10, capacity + capacity // 6
    if capacity <= taken <= 2 * capacity:
        top_k.score[lane] += _GAIN * (taken / (0.5 * (least + most)) - 1.0)
    else:
        threshold = find_threshold(top_k.value[lane], top_k.count[lane], least, most)
        top_k.score[lane] = (threshold - mean) / deviation


@borrower
def _negate(x, n, out):
    """out[:n] = -x[:n], and -inf where x is; returns the largest."""
    best = order_key(-np.inf)
    for k in range(n):
        value = -x[k] if x[k] > -np.inf else -np.inf
        out[k] = value
        best = max(best, order_key(value))
    return from_order_key(best)


@borrower
def push_streams(top_k, lane, streams, capacity, log_weight, n, top, room):
    """Add a block of log weights to the streams from ``lane`` on; ``room`` is overwritten.

    A weight of 0 enters none.
    """
    push_top(top_k, lane, capacity, log_weight, n, top)
    if streams == 1:
        return
    low = lane + 1
    if top_k.threshold[low] == -np.inf:
        push_top(top_k, low, capacity, room, n, _negate(log_weight, n, room))
        return
    if top_k.count[low] + n > top_k.value.shape[1] - RUN:
        _thin_lane(top_k, low, capacity)
    place = top_k.value[low, top_k.count[low] :]
    top_k.count[low] += take_below(log_weight, n, -top_k.threshold[low], place)
    if top_k.count[low] > _SURPLUS * capacity:
        _thin_lane(top_k, low, capacity)


@borrower
def push_top_row(top_k, lane, capacity, row):
    """Add the values in the row of another stream."""
    if row[THRESHOLD] == np.inf:
        top_k.count[lane] = 0
    count = np.int64(row[COUNT])
    push_top(top_k, lane, capacity, row[VALUES:], count, np.inf)
    top_k.threshold[lane] = max(top_k.threshold[lane], row[THRESHOLD])


@block
def make_sorting(size):
    """Allocate room to sort the ``size`` largest values of a row."""
    room = room_to_sort(size + size // _SHARE)
    return Sorting(make_top_k(1, size), np.empty(room), np.empty(room))


@borrower
def sort_row(row, size, sorting, out):
    """out = the ``size`` largest values of a row, descending; -inf if the row has fewer."""
    top_k, spare, found = sorting
    values, count = row[VALUES:], np.int64(row[COUNT])
    if count <= size + size // _SHARE:
        sort_copy(values, count, spare, found)
    else:
        # A row that no stream of this size wrote.
        open_row(top_k, 0, -np.inf)
        push_top(top_k, 0, size, values, count, np.inf)
        if top_k.count[0] > size + size // _SHARE:
            _thin_lane(top_k, 0, size)
        count = top_k.count[0]
        sort_copy(top_k.value[0], count, spare, found)
    count = min(count, size)
    copy(found, count, out)
    fill(out[count:], size - count, -np.inf)
