"""Reductions of existing log weights along the middle axis of an array (A, K, B).

A row is x[a, :, b]. Chunks and states are the same as in estimates: several threads share a long
row, and its chunks are merged in order. If B > 1, `COLUMNS` neighbouring rows are taken together,
two cache lines of the array. A log-sum-exp keeps them side by side. Otherwise, and where there are
fewer, they are copied to the rows of a tile.
"""

from __future__ import annotations

import numpy as np

from ..draws.blocks import CHUNK
from ..jit.compile import block, borrower, by_precision, exact
from ..math.column_sums import COLUMNS, add_columns, column, make_column_sums, sum_of_column_rest
from ..math.columns import SIDE, constant, copy_columns, copy_rows
from ..math.extremes import highest
from ..math.scalar import exp, two_sum
from ..math.scaled_weights import WIDTH, scale_weights, sum_of_rest
from ..math.sums import make_partial_sums
from ..state.state import BAD, MAX, clear, push_log_weights, spread
from ..state.top_k import (
    THRESHOLD,
    clear_row,
    close_row,
    make_top_k,
    open_row,
    push_row,
    push_streams,
)

# Numbers of a cache line, and its bytes.
_LINE, _LINE_BYTES = 8, 64
# Elements of a piece (8 kB): the maximum of a piece is taken before its exponentials.
_PIECE = 1024
# A row of a tile is longer by a cache line. Rows at distances of 8 kB would share a few lines.
_TILE_ROW = _PIECE + _LINE
# A block of log weights ends where its address is a multiple of this: it has whole rows of partial
# sums, and no group of 10 or of 100 crosses its end. A block costs as much as some 200 of its log
# weights. Its log weights and weights take 50 kB.
_BLOCK = 3200

# Fields of a log-sum-exp state: log(sum exp(x)) = TOP + log1p(HIGH + LOW). The compensated sum
# HIGH + LOW leaves one maximum out.
TOP = 0
HIGH = 1
LOW = 2
LSE_SIZE = 3


@borrower
def _any_nan(x, place, stride, n):
    count = np.int64(0)
    for k in range(n):
        value = x[place + k * stride]
        count += np.int64(1) if value != value else np.int64(0)
    return count > 0


@borrower
def _lse_piece(x, n, w, partial_sums):
    """(top, rest) of up to `_PIECE` values; top is NaN if a value is NaN."""
    top = highest(x, n, partial_sums)
    if not abs(top) < np.inf:
        return (np.nan if _any_nan(x, 0, 1, n) else top), 0.0
    total = scale_weights(x, top, n, w, partial_sums)
    if total != total:
        return np.nan, 0.0
    return top, sum_of_rest(w, total, n, partial_sums)


@borrower
def _lse_column(x, place, stride, n, j, sums, partial_sums):
    """As `_lse_piece`, from the sums of column j."""
    top, total = column(j, sums)
    if not abs(top) < np.inf:
        return (np.nan if _any_nan(x, place + j, stride, n) else top), 0.0
    if total != total:
        return np.nan, 0.0
    if total >= 2.0:
        return top, total - 1.0
    return top, sum_of_column_rest(x, place, stride, n, j, sums, partial_sums)


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
def _together(x, n_chunks, parts):
    """Neighbouring rows that go to a tile together: fewer if parts would have no work."""
    width = COLUMNS
    while width > _LINE and x.shape[0] * x.shape[2] * n_chunks < width * parts:
        width //= 2
    return width


@block
def _columns_before(x):
    """Numbers between the begin of a cache line and that of x: the first tile is narrower."""
    before = np.int64(x.ctypes.data) % _LINE_BYTES // x.itemsize
    return before if x.shape[2] > 1 else 0


def _copied(flat, first, count, copy):
    return constant(copy)


@by_precision(_copied)
def _without_copy(flat, first, count, copy):
    """flat[first : first + count], or ``copy`` where the array is float32."""
    return flat[first : first + count]


@block
def logsumexp(part, parts, x, first_chunk, last_chunk, states):
    length, columns = x.shape[1], x.shape[2]
    flat = x.reshape(x.size)
    n_chunks = last_chunk - first_chunk
    together = _together(x, n_chunks, parts)
    before = _columns_before(x) % together
    tiles = (before + columns + together - 1) // together
    items = x.shape[0] * tiles * n_chunks
    tile = np.empty((together, _TILE_ROW))
    w = np.empty(_PIECE)
    partial_sums, sums = make_partial_sums(), make_column_sums()
    item, last_item = part * items // parts, (part + 1) * items // parts
    while item < last_item:
        # Tiles of one chunk, piece by piece: a tile has a few numbers of each of many pages, and
        # its neighbour lies on the same pages.
        first_tile, c, a = item % tiles, item // tiles % n_chunks, item // tiles // n_chunks
        last_tile = min(tiles, first_tile + last_item - item)
        item += last_tile - first_tile
        first_column = max(0, first_tile * together - before)
        for j in range(first_column, min(columns, last_tile * together - before)):
            states[a, j, c, TOP] = -np.inf
            states[a, j, c, HIGH] = 0.0
            states[a, j, c, LOW] = 0.0
        stop = min((first_chunk + c + 1) * CHUNK, length)
        for start in range((first_chunk + c) * CHUNK, stop, _PIECE):
            count = min(_PIECE, stop - start)
            for t in range(first_tile, last_tile):
                b = max(0, t * together - before)
                width = min(columns, (t + 1) * together - before) - b
                place = (a * length + start) * columns + b
                if columns == 1:
                    row = flat[place : place + count]
                    top, rest = _lse_piece(row, count, w, partial_sums)
                    _lse_append(states[a, 0, c], top, rest, 0.0)
                elif width == COLUMNS:
                    # The next tile, or the next piece of the first one.
                    ahead = place + width
                    if t + 1 == last_tile:
                        ahead = (a * length + start + count) * columns + first_column
                    add_columns(flat, place, columns, count, ahead, sums)
                    for j in range(width):
                        top, rest = _lse_column(flat, place, columns, count, j, sums, partial_sums)
                        _lse_append(states[a, b + j, c], top, rest, 0.0)
                else:
                    copy_columns(x, a, start, b, width, count, tile)
                    for j in range(width):
                        top, rest = _lse_piece(constant(tile[j]), count, w, partial_sums)
                        _lse_append(states[a, b + j, c], top, rest, 0.0)


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
def _chunk(x, item, tiles, together, before, first_chunk, n_chunks, end):
    """(a, b, width, start, stop) of a chunk of neighbouring columns: the draws of x[a, :, b].

    Chunks of the same columns follow each other, then come the next columns.
    """
    a, tile = item // n_chunks // tiles, item // n_chunks % tiles
    tile_end = (tile + 1) * together - before
    b = max(0, tile_end - together)
    start = (first_chunk + item % n_chunks) * CHUNK
    return a, b, min(x.shape[2], tile_end) - b, start, min(start + CHUNK, end)


