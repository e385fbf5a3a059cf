"""Dask arrays of log weights: what can be known of their blocks before these are made."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import InvalidInputError, UnsupportedDTypeError
from .inputs import as_array, refuse_mask, require_real
from .lazy import is_dask_array


def array_or_dask(value: Any, name: str) -> Any:
    """A Dask array as it came, and everything else as `inputs.as_array` gives it."""
    return checked_dask_array(value, name) if is_dask_array(value) else as_array(value, name)


def checked_dask_array(value: Any, name: str) -> Any:
    """The Dask array, after a check of what can be known of its blocks."""
    if any(math.isnan(n) for n in value.shape):
        raise InvalidInputError(
            f"{name} must be a Dask array whose chunks have known sizes, got the shape "
            f"{value.shape}; call its compute_chunk_sizes() first"
        )
    meta = getattr(value, "_meta", None)
    if isinstance(meta, np.ma.MaskedArray):
        refuse_mask(name)
    if meta is not None and not isinstance(meta, (np.ndarray, np.generic)):
        kind = type(meta)
        raise UnsupportedDTypeError(
            f"{name} must be a Dask array of NumPy arrays, got one of "
            f"{kind.__module__.partition('.')[0]}.{kind.__name__}; map_blocks can convert them"
        )
    require_real(value.dtype, " (dask.array)", name)
    return value
