"""Machine code of a user's function: from the disk cache, or compiled, for many draws or for one.

What compiles is imported when there is something to compile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from numba.core.registry import cpu_target

from ..jit.disk_cache import UserCodeCache
from .arguments import Arguments
from .fingerprint import NoFingerprintError, fingerprint


class Built(NamedTuple):
    """Machine code at an address; it lives as long as ``keep``."""

    address: int
    width: int
    # If the function was compiled for one draw, for it cannot be for many: why, and where.
    reason: Reason | None
    keep: Any


class Reason(NamedTuple):
    """What the compiler does not take, and the line of the file."""

    text: str
    file: str
    line: int


class NotCompiledError(Exception):
    """A function that cannot be compiled at all; ``reason`` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


def build(
    function: Any, arguments: Arguments, has_data: bool, *, stride: int, width: int | None = None
) -> Built:
    """The block function of ``function(z, [data point,] *params)``, for `calls.call_block`.

    With a ``width`` it is compiled for so many draws at once alone, and never kept.
    """
    compile_for = _compiler(function, arguments, has_data, stride)
    if width is not None:
        return compile_for(width, None)[0]
    key = _key(function, arguments, has_data, stride)
    found = None if key is None else _cache().load(key, _loaded)
    if found is not None:
        return found
    built, state = _widest(compile_for)
    if key is not None and state is not None:
        _cache().save(key, (state, built.width, built.reason))
    return built


def _widest(compile_for: Any) -> Any:
    """The function for many draws at once, or else for one."""
    from .block import WIDTH

    try:
        return compile_for(WIDTH, None)
    except NotCompiledError as error:
        return compile_for(1, error.reason)


def _compiler(
    function: Any, arguments: Arguments, has_data: bool, stride: int
) -> Callable[[int, Reason | None], tuple[Built, Any]]:
    def compile_for(width: int, reason: Reason | None) -> tuple[Built, Any]:
        from .block import compile_block

        try:
            block = compile_block(function, arguments.kind, has_data, stride=stride, width=width)
        except Exception as error:
            raise NotCompiledError(_reason(error, function)) from error
        return Built(block.address, width, reason, block.keep), _state(block.keep)

    return compile_for


# --- the disk cache -----------------------------------------------------------------------------


@cache
def _cache() -> UserCodeCache:
    return UserCodeCache()


def _key(function: Any, arguments: Arguments, has_data: bool, stride: int) -> str | None:
    """All that the machine code depends on, beside the source of the kernels."""
    try:
        own = fingerprint(function)
    except (NoFingerprintError, RecursionError, ValueError):
        return None
    codegen = cpu_target.target_context.codegen()
    return repr((own, arguments.description, has_data, stride, codegen.magic_tuple()))


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


# --- errors -------------------------------------------------------------------------------------

_PLACE = re.compile(r'File "([^"]+)", line (\d+)|Raised from (\S+) \((\d+)\)')
_NOISE = re.compile(r"^(Failed in|During: |File |\s*$|- |Known signatures|There are \d+|\^)")
# Messages of the compiler, in the words of who wrote the function; the first that fits.
_WORDS = [
    (r".*<class 'bool'>.*", "its control flow depends on z"),
    (r".*Untyped global name '_lanes_.*", "it calls itself"),
    (
        r"No implementation of function Function\(<(?:[a-z-]+ )*'?([\w.]+)'?(?: at \w+)?>\).*",
        r"there is no compiled form of \1 for what it gets",
    ),
]
_KINDS = [
    (r"\bLanes\(\d+\)", "value of z"),
    (r"\bMask\(\d+\)", "condition on z"),
    (r"\bLaneVector(\([^)]*\))?", "vector of z"),
    (r"\.? ?Raised from .*", ""),
]


def _reason(error: Exception, function: Any) -> Reason:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    code = getattr(function, "py_func", function).__code__
    found = [(a or b, int(m or n)) for a, m, b, n in _PLACE.findall(text)]
    # numba shortens names of files.
    own = [line for file, line in found if Path(file).name == Path(code.co_filename).name]
    lines = [each.strip() for each in text.splitlines() if not _NOISE.match(each)]
    first = next(iter(lines), type(error).__name__)
    for pattern, words in _WORDS:
        if re.fullmatch(pattern, first):
            first = re.sub(pattern, words, first)
            break
    for pattern, words in _KINDS:
        first = re.sub(pattern, words, first)
    return Reason(first[:200].rstrip(" :."), code.co_filename, (own or [code.co_firstlineno])[-1])
