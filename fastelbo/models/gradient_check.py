"""A user's gradient beside differences of the density, before it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from ..validation import Floats, shown
from .function import UserFunction, raised_at
from .probe import called, short

# Steps of differences of the fourth order, and of one side, for coordinates of size 1.
_STEP, _SIDE = 1e-3, 1e-6
# Of 1 and the slope.
_TOLERANCE = 1e-6
# Of the value over a step: its rounding, and that of sums inside it.
_ROUNDING = 1e-13
_LANES = 512


def plain_gradient(gradient: UserFunction, z: Floats, i: int) -> Floats:
    """What a user's gradient returns in plain Python: D real numbers."""
    try:
        result = called(gradient, z, i)
    except (ArithmeticError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"{gradient.label} raised {type(error).__name__}: {error} at "
            f"{raised_at(error, gradient)}, called with z = {short(z)}"
        ) from error
    if isinstance(result, (tuple, list, np.ndarray)):
        try:
            slopes = np.asarray(result)
        except ValueError:  # of rows of different lengths
            slopes = np.empty(0)
        if slopes.shape == z.shape and slopes.dtype.kind in "fiub":
            return slopes.astype(np.float64)
    raise InvalidInputError(
        f"{gradient.label} returned {shown(result)} of type {type(result).__name__}; expected the "
        f"gradient in z, a tuple or a vector of {len(z)} real numbers"
    )


def require_gradient(
    label: str, z: Floats, i: int | None, slopes: Floats, values: Callable[[Floats], Floats]
) -> None:
    """Raise an error unless slopes (D,) at z (D,) are those of values: (n, D) -> (n,).

    A slope between those of the two sides passes, as at a kink; and any slope where the density is
    0 at both. ``i`` is the data point, or None.
    """
    scale = np.maximum(1.0, abs(z))
    offsets = np.array([-2.0 * _STEP, -_STEP, -_SIDE, _SIDE, _STEP, 2.0 * _STEP])
    moved = np.tile(z, (len(z), len(offsets), 1))
    moved[np.arange(len(z)), :, np.arange(len(z))] += scale[:, None] * offsets
    rows = np.concatenate([z[None], moved.reshape(-1, len(z))])
    found = np.concatenate([values(rows[k : k + _LANES]) for k in range(0, len(rows), _LANES)])
    value, around = found[0], found[1:].reshape(len(z), len(offsets))
    if not np.isfinite(value):
        return
    with np.errstate(invalid="ignore", over="ignore"):
        far_below, below, left, right, above, far_above = around.T
        slope = (8.0 * (above - below) - (far_above - far_below)) / (12.0 * _STEP * scale)
        plain = (above - below) / (2.0 * _STEP * scale)
        sides = np.array([value - left, right - value]) / (_SIDE * scale)
        allowed = _TOLERANCE * (1.0 + abs(slope)) + _rounding(value, _STEP) + abs(slope - plain)
        wrong = ~(abs(slopes - slope) <= allowed)
        sides[~np.isfinite(sides)] = np.nan
        low, high = np.fmin(*sides), np.fmax(*sides)
        allowed = _TOLERANCE * (1.0 + abs(slopes)) + _rounding(value, _SIDE)
        wrong &= ~((low - allowed <= slopes) & (slopes <= high + allowed))
    wrong &= np.isfinite(low)
    if not wrong.any():
        return
    d = int(np.argmax(wrong))
    expected = slope[d] if np.isfinite(slope[d]) else low[d]
    point = "" if i is None else f" and data[{i}]"
    raise InvalidInputError(
        f"{label} returned {float(slopes[d])!r} as the slope in z[{d}], and central differences of "
        f"the log density are {float(expected):.9g}, at z = {short(z)}{point}; expected the "
        "gradient of the log density in z"
    )


def _rounding(value: Any, step: float) -> Any:
    return _ROUNDING * (1.0 + abs(value)) / step
