"""Requests from the arguments of public functions: checks, designs of the draws, backends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

from ..errors import InvalidInputError
from ..models.nets import new_design
from ..models.protocol import LatentModel, Proposal
from ..models.sampling import IID, Sampling
from ..random import Key, RandomState, philox_key
from ..validation import (
    MAX_POINTS,
    as_choice,
    as_count,
    broadcast_shape,
)
from ..weights.pareto import kept_draws
from .cpu import CPUBackend
from .cuda import CUDABackend, if_compiled, worth_a_device
from .states import StateForm
from .task import Backend, EstimateRequest

# The backend for a request; of a model without draws, there is none.
Chooser = Callable[[EstimateRequest | None], Backend]


def new_request(
    model: object,
    q: object,
    n_samples: object,
    rng: RandomState | Key,
    first_index: object,
    precision: str,
    iw_sizes: Iterable[int] | None,
    pareto_k: bool,
    sampling: Sampling = IID,
) -> EstimateRequest:
    """A request for estimates from the draws of q, or for the terms of every draw.

    A rotation of quasi-random draws is not among it yet; see `rotation`.
    """
    if isinstance(model, type) or not isinstance(model, LatentModel):
        raise InvalidInputError(
            "model must be a Model, a distribution over vectors, a LinearGaussian or a "
            "MixtureModel; "
            f"got {kind_of(model)}{_use_of(model)}"
        )
    if isinstance(q, type) or not isinstance(q, Proposal):
        raise InvalidInputError(f"q must be a distribution over vectors; got {kind_of(q)}")
    if model.dim != q.dim:
        raise InvalidInputError(
            "model and q must have the same dimension, got "
            f"{model.dim} and {q.dim}: {model!r}, {q!r}"
        )
    as_choice(precision, "precision", ("float64", "float32"))
    if precision == "float32" and not all_parts(model, "in_single_precision"):
        raise InvalidInputError(
            f'precision must be "float64" for {model!r}, whose function takes float64 alone; got '
            '"float32"'
        )
    batch = broadcast_shape(model=model.batch_shape, q=q.batch_shape)
    first = as_count(first_index, "first_index", least=0)
    if first + math.prod(batch) > MAX_POINTS:
        raise OverflowError(
            f"first_index + data points must be at most {MAX_POINTS}, got {first} + "
            f"{math.prod(batch)}"
        )
    draws = sampling.draws(n_samples)
    sizes = sampling.iw_sizes(iw_sizes, draws)
    key, design = philox_key(rng), None
    if sampling.replicated:
        design = new_design(q, batch, draws, sampling.replicates, sampling.transform, key)
    capacity = kept_draws(draws) if pareto_k else 0
    form = StateForm(tuple(sizes), capacity, replicates=sampling.replicates)
    return EstimateRequest(model, q, batch, draws, key, first, precision, form, design)


def _use_of(model: object) -> str:
    """How to use what is no model, if it is a log density or has one."""
    if isinstance(model, type):
        return ""
    has_method = callable(getattr(model, "log_prob", None))
    if not (has_method or callable(model)):
        return ""
    name = "model.log_prob" if has_method else getattr(model, "__name__", "f")
    name = name if name.replace(".", "").isidentifier() else "f"
    return (
        f". If {name}(z) is log p(x, z) of one draw z of shape (D,), a model is "
        f"fastelbo.Model(log_joint={name}, dim=D); if it takes many draws (n, D), "
        f"fastelbo.Model(log_joint={name}, dim=D, vectorized=True)"
    )


def kind_of(value: object) -> str:
    """What an argument is, for a message."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def backend_named(
    name: str, n_threads: int | None, device: int, request: EstimateRequest | None
) -> Backend:
    """The backend with this name. "auto" depends on the request; without one it is the CPU."""
    as_choice(name, "backend", ("auto", "cpu", "cuda", "numpy"))
    on_device = request is None or all_parts(request.model, "on_device")
    if name == "cuda" and not on_device:
        assert request is not None
        raise InvalidInputError(
            f'backend must be "cpu", "numpy" or "auto" for {request.model!r}, whose machine code '
            'is for the CPU alone; got "cuda"'
        )
    found: Backend | None = None
    if name == "cuda":
        found = CUDABackend(device)
    elif name == "auto" and request is not None and on_device and worth_a_device(request):
        found = if_compiled(request, device)
    if found is not None:
        return found
    if name == "numpy":
        from .reference import NumPyBackend

        return NumPyBackend()
    return CPUBackend(n_threads)


def chooser(
    name: str, n_threads: int | None, device: int, client: object, allow_mixed: bool
) -> Chooser:
    """Chooses the backend with this name, or that of a client of a cluster if one is given."""
    if client is None:
        if allow_mixed:
            raise InvalidInputError("allow_mixed must be False without client=, got True")
        return partial(backend_named, name, n_threads, device)
    from .cluster.backend import DaskBackend

    as_choice(name, "backend", ("auto", "cpu", "cuda", "numpy"))
    if name not in ("auto", "cpu"):
        raise InvalidInputError(
            f'backend must be "auto" or "cpu" with client=, whose workers are CPUs; got {name!r}'
        )
    if n_threads is not None:
        raise InvalidInputError(
            "n_threads must be left out with client=: a task has one thread, and a worker runs as "
            f"many tasks at once as it has threads; got {n_threads}"
        )
    backend = DaskBackend(client, allow_mixed)
    return lambda request: backend


def all_parts(model: LatentModel, name: str) -> bool:
    """Whether prior and likelihood both allow something: most densities name no limits."""
    return all(getattr(part, name, True) for part in (model.prior, model.likelihood))
