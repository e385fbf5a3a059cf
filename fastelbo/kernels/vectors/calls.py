"""Calls of the machine code of a block function by its address, from kernels and from Python.

It stands apart from what compiles such functions, so that kernels do not import it.
"""

from __future__ import annotations

import ctypes
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from .types import DOUBLE, INDEX

_PROTOTYPES = [
    ctypes.CFUNCTYPE(
        ctypes.c_int32, *[ctypes.c_void_p] * 2, ctypes.c_int64, ctypes.c_void_p,
        *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * outputs,
    )
    for outputs in (1, 2)
]  # fmt: skip


def call_block(address: int, arguments: int, z: Any, i: int, n: int, out: Any) -> int:
    """out[:n] = the function at ``address`` of z[:, :n] and data point i; not 0 if it raised.

    If it raised, values of the draws before are in ``out``, and the others are not written.
    """
    return _status(address, arguments, z, i, n, out)


def call_gradient_block(
    address: int, arguments: int, z: Any, i: int, n: int, out: Any, slopes: Any
) -> int:
    """The same for the gradient, too: slopes[d, :n] is that in coordinate d.

    ``slopes`` has rows as long as those of z. If the function raised, slopes may be written of
    draws whose values are not.
    """
    return _status(address, arguments, z, i, n, out, slopes)


def _status(address: int, arguments: int, z: Any, i: int, n: int, *outputs: Any) -> int:
    returned, raised = ctypes.c_int64(), ctypes.c_void_p()
    places = ctypes.addressof(returned), ctypes.addressof(raised)
    status = _PROTOTYPES[len(outputs) - 1](address)(
        *places, arguments, z.ctypes.data, z.shape[0], i, n, *(each.ctypes.data for each in outputs)
    )
    return int(status)


@intrinsic
def _call(typing_context, address, arguments, z, i, n, outputs):
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real, byte = DOUBLE.as_pointer(), ir.IntType(8).as_pointer()
        returned = cgutils.alloca_once(builder, INDEX)
        raised = cgutils.alloca_once(builder, byte)
        parts = [INDEX.as_pointer(), byte.as_pointer(), INDEX, real, INDEX, INDEX, INDEX]
        parts += [real] * len(outputs)
        kind = ir.FunctionType(ir.IntType(32), parts).as_pointer()
        target, arguments, block, i, n, places = args

        # The fields of the arrays, and no reference to them, which would be counted.
        def opened(kind: Any, value: Any) -> Any:
            return context.make_array(kind)(context, builder, value)

        z = opened(signature.args[2], block)
        rows = [
            opened(kind, each).data
            for kind, each in zip(outputs, cgutils.unpack_tuple(builder, places), strict=True)
        ]
        dim = cgutils.unpack_tuple(builder, z.shape)[0]
        status = builder.call(
            builder.inttoptr(target, kind), [returned, raised, arguments, z.data, dim, i, n, *rows]
        )
        return builder.sext(status, INDEX)

    word = types.int64
    return word(word, word, z, word, word, outputs), generate


@overload(call_block)
def _call_block_overload(address, arguments, z, i, n, out):
    return lambda address, arguments, z, i, n, out: _call(address, arguments, z, i, n, (out,))


@overload(call_gradient_block)
def _call_gradient_block_overload(address, arguments, z, i, n, out, slopes):
    def call(address, arguments, z, i, n, out, slopes):
        return _call(address, arguments, z, i, n, (out, slopes))

    return call
