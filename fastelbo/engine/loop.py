"""The one loop: fold chunks of draws into states, slice by slice, and read the states.

A `Slice` is a range of data points and the origin of their chunks: draws on the CPU, draws on a
device, or existing log weights. A source calls ``run`` with one slice after another. Memory and
time limit the size of slices and launches. Chunks depend on the address alone and are folded in
order of address, so that the size of slices and launches never changes a bit of a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from ..kernels.cpu.launch import SLICE_NUMBERS, Pace
from ..kernels.draws.blocks import Cut
from ..progress import Tick
from ..validation import Floats
from .states import Quantities, Reader, StateForm, States


class Slice(Protocol):
    """A range of data points. Chunks of draws are appended to their states.

    Where draws are replicated, a chunk stands for those of all replicates: a step of a `Cut`.
    """

    @property
    def points(self) -> int:
        """Number of data points."""
        ...

    def most_chunks(self, first: int) -> int:
        """Number of chunks, from chunk ``first`` on, that fit into memory at once."""
        ...

    def append(self, first: int, stop: int) -> None:
        """Append the chunks from ``first`` to ``stop``."""
        ...

    def states(self) -> States:
        """The folded states."""
        ...


# fill(first, stop, moments, top_rows) writes the states of chunks first to stop.
FillChunks = Callable[[int, int, Floats, Floats], None]


class HostSlice:
    """A slice with its states in main memory."""

    def __init__(
        self,
        states: States,
        fill: FillChunks,
        *,
        most_states: int | None = None,
        record: Callable[[Floats], None] | None = None,
    ) -> None:
        self._states, self._fill, self._record = states, fill, record
        self.points = len(states.moments)
        row = states.moments.shape[1] + math.prod(states.row_shape)
        most = SLICE_NUMBERS // (row * states.replicates)
        self._most_states = most if most_states is None else min(most, most_states)

    def most_chunks(self, first: int) -> int:
        """See `Slice`."""
        return self._most_states // self.points

    def append(self, first: int, stop: int) -> None:
        """See `Slice`. Also passes the states of the chunks to ``record``."""

        def fill(moments: Floats, top_rows: Floats) -> None:
            self._fill(first, stop, moments, top_rows)

        chunks = self._states.advance(stop - first, fill)
        if self._record is not None:
            self._record(chunks)

    def states(self) -> States:
        """See `Slice`."""
        return self._states


def fold(part: Slice, first: int, last: int, pace: Pace, tick: Callable[[int, int], None]) -> None:
    """Append the chunks from ``first`` to ``last``, in launches of about a quarter of a second.

    After each launch ``tick(first, stop)`` reports the finished chunks.
    """
    while first < last:
        step = max(1, min(pace.size // part.points, part.most_chunks(first)))
        stop = min(last, first + step)
        with pace:
            part.append(first, stop)
        tick(first, stop)
        first = stop


def folded_quantities(
    source: Callable[[Callable[[Slice], None]], None],
    points: int,
    cut: Cut,
    form: StateForm,
    pace: Pace,
    tick: Tick,
) -> Quantities:
    """Fold and read every slice that ``source`` passes to ``run``."""
    reader = Reader(points, cut.total, form)

    def run(part: Slice) -> None:
        def tick_draws(first: int, stop: int) -> None:
            tick(part.points * (cut.drawn(stop) - cut.drawn(first)))

        fold(part, 0, cut.steps, pace, tick_draws)
        reader.add(part.states())

    source(run)
    return reader.quantities()
