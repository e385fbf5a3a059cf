"""What travels to another process: data points of a request, and the functions of their densities.

Parameters of data points are lowered and cut before they travel, so that a task has those of its
own data points alone. Functions travel with what all data points share, and without these. Large
arrays are apart from the rest, by their content: what is there is not sent again.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from ...arrays.inputs import constant
from ...errors import InvalidInputError
from ...kernels.draws.blocks import NO_CALL, SUPPLIED
from ...models.called import CalledDensity
from ...models.host import HostDensity
from ...optional import optional
from ..lowered import Lowered, called_densities, host_densities, parts_of
from ..task import EstimateRequest

# Arrays from here on are apart: 256 kB.
LARGE = 2**18

# Densities that users' functions compute, by the names of their terms.
Functions = Mapping[str, CalledDensity | HostDensity]


class Packed(NamedTuple):
    """A value as bytes, without its large arrays."""

    header: bytes
    writable: tuple[bool, ...]  # of each large array
    digest: str  # of all of it


class Apart(NamedTuple):
    """The bytes of a large array, and their digest."""

    content: bytes
    digest: str


class Piece(NamedTuple):
    """Lowered data points, without functions, and what these read of them."""

    lowered: Lowered
    data: dict[str, Any]


def pack(value: Any) -> tuple[Packed, tuple[Apart, ...]]:
    """The value as bytes, and its large arrays."""
    cloudpickle = optional("cloudpickle", "client=", '"fastelbo[dask]"')
    apart: list[Apart] = []
    writable: list[bool] = []

    def inside(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < LARGE:
            return True
        content = view.tobytes()
        apart.append(Apart(content, _digest(content)))
        writable.append(not view.readonly)
        return False

    header = cloudpickle.dumps(value, protocol=5, buffer_callback=inside)
    digest = _digest(header, *(each.digest.encode() for each in apart))
    return Packed(header, tuple(writable), digest), tuple(apart)


def unpack(packed: Packed, contents: Sequence[bytes]) -> Any:
    """The value, from its bytes and those of its large arrays."""
    # Nobody may write to what was sent, which other tasks read.
    pairs = zip(contents, packed.writable, strict=True)
    buffers = [bytearray(each) if writable else each for each, writable in pairs]
    return pickle.loads(packed.header, buffers=buffers)


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


# --- functions ----------------------------------------------------------------------------------


def functions_of(request: EstimateRequest) -> Functions:
    """The functions of a request, with one of their data points for all."""
    found: dict[str, CalledDensity | HostDensity] = {
        **called_densities(request),
        **host_densities(request),
    }
    first = np.zeros(1, np.int64)
    return {
        name: density.with_data(density.data_of(first)) if density.batch_shape else density
        for name, density in found.items()
    }


def pack_functions(request: EstimateRequest) -> tuple[Packed, tuple[Apart, ...]]:
    """The functions of a request as bytes; an error if they cannot travel."""
    for name, part in parts_of(request).items():
        if getattr(part, "family", None) == "supplied":
            raise InvalidInputError(
                f"client must be left out for a model whose {name} is supplied values, which no "
                "worker can compute"
            )
    try:
        return pack(functions_of(request))
    except InvalidInputError:
        raise
    # Pickling can raise nearly any exception.
    except Exception as error:
        raise InvalidInputError(
            f"client must be left out for {request.model!r}, which cannot be sent to workers: "
            f"{error}"
        ) from error


# --- data points --------------------------------------------------------------------------------


def pack_points(lowered: Lowered) -> tuple[Packed, tuple[Apart, ...]]:
    """Lowered data points as bytes, without what only this process has."""
    plan, data = lowered.plan, {}
    for name, density in lowered.called.items():
        term = getattr(plan, name)
        # A term reads the number of its data point. It is counted anew among those that travel.
        data[name] = density.data_of(term.values[:, 0].astype(np.int64))
        count = np.arange(float(len(term.values)))[:, None]
        values = term.values if data[name] is None else constant(count)
        plan = plan._replace(**{name: term._replace(values=values, call=NO_CALL)})
    hosted = {}
    for name, own in lowered.hosted.items():
        data[name] = own.density.data_of(own.rows)
        rows = own.rows if data[name] is None else np.arange(len(own.rows))
        hosted[name] = own._replace(density=cast(Any, None), rows=rows)
    for term in (plan.prior, plan.likelihood):
        assert term.kind != SUPPLIED or hosted
    return pack(Piece(lowered._replace(plan=plan, called={}, hosted=hosted), data))


def arrived(functions: Functions, piece: Piece) -> Lowered:
    """The lowered data points of a piece, with functions."""
    lowered, data = piece
    plan, called = _constant(lowered.plan), {}
    hosted = {}
    for name, density in functions.items():
        own = density if data[name] is None else density.with_data(_constant(data[name]))
        if isinstance(own, HostDensity):
            hosted[name] = lowered.hosted[name]._replace(
                density=own, sampler=_constant(lowered.hosted[name].sampler)
            )
        else:
            called[name] = own
            term = getattr(plan, name)._replace(call=own._call)
            plan = plan._replace(**{name: term})
    return lowered._replace(
        plan=plan, points=constant(lowered.points), called=called, hosted=hosted
    )


def _constant(value: Any) -> Any:
    """The arrays of a value, as kernels expect them."""
    if isinstance(value, np.ndarray):
        return constant(value)
    if isinstance(value, tuple):
        return value._make(map(_constant, value)) if hasattr(value, "_make") else value
    return value
