"""Python threads that run compiled kernels in parallel, and long calls of NumPy.

They replace numba's ``prange``, which compiles every kernel three times, assigns the parts before
it starts, lets one Python thread launch at a time, and keeps its threads spinning until the next
launch, on cores that others could use. Python threads also survive a fork.

Users' threads launch at the same time, and each runs its own launch, be it alone. A thread of ours
helps only while fewer than `core_limit` run, those of the users among them; and a launch asks for
an equal share of what launches of one thread leave. So there are never more threads than the
limit, or than the users have started, but for those that helped before another launch began.
Nothing waits for a free core: nobody can wait for ever.
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

from ...cores import core_limit, cores
from .internals import numba_threads
from .sharing import STOPPED, Counter

_WAIT_SECONDS = 0.05
# NumPy is back from a call on fewer elements within a few tenths of a second.
_LONG_ARRAY = 2**22

_P = ParamSpec("_P")
_T = TypeVar("_T")

_executor: _Executor | None = None
# Threads that are in a launch of their own, and the numbers of threads that they want. No lock
# guards it, as a signal's handler may launch at any line. Who is interrupted before it takes itself
# out does so at its next launch.
_launching: dict[int, int] = {}
# Threads that help others now. They serve no signals, so that they may share a lock.
_helping = 0
_lock = threading.Lock()


def _forget() -> None:
    """Start with no threads: a child process does not inherit those of its parent."""
    global _executor, _helping, _lock
    _executor, _helping, _lock = None, 0, threading.Lock()
    _launching.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def most_threads() -> int:
    """The largest number of threads: NUMBA_NUM_THREADS if it is set, else the number of cores.

    One without a compiler: `take` is not atomic then.
    """
    config = numba.config
    if config.DISABLE_JIT:
        return 1
    most = int(config.NUMBA_NUM_THREADS)
    return most if most != config.NUMBA_DEFAULT_NUM_THREADS else min(most, cores())


def can_wait() -> bool:
    """Whether kernels may run on other threads while this one waits: not without a compiler."""
    return not numba.config.DISABLE_JIT


def available_threads() -> int:
    """The default number of threads of a launch: `core_limit`, or less if numba has less."""
    return min(core_limit(), numba_threads())


def run_on_threads(
    threads: int, function: Callable[..., Any], counter: Counter, *args: Any, waits: bool = False
) -> None:
    """Call ``function(counter, *args)`` on up to that many threads at once, this one included.

    With ``waits``, the main thread only waits for the others, as an interrupt is served by none but
    it, and not while it runs a kernel.

    If anything is raised here or there, the counter is stopped. The error is raised after all
    threads have come back, which may not write to the arguments any more.
    """
    waits = waits and threading.current_thread() is threading.main_thread()
    me = threading.get_ident()
    try:
        _launching[me] = threads
        if threads == 1 and not waits:
            function(counter, *args)
        else:
            _run_on_several(threads, [function, counter, *args], waits)
    finally:
        _launching.pop(me, None)


def _run_on_several(threads: int, work: list[Any], waits: bool) -> None:
    function, counter, *args = work
    limit = max(threads, core_limit())
    others: list[Future[bool]] = []
    try:
        if waits:
            _hand_out(others, 1, limit, _do, work)
            waits = bool(others)
        _hand_out(others, _helpers(threads, limit), limit, _help, work, limit)
        if waits:
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
        work: list[Any] = [functools.partial(run, function, *args, **kwargs)]
        me = threading.get_ident()
        try:
            _launching[me] = 1
            _hand_out(others, 1, core_limit(), _result, work)
            if not others:
                return function(*args, **kwargs)
            _watch(others)
            return cast(_T, others[0].result()[0])
        finally:
            _launching.pop(me, None)
            for other in others:
                other.cancel()
            # The frames of an interrupt would keep the arrays, and the result when it comes.
            others.clear()
            work.clear()

    return call


class _Executor(ThreadPoolExecutor):
    """One whose work is known where the system has no thread left for it, and not lost in a queue.

    A thread that is done with other work takes it at any time.
    """

    lacks_threads = False

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            self.lacks_threads = True


# --- on the other threads -----------------------------------------------------------------------


def _result(work: list[Any]) -> list[Any]:
    """Do the work. The list says that it is done, whatever the result is."""
    function, *args = work
    return [function(*args)]


def _do(work: list[Any]) -> bool:
    """Do the work in the place of the thread that waits for it."""
    return bool(_result(work))


def _help(work: list[Any], limit: int) -> bool:
    """Do the work with others, if fewer than ``limit`` threads run. Whether it is done."""
    global _helping
    with _lock:
        if len(_launching) + _helping >= limit:
            return False
        _helping += 1
    try:
        return _do(work)
    finally:
        with _lock:
            _helping -= 1


# --- on the thread that launches ----------------------------------------------------------------


def _helpers(threads: int, limit: int) -> int:
    """How many threads may help a launch: an equal share of what launches of one thread leave."""
    wanted = list(_launching.values())
    wide = max(1, sum(number > 1 for number in wanted))
    share = -(-(limit - len(wanted) + wide) // wide)
    free = limit - len(wanted) - _helping
    return max(0, min(min(threads, share) - 1, free))


def _hand_out(
    others: list[Future[Any]], count: int, size: int, call: Callable[..., Any], *args: Any
) -> None:
    """Add to ``others`` up to ``count`` calls on other threads, of which there may be ``size``."""
    global _executor
    if count < 1:
        return
    executor = _executor
    if executor is None or executor._max_workers < size:
        # The threads of a smaller one end when they have done what they were given.
        executor = _Executor(size, thread_name_prefix="fastelbo")
        _executor = executor
    try:
        # After the main thread has ended there are no threads to be had: the caller does it all.
        with suppress(RuntimeError):
            for _ in range(count):
                executor.lacks_threads = False
                others.append(executor.submit(call, *args))
                # Another thread may have it, all the same.
                if executor.lacks_threads and others[-1].cancel():
                    others.pop()
                    break
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
    left = set(others)
    while True:
        ended, left = wait(left, _WAIT_SECONDS, FIRST_COMPLETED)
        # One that was not allowed to help has ended, too.
        if any([other.result() for other in ended]):
            return


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
