"""Gaussian and Student-t distributions: a location and a scale, diagonal or triangular."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_floats, as_unchecked_floats
from ..caching import cached_property
from ..errors import InvalidInputError
from ..kernels.draws.radial import GAUSSIAN, STUDENT_T
from ..validation import (
    MAX_DIM,
    Floats,
    broadcast_shape,
    positive,
    require_finite,
    square_matrices,
)
from . import lowering
from .distributions import Elliptical
from .lowering import Components
from .scales import (
    diagonal_matrices,
    require_one,
    scale_share,
    student_tril,
    tril_of_cov,
    tril_of_inverse,
)
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
            if diagonal.shape[-1:] in ((), (1,)):
                diagonal = np.array(np.broadcast_to(diagonal, (*diagonal.shape[:-1], dim)))
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

    @property
    @np.errstate(over="ignore", under="ignore")
    def _scale_matrix(self) -> Floats:
        """S S' of the scale S, shape (..., D, D)."""
        if self.scale is not None:
            return diagonal_matrices(self.scale**2)
        assert self.scale_tril is not None
        return np.asarray(self.scale_tril @ np.swapaxes(self.scale_tril, -1, -2))

    def _moments(self) -> tuple[Floats, Floats]:
        """Mean (..., D) and covariance (..., D, D), NaN where they do not exist."""
        return self.mean, self._scale_matrix

    def _log_det(self) -> Floats:
        """Log determinant of the scale."""
        diagonal = self.scale
        if diagonal is None:
            assert self.scale_tril is not None
            diagonal = np.diagonal(self.scale_tril, axis1=-2, axis2=-1)
        return np.asarray(np.log(diagonal).sum(axis=-1))


def _same_dim(location: Floats, scale: Floats, name: str) -> None:
    if scale.shape[-1] != location.shape[-1]:
        remedy = ""
        if scale.shape == location.shape[:-1]:
            remedy = f"; {name}[..., None] has one scale for each member of the batch"
        raise InvalidInputError(
            f"mean and {name} must have last axes of one length, got shapes {location.shape} "
            f"and {scale.shape}{remedy}"
        )


class Gaussian(LocationScale):
    """Normal distribution, with diagonal or full covariance.

    Parameters
    ----------
    mean : array_like, shape (..., D)
        Mean; a scalar stands for one coordinate.
    scale : array_like, shape (..., D), (..., 1) or scalar, optional
        Standard deviations. Exactly one of ``scale``, ``cov``, ``precision`` and ``scale_tril`` is
        given.
    cov : array_like, shape (..., D, D), optional
        Covariance matrices.
    precision : array_like, shape (..., D, D), optional
        Inverses of the covariance matrices.
    scale_tril : array_like, shape (..., D, D), optional
        Lower Cholesky factors of the covariance matrices.

    Raises
    ------
    InvalidInputError
        Shapes that disagree, entries that are not finite, scales that are not positive.
    NotPositiveDefiniteError
        A ``cov`` or ``precision`` that is not symmetric or not positive definite. An entry may
        differ from its mirror image by sqrt(eps) of the largest entry, with eps the machine epsilon
        of its dtype: 1.5e-8 for float64, 3.5e-4 for float32. The mean of the two is taken.

    Notes
    -----
    The last axis of ``scale`` is always the coordinates, as NumPy broadcasts it against ``mean``.
    For C spherical components, with a mean of shape (C, D), it has shape (C, 1). A shape of (C,) is
    an error, or for C = D it is one scale for each coordinate.

    Parameters may be what an encoder returns: tensors of torch, which are detached, and arrays of
    JAX, of any float type, bfloat16 too. They are copied, as float64.

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
        precision: ArrayLike | None = None,
        scale_tril: ArrayLike | None = None,
    ) -> None:
        require_one(scale=scale, cov=cov, precision=precision, scale_tril=scale_tril)
        if cov is not None:
            scale_tril = tril_of_cov(cov)
        if precision is not None:
            scale_tril = tril_of_inverse(precision)
        self._set_location_scale(mean, scale, scale_tril)

    @property
    def _log_base(self) -> Floats:
        return np.asarray(-0.5 * self.dim * _LOG_2PI)

    @property
    def cov(self) -> Floats:
        """Covariance matrices, shape (..., D, D)."""
        return self._scale_matrix

    @property
    @np.errstate(over="ignore", under="ignore")
    def precision(self) -> Floats:
        """Inverses of the covariance matrices, shape (..., D, D)."""
        if self.scale is not None:
            return diagonal_matrices((1.0 / self.scale) ** 2)
        inverse = lowering.finite_inverse(self.scale_tril)
        return np.asarray(np.swapaxes(inverse, -1, -2) @ inverse)

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
    scale : array_like, shape (..., D), (..., 1) or scalar, optional
        Square roots of the diagonal of a diagonal scale matrix; shapes are as for `Gaussian`.
    cov : array_like, shape (..., D, D), optional
        Covariance matrices. They are not the scale matrices: those are ``cov (df - 2) / df``. A
        Student-t has a covariance only for ``df > 2``.
    scale_tril : array_like, shape (..., D, D), optional
        Lower Cholesky factors of the scale matrices, which SciPy calls ``shape``. Exactly one of
        ``scale``, ``cov`` and ``scale_tril`` is given.

    Raises
    ------
    InvalidInputError
        As for `Gaussian`; for ``df`` below 0.1, whose draws leave the range of floats; and for
        ``cov`` with ``df`` up to 2.
    NotPositiveDefiniteError
        As for `Gaussian`.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.StudentT(5.0, [0.0, 0.0], scale=2.0)
    StudentT(dim=2, batch_shape=())

    A covariance of 2 and 4 degrees of freedom make a scale matrix of 1:

    >>> t = fe.StudentT(4.0, [0.0], cov=[[2.0]])
    >>> round(float(t.cov[0, 0]), 6), round(float(t.log_prob([0.0])), 6)
    (2.0, -0.980829)
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
        cov: ArrayLike | None = None,
        scale_tril: ArrayLike | None = None,
    ) -> None:
        require_one(scale=scale, cov=cov, scale_tril=scale_tril)
        freedom = np.array(as_unchecked_floats(df, "df"))
        # Infinite degrees of freedom stand for the Gaussian.
        require_finite(np.where(freedom == np.inf, 1.0, freedom), "df")
        if (freedom < LEAST_DF).any():
            raise InvalidInputError(f"df must be at least {LEAST_DF}, got {freedom.min()}")
        if cov is not None:
            scale_tril = student_tril(cov, freedom)
        self._set(df=freedom)
        self._set_location_scale(mean, scale, scale_tril)

    @property
    def parameter(self) -> Floats:
        """The degrees of freedom."""
        return self.df

    @property
    def cov(self) -> Floats:
        """Covariance matrices, shape (..., D, D): df / (df - 2) scale matrices, NaN to df = 2."""
        return self._moments()[1]

    def _moments(self) -> tuple[Floats, Floats]:
        df = self.df[..., None]
        mean = np.where(df > 1.0, self.mean, np.nan)
        with np.errstate(over="ignore", under="ignore"):
            return mean, np.asarray(self._scale_matrix / scale_share(df[..., None]))

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
