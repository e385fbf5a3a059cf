"""Instructions of a CUDA device, and hints to its compiler, that Python cannot express."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..jit.compile import by_target

_U32 = np.uint64(0xFFFFFFFF)


@intrinsic
def _mul_wide(typing_context, a, b):
    def generate(context, builder, signature, args):
        word = ir.IntType(32)
        words = [builder.trunc(each, word) for each in args]
        kind = ir.FunctionType(ir.IntType(64), [word, word])
        return builder.call(ir.InlineAsm(kind, "mul.wide.u32 $0, $1, $2;", "=l,r,r"), words)

    return types.uint64(types.uint64, types.uint64), generate


def _of_float32(code: str) -> Any:
    """An instruction from a float32 to a float32."""

    @intrinsic
    def instruction(typing_context, x):
        def generate(context, builder, signature, args):
            real = ir.FloatType()
            kind = ir.FunctionType(real, [real])
            return builder.call(ir.InlineAsm(kind, f"{code} $0, $1;", "=f,f"), args)

        return types.float32(types.float32), generate

    return instruction


_sqrt_approx = _of_float32("sqrt.approx.ftz.f32")
_exp2_approx = _of_float32("ex2.approx.ftz.f32")


def _wide_product_on_device(a: Any, b: Any) -> Any:
    # A 64-bit product compiles to several 32-bit products, even of upper halves that are 0.
    return lambda a, b: _mul_wide(a, b)


@by_target(_wide_product_on_device)
def wide_product(a: np.uint64, b: np.uint64) -> np.uint64:
    """a b, for a below 2^32; only the lower half of b is read."""
    return a * (b & _U32)


def _single_root_on_device(x: Any) -> Any:
    # The last half ulp and subnormal numbers would take ten more instructions.
    return lambda x: _sqrt_approx(x)


@by_target(_single_root_on_device)
def single_root(x: np.float32) -> np.float32:
    """Square root of a float32 that is not subnormal; on a device, within a factor 1 + 2^-23."""
    return np.float32(math.sqrt(x))


def _single_exp2_on_device(x: Any) -> Any:
    return lambda x: _exp2_approx(x)


@by_target(_single_exp2_on_device)
def single_exp2(x: np.float32) -> np.float32:
    """2^x of a float32, 0 below 2^-126; on a device, within a factor 1 + 2^-21.5."""
    y = np.float32(np.exp2(x))
    return np.float32(0.0) if y < np.float32(2.0**-126) else y


@intrinsic
def _asm_barrier(typing_context):
    def generate(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(ir.InlineAsm(kind, "", "~{memory}", side_effect=True), [])
        return context.get_dummy_value()

    return types.void(), generate


def _forget_on_device() -> Any:
    return lambda: _asm_barrier()


@by_target(_forget_on_device)
def read_again() -> None:
    """Make the compiler read values from memory again, and not reuse those in registers."""
