"""Gaussian and Student-t distributions: a location and a scale, diagonal or triangular."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InvalidInputError
from ..kernels.draws.radial import GAUSSIAN, STUDENT_T
from ..validation import (
    MAX_DIM,
    Floats,
    as_floats,
    as_unchecked_floats,
    broadcast_shape,
    cholesky,
    positive,
    require_finite,
    square_matrices,
)
from .distributions import Elliptical
from .lowering import Components
from .student_constants import entropy_excess, log_const

_LOG_2PI = math.log(2.0 * math.pi)
# Below, a chi-square draw can fall under the smallest float, and the draws are no longer Student's.
LEAST_DF = 0.1


class LocationScale(Elliptical):
    """A location and a scale, diagonal or lower triangular."""

    # The code of the family in the kernels.
    radial: ClassVar[int]
    mean: Floats
    scale: Floats | None
    scale_tril: Floats | None

    def _set_location_scale(
        self, mean: ArrayLike, scale: ArrayLike | None, scale_tril: ArrayLike | None
    ) -> None:
        location = np.atleast_1d(as_floats(mean, "mean"))
        dim = location.shape[-1]
        if dim == 0:
            raise InvalidInputError(f"mean must have at least one coordinate, got {location.shape}")
        if dim > MAX_DIM:
            raise OverflowError(f"mean must have at most {MAX_DIM} coordinates, got {dim}")
        diagonal = tril = None
        if scale is not None:
            diagonal = positive(as_floats(scale, "scale"), "scale")
            if diagonal.ndim == 0:
                diagonal = np.full(dim, float(diagonal))
            _same_dim(location, diagonal, "scale")
        else:
            tril = square_matrices(as_floats(scale_tril, "scale_tril"), "scale_tril")
            _same_dim(location, tril, "scale_tril")
            if np.triu(tril, 1).any():
                raise InvalidInputError("scale_tril must be lower triangular")
            positive(np.diagonal(tril, axis1=-2, axis2=-1), "scale_tril's diagonal")
        self._set(mean=location, scale=diagonal, scale_tril=tril)
        _ = self.batch_shape

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes = {"mean": self.mean.shape[:-1]}
        if self.scale is not None:
            shapes["scale"] = self.scale.shape[:-1]
        if self.scale_tril is not None:
            shapes["scale_tril"] = self.scale_tril.shape[:-2]
        return shapes

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return broadcast_shape(**self._parameter_shapes())

    @property
    def dim(self) -> int:
        return int(self.mean.shape[-1])

    @property
    def parameter(self) -> Floats | None:
        """The parameter of the family, as `StudentT.df`; None where it has none."""
        return None

    @property
    @abstractmethod
    def _log_base(self) -> Floats:
        """Log of the normalising constant for a scale of 1; of the shape of `parameter`, if any."""

    @cached_property
    def _components(self) -> Components:
        return Components(
            log_weight=np.zeros(1),
            mean=self.mean[..., None, :],
            scale=None if self.scale is None else self.scale[..., None, :],
            scale_tril=None if self.scale_tril is None else self.scale_tril[..., None, :, :],
            radial=self.radial,
            log_base=self._log_base[..., None],
            df=None if self.parameter is None else self.parameter[..., None],
        )

    def _log_det(self) -> Floats:
        """Log determinant of the scale."""
        diagonal = self.scale
        if diagonal is None:
            assert self.scale_tril is not None
            diagonal = np.diagonal(self.scale_tril, axis1=-2, axis2=-1)
        return np.asarray(np.log(diagonal).sum(axis=-1))


def _same_dim(location: Floats, scale: Floats, name: str) -> None:
    if scale.shape[-1] != location.shape[-1]:
        raise InvalidInputError(
            f"mean and {name} must have last axes of one length, got shapes {location.shape} "
            f"and {scale.shape}"
        )


class Gaussian(LocationScale):
    """Normal distribution, with diagonal or full covariance.

    Parameters
    ----------
    mean : array_like, shape (..., D)
        Mean; a scalar stands for one coordinate.
    scale : array_like, shape (..., D) or scalar, optional
        Standard deviations. Exactly one of ``scale``, ``cov`` and ``scale_tril`` is given.
    cov : array_like, shape (..., D, D), optional
        Covariance matrices.
    scale_tril : array_like, shape (..., D, D), optional
        Their lower Cholesky factors.

    Raises
    ------
    InvalidInputError
        Shapes that disagree, entries that are not finite, scales that are not positive.
    NotPositiveDefiniteError
        A ``cov`` that is not symmetric (to 1e-8 relative) or not positive definite.

    Examples
    --------
    >>> import fastelbo as fe
    >>> q = fe.Gaussian([[0.0, 1.0], [2.0, 3.0]], scale=0.5)
    >>> q.batch_shape, q.dim
    ((2,), 2)
    """

    family = "gaussian"
    radial = GAUSSIAN

    def __init__(
        self,
        mean: ArrayLike,
        *,
        scale: ArrayLike | None = None,
        cov: ArrayLike | None = None,
        scale_tril: ArrayLike | None = None,
    ) -> None:
        given = [
            name
            for name, value in (("scale", scale), ("cov", cov), ("scale_tril", scale_tril))
            if value is not None
        ]
        if len(given) != 1:
            raise InvalidInputError(
                "exactly one of scale, cov and scale_tril is expected, got "
                + (" and ".join(given) or "none")
            )
        if cov is not None:
            scale_tril = cholesky(as_floats(cov, "cov"), "cov")
        self._set_location_scale(mean, scale, scale_tril)

    @property
    def _log_base(self) -> Floats:
        return np.asarray(-0.5 * self.dim * _LOG_2PI)

    @property
    def cov(self) -> Floats:
        """Covariance matrices, shape (..., D, D)."""
        with np.errstate(over="ignore", under="ignore"):
            if self.scale is not None:
                cov = np.zeros((*self.scale.shape, self.dim))
                np.einsum("...dd->...d", cov)[...] = self.scale**2
                return cov
            assert self.scale_tril is not None
            return np.asarray(self.scale_tril @ np.swapaxes(self.scale_tril, -1, -2))

    def entropy(self) -> Floats:
        """Differential entropy in nats, ``D/2 (1 + log 2 pi) + log det S``; shape `batch_shape`."""
        value = 0.5 * self.dim * (1.0 + math.log(2.0 * math.pi)) + self._log_det()
        return np.array(np.broadcast_to(value, self.batch_shape))


class StudentT(LocationScale):
    """Multivariate t distribution, as `scipy.stats.multivariate_t`: one chi-square a draw.

    Parameters
    ----------
    df : array_like, shape (...)
        Degrees of freedom, at least 0.1; inf for the Gaussian limit.
    mean : array_like, shape (..., D)
        Location (the mean where ``df > 1``).
    scale : array_like, shape (..., D) or scalar, optional
        Square roots of the diagonal of the shape matrix.
    scale_tril : array_like, shape (..., D, D), optional
        Lower Cholesky factor of the shape matrix; exactly one of the two is given.

    Raises
    ------
    InvalidInputError
        As for `Gaussian`, and for ``df`` below 0.1, whose draws leave the range of floats.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.StudentT(5.0, [0.0, 0.0], scale=2.0)
    StudentT(dim=2, batch_shape=())
    """

    family = "student_t"
    radial = STUDENT_T
    df: Floats

    def __init__(
        self,
        df: ArrayLike,
        mean: ArrayLike,
        *,
        scale: ArrayLike | None = None,
        scale_tril: ArrayLike | None = None,
    ) -> None:
        if (scale is None) == (scale_tril is None):
            raise InvalidInputError("exactly one of scale and scale_tril is expected")
        freedom = np.array(as_unchecked_floats(df, "df"))
        # Infinite degrees of freedom stand for the Gaussian.
        require_finite(np.where(freedom == np.inf, 1.0, freedom), "df")
        if (freedom < LEAST_DF).any():
            raise InvalidInputError(f"df must be at least {LEAST_DF}, got {freedom.min()}")
        self._set(df=freedom)
        self._set_location_scale(mean, scale, scale_tril)

    @property
    def parameter(self) -> Floats:
        """The degrees of freedom."""
        return self.df

    @property
    def _log_base(self) -> Floats:
        return log_const(self.df, self.dim)

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"df": self.df.shape, **super()._parameter_shapes()}

    def entropy(self) -> Floats:
        """Differential entropy in nats; shape `batch_shape`.

        ``log det S - c + (df + D)/2 (digamma((df + D)/2) - digamma(df/2))``, c the log of the
        normalising constant (Kotz and Nadarajah, 2004, section 1.8).
        """
        value = self._log_det() - self._log_base + entropy_excess(self.df, self.dim)
        return np.array(np.broadcast_to(value, self.batch_shape))
