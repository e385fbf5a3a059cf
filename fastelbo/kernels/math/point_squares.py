"""Squares of four points and four numbers of each, between rows and lanes.

A square is transposed in registers, not number by number.
"""

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


def store_ratios(terms: Any, total: Any, c: int, k: int, out: Any, first: int) -> None:
    """out[first + k + i, c + j] = terms[c + j, k + i] / total[k + i], for i and j below 4.

    All arrays are contiguous, and of the same type.
    """
    for i in range(k, k + SIDE):
        for j in range(c, c + SIDE):
            out[first + i, j] = terms[j, i] / total[i]


def _vector(builder: Any, pointer: Any, kind: Any, width: int) -> Any:
    """The pointer, as one to a vector."""
    return builder.bitcast(pointer, ir.VectorType(kind, width).as_pointer())


def _join(builder: Any, one: Any, other: Any, *lanes: int) -> Any:
    """The vector of these lanes of two vectors."""
    places = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(one, other, places)


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
                both.append(builder.load(_vector(builder, start, kind, 2), align=align))
            return _join(builder, *both, 0, 1, 2, 3)

        width = builder.extract_value(target.shape, 1)
        for j in (0, 2):
            even, odd = pairs(0, j), pairs(1, j)
            for lane in (0, 1):
                row = builder.add(d, d.type(j + lane))
                middle = builder.load(builder.gep(origin.data, [row]))
                one = ir.Constant(ir.VectorType(kind, SIDE), ir.Undefined)
                one = builder.insert_element(one, middle, word(0))
                place = builder.gep(target.data, [builder.add(builder.mul(row, width), k)])
                numbers = _join(builder, even, odd, lane, 4 + lane, 2 + lane, 6 + lane)
                moved = builder.fsub(numbers, _join(builder, one, one, *[0] * SIDE))
                builder.store(moved, _vector(builder, place, kind, SIDE), align=align)
        return k

    return k(x, k, d, centre, v), generate


@overload(load_square)
def _load_square_overload(x, k, d, centre, v):
    def call(x, k, d, centre, v):
        _load_square(x, k, d, centre, v)

    return call


@intrinsic
def _store_ratios(typing_context, terms, total, c, k, out, first):
    def generate(context, builder, signature, args):
        rows, totals, target = (
            context.make_array(signature.args[place])(context, builder, args[place])
            for place in (0, 1, 4)
        )
        c, k, first = args[2], args[3], args[5]
        kind, align = context.get_value_type(terms.dtype), terms.dtype.bitwidth // 8

        def place(data, line, width, column):
            start = builder.gep(data, [builder.add(builder.mul(line, width), column)])
            return _vector(builder, start, kind, SIDE)

        lanes, width = (builder.extract_value(each.shape, 1) for each in (rows, target))
        divisor = builder.load(place(totals.data, k, k.type(1), k.type(0)), align=align)
        a, b, c_, d = (
            builder.fdiv(
                builder.load(place(rows.data, builder.add(c, c.type(j)), lanes, k), align=align),
                divisor,
            )
            for j in range(SIDE)
        )
        even, odd = (0, 4, 2, 6), (1, 5, 3, 7)
        for i, lanes_of_pair in ((0, even), (1, odd)):
            one, other = (_join(builder, *pair, *lanes_of_pair) for pair in ((a, b), (c_, d)))
            for half in (0, 2):
                row = builder.add(builder.add(first, k), k.type(i + half))
                numbers = _join(builder, one, other, half, half + 1, 4 + half, 5 + half)
                builder.store(numbers, place(target.data, row, width, c), align=align)
        return k

    return k(terms, total, c, k, out, first), generate


@overload(store_ratios)
def _store_ratios_overload(terms, total, c, k, out, first):
    def call(terms, total, c, k, out, first):
        _store_ratios(terms, total, c, k, out, first)

    return call
