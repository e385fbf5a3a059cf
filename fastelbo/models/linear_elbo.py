"""The ELBO of a linear-Gaussian model in closed form, and its gradients.

With the residual r = x - b - W m, the noise Psi, the prior N(m0, S0), and q of mean m and
covariance C = rho L L' (rho = 1 for a Gaussian, df / (df - 2) for a Student-t with the scale L):

    ELBO = log N(r; 0, Psi) - tr(W' Psi^-1 W C) / 2
           - ((m - m0)' S0^-1 (m - m0) + tr S0^-1 C) / 2 - log |2 pi S0| / 2
           + log |L| + the entropy at a scale of 1

Its gradients are linear in r, m - m0, C and products of two of these. In the whitened coordinates
of `linear_likelihood.Reduced` and of the prior the terms are squares, so that nothing of the size
of x, of an offset or of a precision is subtracted from its like.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..validation import Floats
from . import lowering
from .linear_gaussian import LinearGaussian
from .location_scale import Gaussian, LocationScale, StudentT
from .protocol import Points
from .scales import diagonal_matrices, scale_share
from .student_constants import entropy_excess

_LOG_2PI = math.log(2.0 * math.pi)
# What leaves the range of floats is infinite or NaN, which callers refuse.
_unflagged = np.errstate(all="ignore")


class Whitened(NamedTuple):
    """Some data points and q, in the whitened coordinates of noise and prior; 1 for n if shared."""

    mean: Floats  # m, (n or 1, D)
    tril: Floats  # L, (n or 1, D, D)
    inflation: Floats  # rho, (n or 1,)
    target: Floats  # Q' of the whitened residual at m, (n, 1, D), as the likelihood sees it
    seen: Floats  # R L, (n or 1, D, D)
    inverse: Floats  # L0^-1 of the prior, (n or 1, D, D)
    shift: Floats  # L0^-1 (m - m0), (n or 1, D)
    ratio: Floats  # L0^-1 L, (n or 1, D, D)
    elbo: Floats  # (n or 1,)


@_unflagged
def whitened(model: LinearGaussian, q: LocationScale, points: Points) -> Whitened:
    """The data points in coordinates in which the ELBO is a sum of squares, and their ELBO."""
    mean, tril = points.select(q.mean, 1), scale_matrix(q, points)
    inflation, constant = _of_family(q, points)
    prior_mean, prior_tril = points.select(model.prior.mean, 1), scale_matrix(model.prior, points)
    inverse = lowering.invert_lower(prior_tril)
    shift = (inverse @ (mean - prior_mean)[..., None])[..., 0]
    ratio = inverse @ tril
    likelihood = model.likelihood
    target, density = likelihood.reduce(points.select(model.x, 1), mean[:, None, :])
    seen = likelihood.reduced.factor @ tril
    squares = (target[:, 0] ** 2).sum(-1) + (shift**2).sum(-1)
    traces = (seen**2).sum((-2, -1)) + (ratio**2).sum((-2, -1))
    log_det = np.log(np.diagonal(ratio, axis1=-2, axis2=-1)).sum(-1)
    elbo = density[:, 0] - 0.5 * (squares + inflation * traces) + (log_det + constant)
    # Without a covariance of q, E |z|^2 is infinite.
    elbo = np.where(np.isnan(inflation), -np.inf, elbo)
    return Whitened(mean, tril, inflation, target[:, 0], seen, inverse, shift, ratio, elbo)


@_unflagged
def gradients_of_q(model: LinearGaussian, white: Whitened) -> tuple[Floats, Floats]:
    """Of the mean (n, D), and of a lower triangular scale (n or 1, D, D)."""
    factor = model.likelihood.reduced.factor
    mean = white.target @ factor - _product(_transpose(white.inverse), white.shift)
    pull = factor.T @ white.seen + _transpose(white.inverse) @ white.ratio
    diagonal = 1.0 / np.diagonal(white.tril, axis1=-2, axis2=-1)
    tril = diagonal_matrices(diagonal) - white.inflation[:, None, None] * np.tril(pull)
    return mean, tril


@_unflagged
def gradients_of_prior(white: Whitened) -> tuple[Floats, Floats]:
    """Of the prior's mean (n or 1, D), and of its covariance (n or 1, D, D), all entries free."""
    back = _transpose(white.inverse)
    square = white.inflation[:, None, None] * (white.ratio @ _transpose(white.ratio))
    inner = white.shift[..., :, None] * white.shift[..., None, :] + square
    inner = inner - np.eye(inner.shape[-1])
    return _product(back, white.shift), 0.5 * (back @ inner @ white.inverse)


@_unflagged
def gradients_of_likelihood(
    model: LinearGaussian, white: Whitened, points: Points, count: int, summed: bool
) -> tuple[Floats, Floats, Floats]:
    """Of loadings (g, P, D), offset (g, P) and noise (g, P) or (g, P, P): g = 1 if summed, else n.

    Sums over the ``count`` data points are taken of the moments, not of the gradients.
    """
    groups, size = (1, count) if summed else (count, 1)

    def grouped(array: Floats) -> Floats:
        spread = np.broadcast_to(array, (count, *array.shape[1:]))
        return spread.reshape(groups, size, *array.shape[1:])

    whitener = model.likelihood.reduced.whitener
    residual = points.select(model.x, 1) - model.offset - white.mean @ model.loadings.T
    if whitener.shape[0] == 1:
        pull, loadings = residual * whitener * whitener, model.loadings * (whitener * whitener).T
    else:
        pull, loadings = (
            (residual @ whitener.T) @ whitener,
            whitener.T @ (whitener @ model.loadings),
        )
    pull = grouped(pull)
    root = grouped(np.sqrt(white.inflation)[:, None, None] * white.tril)
    # The roots of all data points of a group side by side.
    beside = np.swapaxes(root, 1, 2).reshape(groups, model.dim, size * model.dim)
    spread = loadings @ (beside @ _transpose(beside))
    of_loadings = _transpose(pull) @ grouped(white.mean) - spread
    if model.noise_cov.ndim == 1:
        square = (pull**2).sum(1) + (spread * loadings).sum(-1)
        of_noise = 0.5 * (square - size * (whitener * whitener))
    else:
        square = _transpose(pull) @ pull + spread @ loadings.T
        of_noise = 0.5 * (square - size * (whitener.T @ whitener))
    return of_loadings, pull.sum(1), of_noise


def scale_matrix(q: LocationScale, points: Points) -> Floats:
    """The lower triangular scale of data points, (n or 1, D, D), of a diagonal one too."""
    if q.scale is not None:
        return diagonal_matrices(points.select(q.scale, 1))
    assert q.scale_tril is not None
    return points.select(q.scale_tril, 2)


def _of_family(q: LocationScale, points: Points) -> tuple[Floats, Floats]:
    """rho, NaN where it is infinite, and the entropy at a scale of 1 less D/2 log 2 pi."""
    if isinstance(q, Gaussian):
        return np.ones(1), np.array([0.5 * q.dim])
    assert isinstance(q, StudentT)
    df = points.select(q.df, 0)
    entropy = entropy_excess(df, q.dim) - points.select(q._log_base, 0)
    return 1.0 / scale_share(df), entropy - 0.5 * q.dim * _LOG_2PI


def _transpose(matrix: Floats) -> Floats:
    return np.asarray(np.swapaxes(matrix, -1, -2))


def _product(matrix: Floats, vector: Floats) -> Floats:
    """Products of a batch of matrices and a batch of vectors."""
    return np.asarray((matrix @ vector[..., None])[..., 0])
