"""The one loop: fold chunks of draws into states, slice by slice, and read the states.

A `Slice` is a range of data points and the origin of their chunks: draws on the CPU, draws on a
device, or existing log weights. A source calls ``run`` with one slice after another. Memory and
time limit the size of slices and launches. Chunks and the order in which they are folded depend on
addresses alone, so that the size of slices and launches never changes a bit of a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from ..kernels.cpu.launch import SLICE_NUMBERS, Pace
from ..kernels.draws.blocks import Cut
from ..kernels.state.state import state_size
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


class Position(NamedTuple):
    """How far a run has come: through the data points before a slice, and some steps of it."""

    lo: int = 0  # the first data point of the slice
    points: int = 0  # its data points; 0 where it may have any size
    step: int = 0  # its next step


class Journal(Protocol):
    """Keeps what a run has folded, so that another run goes on from there.

    It knows nothing of how chunks are made. The sizes of later slices and of launches are free, as
    they are without it. A source takes its slices from `slices`. What makes chunks ahead of `fold`
    begins each slice at `first_step`.
    """

    @property
    def start(self) -> Position:
        """Where the run begins. The first slice has this size, if it has one."""
        ...

    def first_step(self, lo: int) -> int:
        """The first step that is missing in the slice that begins at data point ``lo``."""
        ...

    def open(self, reader: Reader) -> None:
        """Give the reader what was read of the data points before the start."""
        ...

    def begin(self, lo: int, states: States) -> None:
        """Give the states of a new slice, from data point ``lo`` on, all steps before the first."""
        ...

    def note(self, position: Position, states: States, reader: Reader) -> None:
        """Take what is done: called after each launch, and after the last one of a slice was read.

        The states are those of the slice, and go on to change. Their arrays do not.
        """
        ...

    def close(self) -> None:
        """Take it that the run ends, be it by an error or an interrupt."""
        ...


def slices(
    points: int, journal: Journal | None, size: Callable[[], int]
) -> Iterator[tuple[int, int]]:
    """The first data point and the length of each slice; ``size()`` is the most of the next one."""
    lo, count, _ = Position() if journal is None else journal.start
    while lo < points:
        count = count or max(1, min(size(), points - lo))
        yield lo, count
        lo, count = lo + count, 0


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
        self.points = len(states)
        row = state_size(len(states.iw_sizes)) + math.prod(states.row_shape)
        most = SLICE_NUMBERS // (row * states.replicates)
        self._most_states = most if most_states is None else min(most, most_states)

    def most_chunks(self, first: int) -> int:
        """See `Slice`."""
        return self._most_states // self.points

    def append(self, first: int, stop: int) -> None:
        """See `Slice`. Also passes the states of the chunks to ``record``."""

        def fill(moments: Floats, top_rows: Floats) -> None:
            self._fill(first, stop, moments, top_rows)

        chunks = self._states.advance(first, stop, fill)
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
    journal: Journal | None = None,
) -> Quantities:
    """Fold and read every slice that ``source`` passes to ``run``.

    With a journal, the source takes its slices from `slices`, and they are in main memory.
    """
    reader = Reader(points, cut.total, form)

    def run(part: Slice) -> None:
        lo, first, last = reader.points_read, 0, cut.steps
        whole = cut.draws // cut.chunk

        def done(first: int, stop: int) -> None:
            tick(part.points * (cut.drawn(stop) - cut.drawn(first)))
            if journal is not None and stop < last:
                journal.note(Position(lo, part.points, stop), part.states(), reader)

        if journal is not None:
            first = journal.first_step(lo)
            journal.begin(lo, part.states())
            tick(part.points * cut.drawn(first))
            # More draws go on from the states of whole chunks.
            fold(part, first, whole, pace, done)
            first = max(first, whole)
        fold(part, first, last, pace, done)
        reader.add(part.states())
        if journal is not None:
            journal.note(Position(reader.points_read), part.states(), reader)

    if journal is None:
        source(run)
        return reader.quantities()
    journal.open(reader)
    tick(reader.points_read * cut.total)
    try:
        source(run)
    finally:
        journal.close()
    return reader.quantities()
