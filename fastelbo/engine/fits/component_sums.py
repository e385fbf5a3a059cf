"""The ELBO of a Gaussian, Student-t or mixture on given standardised draws, and its gradient.

With draws z_cj = m_c + T_c y_cj of each component c, of weight w_c, the ELBO is the sum over
components ``F = sum_c w_c mean_j f(z_cj)``, ``f = log p(x, z) - log q(z)``: no draw picks a
component. A Gaussian or Student-t is a mixture of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...models import lowering
from ...models.student_constants import entropy_excess
from ...special import logsumexp, softmax
from ...validation import Floats
from .q_vector import Parts

# density(z (S, n, D), rows (n,)): log p(x, z), shape (S, n), and its gradient (S, n, D).
Density = Callable[[Floats, NDArray[np.int64]], tuple[Floats, Floats]]


class Sums(NamedTuple):
    """Of some data points."""

    terms: Floats  # w_c f(z_cj), shape (n, C, S)
    largest: float  # size of the log densities: their differences are exact to its rounding
    slopes: Parts  # gradients of the ELBO of each data point

    @property
    def elbo(self) -> Floats:
        """Shape (n,)."""
        return np.asarray(self.terms.mean(axis=2).sum(axis=1))


def component_sums(
    density: Density,
    parts: Parts,
    constants: tuple[Floats, Floats | None],
    draws: Floats,
    rows: NDArray[np.int64],
    *,
    path: bool,
) -> Sums:
    """The ELBO on standardised draws (n or 1, C, S, D), with components ``parts``.

    ``constants`` are logs of the components' normalising constants for a scale of 1, and degrees of
    freedom of Student-t components, both (n, C). The gradient is that of the sum on these draws;
    with ``path``, its score part, of mean 0 over fresh draws, is left out (Roeder, Wu and Duvenaud,
    2017, Sticking the landing).
    """
    (n, count, dim), size, (log_base, df) = parts.mean.shape, draws.shape[2], constants
    moved = _times(draws, parts.scale, parts.is_diagonal)
    if parts.is_diagonal:
        inverse = 1.0 / parts.scale
        log_det = np.log(parts.scale).sum(axis=2)
    else:
        inverse = lowering.invert_lower(parts.scale)
        log_det = np.log(np.diagonal(parts.scale, axis1=2, axis2=3)).sum(axis=2)
    z = (parts.mean[:, :, None, :] + moved).reshape(n, count * size, dim)
    values, slopes = density(np.ascontiguousarray(np.swapaxes(z, 0, 1)), rows)
    values, slopes = values.T, np.swapaxes(slopes, 0, 1)

    # All draws in the coordinates of all components: y (n, K, C S, D), and u = -grad log q_k.
    away = z[:, None] - parts.mean[:, :, None, :]
    y = _times(away, inverse, parts.is_diagonal)
    square = (y**2).sum(axis=3)
    if df is None:
        radial, pull = -0.5 * square, y
    else:
        free = df[:, :, None]
        radial = -0.5 * (free + dim) * np.log1p(square / free)
        pull = y * ((free + dim) / (free + square))[..., None]
    u = _times(
        pull, inverse if parts.is_diagonal else np.swapaxes(inverse, 2, 3), parts.is_diagonal
    )
    log_weight = parts.logits - logsumexp(parts.logits, axis=1, keepdims=True)
    logs = (log_base - log_det + log_weight)[:, :, None] + radial
    own = softmax(logs, axis=1)  # responsibilities (n, K, C S)
    log_q = logsumexp(logs, axis=1)
    f = values - log_q
    largest = float(max(np.abs(values).max(), np.abs(log_q).max()))
    if count == 1:
        # E log q is known; of few draws of a Student-t, their mean would be off.
        excess = 0.5 * dim if df is None else entropy_excess(df, dim)
        f += radial[:, 0].mean(axis=1, keepdims=True) + excess

    weight = np.exp(log_weight)
    terms = weight[:, :, None] * f.reshape(n, count, size)
    share = np.repeat(weight / size, size, axis=1)  # of each draw in the ELBO
    # Where the draw goes: h = grad (log p - log q).
    h = share[:, :, None] * (slopes + (own[..., None] * u).sum(axis=1))
    h = h.reshape(n, count, size, dim)
    by_mean = h.sum(axis=2)
    by_scale = _products(h, np.broadcast_to(draws, h.shape), parts.is_diagonal)
    mean_f = f.reshape(n, count, size).mean(axis=2)
    by_logit = weight * (mean_f - (weight * mean_f).sum(axis=1, keepdims=True))
    if not path:
        # How the density of a draw that stays changes: -d log q.
        lot = share[:, None, :] * own
        total = lot.sum(axis=2)
        fixed = lot[..., None] * u
        by_mean -= fixed.sum(axis=2)
        by_scale -= _products(fixed, y, parts.is_diagonal)
        by_scale += (
            total[:, :, None] * inverse
            if parts.is_diagonal
            else (total[:, :, None, None] * _diagonal(inverse))
        )
        by_logit -= total - weight
    return Sums(terms, largest, Parts(by_logit, by_mean, by_scale))


def _times(vectors: Floats, matrix: Floats, is_diagonal: bool) -> Floats:
    """Vectors (..., D) of each component times its matrix, or its diagonal."""
    if is_diagonal:
        return np.asarray(vectors * matrix[:, :, None, :])
    return np.asarray(vectors @ np.swapaxes(matrix, 2, 3))


def _products(left: Floats, right: Floats, is_diagonal: bool) -> Floats:
    """Sums over the draws of products of coordinates: of each, or the lower triangle of pairs."""
    if is_diagonal:
        return np.asarray((left * right).sum(axis=2))
    return np.tril(np.swapaxes(left, 2, 3) @ right)


def _diagonal(matrix: Floats) -> Floats:
    return np.asarray(matrix * np.eye(matrix.shape[-1]))
