"""The mergeable state: a summary of the draws of one data point.

A state is one row of floats (counts are exact up to 2^53). `push_block` adds a block of log weights
to the state of a chunk. `merge` appends the state of the next draws. States are merged in an order
that depends on their addresses alone (see `spans`), so that the result does not depend on which
thread computed which chunk.

The scaled weights are w = exp(l - max), where l is the log weight. Their sum is ``1 + rest``: the
rest leaves one maximal weight out. ``log1p(rest)`` keeps the digits that a sum near 1 would lose
(Blanchard, Higham and Higham, 2021). Across blocks, sums are compensated sums of two floats. Second
moments are centred, and merged by the formula of Chan, Golub and LeVeque (1979): raw moments would
cancel if the weights are nearly equal. A zero weight (l = -inf) is counted, but never enters a
moment of l.

A log weight may be as low as -1e308, where a model says "impossible" by a number. Its square is no
float. The moments of such terms are those of `TINY` times the term; see `scales`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..jit.compile import borrower, exact
from ..math.copies import fill, scaled
from ..math.extremes import extremes_and_sum, largest
from ..math.scalar import exp, two_sum
from ..math.scaled_weights import scale_and_prefetch, sum_of_rest
from ..math.second_moments import (
    finite_joint_moments,
    finite_square_deviations,
    joint_moments,
    square_deviations,
)
from ..math.sums import finite_sum
from .groups import (
    CLOSED_M2,
    CLOSED_MEAN,
    GROUP_SIZE,
    clear_groups,
    merge_group,
    push_groups,
)
from .scales import TINY, moments_fit

Floats = NDArray[np.float64]

_LARGEST = np.finfo(np.float64).max

# Fields of a state.
COUNT = 0
BAD = 1  # log weights that are NaN or +inf
FIRST_BAD = 2  # address of the first bad log weight
MAX = 3
MIN = 4  # the smallest l; not read if a weight is 0
REST_HI = 5
REST_LO = 6
M2_WEIGHT = 7  # centred second moment of w over finite l
CO_MOMENT = 8  # centred co-moment of w and l, the latter times its scale
# Three terms of `TERM_SIZE` fields each: log weight, log-likelihood, log q - log prior.
LOG_WEIGHT = 9
LOG_LIKELIHOOD = 14
LOG_RATIO = 19
GROUPS = 24  # where the importance-weight groups begin

# Fields of a term, from its offset. They count finite values only.
FINITE = 0
SUM_HI = 1
SUM_LO = 2
M2 = 3
SCALE = 4  # what the values were multiplied by: 1 or `TINY`
TERM_SIZE = 5


def state_size(group_sizes: int) -> int:
    """Length of a state with this number of importance-weight group sizes."""
    return GROUPS + GROUP_SIZE * group_sizes


@borrower
def clear(state):
    """Reset the state to zero draws."""
    state[:] = 0.0
    state[MAX], state[MIN] = -np.inf, np.inf
    state[FIRST_BAD] = np.inf
    for offset in range(LOG_WEIGHT, GROUPS, TERM_SIZE):
        state[offset + SCALE] = 1.0
    clear_groups(state[GROUPS:])


@borrower
def spread(state):
    """The largest log weight, and the mean and the standard deviation of the finite ones."""
    term = state[LOG_WEIGHT:]
    count, scale = term[FINITE], term[SCALE]
    mean, variance = (term[SUM_HI] + term[SUM_LO]) / count, term[M2] / count
    return state[MAX], mean / scale, np.sqrt(variance) / scale


# --- merging --------------------------------------------------------------------------------


@exact
def _rescale_term(state, offset, scale):
    """Scale the moments of a term by ``scale`` if that is the smaller one."""
    if scale < state[offset + SCALE]:
        ratio = scale / state[offset + SCALE]
        state[offset + SUM_HI] *= ratio
        state[offset + SUM_LO] *= ratio
        # One factor after the other: the square of `TINY` is 0.
        state[offset + M2] = state[offset + M2] * ratio * ratio
        if offset == LOG_WEIGHT:
            state[CO_MOMENT] *= ratio
        state[offset + SCALE] = scale


@exact
def _merge_term(state, other, offset):
    """Append the moments of one term of the other state."""
    na, nb = state[offset + FINITE], other[offset + FINITE]
    if nb == 0.0:
        return
    _rescale_term(state, offset, other[offset + SCALE])
    ratio = state[offset + SCALE] / other[offset + SCALE]
    other_high, other_low = other[offset + SUM_HI] * ratio, other[offset + SUM_LO] * ratio
    other_second = other[offset + M2] * ratio * ratio
    high, error = two_sum(state[offset + SUM_HI], other_high)
    low = state[offset + SUM_LO] + other_low + error
    if na > 0.0:
        delta = (other_high + other_low) / nb - (
            state[offset + SUM_HI] + state[offset + SUM_LO]
        ) / na
        state[offset + M2] += other_second + delta * delta * (na * nb / (na + nb))
    else:
        state[offset + M2] = other_second
    state[offset + FINITE] = na + nb
    state[offset + SUM_HI] = high
    state[offset + SUM_LO] = low


@exact
def _merge_weights(state, other):
    """Append the scaled weights of the other state. Call it before the term of l is merged."""
    na, nb = state[LOG_WEIGHT + FINITE], other[LOG_WEIGHT + FINITE]
    if nb == 0.0:
        return
    if na == 0.0:
        for field in range(MAX, CO_MOMENT + 1):
            state[field] = other[field]
        state[LOG_WEIGHT + SCALE] = other[LOG_WEIGHT + SCALE]
        return
    _rescale_term(state, LOG_WEIGHT, other[LOG_WEIGHT + SCALE])
    ratio = state[LOG_WEIGHT + SCALE] / other[LOG_WEIGHT + SCALE]
    top = max(state[MAX], other[MAX])
    fa, fb = exp(state[MAX] - top), exp(other[MAX] - top)
    sum_a = (1.0 + (state[REST_HI] + state[REST_LO])) * fa
    sum_b = (1.0 + (other[REST_HI] + other[REST_LO])) * fb
    # The rest leaves one of the two maximal weights out; the other, of size f, joins the rest.
    joined = fb if state[MAX] >= other[MAX] else fa
    high, error = two_sum(state[REST_HI] * fa, other[REST_HI] * fb)
    high, error2 = two_sum(high, joined)
    state[REST_LO] = (state[REST_LO] * fa + other[REST_LO] * fb) + (error + error2)
    state[REST_HI] = high
    dw = sum_b / nb - sum_a / na
    dl = (other[LOG_WEIGHT + SUM_HI] + other[LOG_WEIGHT + SUM_LO]) * ratio / nb - (
        state[LOG_WEIGHT + SUM_HI] + state[LOG_WEIGHT + SUM_LO]
    ) / na
    share = na * nb / (na + nb)
    state[M2_WEIGHT] = state[M2_WEIGHT] * (fa * fa) + other[M2_WEIGHT] * (fb * fb) + dw * dw * share
    other_co = other[CO_MOMENT] * ratio
    state[CO_MOMENT] = state[CO_MOMENT] * fa + other_co * fb + dw * dl * share
    state[MAX] = top
    state[MIN] = min(state[MIN], other[MIN])


@borrower
def merge_moments(state, other):
    """Append the other state, except its groups."""
    state[COUNT] += other[COUNT]
    state[BAD] += other[BAD]
    state[FIRST_BAD] = min(state[FIRST_BAD], other[FIRST_BAD])
    _merge_weights(state, other)
    for offset in range(LOG_WEIGHT, GROUPS, TERM_SIZE):
        _merge_term(state, other, offset)


@borrower
def merge(state, other, iw_sizes):
    """Append ``other``, the state of the next draws."""
    merge_moments(state, other)
    for g in range(iw_sizes.shape[0]):
        offset = GROUPS + g * GROUP_SIZE
        merge_group(
            state[offset : offset + GROUP_SIZE],
            other[offset : offset + GROUP_SIZE],
            float(iw_sizes[g]),
        )


# --- pushing a block ------------------------------------------------------------------------


@borrower
def _set_term(state, offset, x, n, room, partial_sums):
    """Set the moments of one term over a block."""
    finite, total = finite_sum(x, n, partial_sums)
    mean = total / finite if finite > 0 else 0.0
    if finite == n:
        second = finite_square_deviations(x, mean, n, partial_sums)
    else:
        second = square_deviations(x, mean, n, partial_sums)
    scale = 1.0
    if not moments_fit(total, second):
        scale = TINY
        scaled(x, scale, n, room)
        finite, total = finite_sum(room, n, partial_sums)
        second = square_deviations(room, total / finite, n, partial_sums)
    state[offset + FINITE] = float(finite)
    state[offset + SUM_HI] = total
    state[offset + SUM_LO] = 0.0
    state[offset + M2] = second
    state[offset + SCALE] = scale


@borrower
def _clean(state, log_weight, first, n, out):
    """Count bad log weights; copy all to ``out``, bad ones as -inf."""
    bad = np.int64(0)
    for k in range(n):
        bad += np.int64(0) if log_weight[k] < np.inf else np.int64(1)
    state[BAD] = float(bad)
    if bad > 0:
        k = 0
        while log_weight[k] < np.inf:
            k += 1
        state[FIRST_BAD] = float(first + k)
    for k in range(n):
        out[k] = log_weight[k] if log_weight[k] < np.inf else -np.inf


@borrower
def _set_moments(state, log_weight, finite, total, n, w, room, partial_sums):
    """Set moments of the scaled weights w and of the finite log weights, whose sum is ``total``."""
    mean_w, mean = (1.0 + state[REST_HI]) / finite, total / finite
    if finite == n:
        second_w, second_l, co_moment = finite_joint_moments(
            w, mean_w, log_weight, mean, n, partial_sums
        )
    else:
        second_w, second_l, co_moment = joint_moments(w, mean_w, log_weight, mean, n, partial_sums)
    if not moments_fit(total, second_l):
        scaled(log_weight, TINY, n, room)
        _, total = finite_sum(room, n, partial_sums)
        _, second_l, co_moment = joint_moments(w, mean_w, room, total / finite, n, partial_sums)
        state[LOG_WEIGHT + SUM_HI] = total
        state[LOG_WEIGHT + SCALE] = TINY
    state[M2_WEIGHT] = second_w
    state[LOG_WEIGHT + M2] = second_l
    state[CO_MOMENT] = co_moment


@borrower
def _set_weights(
    state, log_weight, first, n, clean, w, room, later, place, stride, count, partial_sums
):  # fmt: skip
    """Set counts and moments of a block's log weights and scaled weights; fill ``w`` with these.

    A log weight that is NaN or +inf is counted as bad. Then ``clean`` has the log weights with -inf
    in its place.
    """
    state[COUNT] = float(n)
    state[BAD] = 0.0
    state[FIRST_BAD] = np.inf
    finite = n
    top, state[MIN], total = extremes_and_sum(log_weight, n, partial_sums)
    kept = log_weight
    if not abs(total) < np.inf:
        _clean(state, log_weight, first, n, clean)
        kept = clean
        finite, total = finite_sum(clean, n, partial_sums)
        top = largest(clean, n)
    state[LOG_WEIGHT + FINITE] = float(finite)
    state[LOG_WEIGHT + SUM_HI] = total
    state[LOG_WEIGHT + SUM_LO] = 0.0
    state[LOG_WEIGHT + SCALE] = 1.0
    if finite == 0:
        state[MAX] = -np.inf
        state[LOG_WEIGHT + M2] = 0.0
        fill(w, n, 0.0)
        return
    total_w = scale_and_prefetch(kept, top, n, w, later, place, stride, count, partial_sums)
    state[MAX] = top
    state[REST_HI] = sum_of_rest(w, total_w, n, partial_sums)
    state[REST_LO] = 0.0
    _set_moments(state, kept, finite, total, n, w, room, partial_sums)


@borrower
def push_log_weights(
    state, fresh, iw_sizes, first, log_weight, clean, w, sums, values, partial_sums, n,
    later, place, stride, count,
):  # fmt: skip
    """Add a block of log weights to the state of its chunk; the block's first draw is ``first``.

    The other arrays are room: ``fresh`` for the state of the block alone, ``w`` for its scaled
    weights, ``sums`` and ``values`` for those of its groups, ``partial_sums`` for sums. If
    fresh[BAD] is not 0, ``clean`` then holds the log weights with bad ones as -inf. It may be the
    same array. Of the array ``later``, ``count`` pieces are prefetched; see `scale_and_prefetch`.
    """
    _set_weights(
        fresh, log_weight, first, n, clean, w, values, later, place, stride, count, partial_sums
    )
    merge_moments(state, fresh)
    kept = clean if fresh[BAD] > 0.0 else log_weight
    push_groups(state[GROUPS:], iw_sizes, first, kept, w, fresh[MAX], n, sums, values, partial_sums)


@borrower
def push_block(state, fresh, iw_sizes, first, work, n):
    """Add a block and its log-density terms to the state of its chunk; see `push_log_weights`."""
    log_ratio, room = work.scratch[0], work.scratch[1]
    log_q, log_prior = work.log_q, work.log_prior
    for k in range(n):
        log_ratio[k] = log_q[k] - log_prior[k]
    _set_term(fresh, LOG_LIKELIHOOD, work.log_likelihood, n, room, work.partial_sums)
    _set_term(fresh, LOG_RATIO, log_ratio, n, room, work.partial_sums)
    push_log_weights(
        state,
        fresh,
        iw_sizes,
        first,
        work.log_weight,
        work.log_weight,
        work.scratch[0],
        work.scratch[1],
        work.scratch[2],
        work.partial_sums,
        n,
        work.log_weight,
        0,
        0,
        0,
    )


# --- reading --------------------------------------------------------------------------------


def overflowed(states: Floats) -> NDArray[np.bool_]:
    """Of which states without bad log weights a moment is no float, for want of a scale."""
    fields = [REST_HI, REST_LO, M2_WEIGHT, CO_MOMENT]
    for offset in range(LOG_WEIGHT, GROUPS, TERM_SIZE):
        fields += [offset + SUM_HI, offset + SUM_LO, offset + M2]
    for offset in range(GROUPS, states.shape[1], GROUP_SIZE):
        fields += [offset + CLOSED_MEAN, offset + CLOSED_M2]
    return np.asarray(~np.isfinite(states[:, fields]).all(axis=1) & (states[:, BAD] == 0.0))
