"""Products of the values of many polynomials 1 + c1 t + c2 t^2 + c3 t^3 + c4 t^4.

A product is of `PRODUCTS` partial products. They are those of twice as many: number j takes the
polynomials whose index is j modulo `LANES`, in their order. So the bits are the same on every
processor. The products stay in registers: in a loop over them that vectorises, they would be stored
and loaded for each term.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

# The degree of a polynomial.
DEGREE = 4
LANES = 8
PRODUCTS = 4
_FLAGS = ("contract",)
_INT = ir.IntType(64)


def multiply_values(
    coefficients: Any, first: int, stop: int, t: float, product: Any, row: int
) -> None:
    """Multiply product[row] by the values at t of the polynomials ``first`` to ``stop``.

    Polynomial k has the coefficients[:, k]. Both bounds are multiples of `LANES`; ``product`` has
    `PRODUCTS` columns; both arrays are contiguous.
    """
    lanes = [1.0] * LANES
    for k in range(first, stop):
        value = 0.0
        for degree in range(DEGREE)[::-1]:
            value = (value + coefficients[degree, k]) * t
        lanes[k % LANES] *= 1.0 + value
    for j in range(PRODUCTS):
        product[row, j] *= lanes[j] * lanes[j + PRODUCTS]


def _picked(builder: Any, vector: Any, places: Iterable[int]) -> Any:
    places = list(places)
    index = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(vector, vector, index)


@intrinsic
def _multiply_values(typing_context, address, width, first, stop, t, product, row):
    vector, number = ir.VectorType(ir.DoubleType(), LANES), ir.DoubleType().as_pointer()

    def generate(context, builder, signature, args):
        address, width, first, stop, t, product, row = args
        base, out = (builder.inttoptr(each, number) for each in (address, product))
        rows = [builder.gep(base, [builder.mul(width, _INT(d))]) for d in range(DEGREE)]
        none = ir.Constant(vector, ir.Undefined)
        each_t = builder.insert_element(none, t, ir.IntType(32)(0))
        each_t = _picked(builder, each_t, [0] * LANES)
        one = ir.Constant(vector, [1.0] * LANES)
        held = cgutils.alloca_once_value(builder, one)
        with cgutils.for_range_slice(builder, first, stop, _INT(LANES)) as (k, _):
            homes = [builder.bitcast(builder.gep(d, [k]), vector.as_pointer()) for d in rows]
            *lower, value = [builder.load(home, align=8) for home in homes]
            for term in (*lower[::-1], one):
                scaled = builder.fmul(value, each_t, flags=_FLAGS)
                value = builder.fadd(scaled, term, flags=_FLAGS)
            builder.store(builder.fmul(builder.load(held), value), held)
        lanes = builder.load(held)
        halves = [_picked(builder, lanes, range(j, j + PRODUCTS)) for j in (0, PRODUCTS)]
        home = builder.gep(out, [builder.mul(row, _INT(PRODUCTS))])
        home = builder.bitcast(home, ir.VectorType(ir.DoubleType(), PRODUCTS).as_pointer())
        total = builder.fmul(builder.load(home, align=8), builder.fmul(*halves))
        builder.store(total, home, align=8)
        return stop

    integer = types.int64
    signature = (types.uintp, integer, integer, integer, types.float64, types.uintp, integer)
    return integer(*signature), generate


@overload(multiply_values)
def _multiply_values_overload(coefficients, first, stop, t, product, row):
    def multiply(coefficients, first, stop, t, product, row):
        _multiply_values(
            coefficients.ctypes.data,
            coefficients.shape[1],
            first,
            stop,
            t,
            product.ctypes.data,
            row,
        )

    return multiply
