"""The quantities of an estimate together with the moments of the posterior.

The log densities of all draws are stored: quantities and moments come from them, and the model is
evaluated once. "cuda" evaluates it a second time for the moments, as its quantities, to the last
bit, are those of draws that are not stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..kernels.state.moments import state_size
from ..models.protocol import ExactModel, Expectations
from ..progress import Tick
from ..validation import Floats
from ..weights.pareto import kept_draws
from .cpu import CPUBackend
from .cuda import CUDABackend
from .lower_tails import Indices
from .means import PosteriorMoments, posterior_moments
from .moments import Pool, WeightedDraws, log_weights_of
from .states import Quantities, keeps_tails
from .stored import StoredTerms, slices_of_points
from .stratified import Strata
from .task import Backend, EstimateRequest


class MomentsOfSlices:
    """The moments of the posterior, of one slice of data points after the other."""

    def __init__(self, strata: Strata | None, backend: Backend, checks: bool) -> None:
        self._strata, self._checks = strata, checks
        self._threads = backend.n_threads if isinstance(backend, CPUBackend) else None
        self._rows: list[Indices] = []
        self._moments: list[PosteriorMoments] = []

    def add(self, points: Indices, terms: Sequence[StoredTerms]) -> None:
        """The moments of some data points, from the terms of the draws of each of several q."""
        assert self._strata is not None
        self.add_of(self._strata.parts, points, terms)

    def add_of(
        self, requests: Sequence[EstimateRequest], points: Indices, terms: Sequence[StoredTerms]
    ) -> None:
        """The same, of requests for these draws."""
        if not len(points):
            return
        parts = []
        for request, own in zip(requests, terms, strict=True):
            log_weights = log_weights_of(own)
            # Bad weights are refused by what reads the quantities.
            log_weights[~(log_weights < np.inf)] = -np.inf
            parts.append(WeightedDraws(request, int(points[0]), log_weights, self._threads))
        rows = requests[0].rows
        self._rows.append(points if rows is None else rows[points])
        self._moments.append(posterior_moments(Pool(parts), self._checks))

    def of_batch(self, shape: tuple[int, ...], dim: int) -> PosteriorMoments:
        """The moments of all data points of a batch."""
        count = math.prod(shape)
        out = [np.empty((count, *event)) for event in ((dim,), (dim,), (dim,), (dim, dim))]
        for rows, moments in zip(self._rows, self._moments, strict=True):
            for array, each in zip(out, moments, strict=True):
                array[rows] = each
        return PosteriorMoments(*(array.reshape(*shape, *array.shape[1:]) for array in out))


class WithMoments:
    """A backend that also finds the moments of the posterior of what it is asked for.

    If it ``checks``, with k-hats.
    """

    def __init__(self, backend: Backend, checks: bool) -> None:
        self._backend = backend
        self.found = MomentsOfSlices(None, backend, checks)

    def quantities(self, request: EstimateRequest, tick: Tick) -> Quantities:
        """The quantities as the backend alone gives them, to the last bit."""
        parts: list[Quantities] = []
        streams = isinstance(self._backend, CUDABackend) or not request.points
        if streams:
            parts.append(self._backend.quantities(request, tick))
        own = state_size(request.q.dim, True) + request.q.dim * kept_draws(request.n_samples)
        numbers = 4 + own // max(1, request.n_samples)
        for points in slices_of_points(request, numbers):
            terms = self._backend.terms(request, points)
            if not streams:
                tick(len(points) * request.n_samples)
                parts.append(self._backend.stored(terms, request, points))
            self.found.add_of([request], points, [terms])
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if not keeps_tails(request.points, request.form.capacity):
            values["tail"] = values["tail"][:, :0]
        return values

    def terms(
        self, request: EstimateRequest, points: Indices | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """See `task.Backend`."""
        return self._backend.terms(request, points)

    def stored(self, terms: StoredTerms, request: EstimateRequest, points: Indices) -> Quantities:
        """See `task.Backend`."""
        return self._backend.stored(terms, request, points)

    def expectations(
        self, model: ExactModel, probs: Floats, responsibilities: bool
    ) -> Expectations:
        """See `task.Backend`."""
        return self._backend.expectations(model, probs, responsibilities)
