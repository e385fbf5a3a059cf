"""What a model and an approximate posterior must offer, so that a backend can draw and weigh.

A backend asks for three things and nothing else: shapes, a `Source` of draws, and a `Term` for each
log density. All are asked for slices of data points, `Points`, so that nothing of the size of the
whole batch is ever made.

`Proposal`
    q: it makes the source, which also fixes the coordinates of the draws, the `Frame`.
`LogDensity`
    A log density that can be put into any frame: the prior, or the likelihood given the data. A
    `PointwiseDensity` is known at any point, too.
`LatentModel`
    A prior and a likelihood. Every distribution over vectors is one: it is its own prior, and its
    likelihood is 1.
`ExactModel`
    A model whose latent variable is summed over, without draws.

The kinds of `Term` are a small closed set, in `fastelbo.kernels.draws.blocks`. The elliptical kind
is made in `fastelbo.models.lowering`, the others in `fastelbo.models.terms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..kernels.draws.blocks import Density, Sampler, Term
from ..validation import Floats


class Points(NamedTuple):
    """Some data points: those at ``rows`` of a flattened batch."""

    batch: tuple[int, ...]
    rows: slice | NDArray[np.int64] = slice(None)

    def select(self, array: Floats, event_axes: int) -> Floats:
        """Their entries of an array whose last axes are the event; one that all share stays one."""
        split = array.ndim - event_axes
        own, event = array.shape[:split], array.shape[split:]
        size = math.prod(own)
        flat = array.reshape(size, *event)
        if size == 1:
            return flat
        if size == math.prod(self.batch):
            return flat[self.rows]
        position = np.broadcast_to(np.arange(size).reshape(own), self.batch).reshape(-1)
        return np.asarray(flat[position[self.rows]])


class Frame(NamedTuple):
    """Coordinates v of the draws of some data points: z = centre + T v."""

    centre: Floats  # (n or 1, D)
    scale: Floats | None  # T diagonal (n or 1, D)
    scale_tril: Floats | None  # T lower triangular (n or 1, D, D); neither: the identity


class Source(NamedTuple):
    """How the draws of some data points are made, in which coordinates, and their own density."""

    sampler: Sampler
    frame: Frame
    term: Term


@runtime_checkable
class LogDensity(Protocol):
    """A log density over vectors of length ``dim``, or a batch of them."""

    @property
    def dim(self) -> int:
        """D, the length of a vector."""
        ...

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch, which broadcasts against that of the data points."""
        ...

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation, about: it sizes slices, never a result."""
        ...

    def term(self, points: Points, frame: Frame) -> Term:
        """The density of those data points, in the coordinates of ``frame``.

        Arrays of one data point must not depend, in any bit, on which others are asked for. What
        the term points at lives as long as this object.
        """
        ...


@runtime_checkable
class PointwiseDensity(LogDensity, Protocol):
    """A log density that is known at any point."""

    def log_prob(self, z: ArrayLike, /) -> Floats:
        """Its values at z (..., D), whose leading axes broadcast against the batch."""
        ...


@runtime_checkable
class Proposal(LogDensity, Protocol):
    """An approximate posterior q: a log density that can be drawn from."""

    def source(self, points: Points) -> Source:
        """The draws of those data points."""
        ...


@runtime_checkable
class LatentModel(Protocol):
    """A prior of z and a likelihood of the data given z."""

    @property
    def dim(self) -> int:
        """D, the number of latent coordinates."""
        ...

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points."""
        ...

    @property
    def prior(self) -> LogDensity:
        """log p(z)."""
        ...

    @property
    def likelihood(self) -> LogDensity:
        """log p(x | z) as a function of z."""
        ...


class Expectations(NamedTuple):
    """Sums over the latent variable of an exact model, one entry a data point."""

    log_evidence: Floats
    expected_log_likelihood: Floats
    kl: Floats
    jensen_gap: Floats  # KL(q || posterior)
    responsibilities: Floats | None  # p(c | x), (..., C), if they are asked for


# (component density, weights and their logs, centre, points, probs, whether responsibilities are
# asked for) -> the rows of `Expectations`, and the responsibilities; of no rows if they are not.
ComponentSums = Callable[[Density, Floats, Floats, Floats, Floats, bool], tuple[Floats, Floats]]


@runtime_checkable
class ExactModel(Protocol):
    """A model whose latent variable takes few values, and is summed over."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points."""
        ...

    @property
    def n_classes(self) -> int:
        """C, the number of values of the latent variable."""
        ...

    def expectations(
        self, probs: Floats, sums: ComponentSums, responsibilities: bool = False
    ) -> Expectations:
        """log p(x), E_q log p(x | c), and KL from prior and posterior, for q's ``probs`` (..., C).

        ``sums`` is the backend's: it sums over components. Responsibilities are those of the common
        shape of model and q.
        """
        ...
