"""Some data points of a model, as a model of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..frozen import Frozen
from ..kernels.draws.blocks import Term
from ..validation import Floats
from .protocol import Frame, LatentModel, LogDensity, Points
from .slopes import log_joint_and_gradient


class Subset(Frozen):
    """The data points at ``rows`` of a flattened batch to which a model's batch broadcasts."""

    def __init__(
        self, model: LatentModel, batch: tuple[int, ...], rows: NDArray[np.int64]
    ) -> None:
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

    def __init__(
        self, whole: LogDensity, batch: tuple[int, ...], rows: NDArray[np.int64]
    ) -> None:
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

    def term(self, points: Points, frame: Frame) -> Term:
        return self.whole.term(Points(self.batch, self.rows[points.rows]), frame)


def joint_slopes(
    model: LatentModel, batch: tuple[int, ...], rows: NDArray[np.int64], z: Floats
) -> tuple[Floats, Floats]:
    """log p(x, z) (S, n) and its gradient (S, n, D) at z (S, n, D), for n rows of a batch.

    ``batch`` is that of the model, or one that it broadcasts to.
    """
    return log_joint_and_gradient(Subset(model, batch, rows), z)
