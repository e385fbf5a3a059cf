"""Existing log weights in replicates: estimates from all draws, and from each replicate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..arrays.devices import on_device
from ..arrays.draws import Draws
from ..arrays.inputs import as_rows
from ..errors import InvalidInputError
from ..progress import Tick, no_tick
from ..validation import DEFAULT_IW_SIZES, Floats, group_sizes, shown
from ..weights.permuted_groups import group_quantities, in_powers_of_two
from .rows import Array, row_quantities
from .states import Quantities, StateForm


def replicated_draws(draws: Draws, replicates: int, axis: Any) -> Draws:
    """The draws along the last two axes, (..., R, n), or along two that have names."""
    array, name = draws.array, draws.name
    if on_device(array):
        raise InvalidInputError(
            f"replicates must be None for {name} on a GPU, got {replicates}; copy them to NumPy"
        )
    if axis is not None:
        raise InvalidInputError(
            "axis must be None with replicates, whose draws are the last two axes; got "
            f"{shown(axis)}"
        )
    axes = draws.axes
    if not draws.named:
        axes = tuple(range(array.ndim)[-2:])
    shape = tuple(array.shape[each] for each in axes)
    if len(axes) != 2 or shape[0] != replicates or 0 in shape:
        found = f"shape {tuple(array.shape)}"
        if draws.named:
            found += f" with draws along axes {axes}"
        raise InvalidInputError(
            f"{name} must have the shape (..., R, n) with R = replicates = {replicates} and the "
            f"number n of draws in each of them, got {found}"
        )
    return draws._replace(axes=axes, assumed=False)


def sizes_of_groups(iw_sizes: Iterable[int] | None, replicates: int, draws: int) -> list[int]:
    """The sizes of importance-weight groups: at most R, as a group has one draw a replicate."""
    whole = in_powers_of_two(draws)
    default = DEFAULT_IW_SIZES if whole else ()
    sizes = group_sizes(iw_sizes, replicates, default, "replicates")
    if sizes and not whole:
        raise InvalidInputError(
            "iw_sizes must be empty where the number n of draws in each of the replicates is no "
            f"power of two, as their order is permuted; got {sizes} with n = {draws}"
        )
    return sizes


def replicated_quantities(
    draws: Draws, replicates: int, form: StateForm, tick: Tick = no_tick
) -> tuple[Quantities, tuple[int, ...]]:
    """The quantities of all draws, those of each replicate, and the shape of the data points."""
    x, shape = as_rows(draws.array, draws.axes)
    values = row_quantities(x, StateForm((), form.capacity), tick)
    if not values["n_bad"].any():
        each = of_each_replicate(x, replicates)
        values |= {f"replicate_{name}": each[name] for name in ("log_evidence", "elbo")}
        values |= group_quantities(x, replicates, form.iw_sizes)
    return values, shape


def of_each_replicate(x: Array, replicates: int) -> dict[str, Floats]:
    """Log mean weights and means of log weights x (A, R n, B): arrays (A B, R)."""
    before, length, after = x.shape
    rows = x.reshape(before * replicates, length // replicates, after)
    values = row_quantities(rows, StateForm((), 0))

    def of_points(estimates: Floats) -> Floats:
        by_row = estimates.reshape(before, replicates, after)
        return np.moveaxis(by_row, 1, 2).reshape(before * after, replicates)

    return {name: of_points(values[name]) for name in ("log_evidence", "elbo")}
