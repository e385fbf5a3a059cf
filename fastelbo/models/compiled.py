"""A user's function of one draw, compiled for a block of draws."""

from __future__ import annotations

import math
import warnings
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_floats, constant
from ..errors import InvalidInputError, OneDrawAtATimeWarning
from ..frozen import Frozen
from ..kernels.cpu import drivers
from ..kernels.cpu.launch import ELEMENT_WORK, launch, new_counter
from ..kernels.draws.blocks import CALLED, LANES, Call, Term
from ..kernels.draws.radial import GAUSSIAN
from ..kernels.vectors.arguments import Arguments
from ..kernels.vectors.building import Built, build
from ..kernels.vectors.calls import call_block
from ..kernels.vectors.errors import NotCompiled
from ..validation import Floats
from . import lowering
from .function import UserFunction, line_of, raised_at, user_function
from .joint import by_member
from .probe import compare, plain_value, probe, require_all_coordinates
from .protocol import Frame, Points


class CompiledDensity(Frozen):
    """The log density that a user's function computes; see `fastelbo.Model`.

    Its machine code and the words that it reads live as long as this object.
    """

    family: ClassVar[str] = "called"
    # Its code is for the CPU and float64.
    by_kernels: ClassVar[bool] = False
    function: UserFunction
    dim: int

    def __init__(self, given: Any, dim: int, *, data: Any, params: Any, argument: str) -> None:
        function = user_function(argument, given, data, params)
        self._set(dim=dim, function=function)
        found = probe(function, dim)
        reason = self._built.reason
        if reason is not None:
            warnings.warn(_one_at_a_time(function, reason), OneDrawAtATimeWarning, stacklevel=4)
        compare(function, found, self._values)
        if argument == "log_joint":
            require_all_coordinates(function, found, self._values)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points."""
        return () if self.function.data is None else self.function.data.shape[:1]

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation, about."""
        return ELEMENT_WORK + 4 * (self.dim + self.function.size)

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
        call = Call(self._built.address, self._arguments.address)
        return Term(CALLED, density, constant(points.select(own, 1)), 0, call)

    def log_prob(self, z: ArrayLike) -> Floats:
        """The density at z (..., D), whose leading axes broadcast against the batch."""
        points, shape, batch = by_member(as_floats(z, "z"), self.dim, self.batch_shape)
        term = self.term(Points(batch), Frame(np.zeros((1, self.dim)), None, None))
        out, counter = np.empty(points.shape[:2]), new_counter()
        launch(
            drivers.called_values, term, constant(points), out, counter,
            work=out.size * self.work, counter=counter,
        )  # fmt: skip
        return out.reshape(shape)

    def plain_log_prob(self, z: Floats, i: int) -> float:
        """The function's value in plain Python, for one draw of data point i."""
        try:
            return plain_value(self.function, z, i)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(
                f"{self.function.label} raised {type(error).__name__}: {error} at "
                f"{raised_at(error, self.function)}, where compiled code gives NaN or an "
                "infinite number"
            ) from error

    # --- machine code

    @cached_property
    def _arguments(self) -> Arguments:
        return Arguments(self.function.data, self.function.values)

    @cached_property
    def _built(self) -> Built:
        """The machine code; a copy, as in another process, loads or compiles its own."""
        function = self.function
        try:
            return build(function.plain, self._arguments, function.data is not None, stride=LANES)
        except NotCompiled as error:
            raise InvalidInputError(
                f"{function.label} cannot be compiled: {error.reason}, at "
                f"{_place(error, function)}. Compiled functions are of numbers, loops, tuples, and "
                "functions of math and numpy on numbers and vectors; vectorized=True takes any "
                "function of many draws, and runs it as it is"
            ) from error

    def _values(self, z: Floats, i: int) -> Floats:
        """Values at a few draws z (n, D) of data point i, on this thread."""
        room, out = np.zeros((self.dim, LANES)), np.empty(LANES)
        room[:, : len(z)] = z.T
        built = self._built
        status = call_block(built.address, self._arguments.address, room, i, len(z), out)
        if status:
            out[:] = np.nan
        return out[: len(z)]


def _place(error: NotCompiled, function: UserFunction) -> str:
    code = function.plain.__code__
    return line_of(error.filename or code.co_filename, error.line or code.co_firstlineno)


def _one_at_a_time(function: UserFunction, reason: NotCompiled) -> str:
    return (
        f"{function.label} is computed for one draw at a time, several times slower than for many: "
        f"{reason.reason}, at {_place(reason, function)}"
    )
