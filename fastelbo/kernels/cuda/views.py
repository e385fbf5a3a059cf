"""Views of constant shape, and functions that are not inlined: both save registers on a device.

Sizes and strides that the compiler knows take no registers. A slice keeps them as variables.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from ..jit.compile import block
from .device import SIMULATED

try:
    # Not listed by numba. Without them a view is a slice, which takes registers.
    from numba.core import cgutils
    from numba.np.arrayobj import populate_array
except ImportError:
    cgutils = populate_array = None


def viewer(shape: tuple[int, ...]) -> Any:
    """A function ``view(array, i)``: row i alone of a C-contiguous array with rows of ``shape``.

    The function returns a tuple, because numba forbids to return an array of its own alone.
    """

    if SIMULATED or populate_array is None:
        return block(lambda array, i: (array[i : i + 1],))

    @intrinsic
    def view(typing_context, array, i):  # type: ignore[no-untyped-def]
        if array.layout != "C":
            raise TypingError("a view of rows takes a C-contiguous array")
        row = types.Array(array.dtype, array.ndim, "C")

        def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
            source = context.make_array(signature.args[0])(context, builder, args[0])
            word = context.get_value_type(types.intp)
            out = context.make_array(row)(context, builder)
            size = context.get_abi_sizeof(context.get_data_type(array.dtype))
            lengths = (1, *shape)
            strides = [size * math.prod(lengths[axis + 1 :]) for axis in range(len(lengths))]
            place = builder.mul(args[1], ir.Constant(word, math.prod(shape)))
            populate_array(
                out,
                data=builder.gep(source.data, [place]),
                shape=cgutils.pack_array(builder, [ir.Constant(word, n) for n in lengths]),
                strides=cgutils.pack_array(builder, [ir.Constant(word, n) for n in strides]),
                itemsize=ir.Constant(word, size),
                meminfo=None,
            )
            return context.make_tuple(builder, signature.return_type, [out._getvalue()])

        return types.Tuple([row])(array, types.int64), generate

    return view


def prevent_inlining() -> None:
    """Prevent the compiler from inlining the calling function on a device."""


if not SIMULATED:

    @intrinsic  # type: ignore[untyped-decorator]
    def prevent_inlining(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.function.attributes.add("noinline")
            return context.get_dummy_value()

        return types.none(), generate
