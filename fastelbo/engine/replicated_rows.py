"""Existing log weights in replicates: estimates from all draws, and from each replicate."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from ..arrays.devices import on_device
from ..arrays.draws import Draws
from ..arrays.inputs import as_rows, drop_pages, memory_map
from ..arrays.lazy import is_dask_array
from ..errors import InvalidInputError
from ..kernels.draws.blocks import Cut, Plan
from ..kernels.draws.sobol import UNIT
from ..models.lowering import no_coordinates
from ..models.terms import no_density, supplied_term
from ..progress import Tick, no_tick
from ..validation import DEFAULT_IW_SIZES, group_sizes, shown
from .host import Plans, Range
from .lower_tails import Indices, tails_of_draws, with_lower_tails
from .rows import Array, lower_terms
from .states import Quantities, StateForm
from .stored import supplied_quantities


def replicated_draws(draws: Draws, replicates: int, axis: Any) -> Draws:
    """The draws along the last two axes, (..., R, n), or along two that have names."""
    array, name = draws.array, draws.name
    if on_device(array):
        raise InvalidInputError(
            f"replicates must be None for {name} on a GPU, got {replicates}; copy them to NumPy"
        )
    if is_dask_array(array):
        raise InvalidInputError(
            f"{name} in {replicates} replicates must be in main memory, got a Dask array; "
            "dask.compute loads it if it fits there"
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


def in_powers_of_two(n: int) -> bool:
    """Whether n draws of a replicate can be permuted."""
    return n > 0 and n & (n - 1) == 0


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
    draws: Draws, form: StateForm, tick: Tick = no_tick
) -> tuple[Quantities, tuple[int, ...]]:
    """The quantities of all draws, those of each replicate, and the shape of the data points.

    The kernel of estimates takes the log weights as values that are supplied for its draws. The
    permutations of groups are made from the key 0 and the number of the row.
    """
    x, shape = as_rows(draws.array, draws.axes)
    (before, length, after), replicates = x.shape, form.replicates
    points, per_replicate = before * after, length // replicates
    # Other numbers of draws have no groups, which are matched a chunk at a time.
    chunk = min(UNIT, per_replicate) if in_powers_of_two(per_replicate) else per_replicate
    cut = Cut(replicates, per_replicate, chunk)

    def plans(lo: int, stop: int) -> Plans:
        rows = np.arange(lo, stop)
        return lambda ranges: _plan(x, rows, ranges)

    values = supplied_quantities(plans, np.arange(points), cut, form, tick)
    tails = partial(tails_of_draws, length, partial(lower_terms, x))
    return with_lower_tails(values, length, form.capacity, tails, replicates=replicates), shape


def _plan(x: Array, points: Indices, ranges: list[Range]) -> Plan:
    """The plan of draws without coordinates, whose log weights are in rows of x (A, R n, B)."""
    after = x.shape[2]
    parts = [x[points // after, start:end, points % after] for start, end in ranges]
    values = np.concatenate(parts, axis=1, dtype=np.float64, casting="unsafe")
    drop_pages(memory_map(x))
    zero = no_density()
    return Plan(no_coordinates(), zero, zero, supplied_term(values), 0)
