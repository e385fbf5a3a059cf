"""The mergeable states of data points, and what they tell."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arrays.inputs import constant
from ..kernels.cpu import drivers
from ..kernels.cpu.launch import launch
from ..kernels.state import groups, state, top_k
from ..validation import Floats
from ..weights.pareto import fit_tails, kept_draws

# Tails of all data points that an estimate keeps for its intervals: 256 MB.
_TAIL_BYTES = 2**28


class States:
    """States of data points, folded from the left, chunk by chunk.

    With a ``capacity`` of largest log weights that each keeps beside its moments, 0 for none.
    """

    def __init__(
        self,
        points: int,
        iw_sizes: Sequence[int],
        capacity: int,
        n_threads: int | None = None,
    ) -> None:
        self.iw_sizes = constant(np.array(iw_sizes, dtype=np.int64))
        self.capacity = capacity
        self.n_threads = n_threads
        self.moments = np.zeros((points, state.state_size(len(self.iw_sizes))))
        self.top_rows = np.empty((points, top_k.row_size(capacity)))
        if capacity:
            self.top_rows[:, top_k.LIMIT] = -np.inf
            self.top_rows[:, top_k.COUNT] = 0.0
        self._fresh = True

    def advance(self, n_chunks: int, fill: Callable[[Floats, Floats], Any]) -> Floats:
        """Append chunks, whose states and top_rows log weights ``fill`` is to write.

        Both arrays are of shape (points, n_chunks, ...). Returns the states.
        """
        points = len(self.moments)
        chunks = np.empty((points, n_chunks, self.moments.shape[1]))
        top_rows = np.empty((points, n_chunks, self.top_rows.shape[1]))
        fill(chunks, top_rows)
        capacity = self.capacity
        if self._fresh and n_chunks == 1:
            # What the only chunk top_rows is what there is to keep.
            self.top_rows, capacity = top_rows[:, 0], 0
        launch(
            drivers.fold, chunks, top_rows, self.iw_sizes, capacity, self._fresh, self.moments,
            self.top_rows, n_threads=self.n_threads,
        )  # fmt: skip
        self._fresh = False
        return chunks

    def copy(self) -> States:
        """States that go on from here by themselves."""
        other = copy.copy(self)
        other.moments, other.top_rows = self.moments.copy(), self.top_rows.copy()
        return other

    def packed_top_rows(self) -> Floats:
        """The top_rows log weights, without the room that none has taken yet."""
        if not self.capacity or not len(self.top_rows):
            return self.top_rows[:, :0]
        count = self.top_rows[:, top_k.COUNT].astype(np.int64)
        rows = self.top_rows[:, : top_k.VALUES + int(count.max())].copy()
        rows[:, top_k.VALUES :][np.arange(count.max()) >= count[:, None]] = -np.inf
        return rows

    def restore(self, moments: Floats, top_rows: Floats) -> None:
        """Go on from moments, and what `packed_top_rows` gave beside them."""
        self.moments = moments
        self.top_rows[:, : top_rows.shape[1]] = top_rows
        # Chunks are appended; a state of no draws is the start of one, too.
        self._fresh = not moments[:, state.COUNT].any()

    def end_groups(self) -> None:
        """Leave out the importance-weight groups that are still open."""
        rows = self.moments[:, state.GROUPS :].reshape(-1, groups.GROUP_SIZE)
        open_group = groups.OPEN_COUNT, groups.OPEN_SHIFT, groups.OPEN_SUM
        rows[:, open_group] = 0.0, -np.inf, 0.0
        self.moments[:, state.GROUPS :] = rows.reshape(len(self.moments), -1)

    def append(self, moments: Floats, top_rows: Floats) -> None:
        """Append states (points, chunks, ...) and a row of top_rows log weights for all of them."""

        def fill(chunks: Floats, rows: Floats) -> None:
            chunks[...] = moments
            if self.capacity:
                rows[..., top_k.LIMIT], rows[..., top_k.COUNT] = -np.inf, 0.0
                rows[:, 0] = top_rows

        self.advance(moments.shape[1], fill)

    def tails(self, n_samples: int) -> tuple[Floats, Floats]:
        """k-hat of each data point, and its M + 1 largest log weights, descending.

        k-hat is NaN, and the tail empty, where K is too small or nothing was top_rows.
        """
        points = len(self.moments)
        size = min(kept_draws(n_samples), self.capacity)
        tails = np.empty((points, size))
        if tails.size == 0:
            return np.full(points, np.nan), tails
        launch(drivers.sort_top_rows, self.top_rows, size, tails, n_threads=self.n_threads)
        return fit_tails(tails, grid=False, n_threads=self.n_threads).pareto_k.copy(), tails


class Reader:
    """Collects slices of data points, one after another, and reads them all."""

    def __init__(self, points: int, n_samples: int, iw_sizes: Sequence[int], capacity: int) -> None:
        self.n_samples, self.iw_sizes = n_samples, iw_sizes
        self._keeps_tails = 8 * points * capacity <= _TAIL_BYTES
        # What is read of each slice takes less than its states. An empty one, that there is one.
        self._parts: list[dict[str, Floats]] = []
        self.add(States(0, iw_sizes, capacity))

    def add(self, states: States) -> None:
        """Append the next slice, all of whose draws have been taken in."""
        values = state.read(states.moments, len(self.iw_sizes))
        values["pareto_k"], tails = states.tails(self.n_samples)
        values["tail"] = tails if self._keeps_tails else np.empty((len(tails), 0))
        self._parts.append(values)

    def quantities(self) -> dict[str, Floats]:
        """Those of `kernels.state.read`, ``pareto_k``, and ``tail``: the rows of `States.tails`.

        Tails that would take too much memory are empty.
        """
        return {
            name: np.concatenate([part.pop(name) for part in self._parts])
            for name in tuple(self._parts[0])
        }
