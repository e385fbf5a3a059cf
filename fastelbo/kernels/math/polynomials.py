"""Products of the values of many polynomials 1 + c1 t + c2 t^2 + c3 t^3 + c4 t^4.

A product is of `PRODUCTS` partial products: number j takes the polynomials whose index is j modulo
`PRODUCTS`, in their order. So its bits are the same on every processor. The partial products stay
in registers: in a loop over them that vectorises, they would be stored and loaded for each term.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

# The degree of a polynomial.
DEGREE = 4
PRODUCTS = 8
_FLAGS = ("contract",)
_INT = ir.IntType(64)


def multiply_values(
    coefficients: Any, first: int, stop: int, t: float, product: Any, row: int
) -> None:
    """Multiply product[row] by the values at t of the polynomials ``first`` to ``stop``.

    Polynomial k has the coefficients[:, k]. Both bounds are multiples of `PRODUCTS`, the number of
    columns of ``product``; both arrays are contiguous.
    """
    for k in range(first, stop):
        value = 0.0
        for degree in range(DEGREE)[::-1]:
            value = (value + coefficients[degree, k]) * t
        product[row, k % PRODUCTS] *= 1.0 + value


@intrinsic
def _multiply_values(typing_context, address, width, first, stop, t, product, row):
    vector, number = ir.VectorType(ir.DoubleType(), PRODUCTS), ir.DoubleType().as_pointer()

    def generate(context, builder, signature, args):
        address, width, first, stop, t, product, row = args
        base, out = (builder.inttoptr(each, number) for each in (address, product))

        def vector_at(start, index):
            return builder.bitcast(builder.gep(start, [index]), vector.as_pointer())

        rows = [builder.gep(base, [builder.mul(width, _INT(d))]) for d in range(DEGREE)]
        none = ir.Constant(vector, ir.Undefined)
        same = ir.Constant(ir.VectorType(ir.IntType(32), PRODUCTS), [0] * PRODUCTS)
        each_t = builder.insert_element(none, t, ir.IntType(32)(0))
        each_t = builder.shuffle_vector(each_t, none, same)
        one = ir.Constant(vector, [1.0] * PRODUCTS)
        home = vector_at(out, builder.mul(row, _INT(PRODUCTS)))
        held = cgutils.alloca_once_value(builder, builder.load(home, align=8))
        with cgutils.for_range_slice(builder, first, stop, _INT(PRODUCTS)) as (k, _):
            lower = [builder.load(vector_at(each, k), align=8) for each in rows]
            value = lower.pop()
            for term in (*lower[::-1], one):
                scaled = builder.fmul(value, each_t, flags=_FLAGS)
                value = builder.fadd(scaled, term, flags=_FLAGS)
            builder.store(builder.fmul(builder.load(held), value), held)
        builder.store(builder.load(held), home, align=8)
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
