"""Steps of Newton's method for a Gaussian q, diagonal or full, in the coordinates of q.

A scale C, of shape (n, D) if diagonal and else (n, D, D), has the draws m + C e. The slope
``c = C' E g`` and the curvature ``K = -(C' E[g e'] + E[e g'] C) / 2`` are those that a standard
normal q would see. At the optimum c = 0, and K = 1, or its diagonal for a diagonal q.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from ...validation import Floats

# Least curvature that a step believes: it makes no variance more than ten times as large.
_FLOOR = 0.1
_ROUNDING = 1e-12


class Local(NamedTuple):
    """The slope and curvature of some data points, as a form of q keeps them."""

    slope: Floats  # (n, D)
    # Of the full form eigenvalues and eigenvectors; of the diagonal one, the diagonal of K, and K.
    values: Floats  # (n, D)
    matrix: Floats  # (n, D, D)
    move: Floats  # K^-1 c, that of the mean at rate 1, (n, D)

    @property
    def gain(self) -> Floats:
        """Nats that a step of rate 1 gains, to second order, shape (n,)."""
        wide = (self.values - 1.0) ** 2
        return np.asarray(0.5 * (self.slope * self.move).sum(1) + 0.25 * wide.sum(1))


class Diagonal:
    """A diagonal scale. The mean follows the whole curvature."""

    name: ClassVar[str] = "scale"
    event_axes: ClassVar[int] = 1

    @staticmethod
    def spread(scale: Floats, draws: Floats) -> Floats:
        """C e, shape (S, n, D), for draws (S, D)."""
        return np.asarray(scale * draws[:, None, :])

    @staticmethod
    def log_det(scale: Floats) -> Floats:
        """log |C|, shape (n,)."""
        return np.asarray(np.log(scale).sum(axis=-1))

    @staticmethod
    def local(scale: Floats, slope: Floats, stein: Floats) -> Local:
        """What E g (n, D) and E[g e'] (n, D, D) are in the coordinates of q."""
        product = scale[:, :, None] * stein
        curvature = -0.5 * (product + np.swapaxes(product, 1, 2))
        diagonal = np.maximum(np.diagonal(curvature, axis1=1, axis2=2), _FLOOR)
        own, matrix = scale * slope, _positive(curvature)
        return Local(own, diagonal, matrix, _solve(matrix, own))

    @staticmethod
    def step(mean: Floats, scale: Floats, local: Local, rate: Floats) -> tuple[Floats, Floats]:
        """Mean and scale after a step of rate (n,)."""
        weight = rate[:, None]
        move, slow = local.move.copy(), rate < 1.0
        if slow.any():
            some = weight[slow, :, None]
            matrix = some * local.matrix[slow] + (1.0 - some) * np.eye(mean.shape[1])
            move[slow] = _solve(matrix, local.slope[slow])
        precision = 1.0 - weight + weight * local.values
        return mean + weight * scale * move, scale / np.sqrt(precision)

    @staticmethod
    def finished(scale: Floats) -> Floats:
        """The scale as q takes it."""
        return scale


class Full:
    """A full scale. It moves by symmetric factors, C B: so each step is upwards on the draws."""

    name: ClassVar[str] = "scale_tril"
    event_axes: ClassVar[int] = 2

    @staticmethod
    def spread(scale: Floats, draws: Floats) -> Floats:
        """C e, shape (S, n, D), for draws (S, D)."""
        n, dim, _ = scale.shape
        return np.asarray(draws @ scale.reshape(n * dim, dim).T).reshape(len(draws), n, dim)

    @staticmethod
    def log_det(scale: Floats) -> Floats:
        """log |C|, shape (n,)."""
        return np.asarray(np.linalg.slogdet(scale)[1])

    @staticmethod
    def local(scale: Floats, slope: Floats, stein: Floats) -> Local:
        """What E g (n, D) and E[g e'] (n, D, D) are in the coordinates of q."""
        turned = np.swapaxes(scale, 1, 2)
        product = turned @ stein
        values, vectors = np.linalg.eigh(-0.5 * (product + np.swapaxes(product, 1, 2)))
        own, values = _apply(turned, slope), np.maximum(values, _FLOOR)
        move = _apply(vectors, _apply(np.swapaxes(vectors, 1, 2), own) / values)
        return Local(own, values, vectors, move)

    @staticmethod
    def step(mean: Floats, scale: Floats, local: Local, rate: Floats) -> tuple[Floats, Floats]:
        """Mean and scale after a step of rate (n,)."""
        weight, vectors = rate[:, None], local.matrix
        precision = 1.0 - weight + weight * local.values
        turned = np.swapaxes(vectors, 1, 2)
        move = _apply(vectors, _apply(turned, local.slope) / precision)
        factor = (vectors / np.sqrt(precision)[:, None, :]) @ turned
        return mean + weight * _apply(scale, move), scale @ factor

    @staticmethod
    def finished(scale: Floats) -> Floats:
        """L of L L' = C C', lower triangular of positive diagonal, without a square of C."""
        upper = np.linalg.qr(np.swapaxes(scale, 1, 2), mode="r")
        signs = np.sign(np.diagonal(upper, axis1=1, axis2=2))
        return np.asarray(np.swapaxes(upper * signs[:, :, None], 1, 2))


def _apply(matrix: Floats, vector: Floats) -> Floats:
    return np.asarray((matrix @ vector[:, :, None])[:, :, 0])


def _solve(matrix: Floats, vector: Floats) -> Floats:
    return np.asarray(np.linalg.solve(matrix, vector[:, :, None])[:, :, 0])


def _positive(matrix: Floats) -> Floats:
    """Symmetric matrices, the eigenvalues of those that are not positive definite raised."""
    largest = np.abs(np.diagonal(matrix, axis1=1, axis2=2)).max(axis=1)
    # Below its share of the largest, an eigenvalue is rounding alone.
    least = np.maximum(_FLOOR, _ROUNDING * largest)
    try:
        np.linalg.cholesky(matrix - 0.5 * least[:, None, None] * np.eye(matrix.shape[1]))
        return matrix
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
    raised = np.maximum(values, np.maximum(least, _ROUNDING * np.abs(values).max(1))[:, None])
    whole = (vectors * raised[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    return np.asarray(np.where((raised > values).any(axis=1)[:, None, None], whole, matrix))
