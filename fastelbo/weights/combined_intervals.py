"""Confidence intervals for a sum of log evidences and for the Jensen gap, from single intervals.

Let the interval of each of two estimates reach a and b beyond it to one side. That of their sum
reaches sqrt(a^2 + b^2 + 2 r a b), with r their correlation: the method of variance estimates
recovery (MOVER; Zou and Donner, 2008). Each side has its own reach, so the result is as skew as the
tail intervals are. For normal intervals, and for one term, it is exact.

Tail intervals are posteriors, which are centred too high where they are wide. A convolution of the
posteriors of many data points thus misses the sum of their log evidences; reaches about unbiased
estimates do not.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from ..kernels.state.scales import LARGE, TINY
from ..validation import Floats
from .intervals import Interval, one_sided_interval, upper_probability
from .scaled import root_sum_of_squares, total

# So much of its reach may the tail interval differ from the delta interval for a light tail. Where
# log evidence and ELBO nearly cancel, that would be many times the error of the gap.
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
        Where the interval of a data point has no upper end, nor has that of the sum. Its lower end
        is then ``sum(log_evidence) + log(1 - confidence_level)``, for all data points together: the
        mean weights of independent data points have a product whose expectation is the product of
        the evidences, and Markov's inequality holds for it as for a single mean.

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


def gap_interval(
    gap: Floats,
    errors: tuple[Floats, Floats, Floats],
    log_evidence: Floats,
    evidence_interval: Interval,
    confidence_level: float,
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

    Returns
    -------
    Interval
        NaN where the ELBO has no standard error; without an upper end where the log evidence has
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
    z = float(ndtri(upper_probability(confidence_level)))
    unit = np.where(np.fmax.reduce(errors) > LARGE, TINY, 1.0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        delta, elbo, both = (unit * (z * error) for error in errors)
        low, high = (
            _gap_reach(unit * np.abs(end - log_evidence), delta, elbo, both) / unit
            for end in evidence_interval
        )
        return Interval(gap - low, gap + high)


def _gap_reach(tail: Floats, delta: Floats, elbo: Floats, both: Floats) -> Floats:
    """How far the interval of the gap reaches, where that of the log evidence reaches ``tail``.

    a = tail and b = elbo are on opposite sides, so that the square is a^2 + b^2 - 2 r a b; that of
    ``both`` is the same with delta for a. In terms of s = a / delta this is
    s both^2 + (s - 1) (s delta^2 - b^2), which does not cancel at s = 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = tail / delta - 1.0
        excess = np.sign(excess) * np.maximum(np.abs(excess) - _TOLERANCE, 0.0)
        # Equal weights have no error, and their tail none.
        excess = np.where(delta > 0.0, excess, 0.0)
        square = (1.0 + excess) * (both**2 + excess * delta**2) - excess * elbo**2
        # The ELBO may have no error to give even where there is no upper end.
        return np.asarray(np.where(tail == np.inf, elbo + np.inf, np.sqrt(np.maximum(square, 0.0))))
