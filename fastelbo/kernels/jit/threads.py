"""Python threads that run compiled kernels in parallel, and long calls of NumPy.

They replace numba's ``prange``, which compiles every kernel three times, assigns the parts before
it starts, lets one Python thread launch at a time, and keeps its threads spinning until the next
launch, on cores that others could use. Python threads also survive a fork.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

# One number that threads share: that of the next part to take.
Counter = NDArray[np.int64]
# A counter from here on is stopped: no part has so large a number.
STOPPED = 2**62
_WAIT_SECONDS = 0.05
# NumPy is back from a call on fewer elements within a few tenths of a second.
_LONG_ARRAY = 2**22

_P = ParamSpec("_P")
_T = TypeVar("_T")

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


def can_wait() -> bool:
    """Whether kernels may run on other threads while this one waits: not without a compiler."""
    return not numba.config.DISABLE_JIT


def available_threads() -> int:
    """The default number of threads of a launch, as numba has it."""
    return int(numba.get_num_threads())


def run_on_threads(
    threads: int, function: Callable[..., Any], counter: Counter, *args: Any, waits: bool = False
) -> None:
    """Call ``function(counter, *args)`` on that many threads at once, this one included.

    With ``waits``, the main thread only waits for the others, as an interrupt is served by none but
    it, and not while it runs a kernel.

    If anything is raised here or there, the counter is stopped. The error is raised after all
    threads have come back, which may not write to the arguments any more.
    """
    waits = waits and threading.current_thread() is threading.main_thread()
    if threads == 1 and not waits:
        function(counter, *args)
        return
    others: list[Future[Any]] = []
    work = [function, counter, *args]
    try:
        _hand_out(others, threads if waits else threads - 1, work)
        if others and waits:
            _watch(others)
        else:
            function(counter, *args)
        _settle(others)
    except BaseException:
        _stop(counter, others)
        raise
    finally:
        # A thread that has not yet seen that it is not needed would keep the arrays until then.
        work.clear()
    for other in others:
        if not other.cancelled():
            other.result()


def apart(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorate a short run of NumPy calls that writes to none of its arguments.

    For long arrays the main thread waits for another thread, as in `run_on_threads`. NumPy cannot
    be stopped: after an interrupt the other thread ends its run, and nobody gets the result. So the
    function must change nothing: it draws no random numbers, and it launches no kernel.
    """

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        length = max((arg.size for arg in args if isinstance(arg, np.ndarray)), default=0)
        if length < _LONG_ARRAY or threading.current_thread() is not threading.main_thread():
            return function(*args, **kwargs)
        others: list[Future[Any]] = []
        # With the caller's np.errstate.
        run = contextvars.copy_context().run
        work = [functools.partial(run, function, *args, **kwargs)]
        try:
            _hand_out(others, 1, work)
            if not others:
                return function(*args, **kwargs)
            _watch(others)
            return cast(_T, others[0].result())
        finally:
            for other in others:
                other.cancel()
            # The frames of an interrupt would keep the arrays, and the result when it comes.
            others.clear()
            work.clear()

    return call


def _do(work: list[Any]) -> Any:
    function, *args = work
    return function(*args)


def _hand_out(others: list[Future[Any]], count: int, work: list[Any]) -> None:
    """Add to ``others`` up to ``count`` calls on other threads."""
    global _executor
    if (executor := _executor) is None:
        executor = ThreadPoolExecutor(most_threads(), thread_name_prefix="fastelbo")
        _executor = executor
    try:
        # After the main thread has ended there are no threads to be had: the caller does it all.
        with suppress(RuntimeError):
            for _ in range(count):
                others.append(executor.submit(_do, work))
    except BaseException:
        # An interrupt while a thread starts may leave one that the end of the process waits for,
        # though nobody tells it to end. This does.
        _executor = None
        executor.shutdown(wait=False)
        raise


def _watch(others: list[Future[Any]]) -> None:
    """Wait until one thread has found no part left, or has failed.

    In short waits, since there are systems where a wait is not interrupted.
    """
    while not (ended := wait(others, _WAIT_SECONDS, FIRST_COMPLETED).done):
        pass
    for other in ended:
        other.result()


def _settle(others: list[Future[Any]]) -> None:
    """Wait for the threads that have begun. Whoever has not begun is not needed."""
    begun = [other for other in others if not other.cancel()]
    if begun:
        wait(begun)


def _stop(counter: Counter, others: list[Future[Any]]) -> None:
    """Stop the threads, through any further interrupts."""
    try:
        counter[0] = STOPPED
        _settle(others)
    except BaseException:
        _stop(counter, others)
        raise


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
