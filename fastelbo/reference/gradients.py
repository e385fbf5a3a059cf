"""Gradients of bounds under a Gaussian or Student-t q, from stored draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from .densities import component_log_prob, log_density
from .draws import sample
from .parameters import component, select_rows
from .stream import Array


def elbo_gradients(
    model: Any,
    q: Any,
    shape: tuple[int, ...],
    key: int,
    first_index: int,
    n_groups: int,
    k: int,
    estimator: str,
    alpha: float,
    of_model: bool,
) -> dict[str, Array]:
    """The bound and the gradients of every group of every data point.

    Parameters
    ----------
    model, q
        A model, and a Gaussian or StudentT; their batches broadcast to ``shape``.
    estimator, alpha
        As for `fastelbo.elbo_gradient`.
    of_model
        Whether to add the gradients of the parameters of a linear-Gaussian model.

    Returns
    -------
    dict
        Arrays (N, groups, ...): "value", "zeros" (draws of weight 0), "mean", "scale" or
        "scale_tril", and with ``of_model`` "loadings", "offset", "noise_cov", and of a Gaussian
        prior "prior_mean" and "prior_cov".
    """
    points = np.arange(int(np.prod(shape)))
    draws = np.arange(n_groups * k)
    own = select_rows(q, shape, points)
    z = sample(own, key, first_index + points, draws)
    log_q = log_density(q, z, shape, points, draws)
    parts = (model.prior, model.likelihood)
    log_p = sum(log_density(each, z, shape, points, draws) for each in parts)
    log_weight = np.reshape(log_p - log_q, (len(points), n_groups, k))
    bound, w, a, b = coefficients(log_weight, estimator, alpha)
    mean, full, inverse = _scale(own, len(points))
    y = np.einsum("nde,nke->nkd", inverse, z - mean[:, None])
    rho = np.ones(y.shape[:2])
    if own.family == "student_t":
        df = np.broadcast_to(own.parameter, len(points))[:, None]
        square = (y * y).sum(axis=-1)
        rho = np.where(df < np.inf, (df + q.dim) / (df + square), 1.0)
    u = np.einsum("nde,nkd->nke", inverse, rho[..., None] * y)
    slope = np.zeros_like(z)
    if estimator not in ("vimco", "score"):
        slope = np.add(*(slopes(each, z, shape, points) for each in parts))
    flat_a, flat_b, flat_w = (each.reshape(z.shape[:2])[..., None] for each in (a, b, w))
    path = np.where(flat_a == 0.0, 0.0, flat_a * (slope + u)) + flat_b * u

    def grouped(x: Array) -> Array:
        return np.asarray(x.reshape(len(points), n_groups, k, *x.shape[2:]).sum(axis=2))

    found = {"value": bound, "mean": grouped(path)}
    found["zeros"] = np.isneginf(log_weight).sum(axis=-1)
    outer = path[..., :, None] * y[..., None, :]
    diagonal = np.diagonal(full, axis1=-2, axis2=-1)
    if own.scale is not None:
        found["scale"] = grouped(path * y - flat_b / diagonal[:, None])
    else:
        less = flat_b[..., None] * (np.eye(q.dim) / diagonal[:, None, :, None])
        found["scale_tril"] = grouped(np.tril(outer) - less)
    if of_model:
        scores = _model_scores(model, z, shape, points)
        for name, each in scores.items():
            weight = flat_w.reshape(*flat_w.shape[:2], *(1,) * (each.ndim - 2))
            found[name] = grouped(np.where(weight == 0.0, 0.0, weight * each))
    return found


def coefficients(
    log_weight: Array, estimator: str, alpha: float
) -> tuple[Array, Array, Array, Array]:
    """(bound, weights of the model, a, b) of log weights (..., k)."""
    l = log_weight  # noqa: E741
    k = l.shape[-1]
    power = 1.0 - alpha if estimator == "renyi" else 1.0
    w = softmax(power * l, axis=-1)
    if power == 0.0:  # noqa: SIM108
        bound = l.mean(axis=-1)
    else:
        bound = (logsumexp(power * l, axis=-1) - np.log(k)) / power
    zero = np.zeros_like(w)
    if estimator == "score":
        return bound, w, zero, bound[..., None] - w
    if estimator == "vimco":
        others = np.where(np.eye(k, dtype=bool), -np.inf, l[..., None, :])
        geometric = (np.where(np.eye(k, dtype=bool), 0.0, l[..., None, :])).sum(axis=-1) / (k - 1)
        replaced = np.concatenate([others, geometric[..., None]], axis=-1)
        left = logsumexp(replaced, axis=-1) - np.log(k)
        return bound, w, zero, (bound[..., None] - left) - w
    a = {
        "total": w,
        "stl": w,
        "dreg": w**2,
        "renyi": alpha * w + (1.0 - alpha) * w**2,
        "rws": w - w**2,
    }[estimator]
    return bound, w, a, -w if estimator == "total" else zero


def _scale(dist: Any, count: int) -> tuple[Array, Array, Array]:
    """Mean (n, D), scale matrix and its inverse (n, D, D)."""
    dim = dist.mean.shape[-1]
    full = dist.scale_tril if dist.scale is None else dist.scale[..., None] * np.eye(dim)
    full = np.broadcast_to(full, (count, dim, dim))
    return np.broadcast_to(dist.mean, (count, dim)), full, np.linalg.inv(full)


def slopes(density: Any, z: Array, shape: tuple[int, ...], points: NDArray[np.intp]) -> Array:
    """Gradient in z (n, K, D) of the log density of some data points."""
    if density.family == "zero":
        return np.zeros_like(z)
    if density.family == "linear_gaussian":
        return np.asarray(_pull(density, z, shape, points) @ density.loadings)
    if density.family == "called":
        own = np.arange(int(np.prod(density.batch_shape))).reshape(density.batch_shape)
        rows = np.broadcast_to(own, shape).reshape(-1)[points].tolist()
        pairs = zip(z, rows, strict=True)
        return np.stack([density.value_and_gradient(each, row)[1] for each, row in pairs])
    dist = select_rows(density, shape, points)
    if dist.family != "mixture":
        return _elliptical_slopes(dist, z)
    shares = softmax(
        np.log(dist.weights)[..., None, :]
        + component_log_prob(dist, z.swapaxes(0, 1)).swapaxes(0, 1),
        axis=-1,
    )
    parts = [
        shares[..., c, None] * _elliptical_slopes(component(dist, c), z)
        for c in range(shares.shape[-1])
    ]
    return np.asarray(sum(parts))


def _elliptical_slopes(dist: Any, z: Array) -> Array:
    """Of a Gaussian or Student-t: ``-rho L'^-1 L^-1 (z - mean)``."""
    mean, _, inverse = _scale(dist, len(z))
    y = np.einsum("nde,nke->nkd", inverse, z - mean[:, None])
    if dist.family == "student_t":
        df = np.broadcast_to(dist.parameter, len(z))[:, None, None]
        square = (y * y).sum(axis=-1, keepdims=True)
        y = np.where(df < np.inf, (df + z.shape[-1]) / (df + square), 1.0) * y
    return np.asarray(-np.einsum("nde,nkd->nke", inverse, y))


