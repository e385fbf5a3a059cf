"""Block functions that call a log density in C for each draw, by its address, or its gradient.

The C functions have the signatures of BridgeStan's ``bs_log_density`` and
``bs_log_density_gradient``::

    int f(const void *model, bool propto, bool jacobian,
          const double *theta, double *value, char **error_message)
    int g(const void *model, bool propto, bool jacobian,
          const double *theta, double *value, double *gradient, char **error_message)
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..jit.compile import native
from .arguments import Arguments, unpacker
from .block import GRADIENT_SIGNATURE, SIGNATURE, BlockFunction
from .types import DOUBLE

# Draws that are gathered at once: a line of a cache has so many numbers.
_DRAWS = 8


def foreign_arguments(function: int, model: int) -> Arguments:
    """What the block function reads: the addresses of a C function and of its model."""
    return Arguments(None, (function, model))


@cache
def foreign_block(stride: int) -> BlockFunction:
    """The block function for all C functions; `calls.call_block` has the other arguments.

    Coordinate d of lane k is at ``z[d * stride + k]``. A draw that the C function refuses is NaN.
    """
    unpack = unpacker(foreign_arguments(0, 0).kind)

    def entry(arguments, z, dim, i, n, out):
        _, (function, model) = unpack(arguments)
        theta = np.empty((_DRAWS, dim))
        for first in range(0, n, _DRAWS):
            count = min(_DRAWS, n - first)
            for d in range(dim):
                for k in range(count):
                    theta[k, d] = z[d * stride + first + k]
            for k in range(count):
                out[first + k] = _log_density(function, model, theta, k, ())
        return 0

    return _block(native(entry, SIGNATURE))


@cache
def foreign_gradient_block(stride: int) -> BlockFunction:
    """The same for all C functions of gradients, for `calls.call_gradient_block`."""
    unpack = unpacker(foreign_arguments(0, 0).kind)

    def entry(arguments, z, dim, i, n, out, slopes):
        _, (function, model) = unpack(arguments)
        theta, gradient = np.empty((1, dim)), np.empty((1, dim))
        for k in range(n):
            for d in range(dim):
                theta[0, d] = z[d * stride + k]
            out[k] = _log_density(function, model, theta, 0, (gradient,))
            for d in range(dim):
                slopes[d * stride + k] = gradient[0, d]
        return 0

    return _block(native(entry, GRADIENT_SIGNATURE))


def _block(dispatcher: Any) -> BlockFunction:
    (compiled,) = dispatcher.overloads.values()
    name = compiled.fndesc.llvm_func_name
    return BlockFunction(compiled.library.get_pointer_to_function(name), dispatcher)


@intrinsic
def _log_density(typing_context, function, model, theta, k, gradient):
    """The log density with its constants and the Jacobian at theta[k]; NaN if it has none.

    Its gradient goes to the first row of an array, if there is one.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number, byte, real = ir.IntType(32), ir.IntType(8).as_pointer(), DOUBLE.as_pointer()
        rows = context.make_array(signature.args[2])(context, builder, args[2])
        dim = cgutils.unpack_tuple(builder, rows.shape, 2)[1]
        place = builder.gep(rows.data, [builder.mul(args[3], dim)])
        value = cgutils.alloca_once(builder, DOUBLE)
        # A C bool is the low byte of an argument; the rest of it is 0 here.
        kinds = [byte, number, number, real, real, *(real for _ in gradient), byte.as_pointer()]
        kind = ir.FunctionType(number, kinds)
        target = builder.inttoptr(args[0], kind.as_pointer())
        propto, jacobian = ir.Constant(number, 0), ir.Constant(number, 1)
        no_message = ir.Constant(byte.as_pointer(), None)
        model = builder.inttoptr(args[1], byte)
        slopes = [
            context.make_array(kind)(context, builder, each).data
            for kind, each in zip(gradient, cgutils.unpack_tuple(builder, args[4]), strict=True)
        ]
        status = builder.call(target, [model, propto, jacobian, place, value, *slopes, no_message])
        passed = builder.icmp_signed("==", status, ir.Constant(number, 0))
        return builder.select(passed, builder.load(value), ir.Constant(DOUBLE, math.nan))

    return types.float64(function, model, theta, k, gradient), generate
