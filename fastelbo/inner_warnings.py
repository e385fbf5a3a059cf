"""Warnings of calls inside of a call, which decides what they mean for the user.

`warnings.catch_warnings` changes filters of the whole process, and puts back those that it found:
two threads in it at the same time leave those of one of them, and warnings of all others are lost.
Here a call collects what is warned of on its own thread.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_collected: ContextVar[list[Warning] | None] = ContextVar("collected", default=None)


@contextmanager
def collected() -> Iterator[list[Warning]]:
    """The list of what `warn` is given on this thread meanwhile. Nobody sees it otherwise."""
    found: list[Warning] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def warn(message: str | Warning, kind: type[Warning] | None = None, stacklevel: int = 1) -> None:
    """As `warnings.warn`, unless the warnings of this thread are collected."""
    found = _collected.get()
    if found is None:
        warnings.warn(message, kind, stacklevel=stacklevel + 1)
    else:
        found.append(message if isinstance(message, Warning) else (kind or UserWarning)(message))
