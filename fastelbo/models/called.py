"""Log densities that the kernels call by the address of a block function."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays.inputs import as_floats, constant
from ..errors import InvalidInputError
from ..frozen import Frozen
from ..kernels.cpu import drivers
from ..kernels.cpu.launch import launch, new_counter
from ..kernels.draws.blocks import CALLED, LANES, Call, Term
from ..kernels.draws.radial import GAUSSIAN
from ..kernels.vectors.calls import call_block, call_gradient_block
from ..validation import Floats
from . import lowering
from .joint import by_member
from .protocol import Frame, Points


class CalledDensity(Frozen):
    """A log density by a block function, which `kernels.vectors.calls` calls for many draws."""

    family: ClassVar[str] = "called"
    # Its code is for float64, and for the CPU.
    in_single_precision: ClassVar[bool] = False
    on_device: ClassVar[bool] = False
    dim: int

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points."""
        raise NotImplementedError

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation, about."""
        raise NotImplementedError

    @property
    def _call(self) -> Call:
        """The block function. It lives as long as this object."""
        raise NotImplementedError

    @property
    def _gradient_call(self) -> Call:
        """The block function of value and gradient, for `call_gradient_block`."""
        raise InvalidInputError(f"{self!r} has no gradient")

    def data_of(self, rows: NDArray[np.int64]) -> Any:
        """Some of its data points, or None if it has none."""
        return None

    def with_data(self, data: Any) -> CalledDensity:
        """The same density of other data points, as `data_of` gives them."""
        raise NotImplementedError

    def plain_log_prob(self, z: Floats, i: int) -> float:
        """Its value without kernels, for one draw of data point i."""
        raise NotImplementedError

    def term(self, points: Points, frame: Frame) -> Term:
        """The density of some data points as the kernels take it; see `models.protocol`."""
        dim = self.dim
        if frame.scale_tril is not None:
            factor = frame.scale_tril[:, None]
        elif frame.scale is not None:
            factor = frame.scale[:, None, None, :]
        else:
            factor = np.zeros((1, 1, 0, dim))
        target = -frame.centre[:, None, :]
        density = lowering.make_density(
            GAUSSIAN, factor, target, np.zeros((1, 1)), np.zeros((1, 0))
        )
        own = np.arange(float(math.prod(self.batch_shape))).reshape(*self.batch_shape, 1)
        return Term(CALLED, density, constant(points.select(own, 1)), 0, self._call)

    def log_prob(self, z: ArrayLike) -> Floats:
        """The density at z (..., D), whose leading axes broadcast against the batch."""
        points, shape, batch = by_member(as_floats(z, "z"), self.dim, self.batch_shape)
        term = self.term(Points(batch), Frame(np.zeros((1, self.dim)), None, None))
        out, counter = np.empty(points.shape[:2]), new_counter()
        launch(
            drivers.called_values, term, constant(points), out, counter,
            work=out.size * self.work, counter=counter,
        )  # fmt: skip
        members = np.broadcast_to(term.values[:, 0], points.shape[1])
        for member, i in enumerate(members):
            self._repeat(points[:, member], int(i), out[:, member])
        return out.reshape(shape)

    def value_and_gradient(self, z: Floats, i: int = 0) -> tuple[Floats, Floats]:
        """Values (n,) and gradients (n, D) at draws z (n, D) of data point i, on this thread.

        A draw at which the function raises an error has NaN.
        """
        call = self._gradient_call
        values, slopes = np.full(len(z), np.nan), np.full(z.shape, np.nan)
        room, out, rows = np.zeros((self.dim, LANES)), np.empty(LANES), np.empty((self.dim, LANES))
        first = 0
        while first < len(z):
            part = z[first : first + LANES]
            room[:, : len(part)], out[:] = part.T, np.nan
            status = call_gradient_block(
                call.function, call.arguments, room, i, len(part), out, rows
            )
            # It ends at the first draw, of so many lanes, that raises an error: they come alone.
            written = out[: len(part)]
            done = int(np.isnan(written).argmax()) if status else len(part)
            values[first : first + done] = written[:done]
            slopes[first : first + done] = rows[:, :done].T
            first += done + bool(status)
        return values, slopes

    def _repeat(self, z: Floats, i: int, out: Floats) -> None:
        """Fill in what a block left out: it ends at the first draw that raises an error."""
        (left,) = np.nonzero(np.isnan(out))
        call, room, values = self._call, np.zeros((self.dim, LANES)), np.empty(LANES)
        while len(left):
            part = left[:LANES]
            room[:, : len(part)] = z[part].T
            values[:] = np.nan  # what an error leaves out
            status = call_block(call.function, call.arguments, room, i, len(part), values)
            out[part] = values[: len(part)]
            nans = np.isnan(out[part])
            done = len(part) if not status else int(nans.argmax()) + 1
            left = left[done:]
