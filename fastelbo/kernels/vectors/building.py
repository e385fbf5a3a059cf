"""Machine code of a user's function: from the disk cache, or compiled, for many draws or for one.

What compiles is imported when there is something to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import scipy
from numba.core.registry import cpu_target

from ..jit.internals import COMPILER_LOCK, user_code_cache
from .arguments import Arguments
from .errors import NotCompiled
from .fingerprint import NoFingerprintError, fingerprint


class Built(NamedTuple):
    """Machine code at an address; it lives as long as ``keep``."""

    address: int
    width: int
    # If the function was compiled for one draw, as it cannot be for many: why, and where.
    reason: NotCompiled | None
    keep: Any


def build(
    function: Any, arguments: Arguments, has_data: bool, *, stride: int, width: int | None = None
) -> Built:
    """The block function of ``function(z, [data point,] *params)``, for `calls.call_block`.

    With a ``width`` it is compiled for so many draws at once alone, and never kept. It raises
    `NotCompiled` if the function has no compiled form.
    """
    compile_for = _compiler(function, arguments, has_data, stride)
    if width is not None:
        return compile_for(width, None)[0]
    return _found(_key((function,), arguments, has_data, stride), compile_for)


def build_gradient(
    functions: tuple[Any, ...],
    arguments: Arguments,
    has_data: bool,
    *,
    dim: int,
    stride: int,
    by_duals: bool,
) -> Built:
    """The same of a function and its gradient, for `calls.call_gradient_block`.

    The gradient is that of dual numbers; or one of two functions returns it, or one function both,
    and the params are a tuple of those of each function.
    """

    def compile_for(width: int | None, reason: NotCompiled | None) -> tuple[Built, Any]:
        from . import gradient_block
        from .block import WIDTH

        if by_duals:
            width = width or gradient_block.width_of(dim)
            block = gradient_block.compile_duals(
                functions[0], arguments.kind, has_data, dim=dim, stride=stride, width=width
            )
        else:
            width = width or WIDTH
            block = gradient_block.compile_given(
                functions, arguments.kind, has_data, stride=stride, width=width
            )
        return Built(block.address, width, reason, block.keep), _state(block.keep)

    more = "gradient", dim, by_duals
    return _found(_key(functions, arguments, has_data, stride, *more), compile_for)


# (width or None for the most, reason) -> what was built, and the form of it that can be kept.
_Compile = Callable[[int | None, NotCompiled | None], tuple[Built, Any]]


def _found(key: str | None, compile_for: _Compile) -> Built:
    """The machine code from the disk cache, or compiled."""
    cache = None if key is None else user_code_cache()
    # Of threads that need the same function at the same time, one compiles it.
    with COMPILER_LOCK:
        found: Built | None = cache and cache.load(key, _loaded)
        if found is not None:
            return found
        built, state = _widest(compile_for)
        if cache is not None and state is not None:
            cache.save(key, (state, built.width, built.reason))
    return built


def _widest(compile_for: _Compile) -> Any:
    """The function for many draws at once, or else for one."""
    try:
        return compile_for(None, None)
    except NotCompiled as error:
        if not error.one_lane:
            raise
        return compile_for(1, error)


def _compiler(function: Any, arguments: Arguments, has_data: bool, stride: int) -> _Compile:
    def compile_for(width: int | None, reason: NotCompiled | None) -> tuple[Built, Any]:
        from .block import WIDTH, compile_block

        width = width or WIDTH
        block = compile_block(function, arguments.kind, has_data, stride=stride, width=width)
        return Built(block.address, width, reason, block.keep), _state(block.keep)

    return compile_for


# --- the disk cache -----------------------------------------------------------------------------


def _key(
    functions: tuple[Any, ...], arguments: Arguments, has_data: bool, stride: int, *more: Any
) -> str | None:
    """All that the machine code depends on, beside the source of the kernels."""
    try:
        own = tuple(map(fingerprint, functions))
    except (NoFingerprintError, RecursionError, ValueError):
        return None
    versions = numba.__version__, np.__version__, scipy.__version__
    processor = cpu_target.target_context.codegen().magic_tuple()
    return repr((own, arguments.description, has_data, stride, more, versions, processor))


def _state(dispatcher: Any) -> Any:
    """The machine code in a form that can be kept, or None."""
    (compiled,) = dispatcher.overloads.values()
    if compiled.library.has_dynamic_globals or compiled.lifted:
        return None
    return compiled.fndesc.llvm_func_name, compiled.library.serialize_using_object_code()


def _loaded(kept: Any) -> Built:
    (name, library), width, reason = kept
    context = cpu_target.target_context
    context.refresh()
    code = context.codegen().unserialize_library(library)
    return Built(code.get_pointer_to_function(name), width, reason, code)
