"""The state of a chunk of draws, taken by all threads of a CUDA block in one go.

Where no groups are asked for, nothing waits for others before the end of the chunk: each thread
keeps sums of its own share, relative to the largest log weight that it has met. Weights enter less
one, so that those of nearly equal ones lose no digits. Weights of float32 rows, and of draws of
that precision, are exponentials of it; all sums are of float64.

Values are taken in fours, that need neither be looked at one by one nor wait for each other.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .compile import block, exact
from .device import TEAM, cuda
from .scalar import exp_nonpositive
from .state import (
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
    clear,
)
from .teams import combine, sum_and_max


class Share(NamedTuple):
    """Sums over the finite log weights x of one thread, with d = x - top and u = exp(d) - 1."""

    top: Any  # the largest x, of the row's type; -inf at first
    peak: Any  # the same in float64
    rest: Any  # of exp(d), one of those that are 1 left out
    uu: Any
    d: Any
    dd: Any
    ud: Any
    count: Any
    bad: Any  # how many are NaN or +inf
    first_bad: Any  # the place of the first of them


class Term(NamedTuple):
    """Sums over the finite values x of a term that one thread has met, with d = x - pivot."""

    pivot: Any  # the first of them
    count: Any
    d: Any
    dd: Any


@block
def empty_share(like):
    """Sums of no log weights, which will be of the type of ``like``."""
    return Share(like.dtype.type(-np.inf), -np.inf, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, np.inf)


@block
def _take_term(term, x):
    """Take in one value, if it is finite."""
    if not abs(x) < np.inf:
        return term
    pivot = term.pivot if term.count > 0.0 else x
    d = x - pivot
    return Term(pivot, term.count + 1.0, term.d + d, term.dd + d * d)


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
    return Term(pivot, count + 4.0, d, dd)


# Numbers that `_store` takes of each thread: of float64, the top is the peak.
STORED = len(Share._fields) - 1 + 2 * len(Term._fields)


@block
def _store(sums, share, first, second):
    """Put what a thread has of log weights and of two terms into its column of shared memory."""
    me = cuda.threadIdx.x
    sums[0, me], sums[1, me], sums[2, me], sums[3, me] = share.peak, share.rest, share.uu, share.d
    sums[4, me], sums[5, me], sums[6, me] = share.dd, share.ud, share.count
    sums[7, me], sums[8, me] = share.bad, share.first_bad
    sums[9, me], sums[10, me], sums[11, me], sums[12, me] = first
    sums[13, me], sums[14, me], sums[15, me], sums[16, me] = second


@block
def stored(sums):
    """What `open_sums` and `push_draws` left there."""
    me = cuda.threadIdx.x
    share = Share(
        sums[0, me], sums[0, me], sums[1, me], sums[2, me], sums[3, me], sums[4, me], sums[5, me],
        sums[6, me], sums[7, me], sums[8, me],
    )  # fmt: skip
    first = Term(sums[9, me], sums[10, me], sums[11, me], sums[12, me])
    return share, first, Term(sums[13, me], sums[14, me], sums[15, me], sums[16, me])


@block
def _raised(share, top, peak):
    """The sums relative to a higher peak, none of them left out."""
    rest, uu, d, dd, ud, n = share[2:8]
    u = (rest + 1.0) - n
    shift = share.peak - peak
    factor, less = math.exp(shift), math.expm1(shift)
    return Share(
        top,
        peak,
        (rest + 1.0) * factor,
        factor * factor * uu + 2.0 * factor * less * u + n * less * less,
        d + n * shift,
        dd + 2.0 * shift * d + n * shift * shift,
        factor * ud + factor * shift * u + less * d + n * less * shift,
        n,
        share.bad,
        share.first_bad,
    )


@block
def _take_other(share, x, place):
    """Take in an x that is above all others, or no number."""
    top, peak, rest, uu, d, dd, ud, n, bad, first_bad = share
    if not x < np.inf:
        return Share(top, peak, rest, uu, d, dd, ud, n, bad + 1.0, min(first_bad, float(place)))
    if n > 0.0:
        top, peak, rest, uu, d, dd, ud, n, bad, first_bad = _raised(share, x, np.float64(x))
    return Share(x, np.float64(x), rest, uu, d, dd, ud, n + 1.0, bad, first_bad)


@block
def _add(share, x, like):
    """Add a finite x that is not above the others, without counting it.

    Its weight is computed in the precision of ``like``.
    """
    top, peak, rest, uu, d, dd, ud, n, bad, first_bad = share
    weight = np.float64(exp_nonpositive(like.dtype.type(x - top)))
    # Single precision would round the difference.
    below, less = np.float64(x) - peak, weight - 1.0
    return Share(
        top,
        peak,
        rest + weight,
        uu + less * less,
        d + below,
        dd + below * below,
        ud + less * below,
        n,
        bad,
        first_bad,
    )


@block
def _counted(share, more):
    top, peak, rest, uu, d, dd, ud, n, bad, first_bad = share
    return Share(top, peak, rest, uu, d, dd, ud, n + more, bad, first_bad)


@block
def _take(share, x, place, like):
    """Take in one log weight."""
    if not x <= share.top:
        return _take_other(share, x, place)
    return share if x == -np.inf else _counted(_add(share, x, like), 1.0)


@block
def _take_one_by_one(share, x0, x1, x2, x3, place, like):
    share = _take(share, x0, place, like)
    share = _take(share, x1, place + TEAM, like)
    share = _take(share, x2, place + 2 * TEAM, like)
    return _take(share, x3, place + 3 * TEAM, like)


@block
def _add_four(share, x0, x1, x2, x3, like):
    share = _add(_add(_add(_add(share, x0, like), x1, like), x2, like), x3, like)
    return _counted(share, 4.0)


@block
def _recounted(share, row, start, stop):
    """The share with what is no number counted anew."""
    top, peak, rest, uu, d, dd, ud, n, bad, first_bad = share
    bad, first_bad = 0.0, np.inf
    for place in range(start + cuda.threadIdx.x, stop, TEAM):
        if not row[place] < np.inf:
            bad, first_bad = bad + 1.0, min(first_bad, float(place))
    return Share(top, peak, rest, uu, d, dd, ud, n, bad, first_bad)


@block
def _share_of(row, start, stop):
    """What one thread takes of row[start:stop]."""
    share = empty_share(row)
    place = start + cuda.threadIdx.x
    while place + 3 * TEAM < stop:
        # All are asked for before the first one is needed. Unsigned, as a negative index would
        # count from the end.
        k = np.uint64(place)
        x0, x1 = row[k], row[k + np.uint64(TEAM)]
        x2, x3 = row[k + np.uint64(2 * TEAM)], row[k + np.uint64(3 * TEAM)]
        # NaN may pass for a number here, and makes the sums NaN.
        if max(max(x0, x1), max(x2, x3)) <= share.top and min(min(x0, x1), min(x2, x3)) > -np.inf:
            share = _add_four(share, x0, x1, x2, x3, row)
        else:
            share = _take_one_by_one(share, x0, x1, x2, x3, place, row)
        place += 4 * TEAM
    while place < stop:
        share = _take(share, row[np.uint64(place)], place, row)
        place += TEAM
    return share if share.rest == share.rest else _recounted(share, row, start, stop)


@block
def open_sums(sums, like):
    """Begin the sums of a thread, over log weights and terms of the type of ``like``."""
    none = Term(0.0, 0.0, 0.0, 0.0)
    _store(sums, empty_share(like), none, none)


@block
def push_draws(sums, log_weight, terms, first, n, like):
    """Take the draws of a tile that this thread made into its sums.

    The tile's draws are numbered from ``first``. Of the terms it has its own alone. The sums are in
    shared memory, as there are no registers for them while a draw is made.
    """
    me = cuda.threadIdx.x
    share, likelihoods, ratios = stored(sums)
    turn = 0
    while me + (turn + 3) * TEAM < n:
        k = np.uint64(me + turn * TEAM)
        x0, x1 = log_weight[k], log_weight[k + np.uint64(TEAM)]
        x2, x3 = log_weight[k + np.uint64(2 * TEAM)], log_weight[k + np.uint64(3 * TEAM)]
        top = share.top
        if (
            (x0 <= top) & (x1 <= top) & (x2 <= top) & (x3 <= top)
            & (x0 > -np.inf) & (x1 > -np.inf) & (x2 > -np.inf) & (x3 > -np.inf)
        ):  # fmt: skip
            share = _add_four(share, x0, x1, x2, x3, like)
        else:
            share = _take_one_by_one(share, x0, x1, x2, x3, first + me + turn * TEAM, like)
        likelihoods = _take_four_of_term(likelihoods, terms[0], np.uint64(turn))
        ratios = _take_four_of_term(ratios, terms[1], np.uint64(turn))
        turn += 4
    while me + turn * TEAM < n:
        k = np.uint64(me + turn * TEAM)
        share = _take(share, log_weight[k], first + me + turn * TEAM, like)
        likelihoods = _take_term(likelihoods, terms[0, np.uint64(turn)])
        ratios = _take_term(ratios, terms[1, np.uint64(turn)])
        turn += 1
    _store(sums, share, likelihoods, ratios)


@exact
def set_weights(state, share, draws, slots):
    """Make the state that of the shares of all threads, but for the terms of the weights."""
    me = cuda.threadIdx.x
    bad, peak = sum_and_max(share.bad, share.peak, slots)
    first_bad = np.inf
    if bad > 0.0:
        _, nearest = sum_and_max(0.0, -share.first_bad, slots)
        first_bad = -nearest
    # Of the largest weights one is left out, and of those of other threads none.
    one = 1.0 if share.count > 0.0 and share.peak == peak else 0.0
    if share.count > 0.0 and share.peak < peak:
        share = _raised(share, share.top, peak)
    u = share.rest + one - share.count
    slots[0, me], slots[1, me], slots[2, me] = share.rest, one, u
    slots[3, me], slots[4, me], slots[5, me] = share.uu, share.d, share.dd
    slots[6, me], slots[7, me], slots[8, me] = share.ud, share.count, 0.0
    combine(slots, 8)
    if me == 0:
        clear(state)
        state[COUNT], state[BAD], state[FIRST_BAD] = float(draws), bad, first_bad
        n, u, d = slots[7, 0], slots[2, 0], slots[4, 0]
        if n > 0.0:
            state[MAX] = peak
            state[REST_HI] = slots[0, 0] + (slots[1, 0] - 1.0)
            state[M2_WEIGHT] = max(0.0, slots[3, 0] - u * u / n)
            state[CO_MOMENT] = slots[6, 0] - u * d / n
            state[LOG_WEIGHT + FINITE] = n
            state[LOG_WEIGHT + SUM_HI] = n * peak + d
            state[LOG_WEIGHT + M2] = max(0.0, slots[5, 0] - d * d / n)
    cuda.syncthreads()


@exact
def set_term(state, offset, term, slots):
    """The moments of a term from those of all threads."""
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
        state[offset + M2] = max(0.0, second)


@exact
def push_row(state, row, start, stop, slots):
    """Make the state that of the draws start to stop of a row."""
    set_weights(state, _share_of(row, start, stop), stop - start, slots)
    if cuda.threadIdx.x == 0:
        # The terms of a weight are not known: of one stands the weight, the other is 0.
        for field in range(4):
            state[LOG_LIKELIHOOD + field] = state[LOG_WEIGHT + field]
        state[LOG_RATIO + FINITE] = state[COUNT]
