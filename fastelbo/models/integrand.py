"""What expectations are of: values at draws, by a function or of the draws themselves."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..arrays.inputs import as_unchecked_floats
from ..errors import InvalidInputError, UnsupportedDTypeError
from ..validation import Floats, Integers, as_sequence, shown
from .compiled import CompiledDensity
from .function import user_function
from .probe import probe_points

# Most functions that are compiled for one expectation.
_MOST_FUNCTIONS = 256


class Integrand(Protocol):
    """Values of each draw: P numbers, in the shape of an event."""

    @property
    def label(self) -> str:
        """What messages call it."""
        ...

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of the values of one draw."""
        ...

    def values(self, z: Floats) -> Floats:
        """Values (N, P, n) at draws z (n, N, D) of N data points. It may write to z."""
        ...

    def outcome(self, z: Floats) -> str:
        """What plain Python makes of one draw z (D,), where that says more than its value."""
        ...


class Coordinates(NamedTuple):
    """The coordinates of the draws themselves."""

    dim: int
    label: str = "the mean"

    @property
    def event(self) -> tuple[int, ...]:
        """See `Integrand`."""
        return (self.dim,)

    def values(self, z: Floats) -> Floats:
        """See `Integrand`."""
        return np.moveaxis(z, 0, 2)

    def outcome(self, z: Floats) -> str:
        """See `Integrand`."""
        return ""


class Products(NamedTuple):
    """Products of deviations of two coordinates, for some pairs of them."""

    centre: Floats  # (N, D)
    first: Integers  # (P,)
    second: Integers  # (P,)
    label: str = "the covariance"

    @property
    def event(self) -> tuple[int, ...]:
        """See `Integrand`."""
        return self.first.shape

    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def values(self, z: Floats) -> Floats:
        """See `Integrand`."""
        deviations = np.moveaxis(z, 0, 2) - self.centre[..., None]
        products: Floats = deviations[:, self.first] * deviations[:, self.second]
        return products

    def outcome(self, z: Floats) -> str:
        """See `Integrand`."""
        return ""


class CompiledFunctions:
    """Functions of one draw, each compiled as a user's density is."""

    def __init__(self, parts: Sequence[CompiledDensity], event: tuple[int, ...], label: str):
        self._parts, self.event, self.label = tuple(parts), event, label

    def values(self, z: Floats) -> Floats:
        """See `Integrand`."""
        draws, points, _ = z.shape
        known = np.isfinite(z).all(axis=2)
        if not known.all():
            z[~known] = 0.0
        out = np.empty((points, len(self._parts), draws))
        for p, part in enumerate(self._parts):
            found = part.log_prob(z)
            found[~known] = np.nan
            out[:, p] = found.T
        return out

    def outcome(self, z: Floats) -> str:
        """See `Integrand`."""
        for part, value in zip(self._parts, self.values(z[None, None])[0, :, 0], strict=True):
            if not np.isfinite(value):
                return f", where {part.outcome(z, 0)}"
        return ""


class HostFunction:
    """A function of many draws, (n, D) to (n,) or (n, P), which runs as it is."""

    def __init__(self, function: Callable[..., Any], dim: int) -> None:
        self._function, self.label = function, _label(function)
        self.event = self._called(_rows(dim)).shape[1:]

    def values(self, z: Floats) -> Floats:
        """See `Integrand`."""
        draws, points, dim = z.shape
        found = self._called(z.reshape(-1, dim))
        if found.shape[1:] != self.event:
            raise InvalidInputError(
                f"f must return values of one shape a draw; {self.label} returned {self.event} "
                f"first, and then {found.shape[1:]}"
            )
        return np.moveaxis(found.reshape(draws, points, -1), 0, 2)

    def outcome(self, z: Floats) -> str:
        """See `Integrand`."""
        return ""

    def _called(self, z: Floats) -> Floats:
        count = len(z)
        try:
            result = self._function(z)
        except Exception as error:
            error.add_note(f"fastelbo called {self.label} with z of shape {z.shape}")
            raise
        if getattr(result, "dtype", None) == np.bool_:
            result = np.asarray(result, np.float64)
        what = f"f must return real numbers of shape (n,) or (n, P) for z of shape {z.shape}"
        try:
            values = as_unchecked_floats(result, "the result")
        except (InvalidInputError, UnsupportedDTypeError) as error:
            raise type(error)(f"{what}; {self.label} returned {shown(result)}: {error}") from None
        if values.ndim not in (1, 2) or len(values) != count or values.size == 0:
            raise InvalidInputError(f"{what}; {self.label} returned shape {values.shape}")
        return values


