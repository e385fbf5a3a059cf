"""q as one vector of free numbers, for optimisers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError
from ...models.location_scale import Gaussian, LocationScale, StudentT
from ...models.mixture import Mixture
from ...models.protocol import Proposal
from ...validation import Floats, shown


class Parts(NamedTuple):
    """Parameters of components of some data points, or gradients by them."""

    logits: Floats  # (n, C)
    mean: Floats  # (n, C, D)
    scale: Floats  # (n, C, D) diagonal, or (n, C, D, D) lower triangular

    @property
    def is_diagonal(self) -> bool:
        return self.scale.ndim == 3


class QVector:
    """The parameters of a Gaussian, StudentT or Mixture in one vector.

    Means and logits are as they are; scales are logarithms, and so is the diagonal of a triangular
    one. If q has a batch, each member has parameters of its own, even where the q that was given
    has one array for all of them.
    """

    def __init__(self, q: Proposal, batch: tuple[int, ...]) -> None:
        if isinstance(q, type) or not isinstance(q, (Gaussian, StudentT, Mixture)):
            raise InvalidInputError(f"q0 must be a Gaussian, StudentT or Mixture, got {shown(q)}")
        self._q, self._batch = q, batch
        own = q._components
        if not np.isfinite(own.log_weight).all():
            raise InvalidInputError("q0 must have no component of weight 0: it would keep it")
        self.count, self.dim = int(own.log_weight.shape[-1]), q.dim
        scale = own.scale if own.scale is not None else own.scale_tril
        assert scale is not None
        self._diagonal = own.scale is not None
        # Of each parameter its array and the number of its axes behind the batch.
        self._arrays = [(own.mean, 2), (scale, 2 if self._diagonal else 3)]
        if isinstance(q, Mixture):
            self._arrays.insert(0, (own.log_weight, 1))
        self._log_base, self._df = own.log_base, own.df
        self._tril = np.tril_indices(self.dim)
        self._arrays = [(self._own(array, axes), axes) for array, axes in self._arrays]
        self._places = [self._places_of(array, axes) for array, axes in self._arrays]

    def _own(self, array: Floats, axes: int) -> Floats:
        """A parameter of each component of each member of q's batch."""
        event = array.shape[array.ndim - axes + 1 :]
        return np.array(np.broadcast_to(array, (*self._q.batch_shape, self.count, *event)))

    def _places_of(self, array: Floats, axes: int) -> NDArray[np.int64]:
        """Of each data point, which member of a parameter's own batch it has."""
        own = array.shape[: array.ndim - axes]
        numbers = np.arange(math.prod(own)).reshape(own)
        return np.array(np.broadcast_to(numbers, self._batch)).reshape(-1)

    @property
    def shared(self) -> bool:
        """Whether no parameter has a batch."""
        return all(len(places) < 2 or places.max() == 0 for places in self._places)

    @property
    def start(self) -> Floats:
        """The vector of the q that was given."""
        free: list[Floats] = []
        for array, axes in self._arrays:
            event = array.shape[array.ndim - axes :]
            flat = array.reshape(-1, *event)
            free.append(self._free(flat, self._is_scale(len(free))).reshape(-1))
        return np.concatenate(free)

    def _is_scale(self, number: int) -> bool:
        return number == len(self._arrays) - 1

    def _free(self, flat: Floats, is_scale: bool) -> Floats:
        if not is_scale:
            return flat
        if self._diagonal:
            return np.log(flat)
        rows, columns = self._tril
        packed = flat[..., rows, columns]
        return np.where(rows == columns, np.log(np.where(rows == columns, packed, 1.0)), packed)

    def _members(self, vector: Floats) -> list[Floats]:
        """The parameters, each with its own flattened batch in front."""
        found, first = [], 0
        for number, (array, axes) in enumerate(self._arrays):
            event = array.shape[array.ndim - axes :]
            packed = event
            triangular = self._is_scale(number) and not self._diagonal
            if triangular:
                packed = (*event[:-2], len(self._tril[0]))
            size = math.prod(array.shape[: array.ndim - axes])
            stop = first + size * math.prod(packed)
            part = vector[first:stop].reshape(size, *packed)
            if triangular:
                full = np.zeros((size, *event))
                rows, columns = self._tril
                full[..., rows, columns] = np.where(
                    rows == columns, np.exp(np.where(rows == columns, part, 0.0)), part
                )
                part = full
            elif self._is_scale(number):
                part = np.exp(part)
            found.append(part)
            first = stop
        return found

    def parts(self, vector: Floats, rows: NDArray[np.int64]) -> Parts:
        """The parameters of some data points."""
        found = [
            member[places[rows]]
            for member, places in zip(self._members(vector), self._places, strict=True)
        ]
        if len(found) == 2:
            found.insert(0, np.zeros((len(rows), 1)))
        return Parts(*found)

    def constants(self, rows: NDArray[np.int64]) -> tuple[Floats, Floats | None]:
        """Logs of normalising constants, and degrees of freedom if any, of some data points.

        Shapes (n, C) each.
        """
        base, df = (
            None if array is None else self._spread(array, rows)
            for array in (self._log_base, self._df)
        )
        assert base is not None
        return base, df

    def _spread(self, array: Floats, rows: NDArray[np.int64]) -> Floats:
        shape = (*self._batch, self.count)
        return np.broadcast_to(array, shape).reshape(-1, self.count)[rows]

    def pull(self, vector: Floats, rows: NDArray[np.int64], slopes: Parts) -> Floats:
        """The gradient by the vector, from those by the parameters of some data points."""
        members, free = self._members(vector), []
        given = list(slopes)[-len(members) :]
        for number, (member, places, slope) in enumerate(
            zip(members, self._places, given, strict=True)
        ):
            total = np.zeros(member.shape)
            if len(member) == 1:
                total[0] = slope.sum(axis=0)
            else:
                np.add.at(total, places[rows], slope)
            if number == len(members) - 1:
                if self._diagonal:
                    total *= member
                else:
                    at, columns = self._tril
                    total = total[..., at, columns] * np.where(
                        at == columns, member[..., at, columns], 1.0
                    )
            free.append(total.reshape(-1))
        return np.concatenate(free)

    def q(self, vector: Floats) -> Any:
        """The distribution of a vector."""
        members = self._members(vector)
        arrays = [
            member.reshape(array.shape)
            for member, (array, _) in zip(members, self._arrays, strict=True)
        ]
        mean, scale = arrays[-2:]
        form: dict[str, Any] = {"scale" if self._diagonal else "scale_tril": scale}
        if isinstance(self._q, Mixture):
            return Mixture(logits=arrays[0], components=_like(self._q.components, mean, form))
        form = {
            name: array[..., 0, :] if self._diagonal else array[..., 0, :, :]
            for name, array in form.items()
        }
        return _like(self._q, mean[..., 0, :], form)


def _like(q: LocationScale, mean: Floats, form: dict[str, Any]) -> LocationScale:
    """A distribution of the family of q."""
    return StudentT(q.df, mean, **form) if isinstance(q, StudentT) else Gaussian(mean, **form)
