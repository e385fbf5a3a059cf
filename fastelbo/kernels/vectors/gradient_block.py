"""A user's log density and its gradient as machine code for a block of draws.

The gradient is that of dual numbers, from the source of the density, or what a function of the user
says. The values are those of `block`, bit by bit.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.extending import intrinsic, overload

from ..jit.compile import native
from . import derivatives, processor
from .agreement import require_agreement
from .arguments import unpacker
from .arrays import constant, new, opened, raise_if
from .binding import bound
from .block import WIDTH as VALUE_WIDTH
from .block import BlockFunction, views
from .duals import parts
from .errors import NotCompiled, explained
from .operands import reader
from .operations import is_floats
from .rewriting import Rewriter
from .temporaries import empty
from .types import DOUBLE, NUMBERS, Form, Lanes, LaneVector, Mask

assert derivatives  # registers the rules of dual numbers

# Most partials at once: code grows with their number. More coordinates take several passes.
MOST_PARTIALS = 16

_POINTER = types.CPointer(types.float64)
# Of the machine code of gradients, for `call_gradient_block`.
SIGNATURE = types.int64(
    types.int64, _POINTER, types.int64, types.int64, types.int64, _POINTER, _POINTER
)


def partials_of(dim: int) -> int:
    """Partials of a dual number, for the fewest passes over D coordinates."""
    passes = -(-dim // MOST_PARTIALS)
    return -(-dim // passes)


def width_of(dim: int) -> int:
    """Lanes of dual numbers, each in several registers. No bit of a result depends on it."""
    return processor.lanes_beside(partials_of(dim))


def compile_duals(
    function: Any, kind: Any, has_data: bool, *, dim: int, stride: int, width: int
) -> BlockFunction:
    """Compile ``function(z, [data point,] *params)`` and its gradient by dual numbers.

    The machine code is for `call_gradient_block`, and as `compile_block` says. Slope d of lane k is
    at ``slopes[d * stride + k]``.
    """
    form = Form(width, partials_of(dim))
    plain, before, after = bound(function, 1 + has_data + len(kind.types[1]))
    rewriter = Rewriter(form.width, native, form.partials)

    def make() -> Any:
        density = native(rewriter.rewritten(plain, (*(False for _ in before), True)))
        entry = _by_duals(density, before, after, kind, has_data, stride, form)
        return native(entry, SIGNATURE), density

    return _compiled(make, plain, rewriter)


def compile_given(
    function: Any, gradient: Any, kind: Any, has_data: bool, *, stride: int,
    width: int = VALUE_WIDTH,
) -> BlockFunction:  # fmt: skip
    """The same, with a function that returns the gradient.

    ``kind`` is that of a tuple of the params of both functions.
    """
    rewriter = Rewriter(width, native)
    pair = [
        bound(each, 1 + has_data + len(own))
        for each, own in zip((function, gradient), kind.types[1].types, strict=True)
    ]

    def make() -> Any:
        codes = [
            native(rewriter.rewritten(plain, (*(False for _ in before), True)))
            for plain, before, _ in pair
        ]
        entry = _by_function(codes, pair, kind, has_data, stride, width)
        return native(entry, SIGNATURE), *codes

    return _compiled(make, pair[1].function, rewriter)


def _compiled(make: Any, plain: Any, rewriter: Rewriter) -> BlockFunction:
    try:
        dispatcher, *codes = make()
        (compiled,) = dispatcher.overloads.values()
    except NotCompiled:
        raise
    except Exception as error:
        raise explained(error, plain, rewriter.width) from error
    require_agreement(plain, (*codes, *rewriter.helpers))
    name = compiled.fndesc.llvm_func_name
    return BlockFunction(compiled.library.get_pointer_to_function(name), dispatcher)


# --- dual numbers -------------------------------------------------------------------------------


def _by_duals(
    density: Any, before: Any, after: Any, kind: Any, has_data: bool, stride: int, form: Form
) -> Any:
    """The loop over passes and lanes. z is a vector of dual numbers, whose values are replaced."""
    room, begin, fill, put = _dual_views(form, stride)
    unpack = unpacker(kind)
    width, partials = form

    if has_data:

        def entry(arguments, z, dim, i, n, out, slopes):
            data, params = unpack(arguments)
            duals = room(dim)
            for first in range(0, dim, partials):
                begin(duals, first)
                for k in range(0, n, width):
                    fill(duals, z, k)
                    value = density(*before, duals, data[i], *params, *after)
                    put(out, slopes, dim, first, k, value)
            return 0

    else:

        def entry(arguments, z, dim, i, n, out, slopes):
            _, params = unpack(arguments)
            duals = room(dim)
            for first in range(0, dim, partials):
                begin(duals, first)
                for k in range(0, n, width):
                    fill(duals, z, k)
                    value = density(*before, duals, *params, *after)
                    put(out, slopes, dim, first, k, value)
            return 0

    return entry


def _place(builder: Any, pointer: Any, width: int, *offset: Any) -> Any:
    """Where the lanes from ``pointer[sum of offset]`` on are."""
    for each in offset:
        pointer = builder.gep(pointer, [each])
    return builder.bitcast(pointer, ir.VectorType(DOUBLE, width).as_pointer())


def _dual_views(form: Form, stride: int) -> tuple[Any, ...]:
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


# --- a function of the user's -------------------------------------------------------------------


def _by_function(
    codes: list[Any], pair: list[Any], kind: Any, has_data: bool, stride: int, width: int
) -> Any:
    column, put = views(width, stride)
    put_all = _writer(width, stride)
    unpack = unpacker(kind)
    density, gradient = codes
    (_, before, after), (_, before_g, after_g) = pair

    if has_data:

        def entry(arguments, z, dim, i, n, out, slopes):
            data, (params, params_g) = unpack(arguments)
            for k in range(0, n, width):
                value = density(*before, column(z, dim, k), data[i], *params, *after)
                items = gradient(*before_g, column(z, dim, k), data[i], *params_g, *after_g)
                put(out, k, value)
                put_all(slopes, dim, k, as_items(width, items))
            return 0

    else:

        def entry(arguments, z, dim, i, n, out, slopes):
            _, (params, params_g) = unpack(arguments)
            for k in range(0, n, width):
                value = density(*before, column(z, dim, k), *params, *after)
                items = gradient(*before_g, column(z, dim, k), *params_g, *after_g)
                put(out, k, value)
                put_all(slopes, dim, k, as_items(width, items))
            return 0

    return entry


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


def _writer(width: int, stride: int) -> Any:
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
