"""Log densities that a user's function on the host computes, for many draws in one call.

The kernels make the draws and take the values. The function is that of NumPy, torch or JAX, as
`fastelbo.arrays.namespaces` calls it.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays.inputs import as_unchecked_floats
from ..arrays.namespaces import Namespace, namespace
from ..errors import InvalidInputError, UnsupportedDTypeError
from ..kernels.draws.blocks import LANES, Term
from ..validation import Floats, as_count, shown
from .gradient_check import require_gradient, require_value
from .joint import by_member
from .probe import probe_points
from .protocol import Frame, Points
from .terms import Supplied

# Rows of z in a batch: larger ones leave the caches of a core.
_ROWS = 4096
# Most numbers of z and data in a batch, above `LANES` rows: 32 MB.
_NUMBERS = 2**22
# Of a call, in multiply-adds for each row. It sizes launches, which adapt.
_WORK = 2**15


class Batch(NamedTuple):
    """The shape of a batch: draws of each of some data points."""

    draws: int
    points: int


class HostDensity:
    """A log density that a function computes, as ``f(z)`` or ``f(z, x)``.

    Parameters
    ----------
    function : callable
        Without data, it takes z of shape (n, D) and returns (n,). With data, it takes z of shape
        (k, n, D) and x of shape (n, ...), those of n data points, and returns (k, n).
    dim : int
        D.
    data : array_like, shape (N, ...), optional
        Independent data points. They are copied.
    array_namespace : {"numpy", "torch", "jax"}
        What z and x are arrays of.
    device : optional
        A device of torch or JAX, or its name; the CPU or JAX's default device by default.
    batch_size : int, optional
        About how many rows of z a call has, k n with data. By default it follows from the shapes.
    name : str
        What error messages call the function.
    grad : callable, optional
        Its gradient in z, a function of the same arguments that returns an array of the shape of z.
        By default, that of torch or JAX.
    """

    family: ClassVar[str] = "host"
    work = _WORK

    def __init__(
        self,
        function: Callable[..., Any],
        dim: int,
        *,
        data: Any = None,
        array_namespace: str = "numpy",
        device: Any = None,
        batch_size: int | None = None,
        name: str = "log_joint",
        grad: Callable[..., Any] | None = None,
    ) -> None:
        if not callable(function):
            raise InvalidInputError(f"{name} must be a function, got {shown(function)}")
        self.dim = as_count(dim, "dim")
        self.batch_size = None if batch_size is None else as_count(batch_size, "batch_size")
        self.function, self._name, self.gradient = function, name, grad
        self._arrays: Namespace = namespace(array_namespace, device)
        self._data = None if data is None else self._arrays.keep(data, "data")
        self.batch_shape: tuple[int, ...] = ()
        self._width = 0
        if self._data is not None:
            shape = tuple(map(int, self._data.shape))
            if not shape or shape[0] == 0:
                raise InvalidInputError(
                    f"data must have at least one data point on its first axis, got shape {shape}"
                )
            self.batch_shape, self._width = shape[:1], math.prod(shape[1:])
        if grad is not None:
            self._require_gradient()

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes its own of what follows from the function.
        return {name: each for name, each in vars(self).items() if name != "_differentiated"}

    def __repr__(self) -> str:
        return f"HostDensity({described(self.function)}, dim={self.dim})"

    def term(self, points: Points, frame: Frame) -> Term:
        """A term without values: the engine fills in the values at the draws."""
        return Supplied(np.empty(0), self.dim).term(points, frame)

    def data_of(self, rows: NDArray[np.int64]) -> Any:
        """A copy of some of its data points, or None if it has none."""
        if self._data is None:
            return None
        return self._arrays.keep(self._arrays.rows(self._data, rows), "data")

    def with_data(self, data: Any) -> HostDensity:
        """The same density of other data points, as `data_of` gives them; without a gradient."""
        other = copy.copy(self)
        other._data, other.gradient = data, None
        other.batch_shape = () if data is None else (int(data.shape[0]),)
        return other

    @property
    def data(self) -> Any:
        """The data points, as an array of the namespace; None without data."""
        return self._data

    @property
    def array_namespace(self) -> str:
        """The name of the library whose arrays the function takes."""
        return type(self._arrays).__name__.lower()

    @property
    def has_gradient(self) -> bool:
        """Whether there is a gradient: a function of the user's, or that of torch or JAX."""
        return self.gradient is not None or self._arrays.differentiates

    @property
    def compiles_shapes(self) -> bool:
        """Whether the function is compiled for each shape of its arguments."""
        return self._arrays.compiles_shapes

    def batch(self, n_samples: int, points: int) -> Batch:
        """The shape of batches for so many draws of so many data points. It fixes the last bits."""
        if self.batch_size is not None:
            rows = draws = self.batch_size
        else:
            most = _NUMBERS // (self.dim + self._width) // LANES * LANES
            rows = min(_ROWS, max(LANES, most))
            parts = max(1, round(n_samples / rows))
            draws = n_samples if parts == 1 else round(n_samples / (parts * LANES)) * LANES
        draws = min(draws, n_samples)
        return Batch(draws, min(max(1, rows // n_samples), points) if draws == n_samples else 1)

    def values(self, z: Any, rows: NDArray[np.int64], batch: Batch | None = None) -> Floats:
        """Log densities (k, n) at z (k, n, D), draws of the data points in ``rows``.

        The function may write to z. A ``batch`` is the shape that other calls have, at least (k,
        n): a function that is compiled for shapes gets z of that shape.
        """
        (values,) = self._shaped(lambda z, x: (self._result(z, x),), z, rows, batch)
        return values

    def value_and_gradient(
        self, z: Any, rows: NDArray[np.int64], batch: Batch | None = None
    ) -> tuple[Floats, Floats]:
        """The same with the gradients in z: (k, n) and (k, n, D)."""
        values, slopes = self._shaped(self._results, z, rows, batch)
        return values, slopes

    def _shaped(
        self,
        call: Callable[[Any, tuple[Any, ...]], tuple[Floats, ...]],
        z: Any,
        rows: NDArray[np.int64],
        batch: Batch | None,
    ) -> list[Floats]:
        """What ``call(z, data)`` gives for the shape of a batch, without what fills it up."""
        draws, points, dim = z.shape
        wanted = batch if batch and self.compiles_shapes else Batch(draws, points)
        if self._data is None:
            # A number of rows that is also D would hide a sum over the wrong axis.
            size = math.prod(wanted)
            size += size == dim > 1
            results = call(_padded(z.reshape(draws * points, dim), 0, size), ())
            rest = (each[: draws * points] for each in results)
            return [each.reshape(draws, points, *each.shape[1:]) for each in rest]
        # As would numbers of draws and of data points that are the same.
        size = wanted.draws + (wanted.draws == wanted.points > 1)
        rows = _padded(rows, 0, wanted.points)
        x = self._arrays.rows(self._data, rows)
        results = call(_padded(_padded(z, 1, wanted.points), 0, size), (x,))
        return [each[:draws, :points] for each in results]

    def log_prob(self, z: ArrayLike) -> Floats:
        """Log densities at z (..., D), whose leading axes broadcast against `batch_shape`."""
        (values,) = self._at(lambda *part: (self.values(*part),), z, ((),))
        return values

    def log_prob_and_gradient(self, z: ArrayLike) -> tuple[Floats, Floats]:
        """The same with the gradients in z, of shape (..., D)."""
        values, slopes = self._at(self.value_and_gradient, z, ((), (self.dim,)))
        return values, slopes

    def _at(
        self, call: Callable[..., tuple[Floats, ...]], z: ArrayLike, shapes: tuple[Any, ...]
    ) -> list[Floats]:
        """Results of the given shapes at z (..., D), in batches."""
        given, shape, batch = by_member(as_unchecked_floats(z, "z"), self.dim, self.batch_shape)
        draws, members = len(given), math.prod(batch)
        results = [np.empty((draws, members, *each)) for each in shapes]
        own = np.resize(np.arange(math.prod(self.batch_shape)), members)
        if draws * members:
            size = self.batch(draws, members)
            for k in range(0, draws, size.draws):
                for i in range(0, members, size.points):
                    part = np.s_[k : k + size.draws, i : i + size.points]
                    # A private copy, as the function may write to it.
                    found = call(np.array(given[part]), own[part[1]], size)
                    for out, each in zip(results, found, strict=True):
                        out[part] = each
        return [out.reshape(*shape, *each) for out, each in zip(results, shapes, strict=True)]

    def _result(self, z: Any, data: tuple[Any, ...]) -> Floats:
        """What the function returns, as floats of the shape of z without its last axis."""
        return self._densities(self._call(self.function, self._name, z, data), z.shape)

    @functools.cached_property
    def _differentiated(self) -> Callable[..., Any]:
        return self._arrays.differentiated(self.function)

    def _results(self, z: Any, data: tuple[Any, ...]) -> tuple[Floats, Floats]:
        """The same, and the gradients, of the shape of z."""
        if self.gradient is None:
            found = self._call(self._differentiated, self._name, z, data)
            return self._densities(found[0], z.shape), as_unchecked_floats(found[1], "the gradient")
        shape, again = z.shape, np.array(z)
        found = self._call(self.gradient, "grad", z, data)
        if isinstance(found, tuple) and len(found) == 2:
            values, found = self._densities(found[0], shape), found[1]
        else:
            values = self._result(again, data)
        slopes = as_unchecked_floats(found, "what grad returns")
        if slopes.shape != shape:
            raise InvalidInputError(
                f"grad must return the gradient of each draw, of shape {shape} as z, or the log "
                f"densities and it; {described(self.gradient)} returned shape {slopes.shape}"
            )
        return values, slopes

    def _require_gradient(self) -> None:
        """Check the gradient that the user gave, at three draws."""
        assert self.gradient is not None
        last = math.prod(self.batch_shape) - 1
        probes = probe_points(self.dim)
        for z, i in zip(probes, (0, last // 2, last), strict=True):
            row = np.array([i])
            value, slopes = self.value_and_gradient(np.array(z[None, None]), row)
            label, own = (
                f"grad {described(self.gradient)}",
                self.values(np.array(z[None, None]), row),
            )
            require_value(label, z, float(value[0, 0]), float(own[0, 0]))

            def values(rows: Floats, row: NDArray[np.int64] = row) -> Floats:
                return self.values(np.array(rows[:, None]), row)[:, 0]

            point = i if self.batch_shape else None
            require_gradient(label, z, point, slopes[0, 0], values)

    def _call(self, function: Any, name: str, z: Any, data: tuple[Any, ...]) -> Any:
        """What a function returns; an error has a note with the shapes."""
        shape, dtype = z.shape, z.dtype
        try:
            return self._arrays.call(function, z, data)
        except Exception as error:
            shapes = "".join(f", x of shape {tuple(x.shape)}" for x in data)
            error.add_note(
                f"fastelbo called {name}, {described(function)}, with z of shape "
                f"{shape} and dtype {dtype}{shapes}"
            )
            raise

    def _densities(self, result: Any, shape: tuple[int, ...]) -> Floats:
        """Log densities, one a draw, as floats."""
        what = f"{self._name} must return one log density a draw, real numbers of shape "
        what += f"{shape[:-1]} for z of shape {shape}; {described(self.function)} returned "
        if "bool" in str(getattr(result, "dtype", "")):
            raise UnsupportedDTypeError(f"{what}truths: their dtype is {result.dtype}")
        try:
            values = as_unchecked_floats(result, "the result")
        except (InvalidInputError, UnsupportedDTypeError) as error:
            raise type(error)(f"{what}{shown(result)}: {error}") from None
        if values.shape != shape[:-1]:
            raise InvalidInputError(f"{what}shape {values.shape}{_remedy(values.shape, shape)}")
        return values


def _padded(array: Any, axis: int, size: int) -> Any:
    """The array, its last entry along an axis repeated up to a size."""
    missing = size - array.shape[axis]
    if missing <= 0:
        return array
    last = np.take(array, [-1], axis=axis)
    return np.concatenate([array, np.repeat(last, missing, axis=axis)], axis=axis)


def _remedy(got: tuple[int, ...], z: tuple[int, ...]) -> str:
    """What to change in a function that returns a wrong shape."""
    if got == (*z[:-1], 1):
        return "; drop its last axis, as with [..., 0]"
    if got == z:
        return "; sum over the last axis"
    if got == () or got in (z[1:], (*z[:-2], z[-1])):
        return "; sum over the last axis alone, as with sum(-1)"
    if len(z) == 3 and got == (z[1], z[0]):
        return "; transpose it"
    return ""


def described(function: Any) -> str:
    """The name of a function, and the file and line where it is defined."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = inspect.unwrap(inner)
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    code = getattr(inner, "__code__", None)
    if code is None:
        return str(name)
    return f"{name} ({code.co_filename}, line {code.co_firstlineno})"
