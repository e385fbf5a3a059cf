"""The plain function of what a user passes, and the constants that fill its other parameters."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, NamedTuple

from .errors import NotCompiled
from .purity import plain_function
from .syntax import definition


class Bound(NamedTuple):
    """``function(*before, z, [data point,] *params, *after)``."""

    function: types.FunctionType
    before: tuple[Any, ...]
    after: tuple[Any, ...]


def bound(function: Any, n_given: int) -> Bound:
    """A function, compiled function or partial one, for a number of arguments by position."""
    before: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    inner = function
    while isinstance(inner, functools.partial):
        before, keywords = inner.args + before, {**inner.keywords, **keywords}
        inner = inner.func
    plain = plain_function(inner)
    if not isinstance(plain, types.FunctionType):
        raise NotCompiled(plain, _what(plain))
    flags = plain.__code__.co_flags
    if flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        raise NotCompiled(plain, "it is a generator or a coroutine; expected a function")
    if flags & inspect.CO_VARKEYWORDS:
        raise NotCompiled(plain, "it takes any keywords, which have no compiled form")
    signature = inspect.signature(plain, follow_wrapped=False)
    try:
        given = signature.bind(*before, *[None] * n_given, **keywords)
    except TypeError as error:
        reason = f"it takes {signature}, and gets z and {n_given - 1} more: {error}"
        raise NotCompiled(plain, reason) from None
    given.apply_defaults()
    by_keyword = any(each.kind is each.KEYWORD_ONLY for each in signature.parameters.values())
    if by_keyword and (flags & inspect.CO_VARARGS or definition(plain) is None):
        raise NotCompiled(plain, "parameters by keyword have no compiled form here")
    values = (*given.args, *given.kwargs.values())
    return Bound(plain, before, values[len(before) + n_given :])


def _what(value: Any) -> str:
    if isinstance(value, types.MethodType):
        return "it is a method, and its object has no compiled form; pass what it reads as params"
    return f"it is a {type(value).__name__}; expected a function defined by def or lambda"
