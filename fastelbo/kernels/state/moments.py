"""The mergeable state of weighted moments: of values f_p at the draws of one data point.

Values are coordinates of the draws, or what a function makes of them. With the scaled weights
w = exp(l - max) and weighted means c_p, a state holds sum w, sum w^2, the c_p, sum w^2 (f_p - c_p),
and over pairs of values sum w (f_p - c_p) (f_q - c_q) and the same with w^2. So it has posterior
means and covariances, and their errors by the delta method (Owen, Monte Carlo theory, methods and
examples, chapter 9). Gradients of linear-Gaussian models are linear in it.

States are merged by the formula of Chan, Golub and LeVeque (1979), for weights: moments are always
about the weighted mean of their own state, so that nothing cancels, however far from 0 the values
are and whichever draws come first. The pairs are all p >= q (``full``), or p = q alone.

A weight of 0 takes no part, whatever its value. A value that is not finite at a positive weight is
counted, and the first address of one is kept. No log weight may be NaN or +inf.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..draws.blocks import LANES
from ..jit.compile import block, borrower, exact
from ..math.copies import fill
from ..math.extremes import largest
from ..math.scalar import exp
from ..math.scaled_weights import scale_weights
from ..math.sums import make_partial_sums, product_sums, sum_all

Floats = NDArray[np.float64]

# Fields of a state. After them, of each value: the mean, and sum w^2 (f - c). Then, of each pair:
# sum w (f_p - c_p) (f_q - c_q), and the same with w^2.
COUNT = 0  # draws of positive weight
BAD = 1  # values that are not finite, at a positive weight
FIRST_BAD = 2  # address of the first draw that has one
MAX = 3
SUM = 4  # of w
SQUARES = 5  # sum of w^2
VALUES = 6


@block
def pair_count(values, full):
    """How many pairs of values a state has."""
    return values * (values + 1) // 2 if full else values


@block
def state_size(values, full):
    """Length of the state of so many values."""
    return VALUES + 2 * values + 2 * pair_count(values, full)


@borrower
def clear(state):
    """Reset the state to zero draws."""
    fill(state, state.shape[0], 0.0)
    state[MAX] = -np.inf
    state[FIRST_BAD] = np.inf


# --- merging --------------------------------------------------------------------------------


@exact
def merge(state, other, values, full):
    """Append the other state."""
    state[BAD] += other[BAD]
    state[FIRST_BAD] = min(state[FIRST_BAD], other[FIRST_BAD])
    if other[COUNT] == 0.0:
        return
    if state[COUNT] == 0.0:
        state[COUNT] = other[COUNT]
        for field in range(MAX, state.shape[0]):
            state[field] = other[field]
        return
    top = max(state[MAX], other[MAX])
    fa, fb = exp(state[MAX] - top), exp(other[MAX] - top)
    sum_a, sum_b = state[SUM] * fa, other[SUM] * fb
    square_a, square_b = state[SQUARES] * (fa * fa), other[SQUARES] * (fb * fb)
    share_a, share_b = sum_a / (sum_a + sum_b), sum_b / (sum_a + sum_b)
    first = VALUES + values
    plain = first + values
    squared = plain + pair_count(values, full)
    pair = 0
    for p in range(values):
        change = other[VALUES + p] - state[VALUES + p]
        # The old means as seen from the new one.
        pa, pb = -share_b * change, share_a * change
        for q in range(0 if full else p, p + 1):
            step = other[VALUES + q] - state[VALUES + q]
            qa, qb = -share_b * step, share_a * step
            state[plain + pair] = (
                state[plain + pair] * fa
                + other[plain + pair] * fb
                + change * step * (sum_a * share_b)
            )
            moved_a = state[squared + pair] + pa * state[first + q] + qa * state[first + p]
            moved_b = other[squared + pair] + pb * other[first + q] + qb * other[first + p]
            state[squared + pair] = (moved_a * (fa * fa) + pa * qa * square_a) + (
                moved_b * (fb * fb) + pb * qb * square_b
            )
            pair += 1
    for p in range(values):
        change = other[VALUES + p] - state[VALUES + p]
        pa, pb = -share_b * change, share_a * change
        state[first + p] = (state[first + p] * (fa * fa) + pa * square_a) + (
            other[first + p] * (fb * fb) + pb * square_b
        )
        # From the mean of more weight: the shorter way.
        if share_b <= 0.5:
            state[VALUES + p] += change * share_b
        else:
            state[VALUES + p] = other[VALUES + p] - change * share_a
    state[COUNT] += other[COUNT]
    state[MAX] = top
    state[SUM] = sum_a + sum_b
    state[SQUARES] = square_a + square_b


# --- pushing a block ------------------------------------------------------------------------


class Room(NamedTuple):
    """Arrays of one thread for the moments of its current block."""

    deviation: Floats  # (values, LANES): f - c
    weight: Floats  # (LANES,): w
    square: Floats  # (LANES,): w^2
    weighted: Floats  # (LANES,): w (f - c) of one value
    squared: Floats  # (LANES,): w^2 (f - c) of one value
    fresh: Floats  # the state of the block alone
    partial_sums: Floats


@block
def make_room(values, full):
    """Allocate a `Room` for so many values."""
    return Room(
        np.empty((values, LANES)),
        np.empty(LANES),
        np.empty(LANES),
        np.empty(LANES),
        np.empty(LANES),
        np.empty(state_size(values, full)),
        make_partial_sums(),
    )


@borrower
def _set_weights(fresh, log_weight, n, room):
    """Set the weights of a block, and their fields; False where all of them are 0."""
    top = largest(log_weight, n)
    if top == -np.inf:
        return False
    weight, square = room.weight, room.square
    fresh[MAX] = top
    fresh[SUM] = scale_weights(log_weight, top, n, weight, room.partial_sums)
    count = np.int64(0)
    for k in range(n):
        square[k] = weight[k] * weight[k]
        count += np.int64(1) if log_weight[k] > -np.inf else np.int64(0)
    fresh[SQUARES] = sum_all(square, n, room.partial_sums)
    fresh[COUNT] = float(count)
    return True


@borrower
def _without_bad(fresh, log_weight, row, first, n):
    """Count the values of a block that are not finite at a positive weight; all become 0."""
    for k in range(n):
        if not abs(row[k]) < np.inf:
            if log_weight[k] > -np.inf:
                fresh[BAD] += 1.0
                fresh[FIRST_BAD] = min(fresh[FIRST_BAD], float(first + k))
            row[k] = 0.0


@borrower
def _set_values(fresh, log_weight, v, place, first, n, room):
    """Set the means of a block, and the deviations from them."""
    for p in range(room.deviation.shape[0]):
        row = room.deviation[p]
        for k in range(n):
            row[k] = v[p, place + k]
        total, check = product_sums(room.weight, room.square, row, n, room.partial_sums)
        if not abs(total) + abs(check) < np.inf:
            _without_bad(fresh, log_weight, row, first, n)
            total, _ = product_sums(room.weight, room.square, row, n, room.partial_sums)
        mean = total / fresh[SUM]
        for k in range(n):
            row[k] -= mean
        fresh[VALUES + p] = mean


@borrower
def push_block(state, log_weight, v, place, first, n, full, room):
    """Add a block to the state of its chunk: log_weight[:n], and values v[:, place : place + n].

    The address of its first draw is ``first``.
    """
    fresh, deviation, values = room.fresh, room.deviation, room.deviation.shape[0]
    clear(fresh)
    if not _set_weights(fresh, log_weight, n, room):
        return
    _set_values(fresh, log_weight, v, place, first, n, room)
    plain = VALUES + 2 * values
    squared = plain + pair_count(values, full)
    pair = 0
    for p in range(values):
        for k in range(n):
            room.weighted[k] = room.weight[k] * deviation[p, k]
            room.squared[k] = room.square[k] * deviation[p, k]
        fresh[VALUES + values + p] = sum_all(room.squared, n, room.partial_sums)
        for q in range(0 if full else p, p + 1):
            fresh[plain + pair], fresh[squared + pair] = product_sums(
                room.weighted, room.squared, deviation[q], n, room.partial_sums
            )
            pair += 1
    merge(state, fresh, values, full)


# --- reading --------------------------------------------------------------------------------


class Moments(NamedTuple):
    """The moments of some states (..., size), with arrays (...) or (..., values) or (..., pairs).

    Weights are relative to the largest, exp(l - max).
    """

    positive: Floats  # draws of positive weight
    top: Floats  # max
    total: Floats  # sum w
    squares: Floats  # sum w^2
    mean: Floats  # c_p
    square_first: Floats  # sum w^2 (f_p - c_p)
    products: Floats  # sum w (f_p - c_p) (f_q - c_q)
    square_products: Floats  # sum w^2 (f_p - c_p) (f_q - c_q)


def read(states: Floats, values: int, full: bool) -> Moments:
    """The moments of so many values."""
    fields = (states[..., field] for field in (COUNT, MAX, SUM, SQUARES))
    ends = np.cumsum([VALUES, values, values, pair_count(values, full)])
    return Moments(*fields, *np.split(states, ends, axis=-1)[1:])
