"""A user's function of one draw: how it is called, with which values, and where it is defined."""

from __future__ import annotations

import functools
import inspect
import linecache
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays.inputs import as_array
from ..errors import InvalidInputError
from ..kernels.vectors.fingerprint import NoFingerprintError, fingerprint
from ..kernels.vectors.snapshot import interpreted, snapshot
from ..validation import shown

_TAKEN = "expected numbers, arrays of numbers, and tuples of them"


class UserFunction(NamedTuple):
    """A function ``f(z, *values)`` or ``f(z, data[i], *values)``."""

    argument: str  # the name of the argument that it came as
    given: Callable[..., Any]
    plain: types.FunctionType  # with what it reads as it was when the model was made
    in_python: types.FunctionType  # the same, without machine code of its helpers
    data: np.ndarray[Any, Any] | None
    values: tuple[Any, ...]  # params, and what a partial and defaults add by position
    keywords: dict[str, Any]  # what they add by keyword alone

    @property
    def label(self) -> str:
        """The function in messages: its argument, name, file and line."""
        code = self.plain.__code__
        place = f"{Path(code.co_filename).name}:{code.co_firstlineno}"
        return f"{self.argument} {self.plain.__qualname__} ({place})"

    @property
    def size(self) -> int:
        """Numbers that one call may read, beside z."""
        data = 0 if self.data is None else self.data[0].size
        return int(data + _size(self.values))

    def __call__(self, z: Any, i: int = 0) -> Any:
        """The function in plain Python, for data point i."""
        head = (z,) if self.data is None else (z, self.data[i])
        return self.in_python(*head, *self.values, **self.keywords)

    @property
    def code(self) -> Callable[..., Any]:
        """What is compiled."""
        return functools.partial(self.plain, **self.keywords) if self.keywords else self.plain

    # --- copies: this object never changes; in another process, the function may be another one

    def __copy__(self) -> UserFunction:
        return self

    def __deepcopy__(self, memo: Any) -> UserFunction:
        return self

    def __reduce__(self) -> Any:
        try:
            mark = fingerprint(self.plain)
        except (NoFingerprintError, RecursionError, ValueError) as error:
            raise InvalidInputError(
                f"{self.label} cannot be pickled: it reads {error}, which cannot be compared with "
                "its value in another process; expected what params can hold"
            ) from error
        return _restored, (self.argument, self.given, self.data, self.values, self.keywords, mark)


def _restored(
    argument: str, given: Any, data: Any, values: Any, keywords: Any, mark: str
) -> UserFunction:
    """The function of a pickled model, or an error if it is not the same here."""
    plain, _ = _unwrapped(argument, given)
    now = snapshot(plain)
    restored = UserFunction(argument, given, now, interpreted(now), data, values, keywords)
    if fingerprint(now) != mark:
        raise InvalidInputError(
            f"{restored.label} is not what it was when its model was pickled: it, a function that "
            "it calls, or a value that it reads has changed, or Python's version; make the model "
            "again"
        )
    return restored


def user_function(argument: str, given: Any, data: Any, params: Any) -> UserFunction:
    """The function with its values, copied and checked; an error if they do not fit together."""
    plain, bound = _unwrapped(argument, given)
    points = None if data is None else _data(data)
    values = _params(params)
    try:
        signature = inspect.signature(plain, follow_wrapped=False)
        head = (None,) if points is None else (None, None)
        call = signature.bind(*head, *values, **bound)
    except TypeError as error:
        draft = UserFunction(argument, given, plain, plain, points, values, {})
        called = "z, *params" if points is None else "z, data[i], *params"
        defined = inspect.signature(plain, follow_wrapped=False)
        raise InvalidInputError(
            f"{draft.label} is called as {plain.__name__}({called}), with {len(values)} params, "
            f"but it is defined as {plain.__name__}{defined}: {error}"
        ) from None
    call.apply_defaults()
    own = [*signature.parameters][len(head) :]
    rest = call.args[len(head) :]
    names = own[len(values) : len(rest)]
    extra = zip(rest[len(values) :], names, strict=True)
    now = snapshot(plain)
    return UserFunction(
        argument, given, now, interpreted(now), points,
        values + tuple(_value(each, name) for each, name in extra),
        {name: _value(each, name) for name, each in call.kwargs.items()},
    )  # fmt: skip


