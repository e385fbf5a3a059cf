"""Whether a function draws random numbers."""

from __future__ import annotations

import dis
import random
import types

import numpy as np

_SOURCES = (np.random.RandomState, np.random.Generator, random.Random)


def draws_at(function: types.FunctionType) -> int | None:
    """The line at which a function uses NumPy's or Python's random numbers."""
    scope, line = function.__globals__, function.__code__.co_firstlineno
    uses_numpy = any(scope.get(name) is np for name in function.__code__.co_names)
    for each in dis.get_instructions(function):
        if isinstance(each.starts_line, int) and not isinstance(each.starts_line, bool):
            line = each.starts_line
        line = getattr(each, "line_number", None) or line
        if each.argval == "random" and uses_numpy:
            return line
        value = scope.get(each.argval) if isinstance(each.argval, str) else None
        if value in (random, np.random) if isinstance(value, types.ModuleType) else False:
            return line
        if isinstance(value, _SOURCES) or isinstance(getattr(value, "__self__", None), _SOURCES):
            return line
    return None
