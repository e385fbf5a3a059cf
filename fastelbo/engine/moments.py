"""Weighted moments of the draws of a request, whose log weights are stored.

The model is evaluated once. The draws are made again in batches that are cut by address: once for
moments, and once for the tails of |f - value| w and of |f| w.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from ..kernels.cpu import moments as drivers
from ..kernels.cpu.launch import ELEMENT_WORK, SLICE_NUMBERS, launch, new_counter
from ..kernels.draws.blocks import CHUNK
from ..kernels.state import moments as state
from ..models.integrand import Coordinates, Integrand
from ..validation import Floats
from ..weights.diagnostics import constant_weights, refuse_bad_weights
from ..weights.pareto import kept_draws
from .bad_draws import about_draw
from .lower_tails import Indices
from .redraw import Redraw
from .rows import row_filler
from .states import Quantities, Reader, StateForm, States
from .stored import StoredTerms, slices_of_points
from .stratified import Strata
from .task import Backend, EstimateRequest

# The largest values of |f - c| w are no tail where they are within a factor of 2 of each other. For
# M values of a Pareto law with k = 0.7, the chance is (1 - 2^(-1/k))^M, 1e-4 for M = 20. But two
# flat maxima of |f - c| w, as the two values of an indicator have, can look like a heavy tail.
_FLAT = math.log(2.0)
_LEAST_TAIL = 20
# Numbers of the values of one batch: 8 MB.
_BATCH = 2**20


class WeightedDraws:
    """Draws of data points lo to lo + count of a request, and their log weights (count, K)."""

    def __init__(
        self, request: EstimateRequest, lo: int, log_weights: Floats, n_threads: int | None
    ) -> None:
        self.request, self.lo, self.log_weights = request, lo, log_weights
        self.n_threads, self.count = n_threads, len(log_weights)
        self.redraw = Redraw(request, lo, self.count, n_threads)
        cut = request.cut
        # A replicate has a power of two of draws: so many chunks are whole, or one is.
        self._size = min(CHUNK, cut.draws)
        self.replicates, self._per_replicate = cut.replicates, -(-cut.draws // self._size)

    @property
    def n_samples(self) -> int:
        """K."""
        return self.request.n_samples

    def moments(self, integrand: Integrand, full: bool = False) -> Floats:
        """The folded states (count, replicates, size) of the values of an integrand.

        Those of the coordinates of draws have no arrays of values.
        """
        values = int(np.prod(integrand.event))
        size = state.state_size(values, full)
        prefix = np.zeros((self.count, self.replicates, size))
        prefix[..., state.MAX], prefix[..., state.FIRST_BAD] = -np.inf, np.inf
        fused = isinstance(integrand, Coordinates)
        numbers = size if fused else max(size, (values + self.request.q.dim) * self._size)
        limit = SLICE_NUMBERS if fused else _BATCH
        chunks = self.replicates * self._per_replicate
        step = max(1, limit // (numbers * max(1, self.count)))
        for first in range(0, chunks, step):
            states = np.empty((self.count, min(step, chunks - first), size))
            if fused:
                self._fill_of_draws(states, first, full)
            else:
                self._fill(states, first, integrand, full)
            # A launch may be interrupted, but then nobody sees the prefix.
            launch(
                drivers.fold, states, values, full, first, self._per_replicate, prefix,
                n_threads=self.n_threads, work=ELEMENT_WORK * states.size,
            )  # fmt: skip
        return prefix

    def _fill_of_draws(self, states: Floats, first: int, full: bool) -> None:
        request, counter = self.request, new_counter()
        dim, draws = request.q.dim, states.shape[0] * states.shape[1] * self._size
        launch(
            drivers.draw_states, self.redraw.sampler, dim, full, np.uint64(request.key),
            request.first_index, self.redraw.points, self.log_weights, first, self._size, states,
            counter, n_threads=self.n_threads, counter=counter,
            work=draws * (request.q.work + ELEMENT_WORK + states.shape[2]),
        )  # fmt: skip

    def _fill(self, states: Floats, first: int, integrand: Integrand, full: bool) -> None:
        start = first * self._size
        values = self._values(
            integrand, start, min(self.n_samples, start + states.shape[1] * self._size)
        )
        launch(
            drivers.value_states, values, full, self.log_weights, first, self._size, states,
            n_threads=self.n_threads, work=ELEMENT_WORK * values.size,
        )  # fmt: skip

    def _values(self, integrand: Integrand, start: int, stop: int) -> Floats:
        """Values (count, P, stop - start) of those draws."""
        values = np.ascontiguousarray(integrand.values(self.redraw.at(start, stop)))
        return values.reshape(self.count, -1, stop - start)

    @np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore")
    def append_tails(
        self,
        integrand: Integrand,
        centres: Sequence[Floats],
        states: Sequence[States],
        n_draws: int,
    ) -> None:
        """Append |f - c| w of the first draws to the states (count P) of each centre."""
        chunks, per_chunk = -(-n_draws // CHUNK), centres[0].shape[1] + self.request.q.dim
        step = max(1, _BATCH // (per_chunk * CHUNK * max(1, self.count)))
        for first in range(0, chunks, step):
            last = min(chunks, first + step)
            start, stop = first * CHUNK, min(n_draws, last * CHUNK)
            given = self._values(integrand, start, stop)
            log_weights = self.log_weights[:, None, start:stop]
            for each, centre in zip(states, centres, strict=True):
                x = np.log(np.abs(given - centre[..., None])) + log_weights
                # A value that is not finite has been refused, but at a weight of 0.
                x[~(x < np.inf)] = -np.inf
                fill = row_filler(each, x.reshape(-1, stop - start, 1), start)
                each.advance(first, last, partial(fill, first, last))


class Pool:
    """All draws of some data points: those of one q, or of each of several."""

    def __init__(self, parts: Sequence[WeightedDraws]) -> None:
        self.parts, self.count = tuple(parts), parts[0].count
        self.n_samples = sum(part.n_samples for part in parts)
        self.dim, self.replicates = parts[0].request.q.dim, parts[0].replicates

    @property
    def log_weights(self) -> Floats:
        """(count, K), of the draws of one q after those of another."""
        if len(self.parts) == 1:
            return self.parts[0].log_weights
        return np.concatenate([part.log_weights for part in self.parts], axis=1)

    def moments(self, integrand: Integrand, full: bool = False) -> list[Floats]:
        """The states of each part, of its replicates."""
        return [part.moments(integrand, full) for part in self.parts]

    def merged(self, states: Sequence[Floats], values: int, full: bool = False) -> Floats:
        """The states (count, size) of all draws together."""
        joined = np.concatenate(states, axis=1)
        prefix = np.zeros((self.count, 1, joined.shape[2]))
        prefix[..., state.MAX], prefix[..., state.FIRST_BAD] = -np.inf, np.inf
        launch(
            drivers.fold, joined, values, full, 0, joined.shape[1], prefix,
            n_threads=self.parts[0].n_threads,
        )  # fmt: skip
        return prefix[:, 0]

    def tails(
        self, integrand: Integrand, centres: Sequence[Floats], most: int | None = None
    ) -> list[Quantities]:
        """k-hat and ESS, (count, P), of |f - c| w for each of some centres (count, P).

        With ``most``, they are from about that many draws, the first of each part.
        """
        values = int(np.prod(integrand.event))
        counts = [self._first(part.n_samples, most) for part in self.parts]
        form = StateForm((), kept_draws(sum(counts)))
        found = [States(self.count * values, form, self.parts[0].n_threads) for _ in centres]
        for part, n_draws in zip(self.parts, counts, strict=True):
            part.append_tails(integrand, centres, found, n_draws)
        return [_read_tails(each, form, sum(counts), self.count) for each in found]

    def _first(self, n_samples: int, most: int | None) -> int:
        """How many of the draws of a part are among the first ones of all."""
        if most is None or self.n_samples <= most:
            return n_samples
        return max(1, n_samples * most // self.n_samples)


@np.errstate(invalid="ignore")
def _read_tails(states: States, form: StateForm, n_draws: int, count: int) -> Quantities:
    """k-hat and ESS of the states of the values of data points."""
    reader = Reader(len(states), n_draws, form)
    reader.add(states)
    read = reader.quantities()
    k, tails = states.tails(n_draws)
    none = constant_weights(read["relative_variance"])
    if tails.shape[1] > _LEAST_TAIL:
        none |= (tails[:, 0] - tails[:, -1] < _FLAT) & (k > 0.0)
    return {
        "pareto_k": np.where(none, np.nan, k).reshape(count, -1),
        "ess": read["ess"].reshape(count, -1),
    }


def log_weights_of(terms: StoredTerms) -> Floats:
    """The log weights of stored terms, as the kernels add them up."""
    likelihood, prior, log_q = terms
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(likelihood + (prior - log_q))


def weighted_slices(
    request: EstimateRequest | Strata, backend: Backend, n_threads: int | None, numbers: int
) -> Iterator[Pool]:
    """The draws of all data points with their log weights, which the backend computes.

    ``numbers`` is how many numbers a data point needs besides its log weights.
    """
    pooled = request if isinstance(request, EstimateRequest) else request.pooled
    parts = (request,) if isinstance(request, EstimateRequest) else request.parts
    per_draw = 4 + numbers // max(1, pooled.n_samples)
    for points in slices_of_points(pooled, per_draw, "the log weights of all draws"):
        if not len(points):
            return
        found = []
        for part in parts:
            log_weights = log_weights_of(backend.terms(part, points))
            _refuse_bad(log_weights, part, points)
            found.append(WeightedDraws(part, int(points[0]), log_weights, n_threads))
        yield Pool(found)


def _refuse_bad(log_weights: Floats, request: EstimateRequest, points: Indices) -> None:
    bad = ~(log_weights < np.inf)
    if bad.any():
        # Errors count data points as the flattened batch does.
        n_bad, first_bad = np.zeros((2, int(points[-1]) + 1))
        n_bad[points], first_bad[points] = bad.sum(axis=1), bad.argmax(axis=1)
        refuse_bad_weights(n_bad, first_bad, partial(about_draw, request))
