"""Log densities of Gaussian components with diagonal scales, with their sums in registers.

In a loop over lanes, the sums of squares are stored and loaded again for every four coordinates.
Here the lanes are the outer loop: four vectors of them are summed over all coordinates, as many
chains of multiply-adds as keep a core busy. All components take these lanes in turn, while their
coordinates are in the first-level cache.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils
from numba.extending import intrinsic, overload

from .lane_vectors import LaneVectors

# Coordinates are in tiles of so many, padded with zeros.
_TILE = 4
# Vectors of lanes: so many at a time, and then so many for the last lanes.
_MOST, _LAST = 4, 2


def diagonal_terms(
    const: Any, base: float, factor: Any, target: Any, first: int, count: int, v: Any, n: int,
    out: Any,
) -> None:  # fmt: skip
    """out[c, k] = const - base - |factor v[:, k] - target|^2 / 2, of component first + c, k < n.

    For ``count`` components from ``first`` on. The lanes after n are overwritten, up to an even
    number of vectors. All arrays are contiguous; coordinates are in whole tiles of 4.
    """
    for c in range(count):
        f, t = factor[first + c, 0], target[first + c]
        for k in range(n):
            square = 0.0
            for d in range(t.shape[0]):
                square += (f[d] * v[d, k] - t[d]) ** 2
            out[c, k] = (const[first + c] - base) - 0.5 * square


@intrinsic
def _diagonal_terms(typing_context, const, base, factor, target, first, count, v, n, out):
    def generate(context, builder, signature, args):
        const_, factor_, target_, v_, out_ = (
            context.make_array(signature.args[place])(context, builder, args[place])
            for place in (0, 2, 3, 6, 8)
        )
        base, first, count, n = args[1], args[4], args[5], args[7]
        vectors, word = LaneVectors(context, builder, v.dtype), n.type
        rows = builder.extract_value(target_.shape, 1)
        width, out_width = (builder.extract_value(each.shape, 1) for each in (v_, out_))
        half = vectors.splat(context.get_constant(v.dtype, -0.5))

        def entry(array, place):
            return builder.load(builder.gep(array.data, [place]))

        def whitened(start, d, k, size):
            """factor v - target of coordinate d."""
            place = builder.add(start, d)
            factors = [vectors.splat(entry(factor_, place))] * size
            minus = [vectors.splat(builder.fneg(entry(target_, place)))] * size
            here = vectors.places(v_.data, builder.add(builder.mul(d, width), k), size)
            return vectors.add_products(minus, factors, vectors.load(here))

        def set_terms(size, begin, end):
            """Set the terms of lanes from ``begin`` to ``end``, ``size`` vectors at a time."""
            step, tile, sums = word(size * vectors.lanes), word(_TILE), vectors.room(size)
            with (
                cgutils.for_range_slice(builder, begin, end, step, word) as (k, _),
                cgutils.for_range(builder, count) as component,
            ):
                c = builder.add(first, component.index)
                start = builder.mul(c, rows)
                # The second square is rounded; all others are added to it, and rounded with it.
                one, other = (whitened(start, word(d), k, size) for d in (0, 1))
                squares = vectors.add_products(vectors.squares(other), one, one)
                for d in range(2, _TILE):
                    one = whitened(start, word(d), k, size)
                    squares = vectors.add_products(squares, one, one)
                vectors.store(squares, sums)
                with cgutils.for_range_slice(builder, tile, rows, tile, word) as (d, _):
                    squares = vectors.load(sums)
                    for row in range(_TILE):
                        one = whitened(start, builder.add(d, word(row)), k, size)
                        squares = vectors.add_products(squares, one, one)
                    vectors.store(squares, sums)
                own = builder.fsub(entry(const_, c), base)
                own = context.cast(builder, own, const.dtype, v.dtype)
                terms = vectors.add_products(
                    [vectors.splat(own)] * size, [half] * size, vectors.load(sums)
                )
                here = builder.add(builder.mul(component.index, out_width), k)
                vectors.store(terms, vectors.places(out_.data, here, size))

        whole = word(_MOST * vectors.lanes)
        rest = builder.sub(n, builder.srem(n, whole))
        set_terms(_MOST, word(0), rest)
        set_terms(_LAST, rest, n)
        return n

    return n(const, const.dtype, factor, target, first, count, v, n, out), generate


@overload(diagonal_terms)
def _diagonal_terms_overload(const, base, factor, target, first, count, v, n, out):
    def call(const, base, factor, target, first, count, v, n, out):
        _diagonal_terms(const, base, factor, target, first, count, v, n, out)

    return call
