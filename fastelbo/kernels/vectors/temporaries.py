"""Vectors that a user's function makes and writes to."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import signature
from numba.extending import overload

from .arrays import array_sizes, constant, load, new, opened, raise_if, store
from .operations import OURS, is_floats, lowers, typer
from .types import NUMBERS, Form, Lanes, LaneVector, Mask

# Items of a vector; bytes of more could overflow.
_MOST = 2**32


def empty(width: int, partials: int, size: Any) -> Any:
    """``np.empty`` of a size, or like a vector."""
    return np.empty(np.shape(size) if np.ndim(size) else size)


def filled(width: int, partials: int, size: Any, number: float) -> Any:
    """``np.full`` of a size, or like a vector."""
    return np.full(np.shape(size) if np.ndim(size) else size, number)


def packed(width: int, partials: int, items: Any) -> Any:
    """``np.array`` of numbers and values in lanes."""
    return np.array(items)


def copied(x: Any) -> Any:
    """``x.copy()``."""
    return x.copy()


def alike(x: Any) -> Any:
    """``np.asarray(x)``."""
    return np.asarray(x)


_COPIES: dict[Any, Any] = {np.copy: copied, np.array: copied, np.asarray: alike}


def copy_of(node: ast.Call, target: Any, depends: Callable[[Any], bool]) -> Any:
    """(function, source) if a call of ``target`` copies a vector of z; None if it does not."""
    of = node.func
    if isinstance(of, ast.Attribute) and of.attr == "copy" and not node.args and target is None:
        return copied, of.value
    if not callable(target) or len(node.args) != 1 or node.keywords:
        return None
    maker = next((make for known, make in _COPIES.items() if known is target), None)
    (source,) = node.args
    is_vector = isinstance(source, (ast.Name, ast.Subscript)) and depends(source)
    return (maker, source) if maker is not None and is_vector else None


def _is_size(kind: Any) -> bool:
    return isinstance(kind, (types.Integer, LaneVector)) or is_floats(kind)


def _vector(form: Any) -> Any:
    """The type of a new vector, from the types of the literals that say its form."""
    if not all(isinstance(each, types.IntegerLiteral) for each in form):
        return None
    return LaneVector(Form(*(each.literal_value for each in form)))


@typer(empty)
def _empty_typed(context: Any, args: Any) -> Any:
    *form, size = args
    kind = _vector(form)
    return signature(kind, *args) if kind and _is_size(size) else None


@typer(filled)
def _filled_typed(context: Any, args: Any) -> Any:
    *form, size, _ = args
    kind = _vector(form)
    return signature(kind, *form, size, kind.item) if kind and _is_size(size) else None


def _made(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind, size = sig.args[2], args[2]
    if isinstance(kind, LaneVector):
        size = opened(context, builder, kind, size).size
    elif isinstance(kind, types.Array):
        (size,) = array_sizes(context, builder, kind, size)
    else:
        size = context.cast(builder, size, kind, types.intp)
        bad = builder.icmp_unsigned(">", size, constant(_MOST))
        raise_if(context, builder, bad, ValueError, "a vector has 0 to 2^32 items")
    return new(context, builder, sig.return_type, size)


@lowers(empty, types.Integer, types.Integer, types.Any)
def _empty(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _made(context, builder, sig, args)._getvalue()


@lowers(filled, types.Integer, types.Integer, types.Any, Lanes)
def _filled(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    vector = _made(context, builder, sig, args)
    with cgutils.for_range(builder, vector.size) as loop:
        store(builder, sig.return_type, vector, loop.index, args[3])
    return vector._getvalue()


@typer(packed)
def _packed_typed(context: Any, args: Any) -> Any:
    *form, items = args
    allowed, kind = (*NUMBERS, Lanes, Mask), _vector(form)
    if kind is None or not isinstance(items, types.BaseTuple):
        return None
    if not all(isinstance(each, allowed) for each in items.types):
        return None
    return signature(kind, *form, types.UniTuple(kind.item, len(items)))


@lowers(packed, types.Integer, types.Integer, types.UniTuple)
def _packed(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    items = cgutils.unpack_tuple(builder, args[2])
    vector = new(context, builder, sig.return_type, constant(len(items)))
    for index, item in enumerate(items):
        store(builder, sig.return_type, vector, constant(index), item)
    return vector._getvalue()


@typer(copied)
def _copied_typed(context: Any, args: Any) -> Any:
    (x,) = args
    return signature(LaneVector(x.form, True, x.is_mask), x) if isinstance(x, LaneVector) else None


@lowers(copied, LaneVector)
def _copied(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    vector = opened(context, builder, sig.args[0], args[0])
    result = new(context, builder, sig.return_type, vector.size)
    with cgutils.for_range(builder, vector.size) as loop:
        item = load(builder, sig.args[0], vector, loop.index)
        store(builder, sig.return_type, result, loop.index, item)
    return result._getvalue()


@typer(alike)
def _alike_typed(context: Any, args: Any) -> Any:
    return signature(args[0], args[0]) if isinstance(args[0], LaneVector) else None


@lowers(alike, LaneVector)
def _alike(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return impl_ret_borrowed(context, builder, sig.return_type, args[0])


@overload(copied, strict=False)
def _plain_copied(x):
    return None if isinstance(x, OURS) else copied


@overload(alike, strict=False)
def _plain_alike(x):
    return None if isinstance(x, OURS) else alike
