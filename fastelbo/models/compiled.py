"""A user's function of one draw, compiled for a block of draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from numpy.typing import ArrayLike

from ..frozen import Frozen
from ..kernels.draws.blocks import Term
from ..validation import Floats
from .protocol import Frame, Points


class CompiledDensity(Frozen):
    """The log density that a function of one draw computes."""

    family: ClassVar[str] = "called"
    function: Callable[..., Any]
    dim: int

    def __init__(self, function: Any, dim: int, *, data: Any, params: Any, name: str) -> None:
        raise NotImplementedError

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points."""
        raise NotImplementedError

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation, about."""
        raise NotImplementedError

    def term(self, points: Points, frame: Frame) -> Term:
        """The density of some data points as the kernels take it; see `models.protocol`."""
        raise NotImplementedError

    def log_prob(self, z: ArrayLike) -> Floats:
        """Log density at z, of shape (..., *batch_shape, D)."""
        raise NotImplementedError
