"""The square norm of F v - t for a lower triangular F, with its sums in registers.

In a loop over lanes, the sums of a tile of F are stored and loaded again for every four columns of
F, and its 16 entries alone take all vector registers of most processors. Here the lanes are the
outer loop: four rows of three vectors each are summed over all columns. That is enough chains of
multiply-adds to keep a core busy, and one entry of F is loaded for three of them. The sums of four
vectors would not stay in 16 registers.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils
from numba.extending import intrinsic, overload

from .lane_vectors import LaneVectors

_ROWS = 4
# Vectors of lanes for each row: so many at a time, and then so many for the last lanes.
_MOST, _LAST = 3, 2
# Rows in different pages whose addresses the processor keeps at hand: of more rows, some vectors of
# each are copied side by side.
_PAGES = 64


def square_norms(
    factor: Any, target: Any, v: Any, n: int, room: Any, start: float, scale: float, out: Any
) -> None:
    """out[k] = start + scale |factor v[:, k] - target|^2 for k < n; rows are in whole tiles of 4.

    The lanes after n are overwritten, up to an even number of vectors. All arrays are contiguous.
    ``room`` is for copies of vectors of more than 64 rows.
    """
    for k in range(n):
        square = 0.0
        for j in range(target.shape[0]):
            square += (factor[j, : j + 1] @ v[: j + 1, k] - target[j]) ** 2
        out[k] = start + scale * square


@intrinsic
def _square_norms(typing_context, factor, target, v, n, room, start, scale, out):
    def generate(context, builder, signature, args):
        vectors, word = LaneVectors(context, builder, v.dtype), args[3].type
        lanes, splat, load = vectors.lanes, vectors.splat, vectors.load
        store, add_products = vectors.store, vectors.add_products
        f, t, x, room, out = (
            context.make_array(signature.args[place])(context, builder, args[place])
            for place in (0, 1, 2, 4, 7)
        )
        start, scale = (
            splat(context.cast(builder, args[place], signature.args[place], v.dtype))
            for place in (5, 6)
        )
        rows = builder.extract_value(t.shape, 0)
        width = builder.extract_value(x.shape, 1)
        size_of_room = builder.mul(*(builder.extract_value(room.shape, axis) for axis in (0, 1)))
        fits = builder.icmp_signed("<=", builder.mul(rows, word(_MOST * lanes)), size_of_room)
        packs = builder.and_(builder.icmp_signed(">", rows, word(_PAGES)), fits)
        source = builder.select(packs, room.data, x.data)
        first, tile = word(0), word(_ROWS)
        zero = splat(context.get_constant(v.dtype, 0.0))

        def plus(value, by):
            return builder.add(value, word(by)) if by else value

        def set_norms(count, begin, end):
            """Set the norms of lanes from ``begin`` to ``end``, ``count`` vectors at a time."""
            step = word(count * lanes)
            stride = builder.select(packs, step, width)

            def vectors_of_row(data, d, stride, k):
                return vectors.places(data, builder.add(builder.mul(d, stride), k), count)

            def add_columns(sums, j, d, k, lower):
                """Add four columns from d on of four rows from j on, or their lower part."""
                starts = [builder.add(builder.mul(plus(j, r), rows), d) for r in range(_ROWS)]
                for column in range(_ROWS):
                    here = load(vectors_of_row(source, plus(d, column), stride, k))
                    for r in range(column if lower else 0, _ROWS):
                        entry = builder.load(builder.gep(f.data, [plus(starts[r], column)]))
                        sums[r] = add_products(sums[r], [splat(entry)] * count, here)
                return sums

            norm, held = vectors.room(count), [vectors.room(count) for _ in range(_ROWS)]
            with cgutils.for_range_slice(builder, begin, end, step, word) as (k, _):
                with builder.if_then(packs), cgutils.for_range(builder, rows) as loop:
                    here = load(vectors_of_row(x.data, loop.index, width, k))
                    store(here, vectors_of_row(room.data, loop.index, step, first))
                here = builder.select(packs, first, k)
                store([zero] * count, norm)
                with cgutils.for_range_slice(builder, first, rows, tile, word) as (j, _):
                    for r in range(_ROWS):
                        entry = builder.load(builder.gep(t.data, [plus(j, r)]))
                        store([splat(builder.fneg(entry))] * count, held[r])
                    with cgutils.for_range_slice(builder, first, j, tile, word) as (d, _):
                        sums = add_columns([load(each) for each in held], j, d, here, False)
                        for places, each in zip(held, sums, strict=True):
                            store(each, places)
                    sums = add_columns([load(each) for each in held], j, j, here, True)
                    total = load(norm)
                    for each in sums:
                        total = add_products(total, each, each)
                    store(total, norm)
                norms = add_products([start] * count, [scale] * count, load(norm))
                store(norms, vectors.places(out.data, k, count))

        # An even number of vectors, so that the last ones end where pairs of them end.
        whole = word(_MOST * _LAST * lanes)
        rest = builder.sub(args[3], builder.srem(args[3], whole))
        set_norms(_MOST, first, rest)
        set_norms(_LAST, rest, args[3])
        return args[3]

    return n(factor, target, v, n, room, start, scale, out), generate


@overload(square_norms)
def _square_norms_overload(factor, target, v, n, room, start, scale, out):
    def call(factor, target, v, n, room, start, scale, out):
        _square_norms(factor, target, v, n, room, start, scale, out)

    return call
