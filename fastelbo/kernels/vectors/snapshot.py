"""A user's function as it is now: what it reads cannot change, or be compiled, behind its back.

The function in plain Python, its machine code, and copies of a model in other processes then
compute the same, whatever the user's module does meanwhile.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from ..jit.compile import like
from .fingerprint import is_known, names_of

# Of a module's namespace, what Python and the compiler read themselves.
_MODULE_NAMES = ("__name__", "__builtins__", "__file__", "__package__", "__spec__")


def snapshot(function: types.FunctionType) -> types.FunctionType:
    """A function of the same code, with what it reads as it is now.

    So are the functions that it calls, compiled or not, and arrays are copied. Functions of known
    packages stay, and so do objects of other types, which have no compiled form.
    """
    made: types.FunctionType = _Copies(_frozen, like).of(function)
    return made


def interpreted(function: types.FunctionType) -> types.FunctionType:
    """A snapshot in which compiled functions are plain ones: a call in Python compiles nothing."""
    made: types.FunctionType = _Copies(lambda array: array, lambda old, plain: plain).of(function)
    return made


def _frozen(array: Any) -> Any:
    if array.dtype.kind not in "fiubc":
        return array
    copy = np.array(array, order="K")
    copy.setflags(write=False)
    return copy


class _Copies:
    """Copies of functions and of what they read, each made once."""

    def __init__(self, array: Any, compiled: Any) -> None:
        self._array, self._compiled = array, compiled
        # By identity, with what was copied, which so lives as long.
        self._made: dict[Any, tuple[Any, Any]] = {}

    def of(self, value: Any, names: frozenset[str] = frozenset()) -> Any:
        """The copy of a value; of a module, with these of its names."""
        is_module = type(value) is types.ModuleType
        key = (id(value), names if is_module else None)
        if key not in self._made:
            if isinstance(value, types.FunctionType) and not is_known(value):
                return self._function(key, value)
            if is_module and not is_known(value):
                return self._module(key, value, names)
            self._made[key] = value, self._other(value, names)
        return self._made[key][1]

    def _other(self, value: Any, names: frozenset[str]) -> Any:
        if type(value) is np.ndarray:
            return self._array(value)
        if isinstance(value, Dispatcher) and not is_known(value.py_func):
            return self._compiled(value, self.of(value.py_func))
        if type(value) is tuple:
            return tuple(self.of(each, names) for each in value)
        if isinstance(value, tuple) and hasattr(value, "_make"):
            return value._make(self.of(each, names) for each in value)
        return value

    def _function(self, key: Any, function: types.FunctionType) -> Any:
        code = function.__code__
        cells = [types.CellType() for _ in code.co_freevars]
        scope: dict[str, Any] = {}
        copy = types.FunctionType(code, scope, function.__name__, None, tuple(cells))
        self._made[key] = function, copy  # it may call itself
        copy.__dict__.update(function.__dict__)
        copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
        copy.__defaults__ = self.of(function.__defaults__)
        keywords = function.__kwdefaults__ or {}
        copy.__kwdefaults__ = {name: self.of(each) for name, each in keywords.items()} or None
        names = names_of(code)
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            try:
                cell.cell_contents = self.of(old.cell_contents, names)
            except ValueError:  # not bound yet
                continue
        self._read(scope, function.__globals__, names)
        return copy

    def _module(self, key: Any, module: types.ModuleType, names: frozenset[str]) -> Any:
        copy = types.ModuleType(module.__name__)
        self._made[key] = module, copy
        self._read(vars(copy), vars(module), names)
        return copy

    def _read(self, scope: dict[str, Any], old: dict[str, Any], names: frozenset[str]) -> None:
        scope.update({name: old[name] for name in _MODULE_NAMES if name in old})
        for name in names & old.keys():
            scope[name] = self.of(old[name], names)
