"""Estimates as tables of pandas and data sets of xarray, which are imported when asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..version import __version__

if TYPE_CHECKING:
    from pandas import DataFrame
    from xarray import Dataset

    from .estimate import Estimate

# What is a count or a ratio, and not in nats.
_DIMENSIONLESS = {"ess", "relative_variance", "pareto_k", "n_zero"}


def to_pandas(estimate: Estimate) -> DataFrame:
    """One row a data point; see `Estimate.to_pandas`."""
    pandas = _optional("pandas")
    shape = estimate.batch_shape
    names = _dimensions(shape)
    if len(names) > 1:
        index = pandas.MultiIndex.from_product(map(range, shape), names=names)
    else:
        index = pandas.RangeIndex(estimate.log_evidence.size, name="point")
    columns = {name: array.reshape(-1) for name, array in _arrays(estimate).items()}
    frame = pandas.DataFrame(columns, index=index)
    frame.attrs = _attributes(estimate)
    return frame


def to_xarray(estimate: Estimate) -> Dataset:
    """One variable a quantity; see `Estimate.to_xarray`."""
    xarray = _optional("xarray")
    dimensions = _dimensions(estimate.batch_shape)
    coordinates: dict[str, Any] = {
        name: np.arange(size) for name, size in zip(dimensions, estimate.batch_shape, strict=True)
    }
    bounds = [estimate.iw_elbo(k) for k in estimate.iw_sizes]
    arrays = {
        name: (dimensions, array)
        for name, array in _arrays(estimate).items()
        if not name.startswith("iw_elbo")
    }
    if bounds:
        coordinates["k"] = list(estimate.iw_sizes)
        for name, part in (("iw_elbo", "value"), ("iw_elbo_se", "se")):
            stacked = np.stack([getattr(bound, part) for bound in bounds], axis=-1)
            arrays[name] = ((*dimensions, "k"), stacked)
    variables = {
        name: (axes, array, {"units": "1" if name in _DIMENSIONLESS else "nats"})
        for name, (axes, array) in arrays.items()
    }
    return xarray.Dataset(variables, coordinates, _attributes(estimate))


def _arrays(estimate: Estimate) -> dict[str, Any]:
    """Everything of `Estimate.to_dict` that has an entry a data point."""
    return {name: value for name, value in estimate.to_dict().items() if name != "n_samples"}


def _attributes(estimate: Estimate) -> dict[str, Any]:
    # The names under which ArviZ keeps what made a group.
    return {
        "inference_library": "fastelbo",
        "inference_library_version": __version__,
        "n_samples": estimate.n_samples,
        "units": "nats",
    }


def _dimensions(shape: tuple[int, ...]) -> tuple[str, ...]:
    """``point``, or ``point_0``, ``point_1``... where the batch has several axes."""
    if len(shape) == 1:
        return ("point",)
    return tuple(f"point_{axis}" for axis in range(len(shape)))


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'to_{name}() needs {name}, which comes with: pip install "fastelbo[export]"'
        ) from error
