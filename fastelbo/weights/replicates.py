"""Errors of estimates from replicates: R independent randomisations of one set of points.

Quasi-random draws are dependent, so that their own scatter says nothing of the error of their mean.
The means of R replicates, each of n draws with a randomisation of its own, are independent and
unbiased (Owen, 1997, SIAM J. Numer. Anal. 34; L'Ecuyer and Lemieux, 2002). So the error of their
mean is sd / sqrt(R), and (mean - exact) / error has nearly Student's t with R - 1 degrees of
freedom.

Let m_r be the mean weight of replicate r relative to the mean of all. The log evidence is the log
of the mean of the m_r; SE = sd(m_r) / sqrt(R) is its error by the delta method. The log of a mean
is too low by SE^2 / 2, which is added. The Jensen gap is the mean of m_r less the mean of the log
weights, to first order, so that its error is sd(m_r - l_r) / sqrt(R).

The errors are honest on average: for normal q with k up to 0.36 they were 0.91 to 1.02 times the
root mean squared error. But where q is narrower than the posterior, the m_r are skew: most sets of
replicates miss the rarest of the large weights, and have both a low mean and a small error. So the
upper end of an interval takes the error that the tail of all weights leaves, where it is larger.
Among the 1/n largest weights a replicate has about one point, and its place among them is left to
chance. By the generalised Pareto law of the tail, that weight has variance
sigma^2 / ((1 - k)^2 (1 - 2 k)), with sigma of the weights above their 1 - 1/n quantile. The error
is the root of it over n sqrt(R).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..validation import Floats, Integers
from .pareto import Counts
from .scaled import mean_and_error, scale_of

# The range of k in which a tail is taken as it was fitted: above, there is no error to give.
_K_OF_TAIL = (-0.5, 0.45)
# Fewer disjoint sets of replicates than this tell no error of a bound of k weights.
LEAST_SETS = 4


def standard_error(estimates: Floats) -> Floats:
    """sd / sqrt(R) of the estimates from R replicates, along the last axis.

    It is NaN where an estimate is infinite.

    Examples
    --------
    >>> from fastelbo.weights.replicates import standard_error
    >>> import numpy as np
    >>> float(standard_error(np.array([1.0, 3.0])))
    1.0
    """
    _, se = mean_and_error(estimates)
    return np.where(np.isfinite(estimates).all(axis=-1), se, np.nan)


def relative_weights(values: Mapping[str, Floats]) -> Floats:
    """m_r, (N, R): the mean weight of each replicate relative to the mean of all.

    NaN where all weights are 0.
    """
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        each = values["replicate_log_evidence"]
        return np.asarray(np.exp(each - values["log_evidence"][..., None]))


def evidence_error(values: Mapping[str, Floats]) -> Floats:
    """Standard error of the log evidence, (N,); NaN where all weights are 0."""
    return standard_error(relative_weights(values))


@np.errstate(under="ignore", over="ignore", invalid="ignore")
def tail_error(values: Mapping[str, Floats], n_samples: Counts, replicates: int) -> Floats:
    """The error that the largest weights leave in the log evidence, (N,); 0 where no tail is known.

    ``tail`` has the M + 1 largest log weights of each data point, (N, M + 1), descending; rows that
    are shorter end in NaN.
    """
    tail, k = values["tail"], np.clip(values["pareto_k"], *_K_OF_TAIL)
    if tail.shape[1] == 0:
        return np.zeros(len(tail))
    weights, missing = tail - values["log_evidence"][:, None], np.isnan(tail)
    np.exp(weights, out=weights)
    weights[missing] = 0.0
    last = np.maximum(tail.shape[1] - 1 - missing.sum(axis=1), 1)

    def weight_at(place: Integers) -> Floats:
        return np.asarray(np.take_along_axis(weights, place[:, None], axis=1)[:, 0])

    least, quantile = weight_at(last), weight_at(np.minimum(replicates, last))
    excess = (weights.sum(axis=1) - (last + 1) * least) / last
    spread = np.maximum(excess * (1.0 - k) + k * (quantile - least), 0.0)
    error = spread / ((1.0 - k) * np.sqrt(1.0 - 2.0 * k)) * math.sqrt(replicates) / n_samples
    return np.where(np.isnan(error), 0.0, error)


def gap_error(values: Mapping[str, Floats]) -> Floats:
    """Standard error of the Jensen gap, (N,); NaN where a weight is 0."""
    # The two parts may differ by so much that one is rounded away: it is then nothing beside it.
    with np.errstate(invalid="ignore", over="ignore"):
        return standard_error(relative_weights(values) - values["replicate_elbo"])


class BoundErrors(NamedTuple):
    """Standard errors of importance-weighted bounds, and the degrees of freedom of each."""

    se: Floats  # (N, sizes)
    df: tuple[float, ...]


def bound_errors(
    values: Mapping[str, Floats], sizes: tuple[int, ...], replicates: int
) -> BoundErrors:
    """Errors of the bounds of k weights, one of each of k replicates.

    R // k disjoint sets of k replicates are independent: where there are at least four, the error
    is sd / sqrt(R // k) over them. Where there are fewer, it is the error of the groups as if they
    were independent. That is conservative, as groups of quasi-random draws scatter more than
    their mean does.
    """
    se, df = np.array(values["iw_se"], dtype=np.float64), [math.inf] * len(sizes)
    for j, k in enumerate(sizes):
        sets = replicates // k
        if sets >= LEAST_SETS:
            se[:, j] = standard_error(values["replicate_iw"][:, j, :sets])
            df[j] = sets - 1.0
    return BoundErrors(se, tuple(df))


def variance_ratio(relative_variance: Floats, n_samples: Counts, se: Floats) -> Floats:
    """(v / K) / SE^2: by how much replicates cut the variance that K iid draws would have.

    NaN without an error, or where both are 0.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        return np.asarray((np.sqrt(relative_variance / n_samples) / se) ** 2)


def degrees_of_freedom(se: Floats, df: float) -> float:
    """Of the error of a sum of independent estimates, each with ``df`` degrees of freedom.

    ``(sum s_i^2)^2 / sum(s_i^4 / df)`` (Satterthwaite, 1946; Welch, 1947). It is ``df`` for one
    estimate, and N times that for N of equal errors.

    Examples
    --------
    >>> from fastelbo.weights.replicates import degrees_of_freedom
    >>> import numpy as np
    >>> degrees_of_freedom(np.array([0.1, 0.1]), 15.0)
    30.0
    """
    scale = scale_of(se, axis=None).item()
    with np.errstate(under="ignore", over="ignore", invalid="ignore"):
        # Relative to the largest, so that no fourth power is lost.
        largest = (scale * se).max(initial=0.0)
        if math.isinf(df) or not 0.0 < largest < math.inf:
            return df
        squares = (scale * se / largest) ** 2
        return float(df * squares.sum() ** 2 / (squares**2).sum())
