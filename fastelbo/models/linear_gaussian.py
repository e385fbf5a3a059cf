"""The linear-Gaussian model: factor analysis and probabilistic PCA."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from ..caching import cached_property
from ..errors import InvalidInputError
from ..frozen import Frozen
from ..special import logsumexp, softmax
from ..validation import Floats, broadcast_shape, shown
from . import lowering
from .joint import log_joint_of
from .linear_likelihood import LinearLikelihood
from .location_scale import Gaussian
from .mixture import Mixture
from .protocol import Points
from .slopes import log_joint_and_gradient

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # Where an annotation names the class alone, its prior is a Gaussian.
    Prior_co = TypeVar("Prior_co", bound=Gaussian | Mixture, default=Gaussian, covariant=True)
else:
    from typing import TypeVar

    Prior_co = TypeVar("Prior_co", covariant=True)


class LinearGaussian(Frozen, Generic[Prior_co]):
    """x = W z + offset + noise, with Gaussian noise: factor analysis and probabilistic PCA.

    Parameters
    ----------
    x : array_like, shape (..., P)
        Data points; the leading axes are the batch.
    loadings : array_like, shape (P, D)
        W.
    noise_cov : scalar, or array_like of shape (P,) or (P, P)
        Noise variance, variances, or covariance matrix.
    offset : scalar or array_like, shape (P,), optional
        Mean of x at z = 0.
    prior : Gaussian or Mixture of Gaussians, optional
        Prior of z, without a batch or with one that broadcasts against the data's. Standard
        normal by default.

    Raises
    ------
    InvalidInputError
        Shapes that disagree, entries that are not finite, variances that are not positive.
    NotPositiveDefiniteError
        A noise covariance matrix that is not symmetric (to rounding in its dtype, as for
        `Gaussian`) or not positive definite.

    Notes
    -----
    With the noise whitened and the loadings factored as Q R (R lower triangular),
    ``log p(x | z) = c - |t - R z|^2 / 2``: D^2/2 products a draw in place of P D, and no
    cancellation at any noise level.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    >>> round(float(model.exact_log_evidence()[0]), 6)
    -1.515512
    """

    family = "linear_gaussian"
    likelihood: LinearLikelihood
    prior: Prior_co

    @overload
    def __init__(
        self: LinearGaussian[Gaussian],
        x: ArrayLike,
        loadings: ArrayLike,
        *,
        noise_cov: ArrayLike,
        offset: ArrayLike = 0.0,
        prior: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        x: ArrayLike,
        loadings: ArrayLike,
        *,
        noise_cov: ArrayLike,
        offset: ArrayLike = 0.0,
        prior: Prior_co,
    ) -> None: ...
    def __init__(
        self,
        x: ArrayLike,
        loadings: ArrayLike,
        *,
        noise_cov: ArrayLike,
        offset: ArrayLike = 0.0,
        prior: Gaussian | Mixture | None = None,
    ) -> None:
        likelihood = LinearLikelihood(x, loadings, noise_cov, offset)
        dim = likelihood.dim
        given = Gaussian(np.zeros(dim), scale=1.0) if prior is None else prior
        self._set(likelihood=likelihood, prior=given)
        if not isinstance(self.prior, Gaussian) and not (
            isinstance(self.prior, Mixture) and isinstance(self.prior.components, Gaussian)
        ):
            raise InvalidInputError(
                f"prior must be a Gaussian or a Mixture of Gaussians, got {shown(self.prior)}"
            )
        if self.prior.dim != dim:
            raise InvalidInputError(
                f"prior must have dimension D = {dim}, as loadings of shape "
                f"{self.loadings.shape} have; got {self.prior.dim}"
            )
        _ = self.batch_shape

    @property
    def x(self) -> Floats:
        """Data points, shape (..., P)."""
        return self.likelihood.x

    @property
    def loadings(self) -> Floats:
        """W, shape (P, D)."""
        return self.likelihood.loadings

    @property
    def noise_cov(self) -> Floats:
        """Noise variances (P,), or the covariance matrix (P, P)."""
        return self.likelihood.noise_cov

    @property
    def offset(self) -> Floats:
        """Mean of x at z = 0, shape (P,)."""
        return self.likelihood.offset

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points."""
        return broadcast_shape(x=self.x.shape[:-1], prior=self.prior.batch_shape)

    @property
    def dim(self) -> int:
        """D, the number of latent coordinates."""
        return self.likelihood.dim

    def log_joint(self, z: ArrayLike) -> Floats:
        """log p(x, z) at ``z``, in nats.

        Parameters
        ----------
        z : array_like, shape (..., *batch_shape, D)
            Latent points; the leading axes broadcast against `batch_shape`.

        Returns
        -------
        ndarray
            Shape ``broadcast(z.shape[:-1], batch_shape)``.

        Raises
        ------
        InvalidInputError
            If the last axis is not `dim` long, the axes do not broadcast, or z is not finite.
        """
        return log_joint_of(self, z)

    def log_joint_gradient(self, z: ArrayLike) -> tuple[Floats, Floats]:
        """log p(x, z) at ``z``, in nats, and its gradient in z.

        Parameters
        ----------
        z : array_like, shape (..., *batch_shape, D)
            Latent points; the leading axes broadcast against `batch_shape`.

        Returns
        -------
        values : ndarray
            As `log_joint`: shape ``broadcast(z.shape[:-1], batch_shape)``.
        slopes : ndarray
            The gradients, with an axis of length D behind it. They say nothing where log p(x, z) is
            -inf or NaN.

        Raises
        ------
        InvalidInputError
            If the last axis is not `dim` long, the axes do not broadcast, or z is not finite.

        Examples
        --------
        >>> import fastelbo as fe
        >>> model = fe.LinearGaussian([1.0], [[2.0]], noise_cov=0.5)
        >>> values, slopes = model.log_joint_gradient([0.25])
        >>> slopes.round(6).tolist()
        [1.75]
        """
        return log_joint_and_gradient(self, z)

    def __repr__(self) -> str:
        return (
            f"LinearGaussian(x={self.x.shape}, loadings={self.loadings.shape}, "
            f"prior={self.prior!r})"
        )

    @cached_property
    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def _joint(self) -> tuple[Floats, Floats, Floats]:
        """Of each prior component c: log p(c, x), and the posterior of z given c.

        Returns shapes (n, C), (n, C, D) and (n or 1, C, D, D), the last the lower factors of the
        posterior covariances; n is the flattened batch.
        """
        prior, points = self.prior._components, Points(self.batch_shape)
        eye = np.eye(self.dim)
        scale = prior.scale_tril if prior.scale is None else prior.scale[..., None] * eye
        assert scale is not None
        # In coordinates u with z = m + S u, u standard normal, the likelihood sees H u, H = R S.
        scale = points.select(scale, 3)
        mean = points.select(prior.mean, 2)
        log_weight = points.select(prior.log_weight, 1)
        half = self.likelihood.reduced.factor @ scale
        # u is the least-squares solution of H u = t, u = 0. Through Q L' of H above the identity:
        # forming 1 + H'H = L L' would square its condition.
        stacked = np.concatenate([half, np.broadcast_to(eye, half.shape)], axis=-2)
        basis, precision = _orthogonal_lower(stacked)
        log_det = np.log(np.diagonal(precision, axis1=-2, axis2=-1)).sum(axis=-1)
        solve = lowering.invert_lower(precision)
        x = points.select(self.x, 1)
        target, const = self.likelihood.reduce(x, mean)
        projected = _apply(_transpose(basis[..., : self.dim, :]), target)
        best = _apply(_transpose(solve), projected)
        # At the optimum, where nothing cancels.
        square = ((target - _apply(half, best)) ** 2).sum(-1) + (best**2).sum(-1)
        log_joint = log_weight + const - 0.5 * square - log_det
        _, tril = _orthogonal_lower(solve @ _transpose(scale))
        if np.isnan(log_joint).any() or not np.isfinite(tril).all():
            raise InvalidInputError(
                "x, loadings, noise_cov, offset and prior must differ less in size: on the way to "
                "the posterior, products and ratios of them are beyond the largest float"
            )
        return log_joint, mean + _apply(scale, best), tril

    def exact_log_evidence(self) -> Floats:
        """log p(x) in nats, one entry a data point, in closed form."""
        log_joint, _, _ = self._joint
        with np.errstate(under="ignore"):
            return np.asarray(logsumexp(log_joint, axis=-1)).reshape(self.batch_shape)

    def exact_posterior(self) -> Prior_co:
        """p(z | x): a Gaussian, or a Mixture under a Mixture prior, with the data's batch."""
        log_joint, mean, tril = self._joint
        batch, count, dim = self.batch_shape, log_joint.shape[-1], self.dim
        lead = batch if len(tril) == math.prod(batch) else (1,) * len(batch)
        if isinstance(self.prior, Gaussian):
            posterior = Gaussian(
                mean.reshape(*batch, dim), scale_tril=tril.reshape(*lead, dim, dim)
            )
            return cast(Prior_co, posterior)
        components = Gaussian(
            mean.reshape(*batch, count, dim), scale_tril=tril.reshape(*lead, count, dim, dim)
        )
        if np.isneginf(log_joint.max(axis=-1)).any():
            raise InvalidInputError(
                "x must be nearer: under every component of the prior its density is below the "
                "smallest float, so that the posterior is not known"
            )
        with np.errstate(under="ignore"):
            weights = softmax(log_joint, axis=-1).reshape(*batch, count)
        return cast(Prior_co, Mixture(weights, components))


def _transpose(matrix: Floats) -> Floats:
    return np.asarray(np.swapaxes(matrix, -1, -2))


def _orthogonal_lower(root: Floats) -> tuple[Floats, Floats]:
    """Q with orthonormal columns and lower triangular L, of positive diagonal: root = Q L'."""
    basis, upper = np.linalg.qr(root)
    signs = np.sign(np.diagonal(upper, axis1=-2, axis2=-1))
    return basis * signs[..., None, :], _transpose(upper * signs[..., None])


def _apply(matrix: Floats, vector: Floats) -> Floats:
    """Products of a batch of matrices and a batch of vectors."""
    return np.asarray((matrix @ vector[..., None])[..., 0])
