"""Checks of a user's function at construction: in plain Python, and compiled beside it.

Python gives real tracebacks, where compiled code gives a status or reads another number.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from ..validation import Floats, shown
from .function import UserFunction, raised_at

# Of the sum of 1 and the value: rounding of another order of operations.
_TOLERANCE = 1e-6
# Errors of Python's numbers outside of a function's domain, where compiled code gives NaN or inf.
_DOMAIN = re.compile(r"domain|range error|expected a (positive|nonnegative|finite|number)")
# Steps of a coordinate, of which one must change log p(x, z).
_STEPS = (1e-3, 0.37, -0.61, 40.0, -40.0, 1e8, -1e8)
_MOST_COORDINATES = 2**12
_LANES = 512


def probe_points(dim: int) -> Floats:
    """Three draws (3, D): of small positive coordinates of sum below 1, of signed, and of large."""
    shares = (0.5 + 0.618 * np.arange(dim)) % 1.0
    small = (0.25 + 0.5 * shares) / dim
    return np.array([small, 0.8 * np.sin(1.0 + 1.7 * np.arange(dim)), 1.25 + 2.0 * shares])


def probe(function: UserFunction, dim: int) -> list[tuple[Floats, int, float]]:
    """(z, data point, value) of some calls in plain Python; an error that names what is wrong."""
    last = 0 if function.data is None else len(function.data) - 1
    found, refused = [], None
    for z, i in zip(probe_points(dim), (0, last // 2, last), strict=True):
        try:
            value = plain_value(function, z, i)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            refused = error
            continue
        found.append((z, i, value))
    if not found or all(np.isnan(value) for _, _, value in found):
        problem = "returned nan" if refused is None else f"raised {_text(refused)}"
        line = "" if refused is None else f" at {raised_at(refused, function)}"
        points = probe_points(dim)
        raise InvalidInputError(
            f"{function.label} {problem}{line} at each of {len(points)} probes z, the first "
            f"{short(points[0])}; expected {_EXPECTED[function.argument]}"
        ) from refused
    z, i, value = found[0]
    again = plain_value(function, z, i)
    if again != value and not np.isnan(value):
        raise InvalidInputError(
            f"{function.label} returned {value!r} and then {again!r} for the same z: expected a "
            "function of z alone, without random numbers and without memory of earlier calls"
        )
    return found


def plain_value(function: UserFunction, z: Floats, i: int) -> float:
    """The function's value in plain Python. Errors of a domain are left as they are."""
    return _real(function, called(function, z, i))


def called(function: UserFunction, z: Floats, i: int) -> Any:
    """What the function returns in plain Python; see `plain_value`."""
    own = np.array(z)
    own.setflags(write=False)
    try:
        with np.errstate(all="ignore"):
            return function(own, i)
    except ArithmeticError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and _DOMAIN.search(str(error)):
            raise
        hint = ""
        if "read-only" in str(error):
            hint = (
                ". z, data, params and arrays from outside cannot be written: write to a copy, "
                "such as 1.0 * z"
            )
        elif isinstance(error, IndexError) and f"size {len(z)}" in str(error):
            hint = f". z has dim = {len(z)} coordinates"
        raise InvalidInputError(
            f"{function.label} raised {_text(error)} at {raised_at(error, function)}, called with "
            f"z = {short(z)}{'' if function.data is None else f' and data[{i}]'}{hint}"
        ) from error


def _real(function: UserFunction, value: Any) -> float:
    """The value as a float, if it is one real number."""
    number = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if isinstance(number, (int, float, np.integer, np.floating)) and not isinstance(number, bool):
        try:
            return float(number)
        except OverflowError:
            return float("inf") if number > 0 else float("-inf")
    if inspect.iscoroutine(value):
        value.close()  # it is not run, and nobody forgot to wait for it
    hint = {
        "NoneType": ", as a function without return does",
        "ndarray": "; a sum over its entries may be missing",
        "generator": ", as a function with yield does",
    }.get(type(number).__name__, "")
    raise InvalidInputError(
        f"{function.label} returned {shown(value)} of type {type(value).__name__}{hint}; expected "
        f"one real number, {_MEANING[function.argument]}"
    )


_MEANING = {
    "log_joint": "log p(x, z) in nats",
    "log_likelihood": "log p(x | z) in nats",
    "f": "or a tuple or vector of them",
}
_DENSITIES = "log densities, -inf where z is impossible"
_EXPECTED = {"log_joint": _DENSITIES, "log_likelihood": _DENSITIES, "f": "finite numbers"}


# --- compiled beside plain ----------------------------------------------------------------------

# values(z, i): compiled values (n,) at draws z (n, D) for data point i.
CompiledValues = Callable[[Floats, int], Floats]


def compare(
    function: UserFunction, found: list[tuple[Floats, int, float]], values: CompiledValues
) -> None:
    """Raise an error if the compiled function gives another value."""
    for z, i, value in found:
        got = float(values(z[None], i)[0])
        close = abs(got - value) <= _TOLERANCE * (1.0 + abs(value))
        if not (close or got == value or (np.isnan(got) and np.isnan(value))):
            stopped = np.isnan(got)
            outcome = "stopped, or gave nan," if stopped else f"gave {got!r}"
            raise InvalidInputError(
                f"{function.label} returned {value!r} in Python and {outcome} compiled, at z = "
                f"{short(z)}: it does something that the compiler reads in another way, such as "
                "integers beyond 64 bits, a return of None for some z, or a file that was edited "
                "after it was imported"
            )


def require_all_coordinates(
    function: UserFunction, found: list[tuple[Floats, int, float]], values: CompiledValues
) -> None:
    """Raise an error if log p(x, z) does not depend on a coordinate: it then has no integral."""
    dim = len(found[0][0])
    if dim > _MOST_COORDINATES:
        return
    unread = np.arange(dim)
    for z, i, _ in found:
        base = values(z[None], i)
        for step in _STEPS:
            still = []
            for first in range(0, len(unread), _LANES):
                part = unread[first : first + _LANES]
                moved = np.tile(z, (len(part), 1))
                moved[np.arange(len(part)), part] += step
                same = values(moved, i).view(np.int64) == base.view(np.int64)
                still.append(part[same])
            unread = np.concatenate(still) if still else unread
            if not len(unread):
                return
    raise InvalidInputError(
        f"{function.label} does not depend on z[{unread[0]}], with dim = {dim}"
        f"{'' if len(unread) == 1 else f', nor on {len(unread) - 1} other coordinates'}: log p(x, "
        "z) then has no finite evidence; expected a dim that counts the coordinates that it reads"
    )


def short(z: Floats) -> str:
    """A draw in messages."""
    return np.array2string(z, threshold=6, edgeitems=2, precision=4, separator=", ")


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
