"""What the loops of `gradient_block` read and write: dual numbers of z, slopes, and their views."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.extending import intrinsic, overload

from .arrays import constant, new, opened, raise_if
from .duals import parts
from .operands import reader
from .operations import is_floats
from .temporaries import empty
from .types import DOUBLE, NUMBERS, Form, Lanes, LaneVector, Mask


def _place(builder: Any, pointer: Any, width: int, *offset: Any) -> Any:
    """Where the lanes from ``pointer[sum of offset]`` on are."""
    for each in offset:
        pointer = builder.gep(pointer, [each])
    return builder.bitcast(pointer, ir.VectorType(DOUBLE, width).as_pointer())


def dual_views(form: Form, stride: int) -> tuple[Any, ...]:
    """Compiled functions: z as dual numbers; its partials; its values; what writes a result."""
    kind = LaneVector(form, writable=False)

    @intrinsic
    def room(typing_context, dim):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return new(context, builder, kind, args[0])._getvalue()

        return kind(types.int64), generate

    @intrinsic
    def begin(typing_context, duals, first):
        """Partial p of coordinate d is 1 if d = first + p, and else 0."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = opened(context, builder, kind, args[0])
            zero, one = (ir.Constant(ir.VectorType(DOUBLE, form.width), [x] * form.width)
                         for x in (0.0, 1.0))  # fmt: skip
            with cgutils.for_range(builder, vector.size) as loop:
                start = builder.gep(vector.data, [builder.mul(loop.index, vector.step)])
                for p in range(form.partials):
                    own = builder.add(args[1], constant(p))
                    slope = builder.select(builder.icmp_signed("==", loop.index, own), one, zero)
                    place = _place(builder, start, form.width, constant((1 + p) * form.width))
                    builder.store(slope, place, align=8)
            return context.get_dummy_value()

        return types.void(duals, first), generate

    @intrinsic
    def fill(typing_context, duals, z, k):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = opened(context, builder, kind, args[0])
            with cgutils.for_range(builder, vector.size) as loop:
                row = builder.mul(loop.index, constant(stride))
                value = builder.load(_place(builder, args[1], form.width, row, args[2]), align=8)
                item = builder.mul(loop.index, vector.step)
                builder.store(value, _place(builder, vector.data, form.width, item), align=8)
            return context.get_dummy_value()

        return types.void(duals, z, k), generate

    @intrinsic
    def put(typing_context, out, slopes, dim, first, k, value):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out, slopes, dim, first, k, dual = args
            value, *partials = parts(builder, dual)
            builder.store(value, _place(builder, out, form.width, k), align=8)
            for p, slope in enumerate(partials):
                d = builder.add(first, constant(p))
                with builder.if_then(builder.icmp_signed("<", d, dim)):
                    row = builder.mul(d, constant(stride))
                    builder.store(slope, _place(builder, slopes, form.width, row, k), align=8)
            return context.get_dummy_value()

        if not isinstance(value, (*NUMBERS, Lanes, Mask)):
            raise errors.TypingError(f"it returns {value}; expected a number")
        return types.void(out, slopes, dim, first, k, Lanes(*form)), generate

    return room, begin, fill, put


# --- a gradient that a function returns


def as_items(width: int, items: Any) -> Any:
    """What a gradient returned, a list as a vector."""
    return items


@overload(as_items)
def _as_items(width, items):
    if not isinstance(items, types.List):
        return lambda width, items: items
    lanes = width.literal_value if isinstance(width, types.IntegerLiteral) else width

    def copied(width, items):
        vector = empty(lanes, 0, len(items))
        for k, item in enumerate(items):
            vector[k] = item
        return vector

    return copied


def writer(width: int, stride: int) -> Any:
    """A compiled function that writes the slopes of the lanes from k on."""
    form = Form(width)

    @intrinsic
    def put_all(typing_context, slopes, dim, k, items):
        kinds = items.types if isinstance(items, types.BaseTuple) else ()
        numbers = all(isinstance(each, (*NUMBERS, Lanes, Mask)) for each in kinds)
        if not (kinds and numbers) and not isinstance(items, LaneVector) and not is_floats(items):
            raise errors.TypingError(f"it returns {items}; expected a number of each coordinate")

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            slopes, dim, k, given = args

            def write(d: Any, value: Any) -> None:
                row = builder.mul(d, constant(stride))
                builder.store(value, _place(builder, slopes, width, row, k), align=8)

            def require(size: Any) -> None:
                differ = builder.icmp_signed("!=", size, dim)
                raise_if(context, builder, differ, ValueError, "the gradient has another length")

            if kinds:
                require(constant(len(kinds)))
                values = cgutils.unpack_tuple(builder, given)
                for d, (kind, value) in enumerate(zip(kinds, values, strict=True)):
                    write(constant(d), context.cast(builder, value, kind, Lanes(width)))
            else:
                size, read = reader(context, builder, items, given, form, False)
                require(size)
                with cgutils.for_range(builder, size) as loop:
                    write(loop.index, read(loop.index))
            return context.get_dummy_value()

        return types.void(slopes, dim, k, items), generate

    return put_all
