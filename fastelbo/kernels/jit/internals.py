"""numba's internals where they work as expected, its public interface elsewhere.

`link_only` and `disk_cache` derive from classes that numba does not document, and that may change
in any version. Each is tried, and left out if it fails in any way. Kernels then take longer to
compile, or are compiled in every process. Without the option of `UNCOUNTED`, they are slower.
Results are the same.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import llvmlite.binding
import numba
import numpy as np

try:
    from . import disk_cache
except Exception:
    disk_cache = None  # type: ignore[assignment]

try:
    from . import link_only
except Exception:
    link_only = None  # type: ignore[assignment]


# Who holds it compiles.
COMPILER_LOCK: Any = threading.RLock()
with contextlib.suppress(Exception):
    COMPILER_LOCK = numba.core.compiler_lock.global_compiler_lock


def keep_on_disk(dispatcher: Any, function: Any) -> None:
    """Give a kernel its disk cache, which may be read where it cannot be written."""
    with contextlib.suppress(Exception):
        if disk_cache is not None and dispatcher._cache.cache_path is None:
            dispatcher._cache = disk_cache.SourceCache(function)


@functools.cache
def user_code_cache() -> Any:
    """The disk cache of users' functions, or None."""
    with contextlib.suppress(Exception):
        if disk_cache is not None:
            return disk_cache.UserCodeCache()
    return None


def _uncounted() -> dict[str, Any]:
    """Options to compile a function without counts of references, if numba has them."""
    with contextlib.suppress(Exception):
        if hasattr(numba.core.options.DefaultOptions, "_nrt"):
            return {"_nrt": False}
    return {}


UNCOUNTED = _uncounted()


@contextlib.contextmanager
def _others_aside() -> Iterator[None]:
    """Hide the objects so far from the collector of garbage.

    A compiler makes so many that it would look through all others again and again.
    """
    if gc.get_freeze_count():  # by the user, who alone may end it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _library(state: Any, function: Any) -> Any:
    """Where the code of a kernel goes; None where numba makes that as it does for others."""
    if link_only is None or state.library is not None:
        return state.library
    library = link_only.KernelLibrary(state.targetctx.codegen(), function.__qualname__)
    library.enable_object_caching()
    return library


def _entry_compiler() -> dict[str, Any]:
    """Options to compile what Python calls, with all that it consists of."""

    class EntryCompiler(numba.core.compiler.Compiler):  # type: ignore[misc]
        def compile_extra(self, function: Any) -> Any:
            with contextlib.suppress(Exception):
                self.state.library = _library(self.state, function)
            with _others_aside():
                return super().compile_extra(function)

    return {"pipeline_class": EntryCompiler}


ENTRY: dict[str, Any] = {}
with contextlib.suppress(Exception):
    ENTRY = _entry_compiler()


@functools.cache
def is_fast() -> bool:
    """Whether `link_only` works: tried on small functions, when the first kernel is compiled."""
    if link_only is None:
        return False

    def work(x: Any) -> Any:
        room = np.empty(2)
        for k in range(2):
            room[k] = 2.0 * inner(x)
        return room[1]

    class Trial(link_only.LinkOnlyCompiler):
        interleave = 2

    # A function takes the options of the one that it is compiled for, which may be uncounted.
    counted = dict.fromkeys(UNCOUNTED, True)
    part = numba.njit(pipeline_class=Trial, **counted)
    inner = part(lambda x: x + 1.0)
    outer = part(work)
    try:
        return bool(numba.njit(lambda x: outer(x), **counted)(1.0) == 4.0)
    except Exception:
        return False


def fragment(interleave: int = 1, rolled: bool = False) -> dict[str, Any]:
    """Options to compile a function that only kernels call.

    Its innermost loops have ``interleave`` vectors in flight, where `link_only` works. If
    ``rolled``, they are not unrolled before they are loops of vectors.
    """
    if link_only is None:
        return {}
    return {"pipeline_class": _fragment_compiler(interleave, rolled)}


@functools.cache
def _fragment_compiler(interleave: int, rolled: bool) -> type:
    """A compiler that works as `link_only` does if that works, else as numba does."""

    def define_pipelines(self: Any) -> list[Any]:
        public = numba.core.compiler.Compiler
        chosen = link_only.LinkOnlyCompiler if is_fast() else public
        return list(chosen.define_pipelines(self))

    members = {"interleave": interleave, "rolled": rolled, "define_pipelines": define_pipelines}
    return type("_FragmentCompiler", (link_only.LinkOnlyCompiler,), members)


# --- threads and forks --------------------------------------------------------------------------


def numba_threads() -> int:
    """The number of threads that numba would use. To ask numba itself starts all of them."""
    has_started = getattr(numba.np.ufunc.parallel, "_is_initialized", True)
    return int(numba.get_num_threads() if has_started else numba.config.NUMBA_NUM_THREADS)


def _fork_between_compilations() -> None:
    """Let a fork wait until no other thread compiles or calls LLVM.

    A child has no thread that would release their locks: its own compilation would wait for ever.
    """
    # Who compiles takes the compiler's lock first, as a fork does: the last that is named here. No
    # interrupt comes between, as these are no functions of Python.
    for lock in (llvmlite.binding.ffi.lib._lock._lock, COMPILER_LOCK._lock):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )


with contextlib.suppress(Exception):
    _fork_between_compilations()
