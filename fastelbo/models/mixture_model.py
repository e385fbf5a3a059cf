"""A mixture whose latent variable is the component: summed exactly, without draws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_unchecked_floats, constant
from ..caching import cached_property
from ..errors import InvalidInputError
from ..frozen import Frozen
from ..kernels.cpu.launch import mixture_expectations
from ..kernels.draws.blocks import Density
from ..validation import Floats, broadcast_shape, require_finite, shown
from . import lowering
from .categorical import Categorical
from .mixture import Mixture
from .protocol import ComponentSums, Expectations, Frame, Points

# Differences of numbers below it do not overflow.
_LARGE = 2.0**1022


# Numbers of a piece of an array, which fits the cache. BLAS has no threads for so few.
_PIECE = 2**13


def _most(array: Floats, copy: Floats | None = None) -> float:
    """A number that no |entry| exceeds: the largest of them, or more, which takes one pass.

    ``copy`` becomes a copy of the array in the same pass. Both are contiguous.
    """
    flat, square = array.reshape(-1), 0.0
    to = None if copy is None else copy.reshape(-1)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE]
            if to is not None:
                to[start : start + _PIECE] = piece
            square += float(np.dot(piece, piece))
    norm = math.sqrt(square)
    return norm if norm < np.inf or flat.size == 0 else float(max(flat.max(), -flat.min()))


class MixtureModel(Frozen):
    """A mixture whose latent variable is the component that made x.

    Its q is a `Categorical` over the components, and everything is a finite sum: no draws, and
    standard errors of 0.

    Parameters
    ----------
    x : array_like, shape (..., P)
        Data points; the leading axes are the batch.
    mixture : Mixture
        The density of x, without a batch.

    Examples
    --------
    >>> import fastelbo as fe
    >>> mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[-1.0], [1.0]], scale=1.0))
    >>> model = fe.MixtureModel([[0.0]], mixture)
    >>> round(float(model.exact_log_evidence()[0]), 6)
    -1.418939
    """

    family = "mixture_model"
    x: Floats
    mixture: Mixture

    def __init__(self, x: ArrayLike, mixture: Mixture) -> None:
        if not isinstance(mixture, Mixture) or mixture.batch_shape:
            raise InvalidInputError(
                f"mixture must be a Mixture without a batch, got {shown(mixture)}"
            )
        given = as_unchecked_floats(x, "x")
        points = np.empty(given.shape)
        self._set(_largest=_most(given, points), x=points, mixture=mixture)
        # A bound that is no number: only then is there an entry that may not be finite.
        if not self._largest < np.inf:
            require_finite(self.x, "x")
        if self.x.ndim == 0 or self.x.shape[-1] != mixture.dim:
            raise InvalidInputError(
                f"x must have a last axis of length {mixture.dim}, as the mixture has; got shape "
                f"{self.x.shape}"
            )

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points."""
        return self.x.shape[:-1]

    @property
    def n_classes(self) -> int:
        """C, the number of components."""
        return int(self.mixture.weights.size)

    def __repr__(self) -> str:
        return f"MixtureModel(x={self.x.shape}, mixture={self.mixture!r})"

    def component_log_prob(self) -> Floats:
        """log p(x | c), shape (..., C)."""
        return self.mixture.components.log_prob(self.x[..., None, :])

    def exact_log_evidence(self) -> Floats:
        """log p(x) in nats, one entry a data point."""
        return np.asarray(self._summed(False)[0][0].reshape(self.batch_shape))

    def exact_posterior(self) -> Categorical:
        """p(c | x), the responsibilities.

        `fastelbo.estimate` gives them together with the log evidence and the ELBO of a q, in one
        pass over the data points, with ``responsibilities=True``.
        """
        probs = self._summed(True)[1]
        return Categorical._of(probs.reshape(*self.batch_shape, self.n_classes))

    def _summed(self, responsibilities: bool) -> tuple[Floats, Floats]:
        """What follows from the model alone, without a q: see `mixture_expectations`."""
        points, no_q = self._points.reshape(-1, self.x.shape[-1]), np.empty((0, self.n_classes))
        return mixture_expectations(
            *self._lowered, constant(points), constant(no_q), responsibilities
        )

    def expectations(
        self, probs: Floats, sums: ComponentSums, responsibilities: bool = False
    ) -> Expectations:
        """log p(x), E_q log p(x | c), and KL of q from weights and posterior, of the common shape.

        For the probabilities (..., C) of q; ``sums`` runs on the CPU, or is another backend's. With
        the ``responsibilities`` if they are asked for.
        """
        shape = broadcast_shape(model=self.batch_shape, q=probs.shape[:-1])
        dim, count = self.x.shape[-1], probs.shape[-1]
        points = np.broadcast_to(self._points, (*shape, dim)).reshape(-1, dim)
        # One q for all data points stays one.
        whole = probs if probs.size == count else np.broadcast_to(probs, (*shape, count))
        whole = constant(whole.reshape(-1, count))
        rows, found = sums(*self._lowered, constant(points), whole, responsibilities)
        shares = found.reshape(*shape, count) if responsibilities else None
        evidence, likelihood, kl, gap = rows.reshape(4, *shape)
        return Expectations(evidence, likelihood, kl, gap, shares)

    @cached_property
    def _largest(self) -> float:
        """A number that no |x| exceeds; NaN or infinite only if an entry is so, too."""
        return _most(self.x)

    @cached_property
    def _unit(self) -> float:
        """The unit of points and locations in kernels, so that no difference overflows."""
        largest = max(self._largest, _most(self.mixture.components.mean))
        return 1.0 if largest < _LARGE else 0.25

    @property
    def _points(self) -> Floats:
        """x in this unit."""
        if self._unit == 1.0:
            return self.x
        with np.errstate(under="ignore"):
            return self._unit * self.x

    @cached_property
    def _lowered(self) -> tuple[Density, Floats, Floats]:
        """The components' density without their weights, (2, C) weights and logs, the centre."""
        components, points = self.mixture._components.times(self._unit), Points(())
        centre = lowering.exact_centre(components, points)
        unweighted = replace(components, log_weight=np.zeros_like(components.log_weight))
        density = lowering.density(unweighted, points, Frame(centre, None, None))
        weights = np.stack([self.mixture.weights, components.log_weight])
        return density, constant(weights), constant(centre[0])
