"""Operands of operations on vectors, item by item: vectors, arrays of numbers, single values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils

from .arrays import (
    array_item,
    array_sizes,
    as_item,
    load,
    new,
    opened,
    raise_if,
    sliced,
    store,
)
from .operations import lowers
from .types import Form, Lanes, LaneVector, Mask

Reader = Callable[[Any], Any]


def reader(
    context: Any, builder: Any, kind: Any, value: Any, form: Form, mask: bool
) -> tuple[Any, Reader]:
    """(size or None, index -> item) of an operand: a vector, an array or a value."""
    if isinstance(kind, LaneVector):
        vector = opened(context, builder, kind, value)

        def of_vector(index: Any) -> Any:
            item = load(builder, kind, vector, index)
            return as_item(builder, kind, item) if mask else item

        return vector.size, of_vector
    target = (Mask if mask else Lanes)(*form)
    if isinstance(kind, types.Array):
        (size,) = array_sizes(context, builder, kind, value)

        def of_array(index: Any) -> Any:
            item = array_item(context, builder, kind, value, index)
            return context.cast(builder, item, kind.dtype, target)

        return size, of_array
    same = context.cast(builder, value, kind, target)
    return None, lambda index: same


def broadcast(context: Any, builder: Any, operands: Any) -> Any:
    """The common size of operands; an error if two differ."""
    sizes = [size for size, _ in operands if size is not None]
    for other in sizes[1:]:
        differ = builder.icmp_signed("!=", sizes[0], other)
        raise_if(context, builder, differ, ValueError, "the vectors have different sizes")
    return sizes[0]


def overwrite(context: Any, builder: Any, kind: Any, vector: Any, source: Any) -> None:
    """Copy the items of an operand into a vector, by way of a copy, as they may overlap."""
    (_, read) = source
    copied = new(context, builder, kind, vector.size)
    with cgutils.for_range(builder, vector.size) as loop:
        store(builder, kind, copied, loop.index, read(loop.index))
    with cgutils.for_range(builder, vector.size) as loop:
        store(builder, kind, vector, loop.index, load(builder, kind, copied, loop.index))
    context.nrt.decref(builder, kind, copied._getvalue())


@lowers(operator.setitem, LaneVector, types.SliceType, LaneVector)
@lowers(operator.setitem, LaneVector, types.SliceType, types.Array)
def _set_items(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind, _, source_kind = sig.args
    view = sliced(context, builder, sig, args)
    source = reader(context, builder, source_kind, args[2], kind.form, kind.is_mask)
    broadcast(context, builder, [(view.size, None), source])
    overwrite(context, builder, kind, view, source)
    return context.get_dummy_value()
