"""Asking for memory before it is needed.

Hardware sees the next elements of an array coming, but not that other work stands in between.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

# Bytes that come from memory at once.
_LINE = 64
# Arguments of LLVM's: to be read, kept in the second level of caches, data.
_HOW = (0, 2, 1)


def prefetch(x: Any, first: int, stop: int) -> None:
    """Bring x[first:stop], as far as there is such a part, nearer."""


@intrinsic
def _prefetch(typing_context, x, k):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], signature)
        place = builder.bitcast(builder.gep(array.data, [args[1]]), pointer)
        builder.call(function, [place, *(ir.Constant(word, each) for each in _HOW)])
        return context.get_dummy_value()

    return types.void(x, types.int64), generate


@overload(prefetch)
def _prefetch_overload(x, first, stop):  # type: ignore[no-untyped-def]
    step = _LINE * 8 // x.dtype.bitwidth

    def lines(x, first, stop):  # type: ignore[no-untyped-def]
        for k in range(first, min(stop, x.shape[0]), step):
            _prefetch(x, k)

    return lines
