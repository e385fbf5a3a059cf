"""What every method of `fit` gets, and what it returns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...results.fit import FitHistory


@dataclass(frozen=True)
class FitOptions:
    """The arguments of `fit`, checked. None means the method's own default."""

    wrt: str = "q"  # or "model"
    n_samples: int | None = None  # draws a step
    max_iter: int | None = None
    tol: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    key: int = 0  # of all draws of the fit
    n_threads: int | None = None
    progress: bool = False


class Fitted(NamedTuple):
    """What a method found.

    A method warns of nothing when it stops at ``max_iter``: `fit` does. q is None where it is the
    exact posterior of the model; history is None where a closed form took no iterations.
    """

    q: Any
    model: Any
    history: FitHistory | None
    converged: bool
    message: str


class Recorder:
    """Gathers a `FitHistory`. Its clock starts when it is made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._rows: list[tuple[int, float, float, float, int]] = []

    def add(self, iteration: int, elbo: float, se: float, evaluations: int) -> None:
        """An entry: ELBO, summed over data points, its error, and all evaluations so far."""
        seconds = time.perf_counter() - self._start
        self._rows.append((iteration, seconds, elbo, se, evaluations))

    @property
    def history(self) -> FitHistory:
        """All entries so far."""
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * 5
        return FitHistory(*map(np.array, columns))
