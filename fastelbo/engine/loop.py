"""The one loop: chunks of draws are folded into states, slice by slice, and the states are read.

A `Slice` is some data points whose chunks come from somewhere: drawn on the CPU or on a device, or
cut out of log weights that exist already. A source calls ``run`` with one slice after another.
Slices and launches are cut by memory and by time. Chunks are cut by address alone and folded in
their order, so that no cut changes a bit of a result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..kernels.cpu.launch import SLICE_NUMBERS, Pace
from ..kernels.draws.blocks import CHUNK
from ..progress import Tick
from ..validation import Floats
from .states import Quantities, Reader, StateForm, States


class Slice(Protocol):
    """Some data points, to whose states chunks of draws are appended."""

    @property
    def points(self) -> int:
        """Number of data points."""
        ...

    def most_chunks(self, first: int) -> int:
        """How many chunks, from chunk ``first`` on, the memory allows at a time."""
        ...

    def append(self, first: int, stop: int) -> None:
        """Append the chunks from ``first`` to ``stop``."""
        ...

    def states(self) -> States:
        """The folded states."""
        ...


# Writes the states of chunks first to stop: fill(first, stop, moments, top_rows).
FillChunks = Callable[[int, int, Floats, Floats], None]


class HostSlice:
    """A slice whose states are in this machine's memory."""

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
        row = states.moments.shape[1] + states.top_rows.shape[1]
        most = SLICE_NUMBERS // row
        self._most_states = most if most_states is None else min(most, most_states)

    def most_chunks(self, first: int) -> int:
        """See `Slice`."""
        return self._most_states // self.points

    def append(self, first: int, stop: int) -> None:
        """See `Slice`. The states of the chunks go to ``record`` too."""

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

    Between launches ``tick(first, stop)`` tells of the chunks that are done.
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
    n_samples: int,
    form: StateForm,
    pace: Pace,
    tick: Tick,
) -> Quantities:
    """Fold and read every slice that ``source(run)`` runs."""
    reader = Reader(points, n_samples, form)

    def run(part: Slice) -> None:
        def tick_draws(first: int, stop: int) -> None:
            tick(part.points * (min(stop * CHUNK, n_samples) - first * CHUNK))

        fold(part, 0, -(-n_samples // CHUNK), pace, tick_draws)
        reader.add(part.states())

    source(run)
    return reader.quantities()
