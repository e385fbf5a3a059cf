"""Requests, and the protocol of the backends that answer them.

All backends make the same draws, because a draw is a function of its address.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import constant
from ..kernels.draws.blocks import Plan
from ..models.plans import plan, work_of_draw
from ..models.protocol import ExactModel, Expectations, LatentModel, Points, Proposal
from ..progress import Tick
from ..validation import Floats
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
    # Which data points of the flattened batch are asked for; all by default.
    rows: NDArray[np.int64] | None = None

    @property
    def points(self) -> int:
        """Number of data points that are asked for."""
        return math.prod(self.batch) if self.rows is None else len(self.rows)

    def places(self, part: slice | NDArray[np.int64]) -> slice | NDArray[np.int64]:
        """Where some of the data points that are asked for are in the flattened batch."""
        return part if self.rows is None else constant(self.rows[part])

    def place(self, i: int) -> int:
        """Where data point i of those that are asked for is in the flattened batch."""
        return i if self.rows is None else int(self.rows[i])

    def runs(self) -> list[tuple[int, int]]:
        """First and count of those that are asked for, cut where the batch has others between."""
        if self.rows is None:
            return [(0, self.points)]
        cuts = np.flatnonzero(np.diff(self.rows) != 1) + 1
        ends = [0, *cuts.tolist(), len(self.rows)]
        return [(lo, hi - lo) for lo, hi in itertools.pairwise(ends)]

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
        return f"fastelbo.draw(q, {i}, {k}, {options})"

    def plan(self, rows: slice | NDArray[np.int64]) -> Plan:
        """The plan of some data points of the flattened batch."""
        return plan(self.model, self.q, Points(self.batch, rows), self.precision)


class Backend(Protocol):
    """Makes draws and computes their log weights."""

    def quantities(self, request: EstimateRequest, tick: Tick) -> Quantities:
        """The quantities of `states.Reader` for each data point."""
        ...

    def terms(self, request: EstimateRequest) -> tuple[Floats, Floats, Floats]:
        """log likelihood, log prior and log q of each draw, each of shape (points, draws)."""
        ...

    def expectations(self, model: ExactModel, probs: Floats) -> Expectations:
        """The sums of an exact model for probabilities (..., C) of q."""
        ...
