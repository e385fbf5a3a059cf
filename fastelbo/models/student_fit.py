"""Fit of a mixture of Student-t components to weighted draws, by expectation-maximisation.

The degrees of freedom are fixed. A draw may come with images under symmetries of the model: the
mixture is then that of all transformed components, and the images of a draw share its weight.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..validation import Floats, Integers
from .student_constants import log_const

# Of an image with a density so many nats lower than that of another, a fit has no part.
_FAR = 15.0
# A component of a smaller weight, or of no more effective draws, is dropped.
_LEAST_WEIGHT = 1e-3
_LEAST_DRAWS = 1.0
# Change of the mean log density at which iterations end.
_CONVERGED = 1e-3
_MOST_ITERATIONS = 12
# Weight of an added component, and its scale matrix relative to that of the nearest one.
_ADDED_WEIGHT = 0.2
_ADDED_SCALE = 0.5


class StudentFit(NamedTuple):
    """Components: weights (K,), locations (K, D), and lower factors of scale matrices (K, D, D)."""

    weights: Floats
    means: Floats
    trils: Floats

    @property
    def size(self) -> int:
        """K, the number of components."""
        return len(self.weights)


class WeightedDraws(NamedTuple):
    """Draws with weights (n,) that sum to 1, and images of them, row by row.

    ``images`` (m, D) are in the order of the draws. ``first`` (n,) is the first row of a draw, and
    ``draw`` (m,) the draw of a row.
    """

    weights: Floats
    images: Floats
    first: Integers
    draw: Integers


def near_images(images: Floats, weights: Floats, fit: StudentFit, df: float) -> WeightedDraws:
    """Draws with those of their images (n, G, D) at which components are not negligible."""
    count, number, dim = images.shape
    if number == 1:
        rows = np.arange(count)
        return WeightedDraws(weights, images[:, 0], rows, rows)
    heights = log_densities(images.reshape(-1, dim), fit, df)[0].max(axis=0).reshape(count, number)
    kept = heights > heights.max(axis=1, keepdims=True) - _FAR
    draw, _ = np.nonzero(kept)
    first = np.searchsorted(draw, np.arange(count))
    return WeightedDraws(weights, images[kept], first, draw)


def refitted(draws: WeightedDraws, first: StudentFit, df: float) -> StudentFit:
    """The components after iterations from the first ones.

    The scale matrix of each is shrunk to its last one by 1 / (1 + ESS / 2 D), with the effective
    number of draws that it is fitted to.
    """
    found, last = first, -math.inf
    for _ in range(_MOST_ITERATIONS):
        found, height = _step(draws, found, df)
        if height - last < _CONVERGED:
            break
        last = height
    return found


def with_one_more(fit: StudentFit, images: Floats, df: float) -> StudentFit:
    """The components and one at a draw, at that of its images (G, D) that is nearest to them."""
    heights = log_densities(images, fit, df)[0]
    nearest, image = np.unravel_index(int(np.argmax(heights)), heights.shape)
    return StudentFit(
        np.append((1.0 - _ADDED_WEIGHT) * fit.weights, _ADDED_WEIGHT),
        np.concatenate([fit.means, images[image][None]]),
        np.concatenate([fit.trils, math.sqrt(_ADDED_SCALE) * fit.trils[nearest][None]]),
    )


def wide_component(
    draws: WeightedDraws, fit: StudentFit, df: float, before: Floats, times: float
) -> StudentFit:
    """One component with the mean of draws, and so many times their covariance.

    Of each draw it takes the image that is nearest to the components. ``before`` is the factor of
    the scale matrix that the new one is shrunk to.
    """
    heights = log_densities(draws.images, fit, df)[0].max(axis=0)
    # Sorted by draw, and by height among its images, the last row of each is the nearest.
    order = np.lexsort((heights, draws.draw))
    x = draws.images[order[np.append(draws.first[1:], len(order)) - 1]]
    dim = x.shape[-1]
    mean = draws.weights @ x
    gap = x - mean
    cov = times * (df - 2.0) / df * (gap * draws.weights[:, None]).T @ gap
    shrink = _shrinkage(1.0 / float((draws.weights**2).sum()), dim)
    scale = (1.0 - shrink) * cov + shrink * before @ before.T
    return StudentFit(np.ones(1), mean[None], np.linalg.cholesky(scale)[None])


def together(one: StudentFit, other: StudentFit, share: float) -> StudentFit:
    """The components of both; those of the other have a share of the weight."""
    return StudentFit(
        np.concatenate([(1.0 - share) * one.weights, share * other.weights]),
        np.concatenate([one.means, other.means]),
        np.concatenate([one.trils, other.trils]),
    )


def log_densities(x: Floats, found: StudentFit, df: float) -> tuple[Floats, Floats]:
    """Log densities (K, n) of the components at x (n, D), and squared distances."""
    from scipy.linalg import solve_triangular

    dim = x.shape[-1]
    squares = np.empty((found.size, len(x)))
    for k, (mean, tril) in enumerate(zip(found.means, found.trils, strict=True)):
        inverse = solve_triangular(tril, np.eye(dim), lower=True, check_finite=False)
        v = (x - mean) @ inverse.T
        np.einsum("nd,nd->n", v, v, out=squares[k])
    diagonals = np.diagonal(found.trils, axis1=-2, axis2=-1)
    base = float(log_const(np.asarray(df), dim)) - np.log(diagonals).sum(axis=-1)
    return base[:, None] - 0.5 * (df + dim) * np.log1p(squares / df), squares


def _shrinkage(ess: float, dim: int) -> float:
    return 1.0 / (1.0 + ess / (2.0 * dim))


def _step(draws: WeightedDraws, found: StudentFit, df: float) -> tuple[StudentFit, float]:
    """One iteration, and the mean log density before it, up to a constant."""
    x, dim = draws.images, draws.images.shape[-1]
    log_parts, squares = log_densities(x, found, df)
    log_parts += np.log(found.weights)[:, None]
    top = np.maximum.reduceat(log_parts.max(axis=0), draws.first)
    parts = np.exp(log_parts - top[draws.draw])
    total = np.add.reduceat(parts.sum(axis=0), draws.first)
    shares = parts * (draws.weights / total)[draws.draw]
    pulls = shares * (df + dim) / (df + squares)
    weights, squared = shares.sum(axis=-1), (shares**2).sum(axis=-1)
    ess = np.divide(weights**2, squared, out=np.zeros(found.size), where=squared > 0.0)
    kept = np.flatnonzero((weights > _LEAST_WEIGHT) & (ess > _LEAST_DRAWS))
    if not len(kept):
        return found, -math.inf
    means, trils = found.means[kept], found.trils[kept]
    for row, k in enumerate(kept):
        means[row] = pulls[k] @ x / pulls[k].sum()
        gap = x - means[row]
        scatter = (gap * pulls[k][:, None]).T @ gap / weights[k]
        shrink = _shrinkage(float(ess[k]), dim)
        scale = (1.0 - shrink) * scatter + shrink * trils[row] @ trils[row].T
        trils[row] = np.linalg.cholesky(scale)
    new_weights = weights[kept] / weights[kept].sum()
    return StudentFit(new_weights, means, trils), float(draws.weights @ (top + np.log(total)))
