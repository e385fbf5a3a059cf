"""Distributions: frozen, validated when made; the last axis is the event, leading ones a batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma, entr

from ..arrays.devices import adopt, device_of, on_device, room_for
from ..arrays.inputs import constant
from ..arrays.protocols import DeviceFloats, ForeignArray
from ..errors import InvalidInputError
from ..kernels.cpu import launch
from ..kernels.draws.blocks import Density, Term
from ..random import RandomState, philox_key
from ..validation import (
    MAX_DIM,
    MAX_DRAWS,
    Floats,
    Integers,
    as_count,
    as_floats,
    as_unchecked_floats,
    broadcast_shape,
    cholesky,
    positive,
    probabilities,
    require_finite,
    require_memory,
    square_matrices,
)
from . import lowering
from .lowering import Components
from .protocol import Frame, Points, Source
from .terms import Zero

# Below, a chi-square draw can fall under the smallest float, and the draws are no longer Student's.
LEAST_DF = 0.1


class Distribution(ABC):
    """A distribution over vectors of length `dim`, or a batch of them."""

    family: ClassVar[str]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def _set(self, **fields: Any) -> None:
        """Fill the fields of a new instance, arrays made read-only."""
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    @property
    @abstractmethod
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch: () for a single distribution."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of the event, the last axis."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dim={self.dim}, batch_shape={self.batch_shape})"


class _Continuous(Distribution):
    """What Gaussian, StudentT and Mixture share: they are mixtures of location-scale components."""

    @property
    @abstractmethod
    def _components(self) -> Components:
        """The components, a single one where the distribution is not a mixture."""

    # A distribution is a model: itself the prior, and likelihood 1.
    @property
    def prior(self) -> Self:
        """The distribution itself, as the prior of the model that it is."""
        return self

    @property
    def likelihood(self) -> Zero:
        """Log density 0, as the likelihood of the model that it is."""
        return Zero(self.dim)

    @property
    def work(self) -> int:
        """Multiply-adds of one log density, about."""
        return int(self._components.log_weight.shape[-1] * self.dim**2)

    def term(self, points: Points, frame: Frame) -> Term:
        """The density of some data points as the kernels take it; see `models.protocol`."""
        return lowering.elliptical_term(lowering.density(self._components, points, frame))

    def source(self, points: Points) -> Source:
        """The draws of some data points as the kernels take them; see `models.protocol`."""
        return lowering.source(self._components, points)

    @overload
    def log_prob(self, z: ArrayLike) -> Floats: ...
    @overload
    def log_prob(self, z: ForeignArray) -> DeviceFloats: ...
    def log_prob(self, z: ArrayLike | ForeignArray) -> Floats | DeviceFloats:
        """Log density at ``z``, in nats.

        Parameters
        ----------
        z : array_like, shape (..., D)
            Points; the leading axes broadcast against `batch_shape`. An array on a GPU (CuPy,
            torch, JAX, numba), C-contiguous and of shape (..., *batch_shape, D), is read in place
            and not checked: where it is not finite the result is NaN or -inf.

        Returns
        -------
        ndarray
            Shape ``broadcast(z.shape[:-1], batch_shape)``. For z on a GPU a float64 array of
            numba's there, which ``cupy.asarray(a)`` and ``torch.as_tensor(a, device="cuda")`` take
            without a copy, and JAX by way of CuPy, ``jax.dlpack.from_dlpack(cupy.asarray(a))``.

        Raises
        ------
        InvalidInputError
            If the last axis is not `dim` long, the axes do not broadcast, or z is not finite.
        DeviceMemoryError
            If the result has no room on the GPU.

        Examples
        --------
        >>> import fastelbo as fe
        >>> float(fe.Gaussian([0.0, 0.0], scale=1.0).log_prob([0.0, 0.0]))
        -1.8378770664093453
        """
        if on_device(z):
            return self._log_prob_on_device(z)
        given = as_unchecked_floats(z, "z")
        if given.ndim == 0 or given.shape[-1] != self.dim:
            raise InvalidInputError(
                f"z must have a last axis of length {self.dim}, got shape {given.shape}"
            )
        batch = self.batch_shape
        shape = broadcast_shape(z=given.shape[:-1], batch_shape=batch)
        # The axes of z beyond the batch are free: each member of the batch has points of its own.
        free = len(shape) - len(batch)
        points = np.broadcast_to(given, (*shape, self.dim))
        points = points.reshape(math.prod(shape[:free]), math.prod(shape[free:]), self.dim)
        result = launch.log_prob(*self._lowered(shape[free:]), points).reshape(shape)
        if np.isnan(result).any():
            require_finite(given, "z")
        return result

    def _log_prob_on_device(self, z: Any) -> DeviceFloats:
        from ..kernels.cuda import launch as cuda_launch

        batch = self.batch_shape
        free, own = tuple(z.shape[: -1 - len(batch)]), (*batch, self.dim)
        if tuple(z.shape) != free + own:
            raise InvalidInputError(
                f"z on a device must be of shape (..., {', '.join(map(str, own))}), got shape "
                f"{tuple(z.shape)}"
            )
        with device_of(z):
            points = adopt(z, "z").reshape(math.prod(free), math.prod(batch), self.dim)
            with room_for(8 * math.prod(free + batch), "the log densities"):
                result = cuda_launch.log_prob(*self._lowered(batch), points)
            shaped: DeviceFloats = result.reshape(*free, *batch)
            return shaped

    def _lowered(self, batch: tuple[int, ...]) -> tuple[Density, Floats]:
        """The density of every member of a batch, and the centre that it is relative to."""
        components, points = self._components, Points(batch)
        centre = lowering.mixture_mean(components, points)
        density = lowering.density(components, points, Frame(centre, None, None))
        return density, constant(centre)

    def sample(self, n: int, rng: RandomState = None) -> Floats:
        """Independent draws.

        Parameters
        ----------
        n : int
            Number of draws for each member of the batch.
        rng : None, int, SeedSequence or Generator
            An int repeats the draws, a Generator advances.

        Returns
        -------
        ndarray, shape (n, *batch_shape, D)
            The draws that `fastelbo.estimate` makes for the same seed, draw by draw.

        Examples
        --------
        >>> import fastelbo as fe
        >>> fe.Gaussian([0.0, 5.0], scale=1.0).sample(3, rng=0).shape
        (3, 2)
        """
        n = as_count(n, "n", least=0, below=MAX_DRAWS)
        batch = self.batch_shape
        require_memory("sample", 8 * n * math.prod(batch) * self.dim)
        centre = np.zeros((1, self.dim))
        sampler = lowering.draw_components(self._components, Points(batch), centre)
        draws = launch.sample(sampler, math.prod(batch), n, self.dim, philox_key(rng))
        return draws.reshape(n, *batch, self.dim)


class _LocationScale(_Continuous):
    """A location and a scale, diagonal or lower triangular."""

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
    def _df(self) -> Floats | None:
        return None

    @cached_property
    def _components(self) -> Components:
        return Components(
            np.zeros(1),
            self.mean[..., None, :],
            None if self.scale is None else self.scale[..., None, :],
            None if self.scale_tril is None else self.scale_tril[..., None, :, :],
            None if self._df is None else self._df[..., None],
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


class Gaussian(_LocationScale):
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
    def cov(self) -> Floats:
        """Covariance matrices, shape (..., D, D)."""
        if self.scale is not None:
            return np.asarray(self.scale[..., None] ** 2 * np.eye(self.dim))
        assert self.scale_tril is not None
        return np.asarray(self.scale_tril @ np.swapaxes(self.scale_tril, -1, -2))

    def entropy(self) -> Floats:
        """Differential entropy in nats, ``D/2 (1 + log 2 pi) + log det S``; shape `batch_shape`."""
        value = 0.5 * self.dim * (1.0 + math.log(2.0 * math.pi)) + self._log_det()
        return np.array(np.broadcast_to(value, self.batch_shape))


class StudentT(_LocationScale):
    """Multivariate t distribution, as `scipy.stats.multivariate_t`: one chi-square a draw.

    Parameters
    ----------
    df : array_like, shape (...)
        Degrees of freedom, at least 0.1.
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
        freedom = as_floats(df, "df")
        if (freedom < LEAST_DF).any():
            raise InvalidInputError(f"df must be at least {LEAST_DF}, got {freedom.min()}")
        self._set(df=freedom)
        self._set_location_scale(mean, scale, scale_tril)

    @property
    def _df(self) -> Floats:
        return self.df

    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"df": self.df.shape, **super()._parameter_shapes()}

    def entropy(self) -> Floats:
        """Differential entropy in nats; shape `batch_shape`.

        ``log det S - c + (df + D)/2 (digamma((df + D)/2) - digamma(df/2))``, c the log of the
        normalising constant (Kotz and Nadarajah, 2004, section 1.8).
        """
        power = 0.5 * (self.df + self.dim)
        value = (
            self._log_det()
            - lowering.student_log_const(self.df, self.dim)
            + power * (digamma(power) - digamma(0.5 * self.df))
        )
        return np.array(np.broadcast_to(value, self.batch_shape))


