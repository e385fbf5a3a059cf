"""Spans of chunks, as the host cuts them; see `kernels.state.spans`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu import drivers
from ..kernels.cpu.launch import ELEMENT_WORK, launch
from ..kernels.draws import blocks
from ..validation import Floats

# Of states in the order of their addresses, which of them begin a span.
Begins = NDArray[np.bool_]


def begins_span(first: int, stop: int, replicates: int = 1) -> Begins:
    """Which chunks of steps ``first`` to ``stop`` begin a span, but for the first span."""
    begins = np.zeros((stop - first, replicates), dtype=np.bool_)
    begins[-first % blocks.SPAN :: blocks.SPAN, 0] = True
    begins[:1] &= first > 0
    return begins.reshape(-1)


def fold_states(
    states: Floats, iw_sizes: NDArray[np.int64], n_threads: int | None = None
) -> Floats:
    """The states (points, size) of all draws, from those of parts, (points, parts, size)."""
    points, parts, size = states.shape
    prefix, rows = np.empty((points, size)), np.empty((points, 0, 0))
    launch(
        drivers.fold, states, np.zeros(parts, dtype=np.bool_), rows[:, None], iw_sizes, 0, True,
        prefix, prefix, rows, rows, n_threads=n_threads, work=ELEMENT_WORK * states.size,
    )  # fmt: skip
    return prefix


def in_spans(
    chunks: Floats, first: int, iw_sizes: NDArray[np.int64], n_threads: int | None = None
) -> tuple[Floats, Begins]:
    """The states of chunks from step ``first`` on, folded from the first border of spans on.

    The chunks before stay apart: what they are folded into is elsewhere.
    """
    stop = first + chunks.shape[1]
    borders = [*range(first + -first % blocks.SPAN, stop, blocks.SPAN), stop]
    apart = borders[0] - first if len(borders) > 1 else chunks.shape[1]
    states = [chunks[:, :apart]]
    for lo, hi in pairwise(borders):
        own = np.ascontiguousarray(chunks[:, lo - first : hi - first])
        states.append(fold_states(own, iw_sizes, n_threads)[:, None])
    begins = np.arange(apart + len(borders) - 1) >= apart
    begins[:1] &= first > 0
    return np.concatenate(states, axis=1), begins
