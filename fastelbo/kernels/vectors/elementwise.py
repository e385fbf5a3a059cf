"""Operations item by item on vectors in lanes; sums, products and extremes of their items."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed, lower_builtin
from numba.core.typing.templates import bound_function, signature

from . import arithmetic, functions, fused, processor
from .arrays import (
    Attributes,
    array_item,
    array_sizes,
    constant,
    load,
    new,
    opened,
    raise_if,
    store,
)
from .operands import Reader, broadcast, reader
from .operations import IN_PLACE, OPERATIONS, Operation, form_of, is_floats, lowers, typer
from .types import Lanes, LaneVector

assert functions  # registers its operations


def _lower(alike: list[Operation], in_place: bool = False) -> Callable[..., Any]:
    """Operations of one target and arity, of which one gives masks, as code on vectors."""
    by_kind = {each.gives_mask: each for each in alike}

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.return_type
        operation = by_kind.get(kind.is_mask, alike[-1])
        operands = [
            reader(context, builder, each, value, kind.form, mask)
            for each, value, mask in zip(sig.args, args, operation.takes_masks, strict=True)
        ]
        size = broadcast(context, builder, operands)
        out = new(context, builder, kind, size)
        with cgutils.for_range(builder, size) as loop:
            items = [read(loop.index) for _, read in operands]
            store(builder, kind, out, loop.index, operation.emit(builder, *items))
        if not (in_place and isinstance(sig.args[0], LaneVector)):
            return out._getvalue()
        result = out._getvalue()
        left = opened(context, builder, kind, args[0])
        _, read = reader(context, builder, kind, result, kind.form, kind.is_mask)
        with cgutils.for_range(builder, size) as loop:
            store(builder, kind, left, loop.index, read(loop.index))
        context.nrt.decref(builder, kind, result)
        return impl_ret_borrowed(context, builder, kind, args[0])

    return lower


for _target, _operations in OPERATIONS.items():
    for _arity in {each.arity for each in _operations}:
        _alike = [each for each in _operations if each.arity == _arity]
        lowers(_target, *(types.Any,) * _arity)(_lower(_alike, _target in IN_PLACE))


# --- reductions ---------------------------------------------------------------------------------


def _number(context: Any, builder: Any, kind: Any, number: float) -> Any:
    """A number as a value in lanes."""
    constant = context.get_constant(types.float64, number)
    return context.cast(builder, constant, types.float64, kind)


def _fold(emit: Callable[..., Any], start: float | None) -> Callable[..., Any]:
    """A fold of the items in their order; without a start, of at least one item."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[0]
        vector = opened(context, builder, kind, args[0])
        if start is None:
            empty = builder.icmp_signed("==", vector.size, constant(0))
            raise_if(context, builder, empty, ValueError, "the vector has no items")
            first, begin = load(builder, kind, vector, constant(0)), constant(1)
        else:
            # Truths add up to numbers.
            first = _number(context, builder, sig.return_type, start)
            begin = constant(0)
        total = cgutils.alloca_once_value(builder, first)
        with cgutils.for_range(builder, vector.size, start=begin) as loop:
            item = load(builder, kind, vector, loop.index)
            builder.store(emit(builder, builder.load(total), item), total)
        return builder.load(total)

    return lower


_sum = _fold(arithmetic.add, 0.0)


