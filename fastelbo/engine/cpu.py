"""The CPU backend: compiled kernels on all cores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..arrays.inputs import constant
from ..kernels.cpu import drivers
from ..kernels.cpu.launch import (
    SLICE_NUMBERS,
    Pace,
    launch,
    mixture_expectations,
    new_counter,
)
from ..kernels.draws.blocks import LANES
from ..models.protocol import ExactModel, Expectations
from ..progress import Tick
from ..validation import Floats
from .host import group_size, most_chunks, plans_of, ranges_of_steps
from .loop import FillChunks, HostSlice, Journal, Slice, folded_quantities, slices
from .lower_tails import Indices, with_tails_of_densities
from .lowered import Lowered, lower
from .states import Quantities, States
from .stored import StoredTerms, stored_quantities
from .task import EstimateRequest

# Multiply-adds of the first launch, which takes 0.01 to 0.02 seconds.
_FIRST_WORK = 2**28
# Fixed cost of a draw, in multiply-adds.
DRAW_WORK = 64


class CPUBackend:
    """Runs the compiled kernels on all cores."""

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads

    def quantities(self, request: EstimateRequest, tick: Tick) -> Quantities:
        """Draw, weigh and fold slices of data points."""
        return self.resumed(request, tick, None)

    def resumed(self, request: EstimateRequest, tick: Tick, journal: Journal | None) -> Quantities:
        """See `task.Resumable`."""
        cut = request.cut
        step_work = cut.drawn(1) * (request.work + DRAW_WORK)
        pace = Pace(max(1, _FIRST_WORK // step_work))
        most_points = SLICE_NUMBERS // (request.work + request.form.size)
        group = group_size(request)

        def size() -> int:
            return max(1, min(pace.size // cut.steps, most_points) // group) * group

        def source(run: Callable[[Slice], None]) -> None:
            for lo, count in slices(request.points, journal, size):
                run(self.slice(request, lo, count))

        values = folded_quantities(source, request.points, cut, request.form, pace, tick, journal)
        return with_tails_of_densities(values, request, self._fill_terms)

    def _fill_terms(
        self, request: EstimateRequest, points: Indices, first: int, stop: int, out: Floats
    ) -> None:
        """See `lower_tails.FillDensities`."""
        group = group_size(request)
        most_points = group * max(1, SLICE_NUMBERS // request.work // group)
        for lo in range(0, len(points), most_points):
            part = points[lo : lo + most_points]
            part = constant(part if request.rows is None else request.rows[part])
            lowered = lower(request, part)
            fill_terms(lowered, first, stop, out[:, lo : lo + most_points], self.n_threads)

    def slice(self, request: EstimateRequest, lo: int, count: int) -> HostSlice:
        """The slice of ``count`` data points from ``lo`` on."""
        lowered = lower(request, request.places(slice(lo, lo + count)))
        states = States(count, request.form, self.n_threads)
        fill = chunk_filler(lowered, states, self.n_threads)
        return HostSlice(states, fill, most_states=most_chunks(lowered))

    def terms(
        self, request: EstimateRequest, points: Indices | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """See `task.Backend`."""
        points = np.arange(request.points) if points is None else points
        out = np.empty((3, len(points), request.n_samples))
        self._fill_terms(request, points, 0, request.n_samples, out)
        return out[0], out[1], out[2]

    def stored(self, terms: StoredTerms, request: EstimateRequest, points: Indices) -> Quantities:
        """See `task.Backend`."""
        return stored_quantities(terms, request, points, n_threads=self.n_threads)

    def expectations(
        self, model: ExactModel, probs: Floats, responsibilities: bool
    ) -> Expectations:
        """See `task.Backend`."""
        sums = partial(mixture_expectations, n_threads=self.n_threads)
        return model.expectations(probs, sums, responsibilities)


def chunk_filler(lowered: Lowered, states: States, n_threads: int | None) -> FillChunks:
    """A function that fills the states of chunks of some data points, whose states are these."""
    cut, plans = lowered.cut, plans_of(lowered, n_threads)

    def fill(first: int, stop: int, moments: Floats, top_rows: Floats) -> None:
        counter, draws = new_counter(), cut.drawn(stop) - cut.drawn(first)
        # A part for data points of few draws begins with little: its workspace is narrow.
        launch(
            drivers.driver_of_states(cut), plans(ranges_of_steps(cut, first, stop)),
            np.uint64(lowered.key), lowered.first_index, lowered.points, cut, first,
            states.iw_sizes, states.capacity, states.top_rows, moments, top_rows, counter,
            n_threads=n_threads, short=cut.draws <= LANES,
            work=len(lowered.points) * draws * (lowered.work + DRAW_WORK), counter=counter,
        )  # fmt: skip

    return fill


def fill_terms(lowered: Lowered, first: int, stop: int, out: Floats, n_threads: int | None) -> None:
    """Set log likelihood, log prior and log q (3, points, draws) of draws first to stop."""
    counter = new_counter()
    launch(
        drivers.terms, plans_of(lowered, n_threads)([(first, stop)]), np.uint64(lowered.key),
        lowered.first_index, lowered.points, first, stop, first, *out, counter,
        n_threads=n_threads, counter=counter,
        work=len(lowered.points) * (stop - first) * (lowered.work + DRAW_WORK),
    )  # fmt: skip
