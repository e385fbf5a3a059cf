"""The mergeable states of data points, and the quantities read from them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import constant
from ..kernels.cpu import drivers
from ..kernels.cpu import tails as tail_kernels
from ..kernels.cpu.launch import ELEMENT_WORK, launch
from ..kernels.state import groups, state, top_k
from ..validation import Floats
from ..weights.pareto import kept_draws
from .folded import Folded
from .readings import make_readings, read
from .scratch import scratch
from .spans import Begins, begins_span, fold_states

# Most memory for the tails that an estimate stores for its intervals: 256 MB.
_TAIL_BYTES = 2**28

# About the multiply-adds of the fit of a tail, for each of its values.
_FIT_WORK = 2**6

# Arrays by name, with one row per data point.
Quantities = dict[str, Floats]
# fill(moments, top_rows) writes the states of some chunks into arrays (points, chunks, ...).
Fill = Callable[[Floats, Floats], None]


class StateForm(NamedTuple):
    """What a state stores besides the moments of single weights."""

    iw_sizes: tuple[int, ...]  # group sizes of the importance-weighted bounds
    capacity: int  # how many of the largest log weights; 0 for none
    smallest: bool = False  # whether as many of the smallest, too
    replicates: int = 1  # whose states are stored, too, where there are several

    @property
    def streams(self) -> int:
        """How many streams have their largest values stored; see `top_k`."""
        return 2 if self.smallest else 1

    @property
    def size(self) -> int:
        """Numbers of the state of one data point."""
        rows = self.streams * top_k.row_size(self.capacity)
        return self.replicates * (state.state_size(len(self.iw_sizes)) + rows)


def clear_rows(top_rows: Floats) -> None:
    """Make empty rows of uninitialised ones."""
    top_rows[..., top_k.THRESHOLD], top_rows[..., top_k.COUNT] = -np.inf, 0.0


def keeps_tails(points: int, capacity: int) -> bool:
    """Whether an estimate stores the largest log weights of its data points, for its intervals."""
    return 8 * points * capacity <= _TAIL_BYTES


class States:
    """States of data points. Chunks are folded into them one by one, in order, span by span."""

    def __init__(self, points: int, form: StateForm, n_threads: int | None = None) -> None:
        self.iw_sizes = constant(np.array(form.iw_sizes, dtype=np.int64))
        self.capacity = form.capacity
        self.n_threads = n_threads
        # Of the spans before the last one, of no rows without such, and of the last one.
        size = state.state_size(len(self.iw_sizes))
        self._earlier, self._last = np.zeros((0, size)), np.zeros((points, size))
        self.row_shape = form.streams, top_k.row_size(self.capacity)
        # Rows without a value are no longer than they have to be.
        self.top_rows = np.zeros((points, form.streams, min(top_k.VALUES, self.row_shape[1])))
        self.top_rows[..., top_k.THRESHOLD : top_k.THRESHOLD + 1] = -np.inf
        self._fresh = True
        self.replicates = form.replicates
        # A row for each replicate of each data point.
        rows, plain = points * form.replicates, StateForm(form.iw_sizes, 0)
        self.of_replicates = States(rows, plain, n_threads) if form.replicates > 1 else None

    def __len__(self) -> int:
        """Number of data points."""
        return len(self._last)

    @property
    def moments(self) -> Floats:
        """The states (points, ...) of all draws so far, without their largest values."""
        if not len(self._earlier):
            return self._last
        both = np.stack([self._earlier, self._last], axis=1)
        return fold_states(both, self.iw_sizes, self.n_threads)

    def advance(self, first: int, stop: int, fill: Fill) -> Floats:
        """Append the chunks of steps ``first`` to ``stop``; return their moments.

        ``fill`` writes their moments and top rows. A step has one chunk for each replicate.
        """
        chunks = np.empty((len(self), (stop - first) * self.replicates, self._last.shape[1]))
        top_rows = scratch((len(self), stop - first, *self.row_shape))
        fill(chunks, top_rows)
        self._fold(chunks, begins_span(first, stop, self.replicates), top_rows)
        return chunks

    def append(self, moments: Floats, begins: Begins | None, top_rows: Floats) -> None:
        """Append states (points, states, ...), and rows of largest values for them all.

        The states are those of chunks or of spans. ``begins`` says which of them begin a span.
        """
        rows = np.empty((len(self), 1, *self.row_shape))
        if self.capacity:
            clear_rows(rows)
            rows[:, 0, :, : top_rows.shape[2]] = top_rows
        if begins is None:
            begins = np.zeros(moments.shape[1], dtype=np.bool_)
        self._fold(np.require(moments, requirements=["C", "A", "W"]), begins, rows)

    def _fold(self, chunks: Floats, begins: Begins, top_rows: Floats) -> None:
        """Append states, and rows of largest values: one for each step, or one for all."""
        points, single = len(chunks), top_rows.shape[1] == 1
        if self._fresh and chunks.shape[1] == 1:
            # The state of a single chunk is already that of all draws.
            self._last, self.top_rows, self._fresh = chunks[:, 0], top_rows[:, 0], False
            return
        # A launch may be interrupted, so the states so far are never written to. A single top row
        # is read before the new one is written in its place.
        last, capacity = self._last.copy(), self.capacity
        rows = top_rows[:, 0] if single else np.empty((points, *self.row_shape))
        if self._fresh:
            # Nothing is before. A single top row is that of all draws already.
            begins = begins & (np.arange(len(begins)) > 0)
            capacity = 0 if single else capacity
        earlier = self._earlier.copy()
        if begins.any() and not len(earlier):
            earlier = np.zeros_like(last)
        launch(
            drivers.fold, chunks, begins, top_rows, self.iw_sizes, capacity, self._fresh, earlier,
            last, self.top_rows, rows, n_threads=self.n_threads,
            work=ELEMENT_WORK * (chunks.size + top_rows.size),
        )  # fmt: skip
        self._earlier, self._last, self.top_rows, self._fresh = earlier, last, rows, False
        if self.of_replicates is not None:
            shape = points, -1, self.replicates, chunks.shape[2]
            self.of_replicates.append_steps(chunks.reshape(shape))

    def copy(self) -> States:
        """An independent copy of the states. It shares their arrays, which are never written to."""
        return copy.copy(self)

    def folded(self) -> Folded:
        """The arrays of the states so far."""
        own = self.of_replicates
        return Folded(
            self._earlier, self._last, self.top_rows, self._last[:0] if own is None else own._last
        )

    def restore(self, folded: Folded) -> None:
        """Go on from the arrays of other states of this form, packed or not.

        Streams that are not among the rows were not followed, and will not be: their threshold is
        infinite, and they have no k-hat.
        """
        self._earlier, self._last = folded.earlier.copy(), folded.last.copy()
        top_rows, self.top_rows = folded.top_rows, np.empty((len(self), *self.row_shape))
        known = top_rows.shape[1]
        if self.capacity:
            clear_rows(self.top_rows)
        self.top_rows[:, :known, : top_rows.shape[2]] = top_rows
        if self.capacity:
            self.top_rows[:, known:, top_k.THRESHOLD] = np.inf
        # States are appended; one without draws is a fresh one.
        self._fresh = not self._last[:, state.COUNT].any()
        if self.of_replicates is not None:
            self.of_replicates._last = folded.of_replicates.copy()
            self.of_replicates._fresh = self._fresh

    def replace(self, i: int, other: States) -> None:
        """Put the state of the one data point of ``other`` in place of that of data point i.

        Only of states without spans before the last one.
        """
        assert not len(self._earlier)
        self._last[i], self.top_rows[i] = other.moments[0], other.top_rows[0]
        if self.of_replicates is not None and other.of_replicates is not None:
            own = slice(i * self.replicates, (i + 1) * self.replicates)
            self.of_replicates._last[own] = other.of_replicates._last

    def end_groups(self) -> None:
        """Drop the importance-weight groups that are incomplete. Spans begin anew."""
        self._last, self._earlier = self.moments.copy(), self._earlier[:0]
        whole = self._last[:, state.GROUPS :]
        parts = whole.reshape(-1, groups.GROUP_SIZE)
        for count in (groups.HEAD_COUNT, groups.OPEN_COUNT):
            # A count, a shift and a sum.
            parts[:, count : count + 3] = 0.0, -np.inf, 0.0
        self._last[:, state.GROUPS :] = parts.reshape(whole.shape)

    def append_steps(self, chunks: Floats) -> None:
        """Append states (points, steps, replicates, size) to the states of replicates."""
        n_steps, size = chunks.shape[1], chunks.shape[3]
        if self._fresh and n_steps == 1:
            self._last, self._fresh = chunks.reshape(-1, size), False
            return
        by_replicate = np.ascontiguousarray(chunks.swapaxes(1, 2)).reshape(-1, n_steps, size)
        # They travel chunk by chunk, so that spans would bring nothing.
        self.append(by_replicate, None, self.top_rows[:, :0])

    def tails(self, n_samples: int) -> tuple[Floats, Floats]:
        """k-hat of each data point's weights, and its M + 1 largest log weights, descending.

        k-hat is NaN, and the tail empty, where K is too small or no log weights were kept.
        """
        points, size = len(self.top_rows), self._tail_size(n_samples)
        tails, pareto_k = np.empty((points, size)), np.full(points, np.nan)
        if tails.size:
            launch(
                tail_kernels.fit_top_rows, self.top_rows, 0, size, tails, pareto_k,
                n_threads=self.n_threads, work=_FIT_WORK * tails.size,
            )  # fmt: skip
        return pareto_k, tails

    def lower_tails(self, n_samples: int, points: NDArray[np.int64]) -> Floats:
        """The M + 1 largest of -l of some data points, of which they are stored."""
        tails = np.empty((len(points), self._tail_size(n_samples)))
        if tails.size:
            rows = self.top_rows[points]
            launch(drivers.sort_top_rows, rows, 1, tails.shape[1], tails, n_threads=self.n_threads)
        return tails

    def _tail_size(self, n_samples: int) -> int:
        return min(kept_draws(n_samples), self.capacity)


class Reader:
    """Reads quantities from the states of data points, slice by slice."""

    def __init__(self, points: int, n_samples: int, form: StateForm) -> None:
        self.n_samples, self._form, self._groups = n_samples, form, len(form.iw_sizes)
        self._keeps_tails = keeps_tails(points, min(form.capacity, kept_draws(n_samples)))
        # Quantities take less memory than states.
        self._values = make_readings(points, self._groups)
        self._pareto_k = np.empty(points)
        self.points_read = 0
        self._tails: list[Floats] = []
        self._of_replicates: list[Quantities] = []

    def add(self, states: States) -> None:
        """Read the next slice, after its last draw."""
        points, first = len(states), self.points_read
        stop = first + points
        self._pareto_k[first:stop], tails = states.tails(self.n_samples)
        read(states.moments, self._values.part(first, stop), states.n_threads)
        if states.of_replicates is not None:
            self._of_replicates.append(self._estimates(states.of_replicates, states.replicates))
        self._tails.append(tails if self._keeps_tails else np.empty((points, 0)))
        self.points_read = stop

    def _estimates(self, states: States, count: int) -> Quantities:
        """Estimates (points, replicates) from the draws of each of ``count`` replicates alone."""
        rows = len(states)
        values = make_readings(rows, self._groups)
        read(states.moments, values, states.n_threads)
        found = {
            f"replicate_{name}": getattr(values, name).reshape(-1, count)
            for name in ("log_evidence", "elbo", "expected_log_likelihood", "kl")
        }
        groups = values.iw_value.reshape(rows // count, count, self._groups)
        return found | {"replicate_iw": groups.swapaxes(1, 2)}

    def quantities(self) -> Quantities:
        """Those of `Readings`, ``pareto_k`` and ``tail``: see `States.tails`.

        Tails that would take too much memory are empty.
        """
        if not self._tails:
            # An empty slice has all names.
            self.add(States(0, self._form))
        stop = self.points_read
        values = self._values.part(0, stop)._asdict() | {"pareto_k": self._pareto_k[:stop]}
        for name in self._of_replicates[0] if self._of_replicates else ():
            # What an interrupt has left undone is not among the data points that are read.
            values[name] = _in_one([part[name] for part in self._of_replicates])[:stop]
        return values | {"tail": _in_one(self._tails)}

    def restore(self, values: Quantities) -> None:
        """Go on from what `quantities` of another reader of this form gave."""
        stop = len(values["pareto_k"])
        for name, room in (self._values._asdict() | {"pareto_k": self._pareto_k}).items():
            room[:stop] = values[name]
        of_replicates = {n: each for n, each in values.items() if n.startswith("replicate_")}
        self._of_replicates = [of_replicates] if of_replicates else []
        self._tails, self.points_read = [values["tail"]], stop


def _in_one(parts: list[Floats]) -> Floats:
    """The parts one after the other; no copy if one array of its own has all the numbers."""
    filled = [part for part in parts if len(part)]
    if len(filled) == 1 and filled[0].flags.owndata and filled[0].flags.c_contiguous:
        return filled[0]
    return np.concatenate(parts)
