"""The tasks of a request: parts of its draws, lowered and packed when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from ...kernels.draws.blocks import CHUNK, Cut
from ..cpu import DRAW_WORK
from ..host import group_size
from ..loop import Journal
from ..lowered import lower
from ..task import EstimateRequest
from .pipeline import Task
from .task_sizes import Limits, Part, TaskSizes, parts
from .travelling import pack_functions, pack_points
from .workers import Order, Reply, facts

# Multiply-adds of the first tasks, which take about a tenth of a second.
_FIRST_WORK = 2**30


class Orders:
    """Has a job done for all draws of a request: ``job(lowered, *args, first, stop)``.

    First and stop are steps of the request's cut, or draws where the job goes ``by_draws``.
    """

    def __init__(
        self,
        request: EstimateRequest,
        job: Callable[..., Any],
        args: tuple[Any, ...],
        limits: Limits,
        *,
        exact: bool,
        threads: Callable[[], int],
        by_draws: bool = False,
        journal: Journal | None = None,
    ) -> None:
        self._request, self._job, self._args, self._limits = request, job, args, limits
        self._exact, self._by_draws, self._journal = exact, by_draws, journal
        # Draws in the order of their addresses are not cut into replicates.
        self._cut = Cut(1, request.n_samples, CHUNK) if by_draws else request.cut
        total = request.points * request.n_samples
        self._sizes = TaskSizes(total, _FIRST_WORK // (request.work + DRAW_WORK), threads)

    def took(self, part: Part, reply: Reply) -> None:
        """Learn from a result how long tasks take."""
        drawn = self._cut.drawn(part.stop) - self._cut.drawn(part.first)
        self._sizes.took(part.points * drawn, reply.seconds)

    def range(self, part: Part) -> tuple[int, int]:
        """First and stop of a part, as the job takes them."""
        if self._by_draws:
            return self._cut.drawn(part.first), self._cut.drawn(part.stop)
        return part.first, part.stop

    def tasks(self, begin: Callable[[int, int], None]) -> Iterator[Task[Part]]:
        """The tasks in the order of their addresses. ``begin`` is told of slices; see `parts`."""
        request, own = self._request, facts()
        functions, shared = pack_functions(request)
        group, slice_of = group_size(request), None
        for part in parts(
            request.points, self._cut, group, self._sizes, self._limits, begin, self._journal
        ):
            if slice_of != (part.lo, part.points):
                slice_of = part.lo, part.points
                rows = request.places(slice(part.lo, part.lo + part.points))
                points, apart = pack_points(lower(request, rows))
            args = (*self._args, *self.range(part))
            order = Order(own, self._exact, functions, points, self._job, args)
            yield Task(part, self._where(part), _name(order), order, (*shared, *apart))

    def _where(self, part: Part) -> str:
        """Which draws of which data points a part has, for errors."""
        start, end = self._cut.drawn(part.first), self._cut.drawn(part.stop)
        replicates = self._cut.replicates
        each = f" of each of {replicates} replicates" if replicates > 1 else ""
        return (
            f"data points {part.lo} to {part.lo + part.points - 1}, draws {start // replicates} to "
            f"{end // replicates - 1}{each}"
        )


def _name(order: Order) -> str:
    """A name of the task that depends on nothing but what it makes."""
    digest = hashlib.blake2b(digest_size=16)
    for each in (order.asked, order.exact, order.functions.digest, order.points.digest, order.args):
        digest.update(repr(each).encode())
    return f"fastelbo-{order.job.__name__}-{digest.hexdigest()}"
