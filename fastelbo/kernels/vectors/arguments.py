"""Data and parameters of a user's function as words in memory, read by compiled code.

An array is its address, shape and strides, so that no reference is counted: Python holds the
arrays for as long as the words live. Compiled code may not write to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

from .types import INDEX

_WORD = 8


class Arguments:
    """``(data, params)`` in memory, and numba's type of it. ``data`` is None if there is none."""

    def __init__(self, data: Any, params: tuple[Any, ...]) -> None:
        items = (_plain(each, f"params[{k}]") for k, each in enumerate(params))
        self.value = (_plain(data, "data"), tuple(items))
        self.kind = _kind_of(self.value)
        words: list[int] = []
        _append(words, self.value)
        self._words = np.array([each % 2**64 for each in words] or [0], np.uint64)

    @property
    def address(self) -> int:
        """The address of the words; valid while this object lives."""
        return int(self._words.ctypes.data)

    @property
    def description(self) -> str:
        """The type, as text that is the same in all processes."""
        return f"{self.kind} {_fields(self.value)}"


_DTYPES = {np.dtype(each) for each in "?bhilqBHILQfd"}
_NUMBERS: Any = (bool, int, float, *(each.type for each in _DTYPES))


def _plain(value: Any, name: str) -> Any:
    """A value that compiled code can read; an array without axes is its number."""
    if value is None or isinstance(value, _NUMBERS):
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise TypeError(f"{name} is {value}; expected integers of 64 bits")
        return value
    if isinstance(value, tuple):
        items = [_plain(each, f"{name}[{k}]") for k, each in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    kind = type(value).__name__
    if type(value) in (np.ndarray, np.memmap):
        if value.dtype in _DTYPES and value.dtype.isnative:
            value = value.view(np.ndarray)
            return value if value.ndim else value[()]
        kind = f"{kind} of {value.dtype}"
    raise TypeError(f"{name} is a {kind}; expected numbers, arrays of numbers, or tuples of them")


def _kind_of(value: Any) -> Any:
    if value is None:
        return types.none
    if isinstance(value, tuple):
        kinds = [_kind_of(each) for each in value]
        if hasattr(value, "_fields"):
            return types.NamedTuple(kinds, type(value))
        return types.Tuple(kinds)
    if isinstance(value, (bool, np.bool_)):
        return types.boolean
    kind = typeof(value)
    return kind.copy(readonly=True) if isinstance(value, np.ndarray) else kind


def _fields(value: Any) -> Any:
    """The names of fields in tuples."""
    if not isinstance(value, tuple):
        return None
    return getattr(value, "_fields", ()), [_fields(each) for each in value]


def _append(words: list[int], value: Any) -> None:
    if value is None:
        return
    if isinstance(value, tuple):
        for each in value:
            _append(words, each)
    elif isinstance(value, np.ndarray):
        words.extend((value.ctypes.data, *value.shape, *value.strides))
    else:
        number = np.atleast_1d(value)
        words.append(int.from_bytes(number.tobytes(), "little"))


def unpacker(kind: Any) -> Any:
    """A compiled function: the value of a type at an address."""

    @intrinsic
    def unpack(typing_context, address):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = builder.inttoptr(args[0], INDEX.as_pointer())
            count = iter(range(1 << 20))

            def word() -> Any:
                return builder.load(builder.gep(place, [ir.Constant(INDEX, next(count))]))

            return _read(context, builder, kind, word)

        return kind(types.int64), generate

    return unpack


def _read(context: Any, builder: Any, kind: Any, word: Any) -> Any:
    if isinstance(kind, types.NoneType):
        return context.get_dummy_value()
    if isinstance(kind, types.BaseTuple):
        items = [_read(context, builder, each, word) for each in kind.types]
        return context.make_tuple(builder, kind, items)
    if isinstance(kind, types.Array):
        from numba.np.arrayobj import populate_array  # brings in a half of what numba can compile

        array = context.make_array(kind)(context, builder)
        data = builder.inttoptr(word(), context.get_data_type(kind.dtype).as_pointer())
        shape = [word() for _ in range(kind.ndim)]
        strides = [word() for _ in range(kind.ndim)]
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        populate_array(
            array,
            data=data,
            shape=cgutils.pack_array(builder, shape, INDEX),
            strides=cgutils.pack_array(builder, strides, INDEX),
            itemsize=ir.Constant(INDEX, size),
            meminfo=None,
        )
        return array._getvalue()
    target = context.get_value_type(kind)
    value = word()
    if isinstance(kind, types.Float):
        bits = ir.IntType(kind.bitwidth)
        value = builder.trunc(value, bits) if kind.bitwidth < 64 else value
        return builder.bitcast(value, target)
    return builder.trunc(value, target) if target.width < 64 else value
