"""Columns of an array as rows of a tile: squares of four rows and columns, in registers.

Element by element, each number would take a load and a store of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from ..jit.compile import block, borrower

# Rows and columns of a square.
SIDE = 4


def transpose_square(x: Any, place: int, stride: int, out: Any, row: int, column: int) -> None:
    """out[row + j, column + i] = x[place + i stride + j] for i and j below 4.

    Both arrays are contiguous: x a vector of float32 or float64, out a float64 matrix.
    """
    for i in range(SIDE):
        for j in range(SIDE):
            out[row + j, column + i] = x[place + i * stride + j]


@intrinsic
def _transpose_square(typing_context, x, place, stride, out, row, column):
    def generate(context, builder, signature, args):
        source = context.make_array(signature.args[0])(context, builder, args[0]).data
        target = context.make_array(signature.args[3])(context, builder, args[3])
        given, real = context.get_value_type(x.dtype), ir.DoubleType()

        def address(data, kind, width, line, length, column):
            """Of ``width`` numbers in a line of a matrix, whose lines have a length."""
            place = builder.add(builder.mul(line, length), column)
            vector = ir.VectorType(kind, width).as_pointer()
            return builder.bitcast(builder.gep(data, [place]), vector)

        def shifted(start, by):
            return builder.add(start, ir.Constant(start.type, by))

        def join(one, other, *lanes):
            places = ir.Constant(ir.VectorType(ir.IntType(32), SIDE), list(lanes))
            return builder.shuffle_vector(one, other, places)

        def pairs(i, j):
            """Columns j and j + 1 of row i, then of row i + 2."""
            start = shifted(args[1], j)
            both = [
                builder.load(
                    address(source, given, 2, ir.Constant(start.type, line), args[2], start),
                    align=x.dtype.bitwidth // 8,
                )
                for line in (i, i + 2)
            ]
            numbers = join(*both, 0, 1, 2, 3)
            return numbers if given == real else builder.fpext(numbers, ir.VectorType(real, SIDE))

        length = builder.extract_value(target.shape, 1)
        for j in (0, 2):
            even, odd = pairs(0, j), pairs(1, j)
            for lane in (0, 1):
                column = join(even, odd, lane, 4 + lane, 2 + lane, 6 + lane)
                line = shifted(args[4], j + lane)
                builder.store(
                    column, address(target.data, real, SIDE, line, length, args[5]), align=8
                )
        return context.get_dummy_value()

    integer = types.int64
    return types.void(x, integer, integer, out, integer, integer), generate


@overload(transpose_square)
def _transpose_square_overload(x, place, stride, out, row, column):
    return lambda x, place, stride, out, row, column: _transpose_square(
        x, place, stride, out, row, column
    )


@borrower
def _copy_part(x, place, stride, from_column, width, from_row, count, tile, at):
    for k in range(from_row, count):
        for j in range(from_column, width):
            tile[j, at + k] = np.float64(x[place + k * stride + j])


@borrower
def _copy_columns(x, place, stride, width, count, tile, at):
    """tile[j, at + k] = x[place + k stride + j]."""
    wide, whole = width - width % SIDE, count - count % SIDE
    for k in range(0, whole, SIDE):
        for j in range(0, wide, SIDE):
            transpose_square(x, place + k * stride + j, stride, tile, j, at + k)
    _copy_part(x, place, stride, wide, width, 0, whole, tile, at)
    _copy_part(x, place, stride, 0, width, whole, count, tile, at)


@block
def copy_columns(x, a, first, b, width, count, tile):
    """tile[j, k] = x[a, first + k, b + j] for k < count, for a contiguous x."""
    copy_rows(x, a, first, b, width, count, tile, 0)


@block
def copy_rows(x, a, first, b, width, count, tile, at):
    """As `copy_columns`, but to tile[:, at:]."""
    length, columns = x.shape[1], x.shape[2]
    flat, place = x.reshape(x.size), (a * length + first) * columns + b
    if columns > 1:
        _copy_columns(flat, place, columns, width, count, tile, at)
        return
    row = flat[place : place + count]
    for k in range(count):
        tile[0, at + k] = np.float64(row[k])


def constant(array: Any) -> Any:
    """The array as one that is not written: of the type of users' arrays."""
    return array


@intrinsic
def _constant(typing_context, array):
    def generate(context, builder, signature, args):
        if context.enable_nrt:
            context.nrt.incref(builder, signature.return_type, args[0])
        return args[0]

    return array.copy(readonly=True)(array), generate


@overload(constant)
def _constant_overload(array):
    return lambda array: _constant(array)
