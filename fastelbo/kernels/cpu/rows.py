"""Reductions of existing log weights along the middle axis of an array (A, K, B).

A row is x[a, :, b]. Chunks and states are the same as in estimates: several threads share a long
row, and its chunks are merged in order. If B > 1, `COLUMNS` neighbouring rows are copied to a tile
together, so that every cache line is read once.
"""

from __future__ import annotations

import numpy as np

from ..draws.blocks import CHUNK
from ..jit.compile import block, exact
from ..math.scalar import exp, two_sum
from ..math.sums import largest, make_partial_sums, scale_weights, sum_of_rest
from ..state.state import MAX, clear, push_log_weights
from ..state.top_k import (
    THRESHOLD,
    clear_row,
    close_row,
    make_top_k,
    open_row,
    push_streams,
)

COLUMNS = 8
# Elements of a piece (8 kB): the maximum of a piece is taken before its exponentials.
_PIECE = 1024

# Fields of a log-sum-exp state: log(sum exp(x)) = TOP + log1p(HIGH + LOW). The compensated sum
# HIGH + LOW leaves one maximum out.
TOP = 0
HIGH = 1
LOW = 2
LSE_SIZE = 3


@block
def _any_nan(x, n):
    count = np.int64(0)
    for k in range(n):
        count += np.int64(1) if x[k] != x[k] else np.int64(0)
    return count > 0


@block
def _lse_piece(x, n, w, partial_sums):
    """(top, rest) of up to `_PIECE` values; top is NaN if a value is NaN."""
    top = largest(x, n)
    if not abs(top) < np.inf:
        return (np.nan if _any_nan(x, n) else top), 0.0
    total = scale_weights(x, top, n, w, partial_sums)
    if total != total:
        return np.nan, 0.0
    return top, sum_of_rest(w, total, n)


@exact
def _lse_append(state, top, high, low):
    """Append (top, high + low) to a state.

    -inf adds nothing. NaN stays, and +inf stays unless a NaN follows.
    """
    if top == -np.inf or state[TOP] != state[TOP]:
        return
    if state[TOP] == -np.inf or top != top or top == np.inf:
        state[TOP], state[HIGH], state[LOW] = top, high, low
        return
    if state[TOP] == np.inf:
        return
    peak = max(state[TOP], top)
    fa, fb = exp(state[TOP] - peak), exp(top - peak)
    # The rest leaves one of the two maxima out; the other, of size f, joins the rest.
    joined = fb if state[TOP] >= top else fa
    total, error = two_sum(state[HIGH] * fa, high * fb)
    total, error2 = two_sum(total, joined)
    state[LOW] = (state[LOW] * fa + low * fb) + (error + error2)
    state[HIGH] = total
    state[TOP] = peak


@block
def _row_piece(x, a, first, count):
    """x[a, first : first + count, 0] as a contiguous array, for x of shape (A, K, 1)."""
    start = a * x.shape[1] + first
    return x.reshape(x.size)[start : start + count]


@block
def copy_columns(x, a, first, b, width, count, tile):
    """tile[j, k] = x[a, first + k, b + j]."""
    if x.shape[2] == 1:
        row = _row_piece(x, a, first, count)
        for k in range(count):
            tile[0, k] = np.float64(row[k])
        return
    for k in range(count):
        for j in range(width):
            tile[j, k] = np.float64(x[a, first + k, b + j])


@block
def logsumexp(part, parts, x, first_chunk, last_chunk, states):
    length, columns = x.shape[1], x.shape[2]
    n_chunks = last_chunk - first_chunk
    tiles = (columns + COLUMNS - 1) // COLUMNS
    items = x.shape[0] * tiles * n_chunks
    tile = np.empty((COLUMNS, _PIECE))
    w = np.empty(_PIECE)
    partial_sums = make_partial_sums()
    for item in range(part * items // parts, (part + 1) * items // parts):
        c = item % n_chunks
        a = item // n_chunks // tiles
        b = (item // n_chunks % tiles) * COLUMNS
        width = min(COLUMNS, columns - b)
        start = (first_chunk + c) * CHUNK
        stop = min(start + CHUNK, length)
        for j in range(width):
            states[a, b + j, c, TOP] = -np.inf
            states[a, b + j, c, HIGH] = 0.0
            states[a, b + j, c, LOW] = 0.0
        while start < stop:
            count = min(_PIECE, stop - start)
            if columns == 1:
                top, rest = _lse_piece(_row_piece(x, a, start, count), count, w, partial_sums)
                _lse_append(states[a, 0, c], top, rest, 0.0)
            else:
                copy_columns(x, a, start, b, width, count, tile)
                for j in range(width):
                    top, rest = _lse_piece(tile[j], count, w, partial_sums)
                    _lse_append(states[a, b + j, c], top, rest, 0.0)
            start += count


@block
def logsumexp_fold(part, parts, states, out):
    rows, columns = states.shape[0], states.shape[1]
    items = rows * columns
    for item in range(part * items // parts, (part + 1) * items // parts):
        chunks = states[item // columns, item % columns]
        total = out[item // columns, item % columns]
        for c in range(chunks.shape[0]):
            _lse_append(total, chunks[c, TOP], chunks[c, HIGH], chunks[c, LOW])


@block
def summaries(
    part, parts, x, first, first_chunk, last_chunk, iw_sizes, capacity, prefix_rows,
    states, top_rows,
):  # fmt: skip
    """States of chunks of x, as in `drivers.states`; the first draw of x has address ``first``."""
    columns, streams = x.shape[2], top_rows.shape[3]
    end = first + x.shape[1]
    n_chunks = last_chunk - first_chunk
    tiles = (columns + COLUMNS - 1) // COLUMNS
    items = x.shape[0] * tiles * n_chunks
    tile = np.empty((COLUMNS, _PIECE))
    w = np.empty(_PIECE)
    partial_sums = make_partial_sums()
    sums, values = np.empty(_PIECE), np.empty(_PIECE)
    fresh = np.zeros(states.shape[3])
    top_k = make_top_k(streams * min(COLUMNS, columns), capacity)
    slot = 0
    last = (part + 1) * items // parts - 1
    for item in range(part * items // parts, last + 1):
        c = item % n_chunks
        a = item // n_chunks // tiles
        b = (item // n_chunks % tiles) * COLUMNS
        width = min(COLUMNS, columns - b)
        opens = c == 0 or item == part * items // parts
        slot = c if opens else slot
        for j in range(width):
            clear(states[a, b + j, c])
            for s in range(streams if capacity > 0 else 0):
                clear_row(top_rows[a, b + j, c, s])
                if opens:
                    open_row(top_k, streams * j + s, prefix_rows[a, b + j, s, THRESHOLD])
        start = (first_chunk + c) * CHUNK
        stop = min(start + CHUNK, end)
        while start < stop:
            count = min(_PIECE, stop - start)
            copy_columns(x, a, start - first, b, width, count, tile)
            for j in range(width):
                state = states[a, b + j, c]
                push_log_weights(
                    state, fresh, iw_sizes, start, tile[j], tile[j], w, sums, values, partial_sums,
                    count,
                )  # fmt: skip
                if capacity > 0:
                    lane, top = streams * j, fresh[MAX]
                    push_streams(top_k, lane, streams, capacity, tile[j], count, top, values)
            start += count
        if capacity > 0 and (c == n_chunks - 1 or item == last):
            for j in range(width):
                for s in range(streams):
                    close_row(top_k, streams * j + s, capacity, top_rows[a, b + j, slot, s])
