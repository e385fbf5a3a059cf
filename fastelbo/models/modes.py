"""Modes of log p(x, z): a search by BFGS, from a start or from several, and the curvature there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import ModeError
from ..validation import Floats
from .counted import CountedJoint
from .curvature import Curvature, curvature
from .gradients import differences, known_gradient

# Searches from one start: each begins where the one before left off.
_MOST_SEARCHES = 12
# Of the gradient, in units in which log p(x, z) changes by about 1.
_GRADIENT = 1e-2
# A Newton step that would gain more is taken, and the curvature computed again.
_MOST_GAIN = 1e-2
# log p(x, z) must fall by a part of what its curvature says, at so many standard deviations.
_AWAY = 2.0
_LEAST_FALL = 0.01
_HIGHER = 1e-3
# Eigenvalues of the curvature, of coordinates whose own curvature is 1.
_LEAST_EIGENVALUE = 1e-8
# Two modes are one if each is so few standard deviations of the other away.
_SAME = 0.5


class Mode(NamedTuple):
    """A maximum of log p(x, z): where it is, its value, and minus the Hessian there."""

    location: Floats
    log_joint: float
    precision: Floats

    @property
    def log_evidence(self) -> float:
        """Laplace's approximation, up to ``D/2 log 2 pi``."""
        return self.log_joint - 0.5 * float(np.linalg.slogdet(self.precision)[1])


def find_mode(joint: CountedJoint, start: Floats) -> Mode:
    """The mode that a search from a start ends at; a `ModeError` if there is none."""
    z, value = np.array(start), joint.at(start)
    if not np.isfinite(value):
        raise ModeError(
            f"log p(x, z) is {value} at the start {_short(start)}: expected a start where it is "
            "finite"
        )
    for _ in range(_MOST_SEARCHES):
        scale = _scales(joint, z, value)
        z, value = _climb(joint, z, value, scale)
        if value == np.inf:
            break
        found = curvature(joint, z, value, scale)
        _require_finite(found, z)
        axes = _axes(found)
        if axes is None:
            z, value = _leave_saddle(joint, z, value, found)
            continue
        moved, moved_value, gain = _newton(joint, z, value, found)
        if moved_value >= value:
            z, value = moved, moved_value
        if gain > _MOST_GAIN:
            continue
        higher = _higher(joint, z, value, axes)
        if higher is None:
            return Mode(z, value, found.precision)
        z, value = higher
    raise ModeError(
        f"log p(x, z) still rises after {_MOST_SEARCHES} searches from {_short(start)}, at "
        f"{_short(z)}, where it is {value:g}: its mode seems to be at infinity, as that of a flat "
        "prior may be, or it has no maximum. Expected a proper posterior; another start may help"
    )


def distinct(modes: list[Mode]) -> list[Mode]:
    """The modes that differ, the highest first."""
    kept: list[Mode] = []
    for mode in sorted(modes, key=lambda each: -each.log_joint):
        if not any(_same(mode, other) for other in kept):
            kept.append(mode)
    return kept


def _same(one: Mode, other: Mode) -> bool:
    gap = one.location - other.location
    return bool(max(gap @ each.precision @ gap for each in (one, other)) < _SAME**2)


# --- a search ------------------------------------------------------------------------------------


def _scales(joint: CountedJoint, z: Floats, value: float) -> Floats:
    """Steps of the coordinates that change log p(x, z) by about 1, for the units of a search."""
    scale, todo = np.ones(len(z)), np.arange(len(z))
    for _ in range(8):
        moves = np.zeros((len(todo), len(z)))
        moves[np.arange(len(todo)), todo] = scale[todo]
        sides = joint(np.concatenate([z + moves, z - moves])).reshape(2, -1)
        with np.errstate(invalid="ignore", divide="ignore"):
            change = abs(sides - value)
            change = np.where(np.isfinite(change), change, 1e4).max(axis=0)
            factor = np.clip(1.0 / np.sqrt(change), 1e-2, 1e2)
        open_ = (change > 10.0) | (change < 0.1)
        todo, factor = todo[open_], factor[open_]
        if not len(todo):
            break
        scale[todo] = np.clip(scale[todo] * factor, 1e-9 * (1.0 + abs(z[todo])), 1e50)
    return scale


def _climb(joint: CountedJoint, z: Floats, value: float, scale: Floats) -> tuple[Floats, float]:
    """The end of a search by BFGS, or the start if that is higher."""
    from scipy.optimize import minimize

    known = known_gradient(joint)

    def negative(u: Floats) -> tuple[float, Floats]:
        point = z + scale * u
        if known is None:
            height, slope = differences(joint, point, scale)
        else:
            height, slope = known(point)
        # The line search bisects back to where log p(x, z) is finite.
        height = -np.inf if np.isnan(height) else height
        return -height, -scale * slope

    with np.errstate(all="ignore"):
        result = minimize(
            negative, np.zeros(len(z)), jac=True, method="BFGS", options={"gtol": _GRADIENT}
        )
    end = z + scale * result.x
    height = -float(result.fun)
    return (end, height) if height > value and np.isfinite(end).all() else (z, value)


