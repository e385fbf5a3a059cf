"""Weighted quantiles of the coordinates of draws that are kept, and their errors by Woodruff.

The weighted distribution function F is linear between the draws, at each of which it has passed one
half of the draw's weight. The error of F at the quantile x of probability p, by the delta method,
is s = sqrt(sum w^2 (1[z <= x] - p)^2) / sum w. It is mapped back through the inverse of F: from the
quantile of p - 1.96 s to that of p + 1.96 s there are 2 x 1.96 errors of x (Woodruff, 1952, JASA
47). The distance of a single s would depend on few draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..validation import Floats, Integers
from ..weights.replicates import standard_error
from .moments import Pool, WeightedDraws

_ERRORS = 1.96
# Most draws that are kept, and numbers of them.
MOST_DRAWS = 2**20
_MOST_NUMBERS = 2**26


class Quantiles(NamedTuple):
    """Quantiles (N, Q, D), their errors whatever k-hat, and the ESS of 1[z <= x] - p."""

    value: Floats
    se: Floats
    ess: Floats


def kept_for_quantiles(n_samples: int, dim: int, replicates: int) -> int:
    """How many draws quantiles are taken from: of each replicate the first, a power of two."""
    most = max(1, min(MOST_DRAWS, _MOST_NUMBERS // dim) // replicates)
    if n_samples // replicates <= most:
        return n_samples
    return replicates * (most if replicates == 1 else 1 << (most.bit_length() - 1))


@np.errstate(all="ignore")
def quantiles(pool: Pool, probs: Floats) -> Quantiles:
    """The quantiles of each coordinate of some data points."""
    total = kept_for_quantiles(pool.n_samples, pool.dim, pool.replicates)
    out = np.empty((3, pool.count, len(probs), pool.dim))
    for i in range(pool.count):
        kept = [_Kept.of(part, i, total / pool.n_samples) for part in pool.parts]
        z, log_weights = (np.concatenate(each) for each in zip(*(k[:2] for k in kept), strict=True))
        sizes = np.concatenate([k.sizes for k in kept])
        weights = np.exp(log_weights - log_weights.max())
        for d in range(pool.dim):
            out[:, i, :, d] = _of_row(z[:, d], weights, sizes, pool.replicates > 1, probs)
    return Quantiles(*out)


class _Kept(NamedTuple):
    """The draws that are kept of one data point."""

    z: Floats  # (n, D)
    log_weights: Floats
    sizes: Integers  # how many there are of each replicate

    @classmethod
    def of(cls, part: WeightedDraws, i: int, share: float) -> _Kept:
        """The first draws of each replicate, or the first of independent draws."""
        each = part.n_samples // part.replicates
        kept, one = max(min(2, each), round(each * share)), part.redraw.of_one(i)
        starts = range(0, part.n_samples, each)
        return cls(
            np.concatenate([one.at(start, start + kept)[:, 0] for start in starts]),
            part.log_weights[i].reshape(-1, each)[:, :kept].ravel(),
            np.full(part.replicates, kept),
        )


def _of_row(
    z: Floats, weights: Floats, sizes: Integers, replicated: bool, probs: Floats
) -> tuple[Floats, Floats, Floats]:
    """Quantiles, errors and ESS of one row of draws, of replicates or strata of some sizes."""
    positive = weights > 0.0
    owner = np.repeat(np.arange(len(sizes)), sizes)
    z, w, owner = z[positive], weights[positive], owner[positive]
    if not len(z):
        return (np.full(len(probs), np.nan),) * 3
    order = np.argsort(z, kind="stable")
    z, w, owner = z[order], w[order], owner[order]
    below = np.cumsum(w)
    total = below[-1]
    reached = (below - 0.5 * w) / total
    value = np.interp(probs, reached, z)
    count = np.searchsorted(z, value, side="right")
    sums, squares = (np.concatenate([[0.0], np.cumsum(x)]) for x in (w, w * w))
    error = np.sqrt(_about(squares, count, probs, 2)) / total
    if len(sizes) > 1:
        inside = np.arange(len(z))[None] < count[:, None]
        deviations = w * (inside - probs[:, None])
        own = np.array([np.bincount(owner, each, len(sizes)) for each in deviations])
    if replicated:
        error = standard_error(own) * len(sizes) / total
        # In each replicate F rises by the weight of a draw at once. By chance, all of them may
        # agree to less than what that leaves open, a uniform error in each.
        step = w[np.minimum(count, len(w) - 1)] * np.sqrt(len(sizes) / 12.0) / total
        error = np.maximum(error, step)
    elif len(sizes) > 1:
        second = np.array([np.bincount(owner, each**2, len(sizes)) for each in deviations])
        variance = (second - own**2 / sizes) * (sizes / (sizes - 1))
        error = np.sqrt(variance.sum(axis=1)) / total
    low, high = probs - _ERRORS * error, probs + _ERRORS * error
    width = np.interp(high, reached, z) - np.interp(low, reached, z)
    known = (low > reached[0]) & (high < reached[-1])
    se = np.where(known, width / (2.0 * _ERRORS), np.nan)
    return value, se, _about(sums, count, probs, 1) ** 2 / _about(squares, count, probs, 2)


def _about(sums: Floats, count: Integers, probs: Floats, power: int) -> Floats:
    """sum |1[z <= x] - p|^power times what is summed, from its sums up to each draw."""
    inside = sums[count]
    return np.asarray(inside * (1.0 - probs) ** power + (sums[-1] - inside) * probs**power)
