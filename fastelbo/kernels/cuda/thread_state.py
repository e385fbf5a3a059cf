"""The state of a chunk of draws without groups: each thread of a CUDA block sums its own draws.

No thread waits for another before the end of the chunk. Each thread keeps sums of its own share of
the draws, relative to a pivot. The pivot is the largest of the thread's first log weights. It is
raised only when a log weight is far above it. If the pivot were always the largest log weight so
far, some thread of a warp would rescale its sums in nearly every step, and the others would wait.

The sums use weights minus one: moments of nearly equal weights then lose no digits except those
that the weights themselves lack. Rows and draws of float32 get their weights from an exponential in
float32. All sums are float64.

Values are added four at a time: one test covers all four, and none waits for another.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..jit.compile import block, exact
from ..math.scalar import exp_quickly
from ..state.state import (
    BAD,
    CO_MOMENT,
    COUNT,
    FINITE,
    FIRST_BAD,
    LOG_LIKELIHOOD,
    LOG_RATIO,
    LOG_WEIGHT,
    M2,
    M2_WEIGHT,
    MAX,
    REST_HI,
    SUM_HI,
    TERM_SIZE,
    clear,
)
from .block_reduce import combine, sum_and_max
from .device import BLOCK_THREADS, cuda


class Share(NamedTuple):
    """Sums over the finite log weights x of one thread, with d = x - pivot and u = exp(d) - 1."""

    pivot: Any  # one of the x, of the row's type; -inf at first
    top: Any  # the largest x
    total: Any  # of exp(d)
    uu: Any
    d: Any
    dd: Any
    ud: Any
    count: Any
    bad: Any  # number of NaN and +inf
    first_bad: Any  # place of the first of these


class TermSums(NamedTuple):
    """Sums over the finite values x of a term in one thread, with d = x - pivot."""

    pivot: Any  # the first x
    count: Any
    d: Any
    dd: Any


@block
def empty_share(like):
    """Sums of no log weights. The log weights to come have the type of ``like``."""
    none = like.dtype.type(-np.inf)
    return Share(none, none, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, np.inf)


@block
def _take_term(term, x):
    """Add one value if it is finite."""
    if not abs(x) < np.inf:
        return term
    pivot = term.pivot if term.count > 0.0 else x
    d = x - pivot
    return TermSums(pivot, term.count + 1.0, term.d + d, term.dd + d * d)


@block
def _take_four_of_term(term, x, k):
    x0, x1, x2, x3 = x[k], x[k + np.uint64(1)], x[k + np.uint64(2)], x[k + np.uint64(3)]
    below = (abs(x0) < np.inf) & (abs(x1) < np.inf) & (abs(x2) < np.inf) & (abs(x3) < np.inf)
    if not below or term.count == 0.0:
        return _take_term(_take_term(_take_term(_take_term(term, x0), x1), x2), x3)
    pivot, count, d, dd = term
    d0, d1, d2, d3 = x0 - pivot, x1 - pivot, x2 - pivot, x3 - pivot
    d = (((d + d0) + d1) + d2) + d3
    dd = (((dd + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3
    return TermSums(pivot, count + 4.0, d, dd)


# Numbers per thread that `_store` writes.
STORED = len(Share._fields) + 2 * len(TermSums._fields)


@block
def _store(sums, share, first, second):
    """Write a thread's sums of log weights and of two terms to its column of shared memory."""
    me = cuda.threadIdx.x
    sums[0, me], sums[1, me], sums[2, me], sums[3, me], sums[4, me] = share[:5]
    sums[5, me], sums[6, me], sums[7, me], sums[8, me], sums[9, me] = share[5:]
    sums[10, me], sums[11, me], sums[12, me], sums[13, me] = first
    sums[14, me], sums[15, me], sums[16, me], sums[17, me] = second


@block
def stored(sums):
    """Read a thread's sums, which `open_sums` and `push_draws` have stored."""
    me = cuda.threadIdx.x
    share = Share(
        sums[0, me], sums[1, me], sums[2, me], sums[3, me], sums[4, me], sums[5, me], sums[6, me],
        sums[7, me], sums[8, me], sums[9, me],
    )  # fmt: skip
    first = TermSums(sums[10, me], sums[11, me], sums[12, me], sums[13, me])
    return share, first, TermSums(sums[14, me], sums[15, me], sums[16, me], sums[17, me])


@block
def _weight(x, pivot, like):
    """exp(x - pivot), computed in the precision of ``like``."""
    return np.float64(exp_quickly(like.dtype.type(x - pivot)))


@block
def _raised(share, pivot):
    """The sums relative to a higher pivot."""
    if share.count == 0.0:
        return _with_pivot(share, pivot, 0.0, 0.0, 0.0, 0.0, 0.0)
    total, uu, d, dd, ud, n = share[2:8]
    u = total - n
    shift = np.float64(share.pivot) - np.float64(pivot)
    factor, less = math.exp(shift), math.expm1(shift)
    return _with_pivot(
        share,
        pivot,
        total * factor,
        factor * factor * uu + 2.0 * factor * less * u + n * less * less,
        d + n * shift,
        dd + 2.0 * shift * d + n * shift * shift,
        factor * ud + factor * shift * u + less * d + n * less * shift,
    )


