"""Log densities that are no distributions: 0, and values that were computed elsewhere."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_floats, as_unchecked_floats, constant
from ..errors import InvalidInputError
from ..kernels.draws.blocks import SUPPLIED, ZERO, Density, Term
from ..kernels.draws.radial import GAUSSIAN
from ..validation import Floats, as_count
from .joint import by_member
from .protocol import Frame, Points

_NOTHING = np.zeros((1, 0))
NO_DENSITY = Density(
    GAUSSIAN, constant(np.zeros((1, 0, 0, 0))), constant(np.zeros((1, 0, 0))),
    constant(np.zeros((1, 0, 0))),
    constant(_NOTHING), constant(_NOTHING),
)  # fmt: skip


def no_density() -> Term:
    """The term of a log density of 0."""
    return Term(ZERO, NO_DENSITY, constant(_NOTHING), 0)


def supplied_term(values: Floats, first_draw: int = 0) -> Term:
    """The term of values (n or 1, draws), of which column 0 is that of ``first_draw``."""
    return Term(SUPPLIED, NO_DENSITY, constant(values), first_draw)


class Zero:
    """Log density 0: the likelihood of a distribution that is its own model."""

    family: ClassVar[str] = "zero"
    batch_shape: tuple[int, ...] = ()
    work = 0

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def term(self, points: Points, frame: Frame) -> Term:
        """See `LogDensity.term`."""
        return no_density()

    def log_prob(self, z: ArrayLike) -> Floats:
        """0 at each of the points z (..., D)."""
        _, shape, _ = by_member(as_floats(z, "z"), self.dim, self.batch_shape)
        return np.zeros(shape)


class Supplied:
    """Log densities that were computed elsewhere, of draws that are known by their address.

    Parameters
    ----------
    values : array_like, shape (..., n)
        In nats, one a draw; the leading axes are the batch. Where they are NaN or +inf, and for
        draws that have no value, the log weight is refused.
    dim : int
        Length of the vectors that they are the densities of.
    first_draw : int
        Address of the draw whose density is in column 0.

    Examples
    --------
    >>> import fastelbo as fe
    >>> from fastelbo.models.terms import Supplied
    >>> q = fe.Gaussian([0.0], scale=1.0)
    >>> Supplied(q.log_prob(q.sample(1000, rng=0)), dim=1).batch_shape
    ()
    """

    family: ClassVar[str] = "supplied"
    work = 1

    def __init__(self, values: ArrayLike, dim: int, first_draw: int = 0) -> None:
        self.values = as_unchecked_floats(values, "values")
        if self.values.ndim == 0:
            raise InvalidInputError("values must have an axis of draws, got a scalar")
        self.dim = as_count(dim, "dim")
        self.first_draw = as_count(first_draw, "first_draw", least=0)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return self.values.shape[:-1]

    def term(self, points: Points, frame: Frame) -> Term:
        """See `LogDensity.term`."""
        return supplied_term(points.select(self.values, 1), self.first_draw)
