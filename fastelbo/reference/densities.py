"""Log densities of distributions and likelihoods."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_triangular

from .parameters import component, select_rows
from .radial import LARGEST, log_radial
from .stream import Array

# Families that are log densities alone; all others are distributions.
TERMS = ("zero", "supplied", "called", "host", "linear_gaussian")


def log_prob(dist: Any, z: Array) -> Array:
    """Log density, as ``scipy.stats.multivariate_normal`` and ``multivariate_t`` define it.

    Parameters
    ----------
    dist
        Gaussian, StudentT or Mixture.
    z
        Points, shape (..., D); the leading axes broadcast against the batch.

    Returns
    -------
    array
        With ``y = L^-1 (z - mean)``: ``-(y'y + D log 2 pi) / 2 - log det L`` for a Gaussian;
        ``log Gamma((df + D) / 2) - log Gamma(df / 2) - (D / 2) log(df pi) - log det L - (df + D)
        / 2 log(1 + y'y / df)`` for a Student t; ``log sum_c w_c p_c(z)`` for a mixture.
    """
    if dist.family == "mixture":
        return log_mean(dist.weights, component_log_prob(dist, z))
    y, log_det = _whiten(dist, z)
    return log_radial(dist, y, log_det)


def _whiten(dist: Any, z: Array) -> tuple[Array, Array]:
    """``L^-1 (z - mean)`` and log det L."""
    if dist.scale is not None:
        return (z - dist.mean) / dist.scale, np.log(dist.scale).sum(axis=-1)
    diagonal = np.diagonal(dist.scale_tril, axis1=-2, axis2=-1)
    return _solve_lower(dist.scale_tril, z - dist.mean), np.log(diagonal).sum(axis=-1)


def component_log_prob(mixture: Any, z: Array) -> Array:
    """Log density of each component, the components on the last axis."""
    components = [log_prob(component(mixture, c), z) for c in range(mixture.weights.shape[-1])]
    return np.stack(np.broadcast_arrays(*components), axis=-1)


def nearest_components(mixture: Any, z: Array) -> Array:
    """Logs that order the components where all densities underflow: -inf but for the nearest.

    Those have minus the log determinant of their scale. Weights of 0 are passed over.
    """
    distances, logs = [], []
    for c in range(mixture.weights.shape[-1]):
        y, log_det = _whiten(component(mixture, c), z)
        y = np.clip(y, -LARGEST, LARGEST)
        size = np.maximum(np.abs(y).max(axis=-1), 1.0)
        # May be inf, for all components alike.
        with np.errstate(over="ignore"):
            distances.append(size * np.linalg.norm(y / size[..., None], axis=-1))
        logs.append(-log_det)
    distance = np.stack(np.broadcast_arrays(*distances), axis=-1)
    least = np.where(mixture.weights > 0.0, distance, np.inf).min(axis=-1, keepdims=True)
    return np.where(distance == least, np.stack(logs, axis=-1), -np.inf)


def log_mean(weights: ArrayLike, logs: Array) -> Array:
    """``log sum weights exp(logs)`` over the last axis; -inf if all terms are zero."""
    with np.errstate(divide="ignore"):
        terms = np.log(weights) + logs
        top = terms.max(axis=-1, keepdims=True)
        top[np.isneginf(top)] = 0.0
        return np.asarray(top[..., 0] + np.log(np.exp(terms - top).sum(axis=-1)))


def _solve_lower(lower: Array, b: Array) -> Array:
    if lower.ndim == 2:
        solved = solve_triangular(
            lower, b.reshape(-1, b.shape[-1]).T, lower=True, check_finite=False
        )
        return np.asarray(solved.T.reshape(b.shape))
    # Forward substitution on the whole batch at once: a batched solver would factorise L again
    # for every draw.
    y = np.empty(np.broadcast_shapes(b.shape, lower.shape[:-1]))
    for i in range(b.shape[-1]):
        done = np.einsum("...j,...j->...", lower[..., i, :i], y[..., :i])
        y[..., i] = (b[..., i] - done) / lower[..., i, i]
    return y


def log_density(
    density: Any,
    z: Array,
    shape: tuple[int, ...],
    points: NDArray[np.intp],
    draws: NDArray[np.intp],
) -> Array:
    """Log density of some data points at their draws.

    Parameters
    ----------
    density
        A distribution, a stratum of several, or of a family of `TERMS`.
    z
        Draws, shape (n, K, D).
    shape
        Batch of all data points, to which the density's own broadcasts.
    points
        Places of the data points in that batch, flattened, shape (n,).
    draws
        Addresses of the draws z, shape (K,).

    Returns
    -------
    array of shape (n, K)
    """
    if density.family == "stratum":
        logs = [log_density(each, z, shape, points, draws) for each in density.members]
        return log_mean(density.shares, np.stack(logs, axis=-1))
    if density.family not in TERMS:
        # With the draws on the first axis, a batch of points broadcasts against z.
        return log_prob(select_rows(density, shape, points), z.swapaxes(0, 1)).T
    own = np.arange(math.prod(density.batch_shape)).reshape(density.batch_shape)
    return log_likelihood(density, z, np.broadcast_to(own, shape).reshape(-1)[points], draws)


def log_likelihood(
    likelihood: Any, z: Array, rows: NDArray[np.intp], draws: NDArray[np.intp]
) -> Array:
    """``log p(x_rows | z)``.

    Parameters
    ----------
    likelihood
        Of one of the families of `TERMS`.
    z
        Latent points, shape (n, K, D).
    rows
        Data points: indices into the flattened batch of the likelihood, shape (n,).
    draws
        Addresses of the draws z, shape (K,).

    Returns
    -------
    array of shape (n, K)
        ``"zero"``: 0. ``"supplied"``: the supplied values, NaN for a draw without one.
        ``"called"``: the user's function in plain Python, draw by draw.
        ``"linear_gaussian"``: ``log N(x - offset - W z; 0, noise_cov)``, from the residual in data
        space. ``"host"``: what a function of the user computes, which is plain already.
    """
    if likelihood.family == "zero":
        return np.zeros(z.shape[:-1])
    if likelihood.family == "host":
        return np.asarray(likelihood.values(np.array(z.swapaxes(0, 1), order="C"), rows).T)
    if likelihood.family == "supplied":
        values = likelihood.values.reshape(-1, likelihood.values.shape[-1])
        place = draws - likelihood.first_draw
        supplied = (place >= 0) & (place < values.shape[1])
        result = np.full(z.shape[:-1], np.nan)
        result[:, supplied] = values[rows][:, place[supplied]]
        return result
    if likelihood.family == "called":
        plain = likelihood.plain_log_prob
        pairs = zip(z, rows.tolist(), strict=True)
        return np.array([[plain(each, row) for each in own] for own, row in pairs])
    diagonal = likelihood.noise_cov.ndim == 1
    noise = SimpleNamespace(
        family="gaussian",
        mean=z @ likelihood.loadings.T,
        scale=np.sqrt(likelihood.noise_cov) if diagonal else None,
        scale_tril=None if diagonal else np.linalg.cholesky(likelihood.noise_cov),
    )
    x = likelihood.x.reshape(-1, likelihood.x.shape[-1])[rows]
    return log_prob(noise, (x - likelihood.offset)[:, None, :])
