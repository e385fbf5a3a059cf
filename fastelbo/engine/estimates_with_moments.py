"""The quantities of an estimate together with the moments of the posterior.

On the CPU the log densities of all draws are stored: quantities and moments come from them, and the
model is evaluated once. Other backends evaluate it a second time for the moments, as their
quantities, to the last bit, are those of draws that are not stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..kernels.state.moments import state_size
from ..progress import Tick
from ..validation import Integers
from .cpu import CPUBackend
from .means import PosteriorMoments, posterior_moments
from .moments import WeightedDraws, log_weights_of
from .states import Quantities, keeps_tails
from .stored import slices_of_points, stored_quantities
from .task import Backend, EstimateRequest


class WithMoments:
    """A backend that also keeps the moments of the posterior of what it is asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._rows: list[Integers] = []
        self._moments: list[PosteriorMoments] = []

    def quantities(self, request: EstimateRequest, tick: Tick) -> Quantities:
        """The quantities as the backend alone gives them, to the last bit."""
        parts: list[Quantities] = []
        if not request.points or not isinstance(self._backend, CPUBackend):
            parts.append(self._backend.quantities(request, tick))
        for points, part, draws in _slices(request, self._backend, tick):
            parts += [] if part is None else [part]
            self._rows.append(points if request.rows is None else request.rows[points])
            self._moments.append(posterior_moments(draws))
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if not keeps_tails(request.points, request.form.capacity):
            values["tail"] = values["tail"][:, :0]
        return values

    def moments(self, shape: tuple[int, ...], dim: int) -> PosteriorMoments:
        """The moments of all data points of a batch."""
        count = math.prod(shape)
        out = [np.empty((count, *event)) for event in ((dim,), (dim,), (dim, dim))]
        for rows, moments in zip(self._rows, self._moments, strict=True):
            for array, each in zip(out, moments, strict=True):
                array[rows] = each
        return PosteriorMoments(*(array.reshape(*shape, *array.shape[1:]) for array in out))


def _slices(
    request: EstimateRequest, backend: Backend, tick: Tick
) -> Iterator[tuple[Integers, Quantities | None, WeightedDraws]]:
    """Quantities, if they come from stored densities, and the draws of slices of data points."""
    threads = backend.n_threads if isinstance(backend, CPUBackend) else None
    numbers = 4 + state_size(request.q.dim, True) // max(1, request.n_samples)
    for points in slices_of_points(request, numbers):
        terms, part = backend.terms(request, points), None
        if isinstance(backend, CPUBackend):
            part = stored_quantities(terms, request, points, tick, threads)
        log_weights = log_weights_of(terms)
        # Bad weights are refused by what reads the quantities.
        log_weights[~(log_weights < np.inf)] = -np.inf
        yield points, part, WeightedDraws(request, int(points[0]), log_weights, threads)
