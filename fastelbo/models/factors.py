"""Maximum likelihood of linear-Gaussian models: x ~ N(b, W W' + Psi), from the covariance of x.

Every function takes the sample covariance S (P, P), divided by N, and values are log-likelihoods a
data point, in nats. Loadings are those of a standard normal prior. Their columns are orthogonal in
the metric of the noise, by falling eigenvalue, with the largest entry of each positive.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..validation import Floats

_LOG_2PI = math.log(2.0 * math.pi)


class Profile(NamedTuple):
    """The best loadings for given noise variances."""

    value: float
    gradient: Floats  # (P,) by the log variances
    loadings: Floats  # (P, D)


def principal_components(cov: Floats, dim: int) -> tuple[Floats, float]:
    """Loadings and noise variance of probabilistic PCA (Tipping and Bishop, 1999).

    The noise is the mean of the P - D smallest eigenvalues; a column is its eigenvector times the
    root of what its eigenvalue has above the noise.
    """
    values, vectors = np.linalg.eigh(cov)
    noise = float(values[: len(cov) - dim].mean())
    excess = np.maximum(values[::-1][:dim] - noise, 0.0)
    return _signed(vectors[:, ::-1][:, :dim] * np.sqrt(excess)), noise


def profile(cov: Floats, log_noise: Floats, dim: int) -> Profile:
    """The log-likelihood of noise variances, with the best loadings (Joreskog, 1967).

    Of ``Psi^-1/2 S Psi^-1/2`` with eigenvalues t and eigenvectors U, the loadings are
    ``Psi^1/2 U (t - 1)^1/2`` of the D largest that exceed 1. As they are the best, the gradient is
    that of the noise alone: ``(S - W W' - Psi)_pp / (2 Psi_pp)``.
    """
    from scipy.linalg import eigh

    features = len(cov)
    root = np.exp(0.5 * log_noise)
    scaled = cov / root / root[:, None]
    largest, vectors = eigh(scaled, subset_by_index=(features - dim, features - 1))
    largest, vectors = largest[::-1], vectors[:, ::-1]
    used = np.maximum(largest, 1.0)
    loadings = root[:, None] * vectors * np.sqrt(used - 1.0)
    # Eigenvalues that are used count 1 + log t, others t.
    spent = np.trace(scaled) - largest.sum() + (np.log(used) + largest / used).sum()
    value = -0.5 * (features * _LOG_2PI + log_noise.sum() + spent)
    noise = root**2
    missing = np.diagonal(cov) - (loadings**2).sum(axis=1) - noise
    return Profile(float(value), np.asarray(0.5 * missing / noise), _signed(loadings))


def em_step(cov: Floats, loadings: Floats, noise: Floats) -> tuple[float, Floats, Floats]:
    """The log-likelihood, and loadings and variances after a step of EM (Rubin and Thayer, 1982).

    With ``M = 1 + W' Psi^-1 W`` and ``B = M^-1 W' Psi^-1``, E z z' is ``M^-1 + B S B'``, and the
    new loadings are ``S B' (E z z')^-1``.
    """
    dim = loadings.shape[1]
    weighted = loadings / noise[:, None]
    middle = np.eye(dim) + weighted.T @ loadings
    projection = np.linalg.solve(middle, weighted.T)
    crossed = cov @ projection.T
    second = np.linalg.inv(middle) + projection @ crossed
    new = np.linalg.solve(second, crossed.T).T
    _, log_det = np.linalg.slogdet(middle)
    distance = (np.diagonal(cov) / noise).sum() - (weighted * crossed).sum()
    value = -0.5 * (len(cov) * _LOG_2PI + np.log(noise).sum() + log_det + distance)
    return float(value), new, np.diagonal(cov) - (new * crossed).sum(axis=1)


def rotated(loadings: Floats, noise: Floats) -> Floats:
    """The same model with its columns as this file has them."""
    root = np.sqrt(noise)[:, None]
    basis, size, _ = np.linalg.svd(loadings / root, full_matrices=False)
    return _signed(root * basis * size)


def _signed(loadings: Floats) -> Floats:
    largest = np.take_along_axis(loadings, np.abs(loadings).argmax(axis=0)[None], axis=0)
    return np.asarray(loadings * np.where(largest < 0.0, -1.0, 1.0))