class Mixture(_Continuous):
    """Finite mixture of Gaussian or Student-t components.

    Parameters
    ----------
    weights : array_like, shape (..., C)
        Component weights, summing to 1 within 1e-6 (then renormalised); zeros are allowed.
    components : Gaussian or StudentT
        A batch of components: the last axis of its ``batch_shape`` has length C.

    Raises
    ------
    InvalidInputError
        Weights that are negative or do not sum to 1, or a number of components that differs.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.Mixture([0.5, 0.5], fe.Gaussian([[-3.0], [3.0]], scale=1.0))
    Mixture(dim=1, batch_shape=(), components=2)
    """

    family = "mixture"
    weights: Floats
    components: Gaussian | StudentT

    def __init__(self, weights: ArrayLike, components: Gaussian | StudentT) -> None:
        if not isinstance(components, (Gaussian, StudentT)):
            raise InvalidInputError(
                f"components must be a Gaussian or StudentT, got {type(components).__name__}"
            )
        shares = probabilities(weights, "weights")
        batch = components.batch_shape
        if not batch or batch[-1] != shares.shape[-1]:
            raise InvalidInputError(
                f"components must have a batch whose last axis is the number of weights, "
                f"{shares.shape[-1]}; got batch_shape {batch}"
            )
        self._set(weights=shares, components=components)
        _ = self.batch_shape

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return broadcast_shape(
            weights=self.weights.shape[:-1], components=self.components.batch_shape[:-1]
        )

    @property
    def dim(self) -> int:
        return self.components.dim

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, components={self.weights.shape[-1]})"

    @cached_property
    def _components(self) -> Components:
        own, count = self.components, self.weights.shape[-1]

        def counted(array: Floats | None, event_axes: int) -> Floats | None:
            """The array with its component axis spelled out, which sharing may have left out."""
            if array is None:
                return None
            split = array.ndim - event_axes
            batch = np.broadcast_shapes(array.shape[:split], (count,))
            return np.broadcast_to(array, (*batch, *array.shape[split:]))

        mean = counted(own.mean, 1)
        assert mean is not None
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weights)
        return Components(
            log_weight, mean, counted(own.scale, 1), counted(own.scale_tril, 2), counted(own._df, 0)
        )


