"""Instructions that no loop compiles to: comparisons as bits, sums of groups, prefetching.

A loop that sets bits one by one vectorises, but into shifts and a reduction. The instruction sets
have one comparison of vectors that returns bits. A loop over groups of consecutive numbers does not
vectorise: it would gather them. The hardware prefetches the next elements of an
array, but not if other work comes in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from ..jit.targets import vector_bits

BITS = 64
# The widest vectors that are compared to lanes, not to bits.
_LANE_BITS = 256

_INT = ir.IntType(64)


def word_above(x: Any, first: int, threshold: float) -> np.uint64:
    """A word whose bit k is set if x[first + k] is above the threshold; x is contiguous."""
    return np.uint64(sum(1 << k for k in range(BITS) if x[first + k] > threshold))


def word_below(x: Any, first: int, threshold: float) -> np.uint64:
    """A word whose bit k is set if x[first + k] is below the threshold; x is contiguous."""
    return np.uint64(sum(1 << k for k in range(BITS) if x[first + k] < threshold))


def lowest_bit(word: np.uint64) -> int:
    """The index of the lowest set bit of a word; 0 for the word 0."""
    return max(0, (int(word) & -int(word)).bit_length() - 1)


def _shuffled(builder: Any, one: Any, other: Any, places: list[int]) -> Any:
    index = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(one, other, index)


def _spread(builder: Any, number: Any, count: int) -> Any:
    """A vector of the same number."""
    none = ir.Constant(ir.VectorType(number.type, count), ir.Undefined)
    one = builder.insert_element(none, number, ir.IntType(32)(0))
    return _shuffled(builder, one, none, [0] * count)


def _word_of_masks(builder: Any, symbol: str, start: Any, threshold: Any) -> Any:
    """The word where vectors are compared to bits."""
    vector = ir.VectorType(ir.DoubleType(), BITS)
    values = builder.load(builder.bitcast(start, vector.as_pointer()), align=8)
    found = builder.fcmp_ordered(symbol, values, _spread(builder, threshold, BITS))
    return builder.bitcast(found, _INT)


def _word_of_lanes(builder: Any, symbol: str, start: Any, threshold: Any) -> Any:
    """The word where vectors are compared to lanes of all bits or none.

    Each lane keeps its own bit of the word. To pack the lanes would take twice as long.
    """
    quad, lanes = ir.VectorType(ir.DoubleType(), 4), ir.VectorType(_INT, 4)
    thresholds, word = _spread(builder, threshold, 4), ir.Constant(lanes, [0] * 4)
    for first in range(0, BITS, 4):
        home = builder.gep(start, [_INT(first)])
        values = builder.load(builder.bitcast(home, quad.as_pointer()), align=8)
        found = builder.sext(builder.fcmp_ordered(symbol, values, thresholds), lanes)
        own = ir.Constant(lanes, [1 << (first + lane) for lane in range(4)])
        word = builder.or_(word, builder.and_(found, own))
    pairs = builder.or_(*(_shuffled(builder, word, word, each) for each in ([0, 1], [2, 3])))
    return builder.or_(*(builder.extract_element(pairs, ir.IntType(32)(k)) for k in range(2)))


def _comparison(function: Any, symbol: str) -> None:
    """Compile ``function`` to one comparison of vectors."""

    @intrinsic
    def compare(typing_context, address, first, threshold):
        def generate(context, builder, signature, args):
            x = builder.inttoptr(args[0], ir.DoubleType().as_pointer())
            word = _word_of_masks if vector_bits() > _LANE_BITS else _word_of_lanes
            return word(builder, symbol, builder.gep(x, [args[1]]), args[2])

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
        zeros = builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))
        return builder.and_(zeros, _INT(BITS - 1))

    return types.int64(types.uint64), generate


@overload(lowest_bit)
def _lowest_bit_overload(word):
    return lambda word: _lowest_bit(word)


def four_sums(x: Any, first: int, size: int, out: Any, place: int) -> None:
    """out[place + i] = the sum of x[first + i size : first + (i + 1) size], for i = 0, 1, 2, 3.

    The size is at least 4. Partial sum j of a group takes every fourth term from term j on, and the
    last partial sums take the last size % 4 terms. Both arrays are contiguous; x may be ``out``.
    """
    rest = size % 4
    for i in range(4):
        start = first + i * size
        partial = [x[start + j] for j in range(4)]
        for k in range(4, size - rest):
            partial[k % 4] += x[start + k]
        for j in range(4 - rest, 4):
            partial[j] += x[start + size - 4 + j]
        out[place + i] = (partial[0] + partial[1]) + (partial[2] + partial[3])


@intrinsic
def _four_sums(typing_context, address, first, size, out, place):
    def generate(context, builder, signature, args):
        address, first, size, out, place = args
        quad, number = ir.VectorType(ir.DoubleType(), 4), ir.DoubleType().as_pointer()
        x, four = builder.inttoptr(address, number), _INT(4)

        def at(base, index):
            return builder.bitcast(builder.gep(base, [index]), quad.as_pointer())

        starts = [
            builder.gep(x, [builder.add(first, builder.mul(size, _INT(i)))]) for i in range(4)
        ]

        def terms(i, offset):
            return builder.load(at(starts[i], offset), align=8)

        partial = [cgutils.alloca_once_value(builder, terms(i, _INT(0))) for i in range(4)]
        whole = builder.and_(size, _INT(-4))
        with cgutils.for_range_slice(builder, four, whole, four) as (k, _):
            for i in range(4):
                builder.store(builder.fadd(builder.load(partial[i]), terms(i, k)), partial[i])
        # Of the last four terms, those that are not added yet.
        bound = _spread(builder, builder.sub(four, builder.urem(size, four)), 4)
        lanes = ir.Constant(ir.VectorType(_INT, 4), list(range(4)))
        new = builder.icmp_unsigned(">=", lanes, bound)
        zero = ir.Constant(quad, [0.0] * 4)
        a, b, c, d = (
            builder.fadd(
                builder.load(partial[i]),
                builder.select(new, terms(i, builder.sub(size, four)), zero),
            )
            for i in range(4)
        )

        def pairs(one, other):
            even = _shuffled(builder, one, other, [0, 4, 2, 6])
            return builder.fadd(even, _shuffled(builder, one, other, [1, 5, 3, 7]))

        low, high = pairs(a, b), pairs(c, d)
        total = builder.fadd(
            _shuffled(builder, low, high, [0, 1, 4, 5]), _shuffled(builder, low, high, [2, 3, 6, 7])
        )
        builder.store(total, at(builder.inttoptr(out, number), place), align=8)
        return size

    integers = types.uintp, types.int64, types.int64, types.uintp, types.int64
    return types.int64(*integers), generate


@overload(four_sums)
def _four_sums_overload(x, first, size, out, place):
    def sums(x, first, size, out, place):
        _four_sums(x.ctypes.data, first, size, out.ctypes.data, place)

    return sums


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


def prefetch_rows(x: Any, place: int, stride: int, width: int, count: int) -> None:
    """Prefetch x[place + k stride : place + k stride + width] for k < count.

    They may lie beyond the end of x: nothing is read.
    """


@overload(prefetch_rows)
def _prefetch_rows_overload(x, place, stride, width, count):
    size = x.dtype.bitwidth // 8
    step = _LINE // size

    def rows(x, place, stride, width, count):
        for k in range(count):
            start = place + k * stride
            for j in range(0, width, step):
                _prefetch(x.ctypes.data, (start + j) * size)
            # The last line, of which the loop may have left out a part.
            _prefetch(x.ctypes.data, (start + width - 1) * size)

    return rows
