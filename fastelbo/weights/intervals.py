"""Confidence intervals from a value and its standard error, or from no more than the value."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..errors import InvalidInputError
from ..special import ndtri, stdtrit
from ..validation import Floats, as_number
from .pareto import LOW_ESS_VARIANCE, Counts, kept_draws

# The largest v / K of more than 20 draws whose tail is unknown: at least 4 effective draws. The
# delta interval of counts of rare events, which are such weights, is good.
_MOST_VARIANCE = 0.25


class Interval(NamedTuple):
    """The ends of a confidence interval, one entry per data point."""

    low: Floats
    high: Floats


def as_level(confidence_level: float) -> float:
    """A confidence level as a float, after a check that it is a probability."""
    level = as_number(confidence_level, "confidence_level")
    if not 0.0 < level < 1.0:
        raise InvalidInputError(
            f"confidence_level must be between 0 and 1, got {confidence_level!r}"
        )
    return level


def upper_probability(confidence_level: float) -> float:
    """The probability below the upper end of a two-sided interval, never rounded to 1."""
    return min(0.5 + 0.5 * as_level(confidence_level), 1.0 - 2.0**-53)


def quantile(confidence_level: float, df: float = math.inf) -> float:
    """How many standard errors an interval reaches: of Student's t, or of the normal law."""
    probability = upper_probability(confidence_level)
    return float(ndtri(probability) if df == math.inf else stdtrit(df, probability))


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def normal_interval(
    value: Floats, se: Floats, confidence_level: float, df: float = math.inf
) -> Interval:
    """value -+ z se; without ends where the error is infinite, even about an infinite value.

    With ``df`` degrees of freedom, z is the quantile of Student's t.
    """
    half = quantile(confidence_level, df) * se
    endless = np.isposinf(half)
    low, high = np.where(endless, -np.inf, value - half), np.where(endless, np.inf, value + half)
    return Interval(low, high)


def one_sided_interval(value: Floats, confidence_level: float) -> Interval:
    """The interval of log evidence for any tail: P(mean of w > c E[w]) <= 1 / c (Markov)."""
    least = value + math.log(1.0 - as_level(confidence_level))
    return Interval(least, np.full_like(value, np.inf))


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def replicated_interval(
    log_evidence: Floats,
    uncorrected: Floats,
    se: tuple[Floats, Floats],
    df: float,
    confidence_level: float,
) -> Interval:
    """The interval of the log evidence from replicates, with quantiles of Student's t.

    ``se`` are the errors of its lower and of its upper end. It is one-sided, below the log of the
    mean weight, ``uncorrected``, where a squared error exceeds 0.25, or there is none.
    """
    below, above = (normal_interval(log_evidence, each, confidence_level, df) for each in se)
    # Markov's inequality is about the mean of the weights itself.
    without = one_sided_interval(uncorrected, confidence_level)
    known = np.maximum(*se) ** 2 <= _MOST_VARIANCE
    return Interval(
        np.where(known, below.low, without.low), np.where(known, above.high, without.high)
    )


@np.errstate(over="ignore", under="ignore")
def delta_interval(
    n_samples: Counts,
    log_evidence: Floats,
    relative_variance: Floats,
    confidence_level: float,
) -> Interval:
    """The interval of the log evidence if nothing is known of the tail.

    It has quantiles of Student's t with K - 1 degrees of freedom. It is one-sided where v / K
    exceeds 0.01 (up to 20 draws) or 0.25 (more), or is NaN as it is for one draw.
    """
    most_variance = np.where(kept_draws(n_samples), _MOST_VARIANCE, LOW_ESS_VARIANCE)
    variance = relative_variance / np.maximum(n_samples, 1)
    df = np.maximum(np.subtract(n_samples, 1), 1)
    half = stdtrit(df, upper_probability(confidence_level)) * np.sqrt(variance)
    least, most = one_sided_interval(log_evidence, confidence_level)
    known = variance <= most_variance
    return Interval(
        np.where(known, log_evidence - half, least), np.where(known, log_evidence + half, most)
    )
