"""Vectors that a user's function makes and writes to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature

from .arrays import array_sizes, constant, new, opened, raise_if, store
from .operations import is_floats, lowers, typer
from .types import NUMBERS, Lanes, LaneVector, Mask

# Items of a vector; bytes of more could overflow.
_MOST = 2**32


def empty(width: int, size: Any) -> Any:
    """``np.empty`` of a size, or like a vector."""
    return np.empty(np.shape(size) if np.ndim(size) else size)


def filled(width: int, size: Any, number: float) -> Any:
    """``np.full`` of a size, or like a vector."""
    return np.full(np.shape(size) if np.ndim(size) else size, number)


def packed(width: int, items: Any) -> Any:
    """``np.array`` of numbers and values in lanes."""
    return np.array(items)


def _is_size(kind: Any) -> bool:
    return isinstance(kind, (types.Integer, LaneVector)) or is_floats(kind)


@typer(empty)
def _empty_typed(context: Any, args: Any) -> Any:
    width, size = args
    if not isinstance(width, types.IntegerLiteral) or not _is_size(size):
        return None
    return signature(LaneVector(width.literal_value), *args)


@typer(filled)
def _filled_typed(context: Any, args: Any) -> Any:
    width, size, _ = args
    if not isinstance(width, types.IntegerLiteral) or not _is_size(size):
        return None
    lanes = width.literal_value
    return signature(LaneVector(lanes), width, size, Lanes(lanes))


def _made(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind, size = sig.args[1], args[1]
    if isinstance(kind, LaneVector):
        size = opened(context, builder, kind, size).size
    elif isinstance(kind, types.Array):
        (size,) = array_sizes(context, builder, kind, size)
    else:
        size = context.cast(builder, size, kind, types.intp)
        bad = builder.icmp_unsigned(">", size, constant(_MOST))
        raise_if(context, builder, bad, ValueError, "a vector has 0 to 2^32 items")
    return new(context, builder, sig.return_type, size)


@lowers(empty, types.Integer, types.Any)
def _empty(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _made(context, builder, sig, args)._getvalue()


@lowers(filled, types.Integer, types.Any, Lanes)
def _filled(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    vector = _made(context, builder, sig, args)
    with cgutils.for_range(builder, vector.size) as loop:
        store(builder, sig.return_type, vector, loop.index, args[2])
    return vector._getvalue()


@typer(packed)
def _packed_typed(context: Any, args: Any) -> Any:
    width, items = args
    allowed = (*NUMBERS, Lanes, Mask)
    if not isinstance(width, types.IntegerLiteral) or not isinstance(items, types.BaseTuple):
        return None
    if not all(isinstance(each, allowed) for each in items.types):
        return None
    lanes = width.literal_value
    return signature(LaneVector(lanes), width, types.UniTuple(Lanes(lanes), len(items)))


@lowers(packed, types.Integer, types.UniTuple)
def _packed(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    items = cgutils.unpack_tuple(builder, args[1])
    vector = new(context, builder, sig.return_type, constant(len(items)))
    for index, item in enumerate(items):
        store(builder, sig.return_type, vector, constant(index), item)
    return vector._getvalue()
