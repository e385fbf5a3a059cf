"""The rotation of a request's quasi-random draws: known, or found by a pilot of its own draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.cpu.launch import sample
from ..models.lowering import sampler_of_draws
from ..models.mixture import Mixture
from ..models.protocol import Points
from ..models.rotations import exact_rotation, mixture_rotation, pilot_rotation
from ..models.terms import Supplied
from ..random import pilot_key
from ..validation import Floats
from .host import group_size
from .task import Backend, EstimateRequest, Rows

# Draws of a pilot: a part of all, some for each coordinate, and a most.
_PART = 10
_PER_COORDINATE = 20
_MOST = 2000
# Numbers of the draws of a pilot that are made and reduced at once: 4 MB.
_PIECE = 2**19


class Rotation(NamedTuple):
    """Orthogonal matrices of a request's draws, and how they were found."""

    matrix: Floats | None  # (N or 1, C, D, D); None for the identity
    kind: str  # "exact", "pilot" or "identity"
    pilot_samples: int  # draws of the pilot, for each data point


def find_rotation(request: EstimateRequest, backend: Backend, rotate: bool) -> Rotation:
    """The rotation of the draws of a request, from its own draws if it needs a pilot.

    The rotation of a data point does not depend on the others. Densities that are supplied for the
    draws of one key leave nothing for a pilot.
    """
    model, q = request.model, request.q
    supplied = any(isinstance(part, Supplied) for part in (model.prior, model.likelihood))
    if not rotate or q.dim == 1 or request.points == 0:
        return Rotation(None, "identity", 0)
    known = exact_rotation(model, q, Points(request.batch))
    if known is not None:
        return Rotation(known, "exact", 0)
    if supplied:
        return Rotation(None, "identity", 0)
    count = pilot_size(request.n_samples, q.dim)
    pilot = request._replace(
        n_samples=count, key=pilot_key(request.key), precision="float64", design=None
    )
    return Rotation(_rotation_of_pilot(pilot, backend), "pilot", count)


def pilot_size(n_samples: int, dim: int) -> int:
    """Draws of a pilot for a data point."""
    return int(np.clip(n_samples // _PART, min(_PER_COORDINATE * dim, _MOST), _MOST))


def _rotation_of_pilot(pilot: EstimateRequest, backend: Backend) -> Floats:
    """The rotation (N, C, D, D) from the draws of a request."""
    group = group_size(pilot)
    components = pilot.q.weights.shape[-1] if isinstance(pilot.q, Mixture) else 1
    numbers = pilot.n_samples * pilot.q.dim * components
    step = group * max(1, _PIECE // numbers // group)
    out = np.empty((pilot.points, components, pilot.q.dim, pilot.q.dim))
    for lo in range(0, pilot.points, step):
        rows = slice(lo, min(lo + step, pilot.points))
        out[rows] = _rotation_of_rows(pilot, backend, rows)
    return out


@np.errstate(all="ignore")
def _rotation_of_rows(pilot: EstimateRequest, backend: Backend, rows: Rows) -> Floats:
    q, points, count = pilot.q, Points(pilot.batch, rows), rows.stop - rows.start
    terms = backend.terms(pilot, rows)
    log_weights = terms[0] + (terms[1] - terms[2])
    # The run itself raises an error for weights that are none, with the draw.
    log_weights[~(log_weights < np.inf)] = np.nan
    source = q.source(points)
    mixed = isinstance(q, Mixture) and source.sampler.location.shape[1] > 0
    sampler = sampler_of_draws(source) if mixed else source.sampler
    draws = sample(
        sampler,
        count,
        pilot.n_samples,
        q.dim,
        pilot.key,
        first_index=pilot.first_index + rows.start,
    )
    v = np.ascontiguousarray(draws.swapaxes(0, 1))
    if mixed:
        assert isinstance(q, Mixture)
        return mixture_rotation(q._components, points, v, log_weights)
    return pilot_rotation(v, log_weights)
