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
from .task import SLICE_NUMBERS, EstimateRequest, Quantities, plan_of, work_of_draw

# Multiply-adds of the first launch, a hundredth of a second or two.
_FIRST_WORK = 2**28


class CPUBackend:
    """The compiled kernels on all cores."""

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads

    def quantities(
        self, request: EstimateRequest, iw_sizes: list[int], capacity: int, tick: Tick
    ) -> Quantities:
        """Fill the states of slices of data points and chunks; fold each slice, then read it."""
        size = state.state_size(len(iw_sizes)) + top_k.row_size(capacity)
        n_chunks = -(-request.n_samples // CHUNK)
        chunk_work = min(request.n_samples, CHUNK) * (work_of_draw(request) + 64)
        pace = Pace(max(1, _FIRST_WORK // chunk_work))
        most_points = max(1, SLICE_NUMBERS // (work_of_draw(request) + size))
        most_states = max(1, SLICE_NUMBERS // size)
        reader = Reader(request.points, request.n_samples, iw_sizes, capacity)
        lo = 0
        while lo < request.points:
            count = min(max(1, pace.size // n_chunks), most_points, request.points - lo)
            plan = plan_of(request, lo, count)
            states = States(count, iw_sizes, capacity, self.n_threads)
            chunk = 0
            while chunk < n_chunks:
                stop = min(n_chunks, chunk + max(1, min(pace.size, most_states) // count))
                with pace:
                    states.advance(stop - chunk, self._filler(request, plan, lo, chunk, states))
                tick(count * (min(stop * CHUNK, request.n_samples) - chunk * CHUNK))
                chunk = stop
            reader.add(states)
            lo += count
        return reader.quantities()

    def _filler(
        self, request: EstimateRequest, plan: Any, lo: int, chunk: int, states: States
    ) -> Callable[[Floats, Floats], None]:
        """A function that fills chunks, from ``chunk`` on, of the data points from ``lo`` on."""
        return lambda chunks, top_rows: self._launch(
            drivers.states, plan, np.uint64(request.key), request.first_index + lo, chunk, request.n_samples,
            states.iw_sizes, states.capacity, states.top_rows, chunks, top_rows,
        )  # fmt: skip

    def terms(self, request: EstimateRequest) -> tuple[Floats, Floats, Floats]:
        shape = (request.points, request.n_samples)
        out = (np.empty(shape), np.empty(shape), np.empty(shape))
        draws_a_launch = max(1, _FIRST_WORK // (work_of_draw(request) + 64))
        most_points = max(1, SLICE_NUMBERS // work_of_draw(request))
        lo = 0
        while lo < request.points:
            count = min(
                most_points, max(1, draws_a_launch // request.n_samples), request.points - lo
            )
            plan = plan_of(request, lo, count)
            slices = tuple(array[lo : lo + count] for array in out)
            for first in range(0, request.n_samples, draws_a_launch):
                stop = min(request.n_samples, first + draws_a_launch)
                self._launch(
                    drivers.terms, plan, np.uint64(request.key), request.first_index + lo, first, stop,
                    *slices,
                )  # fmt: skip
            lo += count
        return out

    def _launch(self, function: Callable[..., Any], *args: Any) -> None:
        launch(function, *args, n_threads=self.n_threads)
