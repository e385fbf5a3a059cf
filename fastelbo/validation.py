"""Shared checks of arguments, with one style of message."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInputError, UnsupportedDTypeError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_DRAWS = 2**40
MAX_POINTS = 2**32
MAX_DIM = 2**25

DEFAULT_IW_SIZES = (10, 100)
_SUM_TO_ONE = 1e-6


def as_floats(value: Any, name: str) -> Floats:
    """A copy of a real, finite argument as a float64 array."""
    array = np.array(as_unchecked_floats(value, name))
    require_finite(array, name)
    return array


def as_unchecked_floats(value: Any, name: str) -> Floats:
    """A real argument as a float64 array, without a copy if it already is one."""
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedDTypeError(
            f"{name} must not be a masked array, because its mask would be ignored; fill or drop "
            "the masked entries first"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise UnsupportedDTypeError(
            f"{name} has dtype {array.dtype}; expected real numbers: float16, float32, float64, "
            "integers or bool"
        )
    return np.asarray(array, dtype=np.float64, order="C")


def require_finite(array: Floats, name: str) -> None:
    """Raise an error for NaN and infinities."""
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InvalidInputError(
            f"{name} must be finite; {int(bad.sum())} of its {array.size} entries are not, the "
            f"first, {array[where]}, at index {where}"
        )


def as_count(value: Any, name: str, *, least: int = 1, below: int | None = None) -> int:
    """An integer argument from ``least`` to ``below``. A bool is not an integer."""
    if isinstance(value, (bool, np.bool_)):
        raise InvalidInputError(f"{name} must be an integer, got the bool {value}")
    try:
        count = operator.index(value)
    except TypeError:
        raise InvalidInputError(
            f"{name} must be an integer, got {value!r} of type {type(value).__name__}"
        ) from None
    if count < least:
        raise InvalidInputError(f"{name} must be at least {least}, got {count}")
    if below is not None and count > below:
        raise OverflowError(f"{name} must be at most {below}, got {count}")
    return count


def positive(array: Floats, name: str) -> Floats:
    """The array, after a check that all entries are above 0."""
    bad = array <= 0.0
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InvalidInputError(f"{name} must be positive, got {array[where]} at index {where}")
    return array


def probabilities(value: Any, name: str) -> Floats:
    """Probabilities along the last axis, checked and renormalised in float64."""
    array = as_floats(value, name)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise InvalidInputError(
            f"{name} must have a last axis of length at least 1, got shape {array.shape}"
        )
    if (array < 0.0).any():
        where = tuple(int(i) for i in np.argwhere(array < 0.0)[0])
        raise InvalidInputError(f"{name} must not be negative, got {array[where]} at index {where}")
    total = array.sum(axis=-1, keepdims=True)
    worst = float(np.abs(total - 1.0).max(initial=0.0))
    if worst > _SUM_TO_ONE:
        raise InvalidInputError(
            f"{name} must sum to 1 along its last axis within {_SUM_TO_ONE:g}, got a sum that is "
            f"off by {worst:g}"
        )
    with np.errstate(under="ignore"):
        return np.asarray(array / total)


def square_matrices(array: Floats, name: str) -> Floats:
    """The array, after a check that its last two axes have equal length."""
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        raise InvalidInputError(
            f"{name} must hold square matrices on its last two axes, got shape {array.shape}"
        )
    return array


def require_memory(what: str, size: int) -> None:
    """Raise an error, before anything is allocated, if ``size`` bytes exceed the main memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise MemoryError(f"{what} would need {size} bytes, but the machine has {memory} bytes")


def broadcast_shape(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape of named shapes. The error message lists them all."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InvalidInputError(f"batch shapes must broadcast, got {listed}") from None


def group_sizes(sizes: Iterable[Any] | None, n_samples: int, default: tuple[int, ...]) -> list[int]:
    """Group sizes of the importance-weighted bounds, sorted and without duplicates.

    Default sizes above ``n_samples`` are left out. A given size above it is an error.
    """
    if sizes is None:
        return [k for k in default if k <= n_samples]
    if not isinstance(sizes, Iterable):
        raise InvalidInputError(f"iw_sizes must be a sequence of integers, got {sizes!r}")
    wanted = sorted({as_count(k, "iw_sizes") for k in sizes})
    if wanted and wanted[-1] > n_samples:
        raise InvalidInputError(
            f"iw_sizes must be at most n_samples = {n_samples}, got {wanted[-1]}"
        )
    return wanted
