"""The draws of a request, made again from their addresses on the CPU."""

from __future__ import annotations

import numpy as np

from ..arrays.inputs import constant
from ..kernels.cpu.launch import sample
from ..models.plans import draw_sampler
from ..models.protocol import Points
from ..validation import Floats
from .task import EstimateRequest


class Redraw:
    """The draws of data points lo to lo + count of those that a request asks for."""

    def __init__(
        self, request: EstimateRequest, lo: int, count: int, n_threads: int | None = None
    ) -> None:
        self.request, self.lo, self.count, self.n_threads = request, lo, count, n_threads
        rows = request.places(slice(lo, lo + count))
        every = np.arange(lo, lo + count)
        self.points = constant(every) if isinstance(rows, slice) else rows
        with np.errstate(all="ignore"):  # a far draw may be infinite
            self.sampler = draw_sampler(
                request.q, Points(request.batch, rows), request.precision, request.design
            )

    def at(self, first: int, stop: int) -> Floats:
        """Draws (stop - first, count, D), as a new array."""
        request = self.request
        draws = sample(
            self.sampler, self.count, stop - first, request.q.dim, request.key, points=self.points,
            first_index=request.first_index, first_draw=first, n_threads=self.n_threads,
        )  # fmt: skip
        return np.asarray(draws, dtype=np.float64)

    def of_one(self, i: int) -> Redraw:
        """The draws of data point i of these alone."""
        return Redraw(self.request, self.lo + i, 1, self.n_threads)
