"""log p(x, z) of a model at given z, for any model with draws."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_unchecked_floats
from ..errors import InvalidInputError
from ..validation import Floats, broadcast_shape
from .protocol import LatentModel, PointwiseDensity


def log_joint_of(model: LatentModel, z: ArrayLike) -> Floats:
    """log p(x | z) + log p(z), of shape ``broadcast(z.shape[:-1], model.batch_shape)``."""
    points = as_unchecked_floats(z, "z")
    likelihood, prior = _pointwise(model.likelihood), _pointwise(model.prior)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(likelihood.log_prob(points) + prior.log_prob(points))


def _pointwise(density: object) -> PointwiseDensity:
    if not isinstance(density, PointwiseDensity):
        raise InvalidInputError(
            f"log_joint needs densities that are known at any z, not those of a "
            f"{type(density).__name__}"
        )
    return density


def by_member(
    points: Floats, dim: int, batch: tuple[int, ...]
) -> tuple[Floats, tuple[int, ...], tuple[int, ...]]:
    """Points z (..., D), as (M, members, D); the shape of values at them; the members' batch.

    The axes of z beyond the batch are free: each member of the batch has points of its own.
    """
    if points.ndim == 0 or points.shape[-1] != dim:
        raise InvalidInputError(
            f"z must have a last axis of length {dim}, got shape {points.shape}"
        )
    shape = broadcast_shape(z=points.shape[:-1], batch_shape=batch)
    free = len(shape) - len(batch)
    spread = np.broadcast_to(points, (*shape, dim))
    members = math.prod(shape[free:])
    return spread.reshape(math.prod(shape[:free]), members, dim), shape, shape[free:]