def _unwrapped(argument: str, given: Any) -> tuple[types.FunctionType, dict[str, Any]]:
    """The Python function, and arguments that a `functools.partial` binds by keyword."""
    bound: dict[str, Any] = {}
    function = given
    while isinstance(function, functools.partial):
        if function.args:
            raise InvalidInputError(
                f"{argument} is a functools.partial that binds arguments by position, where z "
                "comes first; bind by keyword, or give the values in params"
            )
        bound = function.keywords | bound
        function = function.func
    # A function that numba compiled.
    function = getattr(function, "py_func", function)
    if isinstance(function, types.FunctionType):
        return function, bound
    what = f"the method {function.__qualname__}" if inspect.ismethod(function) else shown(given)
    raise InvalidInputError(
        f"{argument} must be a function that def or lambda makes, got {what} of type "
        f"{type(given).__name__}, which cannot be compiled: what it keeps can come in params. Or "
        "give vectorized=True, for a function of many draws that runs as it is"
    )


# --- values -------------------------------------------------------------------------------------


def _data(data: Any) -> np.ndarray[Any, Any]:
    array = _plain_array(data, "data")
    if array.ndim == 0 or len(array) == 0:
        raise InvalidInputError(
            f"data must have its N data points on its first axis, got shape {array.shape}; what "
            "all of them share belongs into params"
        )
    return array


def _params(params: Any) -> tuple[Any, ...]:
    if not isinstance(params, (tuple, list)) or hasattr(params, "_fields"):
        raise InvalidInputError(
            f"params must be a tuple of what the function gets after z, such as (x, y), or (x,) "
            f"for one array; got {shown(params)}"
        )
    return tuple(_value(each, f"params[{k}]") for k, each in enumerate(params))


def _value(value: Any, name: str) -> Any:
    """A copy of a value that compiled code can take."""
    if isinstance(value, tuple):
        items = [_value(each, f"{name}[{k}]") for k, each in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        if not -(2**63) <= value < 2**63:
            raise InvalidInputError(f"{name} must be an integer of 64 bits, got {shown(value)}")
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    if value is None or isinstance(value, (str, bytes, dict, set, frozenset)) or callable(value):
        hint = "; its values can be a tuple, or a named tuple" if isinstance(value, dict) else ""
        raise InvalidInputError(
            f"{name} is {shown(value)}, a {type(value).__name__}; {_TAKEN}{hint}"
        )
    array = _plain_array(value, name)
    return array if array.ndim else _value(array[()], name)


def _plain_array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """A read-only copy, of float64, int64 or bool: Python and compiled code then compute alike."""
    array = as_array(value, name)
    kind: Any = np.float64
    if array.dtype.kind == "b":
        kind = np.bool_
    elif array.dtype.kind in "iu" and (array.dtype != np.uint64 or array.max(initial=0) < 2**63):
        kind = np.int64
    copy = np.array(array, kind, order="C")
    copy.setflags(write=False)
    return copy


def _size(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(map(_size, value))
    return value.size if isinstance(value, np.ndarray) else 1


# --- errors -------------------------------------------------------------------------------------


def raised_at(error: BaseException, function: UserFunction) -> str:
    """The line of the user's code that an error passed through last, as ``file:line `text` ``."""
    code = function.plain.__code__
    place = None
    trace = error.__traceback__
    while trace is not None:
        here = trace.tb_frame.f_code
        if here is code or (place is not None and here.co_filename == code.co_filename):
            place = here.co_filename, trace.tb_lineno
        trace = trace.tb_next
    return "" if place is None else line_of(*place)


def line_of(file: str, line: int) -> str:
    """A line of source in messages."""
    text = linecache.getline(file, line).strip()
    return f"{Path(file).name}:{line}" + (f" `{text}`" if text else "")
