"""The square norm of F v - t for a lower triangular F, with its sums in registers.

In a loop over lanes, the sums of a tile of F are stored and loaded again for every four columns of
F, and its 16 entries alone take all vector registers of most processors. Here the lanes are the
outer loop: four rows of two vectors each are summed over all columns, which is as many chains of
multiply-adds as a core keeps going, and one entry of F is loaded for two of them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic, overload

from ..jit.targets import vector_bits

_ROWS = 4
# Vectors of lanes for each row.
_VECTORS = 2
# Rows that begin in the same set of the first-level cache, as those of a block may: with more of
# them, a vector of each is copied to a place of its own.
_WAYS = 8
_FLAGS = ("contract",)


def square_norms(factor: Any, target: Any, v: Any, n: int, room: Any, out: Any) -> None:
    """out[k] = |factor v[:, k] - target|^2 for k < n; the number of rows is a multiple of 4.

    The lanes after n, up to a whole number of vectors, are overwritten. All arrays are contiguous.
    More than eight rows are copied to ``room``, a vector of lanes at a time, if they fit there.
    """
    for k in range(n):
        out[k] = 0.0
        for j in range(target.shape[0]):
            out[k] += (factor[j, : j + 1] @ v[: j + 1, k] - target[j]) ** 2


@intrinsic
def _square_norms(typing_context, factor, target, v, n, room, out):
    def generate(context, builder, signature, args):
        kind = context.get_value_type(v.dtype)
        size, word = v.dtype.bitwidth, args[3].type
        lanes = _VECTORS * vector_bits() // size
        vector = ir.VectorType(kind, lanes)
        f, t, x, room, out = (
            context.make_array(signature.args[place])(context, builder, args[place])
            for place in (0, 1, 2, 4, 5)
        )
        rows = builder.extract_value(t.shape, 0)
        width = builder.extract_value(x.shape, 1)
        size_of_room = builder.mul(*(builder.extract_value(room.shape, axis) for axis in (0, 1)))
        fits = builder.icmp_signed("<=", builder.mul(rows, word(lanes)), size_of_room)
        packs = builder.and_(builder.icmp_signed(">", rows, word(_WAYS)), fits)
        source = builder.select(packs, room.data, x.data)
        stride = builder.select(packs, word(lanes), width)

        def splat(number):
            none = ir.Constant(vector, ir.Undefined)
            one = builder.insert_element(none, number, ir.IntType(32)(0))
            same = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            return builder.shuffle_vector(one, none, same)

        def plus(value, by):
            return builder.add(value, word(by)) if by else value

        def lanes_at(data, place):
            return builder.bitcast(builder.gep(data, [place]), vector.as_pointer())

        def row_at(data, d, stride, k):
            return lanes_at(data, builder.add(builder.mul(d, stride), k))

        def add_product(total, one, other):
            return builder.fadd(builder.fmul(one, other, flags=_FLAGS), total, flags=_FLAGS)

        def add_columns(sums, j, d, k, lower):
            """Add four columns from d on of four rows from j on; below the diagonal if ``lower``"""
            starts = [builder.add(builder.mul(plus(j, r), rows), d) for r in range(_ROWS)]
            for column in range(_ROWS):
                here = builder.load(row_at(source, plus(d, column), stride, k), align=size // 8)
                for r in range(column if lower else 0, _ROWS):
                    entry = builder.load(builder.gep(f.data, [plus(starts[r], column)]))
                    sums[r] = add_product(sums[r], splat(entry), here)
            return sums

        zero = ir.Constant(vector, [0.0] * lanes)
        norm = cgutils.alloca_once(builder, vector)
        held = [cgutils.alloca_once(builder, vector) for _ in range(_ROWS)]
        first, step = word(0), word(_ROWS)
        with cgutils.for_range_slice(builder, first, args[3], word(lanes), word) as (k, _):
            with builder.if_then(packs), cgutils.for_range(builder, rows) as loop:
                here = builder.load(row_at(x.data, loop.index, width, k), align=size // 8)
                target = row_at(room.data, loop.index, word(lanes), first)
                builder.store(here, target, align=size // 8)
            here = builder.select(packs, first, k)
            builder.store(zero, norm)
            with cgutils.for_range_slice(builder, first, rows, step, word) as (j, _):
                for r in range(_ROWS):
                    entry = builder.load(builder.gep(t.data, [plus(j, r)]))
                    builder.store(splat(builder.fneg(entry)), held[r])
                with cgutils.for_range_slice(builder, first, j, step, word) as (d, _):
                    sums = add_columns([builder.load(each) for each in held], j, d, here, False)
                    for place, each in zip(held, sums, strict=True):
                        builder.store(each, place)
                sums = add_columns([builder.load(each) for each in held], j, j, here, True)
                total = builder.load(norm)
                for each in sums:
                    total = add_product(total, each, each)
                builder.store(total, norm)
            builder.store(builder.load(norm), lanes_at(out.data, k), align=size // 8)
        return args[3]

    return n(factor, target, v, n, room, out), generate


@overload(square_norms)
def _square_norms_overload(factor, target, v, n, room, out):
    def call(factor, target, v, n, room, out):
        _square_norms(factor, target, v, n, room, out)

    return call
