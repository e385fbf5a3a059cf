"""Rotations of the standard normals of q, after which few coordinates decide the weights.

Draws m + S Q e have the same law for every orthogonal Q. Quasi-random points are the more even the
fewer of their coordinates matter, and the better where a weight is a product of functions of single
coordinates. A Gaussian target has both in the eigenvectors of its precision in units of q.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.draws.radial import GAUSSIAN
from ..validation import Floats
from .linear_likelihood import LinearLikelihood
from .location_scale import Gaussian, LocationScale
from .lowering import Components, invert_lower
from .protocol import LatentModel, Points, Proposal
from .terms import Zero

# Coordinates are correlated in a pilot if their correlation is so many standard errors from 0.
_CORRELATED = 3.5
# A sum of squared standard errors is beyond chance by so many of its standard deviations.
_BEYOND_CHANCE = 3.0
# Effective draws that a pilot needs: some, and two for each coordinate.
_LEAST_DRAWS = 10


# --- targets of which the precision is known ------------------------------------------------


@np.errstate(all="ignore")
def exact_rotation(model: LatentModel, q: Proposal, points: Points) -> Floats | None:
    """Eigenvectors of the precision of the target in units of q, where it is known.

    For the linear-Gaussian likelihood, or none, under a Gaussian prior, and a q of one component.
    In coordinates v with z = m + S v the precision is H'H with H = [R S; L^-1 S], R of the reduced
    likelihood and L the scale of the prior. Its eigenvalues are the squares of the singular values
    of H, which need no product of a matrix with itself.

    Returns
    -------
    array of shape (n or 1, 1, D, D), or None
        Eigenvectors as columns, those of the largest absolute log eigenvalue first. The length 1
        stands for all data points, which then share the scales. The identity where products are
        beyond the largest float.
    """
    prior, likelihood = model.prior, model.likelihood
    if not (isinstance(q, LocationScale) and isinstance(prior, Gaussian)):
        return None
    if not isinstance(likelihood, (LinearLikelihood, Zero)):
        return None
    scale = _scale_matrix(q, points)
    if prior.scale is not None:
        parts = [scale / points.select(prior.scale, 1)[..., None]]
    else:
        assert prior.scale_tril is not None
        parts = [invert_lower(points.select(prior.scale_tril, 2)) @ scale]
    if isinstance(likelihood, LinearLikelihood):
        half = likelihood.reduced.factor @ scale
        parts.append(np.broadcast_to(half, parts[0].shape[:1] + half.shape[1:]))
    root = np.concatenate(parts, axis=-2)
    known = np.isfinite(root).all(axis=(-2, -1), keepdims=True)
    _, values, vectors = np.linalg.svd(np.where(known, root, 0.0), full_matrices=False)
    sizes = np.abs(np.log(values))
    order = np.argsort(-sizes, axis=-1, kind="stable")
    columns = np.swapaxes(np.take_along_axis(vectors, order[..., None], axis=-2), -1, -2)
    return np.where(known, _signed(columns), np.eye(q.dim))[:, None]


def _scale_matrix(q: LocationScale, points: Points) -> Floats:
    """S of z = m + S v, (n or 1, D, D)."""
    if q.scale is not None:
        return points.select(q.scale, 1)[..., None] * np.eye(q.dim)
    assert q.scale_tril is not None
    return points.select(q.scale_tril, 2)


def _signed(columns: Floats) -> Floats:
    """The columns, each with a largest entry that is positive."""
    largest = np.abs(columns).argmax(axis=-2)[..., None, :]
    return np.asarray(columns * np.where(np.take_along_axis(columns, largest, -2) < 0.0, -1.0, 1.0))


# --- targets that a pilot explores ----------------------------------------------------------


def pilot_rotation(v: Floats, log_weights: Floats) -> Floats:
    """A rotation from weighted draws of q, of one component.

    Parameters
    ----------
    v
        Standardised draws (n, K, D) of n data points: z = m + S v.
    log_weights
        Log weights of the draws, up to a constant for each data point, (n, K).

    Returns
    -------
    array of shape (n, 1, D, D)
        The identity where the weights are those of too few draws, or are no weights.
    """
    return _rotation(v, _relative(log_weights))[:, None]


@np.errstate(all="ignore")
def mixture_rotation(q: Components, points: Points, z: Floats, log_weights: Floats) -> Floats:
    """A rotation for each component of a mixture q, from weighted draws z (n, K, D).

    Component c sees the draws as v = S_c^-1 (z - m_c), and the weights times the probabilities
    that the draws are its own. The shape is (n, C, D, D).
    """
    standardised = _standardised(q, points, z)
    logs = np.stack(
        [
            points.select(q.log_const, 1)[:, c, None] + _log_radial(q, points, v, c)
            for c, v in enumerate(standardised)
        ]
    )
    shares = np.exp(logs - np.logaddexp.reduce(logs, axis=0))
    weights = _relative(log_weights)
    rotations = [
        _rotation(v, weights * share) for v, share in zip(standardised, shares, strict=True)
    ]
    return np.stack(rotations, axis=1)


def _standardised(q: Components, points: Points, z: Floats) -> list[Floats]:
    """S_c^-1 (z - m_c) for each component c."""
    means = points.select(q.mean, 2)[:, :, None, :]
    shifted = (z - means[:, c] for c in range(means.shape[1]))
    if q.scale is not None:
        inverse = points.select(q.inverse_scale, 2)[:, :, None, :]
        return [part * inverse[:, c] for c, part in enumerate(shifted)]
    inverse = np.swapaxes(points.select(q.inverse_scale, 3), -1, -2)
    return [part @ inverse[:, c] for c, part in enumerate(shifted)]


def _log_radial(q: Components, points: Points, v: Floats, c: int) -> Floats:
    """Log density of standardised draws of component c, up to its constant."""
    square = np.square(v).sum(axis=-1)
    if q.radial == GAUSSIAN:
        return np.asarray(-0.5 * square)
    assert q.df is not None
    every = points.select(q.df, 1)
    df = np.minimum(every[:, min(c, every.shape[1] - 1), None], 1e300)
    return np.asarray(-0.5 * (df + v.shape[-1]) * np.log1p(square / df))


@np.errstate(all="ignore")
def _relative(log_weights: Floats) -> Floats:
    """Weights relative to the largest of a data point; NaN where they are no weights."""
    return np.asarray(np.exp(log_weights - log_weights.max(axis=-1, keepdims=True)))


@np.errstate(all="ignore")
def _rotation(v: Floats, weights: Floats) -> Floats:
    """Eigenvectors of the weighted covariance (n, D, D), the most important first."""
    dim, eye = v.shape[-1], np.eye(v.shape[-1])
    share = weights / weights.sum(axis=-1, keepdims=True)
    draws = 1.0 / np.square(share).sum(axis=-1)
    moments = _Moments(v, share)
    known = (draws >= _LEAST_DRAWS + 2 * dim) & np.isfinite(moments.covariance).all(axis=(-2, -1))
    if not known.any():
        return np.array(np.broadcast_to(eye, moments.covariance.shape))
    mean = np.where(known[:, None], moments.mean, 0.0)
    joint = np.where(known[:, None, None], moments.joint(), np.eye(dim, dtype=bool))
    covariance = np.where(joint, np.where(known[:, None, None], moments.covariance, eye), 0.0)
    values, vectors = np.linalg.eigh(covariance)
    logs = np.log(np.maximum(values, np.finfo(float).tiny))
    vectors = _signed(vectors)
    mean = (np.swapaxes(vectors, -1, -2) @ mean[..., None])[..., 0]
    _along_mean(vectors, logs, mean, joint.sum(axis=-1), draws)
    order = np.argsort(-(0.5 * logs**2 + mean**2), axis=-1, kind="stable")
    columns = np.take_along_axis(vectors, order[:, None, :], axis=-1)
    return np.where(known[:, None, None], columns, eye)


class _Moments:
    """Weighted moments of draws v (n, K, D), with weights (n, K) that add up to 1."""

    def __init__(self, v: Floats, share: Floats) -> None:
        weighted = v * share[..., None]
        sums = np.stack([np.ones_like(share), share], axis=1) @ weighted
        self._weight = np.square(share).sum(axis=-1)[:, None]
        self.mean = sums[:, 0]
        outer = self.mean[..., None] * self.mean[:, None, :]
        self.covariance = np.swapaxes(weighted, -1, -2) @ v - outer
        # What the squared error of a covariance is made of, by coordinate.
        squares = np.einsum("nkd,nkd->nd", weighted, weighted)
        self._spread = squares - 2.0 * self.mean * sums[:, 1] + self.mean**2 * self._weight

    def joint(self) -> Any:
        """Which coordinates are to be rotated together, (n, D, D) of bool.

        Coordinates that are correlated beyond chance, and what they are correlated with. A weight
        that is a product over independent groups of coordinates stays one. Where the other
        correlations as a whole are beyond chance too, all coordinates are rotated together.
        """
        dim = self.mean.shape[-1]
        error = self._spread[..., None] * self._spread[:, None, :] / self._weight[..., None]
        ratio = self.covariance**2 / error
        joint = (ratio > _CORRELATED**2) | np.eye(dim, dtype=bool)
        reached = -1
        while (count := int(joint.sum())) != reached:
            reached, steps = count, joint.astype(float)
            joint = steps @ steps > 0.0
        rest = dim * dim - joint.sum(axis=(-2, -1))
        beyond = 2.0 * _BEYOND_CHANCE * np.sqrt(rest)
        excess = np.where(joint, 0.0, ratio).sum(axis=(-2, -1)) - rest
        return joint | (excess > beyond)[:, None, None]


def _along_mean(vectors: Floats, logs: Floats, mean: Floats, sizes: Any, draws: Floats) -> None:
    """Turn eigenvectors that the pilot cannot tell apart, one of them to the mean; in place.

    Their eigenvalues are 1 within the error, so that any basis of theirs is as good. If the mean
    has a part among them that is beyond chance, a weight depends on that direction alone. ``logs``
    and ``mean`` are the log eigenvalues, and the mean along each vector; ``sizes`` the numbers of
    coordinates that are rotated together with each coordinate.
    """
    size = (np.swapaxes(vectors**2, -1, -2) @ sizes[..., None].astype(float))[..., 0]
    ratio = size / draws[:, None]
    alike = np.abs(logs) < 2.0 * np.sqrt(ratio) + ratio
    part = np.where(alike, mean, 0.0)
    count, square = alike.sum(axis=-1), np.square(part).sum(axis=-1)
    chance = (count + _BEYOND_CHANCE * np.sqrt(2.0 * count)) / draws
    turned = np.flatnonzero((count > 1) & (square > chance))
    if not turned.size:
        return
    # A reflection that maps the coordinate of the largest part to the whole part.
    rows, length = np.arange(turned.size), np.sqrt(square[turned])
    normal = part[turned] / length[:, None]
    pivot = np.abs(normal).argmax(axis=-1)
    normal[rows, pivot] += np.where(normal[rows, pivot] < 0.0, -1.0, 1.0)
    normal /= np.sqrt(np.square(normal).sum(axis=-1))[:, None]
    along = vectors[turned] @ normal[..., None]
    vectors[turned] -= 2.0 * along * normal[:, None, :]
    # Zeros keep the order of the others from being one of rounding errors.
    logs[turned] = np.where(alike[turned], 0.0, logs[turned])
    mean[turned] = np.where(alike[turned], 0.0, mean[turned])
    mean[turned, pivot] = length
