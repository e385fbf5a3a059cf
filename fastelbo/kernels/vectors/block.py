"""A user's function of one draw as machine code for a block of draws, called by its address."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..jit.compile import native
from . import elementwise
from .arguments import Arguments, unpacker
from .arrays import constant, opened
from .calls import call_block
from .selects import Rewriter
from .types import DOUBLE, Lanes, LaneVector

assert elementwise  # registers all operations

# Lanes computed at once. No bit of a result depends on it.
WIDTH = 32


class BlockFunction(NamedTuple):
    """Machine code at an address; it lives as long as ``keep``."""

    address: int
    keep: Any


def _views(width: int, stride: int) -> tuple[Any, Any]:
    kind = LaneVector(width, writable=False)

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

        return types.void(out, types.int64, Lanes(width)), generate

    return column, put


_POINTER = types.CPointer(types.float64)
_SIGNATURE = types.int64(types.int64, _POINTER, types.int64, types.int64, types.int64, _POINTER)


def compile_block(
    function: Any, kind: Any, has_data: bool, *, stride: int, width: int = WIDTH
) -> BlockFunction:
    """Compile ``function(z, [data point,] *params)`` for ``width`` draws at once.

    The machine code is for `call_block`. ``kind`` is the type of `Arguments`. Coordinate d of lane
    k is at ``z[d * stride + k]``. The code may read and write up to the next multiple of ``width``
    beyond the last lane. It raises a ``NumbaError`` if the function cannot be compiled, as where
    control flow depends on z, is no select, and ``width`` is not 1.
    """
    column, put = _views(width, stride)
    unpack = unpacker(kind)
    # z, and what each helper gets of it, is in lanes; data and parameters are plain.
    density = native(Rewriter(width, native).rewritten(function, (True,)))

    if has_data:

        def entry(arguments, z, dim, i, n, out):
            data, params = unpack(arguments)
            for k in range(0, n, width):
                put(out, k, density(column(z, dim, k), data[i], *params))
            return 0

    else:

        def entry(arguments, z, dim, i, n, out):
            _, params = unpack(arguments)
            for k in range(0, n, width):
                put(out, k, density(column(z, dim, k), *params))
            return 0

    dispatcher = native(entry, _SIGNATURE)
    (compiled,) = dispatcher.overloads.values()
    name = compiled.fndesc.llvm_func_name
    return BlockFunction(compiled.library.get_pointer_to_function(name), dispatcher)


def evaluate(block: BlockFunction, arguments: Arguments, z: Any, i: int = 0) -> tuple[int, Any]:
    """(status, values) at the draws z (D, n), n at most the stride; for tests and probes."""
    dim, n = z.shape
    room = np.zeros((dim, -(-n // 512) * 512))
    room[:, :n] = z
    out = np.empty(room.shape[1])
    return call_block(block.address, arguments.address, room, i, n, out), out[:n]
