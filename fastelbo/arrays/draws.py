"""Log weights as users give them: which array is meant, and which of its axes are the draws."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DrawsAxisWarning, FastElboWarning, InvalidInputError
from ..inner_warnings import warn
from ..validation import as_count, shown
from .dask_arrays import checked_dask_array
from .devices import on_device
from .inputs import as_array, as_rows, in_native_floats, normal_axes
from .lazy import is_dask_array, refuse_other_dask

Dim = str | Sequence[str] | None

# Dimensions that are the draws by their names: those of ArviZ, and of its stacked samples.
_DRAWS, _STACKED = ("chain", "draw"), "sample"
# The names that xarray gives to a dimension without one.
_UNNAMED = "dim_"
# Fewer draws than this, beside an axis that is longer by this factor, are doubtful.
_FEW_DRAWS, _LONGER = 100, 10


class Draws(NamedTuple):
    """An array and its axes of draws; an array on a device, and a Dask array, as it came."""

    array: Any
    axes: tuple[int, ...]
    name: str
    # Whether the array has names for its dimensions, by which the draws are found.
    named: bool
    # Whether neither the caller nor the array has named the axis.
    assumed: bool
    # The names of the axes of draws, if they were found by name.
    dims: tuple[str, ...] = ()

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the data points, the axes that are not draws."""
        shape = self.array.shape
        return tuple(int(n) for axis, n in enumerate(shape) if axis not in self.axes)

    @property
    def length(self) -> int:
        """Number of draws."""
        return math.prod(int(self.array.shape[axis]) for axis in self.axes)

    def rows(self) -> tuple[np.ndarray[Any, Any], tuple[int, ...]]:
        """See `inputs.as_rows`; as float32 or float64."""
        return as_rows(in_native_floats(self.array), self.axes)

    def checked(self) -> Draws:
        """The same, after a warning of few draws beside a long axis that may be meant instead."""
        if self.assumed:
            warn_few_draws(self.length, self.array.shape, self.axes[0], self.name)
        return self


def read_draws(
    value: Any,
    name: str,
    axis: int | None = None,
    dim: Dim = None,
    var: str | None = None,
    *,
    default: int = -1,
    group: str | None = None,
    terms: bool = True,
    device: bool = False,
    replicated: bool = False,
    lazy: bool = False,
    least: int = 1,
) -> Draws:
    """The array of log weights, and the axes of its draws.

    ``value`` is an array, the path of a file, the terms of log weights, or an object of xarray or
    ArviZ. The axes are those that ``axis`` or ``dim`` name, else the dimensions of an xarray object
    with the names of draws, else ``default``. Of several groups, the variable is looked for in
    ``group`` alone, unless ``var`` names another one. `ElboTerms`, arrays on a device and Dask
    arrays are taken only with ``terms``, ``device`` and ``lazy``. Terms of quasi-random draws,
    which have the axes (..., R, n), are taken only where ``replicated`` draws have the same
    meaning, or errors of their own. There must be ``least`` draws.
    """
    if axis is not None and dim is not None:
        raise InvalidInputError(
            f"axis and dim both name the draws of {name}, got {shown(axis)} and {shown(dim)}; give "
            "one of them"
        )
    refuse_other_dask(value, name)
    value = _variable(value, name, var, group)
    names = getattr(value, "dims", None)
    if isinstance(names, tuple) and hasattr(value, "transpose"):
        value = value.data
    else:
        names = ()
    if dim is not None and not names:
        raise InvalidInputError(
            f"dim must be None, got {shown(dim)}: {name} has no named dimensions; say axis"
        )
    if _is_terms(value):
        _check_terms(value, name)
    count = replicates_of(value)
    if count > 1 and not replicated:
        raise InvalidInputError(
            f"{name} must have independent draws, got terms of {count} replicates of quasi-random "
            "draws: errors, subsets and tails of dependent draws would be wrong. summarize() and "
            "ess() take them"
        )
    takes_terms = terms and _is_terms(value)
    if takes_terms:
        value = value.log_weights
    if lazy and is_dask_array(value):
        array = checked_dask_array(value, name)
    elif takes_terms:
        array = as_array(value, name)
    elif device and on_device(value):
        array = value
    else:
        array = _plain_array(value, name, axis)
    if array.ndim == 0:
        raise InvalidInputError(f"{name} must have an axis of draws, got a scalar")
    by_name = axis is None and (dim is not None or not _say_nothing(names))
    if count > 1 and axis is None:
        axes = tuple(range(array.ndim)[-2:])
    else:
        axes = _axes_by_name(names, name, dim) if by_name else _one_axis(axis, default, array.ndim)
    assumed = axis is None and not by_name and not takes_terms
    dims = tuple(str(names[each]) for each in axes) if by_name else ()
    draws = Draws(array, axes, name, by_name, assumed, dims)
    as_count(draws.length, f"the number of draws in {name}", least=least)
    return draws


def warn_few_draws(length: int, shape: Sequence[int], axis: int, name: str) -> None:
    """Warn of few draws beside a long axis, which may be the axis that was meant.

    ``axis`` is the axis of the draws, whose length in ``shape`` does not matter.
    """
    others = {n: i for i, n in enumerate(shape) if i != axis}
    longest = max(others, default=0)
    if 0 < length < _FEW_DRAWS and longest >= _LONGER * length:
        warn_user(
            DrawsAxisWarning,
            f"{name} of shape {tuple(shape)} has only {length} draws, which are taken along axis "
            f"{axis}; if they are along another axis, say axis={others[longest]}, else axis={axis}",
        )