class Categorical(Distribution):
    """Distribution over C classes, the q of a `fastelbo.MixtureModel`.

    Parameters
    ----------
    probs : array_like, shape (..., C)
        Probabilities, summing to 1 within 1e-6 (then renormalised).

    Examples
    --------
    >>> import fastelbo as fe
    >>> float(fe.Categorical([0.5, 0.5]).entropy())
    0.6931471805599453
    """

    family = "categorical"
    probs: Floats

    def __init__(self, probs: ArrayLike) -> None:
        self._set(probs=probabilities(probs, "probs"))

    @classmethod
    def _of(cls, probs: Floats) -> Categorical:
        """Of probabilities that were computed, and need no check."""
        new = object.__new__(cls)
        new._set(probs=probs)
        return new

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.probs.shape[:-1]

    @property
    def dim(self) -> int:
        """1: the event is one class, whose number is below ``probs.shape[-1]``."""
        return 1

    def log_prob(self, z: ArrayLike) -> Floats:
        """Log probability of the classes ``z``, integers of shape (..., 1)."""
        classes = np.asarray(z)
        count = self.probs.shape[-1]
        if classes.dtype.kind not in "iu" or classes.ndim == 0 or classes.shape[-1] != 1:
            raise InvalidInputError(
                f"z must hold integers with a last axis of length 1, got {classes.dtype} of shape "
                f"{classes.shape}"
            )
        if classes.size and not (classes.min() >= 0 and classes.max() < count):
            raise InvalidInputError(
                f"z must be in 0 to {count - 1}, got {classes.min()} to {classes.max()}"
            )
        shape = broadcast_shape(z=classes.shape[:-1], batch_shape=self.batch_shape)
        chosen = np.take_along_axis(
            np.broadcast_to(self.probs, (*shape, count)),
            np.broadcast_to(classes, (*shape, 1)),
            axis=-1,
        )
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(chosen[..., 0]))

    def sample(self, n: int, rng: RandomState = None) -> Integers:
        """Draws of shape (n, *batch_shape, 1), by the integer choice that mixtures make."""
        n = as_count(n, "n", least=0, below=MAX_DRAWS)
        with np.errstate(divide="ignore"):
            limits = lowering.thresholds(np.log(self.probs))
        limits = limits.reshape(-1, self.probs.shape[-1])
        return launch.choose(constant(limits), n, philox_key(rng)).reshape(n, *self.batch_shape, 1)

    def entropy(self) -> Floats:
        """Entropy in nats, ``-sum p log p``; shape `batch_shape`."""
        return np.asarray(entr(self.probs).sum(axis=-1))
