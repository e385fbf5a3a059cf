"""log p(x | z) of x = W z + offset + noise, with Gaussian noise."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_floats, constant
from ..caching import cached_property
from ..errors import InvalidInputError
from ..frozen import Frozen
from ..kernels.cpu import linear
from ..kernels.cpu.launch import launch
from ..kernels.draws.blocks import Term, padded
from ..kernels.draws.radial import GAUSSIAN
from ..validation import Floats, positive
from . import lowering
from .joint import by_member
from .protocol import Frame, Points
from .scales import cholesky, symmetric

_LOG_2PI = math.log(2.0 * math.pi)


class Reduced(NamedTuple):
    """Whitened loadings as Q R, R lower triangular: the likelihood sees z only through R z."""

    whitener: Floats  # (1, P) reciprocal noise sds, or the (P, P) inverse of the noise's factor
    basis: Floats  # Q, (P, D)
    factor: Floats  # R, (D, D) lower triangular
    log_const: float  # -P/2 log(2 pi) - log det of the noise's factor


class LinearLikelihood(Frozen):
    """The likelihood of a `fastelbo.LinearGaussian`, whose parameters it checks."""

    family: ClassVar[str] = "linear_gaussian"
    x: Floats
    loadings: Floats
    noise_cov: Floats
    offset: Floats
    # How noise_cov was given: "isotropic" for a scalar, "diagonal" or "full".
    noise_form: str
    _noise_tril: Floats | None

    def __init__(
        self, x: ArrayLike, loadings: ArrayLike, noise_cov: ArrayLike, offset: ArrayLike
    ) -> None:
        self._set(x=as_floats(x, "x"), loadings=as_floats(loadings, "loadings"))
        if self.loadings.ndim != 2 or 0 in self.loadings.shape:
            raise InvalidInputError(f"loadings must have shape (P, D), got {self.loadings.shape}")
        features = self.loadings.shape[0]
        if self.x.ndim == 0 or self.x.shape[-1] != features:
            raise InvalidInputError(
                f"x must have a last axis of length P = {features}, as loadings of shape "
                f"{self.loadings.shape} have; got shape {self.x.shape}"
            )
        form, covariance, tril = _noise(noise_cov, features)
        shift = as_floats(offset, "offset")
        if shift.shape not in ((), (features,)):
            raise InvalidInputError(
                f"offset must be a scalar or have shape ({features},), got {shift.shape}"
            )
        centre = np.array(np.broadcast_to(shift, features))
        self._set(noise_form=form, noise_cov=covariance, _noise_tril=tril, offset=centre)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points."""
        return self.x.shape[:-1]

    @property
    def dim(self) -> int:
        """D, the number of latent coordinates."""
        return int(self.loadings.shape[1])

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation, about."""
        return self.dim**2

    def term(self, points: Points, frame: Frame) -> Term:
        """The density of some data points as the kernels take it; see `models.protocol`."""
        x = points.select(self.x, 1)
        target, log_const = self.reduce(x, frame.centre[:, None, :], padded(self.dim))
        factor = self.reduced.factor[None, None]
        if frame.scale is not None or frame.scale_tril is not None:
            factor, _ = lowering.standardised(factor, frame)
        density = lowering.make_density(GAUSSIAN, factor, target, log_const, np.zeros((1, 0)))
        return lowering.elliptical_term(density)

    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def log_prob(self, z: ArrayLike) -> Floats:
        """The density at z (..., D), whose leading axes broadcast against the batch."""
        points, shape, batch = by_member(as_floats(z, "z"), self.dim, self.batch_shape)
        x = Points(batch).select(self.x, 1)
        # In coordinates that begin at each point, the point is 0.
        target, log_const = self.reduce(x, np.swapaxes(points, 0, 1))
        values = log_const - 0.5 * np.square(target).sum(axis=-1)
        if np.isnan(values).any():
            raise InvalidInputError(
                "z, x, loadings, noise_cov and offset must differ less in size: on the way to the "
                "residual, products of them are beyond the largest float"
            )
        return np.asarray(values.T.reshape(shape))

    @cached_property
    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def reduced(self) -> Reduced:
        """The loadings, whitened and factored."""
        features, dim = self.loadings.shape
        if self._noise_tril is None:
            whitener = 1.0 / np.sqrt(self.noise_cov)[None]
            whitened = self.loadings * whitener.T
            log_det = 0.5 * np.log(self.noise_cov).sum()
        else:
            from scipy.linalg import solve_triangular

            whitener = solve_triangular(self._noise_tril, np.eye(features), lower=True)
            whitened = whitener @ self.loadings
            log_det = np.log(np.diagonal(self._noise_tril)).sum()
        # With fewer features than coordinates, rows of zeros leave R square.
        padding = max(dim - features, 0)
        padded = np.vstack([whitened, np.zeros((padding, dim))])
        # Factoring the columns in reverse makes R lower triangular in the end.
        basis, upper = np.linalg.qr(padded[:, ::-1])
        factor = np.ascontiguousarray(upper[::-1, ::-1])
        return Reduced(
            whitener,
            np.ascontiguousarray(basis[:features, ::-1]),
            np.tril(factor),
            -0.5 * features * _LOG_2PI - float(log_det),
        )

    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def reduce(self, x: Floats, centre: Floats, length: int | None = None) -> tuple[Floats, Floats]:
        """(t, c) of log p(x | centre + v) = c - |R v - t|^2 / 2.

        For x (n or 1, P) and centres (n or 1, C, D): t of shape (n, C, D), c of (n, C). With a
        ``length``, t has zeros behind it up to there. Through the residual in data space, so that
        far latents and small noise cancel nowhere.
        """
        reduced, count, dim = self.reduced, *centre.shape[1:]
        shape = lowering.common_length(x, centre), count
        target, square = np.empty((*shape, length or dim)), np.empty(shape)
        places, basis = centre.reshape(-1, dim), reduced.basis
        launch(
            linear.reduce, constant(x), constant(places), count,
            *map(constant, (self.loadings, self.offset, reduced.whitener, basis, basis.T)),
            target.reshape(-1, target.shape[-1]), square.reshape(-1),
            work=square.size * (3 * basis.size + reduced.whitener.size),
        )  # fmt: skip
        return target, reduced.log_const - 0.5 * square


def _noise(noise_cov: ArrayLike, features: int) -> tuple[str, Floats, Floats | None]:
    """The form, and the variances (P,) and None, or the covariance (P, P) and its lower factor."""
    noise = as_floats(noise_cov, "noise_cov")
    if noise.shape == (features, features) and noise.ndim == 2:
        noise = symmetric(noise_cov, "noise_cov")
        return "full", noise, cholesky(noise, "noise_cov")
    if noise.shape not in ((), (features,)):
        raise InvalidInputError(
            f"noise_cov must be a scalar or have shape ({features},) or ({features}, {features}), "
            f"got {noise.shape}"
        )
    variances = np.array(np.broadcast_to(positive(noise, "noise_cov"), features))
    return "diagonal" if noise.ndim else "isotropic", variances, None
