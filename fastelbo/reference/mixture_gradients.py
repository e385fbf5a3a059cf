"""Gradients of a group of draws of a mixture's components, in plain NumPy.

Densities are written out in z with explicit inverses, and weights and scores are those of whole
densities: nothing is shared with the kernels' coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

Floats = NDArray[np.float64]


class MixtureParameters(NamedTuple):
    """A mixture q of one data point: Gaussian where ``df`` is None."""

    weights: Floats  # (C,)
    mean: Floats  # (C, D)
    scale: Floats  # (C, D, D), lower triangular
    df: Floats | None  # (C,)


def component_log_prob(q: MixtureParameters, c: int, z: Floats) -> float:
    """Log density of component c at z (D,)."""
    scale = q.scale[c]
    y, dim = np.linalg.solve(scale, z - q.mean[c]), len(z)
    log_det = np.log(np.diagonal(scale)).sum()
    if q.df is None:
        return float(-0.5 * (y @ y + dim * np.log(2.0 * np.pi)) - log_det)
    df = q.df[c]
    const = gammaln(0.5 * (df + dim)) - gammaln(0.5 * df) - 0.5 * dim * np.log(df * np.pi)
    return float(const - log_det - 0.5 * (df + dim) * np.log1p(y @ y / df))


def scores(q: MixtureParameters, z: Floats) -> tuple[float, Floats, dict[str, Floats]]:
    """log q at z, its gradient in z, and its gradients in the logits, means and scales."""
    count, dim = q.mean.shape
    logs = np.log(q.weights) + [component_log_prob(q, c, z) for c in range(count)]
    log_q = logsumexp(logs)
    share = np.exp(logs - log_q)
    mean, scale = np.empty((count, dim)), np.empty((count, dim, dim))
    slope = np.zeros(dim)
    for c in range(count):
        inverse = np.linalg.inv(q.scale[c])
        y = inverse @ (z - q.mean[c])
        rho = 1.0 if q.df is None else (q.df[c] + dim) / (q.df[c] + y @ y)
        pull = rho * inverse.T @ y
        slope -= share[c] * pull
        mean[c] = share[c] * pull
        scale[c] = share[c] * np.tril(np.outer(pull, y) - inverse.T)
    return float(log_q), slope, {"logits": share - q.weights, "mean": mean, "scale": scale}


def siwae(
    q: MixtureParameters,
    z: Floats,
    log_joint: Callable[[Floats], tuple[float, Floats]],
) -> tuple[float, dict[str, Floats]]:
    """The bound of one group z (C, k, D), and its gradients in logits, means and scales.

    ``log_joint(z)`` gives log p(x, z) and its gradient in z. The bound is
    ``log sum_c pi_c / k sum_j p / q`` (Morningstar et al., 2021).
    """
    count, k, dim = z.shape
    logs = np.empty((count, k))
    parts: list[list[tuple[Floats, dict[str, Floats]]]] = []
    for c in range(count):
        parts.append([])
        for j in range(k):
            value, slope = log_joint(z[c, j])
            log_q, own, score = scores(q, z[c, j])
            logs[c, j] = np.log(q.weights[c] / k) + value - log_q
            parts[c].append((slope - own, score))
    bound = float(logsumexp(logs))
    found = {
        "logits": np.zeros(count),
        "mean": np.zeros((count, dim)),
        "scale": np.zeros((count, dim, dim)),
    }
    for c in range(count):
        for j in range(k):
            weight, (path, score) = np.exp(logs[c, j] - bound), parts[c][j]
            y = np.linalg.solve(q.scale[c], z[c, j] - q.mean[c])
            _add(found, score, -weight)
            found["mean"][c] += weight * path
            found["scale"][c] += weight * np.tril(np.outer(path, y))
            found["logits"] += weight * (np.eye(count)[c] - q.weights)
    return bound, found


def component_sums(
    q: MixtureParameters,
    z: Floats,
    log_joint: Callable[[Floats], tuple[float, Floats]],
    total: bool,
) -> tuple[float, dict[str, Floats]]:
    """The ELBO from one draw z (C, 1, D) of each component, and its gradients.

    With ``total``, the scores of log q are among them, whose mean is 0.
    """
    count, _, dim = z.shape
    value = 0.0
    found: dict[str, Any] = {
        "logits": np.zeros(count),
        "mean": np.zeros((count, dim)),
        "scale": np.zeros((count, dim, dim)),
    }
    for c in range(count):
        log_p, slope = log_joint(z[c, 0])
        log_q, own, score = scores(q, z[c, 0])
        weight, path = q.weights[c], slope - own
        value += weight * (log_p - log_q)
        y = np.linalg.solve(q.scale[c], z[c, 0] - q.mean[c])
        found["mean"][c] += weight * path
        found["scale"][c] += weight * np.tril(np.outer(path, y))
        found["logits"] += weight * (log_p - log_q) * (np.eye(count)[c] - q.weights)
        if total:
            _add(found, score, -weight)
    return value, found


def _add(found: dict[str, Floats], score: dict[str, Floats], weight: float) -> None:
    for name, array in score.items():
        found[name] += weight * array
