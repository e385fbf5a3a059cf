"""Shared checks of arguments, with one style of message."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_DRAWS = 2**40
MAX_POINTS = 2**32
MAX_DIM = 2**25

DEFAULT_IW_SIZES = (10, 100)
_SUM_TO_ONE = 1e-6
# Characters of a value that an error message quotes.
_MOST_SHOWN = 80


def require_finite(array: Floats, name: str) -> None:
    """Raise an error for NaN and infinities."""
    # One pass, and no array: numbers of which one is not finite have no finite sum.
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):
            return
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InvalidInputError(
            f"{name} must be finite; {int(bad.sum())} of its {array.size} entries are not, the "
            f"first, {array[where]}, at index {where}"
        )


def shown(value: Any) -> str:
    """A value as error messages quote it: an array by its shape, anything long cut short."""
    shape = getattr(value, "shape", ())
    kind = type(value).__name__
    if isinstance(shape, tuple) and shape:
        return f"an array ({kind}) of shape {shape}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a repr of others' code may raise anything
        text = ""
    return text if 0 < len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}... ({kind})"


def as_count(value: Any, name: str, *, least: int = 1, below: int | None = None) -> int:
    """An integer argument from ``least`` to ``below``. A bool is not an integer."""
    value = _scalar(value)
    if isinstance(value, (bool, np.bool_)):
        raise InvalidInputError(f"{name} must be an integer, got the bool {value}")
    try:
        count = operator.index(value)
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"{name} must be an integer, got {shown(value)} of type {type(value).__name__}"
        ) from None
    if count < least:
        raise InvalidInputError(f"{name} must be at least {least}, got {count}")
    if below is not None and count > below:
        raise OverflowError(f"{name} must be at most {below}, got {count}")
    return count


def as_number(value: Any, name: str) -> float:
    """A real number as a float. Neither a bool nor a text is a number."""
    value = _scalar(value)
    # NumPy would drop the imaginary part of a complex number, or the unit of a time.
    real = not isinstance(value, np.generic) or value.dtype.kind in "fiu"
    if real and not isinstance(value, (bool, str, bytes, bytearray)):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise InvalidInputError(
        f"{name} must be a real number, got {shown(value)} of type {type(value).__name__}"
    )


def as_flag(value: Any, name: str) -> bool:
    """True or False, of Python or of NumPy. Nothing else is taken for one of them."""
    value = _scalar(value)
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidInputError(
            f"{name} must be True or False, got {shown(value)} of type {type(value).__name__}"
        )
    return bool(value)


def as_choice(value: Any, name: str, choices: Sequence[str]) -> str:
    """One of several texts."""
    if not isinstance(value, str) or value not in choices:
        *others, last = (f'"{choice}"' for choice in choices)
        listed = f"{', '.join(others)} or {last}" if others else last
        raise InvalidInputError(f"{name} must be {listed}, got {shown(value)}")
    return str(value)


def _scalar(value: Any) -> Any:
    """The number in an array without axes, of NumPy or torch; any other value as it is."""
    if isinstance(value, np.ndarray):
        return value[()] if value.shape == () else value
    if isinstance(value, np.generic):
        return value
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    return value


def as_sequence(value: Any, name: str, what: str) -> list[Any]:
    """The items of an iterable that is no text."""
    try:
        if not isinstance(value, (str, bytes, bytearray)):
            return list(value)
    except TypeError:
        pass
    raise InvalidInputError(f"{name} must be a sequence of {what}, got {shown(value)}")


def positive(array: Floats, name: str) -> Floats:
    """The array, after a check that all entries are above 0."""
    bad = array <= 0.0
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InvalidInputError(f"{name} must be positive, got {array[where]} at index {where}")
    return array


@np.errstate(over="ignore", under="ignore")
def probabilities(array: Floats, name: str) -> Floats:
    """Finite numbers as probabilities along the last axis, checked and renormalised."""
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
        listed = ", ".join(f"{name} {shown(shape)}" for name, shape in shapes.items())
        raise InvalidInputError(f"batch shapes must broadcast, got {listed}") from None


def group_sizes(
    sizes: Iterable[Any] | None, most: int, default: tuple[int, ...], name: str = "n_samples"
) -> list[int]:
    """Group sizes of the importance-weighted bounds, sorted and without duplicates.

    Default sizes above ``most`` are left out. A given size above it is an error, which calls it
    ``name``.
    """
    if sizes is None:
        return [k for k in default if k <= most]
    wanted = sorted({as_count(k, "iw_sizes") for k in as_sequence(sizes, "iw_sizes", "integers")})
    if wanted and wanted[-1] > most:
        raise InvalidInputError(f"iw_sizes must be at most {name} = {most}, got {wanted[-1]}")
    return wanted
