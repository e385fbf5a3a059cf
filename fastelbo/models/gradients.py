"""Gradients of log p(x, z): those of Stan, torch and JAX, or central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..optional import optional
from ..validation import Floats
from .counted import CountedJoint
from .host import HostDensity
from .stan import StanDensity

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
    """The gradient that the model's library computes, if it does. A call counts as one point."""
    model = joint.model
    own = _gradient_of(model.likelihood)
    if own is None:
        return None
    flat = bool(getattr(model, "is_joint", False))

    def both(z: Floats) -> tuple[float, Floats]:
        joint.evaluations += 1
        value, slope = own(z)
        if flat:
            return value, slope
        prior = _Prior(model)
        steps = np.maximum(1.0, abs(z))
        log_prior, change = differences(prior, z, steps)
        return value + log_prior, slope + change

    return both


class _Prior(CountedJoint):
    """The prior alone, for differences that cost nothing beside the likelihood."""

    def __call__(self, z: Floats) -> Floats:
        return np.asarray(self.model.prior.log_prob(z))  # type: ignore[attr-defined]


def _gradient_of(density: Any) -> Gradient | None:
    if isinstance(density, StanDensity):
        return _of_stan(density)
    kind = type(getattr(density, "_arrays", None)).__name__
    if isinstance(density, HostDensity) and kind == "Torch":
        return _of_torch(density)
    if isinstance(density, HostDensity) and kind == "Jax":
        return _of_jax(density)
    return None


def _of_stan(density: StanDensity) -> Gradient | None:
    function = getattr(density.function, "log_density_gradient", None)
    if function is None:
        return None

    def gradient(z: Floats) -> tuple[float, Floats]:
        try:
            value, slope = function(np.array(z), propto=False, jacobian=True)
        except RuntimeError:  # as where a Stan program rejects z
            return float("nan"), np.zeros(len(z))
        return float(value), np.asarray(slope, dtype=np.float64)

    return gradient


def _of_torch(density: HostDensity) -> Gradient:
    torch = optional("torch", 'array_namespace="torch"', "torch")
    device = getattr(density._arrays, "_device", None)

    def gradient(z: Floats) -> tuple[float, Floats]:
        rows = torch.from_numpy(np.array(z)[None]).to(device)
        rows.requires_grad_(True)
        with torch.enable_grad():
            value = density.function(rows).sum()
            (slope,) = torch.autograd.grad(value, rows)
        return float(value.detach()), slope[0].cpu().double().numpy()

    return gradient


def _of_jax(density: HostDensity) -> Gradient:
    jax = optional("jax", 'array_namespace="jax"', "jax")
    summed = jax.jit(jax.value_and_grad(lambda rows: density.function(rows).sum()))

    def gradient(z: Floats) -> tuple[float, Floats]:
        value, slope = summed(jax.numpy.asarray(z[None]))
        return float(value), np.asarray(slope[0], dtype=np.float64)

    return gradient
