"""One source for plain Python, users' compiled code and values in lanes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ..arrays.inputs import as_unchecked_floats
from ..errors import InvalidInputError
from ..kernels.jit.compile import anywhere
from ..validation import broadcast_shape

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a helper of this package, without a branch on its arguments."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    return anywhere(lambda *_, **__: function)(call)  # type: ignore[no-any-return]


def public(*, vectors: tuple[str, ...] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function of numbers, without a branch on what may be in lanes.

    Compiled code gets the function itself. A call from Python checks the arguments, works item by
    item on arrays, and raises no floating-point flag. Arguments named by ``vectors`` are vectors.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            given = _checked(bound.arguments, vectors)
            with np.errstate(all="ignore"):
                result: Any = function(**given)  # type: ignore[call-arg]
            if isinstance(result, tuple):
                return tuple(_plain(each) for each in result)  # type: ignore[return-value]
            return _plain(result)  # type: ignore[no-any-return]

        return anywhere(lambda *_, **__: function)(checked)  # type: ignore[no-any-return]

    return decorate


def _checked(arguments: dict[str, Any], vectors: tuple[str, ...]) -> dict[str, Any]:
    """The arguments as floats: numbers, or arrays of one common shape; and vectors."""
    given: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in arguments.items():
        if isinstance(value, (float, int)):
            given[name] = np.float64(value)
            continue
        array = as_unchecked_floats(value, name)
        given[name] = array[()]
        if name not in vectors:
            shapes[name] = array.shape
    for name in vectors:
        if given[name].ndim != 1 or given[name].size == 0:
            raise InvalidInputError(
                f"{name} must be one vector, not empty; got shape {given[name].shape}"
            )
        if any(shapes.values()):
            one = next(name for name, shape in shapes.items() if shape)
            raise InvalidInputError(f"{one} must be a number, got shape {shapes[one]}")
    if any(shapes.values()):
        shape = broadcast_shape(**shapes)
        for name in given:
            given[name] = np.broadcast_to(given[name], shape)
    return given


def _plain(result: Any) -> Any:
    """A float for a number, an array for arrays."""
    array = np.asarray(result)
    return array if array.ndim else float(array)
