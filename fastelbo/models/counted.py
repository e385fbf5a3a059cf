"""log p(x, z) of a model without a batch, at given points, counted."""

from __future__ import annotations

import numpy as np

from ..errors import InvalidInputError
from ..validation import Floats, shown
from .joint import log_joint_of
from .protocol import ExactModel, LatentModel


class CountedJoint:
    """log p(x, z) at points (n, D), and at how many points it was computed.

    It is -inf at points that are not finite.
    """

    def __init__(self, model: LatentModel) -> None:
        self.model, self.dim = model, model.dim
        self.evaluations = 0

    def __call__(self, z: Floats) -> Floats:
        inside = np.isfinite(z).all(axis=-1)
        if inside.all():
            self.evaluations += len(z)
            return log_joint_of(self.model, z)
        values = np.full(len(z), -np.inf)
        if inside.any():
            values[inside] = self(z[inside])
        return values

    def at(self, z: Floats) -> float:
        """Its value at one point (D,)."""
        return float(self(z[None])[0])


def single_model(model: object) -> LatentModel:
    """The model, after a check that it has draws, and one data point without an axis."""
    if isinstance(model, ExactModel):
        raise InvalidInputError(
            f"model must have draws, got {shown(model)}: its latent variable is summed exactly, "
            "and needs no approximation"
        )
    if isinstance(model, type) or not isinstance(model, LatentModel):
        raise InvalidInputError(f"model must be a Model or a distribution, got {shown(model)}")
    if model.batch_shape:
        raise InvalidInputError(
            f"model must have no batch of data points, got batch_shape {model.batch_shape}: each "
            "data point has a posterior of its own. Data that share one z belong into params= of "
            "a Model; of others, make a model of each data point"
        )
    return model
