"""What a user's function calls on a device, in the place of functions that have no form there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from scipy import special

from ..jit.compile import by_target
from ..math import everywhere, gamma
from .device import SIMULATED

# From here on every float is an integer.
_INTEGERS = 2.0**52


def _floor(x):
    return x * 1.0 if not abs(x) < _INTEGERS else float(math.floor(x))


def _ceil(x):
    return -x * -1.0 if not abs(x) < _INTEGERS else -float(math.floor(-x))


def _trunc(x):
    return x * 1.0 if not abs(x) < _INTEGERS else float(int(x))


def _maximum(x, y):
    return x if x > y or x != x else y


def _minimum(x, y):
    return x if x < y or x != x else y


def _choose(condition, x, y):
    return x if condition else y


def _logaddexp(x, y):
    if x == y:  # two infinities have no distance
        return x + math.log(2.0)
    larger = x if x > y or x != x else y
    return larger + math.log1p(math.exp(-abs(x - y)))


def _expit(x):
    return 1.0 / (1.0 + math.exp(-x))


def _square(x):
    return x * x


def _power(x, y):
    return float(x) ** y


def _sign(x):
    if not abs(x) > 0.0:  # zero or NaN
        return 1.0 * x
    return 1.0 if x > 0.0 else -1.0


def _clip(x, low, high):
    y = low if x < low else x
    return high if y > high else y


def python_max(x, y):
    """Python's max of two: NVIDIA's leaves out a NaN that comes first."""
    return y if y > x else x


def python_min(x, y):
    """Python's min of two."""
    return y if y < x else x


def _not(x):
    return not x


def _and(x, y):
    return bool(x) & bool(y)


def _or(x, y):
    return bool(x) | bool(y)


def _dot_of_vectors(x, y):
    if x.shape[0] != y.shape[0]:
        raise ValueError("vectors of different lengths")
    total = 0.0
    for k in range(x.shape[0]):
        total += x[k] * y[k]
    return total


def _dot_of(x, y):
    return _dot_of_vectors if all(getattr(each, "ndim", 0) == 1 for each in (x, y)) else None


@by_target(_dot_of)
def dot(x, y):
    """The inner product of two vectors."""
    return np.dot(x, y)


def _largest(x):
    if x.shape[0] == 0:
        raise ValueError("no items")
    found = x[0]
    for k in range(1, x.shape[0]):
        found = x[k] if x[k] > found or x[k] != x[k] else found
    return found


def _smallest(x):
    if x.shape[0] == 0:
        raise ValueError("no items")
    found = x[0]
    for k in range(1, x.shape[0]):
        found = x[k] if x[k] < found or x[k] != x[k] else found
    return found


# Named functions, and what a device calls in their place.
FORMS: dict[Any, Any] = {
    getattr(np, name): getattr(math, name)
    for name in (
        "exp", "exp2", "log", "log2", "log10", "log1p", "expm1", "sqrt", "sin", "cos", "tan",
        "sinh", "cosh", "tanh", "isnan", "isinf", "isfinite", "hypot", "copysign",
    )
    if hasattr(math, name)
}  # fmt: skip
FORMS |= {
    np.arcsin: math.asin, np.arccos: math.acos, np.arctan: math.atan, np.arctan2: math.atan2,
    np.arcsinh: math.asinh, np.arccosh: math.acosh, np.arctanh: math.atanh,
    np.abs: abs, np.fabs: abs, np.dot: dot, np.inner: dot, np.vdot: dot,
    special.gammaln: math.lgamma, special.erf: math.erf, special.erfc: math.erfc,
    special.log1p: math.log1p, special.expm1: math.expm1, special.digamma: gamma.digamma,
    everywhere.lgamma: math.lgamma,
}  # fmt: skip
# The same, by a source that is compiled for a device.
SOURCES: dict[Any, Any] = {
    np.floor: _floor, np.ceil: _ceil, np.trunc: _trunc, np.sign: _sign, np.clip: _clip,
    np.maximum: _maximum, np.minimum: _minimum, np.where: _choose, everywhere.select: _choose,
    np.logaddexp: _logaddexp, np.square: _square, np.power: _power, special.expit: _expit,
    np.logical_not: _not, np.logical_and: _and, np.logical_or: _or,
    np.max: _largest, np.min: _smallest, np.amax: _largest, np.amin: _smallest,
}  # fmt: skip

if SIMULATED:
    # Python's own functions raise errors outside of their domain.
    FORMS = {
        target: getattr(np, getattr(form, "__name__", ""), form)
        if getattr(form, "__module__", None) == "math" else form
        for target, form in FORMS.items()
    } | {
        getattr(math, name): getattr(np, name)
        for name in ("exp", "log", "log2", "log10", "log1p", "expm1", "sqrt", "sinh", "cosh")
    }  # fmt: skip


# --- indices ------------------------------------------------------------------------------------


def _inside(array, axis, index):
    if not -array.shape[axis] <= index < array.shape[axis]:
        raise IndexError("index out of bounds")


def _each_inside(array, axis, index):
    for place, k in enumerate(index):
        if not -array.shape[place] <= k < array.shape[place]:
            raise IndexError("index out of bounds")


def _nothing(array, axis, index):
    pass


def _check_of(array, axis, index):
    if not isinstance(array, types.Array) or isinstance(index, types.SliceType):
        return _nothing
    if isinstance(index, types.Integer):
        return _inside
    if isinstance(index, types.UniTuple) and isinstance(index.dtype, types.Integer):
        return _each_inside
    return None


@by_target(_check_of)
def require(array, axis, index):
    """Raise an error for an index outside of an axis of an array; a device looks at none itself."""
