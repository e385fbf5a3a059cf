"""The CPU backend: compiled kernels on all cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.cpu import drivers
from ..kernels.cpu.launch import Pace, launch
from ..kernels.draws.blocks import CHUNK
from ..kernels.state import state, top_k
from ..progress import Tick
from ..validation import Floats
from .states import Reader, States
from .task import SLICE_NUMBERS, Quantities, Task, plan_of, work_of_draw

# Multiply-adds of the first launch, a hundredth of a second or two.
_FIRST_WORK = 2**28


class CPUBackend:
    """The compiled kernels on all cores."""

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads

    def moments(self, task: Task, iw_sizes: list[int], capacity: int, tick: Tick) -> Quantities:
        """Fill the states of slices of data points and chunks; fold each slice, then read it."""
        size = state.state_size(len(iw_sizes)) + top_k.row_size(capacity)
        n_chunks = -(-task.n_samples // CHUNK)
        chunk_work = min(task.n_samples, CHUNK) * (work_of_draw(task) + 64)
        pace = Pace(max(1, _FIRST_WORK // chunk_work))
        most_points = max(1, SLICE_NUMBERS // (work_of_draw(task) + size))
        most_states = max(1, SLICE_NUMBERS // size)
        reader = Reader(task.points, task.n_samples, iw_sizes, capacity)
        lo = 0
        while lo < task.points:
            count = min(max(1, pace.size // n_chunks), most_points, task.points - lo)
            plan = plan_of(task, lo, count)
            states = States(count, iw_sizes, capacity, self.n_threads)
            chunk = 0
            while chunk < n_chunks:
                stop = min(n_chunks, chunk + max(1, min(pace.size, most_states) // count))
                with pace:
                    states.advance(stop - chunk, self._filler(task, plan, lo, chunk, states))
                tick(count * (min(stop * CHUNK, task.n_samples) - chunk * CHUNK))
                chunk = stop
            reader.add(states)
            lo += count
        return reader.quantities()

    def _filler(
        self, task: Task, plan: Any, lo: int, chunk: int, states: States
    ) -> Callable[[Floats, Floats], None]:
        """A function that fills chunks, from ``chunk`` on, of the data points from ``lo`` on."""
        return lambda chunks, kept: self._launch(
            drivers.states, plan, np.uint64(task.key), task.first_index + lo, chunk, task.n_samples,
            states.iw_sizes, states.capacity, states.kept, chunks, kept,
        )  # fmt: skip

    def terms(self, task: Task) -> tuple[Floats, Floats, Floats]:
        shape = (task.points, task.n_samples)
        out = (np.empty(shape), np.empty(shape), np.empty(shape))
        draws_a_launch = max(1, _FIRST_WORK // (work_of_draw(task) + 64))
        most_points = max(1, SLICE_NUMBERS // work_of_draw(task))
        lo = 0
        while lo < task.points:
            count = min(most_points, max(1, draws_a_launch // task.n_samples), task.points - lo)
            plan = plan_of(task, lo, count)
            slices = tuple(array[lo : lo + count] for array in out)
            for first in range(0, task.n_samples, draws_a_launch):
                stop = min(task.n_samples, first + draws_a_launch)
                self._launch(
                    drivers.terms, plan, np.uint64(task.key), task.first_index + lo, first, stop,
                    *slices,
                )  # fmt: skip
            lo += count
        return out

    def _launch(self, function: Callable[..., Any], *args: Any) -> None:
        launch(function, *args, n_threads=self.n_threads)
