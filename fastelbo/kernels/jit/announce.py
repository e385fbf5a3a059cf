"""Announces kernels that are compiled: seconds in which nothing else happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import event


class _Outermost(event.Listener):  # type: ignore[misc]
    """Passes on the names of kernels, and not of the functions that they consist of."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        self._announce, self._depth = announce, 0

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            self._announce(event.data["dispatcher"].py_func.__name__)
        self._depth += 1

    def on_end(self, event: Any) -> None:
        self._depth -= 1


@contextmanager
def compilations(announce: Callable[[str], None]) -> Iterator[None]:
    """Call ``announce(name)`` when the compilation of a kernel begins."""
    with event.install_listener("numba:compile", _Outermost(announce)):
        yield
