"""Where the draws are made: one class a backend, all with the same two methods.

`quantities` returns the quantities of `states.Reader` for each data point, k-hat from ``capacity``
largest log weights, `terms` the three log densities of each draw. The draws are the same
everywhere: functions of their address.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

from ..kernels.draws.blocks import Plan
from ..models import lowering
from ..progress import Tick
from ..validation import Floats

Quantities = dict[str, Floats]


class EstimateRequest(NamedTuple):
    """A validated request."""

    model: Any
    q: Any
    batch: tuple[int, ...]
    n_samples: int
    key: int
    first_index: int
    precision: str

    @property
    def points(self) -> int:
        """Number of data points, of the flattened batch."""
        return math.prod(self.batch)


class Backend(Protocol):
    """What a backend offers."""

    def quantities(
        self, request: EstimateRequest, iw_sizes: list[int], capacity: int, tick: Tick
    ) -> Quantities: ...

    def terms(self, request: EstimateRequest) -> tuple[Floats, Floats, Floats]: ...


# Numbers that the plan and the states of one slice of data points may hold: 32 MB each.
SLICE_NUMBERS = 2**22


def plan_of(request: EstimateRequest, lo: int, count: int) -> Plan:
    """The plan of ``count`` data points, from ``lo`` on."""
    rows = slice(lo, lo + count)
    return lowering.plan(request.model, request.q, request.batch, rows, request.precision)


def work_of_draw(request: EstimateRequest) -> int:
    """Numbers in the affine forms of one data point: about the multiply-adds of one draw."""
    components = request.q._components.log_weight.shape[-1]
    components += request.model._prior._components.log_weight.shape[-1]
    return int((components + 1) * request.q.dim**2)
