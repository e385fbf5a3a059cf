"""Implementations of the tasks: one module for each library, and one for C.

A module has ``IMPLEMENTATIONS``, {name: {task: prepare}}. ``prepare(inputs)`` sets up, which is not
timed, and returns a call without arguments, which is.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Prepare = Callable[[Any], Callable[[], Any]]

# Modules and the package that each needs.
_MODULES = {
    "with_fastelbo": "fastelbo",
    "with_numpy": "numpy",
    "with_scipy": "scipy",
    "with_sklearn": "sklearn",
    "with_arviz": "arviz",
    "with_numexpr": "numexpr",
    "with_jax": "jax",
    "with_numpyro": "numpyro",
    "with_torch": "torch",
    "with_c": "ctypes",
}


class Implementation(NamedTuple):
    """One implementation of one task."""

    name: str
    prepare: Prepare

    @property
    def precision(self) -> str:
        """The precision of the arithmetic, which sets the tolerance of a check."""
        return "float32" if "float32" in self.name else "float64"


@functools.cache
def _installed() -> Mapping[str, Mapping[str, Prepare]]:
    """{name: {task: prepare}} of the packages that are installed."""
    found: dict[str, Mapping[str, Prepare]] = {}
    for module, package in _MODULES.items():
        if importlib.util.find_spec(package):
            found |= importlib.import_module(f".{module}", __name__).IMPLEMENTATIONS
    return found


def implementations(task: str) -> list[Implementation]:
    """All implementations of a task, narrowed or not."""
    found = []
    for name, tasks in _installed().items():
        prepare = tasks.get(task) or tasks.get(task.split("/")[0])
        if prepare:
            found.append(Implementation(name, prepare))
    return found


def find(task: str, name: str) -> Implementation:
    """The implementation of a task by that name."""
    return next(each for each in implementations(task) if each.name == name)
