"""Starts of a fit of Gaussian mixtures: clusters of k-means, and a mixture that is given."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...models.gaussian_components import GaussianComponents, of_covariances
from ...models.lowering import invert_lower
from ...models.mixture import Mixture
from ...models.scales import diagonal_matrices
from ...validation import Floats
from .mixture_data import MixtureData

Places = NDArray[np.intp]
# A start looks at no more data points.
_MOST_POINTS = 2**14
# Most iterations of k-means.
_MOST_MOVES = 20


def drawn_start(
    data: MixtureData, kind: str, count: int, floor: float, random: np.random.Generator
) -> GaussianComponents:
    """Components at the clusters of k-means, whose centres were drawn from data points (N, D).

    Each has the mean of its cluster. All have the variances within the clusters, and no
    covariances.
    """
    x, weights = data.y, data.weights
    if len(x) > _MOST_POINTS:
        rows = np.sort(random.choice(len(x), _MOST_POINTS, replace=False, shuffle=False))
        x, weights = x[rows], weights[rows]
    label, seeds = _clusters(x, weights, count, random)
    total, mean = _centres(x, weights, label, x[seeds])
    for _ in range(_MOST_MOVES):
        last, label = label, _nearest(x, mean)
        if (last == label).all():
            break
        total, mean = _centres(x, weights, label, mean)
    gap = x - mean[label]
    variance = (weights[:, None] * gap**2).sum(axis=0) / weights.sum()
    # A cluster may have no point, if points coincide. One more for each gives it a weight.
    unit = float(weights.mean())
    log_weight = np.log((total + unit) / (total.sum() + count * unit))
    cov = np.broadcast_to(diagonal_matrices(variance), (count, x.shape[1], x.shape[1]))
    return of_covariances(kind, log_weight, mean, cov, floor)


def _clusters(
    x: Floats, weights: Floats, count: int, random: np.random.Generator
) -> tuple[Places, list[int]]:
    """The nearest centre of each point, and the points that are centres.

    By k-means++ (Arthur and Vassilvitskii, 2007): the next centre is drawn in proportion to squared
    distances, and of a few the best is taken.
    """
    tries = 2 + int(math.log(count))
    seeds = [int(_draw(weights, 1, random)[0])]
    nearest = _squares(x, x[seeds[0]])
    label = np.zeros(len(x), np.intp)
    while len(seeds) < count:
        share = weights * nearest
        candidates = _draw(share if share.sum() > 0.0 else weights, tries, random)
        distances = [np.minimum(nearest, _squares(x, x[seed])) for seed in candidates]
        best = int(np.argmin([float((weights * each).sum()) for each in distances]))
        label[distances[best] < nearest] = len(seeds)
        nearest = distances[best]
        seeds.append(int(candidates[best]))
    return label, seeds


def _centres(x: Floats, weights: Floats, label: Places, old: Floats) -> tuple[Floats, Floats]:
    """Weights (C,) and means (C, D) of clusters; one without weight keeps its old mean."""
    count = len(old)
    total = np.bincount(label, weights, count)
    sums = np.stack([np.bincount(label, weights * column, count) for column in x.T], axis=1)
    filled = total > 0.0
    mean = sums / np.where(filled, total, 1.0)[:, None]
    return np.asarray(total, np.float64), np.where(filled[:, None], mean, old)


def _nearest(x: Floats, centres: Floats) -> Places:
    """The nearest centre of each point (Lloyd, 1982)."""
    label, nearest = np.zeros(len(x), np.intp), np.full(len(x), np.inf)
    for c, centre in enumerate(centres):
        square = _squares(x, centre)
        closer = square < nearest
        label[closer], nearest[closer] = c, square[closer]
    return label


def _draw(shares: Floats, number: int, random: np.random.Generator) -> Places:
    ends = np.cumsum(shares)
    places = np.searchsorted(ends, random.random(number) * ends[-1], side="right")
    return np.asarray(np.minimum(places, int(np.flatnonzero(shares)[-1])))


def _squares(x: Floats, centre: Floats) -> Floats:
    gap = x - centre
    return np.asarray(np.einsum("nd,nd->n", gap, gap))


def given_start(mixture: Mixture, kind: str, data: MixtureData, floor: float) -> GaussianComponents:
    """The components of a mixture, in the coordinates of the data."""
    shape = (mixture.weights.size, mixture.dim)
    components, back = mixture.components, invert_lower(data.mixing)
    mean = (np.broadcast_to(components.mean, shape) - data.centre) / data.unit
    if components.scale is not None:
        tril = diagonal_matrices(np.broadcast_to(components.scale, shape) / data.unit)
    else:
        assert components.scale_tril is not None
        tril = components.scale_tril / data.unit[:, None]
    tril = back @ tril
    cov = np.broadcast_to(tril @ np.swapaxes(tril, -1, -2), (*shape, shape[1]))
    return of_covariances(kind, np.log(mixture.weights), mean @ back.T, cov, floor)