def _pull(likelihood: Any, z: Array, shape: tuple[int, ...], points: NDArray[np.intp]) -> Array:
    """Psi^-1 (x - offset - W z)."""
    own = np.arange(int(np.prod(likelihood.batch_shape))).reshape(likelihood.batch_shape)
    rows = np.broadcast_to(own, shape).reshape(-1)[points]
    x = likelihood.x.reshape(-1, likelihood.x.shape[-1])[rows]
    residual = (x - likelihood.offset)[:, None] - z @ likelihood.loadings.T
    if likelihood.noise_cov.ndim == 1:
        return np.asarray(residual / likelihood.noise_cov)
    return np.asarray(residual @ np.linalg.inv(likelihood.noise_cov))


def _model_scores(
    model: Any, z: Array, shape: tuple[int, ...], points: NDArray[np.intp]
) -> dict[str, Array]:
    """Gradients of log p(x, z) by the parameters of a linear-Gaussian model."""
    t, noise = _pull(model.likelihood, z, shape, points), model.noise_cov
    found = {"loadings": t[..., :, None] * z[..., None, :], "offset": t}
    if noise.ndim == 1:
        found["noise_cov"] = 0.5 * (t * t - 1.0 / noise)
    else:
        found["noise_cov"] = 0.5 * (t[..., :, None] * t[..., None, :] - np.linalg.inv(noise))
    if model.prior.family == "gaussian":
        prior = select_rows(model.prior, shape, points)
        s = -_elliptical_slopes(prior, z)
        _, _, inverse = _scale(prior, len(z))
        precision = (np.swapaxes(inverse, -1, -2) @ inverse)[:, None]
        found["prior_mean"] = s
        found["prior_cov"] = 0.5 * (s[..., :, None] * s[..., None, :] - precision)
    return found
