"""The rotation of a request's quasi-random draws: known, or found by a pilot of its own draws."""

from __future__ import annotations

import numpy as np

from ..arrays.inputs import constant
from ..kernels.cpu.launch import sample
from ..models.lowering import sampler_of_draws
from ..models.mixture import Mixture
from ..models.protocol import Points, Proposal
from ..models.rotations import exact_rotation, mixture_rotation, pilot_rotation
from ..models.terms import Supplied
from ..random import pilot_key
from ..validation import Floats
from .host import group_size
from .task import Backend, EstimateRequest

# Which of the keys that are made from the one of the call.
_KEY = 1
# Draws of a pilot: a part of all, some for each coordinate, and a most.
_PART = 10
_PER_COORDINATE = 20
_MOST = 2000
# Most numbers of the rotations that pilots find: 1 GB.
_MOST_NUMBERS = 2**27
# Numbers of the draws of a pilot that are made and reduced at once: 4 MB.
_PIECE = 2**19


def with_rotation(request: EstimateRequest, backend: Backend) -> tuple[EstimateRequest, int]:
    """The request with a rotation of its draws, and the draws of a pilot that it took.

    Independent draws have none. The rotation of a data point does not depend on the others.
    """
    model, q, design = request.model, request.q, request.design
    if design is None or q.dim == 1 or request.points == 0:
        return request, 0
    rotation, kind, count = exact_rotation(model, q, Points(request.batch)), "exact", 0
    if rotation is None:
        if not _pilot_helps(request):
            return request, 0
        count, kind = pilot_size(request.n_samples, q.dim), "pilot"
        pilot = request._replace(
            n_samples=count, key=pilot_key(request.key, _KEY), precision="float64", design=None
        )
        rotation = _rotation_of_pilot(pilot, backend)
    turned = design._replace(rotation=rotation, rotation_kind=kind)
    return request._replace(design=turned), count


def _pilot_helps(request: EstimateRequest) -> bool:
    """Whether a pilot can find a rotation that is worth its cost.

    Densities that are supplied for the draws of one key leave nothing for a pilot. The most draws
    of one tell little about more than a hundred coordinates: at D = 200, three that mattered were
    not found. Rotations of very many data points would not fit into memory.
    """
    model, q = request.model, request.q
    supplied = any(isinstance(part, Supplied) for part in (model.prior, model.likelihood))
    numbers = request.points * _components(q) * q.dim**2
    return not supplied and _PER_COORDINATE * q.dim <= _MOST and numbers <= _MOST_NUMBERS


def _components(q: Proposal) -> int:
    return int(q.weights.shape[-1]) if isinstance(q, Mixture) else 1


def pilot_size(n_samples: int, dim: int) -> int:
    """Draws of a pilot for a data point."""
    return int(np.clip(n_samples // _PART, _PER_COORDINATE * dim, _MOST))


def _rotation_of_pilot(pilot: EstimateRequest, backend: Backend) -> Floats:
    """The rotation (N, C, D, D) from the draws of a request."""
    group = group_size(pilot)
    components = _components(pilot.q)
    numbers = pilot.n_samples * pilot.q.dim * components
    step = group * max(1, _PIECE // numbers // group)
    out = np.empty((pilot.points, components, pilot.q.dim, pilot.q.dim))
    for lo in range(0, pilot.points, step):
        stop = min(lo + step, pilot.points)
        out[lo:stop] = _rotation_of_rows(pilot._replace(rows=np.arange(lo, stop)), backend)
    return out


@np.errstate(all="ignore")
def _rotation_of_rows(pilot: EstimateRequest, backend: Backend) -> Floats:
    """The rotation of the data points that the request asks for."""
    assert pilot.rows is not None
    q, rows = pilot.q, constant(pilot.rows)
    points = Points(pilot.batch, rows)
    terms = backend.terms(pilot)
    log_weights = terms[0] + (terms[1] - terms[2])
    # The run itself raises an error for weights that are none, with the draw.
    log_weights[~(log_weights < np.inf)] = np.nan
    source = q.source(points)
    mixed = isinstance(q, Mixture) and source.sampler.location.shape[1] > 0
    sampler = sampler_of_draws(source) if mixed else source.sampler
    draws = sample(
        sampler, len(rows), pilot.n_samples, q.dim, pilot.key, points=rows,
        first_index=pilot.first_index,
    )  # fmt: skip
    v = np.ascontiguousarray(draws.swapaxes(0, 1))
    if mixed:
        assert isinstance(q, Mixture)
        return mixture_rotation(q._components, points, v, log_weights)
    return pilot_rotation(v, log_weights)
