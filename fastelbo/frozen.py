"""Objects that never change, nor do their arrays, after they were copied or pickled too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .caching import cached_property


class Frozen:
    """Fields are set by `_set` alone, and their arrays are read-only."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def _set(self, **fields: Any) -> None:
        """Fill the fields of a new instance."""
        for name, value in fields.items():
            self.__dict__[name] = read_only(value)

    def __getstate__(self) -> dict[str, Any]:
        # A copy computes anew what follows from the fields.
        return {name: value for name, value in vars(self).items() if not self._is_cache(name)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._set(**state)

    def _is_cache(self, name: str) -> bool:
        return isinstance(getattr(type(self), name, None), cached_property)


def read_only(value: Any) -> Any:
    """An array, or arrays in a dictionary or tuple, that cannot be written."""
    if isinstance(value, np.ndarray):
        view = value.view()
        view.setflags(write=False)
        return view
    if isinstance(value, dict):
        return {key: read_only(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(map(read_only, value))
    return tuple(map(read_only, value)) if type(value) is tuple else value
