"""Data points of a request, as the kernels take them.

This is all that their draws, log densities and states depend on. Nothing in it depends on the
process that made it, but the addresses of machine code.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import constant
from ..kernels.draws.blocks import Cut, Plan, Sampler
from ..models.host import Batch, HostDensity
from ..models.plans import draw_sampler
from ..models.protocol import Points
from .task import EstimateRequest


class Hosted(NamedTuple):
    """A log density of some data points that a function on the host computes."""

    density: HostDensity
    rows: NDArray[np.int64]  # which of its own data points each of them is
    batch: Batch  # the shape of a call, which fixes the last bits
    sampler: Sampler  # of the draws z themselves


class Lowered(NamedTuple):
    """Some data points of a request."""

    plan: Plan
    points: NDArray[np.int64]  # their places in the flattened batch
    key: int
    first_index: int
    n_samples: int
    cut: Cut
    work: int  # about the multiply-adds of a draw
    hosted: dict[str, Hosted]  # by the name of the term in the plan


def host_densities(request: EstimateRequest) -> dict[str, HostDensity]:
    """The host densities of the model: prior, likelihood, both or neither."""
    parts = {"prior": request.model.prior, "likelihood": request.model.likelihood}
    return {name: part for name, part in parts.items() if isinstance(part, HostDensity)}


def lower(request: EstimateRequest, rows: slice | NDArray[np.int64]) -> Lowered:
    """Some data points of the flattened batch of a request."""
    points = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
    hosted = {}
    for name, density in host_densities(request).items():
        # Data have one axis of data points, the last axis of the batch to which they broadcast.
        own = points % math.prod(density.batch_shape)
        batch = density.batch(request.n_samples, request.points)
        places = Points(request.batch, rows)
        sampler = draw_sampler(request.q, places, request.precision, request.design)
        hosted[name] = Hosted(density, own, batch, sampler)
    return Lowered(
        request.plan(rows), constant(points), request.key, request.first_index, request.n_samples,
        request.cut, request.work, hosted,
    )  # fmt: skip