def _mean(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    total = _sum(context, builder, sig, args)
    size = opened(context, builder, sig.args[0], args[0]).size
    count = context.cast(builder, size, types.intp, sig.return_type)
    return arithmetic.quotient(builder, total, count)


# NumPy's function, which is the method, too; Python's one differs where items are NaN.
_REDUCTIONS: dict[str, dict[Any, Callable[..., Any]]] = {
    "sum": {np.sum: _sum, builtins.sum: _sum},
    "prod": {np.prod: _fold(arithmetic.multiply, 1.0)},
    "max": {
        np.max: _fold(arithmetic.maximum, None),
        builtins.max: _fold(arithmetic.larger, None),
    },
    "min": {
        np.min: _fold(arithmetic.minimum, None),
        builtins.min: _fold(arithmetic.smaller, None),
    },
    "mean": {np.mean: _mean},
}


def _reduced(args: Any) -> Any:
    if len(args) == 1 and isinstance(args[0], LaneVector):
        return signature(Lanes(*args[0].form), args[0])
    return None


for _name, _forms in _REDUCTIONS.items():
    for _target, _reduce in _forms.items():
        typer(_target)(lambda context, args: _reduced(args))
        lowers(_target, LaneVector)(_reduce)
        # Older versions of numba find `np.sum` of a vector by its method, under numba's own key.
        lower_builtin(_target, LaneVector)(_reduce)
    lower_builtin(f"lanes.{_name}", LaneVector)(next(iter(_forms.values())))


def _method(name: str) -> Any:
    @bound_function(f"lanes.{name}")
    def resolve(self: Any, kind: Any, args: Any, kws: Any) -> Any:
        return None if args or kws else signature(Lanes(*kind.form), recvr=kind)

    return resolve


for _name in _REDUCTIONS:
    setattr(Attributes, f"resolve_{_name}", _method(_name))


# --- products of vectors and matrices -----------------------------------------------------------


def _product_typed(context: Any, args: Any) -> Any:
    if len(args) != 2 or not any(isinstance(each, LaneVector) for each in args):
        return None
    form, (a, b) = form_of(args), args
    if form is None:
        return None
    if all(isinstance(each, LaneVector) or is_floats(each) for each in args):
        return signature(Lanes(*form), a, b)
    if is_floats(a, 2) or is_floats(b, 2):
        return signature(LaneVector(form), a, b)
    return None


def _dots(
    context: Any, builder: Any, kind: Any, size: Any, rows: list[Reader], second: Reader
) -> list[Any]:
    """Inner products of rows with one vector, each summed in the order of its items."""
    zero = _number(context, builder, kind, 0.0)
    totals = [cgutils.alloca_once_value(builder, zero) for _ in rows]
    with cgutils.for_range(builder, size) as loop:
        item = second(loop.index)
        for row, total in zip(rows, totals, strict=True):
            before = builder.load(total)
            builder.store(fused.multiply_add(builder, row(loop.index), item, before), total)
    return [builder.load(total) for total in totals]


def _inner(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    operands = [
        reader(context, builder, kind, value, sig.return_type.form, False)
        for kind, value in zip(sig.args, args, strict=True)
    ]
    size = broadcast(context, builder, operands)
    return _dots(context, builder, sig.return_type, size, [operands[0][1]], operands[1][1])[0]


def _matrix(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """matrix @ z, or z @ matrix: rows are its first or its second axis."""
    kind = sig.return_type
    matrix_first = isinstance(sig.args[0], types.Array)
    at = 0 if matrix_first else 1
    sizes = array_sizes(context, builder, sig.args[at], args[at])
    rows, columns = sizes if matrix_first else reversed(sizes)
    size, read = reader(context, builder, sig.args[1 - at], args[1 - at], kind.form, False)
    broadcast(context, builder, [(size, None), (columns, None)])
    out = new(context, builder, kind, rows)

    def row(index: Any) -> Reader:
        def element(column: Any) -> Any:
            place = (index, column) if matrix_first else (column, index)
            number = array_item(context, builder, sig.args[at], args[at], *place)
            return context.cast(builder, number, sig.args[at].dtype, kind.item)

        return element

    def multiply(first: Any, count: int) -> None:
        places = [builder.add(first, constant(k)) for k in range(count)]
        totals = _dots(context, builder, kind.item, columns, [*map(row, places)], read)
        for place, total in zip(places, totals, strict=True):
            store(builder, kind, out, place, total)

    # Rows that share what is read of z, if there are registers for their sums.
    many = constant(processor.rows_at_once())
    groups = builder.sdiv(rows, many)
    with cgutils.for_range(builder, groups) as loop:
        multiply(builder.mul(loop.index, many), processor.rows_at_once())
    with cgutils.for_range(builder, rows, start=builder.mul(groups, many)) as loop:
        multiply(loop.index, 1)
    return out._getvalue()


def _product(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    lower = _inner if isinstance(sig.return_type, Lanes) else _matrix
    return lower(context, builder, sig, args)


for _target in (np.dot, operator.matmul):
    typer(_target)(_product_typed)
    lowers(_target, types.Any, types.Any)(_product)
