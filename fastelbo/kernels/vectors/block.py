"""A user's function of one draw as machine code for a block of draws, called by its address."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.extending import intrinsic

from ..jit.compile import native
from . import elementwise
from .agreement import require_agreement
from .arguments import Arguments, unpacker
from .arrays import constant, opened
from .binding import bound
from .calls import call_block
from .errors import NotCompiled, explained
from .rewriting import Rewriter
from .types import DOUBLE, NUMBERS, Form, Lanes, LaneVector, Mask

assert elementwise  # registers all operations

# Lanes computed at once. No bit of a result depends on it.
WIDTH = 32


class BlockFunction(NamedTuple):
    """Machine code at an address; it lives as long as ``keep``."""

    address: int
    keep: Any


def views(width: int, stride: int) -> tuple[Any, Any]:
    """Compiled functions: the vector z of the lanes from k on, and what writes a value there."""
    kind = LaneVector(Form(width), writable=False)

    @intrinsic
    def column(typing_context, z, dim, k):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = opened(context, builder, kind, None)
            vector.meminfo = cgutils.get_null_value(vector.meminfo.type)
            vector.data = builder.gep(args[0], [args[2]])
            vector.size, vector.step = args[1], constant(stride)
            return vector._getvalue()

        return kind(z, types.int64, types.int64), generate

    @intrinsic
    def put(typing_context, out, k, value):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = builder.gep(args[0], [args[1]])
            place = builder.bitcast(place, ir.VectorType(DOUBLE, width).as_pointer())
            builder.store(args[2], place, align=8)
            return context.get_dummy_value()

        if not isinstance(value, (*NUMBERS, Lanes, Mask)):
            raise errors.TypingError(f"it returns {value}; expected a number")
        return types.void(out, types.int64, Lanes(width)), generate

    return column, put


_POINTER = types.CPointer(types.float64)
# Of the machine code of block functions, for `call_block`.
SIGNATURE = types.int64(types.int64, _POINTER, types.int64, types.int64, types.int64, _POINTER)
# With the gradient, for `call_gradient_block`.
GRADIENT_SIGNATURE = types.int64(*SIGNATURE.args, _POINTER)


def compile_block(
    function: Any, kind: Any, has_data: bool, *, stride: int, width: int = WIDTH
) -> BlockFunction:
    """Compile ``function(z, [data point,] *params)`` for ``width`` draws at once.

    The machine code is for `call_block`. ``kind`` is the type of `Arguments`. Coordinate d of lane
    k is at ``z[d * stride + k]``. The code may read and write up to the next multiple of ``width``
    beyond the last lane. It raises `NotCompiled` where the function has no compiled form. With
    ``one_lane`` in it, ``width=1`` may have one: there, z may steer the control flow.
    """
    n_params = len(kind.types[1])
    plain, before, after = bound(function, 1 + has_data + n_params)
    depends = (*(False for _ in before), True)
    rewriter = Rewriter(width, native)
    try:
        density = native(rewriter.rewritten(plain, depends))
        entry = _entry(density, before, after, kind, has_data, stride, width)
        dispatcher = native(entry, SIGNATURE)
        (compiled,) = dispatcher.overloads.values()
    except NotCompiled:
        raise
    except Exception as error:
        raise explained(error, plain, width) from error
    require_agreement(plain, (density, *rewriter.helpers))
    name = compiled.fndesc.llvm_func_name
    return BlockFunction(compiled.library.get_pointer_to_function(name), dispatcher)


def _entry(
    density: Any, before: Any, after: Any, kind: Any, has_data: bool, stride: int, width: int
) -> Any:
    """The loop over the lanes of a block. An error leaves ``out`` as it is from there on.

    To fill it with NaN before would take as long as a short density does.
    """
    column, put = views(width, stride)
    unpack = unpacker(kind)

    if has_data:

        def entry(arguments, z, dim, i, n, out):
            data, params = unpack(arguments)
            for k in range(0, n, width):
                value = density(*before, column(z, dim, k), data[i], *params, *after)
                put(out, k, value)
            return 0

    else:

        def entry(arguments, z, dim, i, n, out):
            _, params = unpack(arguments)
            for k in range(0, n, width):
                put(out, k, density(*before, column(z, dim, k), *params, *after))
            return 0

    return entry


def evaluate(block: BlockFunction, arguments: Arguments, z: Any, i: int = 0) -> tuple[int, Any]:
    """(status, values) at the draws z (D, n), n at most the stride; NaN if left out by an error."""
    dim, n = z.shape
    room = np.zeros((dim, -(-n // 512) * 512))
    room[:, :n] = z
    out = np.full(room.shape[1], np.nan)
    return call_block(block.address, arguments.address, room, i, n, out), out[:n]
