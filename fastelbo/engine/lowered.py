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
from ..models.called import CalledDensity
from ..models.host import Batch, HostDensity
from ..models.plans import draw_sampler
from ..models.protocol import LogDensity, Points
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
    # Densities that users' functions compute, by the names of their terms in the plan: those whose
    # machine code it points at, and those of functions on the host.
    called: dict[str, CalledDensity]
    hosted: dict[str, Hosted]


def parts_of(request: EstimateRequest) -> dict[str, LogDensity]:
    """Prior and likelihood of the model."""
    return {"prior": request.model.prior, "likelihood": request.model.likelihood}


def host_densities(request: EstimateRequest) -> dict[str, HostDensity]:
    """The host densities of the model: prior, likelihood, both or neither."""
    parts = parts_of(request).items()
    return {name: part for name, part in parts if isinstance(part, HostDensity)}


def called_densities(request: EstimateRequest) -> dict[str, CalledDensity]:
    """The densities of the model that are machine code at an address."""
    parts = parts_of(request).items()
    return {name: part for name, part in parts if isinstance(part, CalledDensity)}


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
        request.cut, request.work, called_densities(request), hosted,
    )  # fmt: skip
