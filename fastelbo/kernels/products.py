"""Products of words of 32 bits, in 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compile import by_target

_U32 = np.uint64(0xFFFFFFFF)


@intrinsic
def _wide_product(typing_context, a, b):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        word = ir.IntType(32)
        words = [builder.trunc(each, word) for each in args]
        kind = ir.FunctionType(ir.IntType(64), [word, word])
        return builder.call(ir.InlineAsm(kind, "mul.wide.u32 $0, $1, $2;", "=l,r,r"), words)

    return types.uint64(types.uint64, types.uint64), generate


def _on_device(a: Any, b: Any) -> Any:
    # A product of 64 bits is made of several, and of those of upper halves that are 0, too.
    return lambda a, b: _wide_product(a, b)


@by_target(_on_device)
def wide_product(a: np.uint64, b: np.uint64) -> np.uint64:
    """a b, where a is below 2^32, and the lower half of b alone is read."""
    return a * (b & _U32)