def warn_user(kind: type[FastElboWarning], message: str) -> None:
    """Warn at the line outside of the package that called it."""
    package = __name__.partition(".")[0]
    depth, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        depth, frame = depth + 1, frame.f_back
    warn(message, kind, stacklevel=depth)


def _one_axis(axis: int | None, default: int, ndim: int) -> tuple[int, ...]:
    axes = normal_axes(default if axis is None else axis, ndim)
    if len(axes) != 1:
        raise InvalidInputError(f"axis must be one axis, the axis of the draws, got {shown(axis)}")
    return axes


def _plain_array(value: Any, name: str, axis: int | None) -> np.ndarray[Any, Any]:
    """An array or a file. A list of arrays may be pieces or data points, so ``axis`` must say."""
    # A list of numbers may be long.
    listed = isinstance(value, (list, tuple)) and len(value) > 1 and hasattr(value[0], "shape")
    if listed and axis is None:
        shapes = {getattr(item, "shape", None) for item in value}
        if shapes != {()} and None not in shapes:
            raise InvalidInputError(
                f"{name} must be one array, got a {type(value).__name__} of {len(value)} arrays of "
                f"shape {', '.join(sorted(map(str, shapes)))}, which may be data points or pieces. "
                "For data points give axis, which counts the axes of np.stack of them; join pieces "
                "by np.concatenate, or pass an iterator of them where it is taken"
            )
    return as_array(value, name, file=True)


def _is_terms(value: Any) -> bool:
    """Whether the value is an `ElboTerms`, which has its draws along the last axis."""
    # The property of the class, as that of the value would compute the log weights.
    known = isinstance(value, tuple) and hasattr(value, "log_q")
    return known and hasattr(type(value), "log_weights")


def _check_terms(value: Any, name: str) -> None:
    """Raise an error for terms that do not go together, or are not in replicates."""
    shapes = [np.shape(each) for each in value]
    found = ", ".join(map(str, shapes))
    if hasattr(type(value), "replicates"):
        if len(set(shapes)) > 1 or len(shapes[0]) < 2 or shapes[0][-2] < 2:
            raise InvalidInputError(
                f"{name} must have quasi-random terms of one shape (..., R, n) with at least two "
                f"replicates, got shapes {found}"
            )
        return
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise InvalidInputError(
            f"{name} must have terms of shapes that broadcast, got {found}"
        ) from None


def replicates_of(value: Any) -> int:
    """R of terms of quasi-random draws, which are in R replicates; else 1."""
    return int(getattr(value, "replicates", 1)) if _is_terms(value) else 1


# --- xarray and ArviZ -----------------------------------------------------------------------------


def _say_nothing(names: tuple[Any, ...]) -> bool:
    """Whether there are no names of dimensions, or only those that xarray makes up."""
    return all(str(each).startswith(_UNNAMED) for each in names)


def _axes_by_name(names: tuple[Any, ...], name: str, dim: Dim) -> tuple[int, ...]:
    """The axes of the draws among the dimensions of an xarray object."""
    if dim is not None:
        wanted = list(dim) if isinstance(dim, (tuple, list)) else [dim]
        if not wanted or any(wanted.count(each) > 1 or each not in names for each in wanted):
            raise InvalidInputError(
                f"dim must be one or more dimensions of {name}, which are {_listed(names)}; got "
                f"{shown(dim)}"
            )
        return tuple(names.index(each) for each in wanted)
    if _DRAWS[-1] in names:
        return tuple(names.index(each) for each in _DRAWS if each in names)
    if _STACKED in names:
        return (names.index(_STACKED),)
    if len(names) == 1:
        return (0,)
    raise InvalidInputError(
        f"dim must say which dimensions of {name} are the draws, as none of {_listed(names)} is "
        f"{_DRAWS[-1]!r} or {_STACKED!r}; got None"
    )


def _variable(value: Any, name: str, var: str | None, group: str | None) -> Any:
    """The one variable that is meant of an xarray Dataset or DataTree, or of an InferenceData."""
    groups = groups_of(value)
    if groups is None:
        if var is not None:
            raise InvalidInputError(
                f"var must be None, got {shown(var)}: {name} is no Dataset, DataTree or "
                "InferenceData"
            )
        return value
    explicit = isinstance(var, str) and "/" in var
    if group is not None and group not in groups and any(groups) and not explicit:
        raise InvalidInputError(
            f"{name} must have a group {group!r}, got the groups {_listed(filter(None, groups))}; "
            "var can name a variable of one of them, as 'group/variable'"
        )
    found = {
        f"{path}/{key}".lstrip("/"): array
        for path, arrays in groups.items()
        for key, array in arrays.items()
        if path == group or group not in groups
    }
    if isinstance(var, str):
        wanted = [path for path in found if path == var or path.endswith(f"/{var}")]
    else:
        wanted = list(found) if var is None else []
    if len(wanted) != 1:
        raise InvalidInputError(
            f"var must name one variable of {name}, which has {_listed(found)}; got {shown(var)}"
        )
    return found[wanted[0]]


def groups_of(value: Any) -> Mapping[str, Mapping[str, Any]] | None:
    """The variables of each group; None for what is no collection of variables."""
    if hasattr(value, "subtree"):
        return {node.path.strip("/"): node.data_vars for node in value.subtree}
    if hasattr(value, "data_vars"):
        return {"": value.data_vars}
    if any(kind.__name__ == "InferenceData" for kind in type(value).__mro__):
        return {group: value[group].data_vars for group in value.groups()}
    return None


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names)) or "none"