def _rows(dim: int) -> Floats:
    """A few draws; their number is not D, which would hide a sum over the wrong axis."""
    points = probe_points(dim)
    return np.concatenate([points, points[:1]]) if dim == len(points) else points


def as_integrand(f: Any, dim: int, params: Any, vectorized: bool) -> Integrand:
    """The values of a function, of functions, or of one that returns several values."""
    if vectorized:
        if not callable(f):
            raise InvalidInputError(
                f"f must be a function of many draws with vectorized=True, got {shown(f)}"
            )
        if len(as_sequence(params, "params", "numbers and arrays")):
            raise InvalidInputError(
                f"params must be empty with vectorized=True, got {shown(params)}: the function can "
                "take what it needs from where it is defined"
            )
        return HostFunction(f, dim)
    if callable(f):
        values = _first_value(f, dim, params)
        if isinstance(values, (tuple, list)) or np.ndim(values) == 1:
            _require_few(len(values))
            parts = [_component(f, p) for p in range(len(values))]
            return CompiledFunctions(
                [_compiled(part, dim, params) for part in parts], (len(parts),), _label(f)
            )
        return CompiledFunctions([_compiled(_real(f, values), dim, params)], (), _label(f))
    try:
        functions = as_sequence(f, "f", "functions")
    except InvalidInputError:
        functions = []
    if not functions or not all(map(callable, functions)):
        raise InvalidInputError(
            'f must be "mean", "cov", "quantiles", a function of one draw, or a sequence of '
            f"functions; got {shown(f)}"
        )
    _require_few(len(functions))
    compiled = []
    for j, g in enumerate(functions):
        value = _first_value(g, dim, params)
        if isinstance(value, (tuple, list)) or np.ndim(value) == 1:
            raise InvalidInputError(
                f"f[{j}] must return one number, as each of several functions, got {shown(value)}; "
                "a single function may return several"
            )
        compiled.append(_compiled(_real(g, value), dim, params))
    return CompiledFunctions(compiled, (len(functions),), f"{len(functions)} functions")


def _require_few(count: int) -> None:
    if not 0 < count <= _MOST_FUNCTIONS:
        raise InvalidInputError(
            f"f must have 1 to {_MOST_FUNCTIONS} values, each of which is compiled, got {count}; "
            "vectorized=True takes a function of many draws with any number of them"
        )


def _label(f: Any) -> str:
    """The function in messages: name, file and line."""
    while isinstance(f, functools.partial):
        f = f.func
    f = inspect.unwrap(getattr(f, "py_func", f))
    name, code = getattr(f, "__qualname__", type(f).__qualname__), getattr(f, "__code__", None)
    if code is None:
        return f"f {name}"
    return f"f {name} ({Path(code.co_filename).name}:{code.co_firstlineno})"


def _compiled(f: Any, dim: int, params: Any) -> CompiledDensity:
    return CompiledDensity(f, dim, data=None, params=params, argument="f")


def _first_value(f: Any, dim: int, params: Any) -> Any:
    """What the function returns in plain Python, at the first probe at which it returns."""
    function = user_function("f", f, None, params)
    for z in probe_points(dim):
        z.setflags(write=False)
        try:
            with np.errstate(all="ignore"):
                return function(z)
        except Exception:  # it is raised again, and named, where the function is compiled
            continue
    return None


def _real(f: Any, value: Any) -> Any:
    """The function, or one that returns 1 and 0 for its truths."""
    if not isinstance(value, (bool, np.bool_)):
        return f

    def indicator(z: Any, *params: Any) -> Any:
        return 1.0 * f(z, *params)

    return _named(indicator, f)


def _component(f: Any, p: int) -> Any:
    def component(z: Any, *params: Any) -> Any:
        return 1.0 * f(z, *params)[p]

    return _named(component, f)


def _named(wrapper: Any, f: Any) -> Any:
    wrapper.__qualname__ = getattr(f, "__qualname__", "f")
    return wrapper
