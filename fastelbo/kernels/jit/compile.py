"""How kernels are compiled: the only file that names numba options, but for a device's kernels.

Functions have one of four roles, from the inside out:

``scalar``
    Maths on one number. Always inlined: LLVM does not vectorise a loop that contains a call, and
    ``register_jitable`` would leave a ten-round Philox as a call.
``block``
    A loop over the lanes of a block. It is called once a block, so the call costs little.
``borrower``
    A block that owns no array: it allocates none and returns none, nor a view of one. It is
    compiled without counts of references. A count is an atomic instruction, of some 5 ns. Each
    array in a tuple among the arguments may be counted up and down in each call.
``exact``
    Arithmetic on states, once a block, without fastmath flags. A compiler that may contract
    ``a b + c d`` rounds one of the two products, and the code around decides which.

``borrower(interleave=4)``, and any role so, asks for that many vectors in flight in the innermost
loops of the function, where vectors have at most 256 bits. It is for long chains of dependent
operations: a polynomial, a generator of random numbers. A loop that adds up is slower so, and so is
one that waits for memory.
``borrower(rolled=True)``, and any role so, is for an innermost loop of few iterations, such as one
over some columns: LLVM would unroll it to single numbers before it could become one of vectors.
``borrower(on_host=other)``, and any role so: a CPU compiles the other function in its place.

``anywhere`` is for what users call in code of their own. ``by_precision`` makes one scalar of two,
for float64 and float32; ``by_target`` of two for a CPU and a CUDA device. All return a plain Python
function, so that the same source runs without a compiler, and none has machine code of its own (see
`link_only`). A ``kernel`` is what Python calls.

Flags that are never allowed: ``reassoc``, because the order of a sum, and so its last bit, would
depend on the kernel around it (see `sums`); ``nnan`` and ``ninf``, because a row of -inf would give
NaN. ``error_model="numpy"`` stands everywhere: a division that can raise is a second exit of the
loop, which stops the vectoriser.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import overload

from .internals import ENTRY, UNCOUNTED, fragment, keep_on_disk

FLAGS = frozenset({"contract"})

# What CUDA kernels will compile, once there are any; None from then on. To tell numba of it takes
# as long as to tell it of what the CPU compiles: a good part of the import.
_for_devices: list[tuple[Any, Callable[..., Any], dict[str, Any]]] | None = []


def serve_devices() -> None:
    """Let CUDA kernels compile what was and what will be decorated."""
    global _for_devices
    waiting, _for_devices = _for_devices or [], None
    for each in waiting:
        _register_for_devices(*each)


def _register_for_devices(
    function: Any, choose: Callable[..., Any], options: dict[str, Any]
) -> None:
    if _for_devices is None:
        overload(function, jit_options=options, strict=False, target="cuda")(choose)
    else:
        _for_devices.append((function, choose, options))


def _register(
    function: Any,
    choose: Callable[..., Any],
    on_device: Any = None,
    interleave: int = 1,
    rolled: bool = False,
    **options: Any,
) -> Any:
    """``function``; kernels compile what ``choose`` returns for the types of its arguments.

    CUDA kernels compile what ``on_device`` returns, if it is given.
    """
    cpu = {"error_model": "numpy", **fragment(interleave, rolled), **options}
    # On a GPU any set of fastmath flags would mean all of them. A block is one lane there; inlined
    # functions keep it in registers.
    cuda = {"forceinline": options["fastmath"] is not False, "fastmath": False}
    overload(function, jit_options=cpu, strict=False, target="cpu")(choose)
    _register_for_devices(function, on_device or choose, cuda)
    return function


def _role(**options: Any) -> Any:
    """A decorator, which also takes wishes for loops, and another form for a CPU."""

    def role(
        function: Any = None, *, interleave: int = 1, rolled: bool = False, on_host: Any = None
    ) -> Any:
        if function is None:
            return functools.partial(role, interleave=interleave, rolled=rolled, on_host=on_host)

        def on_device(*args: Any, **kwargs: Any) -> Any:
            return function

        def choose(*args: Any, **kwargs: Any) -> Any:
            return on_host or function

        return _register(function, choose, on_device, interleave, rolled, **options)

    return role


_SCALAR: dict[str, Any] = {"forceinline": True, "fastmath": set(FLAGS)}
scalar = _role(**_SCALAR)
block = _role(fastmath=set(FLAGS))
borrower = _role(fastmath=set(FLAGS), **UNCOUNTED)
exact = _role(fastmath=False)


def anywhere(choose: Callable[..., Any]) -> Callable[[Any], Any]:
    """Decorate a function that users' code calls, compiled or not, on numbers or values in lanes.

    Compiled code gets what ``choose`` returns for the types of its arguments, another function,
    without fastmath flags.
    """

    def register(function: Any) -> Any:
        # It has no branch on its arguments, and so nothing that `vectors.rewriting` should rewrite.
        function.py_func = None
        return _register(function, choose, fastmath=False)

    return register


def by_target(
    on_device: Callable[..., Any], on_host: Callable[..., Any] | None = None
) -> Callable[[Any], Any]:
    """Decorate a scalar; CUDA kernels compile what ``on_device`` returns in its place.

    Both take the types of the arguments. With ``on_host``, the CPU compiles what this returns.
    """
    return lambda function: _register(
        function, on_host or (lambda *args: function), on_device=on_device, **_SCALAR
    )


def by_precision(single: Any) -> Callable[[Any], Any]:
    """Decorate a float64 scalar; ``single`` takes its place where the first argument is float32.

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

    It releases the GIL, so that threads run it in parallel.
    """
    dispatcher = numba.njit(
        nogil=True, error_model="numpy", fastmath=set(FLAGS), no_cfunc_wrapper=True, **ENTRY
    )(function)
    if not numba.config.DISABLE_JIT:
        keep_on_disk(dispatcher, function)
    return dispatcher


def native(function: Any, signature: Any = None) -> Any:
    """Compile a user's function, or with a signature the entry point around it, at once.

    There are no fastmath flags: the vectors it works on fuse products themselves. An index outside
    of an array raises.
    """
    plain = getattr(function, "py_func", function)
    options: dict[str, Any] = {"error_model": "numpy", "boundscheck": True, "nogil": True}
    if signature is None:
        return numba.njit(**options, **fragment())(plain)
    return numba.njit(signature, **options, **ENTRY)(plain)


def like(compiled: Any, plain: Any) -> Any:
    """Compile a plain function when it is called, with the options of another compiled one."""
    return numba.jit(**compiled.targetoptions)(plain)
