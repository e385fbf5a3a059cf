"""Gradients of log p(x, z) at one point: those that a model has, or central differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import InvalidInputError
from ..validation import Floats
from .called import CalledDensity
from .counted import CountedJoint
from .host import HostDensity
from .slopes import log_joint_and_gradient

# Steps of differences, in units in which log p(x, z) changes by about 1: the error of the truncated
# series and that of rounding are far below what a search needs.
_STEP = 1e-4

# (value, gradient (D,)) at one point (D,).
Gradient = Callable[[Floats], tuple[float, Floats]]


def differences(joint: CountedJoint, z: Floats, scale: Floats) -> tuple[float, Floats]:
    """log p(x, z) and its gradient by central differences, in one call of 1 + 2 D points.

    At the edge of the support, the difference is that to the point inside.
    """
    steps = np.diag(_STEP * scale)
    values = joint(np.concatenate([z[None], z + steps, z - steps]))
    value, sides = float(values[0]), values[1:].reshape(2, -1)
    with np.errstate(invalid="ignore"):
        above, below = (np.where(np.isfinite(side), side, np.nan) for side in sides)
        central = 0.5 * (above - below)
        one_sided = np.where(np.isnan(above), value - below, above - value)
        slope = np.where(np.isnan(central), one_sided, central)
    return value, np.where(np.isfinite(slope), slope, 0.0) / (_STEP * scale)


def known_gradient(joint: CountedJoint) -> Gradient | None:
    """The gradient of a user's model, if it has one. A call counts as one point."""
    model = joint.model
    if not any(map(_has_gradient, (model.likelihood, model.prior))):
        return None

    def both(z: Floats) -> tuple[float, Floats]:
        joint.evaluations += 1
        if not np.isfinite(z).all():
            return -np.inf, np.zeros(len(z))
        value, slope = log_joint_and_gradient(model, z)
        return float(value), np.where(np.isfinite(slope), slope, 0.0)

    return both


def _has_gradient(density: object) -> bool:
    """Whether a function of the user's has a gradient: its own, or that of its library."""
    if isinstance(density, HostDensity):
        return density.has_gradient
    if not isinstance(density, CalledDensity):
        return False
    try:
        _ = density._gradient_call
    except InvalidInputError:
        return False
    return True
