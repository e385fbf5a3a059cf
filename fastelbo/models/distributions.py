"""Distributions: frozen, validated when made; the last axis is the event, leading ones a batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.devices import adopt, device_of, on_device, room_for
from ..arrays.inputs import as_unchecked_floats, constant
from ..arrays.protocols import DeviceFloats, ForeignArray
from ..caching import cached_property
from ..errors import InvalidInputError
from ..frozen import Frozen
from ..kernels.cpu import launch
from ..kernels.draws.blocks import Density, Sampler, Term
from ..random import RandomState, philox_key
from ..validation import (
    MAX_DRAWS,
    Floats,
    as_count,
    require_finite,
    require_memory,
)
from . import lowering
from .joint import by_member
from .lowering import Components
from .nets import Design, new_design
from .protocol import Frame, Points, Source
from .sampling import DEFAULT_REPLICATES, DEFAULT_TRANSFORM, Sampling, as_sampling
from .terms import Zero


class Distribution(Frozen, ABC):
    """A distribution over vectors of length `dim`, or a batch of them."""

    family: ClassVar[str]

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


class Elliptical(Distribution):
    """A mixture, often of one component, of location-scale components of one elliptical family."""

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

    def log_joint(self, z: ArrayLike) -> Floats:
        """Log density at ``z``, as the log joint density of the model that it is: `log_prob`."""
        return self.log_prob(z)

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
            If the last axis is not `dim` long, the axes do not broadcast, z is not finite, or the
            terms of a scaled distance overflow with opposite signs.
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
        points, shape, batch = by_member(given, self.dim, self.batch_shape)
        known = self._lowered(batch) if batch else self._lowered_alone
        result = launch.log_prob(*known, points).reshape(shape)
        if np.isnan(result).any():
            require_finite(given, "z")
            # A difference of a point and a location overflowed: in quarters it does not.
            quarter = self._lowered(batch, 0.25)
            with np.errstate(under="ignore"):
                points = 0.25 * points
            result = launch.log_prob(*quarter, points).reshape(shape)
            lost = np.isnan(result)
            if lost.any():
                raise InvalidInputError(
                    f"z must not be so far from the mean, in units of a scale, that the terms of "
                    f"the distance overflow, as they do for {lost.sum()} of {lost.size} points"
                )
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

    @cached_property
    def _lowered_alone(self) -> tuple[Density, Floats]:
        """The density without a batch."""
        return self._lowered(())

    def _lowered(self, batch: tuple[int, ...], unit: float = 1.0) -> tuple[Density, Floats]:
        """The density of every member of a batch, and the centre that it is relative to.

        The density takes points in other units, which are ``unit`` times as large.
        """
        components, points = self._components.times(unit), Points(batch)
        centre = lowering.exact_centre(components, points)
        density = lowering.density(components, points, Frame(centre, None, None))
        return density, constant(centre)

    def sample(
        self,
        n: int,
        rng: RandomState = None,
        *,
        sampler: str = "iid",
        replicates: int = DEFAULT_REPLICATES,
        transform: str = DEFAULT_TRANSFORM,
    ) -> Floats:
        """Draws, independent or quasi-random.

        Parameters
        ----------
        n : int
            Number of draws for each member of the batch. For "sobol", ``replicates`` times a power
            of two.
        rng : None, int, SeedSequence or Generator
            An int repeats the draws, a Generator advances.
        sampler : {"iid", "sobol"}
            "iid" makes independent draws. "sobol" makes quasi-random ones, of ``replicates``
            randomly scrambled Sobol sequences: draws of one sequence fill space evenly, and depend
            on each other.
        replicates, transform
            Number of sequences, and how their points become normals, as for `fastelbo.estimate`.

        Returns
        -------
        ndarray, shape (n, *batch_shape, D), or (replicates, n / replicates, *batch_shape, D)
            The draws that `fastelbo.estimate` makes for the same seed, draw by draw; for "sobol",
            those of ``rotate=False``.

        Examples
        --------
        >>> import fastelbo as fe
        >>> q = fe.Gaussian([0.0, 5.0], scale=1.0)
        >>> q.sample(3, rng=0).shape, q.sample(64, rng=0, sampler="sobol").shape
        ((3, 2), (16, 4, 2))
        """
        return self._draws(n, rng, as_sampling(sampler, replicates, transform, False))[0]

    def _draws(
        self, n: int, rng: RandomState, sampling: Sampling
    ) -> tuple[Floats, int, Design | None]:
        """The draws, the key that their addresses begin with, and the design of their points."""
        n = as_count(n, "n", least=0, below=MAX_DRAWS)
        batch, points, key = self.batch_shape, Points(self.batch_shape), philox_key(rng)
        require_memory("sample", 8 * n * math.prod(batch) * self.dim)
        sampler, design = self._sampler(points), None
        own: tuple[int, ...] = (n,)
        if sampling.replicated:
            n = sampling.draws(n, "n")
            design = new_design(self, batch, n, sampling.replicates, sampling.transform, key)
            sampler, own = design.sampler(sampler, points), (design.replicates, -1)
        draws = launch.sample(sampler, math.prod(batch), n, self.dim, key)
        return draws.reshape(*own, *batch, self.dim), key, design

    def _sampler(self, points: Points) -> Sampler:
        """The sampler of independent draws."""
        return lowering.draw_components(self._components, points, np.zeros((1, self.dim)))
