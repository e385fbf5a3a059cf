"""Parts that threads share in compiled code: the next one to take, and whether to stop."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

# One number that threads share: that of the next part to take.
Counter = NDArray[np.int64]
# A counter from here on is stopped: no part has so large a number.
STOPPED = 2**62


def take(counter: Any) -> int:
    """Return counter[0] and increase it by one, atomically in compiled code."""
    number = int(counter[0])
    counter[0] += 1
    return number


@intrinsic
def _take(typing_context, address):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        word = ir.IntType(64)
        counter = builder.inttoptr(args[0], word.as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(word, 1), "monotonic")

    return types.int64(types.uintp), generate


@overload(take)
def _take_overload(counter):  # type: ignore[no-untyped-def]
    return lambda counter: _take(counter.ctypes.data)


def stopped(counter: Any) -> bool:
    """Whether the counter is stopped. A kernel that is asked to stop leaves its results undone.

    None, in place of a counter, is never stopped.
    """
    return counter is not None and bool(counter[0] >= STOPPED)


@intrinsic
def _read(typing_context, address):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        counter = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(counter, "monotonic", 8)

    return types.int64(types.uintp), generate


def _choose_stopped(counter):  # type: ignore[no-untyped-def]
    if isinstance(counter, types.NoneType):
        return lambda counter: False
    return lambda counter: _read(counter.ctypes.data) >= STOPPED


overload(stopped, target="generic")(_choose_stopped)
