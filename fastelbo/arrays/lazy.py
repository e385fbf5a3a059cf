"""Dask's collections, recognised without an import of Dask.

They may be larger than main memory, so none is loaded implicitly. The functions that take Dask
arrays read them by `fastelbo.arrays.dask_tasks`; all others refuse them.
"""

from __future__ import annotations

from typing import Any

from ..errors import InvalidInputError
from ..optional import optional


def is_dask(value: Any) -> bool:
    """Whether the value is a collection of Dask, or an xarray object that is backed by one."""
    graph = getattr(value, "__dask_graph__", None)
    return callable(graph) and not isinstance(value, type) and graph() is not None


def is_dask_array(value: Any) -> bool:
    """Whether the value is a Dask array."""
    return any(
        kind.__name__ == "Array" and kind.__module__.startswith("dask.array")
        for kind in type(value).__mro__
    )


def refuse_other_dask(value: Any, name: str) -> None:
    """Raise an error for a collection of Dask that is no array."""
    if type(value).__module__.partition(".")[0] == "dask" and not is_dask_array(value):
        raise InvalidInputError(
            f"{name} must be an array, got a Dask {type(value).__name__}; a DataFrame or Series "
            "has to_dask_array(lengths=True), and dask.array.from_delayed makes arrays of others"
        )


def refuse_dask(value: Any, name: str) -> None:
    """Raise an error for a collection of Dask, or for a list with one."""
    if isinstance(value, (list, tuple)):
        # A list of numbers may be long.
        if value and not isinstance(value[0], (int, float)):
            for item in value:
                refuse_dask(item, name)
        return
    if is_dask(value):
        raise InvalidInputError(
            f"{name} is a Dask collection ({type(value).__name__}), but this function needs an "
            "array in main memory; call its compute() first if it fits there. summarize(), ess(), "
            "psis(), pareto_k() and loo() take a Dask array, and an xarray object with one"
        )


def dask_module(name: str) -> Any:
    """A module of Dask, which whoever has a Dask array has installed."""
    return optional(name, "a Dask array", '"fastelbo[dask]"')
