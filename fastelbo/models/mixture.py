"""Finite mixtures."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_floats
from ..errors import InvalidInputError
from ..validation import (
    Floats,
    broadcast_shape,
    probabilities,
)
from .distributions import Elliptical
from .location_scale import LocationScale
from .lowering import Components


class Mixture(Elliptical):
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
    components: LocationScale

    def __init__(self, weights: ArrayLike, components: LocationScale) -> None:
        if not isinstance(components, LocationScale):
            raise InvalidInputError(
                "components must be a batch of a location-scale distribution, such as a Gaussian "
                f"or StudentT; got {type(components).__name__}"
            )
        shares = probabilities(as_floats(weights, "weights"), "weights")
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
            log_weight,
            mean,
            counted(own.scale, 1),
            counted(own.scale_tril, 2),
            own.radial,
            np.atleast_1d(own._log_base),
            counted(own.parameter, 0),
        )
