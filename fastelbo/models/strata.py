"""Draws of one q whose log density is that of the mixture of several: the balance heuristic.

With n_j draws of q_j, n in all, each draw is weighed by p over q_a = sum_j (n_j / n) q_j (Veach and
Guibas, 1995). The density of q_a is put into the coordinates of the draws of each q_j.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..arrays.inputs import constant
from ..frozen import Frozen
from ..kernels.draws.blocks import ELLIPTICAL, Density, Real, Term, padded
from ..kernels.draws.radial import STUDENT_T
from ..validation import Floats
from .distributions import Elliptical
from .lowering import elliptical_term
from .protocol import Frame, Points, Source


class Stratum(Frozen):
    """q_j, which makes the draws, and q_a, by which they are weighed; a `Proposal`."""

    family: ClassVar[str] = "stratum"
    members: tuple[Elliptical, ...]
    shares: Floats
    place: int
    batch_shape: tuple[int, ...]

    def __init__(
        self,
        members: tuple[Elliptical, ...],
        shares: Floats,
        place: int,
        batch_shape: tuple[int, ...] | None = None,
    ) -> None:
        batch = members[place].batch_shape if batch_shape is None else batch_shape
        self._set(members=members, shares=shares, place=place, batch_shape=batch)

    def __repr__(self) -> str:
        return repr(list(self.members))

    @property
    def own(self) -> Elliptical:
        """q_j."""
        return self.members[self.place]

    @property
    def dim(self) -> int:
        """Length of a draw."""
        return self.own.dim

    @property
    def work(self) -> int:
        """Multiply-adds of one log density, about."""
        return sum(each.work for each in self.members)

    def source(self, points: Points) -> Source:
        """The draws of q_j, with the density of q_a in their coordinates."""
        own = self.own.source(points)
        return own._replace(term=self._term(points, own.frame, own.term))

    def term(self, points: Points, frame: Frame) -> Term:
        """The density of q_a; see `LogDensity.term`."""
        return self._term(points, frame, self.own.term(points, frame))

    def _term(self, points: Points, frame: Frame, own: Term) -> Term:
        densities = []
        for j, (member, share) in enumerate(zip(self.members, self.shares, strict=True)):
            term = own if j == self.place else member.term(points, frame)
            assert term.kind == ELLIPTICAL
            density = term.density
            log_const = density.log_const + math.log(share)
            densities.append(density._replace(log_const=log_const))
        return elliptical_term(_joined(densities, self.dim))


def _joined(densities: list[Density], dim: int) -> Density:
    """The sum of densities in one frame. A Gaussian is a Student-t of infinite df."""
    if len(densities) == 1:
        return densities[0]._replace(log_const=constant(densities[0].log_const))
    rows = max(1, *(each.factor.shape[2] for each in densities))
    student = any(each.radial == STUDENT_T for each in densities)
    shifted = any(each.shift.shape[1] for each in densities)
    parts = []
    for each in densities:
        count = each.log_const.shape[1]
        zeros = np.zeros((1, count, padded(dim)))
        df = each.df if each.df.shape[1] else np.full((1, count), np.inf)
        parts.append(
            (
                _factor_of_rows(each.factor, rows, dim),
                each.target if each.target.shape[1] else zeros,
                (each.shift if each.shift.shape[1] else zeros) if shifted else zeros[:, :0, :0],
                each.log_const,
                df if student else df[:, :0],
            )
        )
    factor, target, shift, log_const, df = (
        _concatenated(list(arrays)) for arrays in zip(*parts, strict=True)
    )
    radial = STUDENT_T if student else densities[0].radial
    return Density(radial, factor, target, shift, log_const, df)


def _factor_of_rows(factor: Real, rows: int, dim: int) -> Real:
    """F with 1 row, a diagonal, or with all; exactly the same where it has fewer."""
    if factor.shape[2] == rows:
        return factor
    count, components = factor.shape[:2]
    diagonal = np.zeros((count, components, padded(dim)))
    diagonal[..., :dim] = 1.0
    if factor.shape[2] == 1:
        diagonal = np.asarray(factor[:, :, 0], dtype=np.float64)
    if rows == 1:
        return diagonal[:, :, None]
    full = np.zeros((count, components, rows, padded(dim)))
    places = np.arange(padded(dim))
    full[..., places, places] = diagonal
    return full


def _concatenated(arrays: list[Real]) -> Any:
    """The components of all arrays (n or 1, C, ...), one after the other."""
    count = max(map(len, arrays))
    spread = [np.broadcast_to(each, (count, *each.shape[1:])) for each in arrays]
    return constant(np.concatenate(spread, axis=1))
