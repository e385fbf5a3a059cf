"""Confidence intervals of sums and differences of estimates, from the intervals of the estimates.

Let the intervals of two estimates reach a and b beyond them to one side. The interval of their sum
reaches sqrt(a^2 + b^2 + 2 r a b), with r their correlation: the method of variance estimates
recovery (MOVER; Zou and Donner, 2008). Each side has its own reach, so the result is as skew as the
tail intervals are. For normal intervals, and for one term, it is exact.

Tail intervals are intervals of posteriors, which are centred too high where they are wide. So a
convolution of the posteriors of many data points would miss the sum of their log evidences. The
method above does not, because its reaches are about unbiased estimates.
"""

from __future__ import annotations

import math

import numpy as np

from ..kernels.state.scales import LARGE, TINY
from ..validation import Floats
from .intervals import Interval, one_sided_interval, quantile
from .scaled import root_sum_of_squares, total

# For a light tail, the tail interval may reach further than the delta interval by this share, which
# counts as no difference. If log evidence and ELBO nearly cancel, such a share of the reach is many
# times the error of the gap.
_TOLERANCE = 0.02


def sum_interval(
    log_evidence: Floats, bias: Floats, intervals: Interval, confidence_level: float
) -> tuple[float, float]:
    """Confidence interval of a sum of log evidences of data points with independent draws, in nats.

    Parameters
    ----------
    log_evidence : (N,) ndarray
        Estimates.
    bias : (N,) ndarray
        v / 2K, by how much the log of a mean is low.
    intervals : Interval
        Tail intervals of the N data points, at the same level.
    confidence_level : float
        Between 0 and 1.

    Returns
    -------
    low, high : float
        If one data point has no upper end, the sum has none. The lower end is then
        ``sum(log_evidence) + log(1 - confidence_level)``: the product of the mean weights of
        independent data points has the product of the evidences as its expectation, and Markov's
        inequality holds for this product as it does for a single mean.

    Examples
    --------
    >>> import numpy as np
    >>> from fastelbo.weights.combined_intervals import sum_interval
    >>> from fastelbo.weights.intervals import Interval
    >>> value = np.array([-1.0, -2.0])
    >>> ends = Interval(value - [0.3, 0.4], value + [0.6, 0.8])
    >>> low, high = sum_interval(value, np.zeros(2), ends, 0.95)
    >>> round(low, 2), round(high, 2)
    (-3.5, -2.0)
    """
    if not np.isfinite(log_evidence).all() or np.isposinf(intervals.high).any():
        least, _ = one_sided_interval(np.asarray(total(log_evidence)), confidence_level)
        return float(least), np.inf
    centre = log_evidence + bias
    with np.errstate(over="ignore"):
        below, above = (root_sum_of_squares(end - centre) for end in intervals)
    return total(centre) - below, total(centre) + above


def difference_interval(
    first: Floats, second: Floats, first_interval: Interval, second_interval: Interval
) -> Interval:
    """Confidence interval of first - second, two independent estimates with their intervals.

    The lower end takes the lower end of the first and the upper end of the second. Without one of
    them the result has no such end, nor where an estimate is infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastelbo.weights.combined_intervals import difference_interval
    >>> from fastelbo.weights.intervals import Interval
    >>> first, second = np.array(1.0), np.array(-2.0)
    >>> ends = Interval(first - 0.3, first + 0.6), Interval(second - 0.8, second + 0.4)
    >>> low, high = difference_interval(first, second, *ends)
    >>> round(float(low), 2), round(float(high), 2)
    (2.5, 4.0)
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        value = first - second
        low = value - np.hypot(first - first_interval.low, second_interval.high - second)
        high = value + np.hypot(first_interval.high - first, second - second_interval.low)
    finite = np.isfinite(value)
    return Interval(np.where(finite, low, -np.inf), np.where(finite, high, np.inf))


def gap_interval(
    gap: Floats,
    errors: tuple[Floats, Floats, Floats],
    log_evidence: Floats,
    evidence_interval: Interval,
    confidence_level: float,
    df: float = math.inf,
) -> Interval:
    """Confidence interval of the Jensen gap, log evidence - ELBO, in nats.

    Parameters
    ----------
    gap : ndarray
        Estimates.
    errors : tuple of ndarray
        Standard errors by the delta method, whatever the tail: of the log evidence, the ELBO and
        the gap. They tell the correlation.
    log_evidence : ndarray
        Estimates of the log evidence.
    evidence_interval : Interval
        Its tail interval at the same level.
    confidence_level : float
        Between 0 and 1.
    df : float
        Degrees of freedom of the errors.

    Returns
    -------
    Interval
        NaN where the ELBO has no standard error. It has no upper end where the log evidence has
        none.

    Examples
    --------
    >>> import numpy as np
    >>> from fastelbo.weights.combined_intervals import gap_interval
    >>> from fastelbo.weights.intervals import Interval
    >>> errors = np.array(0.1), np.array(0.2), np.array(0.15)
    >>> low, high = gap_interval(
    ...     np.array(1.0), errors, np.array(-2.0), Interval(np.array(-2.2), np.array(-1.5)), 0.95
    ... )
    >>> round(float(low), 2), round(float(high), 2)
    (0.71, 1.36)
    """
    z = quantile(confidence_level, df)
    unit = np.where(np.fmax.reduce(errors) > LARGE, TINY, 1.0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        delta, elbo, both = (unit * (z * error) for error in errors)
        low, high = (
            _gap_reach(unit * np.abs(end - log_evidence), delta, elbo, both) / unit
            for end in evidence_interval
        )
        return Interval(gap - low, gap + high)


def _gap_reach(tail: Floats, delta: Floats, elbo: Floats, both: Floats) -> Floats:
    """How far the interval of the gap reaches, if that of the log evidence reaches ``tail``.

    a = tail and b = elbo are on opposite sides, so that the squared reach is a^2 + b^2 - 2 r a b.
    The square of ``both`` is the same sum with delta in place of a. With s = a / delta, the squared
    reach is s both^2 + (s - 1) (s delta^2 - b^2), which does not cancel at s = 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = tail / delta - 1.0
        excess = np.sign(excess) * np.maximum(np.abs(excess) - _TOLERANCE, 0.0)
        # Equal weights have no error, and their tail none.
        excess = np.where(delta > 0.0, excess, 0.0)
        square = (1.0 + excess) * (both**2 + excess * delta**2) - excess * elbo**2
        # The ELBO may have no error to give even where there is no upper end.
        return np.asarray(np.where(tail == np.inf, elbo + np.inf, np.sqrt(np.maximum(square, 0.0))))
