"""Some data points of a model, as a model of their own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..frozen import Frozen
from ..kernels.draws.blocks import Term
from ..validation import Floats
from .host import HostDensity
from .protocol import Frame, LatentModel, LogDensity, Points
from .slopes import log_joint_and_gradient
from .terms import Zero


class Subset(Frozen):
    """The data points at ``rows`` of a flattened batch to which a model's batch broadcasts."""

    def __init__(self, model: LatentModel, batch: tuple[int, ...], rows: NDArray[np.int64]) -> None:
        self._set(
            dim=model.dim, batch_shape=(len(rows),),
            prior=_Part(model.prior, batch, rows), likelihood=_Part(model.likelihood, batch, rows),
        )  # fmt: skip

    dim: int
    batch_shape: tuple[int, ...]
    prior: LogDensity
    likelihood: LogDensity


class _Part(Frozen):
    """A log density for those data points."""

    whole: LogDensity
    batch: tuple[int, ...]
    rows: NDArray[np.int64]

    def __init__(self, whole: LogDensity, batch: tuple[int, ...], rows: NDArray[np.int64]) -> None:
        self._set(whole=whole, batch=batch, rows=rows)

    @property
    def dim(self) -> int:
        return self.whole.dim

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return (len(self.rows),)

    @property
    def work(self) -> int:
        return self.whole.work

    @property
    def _gradient_call(self) -> Any:
        """Of a user's function, which calls the data points by their places in the whole."""
        return self.whole._gradient_call  # type: ignore[attr-defined]

    def term(self, points: Points, frame: Frame) -> Term:
        return self.whole.term(Points(self.batch, self.rows[points.rows]), frame)


def joint_slopes(
    model: LatentModel, batch: tuple[int, ...], rows: NDArray[np.int64], z: Floats, most: int = 0
) -> tuple[Floats, Floats]:
    """log p(x, z) (S, n) and its gradient (S, n, D) at z (S, n, D), for n rows of a batch.

    ``batch`` is that of the model, or one that it broadcasts to. A function that is compiled for
    shapes gets ``most`` data points, if there are not more: so it is compiled once where n varies.
    """
    parts = (model.prior, model.likelihood)
    if not any(isinstance(part, HostDensity) for part in parts):
        return log_joint_and_gradient(Subset(model, batch, rows), z)
    values, slopes = np.zeros(z.shape[:2]), np.zeros(z.shape)
    for part in parts:
        own = _numbers(part, batch)[rows]
        if isinstance(part, HostDensity):
            value, slope = _of_host(part, own, z, most)
        else:
            value, slope = log_joint_and_gradient(Subset(Alone(part), batch, rows), z)
        values += value
        slopes += slope
    return values, slopes


def _numbers(part: LogDensity, batch: tuple[int, ...]) -> NDArray[np.int64]:
    """Of each data point of a batch, which one of a density it is."""
    own = np.arange(math.prod(part.batch_shape)).reshape(part.batch_shape)
    return np.broadcast_to(own, batch).reshape(-1)


def _of_host(
    density: HostDensity, rows: NDArray[np.int64], z: Floats, most: int
) -> tuple[Floats, Floats]:
    size = density.batch(len(z), max(most, len(rows)))
    values, slopes = np.empty(z.shape[:2]), np.empty(z.shape)
    for k in range(0, len(z), size.draws):
        for i in range(0, len(rows), size.points):
            part = np.s_[k : k + size.draws, i : i + size.points]
            # A private copy, as the function may write to it.
            found = density.value_and_gradient(np.array(z[part]), rows[part[1]], size)
            values[part], slopes[part] = found
    return values, slopes


class Alone(Frozen):
    """One log density as a model."""

    def __init__(self, density: LogDensity) -> None:
        self._set(
            prior=density, likelihood=Zero(density.dim), dim=density.dim,
            batch_shape=density.batch_shape,
        )  # fmt: skip

    prior: LogDensity
    likelihood: LogDensity
    dim: int
    batch_shape: tuple[int, ...]
