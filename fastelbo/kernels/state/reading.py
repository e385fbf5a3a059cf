"""What states say: estimates and their errors; see `engine.readings` for what they are."""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, exact
from .groups import (
    CLOSED,
    CLOSED_M2,
    CLOSED_MEAN,
    CLOSED_SCALE,
    CLOSED_ZERO,
    GROUP_SIZE,
)
from .state import (
    BAD,
    CO_MOMENT,
    COUNT,
    FINITE,
    FIRST_BAD,
    GROUPS,
    LOG_LIKELIHOOD,
    LOG_RATIO,
    LOG_WEIGHT,
    M2,
    M2_WEIGHT,
    MAX,
    MIN,
    REST_HI,
    REST_LO,
    SCALE,
    SUM_HI,
    SUM_LO,
)

_LARGEST = np.finfo(np.float64).max


@block
def read_states(part, parts, states, top, count, out):
    """Set all but the log evidence, whose place gets the sum of scaled weights, less one.

    ``top`` takes the largest log weight, which is -inf if no weight is above 0. ``count`` takes
    their number.
    """
    points = states.shape[0]
    begin, end = part * points // parts, (part + 1) * points // parts
    _read_moments(states, begin, end, top, count, out)
    _read_groups(states, begin, end, out)


@exact
def _read_moments(states, begin, end, top, count, out):
    for i in range(begin, end):
        n, finite = states[i, COUNT], states[i, LOG_WEIGHT + FINITE]
        scale, second = states[i, LOG_WEIGHT + SCALE], states[i, LOG_WEIGHT + M2]
        high, low = states[i, LOG_WEIGHT + SUM_HI], states[i, LOG_WEIGHT + SUM_LO]
        zero = n - finite
        rest = states[i, REST_HI] + states[i, REST_LO]
        total = 1.0 + rest
        # Merge the zero weights into the second moment: their mean and their moment are 0.
        ratio = total / finite
        m2 = states[i, M2_WEIGHT] + ratio * ratio * (finite * zero / n)
        mean = total / n
        relative_variance = m2 / (n - 1.0) / (mean * mean)
        # Between 1 and the number of positive weights: rounding may go beyond.
        ess = _clipped(n / (1.0 + m2 / n / (mean * mean)), 1.0, max(finite, 1.0))
        gap_variance = (
            relative_variance * scale * scale
            + second / (n - 1.0)
            - 2.0 * states[i, CO_MOMENT] * scale / (n - 1.0) / mean
        )
        # Of the two ends, the farther from the mean: the distance squared over the sum of squares.
        centre = (high + low) / finite
        below, above = states[i, MIN] * scale - centre, states[i, MAX] * scale - centre
        farthest = _larger(abs(below), abs(above))
        gap_se = np.sqrt(_larger(gap_variance, 0.0) / n) / scale
        top[i], count[i] = states[i, MAX] if finite > 0.0 else -np.inf, n
        out.log_evidence[i] = rest
        out.relative_variance[i] = relative_variance if finite > 0.0 else np.nan
        out.ess[i] = ess if finite > 0.0 else 0.0
        out.jensen_gap_se[i] = gap_se if zero == 0.0 else np.nan
        out.n_zero[i], out.n_bad[i] = zero, states[i, BAD]
        out.first_bad[i] = states[i, FIRST_BAD]
        out.largest_share[i] = farthest * farthest / second
        out.elbo[i] = _mean(states, i, LOG_WEIGHT, -np.inf)
        out.elbo_se[i] = _error(states, i, LOG_WEIGHT)
        out.expected_log_likelihood[i] = _mean(states, i, LOG_LIKELIHOOD, -np.inf)
        out.expected_log_likelihood_se[i] = _error(states, i, LOG_LIKELIHOOD)
        out.kl[i] = _mean(states, i, LOG_RATIO, np.inf)
        out.kl_se[i] = _error(states, i, LOG_RATIO)


@exact
def _read_groups(states, begin, end, out):
    """Means of the values of groups and their errors; NaN without a group."""
    for i in range(begin, end):
        for g in range(out.iw_value.shape[1]):
            offset = GROUPS + g * GROUP_SIZE
            closed, scale = states[i, offset + CLOSED], states[i, offset + CLOSED_SCALE]
            value = _clipped(states[i, offset + CLOSED_MEAN] / scale, -_LARGEST, _LARGEST)
            se = np.sqrt(states[i, offset + CLOSED_M2] / (closed - 1.0) / closed) / scale
            whole = states[i, offset + CLOSED_ZERO] == 0.0
            if not (closed > 0.0 and whole):
                value, se = (-np.inf if closed > 0.0 else np.nan), np.nan
            out.iw_value[i, g], out.iw_se[i, g] = value, se


@exact
def _mean(states, i, offset, infinite):
    """Mean of one term. One infinite draw makes the mean ``infinite``."""
    finite = states[i, offset + FINITE]
    total = states[i, offset + SUM_HI] + states[i, offset + SUM_LO]
    # Rounding may lift a mean of the largest floats above them.
    mean = _clipped(total / finite / states[i, offset + SCALE], -_LARGEST, _LARGEST)
    return mean if finite == states[i, COUNT] else infinite


@exact
def _error(states, i, offset):
    """Standard error of the mean of one term; NaN for an infinite draw."""
    n = states[i, COUNT]
    se = np.sqrt(states[i, offset + M2] / (n - 1.0) / n) / states[i, offset + SCALE]
    return se if states[i, offset + FINITE] == n else np.nan


@exact
def _larger(a, b):
    """The larger of two numbers; NaN if one is NaN."""
    return a if a > b or a != a else b


@exact
def _clipped(value, least, most):
    """The number within limits; NaN stays."""
    value = least if value < least else value
    return most if value > most else value
