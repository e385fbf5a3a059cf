"""A confidence interval for the log evidence that includes the uncertainty of the weights' tail.

The delta interval, ``log mean -+ z sqrt(v / K)``, knows only the part of the tail that was drawn.
If the tail is heavy, most samples miss the few largest weights that matter. Then the mean and its
standard error are both too small. This module models the tail by a generalised Pareto distribution.
The draws give a posterior of its parameters.

Let u be the largest weight outside of the tail of M draws. The evidence is

    E[min(w, u)] + P(w > u) m = E[Y],    Y = w for w <= u, u + m for w > u,

where m is the mean excess over u. Given m, Y is bounded: its sample mean is nearly normal, and the
log of this mean has the standard error of the delta method. m is independent of this mean; for
Pareto excesses, m = sigma / (1 - k). The mixture of these normals over the posterior of (k, sigma)
gives the interval, from its quantile (1 - confidence level) / 2 to (1 + confidence level) / 2.

The posterior is the one that Zhang and Stephens (2009) average for k-hat. Let theta = -k / sigma.
Their weights on the grid of theta, exp(profile log-likelihood), are the exact marginal posterior of
theta under the prior dk / |k|. Given theta, k is inverse-Gamma(M, M k(theta)). Importance weights
have a finite mean, therefore k < 1. The posterior is truncated there, and every interval is finite.
For a light tail, the posterior of m is that of a mean, and the interval is the delta interval.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri, ndtri_exp

from ..errors import InvalidInputError
from ..kernels.cpu.tails import FITTED, UNBOUNDED
from ..validation import Floats
from .pareto import TailFits, fit_tails

# Nodes of k for each theta: equidistant standard normals. The golden ratio shifts them from one
# theta to the next, so that the nodes of all theta together leave no gaps.
_NODES = 12
_NODE_STEP = 0.6
_GOLDEN = 0.6180339887498949

_ROWS = 256
# Keeps the mean excess of the outermost nodes finite.
_LARGEST_K = 1.0 - 1e-9
# Most steps: Newton steps, or bisection if a Newton step leaves the bracket.
_MAX_STEPS = 100
_TOLERANCE = 1e-12
_SQRT_2PI = math.sqrt(2.0 * math.pi)


class Interval(NamedTuple):
    """The ends of a confidence interval, one entry per data point."""

    low: Floats
    high: Floats


def normal_interval(value: Floats, se: Floats, confidence_level: float) -> Interval:
    """The normal interval: value -+ z se."""
    if not 0.0 < confidence_level < 1.0:
        raise InvalidInputError(
            f"confidence_level must be between 0 and 1, got {confidence_level!r}"
        )
    half = ndtri(0.5 + 0.5 * confidence_level) * se
    return Interval(value - half, value + half)


def tail_interval(
    n_samples: int,
    log_evidence: Floats,
    relative_variance: Floats,
    tail: Floats,
    confidence_level: float = 0.95,
) -> tuple[Floats, Floats]:
    """Confidence interval of the log evidence from mean, variance and tail of the weights.

    Parameters
    ----------
    n_samples : int
        K, the number of draws.
    log_evidence, relative_variance : ndarray
        log mean and Var(w) / E(w)^2 of the K weights, one entry per data point.
    tail : ndarray
        (..., M + 1): the largest log weights of each data point, in any order.
    confidence_level : float
        Between 0 and 1.

    Returns
    -------
    low, high : ndarray
        Each in the shape of ``log_evidence``. The interval always contains ``log_evidence``. If the
        tail is too short or has too many equal values for a fit, it is the delta interval. If most
        of the tail underflows relative to the largest weight, the upper end is +inf. If every
        weight is 0, both ends are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from fastelbo.weights.intervals import tail_interval
    >>> log_weights = 0.3 * np.random.default_rng(0).standard_exponential(1000)
    >>> weights = np.exp(log_weights)
    >>> v = weights.var(ddof=1) / weights.mean() ** 2
    >>> low, high = tail_interval(
    ...     1000, np.log(weights.mean()), v, np.sort(log_weights)[-96:], confidence_level=0.95
    ... )
    >>> bool(low < np.log(1 / 0.7) < high)
    True
    """
    if not 0.0 < confidence_level < 1.0:
        raise InvalidInputError(
            f"confidence_level must be between 0 and 1, got {confidence_level!r}"
        )
    value = np.asarray(log_evidence, dtype=np.float64)
    shape = value.shape
    value, v = value.reshape(-1), np.asarray(relative_variance).reshape(-1)
    tail = np.sort(np.asarray(tail, dtype=np.float64).reshape(len(value), np.shape(tail)[-1]))
    probabilities = 0.5 - 0.5 * confidence_level, 0.5 + 0.5 * confidence_level
    se = np.sqrt(v / n_samples)
    ends = [value + ndtri(p) * se for p in probabilities]
    fits = fit_tails(tail)
    ends[1][fits.status == UNBOUNDED] = np.inf
    fitted = np.flatnonzero(fits.status == FITTED)
    for start in range(0, len(fitted), _ROWS):
        rows = fitted[start : start + _ROWS]
        mean_excess, weight = _posterior(
            TailFits(*(part[rows] for part in fits)), tail.shape[1] - 1
        )
        centre, sd = _given_excess(n_samples, value[rows], v[rows], tail[rows], mean_excess)
        for end, p in zip(ends, probabilities, strict=True):
            end[rows] = _mixture_quantile(p, centre, sd, weight, end[rows])
    # If one weight dominates the sum, the fitted interval may exclude the estimate itself.
    low, high = np.minimum(ends[0], value), np.maximum(ends[1], value)
    return low.reshape(shape), high.reshape(shape)


def _posterior(fits: TailFits, tail_length: int) -> tuple[Floats, Floats]:
    """Nodes of the mean excess and their weights, each (rows, grid size * nodes)."""
    # M k(theta) / k is Gamma(M). Its cube root is nearly normal (Wilson and Hilferty).
    spread = 1.0 / (3.0 * np.sqrt(tail_length))
    middle = 1.0 - spread**2
    # k < 1 for standard normals above this limit.
    limit = np.where(fits.k > 0.0, (np.cbrt(fits.k) - middle) / spread, -np.inf)
    log_share = log_ndtr(-limit)
    log_weight = fits.log_likelihood + log_share
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    nodes, node_weights = _nodes(fits.k.shape[1])
    normal = -ndtri_exp(log_share[..., None] + log_ndtr(nodes))
    k = np.minimum(fits.k[..., None] / (middle + spread * normal) ** 3, _LARGEST_K)
    # theta = 0 has weight 0; any other value avoids a division by 0.
    theta = np.where(fits.theta == 0.0, 1.0, fits.theta)
    mean_excess = -k / theta[..., None] / (1.0 - k)
    weights = weight[..., None] * node_weights
    return mean_excess.reshape(len(k), -1), weights.reshape(len(k), -1)


def _nodes(grid_size: int) -> tuple[Floats, Floats]:
    """Standard normal nodes and their weights, each (grid size, nodes)."""
    offset = (np.arange(grid_size)[:, None] * _GOLDEN) % 1.0
    nodes = _NODE_STEP * (np.arange(_NODES) + offset - 0.5 * _NODES)
    weights = np.exp(-0.5 * nodes**2)
    return nodes, weights / weights.sum(axis=1, keepdims=True)


def _given_excess(
    n_samples: int, value: Floats, v: Floats, tail: Floats, mean_excess: Floats
) -> tuple[Floats, Floats]:
    """Log evidence and its standard error for each mean excess over u, (rows, nodes)."""
    top = tail.max(axis=1)
    w = np.exp(tail - top[:, None])
    u = w.min(axis=1)
    size = tail.shape[1] - 1
    mean = np.exp(value - top)
    body = n_samples * mean - (w.sum(axis=1) - u)
    square = ((n_samples - 1.0) * v + n_samples) * mean**2 - ((w**2).sum(axis=1) - u**2)
    y = u[:, None] + mean_excess
    y_mean = (body[:, None] + size * y) / n_samples
    y_square = (square[:, None] + size * y**2) / n_samples
    relative_variance = np.maximum(y_square / y_mean**2 - 1.0, 0.0)
    return top[:, None] + np.log(y_mean), np.sqrt(relative_variance / n_samples)


def _mixture_quantile(
    probability: float, centre: Floats, sd: Floats, weight: Floats, start: Floats
) -> Floats:
    """Quantile of the mixture of normals in each row, by Newton's method within a bracket."""
    sd = np.maximum(sd, np.finfo(float).tiny)
    low, high = (centre - 10.0 * sd).min(axis=1), (centre + 10.0 * sd).max(axis=1)
    x = np.clip(start, low, high)
    active = np.arange(len(x))
    for _ in range(_MAX_STEPS):
        z = (x[active, None] - centre[active]) / sd[active]
        excess = (weight[active] * ndtr(z)).sum(axis=1) - probability
        density = (weight[active] * np.exp(-0.5 * z * z) / sd[active]).sum(axis=1) / _SQRT_2PI
        below = excess < 0.0
        low[active] = np.where(below, x[active], low[active])
        high[active] = np.where(below, high[active], x[active])
        with np.errstate(divide="ignore", invalid="ignore"):
            step = x[active] - excess / density
        inside = (step > low[active]) & (step < high[active])
        step = np.where(inside, step, 0.5 * (low[active] + high[active]))
        done = np.abs(step - x[active]) <= _TOLERANCE * (high[active] - low[active] + np.abs(step))
        x[active] = step
        active = active[~done]
        if not active.size:
            break
    return x
