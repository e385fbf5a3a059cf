"""Gaussian components that a fit moves: the four forms of covariances, and their maximum.

Coordinates are those of a fit, where data have mean 0 and variance 1. A floor bounds variances from
below; of covariance matrices it bounds the eigenvalues. The maximum of
the likelihood under this bound has the eigenvectors of the moments, and their eigenvalues where
they are above the floor (Theobald, 1975).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays.inputs import constant
from ..kernels.cpu.mixture_em import Sums, Whitened
from ..kernels.draws.blocks import padded
from ..special import logsumexp
from ..validation import Floats
from .lowering import invert_lower

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
# A component of less weight, in data points, is empty.
_EMPTY = 1e-10
# A variance at most so many times the floor is at the floor.
_AT_FLOOR = 1.0 + 1e-6
# Squared entry of a direction from which on a coordinate is named in it.
_NAMED = 0.01
_LOG_2PI = float(np.log(2.0 * np.pi))


class GaussianComponents(NamedTuple):
    """C Gaussian components of D coordinates; one of weight 0 is empty.

    Scales are lower factors (C, D, D) for "full" and (1, D, D) for "tied", standard deviations (C,
    D) for "diag" and (C, 1) for "spherical".
    """

    kind: str
    log_weight: Floats  # (C,)
    mean: Floats  # (C, D)
    scale: Floats

    @property
    def of_matrices(self) -> bool:
        """Whether scales are matrices."""
        return self.scale.ndim == 3

    def parameters(self) -> int:
        """The number of free parameters."""
        count, dim = self.mean.shape
        of_one = dim * (dim + 1) // 2 if self.of_matrices else self.scale.shape[1]
        return int(count - 1 + count * dim + len(self.scale) * of_one)

    def whitened(self) -> Whitened:
        """What kernels read."""
        count, dim = self.mean.shape
        size = padded(dim)
        mean = np.zeros((count, size))
        mean[:, :dim] = self.mean
        factor = np.zeros((count, size if self.of_matrices else 1, size))
        if self.of_matrices:
            factor[:, :dim, :dim] = invert_lower(self.scale)
            diagonal = np.einsum("cdd->cd", factor)[:, :dim]
        else:
            factor[:, 0, :dim] = 1.0 / self.scale
            diagonal = factor[:, 0, :dim]
        log_const = self.log_weight + np.log(diagonal).sum(axis=1) - 0.5 * dim * _LOG_2PI
        return Whitened(constant(log_const), constant(mean), constant(factor))

    def maximised(self, sums: Sums, floor: float) -> GaussianComponents:
        """The components of largest likelihood, given sums that were made with these ones."""
        alive = sums.total > _EMPTY
        total = np.where(alive, sums.total, 1.0)[:, None]
        mean = np.where(alive[:, None], sums.first / total, self.mean)
        step = mean - self.mean
        log_weight = np.full(len(alive), -np.inf)
        log_weight[alive] = np.log(sums.total[alive] / sums.total[alive].sum())
        if not self.of_matrices:
            variance = sums.second / total - step**2
            if self.kind == "spherical":
                variance = variance.mean(axis=1, keepdims=True)
            scale = np.sqrt(np.maximum(variance, floor))
            scale[~alive] = self.scale[~alive]
            return GaussianComponents(self.kind, log_weight, mean, scale)
        moved = step[:, :, None] * step[:, None, :]
        if self.kind == "tied":
            parts = sums.second - total[..., None] * moved
            cov = parts[alive].sum(axis=0, keepdims=True) / sums.total[alive].sum()
            scale = factors(cov, floor)
        else:
            scale = self.scale.copy()
            scale[alive] = factors((sums.second / total[..., None] - moved)[alive], floor)
        return GaussianComponents(self.kind, log_weight, mean, scale)

    def vector(self) -> Floats:
        """Unbounded parameters of the components that are not empty, for extrapolation."""
        alive = self.log_weight > -np.inf
        scale = self.scale if self.kind == "tied" else self.scale[alive]
        if self.of_matrices:
            scale = scale.copy()
            diagonal = np.einsum("cdd->cd", scale)
            diagonal[...] = np.log(diagonal)
        else:
            scale = np.log(scale)
        return np.concatenate([self.log_weight[alive], self.mean[alive].ravel(), scale.ravel()])

    def at_vector(self, vector: Floats, floor: float) -> GaussianComponents | None:
        """The components with these parameters, and none if they leave the range of floats."""
        alive = self.log_weight > -np.inf
        count, dim = int(alive.sum()), self.mean.shape[1]
        weights, means, scales = np.split(vector, [count, count + count * dim])
        log_weight, mean, scale = (np.array(part) for part in self[1:])
        log_weight[alive] = weights - logsumexp(weights)
        mean[alive] = means.reshape(count, dim)
        found = scales.reshape(-1, *scale.shape[1:])
        if self.of_matrices:
            found = found.copy()
            diagonal = np.einsum("cdd->cd", found)
            diagonal[...] = np.exp(diagonal)
            products = found @ np.swapaxes(found, 1, 2)
            if not np.isfinite(products).all():
                return None
            found = factors(products, floor)
        else:
            found = np.exp(np.maximum(found, 0.5 * np.log(floor)))
        scale[slice(None) if self.kind == "tied" else alive] = found
        usable = np.isfinite(vector).all() and np.isfinite(found).all()
        return GaussianComponents(self.kind, log_weight, mean, scale) if usable else None

    def at_floor(self, floor: float, mixing: Floats | None = None) -> dict[int, list[int]]:
        """The components at the floor, and the coordinates that are; one stands for all tied.

        The coordinates are those of ``mixing y`` for the ones of a fit, y.
        """
        found: dict[int, list[int]] = {}
        for c, scale in enumerate(self.scale):
            if not self.of_matrices:
                low = np.flatnonzero(scale**2 <= _AT_FLOOR * floor)
                if self.kind == "spherical" and len(low):
                    low = np.arange(self.mean.shape[1])
            else:
                values, vectors = np.linalg.eigh(scale @ scale.T)
                forms = vectors[:, values <= _AT_FLOOR * floor]
                if mixing is not None:
                    forms = invert_lower(mixing).T @ forms
                share = forms**2 / (forms**2).sum(axis=0)
                low = np.flatnonzero((share > _NAMED).any(axis=1))
            if len(low):
                found[c] = low.tolist()
        return found


def of_covariances(
    kind: str, log_weight: Floats, mean: Floats, cov: Floats, floor: float
) -> GaussianComponents:
    """Components of that form whose covariances are nearest to those (C, D, D) given.

    The tied covariance is their mean by weight.
    """
    if kind == "full":
        scale = factors(cov, floor)
    elif kind == "tied":
        scale = factors(np.einsum("c,cde->de", np.exp(log_weight), cov)[None], floor)
    else:
        variance = np.einsum("cdd->cd", cov)
        if kind == "spherical":
            variance = variance.mean(axis=1, keepdims=True)
        scale = np.sqrt(np.maximum(variance, floor))
    return GaussianComponents(kind, log_weight, mean, scale)


def factors(cov: Floats, floor: float) -> Floats:
    """Lower factors of symmetric matrices (C, D, D), whose eigenvalues are raised to the floor."""
    try:
        tril = np.asarray(np.linalg.cholesky(cov))
    except np.linalg.LinAlgError:
        low = np.full(len(cov), True)
    else:
        # The least eigenvalue of S S' is at least 1 / |S^-1|^2, of all entries.
        low = (invert_lower(tril) ** 2).sum(axis=(1, 2)) * floor > 1.0
    if low.any():
        tril = np.zeros_like(cov) if low.all() else tril
        values, vectors = np.linalg.eigh(cov[low])
        values = np.maximum(values, floor)
        # S = R' of the orthogonal factor of a root has the digits that a product would lose.
        roots = np.sqrt(values)[:, :, None] * np.swapaxes(vectors, 1, 2)
        upper = np.linalg.qr(roots, mode="r")
        signs = np.where(np.einsum("cdd->cd", upper) < 0.0, -1.0, 1.0)
        tril[low] = np.swapaxes(signs[:, :, None] * upper, 1, 2)
    return tril
