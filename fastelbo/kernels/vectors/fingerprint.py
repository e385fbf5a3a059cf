"""Fingerprints of users' functions: of all that their machine code depends on.

Of a function count its bytecode and constants, defaults, and what it closes over and reads of its
module: numbers, texts, arrays by their content, and other functions in the same way. A value of any
other type has no fingerprint, and then neither has the function.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import inspect
import sys
import types
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

# Packages whose functions change with their version alone.
_KNOWN = ("numpy", "scipy", "math", "numba", "fastelbo", "cmath", "operator", "builtins", "typing")


def is_known(value: Any) -> bool:
    """Whether a module or a function is of a package whose functions nobody edits."""
    if isinstance(value, types.FunctionType):  # a decorator may have changed its `__module__`
        name = value.__globals__.get("__name__")
    else:
        name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    return str(name).partition(".")[0] in _KNOWN


def names_of(code: types.CodeType) -> frozenset[str]:
    """Names of globals and attributes in the code and the functions inside it."""
    inner = (names_of(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return frozenset(code.co_names).union(*inner)


class NoFingerprintError(Exception):
    """A function depends on a value that cannot be compared with one of another process."""


def fingerprint(function: Any) -> str:
    """A digest of the function, or `NoFingerprintError`."""
    digest = hashlib.sha256()
    digest.update(str(sys.implementation.cache_tag).encode())
    _Feeder(digest).feed(function)
    return digest.hexdigest()


class _Feeder:
    """Puts values into a digest; a function that comes again is named by its number."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest
        self._seen: dict[Any, int] = {}

    def _note(self, *texts: Any) -> None:
        self._digest.update(("\x1f".join(map(str, texts)) + "\x1e").encode())

    def feed(self, value: Any) -> None:
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str, bytes):
            self._note(kind.__name__, repr(value))
        elif isinstance(value, (tuple, list, frozenset)):
            self._items(value)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiubc":
            self._note("array", value.dtype.str, value.shape, value.flags.c_contiguous)
            self._digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, np.generic) and value.dtype.kind in "fiubc":
            self._note("scalar", value.dtype.str, value.tobytes().hex())
        elif isinstance(value, Dispatcher):
            options = {key: each for key, each in value.targetoptions.items()}
            self._note("compiled", sorted(map(repr, options.items())))
            self.feed(value.py_func)
        elif isinstance(value, functools.partial):
            self._note("partial", *value.keywords)
            self._items((value.func, *value.args, *value.keywords.values()))
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.CodeType):
            self._code(value)
        else:
            self._named(value)

    def _items(self, value: Any) -> None:
        kind = type(value)
        fields = getattr(value, "_fields", ())
        if kind not in (tuple, list, frozenset) and not fields:
            raise NoFingerprintError(kind.__name__)
        self._note(kind.__name__, fields, len(value))
        for each in sorted(value, key=repr) if kind is frozenset else value:
            self.feed(each)

    def _named(self, value: Any) -> None:
        """What is known by its name: modules, functions and types of known packages."""
        if isinstance(value, types.ModuleType):
            name, module = value.__name__, value.__name__
        else:
            name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
            module = getattr(value, "__module__", None) or "numpy"
        if module.partition(".")[0] not in _KNOWN or not name:
            raise NoFingerprintError(type(value).__name__)
        if not isinstance(value, (types.ModuleType, types.BuiltinFunctionType, type, np.ufunc)):
            raise NoFingerprintError(type(value).__name__)
        self._note(type(value).__name__, module, name)

    def _function(self, function: types.FunctionType) -> None:
        home = str(function.__globals__.get("__name__"))
        if is_known(function) and home.partition(".")[0] != "fastelbo":
            self._note("known", home, function.__qualname__)
            return
        if id(function) in self._seen:
            self._note("again", self._seen[id(function)])
            return
        self._seen[id(function)] = len(self._seen)
        self._code(function.__code__)
        self.feed(function.__defaults__ or ())
        self.feed(tuple((function.__kwdefaults__ or {}).items()))
        closure = inspect.getclosurevars(function)
        self._note("closure", *sorted(closure.nonlocals))
        for name in sorted(closure.nonlocals):
            self.feed(closure.nonlocals[name])
        self._globals(function)

    def _globals(self, function: types.FunctionType) -> None:
        names = names_of(function.__code__)
        for name in sorted(names):
            if name in function.__globals__:
                self._note("global", name)
                self._global(function.__globals__[name], names)
            elif hasattr(builtins, name):
                self._note("builtin", name)

    def _global(self, value: Any, names: frozenset[str]) -> None:
        """A value of the function's module; of another module, what its names may mean there."""
        if not isinstance(value, types.ModuleType) or is_known(value):
            self.feed(value)
            return
        self._note("module", value.__name__)
        if (id(value), names) in self._seen:
            return
        self._seen[id(value), names] = len(self._seen)
        for name in sorted(names & set(vars(value))):
            self._note(name)
            self._global(vars(value)[name], names)

    def _code(self, code: types.CodeType) -> None:
        self._note(
            "code", code.co_name, code.co_argcount, code.co_posonlyargcount,
            code.co_kwonlyargcount, code.co_flags, code.co_names, code.co_varnames,
            code.co_freevars, code.co_cellvars, code.co_code.hex(),
            getattr(code, "co_exceptiontable", b"").hex(), len(code.co_consts),
        )  # fmt: skip
        for each in code.co_consts:
            self.feed(each)