@block
def summaries(
    part, parts, x, first, first_chunk, last_chunk, iw_sizes, capacity, prefix_rows,
    states, top_rows,
):  # fmt: skip
    """States of chunks of x, as in `drivers.states`; the first draw of x has address ``first``."""
    columns, streams = x.shape[2], top_rows.shape[3]
    flat = x.reshape(x.size)
    end = first + x.shape[1]
    n_chunks = last_chunk - first_chunk
    together = _together(x, n_chunks, parts)
    before = _columns_before(x) % together
    tiles = (before + columns + together - 1) // together
    items = x.shape[0] * tiles * n_chunks
    # The columns of a block, and those of the next one. Rows of the next are prefetched beside each
    # column and then copied, before the pages of many rows have displaced each other.
    tiles_of_blocks = np.empty((2, together, _BLOCK + _LINE))
    side, filled = 0, False
    w = np.empty(_BLOCK)
    partial_sums = make_partial_sums()
    copies = columns > 1 or x.itemsize < 8
    # The largest of a whole chunk cost less to find than those of its pieces.
    at_once = capacity > 0 and streams == 1 and not copies
    sums, values = np.empty(_BLOCK), np.empty(_BLOCK)
    fresh = np.zeros(states.shape[3])
    top_k = make_top_k(streams * min(together, columns), capacity)
    slot = 0
    last = (part + 1) * items // parts - 1
    for item in range(part * items // parts, last + 1):
        c = item % n_chunks
        a, b, width, start, stop = _chunk(
            x, item, tiles, together, before, first_chunk, n_chunks, end
        )
        opens = c == 0 or item == part * items // parts
        slot = c if opens else slot
        for j in range(width):
            clear(states[a, b + j, c])
            for s in range(streams if capacity > 0 else 0):
                clear_row(top_rows[a, b + j, c, s])
                if opens:
                    open_row(top_k, streams * j + s, prefix_rows[a, b + j, s, THRESHOLD])
        while start < stop:
            count = min(_BLOCK - start % _BLOCK, stop - start)
            tile, next_tile = tiles_of_blocks[side], tiles_of_blocks[1 - side]
            if copies and not filled:
                copy_columns(x, a, start - first, b, width, count, tile)
            # The next block: of this chunk, or the first of the next one.
            later_a, later_b, later_width, later, later_stop = a, b, width, start + count, stop
            if later == stop and item < last:
                later_a, later_b, later_width, later, later_stop = _chunk(
                    x, item + 1, tiles, together, before, first_chunk, n_chunks, end
                )
            rows = min(_BLOCK - later % _BLOCK, later_stop - later)
            place = (later_a * x.shape[1] + later - first) * columns + later_b
            filled = columns > 1 and rows > 0
            for j in range(width):
                state, room = states[a, b + j, c], tile[j]
                row = constant(room)
                if not copies:
                    row = _without_copy(flat, a * x.shape[1] + start - first, count, room)
                # Rows of the next block, in whole squares, or pieces of the row, from one block on.
                done, until = rows * j // width, rows * (j + 1) // width
                if j < width - 1:
                    until -= until % SIDE
                done -= done % SIDE
                ahead, stride, pieces = place + done * columns, columns, until - done
                if columns == 1:
                    ahead, stride, pieces = place + _BLOCK - count, WIDTH, count // WIDTH
                push_log_weights(
                    state, fresh, iw_sizes, start, row, room, w, sums, values, partial_sums, count,
                    flat, ahead, stride, pieces,
                )  # fmt: skip
                if filled:
                    copy_rows(
                        x, later_a, later - first + done, later_b, later_width, until - done,
                        next_tile, done,
                    )  # fmt: skip
                if capacity > 0 and not at_once:
                    lane, top = streams * j, fresh[MAX]
                    row = constant(room) if fresh[BAD] > 0.0 else row
                    push_streams(top_k, lane, streams, capacity, row, count, top, values)
            side = 1 - side
            start += count
        if at_once:
            start = (first_chunk + c) * CHUNK
            begin = a * x.shape[1] + start - first
            row = _without_copy(flat, begin, stop - start, tiles_of_blocks[0, 0])
            top, mean, deviation = spread(states[a, b, c])
            push_row(top_k, 0, capacity, row, stop - start, top, mean, deviation)
        if capacity > 0 and (c == n_chunks - 1 or item == last):
            for j in range(width):
                for s in range(streams):
                    close_row(top_k, streams * j + s, capacity, top_rows[a, b + j, slot, s])
