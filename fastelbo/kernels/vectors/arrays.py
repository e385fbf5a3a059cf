"""z and other vectors of values in lanes: items, slices, length, iteration, writing."""

from __future__ import annotations

import builtins
import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.core.imputils import (
    RefType,
    impl_ret_borrowed,
    iternext_impl,
    lower_builtin,
    lower_getattr,
)
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer,
    infer_getattr,
    signature,
)
from numba.cpython import slicing

from .duals import parts
from .errors import READ_ONLY
from .operations import is_floats, lowers, typer
from .types import (
    DOUBLE,
    INDEX,
    NUMBERS,
    LaneIterator,
    Lanes,
    LaneVector,
    Mask,
    is_dual,
    with_partials,
)


def constant(number: int) -> Any:
    return ir.Constant(INDEX, number)


def opened(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The fields of a vector."""
    return cgutils.create_struct_proxy(kind)(context, builder, value=value)


def _places(builder: Any, kind: Any, vector: Any, index: Any) -> list[Any]:
    """Where an item is: its value, and its partials."""
    start = builder.gep(vector.data, [builder.mul(index, vector.step)])
    first = builder.bitcast(start, ir.VectorType(DOUBLE, kind.width).as_pointer())
    return [first, *(builder.gep(first, [constant(1 + k)]) for k in range(kind.form.partials))]


def load(builder: Any, kind: Any, vector: Any, index: Any) -> Any:
    """Item ``index`` as floats in lanes; masks as 0 and 1."""
    places = _places(builder, kind, vector, index)
    value, *partials = (builder.load(each, align=8) for each in places)
    return with_partials(builder, kind.form, value, partials)


def store(builder: Any, kind: Any, vector: Any, index: Any, value: Any) -> None:
    """Write an item, of floats or bits."""
    if not is_dual(value.type):
        if value.type.element != DOUBLE:
            value = builder.uitofp(value, ir.VectorType(DOUBLE, kind.width))
        value = with_partials(builder, kind.form, value)
    places = _places(builder, kind, vector, index)
    for part, place in zip(parts(builder, value), places, strict=True):
        builder.store(part, place, align=8)


def as_item(builder: Any, kind: Any, value: Any) -> Any:
    """Floats as an item of a vector: bits if it holds masks."""
    if not kind.is_mask:
        return value
    number = parts(builder, value)[0]
    return builder.fcmp_unordered("!=", number, ir.Constant(number.type, [0.0] * kind.width))


def new(context: Any, builder: Any, kind: Any, size: Any) -> Any:
    """A vector with memory of its own."""
    vector = opened(context, builder, kind, None)
    bytes_ = builder.mul(size, constant(kind.item_size * 8))
    vector.meminfo = context.nrt.meminfo_alloc(builder, bytes_)
    data = context.nrt.meminfo_data(builder, vector.meminfo)
    vector.data = builder.bitcast(data, DOUBLE.as_pointer())
    vector.size, vector.step = size, constant(kind.item_size)
    return vector


def raise_if(context: Any, builder: Any, bad: Any, error: Any, message: str) -> None:
    """Leave the user's function with an error."""
    with builder.if_then(bad, likely=False):
        context.call_conv.return_user_exc(builder, error, (message,))


def checked(context: Any, builder: Any, vector: Any, kind: Any, index: Any) -> Any:
    """An index of the given integer type, counted from the end if negative, inside the vector."""
    index = context.cast(builder, index, kind, types.intp)
    if kind.signed:
        negative = builder.icmp_signed("<", index, constant(0))
        index = builder.select(negative, builder.add(index, vector.size), index)
    outside = builder.icmp_unsigned(">=", index, vector.size)
    raise_if(context, builder, outside, IndexError, "the index is outside of the vector")
    return index


@infer_getattr
class Attributes(AttributeTemplate):  # type: ignore[misc]
    """size, ndim, shape; `elementwise` adds the methods."""

    key = LaneVector

    def resolve_size(self, kind: Any) -> Any:
        return types.intp

    def resolve_ndim(self, kind: Any) -> Any:
        return types.intp

    def resolve_shape(self, kind: Any) -> Any:
        return types.UniTuple(types.intp, 1)


@lower_getattr(LaneVector, "size")
def _size(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return opened(context, builder, kind, value).size


@lower_getattr(LaneVector, "ndim")
def _ndim(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return constant(1)


@lower_getattr(LaneVector, "shape")
def _shape(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return cgutils.pack_array(builder, [opened(context, builder, kind, value).size])


@typer(builtins.len)
def _len_typed(context: Any, args: Any) -> Any:
    return signature(types.intp, *args) if isinstance(args[0], LaneVector) else None


@lowers(len, LaneVector)
def _len(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return opened(context, builder, sig.args[0], args[0]).size


# --- items --------------------------------------------------------------------------------------


@typer(operator.getitem)
def _getitem_typed(context: Any, args: Any) -> Any:
    vector, index = args
    if not isinstance(vector, LaneVector):
        return None
    if isinstance(index, types.Integer):
        return signature(vector.item, vector, index)
    if isinstance(index, types.SliceType):
        return signature(vector, vector, index)
    if is_floats(index) and isinstance(index.dtype, types.Integer):
        return signature(LaneVector(vector.form, True, vector.is_mask), vector, index)
    return None


@lowers(operator.getitem, LaneVector, types.Integer)
def _item(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind = sig.args[0]
    vector = opened(context, builder, kind, args[0])
    index = checked(context, builder, vector, sig.args[1], args[1])
    return as_item(builder, kind, load(builder, kind, vector, index))


def sliced(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The part of a vector that a slice names: a view."""
    kind, slice_kind = sig.args[:2]
    vector = opened(context, builder, kind, args[0])
    part = context.make_helper(builder, slice_kind, args[1])
    slicing.guard_invalid_slice(context, builder, slice_kind, part)
    slicing.fix_slice(builder, part, vector.size)
    view = opened(context, builder, kind, None)
    view.meminfo = vector.meminfo
    view.data = builder.gep(vector.data, [builder.mul(part.start, vector.step)])
    view.size = slicing.get_slice_length(builder, part)
    view.step = builder.mul(vector.step, part.step) if slice_kind.has_step else vector.step
    return view


@lowers(operator.getitem, LaneVector, types.SliceType)
def _slice(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    view = sliced(context, builder, sig, args)
    return impl_ret_borrowed(context, builder, sig.return_type, view._getvalue())


def array_item(context: Any, builder: Any, kind: Any, value: Any, *indices: Any) -> Any:
    """An element of an array of plain numbers."""
    array = context.make_array(kind)(context, builder, value)
    place = cgutils.get_item_pointer(context, builder, kind, array, list(indices), wraparound=False)
    return context.unpack_value(builder, kind.dtype, place)


def array_sizes(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The shape of an array, as LLVM values."""
    array = context.make_array(kind)(context, builder, value)
    return cgutils.unpack_tuple(builder, array.shape, kind.ndim)


@lowers(operator.getitem, LaneVector, types.Array)
def _items(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind, index_kind = sig.args
    vector = opened(context, builder, kind, args[0])
    (size,) = array_sizes(context, builder, index_kind, args[1])
    out = new(context, builder, sig.return_type, size)
    with cgutils.for_range(builder, size) as loop:
        index = array_item(context, builder, index_kind, args[1], loop.index)
        index = checked(context, builder, vector, index_kind.dtype, index)
        store(builder, kind, out, loop.index, load(builder, kind, vector, index))
    return out._getvalue()


@typer(operator.setitem)
def _setitem_typed(context: Any, args: Any) -> Any:
    vector, index, value = args
    if not isinstance(vector, LaneVector):
        return None
    if not vector.writable:
        raise errors.TypingError(READ_ONLY)
    if isinstance(index, types.SliceType) and (isinstance(value, LaneVector) or is_floats(value)):
        return signature(types.none, vector, index, value)
    if not isinstance(value, (*NUMBERS, Lanes, Mask)):
        return None
    if isinstance(index, (types.Integer, types.SliceType)):
        return signature(types.none, vector, index, Lanes(*vector.form))
    return None


@lowers(operator.setitem, LaneVector, types.Integer, Lanes)
def _set_item(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kind, index_kind, _ = sig.args
    vector = opened(context, builder, kind, args[0])
    index = checked(context, builder, vector, index_kind, args[1])
    store(builder, kind, vector, index, args[2])
    return context.get_dummy_value()


@lowers(operator.setitem, LaneVector, types.SliceType, Lanes)
def _set_slice(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    view = sliced(context, builder, sig, args)
    with cgutils.for_range(builder, view.size) as loop:
        store(builder, sig.args[0], view, loop.index, args[2])
    return context.get_dummy_value()


# --- iteration ----------------------------------------------------------------------------------


@infer
class _GetIter(AbstractTemplate):  # type: ignore[misc]
    key = "getiter"

    def generic(self, args: Any, kws: Any) -> Any:
        (vector,) = args
        return signature(LaneIterator(vector), vector) if isinstance(vector, LaneVector) else None


@lower_builtin("getiter", LaneVector)
def _getiter(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    iterator = context.make_helper(builder, sig.return_type)
    place = cgutils.alloca_once_value(builder, constant(0))
    iterator.index, iterator.vector = place, args[0]
    context.nrt.incref(builder, sig.args[0], args[0])
    return iterator._getvalue()


@lower_builtin("iternext", LaneIterator)
@iternext_impl(RefType.UNTRACKED)
def _iternext(context: Any, builder: Any, sig: Any, args: Any, result: Any) -> None:
    (kind,) = sig.args
    iterator = context.make_helper(builder, kind, value=args[0])
    vector = opened(context, builder, kind.vector, iterator.vector)
    index = builder.load(iterator.index)
    valid = builder.icmp_signed("<", index, vector.size)
    result.set_valid(valid)
    with builder.if_then(valid):
        item = load(builder, kind.vector, vector, index)
        result.yield_(as_item(builder, kind.vector, item))
        builder.store(builder.add(index, constant(1)), iterator.index)
