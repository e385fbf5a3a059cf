"""Curvature of log p(x, z) at a point, by central differences of steps that fit it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..validation import Floats, Integers
from .counted import CountedJoint

# The drop of log p(x, z), in nats, at the end of a step: small beside 1, so that the series may be
# truncated, and large beside rounding, in single precision too.
_DROP = 1e-3
_NEAR = 5.0
_MOST_TRIES = 10
# Pairs of coordinates in one call.
_PAIRS = 2**12


class Curvature(NamedTuple):
    """Gradient (D,) and minus the Hessian (D, D) of log p(x, z); NaN where it is not finite."""

    gradient: Floats
    precision: Floats


def curvature(joint: CountedJoint, z: Floats, value: float, scale: Floats) -> Curvature:
    """Differences in 2 D^2 points or a few more. ``scale`` is a first guess of the steps."""
    steps, above, below = _steps(joint, z, value, 0.05 * scale)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        gradient = (above - below) / (2.0 * steps)
        second = 2.0 * value - above - below
        precision = np.diag(second / steps**2)
        first, other = np.triu_indices(len(z), 1)
        for lo in range(0, len(first), _PAIRS):
            i, j = first[lo : lo + _PAIRS], other[lo : lo + _PAIRS]
            mixed = -_mixed(joint, z, i, j, steps) / (4.0 * steps[i] * steps[j])
            precision[i, j] = precision[j, i] = mixed
    return Curvature(gradient, precision)


def _mixed(joint: CountedJoint, z: Floats, i: Integers, j: Integers, steps: Floats) -> Floats:
    """Mixed differences of pairs of coordinates."""
    total = np.zeros(len(i))
    rows = np.arange(len(i))
    for sign in (1.0, -1.0):
        points = np.tile(z, (2, len(i), 1))
        points[0, rows, i] += steps[i]
        points[0, rows, j] += sign * steps[j]
        points[1, rows, i] -= steps[i]
        points[1, rows, j] -= sign * steps[j]
        same, opposite = joint(points.reshape(-1, len(z))).reshape(2, -1)
        total += sign * (same + opposite)
    return total


def _steps(
    joint: CountedJoint, z: Floats, value: float, guess: Floats
) -> tuple[Floats, Floats, Floats]:
    """Steps that change log p(x, z) by about `_DROP`, and its values on both sides."""
    steps = np.array(guess)
    above, below = np.full(len(z), np.nan), np.full(len(z), np.nan)
    todo = np.arange(len(z))
    for attempt in range(_MOST_TRIES):
        moves = np.zeros((len(todo), len(z)))
        moves[np.arange(len(todo)), todo] = steps[todo]
        above[todo], below[todo] = joint(np.concatenate([z + moves, z - moves])).reshape(2, -1)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            drop = abs(value - 0.5 * (above[todo] + below[todo]))
            factor = np.clip(np.sqrt(_DROP / drop), 1e-2, 1e2)
        factor = np.where(np.isfinite(drop), factor, 0.03)
        open_ = abs(np.log(factor)) > np.log(_NEAR) / 2.0
        todo, factor = todo[open_], factor[open_]
        # A step must be seen in z, and no coordinate overflows.
        wanted = np.clip(steps[todo] * factor, 1e-12 * (1.0 + abs(z[todo])), 1e100)
        moved = wanted != steps[todo]
        todo = todo[moved]
        if not len(todo) or attempt == _MOST_TRIES - 1:
            break
        steps[todo] = wanted[moved]
    return steps, above, below
