"""Python threads that run compiled kernels in parallel.

They replace numba's ``prange``, which compiles every kernel three times, assigns the parts before
it starts, lets one Python thread launch at a time, and keeps its threads spinning until the next
launch, on cores that others could use. Python threads also survive a fork.
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
    """Start with no threads: a child process does not inherit those of its parent."""
    global _executor
    _executor = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def most_threads() -> int:
    """The largest number of threads: NUMBA_NUM_THREADS, by default the number of cores.

    One without a compiler: `take` is not atomic then.
    """
    return 1 if numba.config.DISABLE_JIT else int(numba.config.NUMBA_NUM_THREADS)


def available_threads() -> int:
    """The default number of threads of a launch, as numba has it."""
    return int(numba.get_num_threads())


def run_on_threads(threads: int, function: Callable[..., Any], *args: Any) -> None:
    """Call ``function(*args)`` on that many threads at once, this one included."""
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
        # Calls that have not started are not needed. The others may still write to the arguments.
        started = [other for other in others if not other.cancel()]
        wait(started)
    for other in started:
        other.result()


# --- sharing out --------------------------------------------------------------------------------


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
