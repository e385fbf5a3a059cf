"""Sums of products of rows, many at a time, which stay in registers.

A sum is of four partial sums: partial sum j takes the lanes whose index is j modulo 4, in their
order. So a sum is one vector on every processor, its bits are the same there, and the next block
goes on where the last one ended. `close_products` adds the four.

A loop over lanes that adds to eight rows does not vectorise, as the compiler would have to show
that no row overlaps another. Here one vector is loaded once for all the products that it is in.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from ..jit.compile import block

# Partial sums of a sum.
PARTS = 4
# Products of a call of either function.
TILE_PRODUCTS = 8
ROW_PRODUCTS = 4
# Pairs of rows (of left, of right) whose products are summed.
_TILE = [(a, b) for a in range(2) for b in range(4)]
_ROWS = [(a, a) for a in range(ROW_PRODUCTS)]
_FLAGS = ("contract",)


def add_tile_products(left: Any, right: Any, i: int, j: int, n: int, sums: Any, at: int) -> None:
    """sums[at + 4 a + b] += the products of left[i + a] and right[j + b], for a < 2 and b < 4.

    Over the first n lanes, a multiple of `PARTS`. All arrays are contiguous matrices of float64;
    those of rows are equally wide.
    """
    _add(_TILE, left[i:], right[j:], n, sums[at:])


def add_row_products(left: Any, right: Any, i: int, j: int, n: int, sums: Any, at: int) -> None:
    """sums[at + a] += the products of left[i + a] and right[j + a], for a < 4; else the same."""
    _add(_ROWS, left[i:], right[j:], n, sums[at:])


def _add(pairs: list[tuple[int, int]], left: Any, right: Any, n: int, sums: Any) -> None:
    for place, (a, b) in enumerate(pairs):
        for k in range(0, n, PARTS):
            sums[place] += left[a, k : k + PARTS] * right[b, k : k + PARTS]


def _compile(function: Any, pairs: list[tuple[int, int]]) -> None:
    """Compile ``function`` to a loop over vectors, with a sum for each of the pairs of rows."""
    vector, word = ir.VectorType(ir.DoubleType(), PARTS), ir.IntType(64)
    double = ir.DoubleType().as_pointer()

    @intrinsic
    def add(typing_context, left, right, sums, width, n):
        def generate(context, builder, signature, args):
            rows, others, out = (builder.inttoptr(each, double) for each in args[:3])
            width, n = args[3:]

            def vector_at(base, first):
                return builder.bitcast(builder.gep(base, [first]), vector.as_pointer())

            def row(base, number, k):
                first = builder.add(builder.mul(width, ir.Constant(word, number)), k)
                return builder.load(vector_at(base, first), align=8)

            homes = [
                vector_at(out, ir.Constant(word, PARTS * place)) for place in range(len(pairs))
            ]
            held = [cgutils.alloca_once(builder, vector) for _ in pairs]
            for home, place in zip(homes, held, strict=True):
                builder.store(builder.load(home, align=8), place)
            step = ir.Constant(word, PARTS)
            with cgutils.for_range(builder, builder.udiv(n, step)) as loop:
                k = builder.mul(loop.index, step)
                lefts = {a: row(rows, a, k) for a in sorted({a for a, _ in pairs})}
                rights = {b: row(others, b, k) for b in sorted({b for _, b in pairs})}
                for place, (a, b) in zip(held, pairs, strict=True):
                    product = builder.fmul(lefts[a], rights[b], flags=_FLAGS)
                    total = builder.fadd(builder.load(place), product, flags=_FLAGS)
                    builder.store(total, place)
            for home, place in zip(homes, held, strict=True):
                builder.store(builder.load(place), home, align=8)
            return args[4]

        address = types.uintp
        return types.int64(address, address, address, types.int64, types.int64), generate

    def choose(left, right, i, j, n, sums, at):
        def call(left, right, i, j, n, sums, at):
            rows, others, out = left[i:], right[j:], sums[at:]
            add(rows.ctypes.data, others.ctypes.data, out.ctypes.data, left.shape[1], n)

        return call

    overload(function)(choose)


_compile(add_tile_products, _TILE)
_compile(add_row_products, _ROWS)


@block
def close_products(sums, place):
    """The sum that is in four parts at ``place``."""
    return (sums[place, 0] + sums[place, 1]) + (sums[place, 2] + sums[place, 3])