@np.errstate(all="ignore")
def _newton(
    joint: CountedJoint, z: Floats, value: float, found: Curvature
) -> tuple[Floats, float, float]:
    """The point after a Newton step, halved until it is no worse; its value; the gain expected."""
    step = np.linalg.solve(found.precision, found.gradient)
    gain = 0.5 * float(step @ found.gradient)
    fractions = 0.5 ** np.arange(1 if gain <= _MOST_GAIN else 6)
    points = z + fractions[:, None] * step
    values = joint(points)
    best = int(np.argmax(np.where(np.isnan(values), -np.inf, values)))
    return points[best], float(values[best]), gain


# --- what a mode must be -------------------------------------------------------------------------


def _require_finite(found: Curvature, z: Floats) -> None:
    bad = ~(np.isfinite(found.precision).all(axis=0) & np.isfinite(found.gradient))
    if bad.any():
        where = ", ".join(map(str, np.flatnonzero(bad)[:5]))
        raise ModeError(
            f"log p(x, z) is NaN or infinite beside z = {_short(z)}, where the search for a mode "
            f"ended, in the direction of coordinate {where}: there is an edge of its support, or a "
            "region of NaN. Expected a density that is smooth at its mode; transform such a "
            "coordinate to the real line (its Jacobian belongs into log p), or try another start"
        )


@np.errstate(all="ignore")
def _axes(found: Curvature) -> Floats | None:
    """Principal axes (D, D), in rows, each of one standard deviation; None if there are none."""
    own = np.diag(found.precision)
    if (own <= 0.0).any():
        return None
    unit = 1.0 / np.sqrt(own)
    values, vectors = np.linalg.eigh(found.precision * unit[:, None] * unit)
    if values[0] <= _LEAST_EIGENVALUE * values[-1]:
        return None
    return np.asarray(vectors.T * unit / np.sqrt(values)[:, None])


@np.errstate(all="ignore")
def _leave_saddle(
    joint: CountedJoint, z: Floats, value: float, found: Curvature
) -> tuple[Floats, float]:
    """A higher point along the direction of least curvature; an error if there is none."""
    unit = 1.0 / np.sqrt(np.maximum(abs(np.diag(found.precision)), 1e-300))
    values, vectors = np.linalg.eigh(found.precision * unit[:, None] * unit)
    length = min(1.0 / np.sqrt(max(abs(values[0]), 1e-300)), 1e3)
    direction = unit * vectors[:, 0] * length
    steps = np.array([0.1, 0.3, 1.0, 3.0, -0.1, -0.3, -1.0, -3.0])
    points = z + steps[:, None] * direction
    heights = joint(points)
    best = int(np.argmax(np.where(np.isnan(heights), -np.inf, heights)))
    if not heights[best] > value + 1e-9 * (1.0 + abs(value)):
        flat = np.flatnonzero(abs(direction) > 0.1 * abs(direction).max())
        kind = "flat" if values[0] > -1e-3 else "not curved downwards"
        raise ModeError(
            f"the Hessian of log p(x, z) is not negative definite at z = {_short(z)}, where the "
            f"search for a mode ended: log p(x, z) is {kind} along a direction of coordinates "
            f"{', '.join(map(str, flat[:5]))}, as where data and prior leave a combination of "
            "parameters open. Expected a proper prior of each; or give adapt a q0, or another start"
        )
    return points[best], float(heights[best])


def _higher(
    joint: CountedJoint, z: Floats, value: float, axes: Floats
) -> tuple[Floats, float] | None:
    """A point on an axis that is higher than the mode; an error if log p(x, z) does not fall."""
    moves = np.concatenate([_AWAY * axes, -_AWAY * axes])
    heights = joint(z + moves)
    heights = np.where(np.isnan(heights), -np.inf, heights)
    best = int(heights.argmax())
    if heights[best] > value + _HIGHER:
        return z + moves[best], float(heights[best])
    if heights[best] > value - _LEAST_FALL * 0.5 * _AWAY**2:
        move = moves[best]
        where = np.flatnonzero(abs(move) > 0.1 * abs(move).max())
        raise ModeError(
            f"log p(x, z) does not fall from z = {_short(z)} along a direction of coordinates "
            f"{', '.join(map(str, where[:5]))}: its mode seems to be at infinity, as that of a "
            "flat prior may be, or it is flat there. Expected a proper posterior; another start "
            "may help"
        )
    return None


def _short(z: Floats) -> str:
    return np.array2string(z, threshold=6, edgeitems=2, precision=4, separator=", ")
