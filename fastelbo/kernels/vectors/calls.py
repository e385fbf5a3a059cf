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

_PROTOTYPE = ctypes.CFUNCTYPE(
    ctypes.c_int32, *[ctypes.c_void_p] * 2, ctypes.c_int64, ctypes.c_void_p,
    *[ctypes.c_int64] * 3, ctypes.c_void_p,
)  # fmt: skip


def call_block(address: int, arguments: int, z: Any, i: int, n: int, out: Any) -> int:
    """out[:n] = the function at ``address`` of z[:, :n] and data point i; not 0 if it raised.

    If it raised, values of the draws before are in ``out``, and the others are not written.
    """
    returned, raised = ctypes.c_int64(), ctypes.c_void_p()
    places = ctypes.addressof(returned), ctypes.addressof(raised)
    status = _PROTOTYPE(address)(
        *places, arguments, z.ctypes.data, z.shape[0], i, n, out.ctypes.data
    )
    return int(status)


@intrinsic
def _call(typing_context, address, arguments, z, i, n, out):
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real, byte = DOUBLE.as_pointer(), ir.IntType(8).as_pointer()
        returned = cgutils.alloca_once(builder, INDEX)
        raised = cgutils.alloca_once(builder, byte)
        parts = [INDEX.as_pointer(), byte.as_pointer(), INDEX, real, INDEX, INDEX, INDEX, real]
        kind = ir.FunctionType(ir.IntType(32), parts).as_pointer()
        target, arguments, _, i, n, _ = args
        # The fields of the arrays, and no reference to them, which would be counted.
        z, out = (context.make_array(signature.args[k])(context, builder, args[k]) for k in (2, 5))
        dim = cgutils.unpack_tuple(builder, z.shape)[0]
        status = builder.call(
            builder.inttoptr(target, kind),
            [returned, raised, arguments, z.data, dim, i, n, out.data],
        )
        return builder.sext(status, INDEX)

    word = types.int64
    return word(word, word, z, word, word, out), generate


@overload(call_block)
def _call_block_overload(address, arguments, z, i, n, out):
    return lambda address, arguments, z, i, n, out: _call(address, arguments, z, i, n, out)
