"""What makes a run: the facts by which a checkpoint is known to be of the same one."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from ..frozen import Frozen
from ..kernels.vectors.fingerprint import NoFingerprintError, fingerprint, is_known
from ..models.function import UserFunction
from ..models.host import HostDensity
from ..models.probe import probe_points
from ..models.stan import StanDensity
from ..version import STREAM_VERSION
from .cluster.workers import facts
from .task import EstimateRequest

Facts = dict[str, Any]
_DIGEST = "sha256:"


def facts_of(request: EstimateRequest) -> Facts:
    """All that the bits of the request's states depend on, by name, as JSON has it.

    Numbers are themselves, and arrays and functions are digests. Names lead through the attributes
    of model and q.
    """
    design, form = request.design, request.form
    facts: Facts = {
        "stream_version": STREAM_VERSION,
        "key": request.key,
        "first_index": request.first_index,
        "precision": request.precision,
        "iw_sizes": list(form.iw_sizes),
        "pareto_k": form.capacity > 0,
        "batch_shape": list(request.batch),
        "sampler": "iid" if design is None else "sobol",
    }
    if design is not None:
        facts |= {"replicates": design.replicates, "transform": design.transform}
        facts |= dict(_leaves("rotation", design.rotation))
    facts |= dict(_leaves("model", request.model))
    return facts | dict(_leaves("q", request.q)) | {"n_samples": request.n_samples}


def machine() -> Facts:
    """What else the last bits of results depend on."""
    return facts().exact() | {"numpy": np.__version__}


def difference(found: Mapping[str, Any], expected: Mapping[str, Any], *but: str) -> str:
    """What differs first, in words; empty if nothing does. Facts named in ``but`` do not count."""
    for name in [*expected, *(found.keys() - expected.keys())]:
        theirs, ours = (each.get(name, "not there") for each in (found, expected))
        if name in but or theirs == ours:
            continue
        if any(str(each).startswith(_DIGEST) for each in (theirs, ours)):
            return f"another {name}"
        label = "key of rng" if name == "key" else name
        return f"{label} {theirs}, not {ours}"
    return ""


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The facts of a value, by name."""
    if isinstance(value, UserFunction):
        yield name, _of_function(value.plain, name)
        for part in ("data", "values", "keywords"):
            yield from _leaves(f"{name}.{part}", getattr(value, part))
    elif isinstance(value, HostDensity):
        yield from _of_host(name, value)
    elif isinstance(value, StanDensity):
        values = [value.plain_log_prob(z, 0) for z in probe_points(value.dim)]
        yield name, _digest(np.array(values))
    elif isinstance(value, np.ndarray):
        yield name, _digest(value)
    elif isinstance(value, (tuple, list)):
        yield f"{name}.length", len(value)
        for i, each in enumerate(value):
            yield from _leaves(f"{name}.{i}", each)
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _leaves(f"{name}.{key}", value[key])
    elif isinstance(value, np.generic):
        yield from _leaves(name, value.item())
    elif isinstance(value, float):
        yield name, repr(value)
    elif value is None or isinstance(value, (bool, int, str)):
        yield name, value
    elif isinstance(value, types.FunctionType):
        yield name, _of_function(value, name)
    else:
        yield from _of_object(name, value)


def _of_object(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The facts of the fields of an object; its class is one, too."""
    kind = type(value)
    fields = value.__getstate__() if isinstance(value, Frozen) else getattr(value, "__dict__", None)
    if callable(value) or isinstance(value, types.ModuleType) or fields is None:
        raise _unknown(name, kind.__name__)
    yield name, f"{kind.__module__}.{kind.__qualname__}"
    if not is_known(kind):
        for part, function in sorted(vars(kind).items()):
            if isinstance(function, types.FunctionType):
                yield f"{name}.{part}()", _of_function(function, f"{name}.{part}()")
    for field in sorted(fields):
        yield from _leaves(f"{name}.{field}", fields[field])


def _of_function(function: Any, name: str) -> str:
    try:
        return _DIGEST + fingerprint(function)
    except (NoFingerprintError, RecursionError, ValueError) as error:
        raise _unknown(name, str(error)) from error


def _of_host(name: str, density: HostDensity) -> Iterator[tuple[str, Any]]:
    """A function that may read anything is known by its values at a few draws, too."""
    yield f"{name}.dim", density.dim
    yield f"{name}.batch_size", density.batch_size
    yield f"{name}.array_namespace", density.array_namespace
    if density.data is not None:
        on_cpu = getattr(density.data, "cpu", lambda: density.data)
        yield f"{name}.data", _digest(np.asarray(on_cpu()))
    # One that has no fingerprint is known by its values alone.
    with suppress(NoFingerprintError, RecursionError, ValueError, TypeError, AttributeError):
        yield name, _DIGEST + fingerprint(density.function)
    points = density.batch_shape[0] if density.batch_shape else 1
    rows = np.unique([0, points // 2, points - 1])
    z = np.repeat(probe_points(density.dim)[:, None], len(rows), axis=1)
    yield f"{name}.values", _digest(density.values(z, rows))


def _digest(array: np.ndarray[Any, Any]) -> str:
    array = np.ascontiguousarray(array)
    found = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    found.update(array.data if array.size else b"")
    return _DIGEST + found.hexdigest()


def _unknown(name: str, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"checkpoint, keep_state and previous must not be given for this model: {name} reads "
        f"{what}, which cannot be compared with its value in another run"
    )
