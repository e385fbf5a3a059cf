"""Requests, and the protocol of the backends that answer them.

All backends make the same draws, because a draw is a function of its address.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import constant
from ..kernels.draws.blocks import CHUNK, Cut, Plan
from ..models.nets import Design
from ..models.plans import plan, work_of_draw
from ..models.protocol import ExactModel, Expectations, LatentModel, Points, Proposal
from ..progress import Tick
from ..validation import Floats
from .loop import Journal
from .states import Quantities, StateForm


class EstimateRequest(NamedTuple):
    """A validated request for an estimate, or for the terms of every draw."""

    model: LatentModel
    q: Proposal
    batch: tuple[int, ...]
    n_samples: int
    key: int
    first_index: int
    precision: str
    form: StateForm
    design: Design | None = None  # of quasi-random draws; None for independent ones
    q_name: str = "q"  # what a user calls q
    # Which data points of the flattened batch are asked for, in ascending order; all by default.
    rows: NDArray[np.int64] | None = None

    @property
    def cut(self) -> Cut:
        """How the draws of a data point are cut into chunks."""
        return Cut(1, self.n_samples, CHUNK) if self.design is None else self.design.cut

    @property
    def points(self) -> int:
        """Number of data points that are asked for."""
        return math.prod(self.batch) if self.rows is None else len(self.rows)

    def places(self, part: slice | NDArray[np.int64]) -> slice | NDArray[np.int64]:
        """Where some of the data points that are asked for are in the flattened batch."""
        return part if self.rows is None else constant(self.rows[part])

    def at(self, points: NDArray[np.int64]) -> EstimateRequest:
        """The request for some of the data points that are asked for."""
        return self._replace(rows=np.asarray(self.places(points)))

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Pieces of what is asked for that are one piece of the flattened batch.

        Each is its first data point, the place of that in the flattened batch, and its length.
        """
        if self.rows is None:
            yield 0, 0, self.points
            return
        cuts = np.flatnonzero(np.diff(self.rows) != 1) + 1
        for lo, hi in itertools.pairwise([0, *cuts.tolist(), len(self.rows)]):
            yield lo, int(self.rows[lo]), hi - lo

    @property
    def work(self) -> int:
        """About the multiply-adds of one draw, and the count of numbers in a data point's plan."""
        return work_of_draw(self.model, self.q)

    def draw_call(self, i: int, k: int) -> str:
        """The call that makes draw k of data point i again, as errors print it."""
        options = f"key={self.key}"
        if self.first_index:
            options += f", first_index={self.first_index}"
        if self.q.batch_shape not in ((), self.batch):
            options += f", batch_shape={self.batch}"
        if self.precision != "float64":
            options += f', precision="{self.precision}"'
        return f"fastelbo.draw({self.q_name}, {i}, {k}, {options})"

    def plan(self, rows: slice | NDArray[np.int64]) -> Plan:
        """The plan of some data points of the flattened batch."""
        points = Points(self.batch, rows)
        return plan(self.model, self.q, points, self.precision, self.design)


class Backend(Protocol):
    """Makes draws and computes their log weights."""

    def quantities(self, request: EstimateRequest, tick: Tick) -> Quantities:
        """The quantities of `states.Reader` for each data point."""
        ...

    def terms(
        self, request: EstimateRequest, points: NDArray[np.int64] | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """log likelihood, log prior and log q of each draw, each of shape (points, draws).

        They are those of all data points, or of some that follow one another.
        """
        ...

    def stored(
        self,
        terms: tuple[Floats, Floats, Floats],
        request: EstimateRequest,
        points: NDArray[np.int64],
    ) -> Quantities:
        """What `quantities` gives for some data points, from the terms of all their draws."""
        ...

    def expectations(
        self, model: ExactModel, probs: Floats, responsibilities: bool
    ) -> Expectations:
        """The sums of an exact model for probabilities (..., C) of q."""
        ...


@runtime_checkable
class Resumable(Backend, Protocol):
    """A backend that can go on from what another run has folded. Its states are in main memory."""

    def resumed(self, request: EstimateRequest, tick: Tick, journal: Journal | None) -> Quantities:
        """As `Backend.quantities`, from the start of the journal on, if there is one."""
        ...
