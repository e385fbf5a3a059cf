"""Existing log weights as a source of chunks: slices of the rows of arrays and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from mmap import mmap
from typing import Any

import numpy as np

from ..arrays.inputs import copy_part, drop_pages, is_real, memory_map
from ..kernels.cpu import rows
from ..kernels.cpu.launch import ELEMENT_WORK, SLICE_NUMBERS, Pace, launch, threads_for
from ..kernels.draws.blocks import CHUNK, Cut
from ..progress import Tick, no_tick
from ..results.estimate import Estimate
from ..results.quantities import from_quantities
from ..validation import Floats
from .loop import FillChunks, HostSlice, Slice, fold, folded_quantities
from .lower_tails import Indices, Terms, tails_of_draws, with_lower_tails
from .states import Quantities, StateForm, States

# Most elements copied at once, from a file or to another type: 64 MB. Up to 128 MB if this holds
# one chunk of all columns, which is then read in file order.
_COPIED_ELEMENTS = 2**23
_WIDEST_ELEMENTS = 2**24
_FIRST_ELEMENTS = 2**24

Array = np.ndarray[Any, Any]


def row_quantities(x: Array, form: StateForm, tick: Tick = no_tick) -> Quantities:
    """The quantities of `Reader` and the lower tails of rows of x (A, K, B), of any real dtype."""
    before, length, after = x.shape
    pace = row_pace()

    def source(run: Callable[[Slice], None]) -> None:
        if x.size:
            for part in _row_slices(x, form, pace):
                run(part)

    cut = Cut(1, length, CHUNK)
    values = folded_quantities(source, before * after, cut, form, pace, tick)
    tails = partial(tails_of_draws, length, partial(lower_terms, x))
    return with_lower_tails(values, length, form.capacity, tails)


def lower_terms(x: Array, points: Indices, first: int, stop: int) -> Terms:
    """See `lower_tails.Draw`."""
    rows = x[points // x.shape[2], first:stop, points % x.shape[2]]
    drop_pages(memory_map(x))
    return {"pareto_k_elbo": -rows.astype(np.float64)}


def row_slice(x: Array, form: StateForm) -> HostSlice:
    """The slice of all rows of x (A, K, B), which is in memory."""
    states = States(x.shape[0] * x.shape[2], form)
    return HostSlice(states, row_filler(states, x, 0))


def chunk_states(x: Array, first_draw: int, form: StateForm) -> tuple[Floats, Floats]:
    """The moments of each chunk of x (A, K, B), and the largest values of all, packed.

    The first draw of x begins a chunk. One thread computes them: others have their own rows.
    """
    before, length, after = x.shape
    states, found = States(before * after, form, n_threads=1), list[Floats]()
    fill, most = row_filler(states, x, first_draw), None
    if not is_real(x):
        fill, most = _copying(states, x, None, first_draw), _COPIED_ELEMENTS // CHUNK
    part = HostSlice(states, fill, most_states=most, record=found.append)
    chunks = -(-length // CHUNK)
    first = first_draw // CHUNK
    fold(part, first, first + chunks, row_pace(), lambda first, stop: None)
    return np.concatenate(found, axis=1), states.folded().packed().top_rows


def row_pace() -> Pace:
    """The pace of launches over rows, before the first launch is timed."""
    return Pace(_FIRST_ELEMENTS // CHUNK)


def _row_slices(x: Array, form: StateForm, pace: Pace) -> Iterator[HostSlice]:
    """Slices of rows: views, or copies of a few chunks at a time if a copy is needed."""
    before, length, after = x.shape
    pages = memory_map(x)
    copies = pages is not None or not is_real(x)
    n_chunks = -(-length // CHUNK)
    most_rows, most_states, width = before, None, after
    if copies:
        # Whole rows if they fit, else whole chunks of one row.
        shortest = min(length, CHUNK)
        most_rows = _COPIED_ELEMENTS // (length * after)
        most_states = _COPIED_ELEMENTS // shortest
        if shortest * after > _WIDEST_ELEMENTS:
            width = max(1, most_states)
    threads = threads_for(x.size)
    lo = 0
    while lo < before:
        states_fit = min(pace.size, SLICE_NUMBERS // form.size) // (n_chunks * after)
        count = min(before - lo, max(1, min(states_fit, most_rows)))
        for column in range(0, after, width):
            part = x[lo : lo + count, :, column : column + width]
            states = States(part.shape[0] * part.shape[2], form, threads)
            fill = _copying(states, part, pages) if copies else row_filler(states, part, 0)
            yield HostSlice(states, fill, most_states=most_states)
        lo += count


def row_filler(states: States, x: Array, first_draw: int) -> FillChunks:
    """A function that fills the states of chunks of x (A, K, B), which starts at ``first_draw``."""
    before, length, after = x.shape

    def fill(first: int, stop: int, moments: Floats, top_rows: Floats) -> None:
        elements = min(length, (stop - first) * CHUNK) * len(moments)
        launch(
            rows.summaries, x, first_draw, first, stop, states.iw_sizes, states.capacity,
            states.top_rows.reshape(before, after, *states.top_rows.shape[1:]),
            moments.reshape(before, after, *moments.shape[1:]),
            top_rows.reshape(before, after, *top_rows.shape[1:]), n_threads=states.n_threads,
            work=ELEMENT_WORK * elements,
        )  # fmt: skip

    return fill


def _copying(states: States, x: Array, pages: mmap | None, first_draw: int = 0) -> FillChunks:
    """Like `row_filler`, but it copies the chunks first."""

    def fill(first: int, stop: int, moments: Floats, top_rows: Floats) -> None:
        start = first * CHUNK
        piece = copy_part(x[:, start - first_draw : stop * CHUNK - first_draw], pages)
        row_filler(states, piece, start)(first, stop, moments, top_rows)
        drop_pages(pages)

    return fill


def estimate_of_weights(
    values: Quantities,
    shape: tuple[int, ...],
    n_samples: int,
    iw_sizes: list[int],
    terms: Quantities | None = None,
    replicates: int = 1,
    sampler: str = "iid",
    independent: bool = True,
) -> Estimate:
    """The estimate from log weights, and from the means of their ``terms``; else these are NaN."""
    names = ("expected_log_likelihood", "expected_log_likelihood_se", "kl", "kl_se")
    unknown = dict.fromkeys(names, np.full(len(values["ess"]), np.nan))
    return from_quantities(
        values | (terms or unknown), shape, n_samples, iw_sizes, independent=independent,
        replicates=replicates, sampler=sampler,
    )  # fmt: skip
