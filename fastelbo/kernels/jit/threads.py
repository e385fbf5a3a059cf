"""Threads of Python's, which run compiled kernels side by side.

Not numba's own: its ``prange`` compiles every kernel three times over, deals out the parts before
they start, lets one thread of Python launch at a time, and its threads wait awake for the next
launch, on cores that others could use. Nor do these die with a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

_executor: ThreadPoolExecutor | None = None


def _forget() -> None:
    """Begin anew: the threads of a process are not those of its child."""
    global _executor
    _executor = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def most_threads() -> int:
    """How many threads there may be: NUMBA_NUM_THREADS, the number of cores by default.

    One without a compiler, for Python's threads would take the same part twice.
    """
    return 1 if numba.config.DISABLE_JIT else int(numba.config.NUMBA_NUM_THREADS)


def available_threads() -> int:
    """How many threads a launch uses when it is not told: as many as numba would."""
    return int(numba.get_num_threads())


def run_on_threads(threads: int, function: Callable[..., Any], *args: Any) -> None:
    """Call ``function(*args)`` on so many threads at once, this one among them."""
    if threads == 1:
        function(*args)
        return
    global _executor
    if _executor is None:
        _executor = ThreadPoolExecutor(most_threads() - 1, thread_name_prefix="fastelbo")
    others = [_executor.submit(function, *args) for _ in range(threads - 1)]
    try:
        function(*args)
    finally:
        # Whoever has not begun is not needed. The others may still write to the arguments.
        started = [other for other in others if not other.cancel()]
        wait(started)
    for other in started:
        other.result()


# --- sharing out --------------------------------------------------------------------------------


def take(counter: Any) -> int:
    """Take the next number: counter[0], which goes up by one, whoever else takes one meanwhile."""
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
