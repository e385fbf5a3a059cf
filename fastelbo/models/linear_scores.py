"""Gradients of log p(x, z) by the parameters of a linear-Gaussian model, at draws.

With t = Psi^-1 (x - b - W z) and s = S0^-1 (z - m0) they are products of two vectors of a draw:
t z' (loadings), t (offset), (t t' - Psi^-1) / 2 (noise), s (prior mean) and (s s' - S0^-1) / 2
(prior covariance, of which all entries are free).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..validation import Floats
from . import lowering
from .linear_elbo import scale_matrix
from .linear_gaussian import LinearGaussian
from .location_scale import Gaussian
from .protocol import Points


class Product(NamedTuple):
    """The products left right', or those of equal coordinates, less a constant; all times factor.

    Without ``right`` the rows of ``left`` themselves.
    """

    left: Floats  # (m, n, A)
    right: Floats | None = None  # (m, n, B)
    diagonal: bool = False
    less: Floats | None = None  # (m or 1, A, B), or (m or 1, A) for equal coordinates
    factor: float = 1.0


class LinearScores:
    """The gradients for some data points at draws z = centre + d."""

    def __init__(self, model: LinearGaussian, points: Points, centre: Floats) -> None:
        self._model = model
        whitener = model.likelihood.reduced.whitener
        self._diagonal = whitener.shape[0] == 1
        if self._diagonal:
            self._precision = whitener * whitener
        else:
            self._precision = whitener.T @ whitener
        residual = points.select(model.x, 1) - model.offset - centre @ model.loadings.T
        self._residual = residual[:, None, :]
        self._centre = centre[:, None, :]
        self._prior = isinstance(model.prior, Gaussian)
        if self._prior:
            inverse = lowering.invert_lower(scale_matrix(model.prior, points))
            self._inverse = np.swapaxes(inverse, -1, -2) @ inverse
            self._shift = (centre - points.select(model.prior.mean, 1))[:, None, :]

    def at(self, d: Floats) -> dict[str, Product]:
        """The gradients by the names of the parameters, for d (m, n, D)."""
        residual = self._residual - d @ self._model.loadings.T
        pull = residual * self._precision if self._diagonal else residual @ self._precision
        noise = self._precision if self._diagonal else self._precision[None]
        found = {
            "loadings": Product(pull, self._centre + d),
            "offset": Product(pull),
            "noise_cov": Product(pull, pull, self._diagonal, noise, 0.5),
        }
        if self._prior:
            back = (self._shift + d) @ self._inverse
            found["prior_mean"] = Product(back)
            found["prior_cov"] = Product(back, back, False, self._inverse, 0.5)
        return found


def batches(model: LinearGaussian) -> dict[str, tuple[int, ...]]:
    """Batch shapes of the parameters."""
    found: dict[str, tuple[int, ...]] = dict.fromkeys(("loadings", "offset", "noise_cov"), ())
    if isinstance(model.prior, Gaussian):
        shapes = model.prior._parameter_shapes()
        found["prior_mean"] = shapes["mean"]
        found["prior_cov"] = shapes["scale_tril" if model.prior.scale is None else "scale"]
    return found


def numbers_of_draw(model: LinearGaussian) -> int:
    """About the numbers that the gradients of a draw hold."""
    features, dim = model.loadings.shape
    return int(3 * features + 3 * dim + features * dim + math.prod(model.noise_cov.shape) + dim**2)