@block
def _with_pivot(share, pivot, total, uu, d, dd, ud):
    return Share(pivot, share.top, total, uu, d, dd, ud, share.count, share.bad, share.first_bad)


# A value may be this far above the pivot before the pivot is raised. A smaller limit raises it more
# often. A larger one rounds more roughly: differences in single precision, and a sum without its
# largest weight.
_FAR = 8.0


@block
def _ready(share, top, like):
    """The share, with its pivot raised if ``top``, the largest of the next values, is far above."""
    return _raised(share, top) if top > share.pivot + like.dtype.type(_FAR) else share


@block
def _add(share, x, like):
    """Add a finite x to the sums, without updating ``count`` and ``top``."""
    pivot, top, total, uu, d, dd, ud, n, bad, first_bad = share
    weight = _weight(x, pivot, like)
    # In single precision the difference would be rounded.
    above, less = np.float64(x) - np.float64(pivot), weight - 1.0
    return Share(
        pivot,
        top,
        total + weight,
        uu + less * less,
        d + above,
        dd + above * above,
        ud + less * above,
        n,
        bad,
        first_bad,
    )


@block
def _counted(share, more, top):
    """The share, with count and top updated for ``more`` values, the largest of them ``top``."""
    pivot, old, total, uu, d, dd, ud, n, bad, first_bad = share
    return Share(pivot, max(old, top), total, uu, d, dd, ud, n + more, bad, first_bad)


@block
def _take(share, x, place, like):
    """Add one log weight."""
    if abs(x) < np.inf:
        return _counted(_add(_ready(share, x, like), x, like), 1.0, x)
    if x == -np.inf:
        return share
    pivot, top, total, uu, d, dd, ud, n, bad, first_bad = share
    bad, first_bad = bad + 1.0, min(first_bad, float(place))
    return Share(pivot, top, total, uu, d, dd, ud, n, bad, first_bad)


@block
def _take_one_by_one(share, x0, x1, x2, x3, place, like):
    share = _take(share, x0, place, like)
    share = _take(share, x1, place + BLOCK_THREADS, like)
    share = _take(share, x2, place + 2 * BLOCK_THREADS, like)
    return _take(share, x3, place + 3 * BLOCK_THREADS, like)


@block
def _add_four(share, x0, x1, x2, x3, top, like):
    share = _ready(share, top, like)
    share = _add(_add(_add(_add(share, x0, like), x1, like), x2, like), x3, like)
    return _counted(share, 4.0, top)


@block
def _recounted(share, row):
    """The share, with NaN and +inf counted again. Its other fields are then not read."""
    pivot, top, total, uu, d, dd, ud, n, _, _ = share
    bad, first_bad = 0.0, np.inf
    for place in range(cuda.threadIdx.x, row.size, BLOCK_THREADS):
        if not row[place] < np.inf:
            bad, first_bad = bad + 1.0, min(first_bad, float(place))
    return Share(pivot, top, total, uu, d, dd, ud, n, bad, first_bad)


@block
def _four(row, k):
    """Four values of a thread; all four loads are issued before the first value is used."""
    x0, x1 = row[k], row[k + np.uint64(BLOCK_THREADS)]
    return x0, x1, row[k + np.uint64(2 * BLOCK_THREADS)], row[k + np.uint64(3 * BLOCK_THREADS)]


@block
def _share_of(row):
    """Sums of one thread's values of a row. Places count from the start of the row."""
    share = empty_share(row)
    me = cuda.threadIdx.x
    fours = (row.size + BLOCK_THREADS - 1 - me) // (4 * BLOCK_THREADS)
    # Unsigned: a negative index would count from the end, so a signed one needs a test.
    k = np.uint64(me)
    if fours > 0:
        x0, x1, x2, x3 = _four(row, k)
        for turn in range(fours):
            if turn + 1 < fours:
                k += np.uint64(4 * BLOCK_THREADS)
            # The next four are loading while these four are added.
            y0, y1, y2, y3 = _four(row, k)
            # A NaN can pass this test. It then makes the sums NaN.
            top = max(max(x0, x1), max(x2, x3))
            if top < np.inf and min(min(x0, x1), min(x2, x3)) > -np.inf:
                share = _add_four(share, x0, x1, x2, x3, top, row)
            else:
                share = _take_one_by_one(
                    share, x0, x1, x2, x3, me + turn * (4 * BLOCK_THREADS), row
                )
            x0, x1, x2, x3 = y0, y1, y2, y3
    for place in range(me + fours * (4 * BLOCK_THREADS), row.size, BLOCK_THREADS):
        share = _take(share, row[np.uint64(place)], place, row)
    return share if share.total == share.total else _recounted(share, row)


@block
def open_sums(sums, like):
    """Start a thread's sums over log weights and terms of the type of ``like``."""
    none = TermSums(0.0, 0.0, 0.0, 0.0)
    _store(sums, empty_share(like), none, none)


