"""A user's function of one draw, compiled for a block of draws."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..caching import cached_property
from ..errors import InvalidInputError, OneDrawAtATimeWarning
from ..inner_warnings import warn
from ..kernels.cpu.launch import ELEMENT_WORK
from ..kernels.draws.blocks import LANES, Call
from ..kernels.vectors.arguments import Arguments
from ..kernels.vectors.building import Built, build, build_gradient
from ..kernels.vectors.calls import call_block
from ..kernels.vectors.errors import NotCompiled
from ..validation import Floats
from .called import CalledDensity
from .function import UserFunction, line_of, raised_at, user_function
from .gradient_check import plain_gradient, require_gradient, require_value
from .probe import compare, plain_value, probe, require_all_coordinates, short


class CompiledDensity(CalledDensity):
    """The log density that a user's function computes; see `fastelbo.Model`.

    Its machine code and the words that it reads live as long as this object.
    """

    # The function can be compiled for a device, too: see `engine.cuda_functions`.
    on_device: ClassVar[bool] = True
    function: UserFunction
    gradient: UserFunction | None  # in z, if the user gives it
    gradient_has_value: bool  # whether it returns both

    def __init__(
        self, given: Any, dim: int, *, data: Any, params: Any, argument: str, grad: Any = None
    ) -> None:
        function = user_function(argument, given, data, params)
        gradient = None if grad is None else user_function("grad", grad, data, params)
        self._set(dim=dim, function=function, gradient=gradient, gradient_has_value=False)
        found = probe(function, dim)
        reason = self._built.reason
        if reason is not None:
            warn(_one_at_a_time(function, reason), OneDrawAtATimeWarning, stacklevel=4)
        compare(function, found, self._values)
        if argument == "log_joint":
            require_all_coordinates(function, found, self._values)
        if gradient is not None:
            z, i, _ = found[0]
            value, _ = plain_gradient(gradient, z, i)
            self._set(gradient_has_value=value is not None)
            for each in found:
                self._require_gradient(gradient, *each)
            of_gradient = self._built_gradient.reason
            if reason is None and of_gradient is not None:
                warning = _one_at_a_time(gradient, of_gradient)
                warn(warning, OneDrawAtATimeWarning, stacklevel=4)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch of data points."""
        return () if self.function.data is None else self.function.data.shape[:1]

    def data_of(self, rows: NDArray[np.int64]) -> Any:
        """Some of its data points, or None if it has none."""
        return None if self.function.data is None else self.function.data[rows]

    def with_data(self, data: Any) -> CompiledDensity:
        """The same density of other data points, with the machine code of this one.

        It has no gradient that the user gave.
        """
        other = self.__class__.__new__(self.__class__)
        other._set(
            dim=self.dim, function=self.function._replace(data=data), gradient=None,
            gradient_has_value=False, _built=self._built,
        )  # fmt: skip
        return other

    @property
    def work(self) -> int:
        """Multiply-adds of one evaluation, about."""
        return ELEMENT_WORK + 4 * (self.dim + self.function.size)

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

    def outcome(self, z: Floats, i: int) -> str:
        """What the function does in plain Python, for one draw of data point i, as a text."""
        try:
            value = plain_value(self.function, z, i)
        except InvalidInputError as error:
            return str(error)
        except (ArithmeticError, ValueError) as error:
            where = raised_at(error, self.function)
            return f"{self.function.label} raised {type(error).__name__}: {error} at {where}"
        return f"{self.function.label} returned {value!r}"

    # --- machine code

    @property
    def _call(self) -> Call:
        return Call(self._built.address, self._arguments.address)

    @cached_property
    def _arguments(self) -> Arguments:
        return Arguments(self.function.data, self.function.values)

    @cached_property
    def _built(self) -> Built:
        """The machine code; a copy, as in another process, loads or compiles its own."""
        function = self.function
        try:
            return build(function.code, self._arguments, function.data is not None, stride=LANES)
        except NotCompiled as error:
            raise InvalidInputError(
                f"{function.label} cannot be compiled: {error.reason}, at "
                f"{place_of(error, function)}. Compiled functions are of numbers, loops, tuples, "
                "and functions of math and numpy on numbers and vectors; vectorized=True takes any "
                "function of many draws, and runs it as it is"
            ) from error

    @property
    def _gradient_call(self) -> Call:
        return Call(self._built_gradient.address, self._gradient_arguments.address)

    @cached_property
    def _gradient_arguments(self) -> Arguments:
        if self.gradient is None:
            return self._arguments
        own = (self.gradient.values,)
        values = own if self.gradient_has_value else (self.function.values, *own)
        return Arguments(self.function.data, values)

    @cached_property
    def _built_gradient(self) -> Built:
        """The machine code of value and gradient, compiled when it is first needed."""
        function, gradient = self.function, self.gradient
        try:
            functions: tuple[Any, ...] = (function.code,)
            if gradient is not None:
                functions = (
                    (gradient.code,) if self.gradient_has_value else (*functions, gradient.code)
                )
            return build_gradient(
                functions, self._gradient_arguments, function.data is not None,
                dim=self.dim, stride=LANES, by_duals=gradient is None,
            )  # fmt: skip
        except NotCompiled as error:
            if gradient is not None:
                raise InvalidInputError(
                    f"{gradient.label} cannot be compiled: {error.reason}, at "
                    f"{place_of(error, gradient)}"
                ) from error
            raise InvalidInputError(
                f"{function.label} has no gradient of its own: {error.reason}, at "
                f"{place_of(error, function)}; give the gradient as grad=, a function of the same "
                "arguments that returns D numbers"
            ) from error

    def _require_gradient(self, gradient: UserFunction, z: Floats, i: int, value: float) -> None:
        """Check the gradient that the user gave, at one draw where the density is ``value``."""
        point = None if gradient.data is None else i
        beside, slopes = plain_gradient(gradient, z, i)
        if beside is not None:
            require_value(gradient.label, z, beside, value)
        require_gradient(gradient.label, z, point, slopes, lambda rows: self._values(rows, i))
        _, compiled = self.value_and_gradient(z[None], i)
        if not np.allclose(compiled[0], slopes, rtol=1e-6, atol=1e-6, equal_nan=True):
            raise InvalidInputError(
                f"{gradient.label} returned {slopes} in Python and {compiled[0]} compiled, at z = "
                f"{short(z)}: it does something that the compiler reads in another way"
            )

    def _values(self, z: Floats, i: int) -> Floats:
        """Values at a few draws z (n, D) of data point i, on this thread."""
        room, out = np.zeros((self.dim, LANES)), np.empty(LANES)
        room[:, : len(z)] = z.T
        built = self._built
        status = call_block(built.address, self._arguments.address, room, i, len(z), out)
        if status:
            out[:] = np.nan
        return out[: len(z)]


def place_of(error: NotCompiled, function: UserFunction) -> str:
    """The line of the user's code that has no compiled form."""
    code = function.plain.__code__
    return line_of(error.filename or code.co_filename, error.line or code.co_firstlineno)


def _one_at_a_time(function: UserFunction, reason: NotCompiled) -> str:
    return (
        f"{function.label} is computed for one draw at a time, several times slower than for many: "
        f"{reason.reason}, at {place_of(reason, function)}"
    )
