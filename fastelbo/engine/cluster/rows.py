"""Log weights in a Dask array as a source of chunks. None of its blocks come to this process.

A task makes the states of the chunks of one part of the array. They are folded here, in the order
of addresses, as they are in an array in main memory: so the bits are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from ...arrays.dask_parts import Parts, cut_spans, with_one_axis
from ...arrays.dask_tasks import Task, in_order, task_of
from ...arrays.draws import Draws
from ...arrays.inputs import as_array, as_rows
from ...kernels.draws.blocks import CHUNK, Cut
from ...progress import Tick, no_tick
from ...validation import Floats
from ...weights.pareto import kept_draws
from ..loop import FillChunks, HostSlice, Slice, folded_quantities
from ..lower_tails import Indices, Terms, largest_of_rows, merged_tails, with_lower_tails
from ..rows import Array, chunk_states, row_pace
from ..states import Quantities, StateForm, States, clear_rows

# Most numbers in the states of a box (128 MB), and in tails that are looked at together (32 MB).
_STATE_NUMBERS = 2**24
_TAIL_NUMBERS = 2**22


def dask_row_quantities(
    draws: Draws, form: StateForm, tick: Tick = no_tick
) -> tuple[Quantities, tuple[int, ...]]:
    """As `rows.row_quantities`, of a Dask array, and the shape of its data points."""
    batch, length, name = draws.batch, draws.length, draws.name
    x, axis = with_one_axis(draws.array, draws.axes)
    parts = cut_spans(x, axis, CHUNK, max(1, _STATE_NUMBERS // form.size))

    def tasks() -> Iterator[Task]:
        for box in parts.boxes:
            for span in parts.spans:
                yield task_of(_states_of_block, parts, x, box, span, axis, name, *span, form)

    def source(run: Callable[[Slice], None]) -> None:
        with closing(in_order(x, tasks())) as results:
            for box in parts.boxes:
                states = States(math.prod(each.stop - each.start for each in box), form)
                run(HostSlice(states, _arriving(results)))

    cut = Cut(1, length, CHUNK)
    values = folded_quantities(source, math.prod(batch), cut, form, row_pace(), tick)
    size = kept_draws(length)
    values = with_lower_tails(
        values, length, form.capacity, partial(_tails, x, axis, name, parts, size),
        most_points=max(1, _TAIL_NUMBERS // max(1, size)),
    )  # fmt: skip
    return _reordered(values, parts.order(batch)), batch


def _states_of_block(
    block: Any, axis: int, name: str, first: int, stop: int, form: StateForm
) -> tuple[Floats, Floats]:
    """The states of the chunks of a block, which has the draws from ``first`` on."""
    return chunk_states(_rows(block, axis, name, stop - first), first, form)


def _rows(block: Any, axis: int, name: str, draws: int) -> Array:
    """A block as (A, K, B)."""
    x, _ = as_rows(as_array(block, name), (axis,))
    if x.shape[1] != draws:
        raise ValueError(f"{name} has a block of {x.shape[1]} draws where its chunks say {draws}")
    return x


def _arriving(results: Iterator[tuple[Floats, Floats]]) -> FillChunks:
    """A function that fills the states of chunks with the next results."""
    moments = np.empty((1, 0, 0))  # those of the last result that are still to be folded

    def fill(first: int, stop: int, chunks: Floats, top_rows: Floats) -> None:
        nonlocal moments
        place = 0
        if top_rows.shape[3]:
            clear_rows(top_rows)
        while place < stop - first:
            if not moments.shape[1]:
                moments, rows = next(results)
                # Which of the chunks has the largest values of all does not matter.
                top_rows[:, place, :, : rows.shape[2]] = rows
            taken = moments[:, : stop - first - place]
            chunks[:, place : place + taken.shape[1]] = taken
            moments = moments[:, taken.shape[1] :]
            place += taken.shape[1]

    return fill


def _tails(
    x: Any, axis: int, name: str, parts: Parts, size: int, points: Indices, names: tuple[str, ...]
) -> Terms:
    """See `lower_tails.Tails`: blocks with some of the data points are made once more."""
    counts = [math.prod(each.stop - each.start for each in box) for box in parts.boxes]
    ends = np.cumsum(counts)
    box_of = np.searchsorted(ends, points, side="right")
    boxes = [(i, points[box_of == i] - (ends[i] - counts[i])) for i in np.unique(box_of).tolist()]

    def tasks() -> Iterator[Task]:
        for i, own in boxes:
            for span in parts.spans:
                box = parts.boxes[i]
                yield task_of(_tails_of_block, parts, x, box, span, axis, name, *span, own, size)

    found = []
    with closing(in_order(x, tasks())) as results:
        for _ in boxes:
            kept = Terms()
            for _ in parts.spans:
                kept = merged_tails(kept, {names[0]: next(results)}, names, size)
            found.append(kept[names[0]])
    return {names[0]: np.concatenate(found)}


def _tails_of_block(
    block: Any, axis: int, name: str, first: int, stop: int, points: Indices, size: int
) -> Floats:
    """The largest of minus the log weights of some data points of a block, descending."""
    x = _rows(block, axis, name, stop - first)
    size = min(size, x.shape[1])
    found = np.empty((len(points), size))
    for row, point in zip(found, points.tolist(), strict=True):
        values = -x[point // x.shape[2], :, point % x.shape[2]].astype(np.float64)
        row[:] = largest_of_rows(values[None], size, n_threads=1)
    return found


def _reordered(values: Quantities, order: Indices) -> Quantities:
    """The quantities of the data points in their order, from those in that of the boxes."""
    if np.array_equal(order, np.arange(len(order))):
        return values
    found = {}
    for name, value in values.items():
        found[name] = np.empty_like(value)
        found[name][order] = value
    return found
