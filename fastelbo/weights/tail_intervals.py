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

The posterior is the one that Zhang and Stephens (2009) average for k-hat. With theta = -k / sigma,
their weights of the grid of theta, exp(profile log-likelihood), are also its exact marginal
posterior under the prior dk / |k|, and k given theta is inverse-Gamma(M, M k(theta)). For a light
tail, the posterior of m is that of a mean, and the interval is the delta interval.

A tail with k >= 1 has no mean. Where k-hat is within its limit, the posterior is cut off at k < 1.
Above the limit it is not, and its part from 1 on says that the evidence is infinite, or as good as
infinite for these draws: where this part is more than half of alpha = 1 - confidence level, there
is no upper end. The lower end is then the estimate + log(alpha), which needs nothing from the tail:
by Markov's inequality the mean of the weights is above c times its expectation with probability at
most 1 / c.

Above k = 1/2, the lower end is not far above that of the delta interval. Where the posterior of the
log evidence is wide although k-hat is within its limit, the draws cannot tell the tail from one
without a mean: errors are then nearly always upward, and the interval is moved up (`_placed`).

Up to 20 draws have no tail that could be fitted, and a tail with too many equal weights has no
shape. The interval is then that of `delta_interval`: from quantiles of Student's t, and without an
upper end where v / K is too large.
"""

from __future__ import annotations

import math

import numpy as np

from ..kernels.cpu.tails import FITTED, SHORT, TIED, UNBOUNDED
from ..special import log_ndtr, logsumexp, ndtr, ndtri, ndtri_exp
from ..validation import Floats, Integers
from .intervals import Interval, as_level, delta_interval, one_sided_interval, upper_probability
from .pareto import Counts, TailFits, fit_tails, k_threshold

# Nodes of k for each theta: equidistant standard normals. The golden ratio shifts them from one
# theta to the next, so that the nodes of all theta together leave no gaps.
_NODES = 12
_NODE_STEP = 0.6
_GOLDEN = 0.6180339887498949

_ROWS = 256
# Keeps the mean excess of the outermost nodes finite.
_LARGEST_K = 1.0 - 1e-9
# The k-hat from which on weights have no variance, and how much wider an interval that is within
# the limit of k-hat may be for it.
_NO_VARIANCE = 0.5
_MOST_WIDER = 0.05
# The posterior sd of the log evidence, in nats, from which on an interval is moved up, and by what
# share of the distance from its lower end to the estimate. Both are about as far as they can go:
# intervals for normal log weights of every sd still cover 94%.
_WIDE = 0.36
_MOVED = 0.6
# Most steps: Newton steps, or bisection if a Newton step leaves the bracket.
_MAX_STEPS = 100
_TOLERANCE = 1e-12
_SQRT_2PI = math.sqrt(2.0 * math.pi)


@np.errstate(over="ignore", under="ignore")
def tail_interval(
    n_samples: Counts,
    log_evidence: Floats,
    relative_variance: Floats,
    tail: Floats,
    confidence_level: float = 0.95,
) -> tuple[Floats, Floats]:
    """Confidence interval of the log evidence from mean, variance and tail of the weights.

    Parameters
    ----------
    n_samples : int or ndarray
        K, the number of draws; as an array, of each data point.
    log_evidence, relative_variance : ndarray
        log mean and Var(w) / E(w)^2 of the K weights, one entry per data point.
    tail : ndarray
        (..., M + 1): the largest log weights of each data point, in any order. Data points with
        fewer of them have NaN in place of others.
    confidence_level : float
        Between 0 and 1.

    Returns
    -------
    low, high : ndarray
        Each of the shape of ``log_evidence``. The interval always contains ``log_evidence``. If the
        tail may have no mean, ``high`` is inf and ``low`` is
        ``log_evidence + log(1 - confidence_level)``. If the tail is too short or too tied to be
        fitted, the interval is that of `delta_interval`. If every weight is 0, ``low`` is -inf and
        ``high`` is inf.

    Examples
    --------
    >>> import numpy as np
    >>> from fastelbo.weights.tail_intervals import tail_interval
    >>> log_weights = 0.3 * np.random.default_rng(0).standard_exponential(1000)
    >>> weights = np.exp(log_weights)
    >>> v = weights.var(ddof=1) / weights.mean() ** 2
    >>> low, high = tail_interval(
    ...     1000, np.log(weights.mean()), v, np.sort(log_weights)[-96:], confidence_level=0.95
    ... )
    >>> bool(low < np.log(1 / 0.7) < high)
    True
    """
    level = as_level(confidence_level)
    value = np.asarray(log_evidence, dtype=np.float64)
    shape = value.shape
    value, v = value.reshape(-1), np.asarray(relative_variance).reshape(-1)
    draws = np.broadcast_to(n_samples, shape).reshape(-1)
    # NaN are the last.
    tail = np.sort(np.asarray(tail, dtype=np.float64).reshape(len(value), np.shape(tail)[-1]))
    sizes = (~np.isnan(tail)).sum(axis=1)
    low, high = np.empty_like(value), np.empty_like(value)
    # Fits are of tails of one length.
    lengths = np.unique(sizes)
    for size in lengths:
        rows = slice(None) if len(lengths) == 1 else sizes == size
        part = draws[rows], value[rows], v[rows]
        if size:
            low[rows], high[rows] = _of_one_length(*part, tail[rows, :size], level)
        else:
            low[rows], high[rows] = delta_interval(*part, level)
    return low.reshape(shape), high.reshape(shape)


def _of_one_length(
    n_samples: Integers, value: Floats, v: Floats, tail: Floats, level: float
) -> Interval:
    """`tail_interval` of rows, with the tails (rows, M + 1) in rising order."""
    probabilities = 0.5 - 0.5 * level, upper_probability(level)
    se = np.sqrt(v / n_samples)
    delta_low, high = (value + ndtri(p) * se for p in probabilities)
    low, spread = delta_low.copy(), np.zeros_like(value)
    fits = fit_tails(tail)
    fitted = np.flatnonzero(fits.status == FITTED)
    for start in range(0, len(fitted), _ROWS):
        rows = fitted[start : start + _ROWS]
        mean_excess, weight = _posterior(
            TailFits(*(part[rows] for part in fits)), n_samples[rows], tail.shape[1] - 1
        )
        centre, sd = _given_excess(n_samples[rows], value[rows], v[rows], tail[rows], mean_excess)
        for end, p in zip((low, high), probabilities, strict=True):
            end[rows] = _mixture_quantile(p, centre, sd, weight, end[rows])
        # Of no use above the limit of k-hat, where weights may add up to less than 1.
        spread[rows] = _mixture_sd(centre, sd, weight)
    unfitted = np.isin(fits.status, (SHORT, TIED))
    ends = delta_interval(n_samples, value, v, level)
    low[unfitted], high[unfitted] = (end[unfitted] for end in ends)
    high[(fits.status == UNBOUNDED) | np.isneginf(value)] = np.inf
    # If one weight dominates the sum, the fitted interval may exclude the estimate itself.
    low, high = np.minimum(low, value), np.maximum(high, value)
    endless = high == np.inf
    both = ~endless
    low[both], high[both] = _placed(
        n_samples[both], fits.pareto_k[both], spread[both], value[both],
        Interval(low[both], high[both]), delta_low[both],
    )  # fmt: skip
    low[endless] = one_sided_interval(value[endless], level).low
    return Interval(low, high)


def _placed(
    n_samples: Integers,
    pareto_k: Floats,
    spread: Floats,
    value: Floats,
    ends: Interval,
    delta_low: Floats,
) -> Interval:
    """Intervals of the posterior, extended by a twentieth of their width to where errors lie.

    Downward where weights have no variance, until the lower end is that of the delta interval. The
    tail of normal log weights, for one, falls off faster than a Pareto tail beyond what was drawn.
    The posterior is then too high, and more so with more draws.

    Upward where the posterior is wide; the whole interval is moved up too.

    Above the limit of k-hat nothing limits the width: no lower end is above the delta interval's.
    """
    low, high = ends
    heavy, flagged = pareto_k > _NO_VARIANCE, pareto_k > k_threshold(n_samples)
    wider = _MOST_WIDER * (high - low)
    room = np.where(heavy, wider, 0.0)
    room = np.where(flagged, np.inf, room)
    extended = np.maximum(np.minimum(low, delta_low), low - room)
    upward = (spread > _WIDE) & ~flagged
    moved = _MOVED * (value - low)
    return Interval(
        np.where(upward, low + moved, extended), np.where(upward, high + moved + wider, high)
    )


def _posterior(fits: TailFits, n_samples: Integers, tail_length: int) -> tuple[Floats, Floats]:
    """Nodes of the mean excess and their weights: (rows, points of the grid times nodes).

    Weights add up to 1 less the probability that the tail has no mean.
    """
    # M k(theta) / k is Gamma(M). Its cube root is nearly normal (Wilson and Hilferty).
    spread = 1.0 / (3.0 * np.sqrt(tail_length))
    middle = 1.0 - spread**2
    # k < 1 for standard normals above this limit.
    limit = np.where(fits.k > 0.0, (np.cbrt(fits.k) - middle) / spread, -np.inf)
    log_share = log_ndtr(-limit)
    within = fits.log_likelihood + log_share
    # Cut off at k < 1, or not.
    cut = (fits.pareto_k <= k_threshold(n_samples))[:, None]
    log_whole = logsumexp(np.where(cut, within, fits.log_likelihood), axis=1, keepdims=True)
    weight = np.exp(within - log_whole)
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
    n_samples: Integers, value: Floats, v: Floats, tail: Floats, mean_excess: Floats
) -> tuple[Floats, Floats]:
    """Log evidence and its standard error for each mean excess over u, (rows, nodes)."""
    top = tail.max(axis=1)
    w = np.exp(tail - top[:, None])
    u = w.min(axis=1)
    size = tail.shape[1] - 1
    mean = np.exp(value - top)
    # The sum of the weights outside of the tail. Rounding may leave it below 0 if it is nearly 0.
    body = np.maximum(n_samples * mean - (w.sum(axis=1) - u), 0.0)
    square = ((n_samples - 1.0) * v + n_samples) * mean**2 - ((w**2).sum(axis=1) - u**2)
    root = np.sqrt(np.maximum(square, 0.0))
    y = u[:, None] + mean_excess
    y_mean = (body[:, None] + size * y) / n_samples[:, None]
    # Relative to the mean before they are squared, so that no square is lost.
    y_square = (root[:, None] / y_mean) ** 2 + size * (y / y_mean) ** 2
    relative_variance = np.maximum(y_square / n_samples[:, None] - 1.0, 0.0)
    return top[:, None] + np.log(y_mean), np.sqrt(relative_variance / n_samples[:, None])


def _mixture_quantile(
    probability: float, centre: Floats, sd: Floats, weight: Floats, start: Floats
) -> Floats:
    """The quantile of each row's mixture of normals, by Newton's method within a bracket.

    inf where the weights do not reach the probability.
    """
    # A smaller sd is below the rounding error of the centres, and squares of z would overflow.
    sd = np.maximum(sd, np.finfo(float).eps * (1.0 + np.abs(centre)))
    low, high = (centre - 10.0 * sd).min(axis=1), (centre + 10.0 * sd).max(axis=1)
    reached = weight.sum(axis=1) > probability
    x = np.where(reached, np.clip(start, low, high), np.inf)
    active = np.flatnonzero(reached)
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


def _mixture_sd(centre: Floats, sd: Floats, weight: Floats) -> Floats:
    """The standard deviation of each row's mixture of normals, whose weights add up to 1."""
    mean = (weight * centre).sum(axis=1, keepdims=True)
    variance = (weight * (sd**2 + (centre - mean) ** 2)).sum(axis=1)
    return np.asarray(np.sqrt(variance))
