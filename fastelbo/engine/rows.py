"""States of log weights that are there already, in slices that fit the memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.inputs import copy_part, drop_pages, is_real, memory_map
from ..kernels.cpu import rows
from ..kernels.cpu.launch import Pace, launch, threads_for
from ..kernels.draws.blocks import CHUNK
from ..kernels.state import state, top_k
from ..progress import Tick, no_tick
from ..results.estimate import Estimate, from_quantities
from ..validation import Floats
from .states import Reader, States

# Numbers in the states of one slice of rows: 32 MB.
_SLICE_NUMBERS = 2**22
# Elements that are copied out of a file, or into another type, at once: 64 MB; or 128 MB if that is
# one chunk of all columns, which are then read in the order of the file.
_COPIED_ELEMENTS = 2**23
_WIDEST_ELEMENTS = 2**24
_FIRST_ELEMENTS = 2**24


def row_quantities(
    x: np.ndarray[Any, Any], iw_sizes: list[int], capacity: int, tick: Tick = no_tick
) -> dict[str, Floats]:
    """What `Reader` reads, of each row of x (A, K, B), whose elements are any real numbers."""
    before, length, after = x.shape
    reader = Reader(before * after, length, iw_sizes, capacity)
    pages = memory_map(x)
    n_chunks = -(-length // CHUNK)
    copies = pages is not None or not is_real(x)
    most_rows, most_chunks, width, lo = before, n_chunks * before * after, after, 0
    if copies:
        # Whole rows if they fit, or else whole chunks of one.
        shortest = min(length, CHUNK)
        most_rows = _COPIED_ELEMENTS // max(1, length * after)
        most_chunks = _COPIED_ELEMENTS // shortest
        if shortest * after > _WIDEST_ELEMENTS:
            width = max(1, most_chunks)
    size = state.state_size(len(iw_sizes)) + top_k.row_size(capacity)
    pace = Pace(max(1, _FIRST_ELEMENTS // CHUNK))
    threads = threads_for(x.size)
    while lo < before and after:
        states_fit = min(pace.size, _SLICE_NUMBERS // size) // (n_chunks * after)
        count = min(before - lo, max(1, min(states_fit, most_rows)))
        for column in range(0, after, width):
            part = x[lo : lo + count, :, column : column + width]
            points = part.shape[0] * part.shape[2]
            states = States(points, iw_sizes, capacity, threads)
            first = 0
            while first < n_chunks:
                last = min(n_chunks, first + max(1, min(pace.size, most_chunks) // points))
                with pace:
                    if copies:
                        start = first * CHUNK
                        piece = copy_part(part[:, start : last * CHUNK], pages, "log_weights")
                        push_rows(states, piece, start, first, last)
                        drop_pages(pages)
                    else:
                        push_rows(states, part, 0, first, last)
                tick(points * (min(last * CHUNK, length) - first * CHUNK))
                first = last
            reader.add(states)
        lo += count
    return reader.quantities()


def push_rows(
    states: States, x: np.ndarray[Any, Any], first_draw: int, first: int, last: int
) -> Floats:
    """Append chunks ``first`` to ``last`` of all rows of x, which begins at draw ``first_draw``.

    Returns the states of the chunks.
    """
    before, _, after = x.shape

    def fill(chunks: Floats, top_rows: Floats) -> None:
        launch(
            rows.summaries, x, first_draw, first, last, states.iw_sizes, states.capacity,
            states.top_rows.reshape(before, after, states.top_rows.shape[1]),
            chunks.reshape(before, after, *chunks.shape[1:]),
            top_rows.reshape(before, after, *top_rows.shape[1:]), n_threads=states.n_threads,
        )  # fmt: skip

    return states.advance(last - first, fill)


def estimate_of_weights(
    values: dict[str, Floats], shape: tuple[int, ...], n_samples: int, sizes: list[int]
) -> Estimate:
    """The estimate of log weights whose terms are not prefix_rows."""
    unknown = np.full(len(values["ess"]), np.nan)
    values |= {
        name: unknown
        for name in ("expected_log_likelihood", "expected_log_likelihood_se", "kl", "kl_se")
    }
    return from_quantities(values, shape, n_samples, sizes, independent=True)
