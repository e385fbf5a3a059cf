"""The mergeable state: a summary of the draws of one data point.

A state is one row of floats (counts are exact up to 2^53). `push_block` adds a block of log weights
to the state of a chunk. `merge` appends the state of the next chunk. Chunk states are merged from
the left, in the order of their addresses, so that the result does not depend on which thread
computed which chunk.

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
    CLOSED,
    CLOSED_M2,
    CLOSED_MEAN,
    CLOSED_SCALE,
    CLOSED_ZERO,
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
    """Append ``other``, the state of the next draws, to a state that begins at draw 0."""
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


def _mean(columns: Floats, offset: int, infinite: float) -> Floats:
    """Mean of one term. One infinite draw makes the mean ``infinite``."""
    finite, scale = columns[offset + FINITE], columns[offset + SCALE]
    mean = (columns[offset + SUM_HI] + columns[offset + SUM_LO]) / finite / scale
    # Rounding may lift a mean of the largest floats above them.
    mean = np.clip(mean, -_LARGEST, _LARGEST)
    return np.where(finite == columns[COUNT], mean, infinite)


def _error(columns: Floats, offset: int) -> Floats:
    """Standard error of the mean of one term; NaN for an infinite draw."""
    n = columns[COUNT]
    se = np.sqrt(columns[offset + M2] / (n - 1.0) / n) / columns[offset + SCALE]
    return np.where(columns[offset + FINITE] == n, se, np.nan)


def _log_evidence(columns: Floats) -> Floats:
    """Log of the mean weight."""
    rest = columns[REST_HI] + columns[REST_LO]
    value = columns[MAX] + (np.log1p(rest) - np.log(columns[COUNT]))
    return np.where(columns[LOG_WEIGHT + FINITE] > 0, value, -np.inf)


def _group_means(groups: Floats) -> Floats:
    """Mean of the values of groups (fields, N, sizes); NaN without a group."""
    closed = groups[CLOSED]
    whole = (groups[CLOSED_ZERO] == 0) & (closed > 0)
    bounds = np.clip(groups[CLOSED_MEAN] / groups[CLOSED_SCALE], -_LARGEST, _LARGEST)
    return np.where(whole, bounds, np.where(closed > 0, -np.inf, np.nan))


@np.errstate(all="ignore")
def read_means(states: Floats, group_sizes: int) -> dict[str, Floats]:
    """The estimates of `read` alone: means, without errors."""
    return _means(_columns(states), group_sizes)


def _means(columns: Floats, group_sizes: int) -> dict[str, Floats]:
    return {
        "log_evidence": _log_evidence(columns),
        "elbo": _mean(columns, LOG_WEIGHT, -np.inf),
        "expected_log_likelihood": _mean(columns, LOG_LIKELIHOOD, -np.inf),
        "kl": _mean(columns, LOG_RATIO, np.inf),
        "iw_value": _group_means(_groups(columns, group_sizes)),
    }


def _columns(states: Floats) -> Floats:
    """One row a field. A field of states as they are has one number in each line of the cache."""
    return np.ascontiguousarray(states.T)


def _groups(columns: Floats, group_sizes: int) -> Floats:
    """The fields of groups, (fields, N, group_sizes)."""
    groups = columns[GROUPS:].reshape(group_sizes, GROUP_SIZE, columns.shape[1])
    return np.asarray(groups.transpose(1, 2, 0))


def read(states: Floats, group_sizes: int) -> dict[str, Floats]:
    """All quantities of some states, by name; ``states`` has one row per data point.

    ``iw_value`` and ``iw_se`` have shape (N, group_sizes).
    """
    columns = _columns(states)
    with np.errstate(all="ignore"):
        n = columns[COUNT]
        finite = columns[LOG_WEIGHT + FINITE]
        zero = n - finite
        rest = columns[REST_HI] + columns[REST_LO]
        total = 1.0 + rest
        # Merge the zero weights into the second moment: their mean and their moment are 0.
        m2 = columns[M2_WEIGHT] + (total / finite) ** 2 * (finite * zero / n)
        mean = total / n
        relative_variance = m2 / (n - 1.0) / mean**2
        # Between 1 and the number of positive weights: rounding may go beyond.
        ess = np.clip(n / (1.0 + m2 / n / mean**2), 1.0, np.maximum(finite, 1.0))
        scale = columns[LOG_WEIGHT + SCALE]
        gap_variance = (
            relative_variance * scale * scale
            + columns[LOG_WEIGHT + M2] / (n - 1.0)
            - 2.0 * columns[CO_MOMENT] * scale / (n - 1.0) / mean
        )
        # Of the two ends, the farther from the mean: the distance squared over the sum of squares.
        centre = (columns[LOG_WEIGHT + SUM_HI] + columns[LOG_WEIGHT + SUM_LO]) / finite
        ends = columns[[MIN, MAX]] * scale - centre
        largest_share = np.abs(ends).max(axis=0) ** 2 / columns[LOG_WEIGHT + M2]
        gap_se = np.sqrt(np.maximum(gap_variance, 0.0) / n) / scale
        some = finite > 0
        values = _means(columns, group_sizes)
        values |= {
            "relative_variance": np.where(some, relative_variance, np.nan),
            "ess": np.where(some, ess, 0.0),
            "elbo_se": _error(columns, LOG_WEIGHT),
            "expected_log_likelihood_se": _error(columns, LOG_LIKELIHOOD),
            "kl_se": _error(columns, LOG_RATIO),
            "jensen_gap_se": np.where(zero == 0, gap_se, np.nan),
            "n_zero": zero,
            "largest_share": largest_share,
            # Copies, so that the results do not keep the fields alive.
            "n_bad": columns[BAD].copy(),
            "first_bad": columns[FIRST_BAD].copy(),
        }
        groups = _groups(columns, group_sizes)
        closed = groups[CLOSED]
        whole = (groups[CLOSED_ZERO] == 0) & (closed > 0)
        se = np.sqrt(groups[CLOSED_M2] / (closed - 1.0) / closed) / groups[CLOSED_SCALE]
        values["iw_se"] = np.where(whole, se, np.nan)
    return values
