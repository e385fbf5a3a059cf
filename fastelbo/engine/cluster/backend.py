"""The Dask backend: the CPU's kernels on the workers of a cluster, one thread a task.

Workers return the states of chunks and of spans. They are folded here, in the order of their
addresses, so that neither workers nor faults change a bit. dask.distributed is the scheduler, finds
faults, runs tasks again and moves bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...kernels.cpu.launch import Pace
from ...kernels.draws.blocks import CHUNK
from ...kernels.state.state import state_size
from ...models.protocol import ExactModel, Expectations
from ...progress import Tick
from ...validation import Floats
from ...weights.pareto import kept_draws
from ..cpu import DRAW_WORK, CPUBackend
from ..loop import Journal, Slice, folded_quantities
from ..lower_tails import OTHER_TERMS, Indices, Terms, merged_tails, with_lower_tails
from ..states import Quantities, States
from ..stored import StoredTerms
from ..task import EstimateRequest
from . import workers
from .clients import Cluster
from .orders import Orders
from .pipeline import Pipeline
from .task_sizes import Limits, Part

# Less work than this, about a tenth of a second on one thread, is not worth the way.
_LITTLE_WORK = 2**30
# Numbers of the tails of lower terms that are found at once: 128 MB.
_TAIL_NUMBERS = 2**24
# More chunks than any launch has.
_ALL = 2**62


class DaskBackend:
    """Has the workers of a ``distributed.Client`` make states, and folds them."""

    def __init__(self, client: Any, allow_mixed: bool = False) -> None:
        self._cluster = Cluster(client)
        self._exact, self._here = not allow_mixed, CPUBackend()

    def quantities(self, request: EstimateRequest, tick: Tick) -> Quantities:
        """See `task.Backend`."""
        return self.resumed(request, tick, None)

    def resumed(self, request: EstimateRequest, tick: Tick, journal: Journal | None) -> Quantities:
        """See `task.Resumable`."""
        form, cut = request.form, request.cut
        limits = Limits(
            form.capacity + request.work, form.replicates * state_size(len(form.iw_sizes))
        )
        orders = self._orders(request, workers.chunk_states, (form,), limits, journal=journal)

        def source(run: Callable[[Slice], None]) -> None:
            begun: deque[int] = deque()
            tasks = orders.tasks(lambda lo, points: begun.append(points))
            with Pipeline(self._cluster, tasks) as pipeline:
                while pipeline.peek() is not None or begun:
                    points = begun.popleft()
                    run(_WorkersSlice(points, States(points, form), pipeline, orders))

        values = folded_quantities(source, request.points, cut, form, _NoPace(_ALL), tick, journal)

        def tails(points: Indices, names: tuple[str, ...]) -> Terms:
            return self._tails(request, points, names)

        return with_lower_tails(
            values, request.n_samples, form.capacity, tails, OTHER_TERMS, cut.replicates,
            most_points=max(1, _TAIL_NUMBERS // max(1, kept_draws(request.n_samples))),
        )  # fmt: skip

    def terms(
        self, request: EstimateRequest, points: Indices | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """See `task.Backend`. Little work stays here."""
        points = np.arange(request.points) if points is None else points
        if len(points) * request.n_samples * (request.work + DRAW_WORK) < _LITTLE_WORK:
            return self._here.terms(request, points)
        out = np.empty((3, len(points), request.n_samples))
        limits = Limits(0, 3 * CHUNK)
        for (lo, hi), (start, stop), block in self._by_draws(
            request.at(points), workers.terms, (), limits
        ):
            out[:, lo:hi, start:stop] = block
        return out[0], out[1], out[2]

    def stored(self, terms: StoredTerms, request: EstimateRequest, points: Indices) -> Quantities:
        """See `task.Backend`."""
        return self._here.stored(terms, request, points)

    def expectations(
        self, model: ExactModel, probs: Floats, responsibilities: bool
    ) -> Expectations:
        """See `task.Backend`."""
        return self._here.expectations(model, probs, responsibilities)

    # --- inside ---------------------------------------------------------------------------------

    def _tails(self, request: EstimateRequest, points: Indices, names: tuple[str, ...]) -> Terms:
        """See `lower_tails.Tails`: those of the draws of each task, merged here."""
        size, kept = kept_draws(request.n_samples), Terms()
        found = {name: np.empty((len(points), size)) for name in names}
        limits = Limits(len(names) * size, 0)
        for (lo, hi), (start, stop), block in self._by_draws(
            request.at(points), workers.tails, (names, size), limits
        ):
            kept = merged_tails(kept if start else Terms(), block, names, size)
            if stop == request.n_samples:
                for name, rows in found.items():
                    rows[lo:hi] = kept[name]
        return found

    def _by_draws(
        self,
        request: EstimateRequest,
        job: Callable[..., Any],
        args: tuple[Any, ...],
        limits: Limits,
    ) -> Iterator[tuple[tuple[int, int], tuple[int, int], Any]]:
        """Ranges of data points and of draws, and what a job makes of them."""
        orders = self._orders(request, job, args, limits, by_draws=True)
        with Pipeline(self._cluster, orders.tasks(lambda *_: None)) as pipeline:
            while pipeline.peek() is not None:
                part, reply = pipeline.take()
                orders.took(part, reply)
                yield (part.lo, part.lo + part.points), orders.range(part), reply.value

    def _orders(
        self, request: EstimateRequest, job: Callable[..., Any], args: tuple[Any, ...],
        limits: Limits, *, by_draws: bool = False, journal: Journal | None = None,
    ) -> Orders:  # fmt: skip
        return Orders(
            request, job, args, limits, exact=self._exact, by_draws=by_draws, journal=journal,
            threads=self._cluster.threads,
        )  # fmt: skip


class _WorkersSlice:
    """A slice whose chunks come from workers."""

    def __init__(
        self, points: int, states: States, pipeline: Pipeline[Part], orders: Orders
    ) -> None:
        self.points = points
        self._states, self._pipeline, self._orders = states, pipeline, orders

    def most_chunks(self, first: int) -> int:
        """See `loop.Slice`: those of the next task."""
        part = self._pipeline.peek()
        assert part is not None
        return part.stop - part.first

    def append(self, first: int, stop: int) -> None:
        """See `loop.Slice`."""
        part, reply = self._pipeline.take()
        assert (part.points, part.first, part.stop) == (self.points, first, stop)
        self._orders.took(part, reply)
        self._states.append(*reply.value)

    def states(self) -> States:
        """See `loop.Slice`."""
        return self._states


class _NoPace(Pace):
    """Launches of any size: tasks are cut elsewhere."""

    def __exit__(self, *_: object) -> None:
        pass
