"""One variable of a netCDF file, as ArviZ writes it. xarray and h5netcdf are imported on demand."""

from __future__ import annotations

import importlib
import math
from typing import IO, Any

import numpy as np

from .choice import choose

HDF5 = b"\x89HDF\r\n\x1a\n"
# ArviZ's names of the dimensions of draws.
_DRAWS = ("chain", "draw", "sample")


def read_netcdf(
    stream: IO[bytes], head: bytes, group: str | None, var: str | None, path: str
) -> tuple[np.ndarray[Any, Any], bool]:
    """A variable, and whether its draws were named: these are then one axis, the last.

    Raises
    ------
    ChoiceError
        If the file has no such group or variable, or has several and none was named.
    ImportError
        If xarray or h5netcdf is not installed.
    """
    xarray = _optional("xarray", path)
    options: dict[str, Any] = {"decode_times": False}
    if head.startswith(HDF5):
        _optional("h5netcdf", path)
        # Other HDF5 files have arrays too, but no names of their dimensions.
        groups = xarray.open_groups(stream, engine="h5netcdf", phony_dims="sort", **options)
    else:
        groups = {"/": xarray.open_dataset(stream, engine="scipy", **options)}
    groups = {name.strip("/") or "/": dataset for name, dataset in groups.items()}
    filled = {name: dataset for name, dataset in groups.items() if dataset.data_vars}
    wanted = group and (group.strip("/") or "/")
    chosen = choose(list(filled), wanted, "group", "groups", path)
    where = path if chosen == "/" else f"group {chosen} of {path}"
    variables = filled[chosen].data_vars
    array = variables[choose(list(map(str, variables)), var, "var", "variables", where)]
    draws = [name for name in _DRAWS if name in array.dims]
    if not draws:
        return array.values, False
    points = [name for name in array.dims if name not in draws]
    values = array.transpose(*points, *draws).values
    shape = [array.sizes[name] for name in points]
    return values.reshape(*shape, math.prod(array.sizes[name] for name in draws)), True


def _optional(name: str, path: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{path} seems to be a netCDF file, which needs {name}; install it with: "
            'pip install "fastelbo[export]"'
        ) from error
