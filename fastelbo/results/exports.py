"""Estimates as pandas DataFrames and xarray Datasets. Both libraries are imported on demand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..optional import optional
from ..version import STREAM_VERSION, __version__
from ..weights.bounds import Bound

if TYPE_CHECKING:
    from pandas import DataFrame
    from xarray import Dataset

# Counts and ratios. All other quantities are in nats.
_DIMENSIONLESS = {
    "ess", "relative_variance", "pareto_k", "pareto_k_elbo", "n_zero", "variance_ratio",
    "n_samples",
}  # fmt: skip
Array = np.ndarray[Any, Any]


def to_pandas(
    arrays: Mapping[str, Array], shape: tuple[int, ...], facts: Mapping[str, Any]
) -> DataFrame:
    """A frame with one row per data point of the batch ``shape``; see `Estimate.to_pandas`."""
    pandas = _imported("pandas")
    names = _dimensions(shape)
    if len(names) > 1:
        index = pandas.MultiIndex.from_product(map(range, shape), names=names)
    else:
        index = pandas.RangeIndex(math.prod(shape), name="point")
    # Copies, which may be written.
    columns = {name: array.flatten() for name, array in arrays.items()}
    frame = pandas.DataFrame(columns, index=index)
    frame.attrs = _attributes(facts)
    return frame


def to_xarray(
    arrays: Mapping[str, Array],
    bounds: Mapping[int, Bound],
    shape: tuple[int, ...],
    facts: Mapping[str, Any],
) -> Dataset:
    """A Dataset with one variable per quantity, and one for bounds; see `Estimate.to_xarray`."""
    xarray = _imported("xarray")
    dimensions = _dimensions(shape)
    coordinates: dict[str, Any] = {
        name: np.arange(size) for name, size in zip(dimensions, shape, strict=True)
    }
    # Copies, which may be written.
    entries = {name: (dimensions, array.copy()) for name, array in arrays.items()}
    if bounds:
        coordinates["k"] = list(bounds)
        for name, part in (("iw_elbo", "value"), ("iw_elbo_se", "se")):
            stacked = np.stack([getattr(bound, part) for bound in bounds.values()], axis=-1)
            entries[name] = ((*dimensions, "k"), stacked)
    variables = {
        name: (axes, array, {"units": "1" if name in _DIMENSIONLESS else "nats"})
        for name, (axes, array) in entries.items()
    }
    return xarray.Dataset(variables, coordinates, _attributes(facts))


def _attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    # ArviZ's names for the library that made a group.
    return {
        "inference_library": "fastelbo",
        "inference_library_version": __version__,
        **facts,
        "stream_version": STREAM_VERSION,
        "units": "nats",
    }


def _dimensions(shape: tuple[int, ...]) -> tuple[str, ...]:
    """``point``, or ``point_0``, ``point_1``, ... if the batch does not have exactly one axis."""
    if len(shape) == 1:
        return ("point",)
    return tuple(f"point_{axis}" for axis in range(len(shape)))


def _imported(name: str) -> Any:
    return optional(name, f"to_{name}()", '"fastelbo[export]"')
