"""Instructions that no loop compiles to: comparisons as the bits of a word, and prefetching.

A loop that sets bits one by one vectorises, but into shifts and a reduction. The instruction sets
have one comparison of vectors that returns bits. The hardware prefetches the next elements of an
array, but not if other work comes in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

BITS = 64

_INT = ir.IntType(64)


def word_above(x: Any, first: int, threshold: float) -> np.uint64:
    """A word whose bit k is set if x[first + k] is above the threshold; x is contiguous."""
    return np.uint64(sum(1 << k for k in range(BITS) if x[first + k] > threshold))


def word_below(x: Any, first: int, threshold: float) -> np.uint64:
    """A word whose bit k is set if x[first + k] is below the threshold; x is contiguous."""
    return np.uint64(sum(1 << k for k in range(BITS) if x[first + k] < threshold))


def lowest_bit(word: np.uint64) -> int:
    """The index of the lowest set bit of a word; the word is not 0."""
    return (int(word) & -int(word)).bit_length() - 1


def _comparison(function: Any, symbol: str) -> None:
    """Compile ``function`` to one comparison of vectors."""

    @intrinsic
    def compare(typing_context, address, first, threshold):
        def generate(context, builder, signature, args):
            vector = ir.VectorType(ir.DoubleType(), BITS)
            x = builder.inttoptr(args[0], ir.DoubleType().as_pointer())
            start = builder.gep(x, [args[1]])
            values = builder.load(builder.bitcast(start, vector.as_pointer()), align=8)
            none = ir.Constant(vector, ir.Undefined)
            one = builder.insert_element(none, args[2], ir.Constant(ir.IntType(32), 0))
            same = ir.Constant(ir.VectorType(ir.IntType(32), BITS), [0] * BITS)
            thresholds = builder.shuffle_vector(one, none, same)
            return builder.bitcast(builder.fcmp_ordered(symbol, values, thresholds), _INT)

        return types.uint64(types.uintp, types.int64, types.float64), generate

    def choose(x, first, threshold):
        if x.layout != "C" or x.dtype != types.float64:
            return None
        return lambda x, first, threshold: compare(x.ctypes.data, first, threshold)

    overload(function)(choose)


_comparison(word_above, ">")
_comparison(word_below, "<")


@intrinsic
def _lowest_bit(typing_context, word):
    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@overload(lowest_bit)
def _lowest_bit_overload(word):
    return lambda word: _lowest_bit(word)


# Bytes of a cache line.
_LINE = 64
# Arguments of llvm.prefetch: for reading, into the second-level cache, data.
_HOW = (0, 2, 1)


def prefetch(x: Any, first: int, stop: int) -> None:
    """Prefetch x[first:stop] into the cache; elements beyond the end of x are ignored."""


@intrinsic
def _prefetch(typing_context, address, offset):
    def generate(context, builder, signature, args):
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], signature)
        place = builder.gep(builder.inttoptr(args[0], pointer), [args[1]])
        builder.call(function, [place, *(ir.Constant(word, each) for each in _HOW)])
        return args[1]

    return types.int64(types.uintp, types.int64), generate


@overload(prefetch)
def _prefetch_overload(x, first, stop):
    size = x.dtype.bitwidth // 8
    step = _LINE // size

    def lines(x, first, stop):
        for k in range(first, min(stop, x.shape[0]), step):
            _prefetch(x.ctypes.data, k * size)

    return lines
