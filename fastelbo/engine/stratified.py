"""Draws of several q, weighed by their mixture, and the quantities of them all.

The draws of q_j are those of an ordinary request with a key of its own. Their terms are stored, for
a slice of data points at a time, and shuffled by one random permutation: groups of consecutive
draws, for importance-weighted bounds, then mix the q_j as the mixture does. All quantities but the
standard errors are those of the shuffled draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ..errors import InvalidInputError, ShortTailWarning
from ..models.proposals import Proposals
from ..models.protocol import LatentModel
from ..models.sampling import Sampling
from ..models.strata import Stratum
from ..models.terms import Supplied
from ..progress import Tick, no_tick
from ..random import RandomState, pilot_key
from ..validation import Integers, require_memory
from ..weights.diagnostics import warn
from ..weights.pareto import kept_draws
from ..weights.strata import stratified_errors, stratified_tails
from .bad_draws import about_draw
from .lower_tails import LARGEST_SHARE, Indices
from .requests import new_request
from .states import Quantities, StateForm, keeps_tails
from .stored import StoredTerms, slices_of_points
from .task import Backend, EstimateRequest

# Purposes of keys: that of the shuffle, and of the draws of the first q; see `random.pilot_key`.
_SHUFFLE, _FIRST_Q = 15, 16
# Numbers that are stored for a draw: its terms, and its terms in the order that is shuffled.
_NUMBERS = 6
_STORED = "the terms of all draws of a data point"


class Strata(NamedTuple):
    """The requests for the draws of several q, and the order in which their draws are joined."""

    pooled: EstimateRequest  # all draws, shuffled; its q is none of them
    parts: tuple[EstimateRequest, ...]  # the draws of each q
    order: Integers  # of the shuffled draws, the places among the draws of one q after another

    @property
    def counts(self) -> Integers:
        """Draws of each q."""
        return np.array([part.n_samples for part in self.parts])

    def about(self, i: int, k: int) -> str:
        """A text on shuffled draw k of data point i; see `bad_draws.about_draw`."""
        place, ends = int(self.order[k]), np.cumsum(self.counts)
        j = int(np.searchsorted(ends, place, side="right"))
        return about_draw(self.parts[j], i, place - int(ends[j] - self.counts[j]))

    def warn_of_few(self) -> None:
        """Warn of a q with so few draws that their tails have no k-hat."""
        few = [part for part in self.parts if not kept_draws(part.n_samples)]
        if few and self.pooled.form.capacity:
            names = ", ".join(f"{part.q_name} with {part.n_samples} draws" for part in few)
            warn(
                ShortTailWarning,
                f"k-hat cannot be computed for {names}: the parts that they have in standard "
                "errors are not checked",
            )

    def terms(
        self, backend: Backend, points: Indices, tick: Tick = no_tick
    ) -> tuple[list[StoredTerms], StoredTerms]:
        """The terms of some data points, of the draws of each q, and of all of them shuffled."""
        own = []
        for part in self.parts:
            own.append(backend.terms(part, points))
            tick(len(points) * part.n_samples)
        likelihood, prior, q = (
            np.concatenate(each, axis=1)[:, self.order] for each in zip(*own, strict=True)
        )
        return own, (likelihood, prior, q)

    def quantities(
        self,
        backend: Backend,
        tick: Tick,
        also: Callable[[Indices, list[StoredTerms]], None] | None = None,
    ) -> Quantities:
        """As `Backend.quantities`, with the errors of `weights.strata`.

        ``also`` gets slices of data points, and the terms of the draws of each q.
        """
        parts = []
        for points in slices_of_points(self.pooled, _NUMBERS):
            own, shuffled = self.terms(backend, points, tick)
            if also is not None:
                also(points, own)
            values = backend.stored(shuffled, self.pooled, points)
            each = [
                backend.stored(terms, part, points)
                for terms, part in zip(own, self.parts, strict=True)
            ]
            if not keeps_tails(self.pooled.points, self.pooled.form.capacity):
                values["tail"] = values["tail"][:, :0]
            errors = stratified_errors(values, each, self.counts)
            parts.append(values | errors | stratified_tails(each, self.counts, LARGEST_SHARE))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def new_strata(
    model: object,
    several: Proposals,
    n_samples: object,
    rng: RandomState,
    first_index: object,
    precision: str,
    iw_sizes: Iterable[int] | None,
    pareto_k: bool,
    sampling: Sampling,
) -> Strata:
    """The requests for draws of several q; see `requests.new_request`."""
    if sampling.replicated:
        raise InvalidInputError('sampler must be "iid" for several q, got "sobol"')
    if isinstance(model, LatentModel) and (
        isinstance(model.prior, Supplied) or isinstance(model.likelihood, Supplied)
    ):
        raise InvalidInputError(
            "model must not have supplied values for several q, whose draws have no addresses in "
            "common"
        )
    counts = several.counts(n_samples)
    total = sum(counts)
    shares = np.array(counts) / total
    mixture = Stratum(several.qs, shares, 0, several.batch_shape)
    pooled = new_request(
        model, mixture, total, rng, first_index, precision, iw_sizes, pareto_k, sampling
    )
    parts = tuple(
        pooled._replace(
            q=Stratum(several.qs, shares, j), n_samples=count,
            form=StateForm((), kept_draws(count) if pooled.form.capacity else 0),
            key=pilot_key(pooled.key, _FIRST_Q + j), q_name=f"q[{j}]",
        )
        for j, count in enumerate(counts)
    )  # fmt: skip
    require_memory(_STORED, 8 * _NUMBERS * total)
    return Strata(pooled, parts, _shuffled(total, pilot_key(pooled.key, _SHUFFLE)))


def _shuffled(total: int, key: int) -> Integers:
    """A random permutation, which a key fixes for all versions of NumPy.

    Each place has random bits above it. Sorting all of them takes a fifth of the time of argsort.
    """
    bits = np.uint64(max(1, (total - 1).bit_length()))
    places = (np.uint64(1) << bits) - np.uint64(1)
    words = np.random.PCG64(key).random_raw(total)
    words &= ~places
    words |= np.arange(total, dtype=np.uint64)
    words.sort()
    words &= places
    return words.view(np.int64)


def terms_of_all(strata: Strata, backend: Backend) -> StoredTerms:
    """The terms of all shuffled draws of all data points."""
    pooled = strata.pooled
    out = np.empty((3, pooled.points, pooled.n_samples))
    for points in slices_of_points(pooled, _NUMBERS):
        _, shuffled = strata.terms(backend, points)
        for array, values in zip(out, shuffled, strict=True):
            array[points] = values
    return out[0], out[1], out[2]
