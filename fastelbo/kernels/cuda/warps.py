"""Matrix products, exchanges and sums over the 32 threads of a warp; each thread holds a part.

A device has single instructions for products and exchanges. Their plain Python code does the same
through shared memory. The simulator runs that code, in blocks of one warp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..jit.compile import block, by_target
from .device import cuda

WARP = 32
# Layout of a product. Thread 4 row + k holds element [row, k] of the left factor, and thread
# 4 column + k holds element [k, column] of the right one. Thread 4 row + j holds the sums
# [row, 2 j] and [row, 2 j + 1].
ROWS, STEP, COLUMNS = 8, 4, 8


@intrinsic
def _mma(typing_context, a, b, c0, c1):
    def generate(context, builder, signature, args):
        real = ir.DoubleType()
        kind = ir.FunctionType(ir.LiteralStructType([real, real]), [real] * 4)
        code = "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {$0, $1}, {$2}, {$3}, {$4, $5};"
        call = builder.call(ir.InlineAsm(kind, code, "=d,=d,d,d,d,d", side_effect=True), args)
        parts = [builder.extract_value(call, place) for place in range(2)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(types.float64, 2)(*[types.float64] * 4), generate


def _multiply_on_device(a: Any, b: Any, c0: Any, c1: Any) -> Any:
    return lambda a, b, c0, c1: _mma(a, b, c0, c1)


@by_target(_multiply_on_device)
def multiply(a: float, b: float, c0: float, c1: float) -> tuple[float, float]:
    """Add a product of 8 x 4 and 4 x 8 numbers to the sums; return this thread's two sums.

    Devices of compute capability 8.0 have an instruction for it.
    """
    me = cuda.threadIdx.x
    factors = cuda.shared.array((2, WARP), np.float64)
    factors[0, me], factors[1, me] = a, b
    cuda.syncthreads()
    row, column = me // STEP, 2 * (me % STEP)
    for k in range(STEP):
        left = factors[0, STEP * row + k]
        c0 += left * factors[1, STEP * column + k]
        c1 += left * factors[1, STEP * (column + 1) + k]
    return c0, c1


def _exchange_on_device(x: Any, mask: Any) -> Any:
    return lambda x, mask: cuda.shfl_xor_sync(0xFFFFFFFF, x, mask)


@by_target(_exchange_on_device)
def exchange(x: float, mask: int) -> float:
    """The x of another thread: its number is this thread's with the bits of ``mask`` flipped."""
    me = cuda.threadIdx.x
    passed = cuda.shared.array(WARP, np.float64)
    passed[me] = x
    cuda.syncthreads()
    return float(passed[me ^ mask])


@block
def _halve(keep_second, first, second, mask):
    """Sum two values over a pair of threads; each thread returns the one sum that it keeps."""
    sent = first if keep_second else second
    kept = second if keep_second else first
    return kept + exchange(sent, mask)


@block
def sum_over_rows(x0, x1, x2, x3, x4, x5, x6, x7):
    """The sum of value number me // 4 over the eight threads with the same me % 4."""
    me = cuda.threadIdx.x
    fourth, second, first = (me & 16) != 0, (me & 8) != 0, (me & 4) != 0
    y0, y1 = _halve(fourth, x0, x4, 16), _halve(fourth, x1, x5, 16)
    y2, y3 = _halve(fourth, x2, x6, 16), _halve(fourth, x3, x7, 16)
    z0, z1 = _halve(second, y0, y2, 8), _halve(second, y1, y3, 8)
    return _halve(first, z0, z1, 4)
