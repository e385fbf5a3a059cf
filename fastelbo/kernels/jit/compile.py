"""How kernels are compiled: the only file that names numba options.

Four roles, from the inside out:

``scalar``
    Maths on one number. Force-inlined: LLVM does not vectorise a loop that still holds a call,
    and a plain ``register_jitable`` leaves a ten-round Philox as one.
``block``
    A loop over the lanes of a block, called once a block, so that a call costs nothing.
``exact``
    Arithmetic on states, once a block: no flags at all. Of ``a b + c d`` a compiler that may
    contract rounds either product away, and which depends on what stands around it.

``by_precision`` makes one scalar of two, for float64 and for float32, ``by_target`` for a CPU and a
CUDA device. All return a plain Python function, so the same source runs without a compiler, and
leave no machine code of their own (see `link_only`). A ``kernel`` is what Python calls.

``reassoc`` is never allowed: the order of a sum would depend on the kernel that it is compiled
into, and the last bit of a result with it (see `sums`). Nor are ``nnan`` and ``ninf`` (an all -inf
row gave NaN), and ``error_model="numpy"``
stands everywhere: a division that may raise is a second way out of the loop, which stops the
vectoriser.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import overload

from .internals import FRAGMENT, keep_on_disk

FLAGS = frozenset({"contract"})


def _register(
    function: Any, choose: Callable[..., Any], on_device: Any = None, **options: Any
) -> Any:
    """``function``, of which kernels compile what ``choose`` returns for the arguments' types.

    Those of a device, what ``on_device`` does if it is given.
    """
    cpu = {"error_model": "numpy", **FRAGMENT, **options}
    # On a GPU a set of fastmath flags, however small, would mean all of them. There a block is one
    # lane, which stays in registers if what works on it is inlined.
    cuda = {"forceinline": options["fastmath"] is not False, "fastmath": False}
    overload(function, jit_options=cpu, strict=False, target="cpu")(choose)
    overload(function, jit_options=cuda, strict=False, target="cuda")(on_device or choose)
    return function


def _role(**options: Any) -> Callable[[Any], Any]:
    return lambda function: _register(function, lambda *args, **kwargs: function, **options)


_SCALAR: dict[str, Any] = {"forceinline": True, "fastmath": set(FLAGS)}
scalar = _role(**_SCALAR)
block = _role(fastmath=set(FLAGS))
exact = _role(fastmath=False)


def by_target(on_device: Callable[..., Any]) -> Callable[[Any], Any]:
    """Decorate a scalar of which CUDA kernels compile what ``on_device`` returns instead."""
    return lambda function: _register(
        function, lambda *args: function, on_device=on_device, **_SCALAR
    )


def by_precision(single: Any) -> Callable[[Any], Any]:
    """Decorate a float64 scalar that is ``single`` where its first argument is float32.

    The argument may be a number or an array; the choice is made when a kernel is compiled.
    """

    def pair(double: Any) -> Any:
        def choose(kind: Any, *_: Any) -> Any:
            is_single = getattr(kind, "dtype", kind) in (np.float32, numba.float32)
            return single if is_single else double

        @functools.wraps(double)
        def either(*args: Any) -> Any:
            return choose(*args)(*args)

        return _register(either, choose, **_SCALAR)

    return pair


def kernel(function: Callable[..., Any]) -> Any:
    """Compile an entry point lazily, on its first call, and keep the machine code on disk.

    It runs without Python's global lock, so that threads run it side by side.
    """
    dispatcher = numba.njit(nogil=True, error_model="numpy", fastmath=set(FLAGS))(function)
    if not numba.config.DISABLE_JIT:
        keep_on_disk(dispatcher, function)
    return dispatcher