@block
def push_draws(sums, log_weight, terms, first, n, like):
    """Add the draws of a tile that this thread made to its sums.

    The tile's draws are numbered from ``first``. ``log_weight`` is shared by all threads; ``terms``
    holds only this thread's terms. The sums are in shared memory, because a thread has no registers
    left for them while it makes a draw.
    """
    me = cuda.threadIdx.x
    share, likelihoods, ratios = stored(sums)
    turn = 0
    while me + (turn + 3) * BLOCK_THREADS < n:
        k = np.uint64(me + turn * BLOCK_THREADS)
        x0, x1 = log_weight[k], log_weight[k + np.uint64(BLOCK_THREADS)]
        x2, x3 = (
            log_weight[k + np.uint64(2 * BLOCK_THREADS)],
            log_weight[k + np.uint64(3 * BLOCK_THREADS)],
        )
        top = max(max(x0, x1), max(x2, x3))
        # The sum is NaN or -inf if one of the four is.
        if (top < np.inf) & ((x0 + x1) + (x2 + x3) > -np.inf):
            share = _add_four(share, x0, x1, x2, x3, top, like)
        else:
            share = _take_one_by_one(share, x0, x1, x2, x3, first + me + turn * BLOCK_THREADS, like)
        likelihoods = _take_four_of_term(likelihoods, terms[0], np.uint64(turn))
        ratios = _take_four_of_term(ratios, terms[1], np.uint64(turn))
        turn += 4
    while me + turn * BLOCK_THREADS < n:
        k = np.uint64(me + turn * BLOCK_THREADS)
        share = _take(share, log_weight[k], first + me + turn * BLOCK_THREADS, like)
        likelihoods = _take_term(likelihoods, terms[0, np.uint64(turn)])
        ratios = _take_term(ratios, terms[1, np.uint64(turn)])
        turn += 1
    _store(sums, share, likelihoods, ratios)


@exact
def _centred(second, less):
    """A second moment minus that of the mean: not below 0, and inf after an overflow."""
    moment = second - less
    return max(0.0, moment) if abs(moment) < np.inf else np.inf


@exact
def set_weights(state, share, draws, like, slots):
    """Set the state from the shares of all threads, except for its two terms.

    Weights have the precision of ``like``.
    """
    me = cuda.threadIdx.x
    bad, peak = sum_and_max(share.bad, np.float64(share.top), slots)
    first_bad = np.inf
    if bad > 0.0:
        _, nearest = sum_and_max(0.0, -share.first_bad, slots)
        first_bad = -nearest
    rest, one, uu, d, dd, ud = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if share.count > 0.0:
        _, _, rest, uu, d, dd, ud, _, _, _ = _raised(share, peak)
        if share.top == peak:
            # Leave out one of the largest weights, rounded as it was when it was added.
            rest = share.total - _weight(share.top, share.pivot, like)
            one, rest = 1.0, rest * math.exp(np.float64(share.pivot) - peak)
    u = (rest + one) - share.count
    slots[0, me], slots[1, me], slots[2, me] = rest, one, u
    slots[3, me], slots[4, me], slots[5, me] = uu, d, dd
    slots[6, me], slots[7, me], slots[8, me] = ud, share.count, 0.0
    combine(slots, 8)
    if me == 0:
        clear(state)
        state[COUNT], state[BAD], state[FIRST_BAD] = float(draws), bad, first_bad
        n, u, d = slots[7, 0], slots[2, 0], slots[4, 0]
        if n > 0.0:
            state[MAX] = peak
            state[REST_HI] = slots[0, 0] + (slots[1, 0] - 1.0)
            state[M2_WEIGHT] = _centred(slots[3, 0], u * u / n)
            state[CO_MOMENT] = slots[6, 0] - u * d / n
            state[LOG_WEIGHT + FINITE] = n
            state[LOG_WEIGHT + SUM_HI] = n * peak + d
            state[LOG_WEIGHT + M2] = _centred(slots[5, 0], d * (d / n))
    cuda.syncthreads()


@exact
def set_term(state, offset, term, slots):
    """Set the moments of a term from the sums of all threads."""
    me = cuda.threadIdx.x
    slots[0, me], slots[1, me], slots[2, me] = term.count, term.count * term.pivot + term.d, 0.0
    combine(slots, 2)
    n, total = slots[0, 0], slots[1, 0]
    cuda.syncthreads()
    shift = term.pivot - total / n if n > 0.0 else 0.0
    second = term.dd + shift * (2.0 * term.d + term.count * shift)
    second, _ = sum_and_max(second, 0.0, slots)
    if me == 0:
        state[offset + FINITE] = n
        state[offset + SUM_HI] = total
        state[offset + M2] = _centred(second, 0.0)


@exact
def push_row(state, row, start, stop, slots):
    """Set the state to that of draws start to stop of a row."""
    set_weights(state, _share_of(row[start:stop]), stop - start, row, slots)
    if cuda.threadIdx.x == 0:
        state[FIRST_BAD] += float(start)
        # The terms are unknown: the log weight replaces the likelihood, 0 the ratio.
        for field in range(TERM_SIZE):
            state[LOG_LIKELIHOOD + field] = state[LOG_WEIGHT + field]
        state[LOG_RATIO + FINITE] = state[COUNT]
