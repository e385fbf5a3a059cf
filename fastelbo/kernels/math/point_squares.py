"""Four coordinates of four points become rows of a block: in registers, not number by number."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic, overload

# Points, and coordinates, of a square.
SIDE = 4


def load_square(x: Any, k: int, d: int, centre: Any, v: Any) -> None:
    """v[d + j, k + i] = x[k + i, d + j] - centre[d + j], for i and j below 4.

    A row of x is contiguous, and so are the other arrays. All have the same type.
    """
    for j in range(d, d + SIDE):
        for i in range(k, k + SIDE):
            v[j, i] = x[i, j] - centre[j]


@intrinsic
def _load_square(typing_context, x, k, d, centre, v):
    def generate(context, builder, signature, args):
        source, origin, target = (
            context.make_array(signature.args[place])(context, builder, args[place])
            for place in (0, 3, 4)
        )
        k, d = args[1], args[2]
        kind, word = context.get_value_type(v.dtype), ir.IntType(32)
        align = v.dtype.bitwidth // 8

        def vector(pointer, width):
            return builder.bitcast(pointer, ir.VectorType(kind, width).as_pointer())

        def join(one, other, *lanes):
            places = ir.Constant(ir.VectorType(word, len(lanes)), list(lanes))
            return builder.shuffle_vector(one, other, places)

        # Rows of x may be apart.
        distance = builder.extract_value(source.strides, 0)
        raw = builder.bitcast(source.data, ir.IntType(8).as_pointer())

        def pairs(i, j):
            """Coordinates j and j + 1 of point i, then of point i + 2."""
            both = []
            for point in (i, i + 2):
                line = builder.mul(builder.add(k, k.type(point)), distance)
                row = builder.bitcast(builder.gep(raw, [line]), kind.as_pointer())
                start = builder.gep(row, [builder.add(d, d.type(j))])
                both.append(builder.load(vector(start, 2), align=align))
            return join(*both, 0, 1, 2, 3)

        width = builder.extract_value(target.shape, 1)
        for j in (0, 2):
            even, odd = pairs(0, j), pairs(1, j)
            for lane in (0, 1):
                row = builder.add(d, d.type(j + lane))
                middle = builder.load(builder.gep(origin.data, [row]))
                one = ir.Constant(ir.VectorType(kind, SIDE), ir.Undefined)
                one = builder.insert_element(one, middle, word(0))
                place = builder.gep(target.data, [builder.add(builder.mul(row, width), k)])
                moved = builder.fsub(
                    join(even, odd, lane, 4 + lane, 2 + lane, 6 + lane), join(one, one, *[0] * SIDE)
                )
                builder.store(moved, vector(place, SIDE), align=align)
        return k

    return k(x, k, d, centre, v), generate


@overload(load_square)
def _load_square_overload(x, k, d, centre, v):
    def call(x, k, d, centre, v):
        _load_square(x, k, d, centre, v)

    return call
