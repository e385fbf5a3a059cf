"""What to change in a q that fits badly: where the draws with the largest weights lie.

A few of the draws are made and weighed again, of one data point alone. The twentieth with the
largest weights is compared with all: it lies to one side of q, at its rim, near its centre, or
anywhere. Each of these draws counts the same, as one weight may be larger than all others together.
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays.inputs import constant
from ..kernels.cpu import launch
from ..models.location_scale import Gaussian
from ..models.plans import draw_sampler
from ..models.protocol import Points
from ..validation import Floats
from .lowered import host_densities
from .states import StateForm
from .task import Backend, EstimateRequest

# A tenth of the draws, as a model may be slow; within these limits.
_LEAST, _MOST = 100, 2000
# The share of draws that have the largest weights, and the least number of them.
_SHARE, _LEAST_LARGE = 0.05, 10
# Standard deviations of q from its mean, beyond which draws lie to one side; and standard errors.
_ASIDE, _CLEARLY = 1.0, 3.5
# Mean squared distances from the mean of q, relative to those of all draws.
_RIM, _CENTRE = 1.5, 0.6


# Scales of the largest floats have no squares: they get no advice.
@np.errstate(all="ignore")
def advice(request: EstimateRequest, backend: Backend, point: int) -> str:
    """Sentences on data point ``point``: where its largest weights lie, and what to try.

    Empty for a function of JAX, which would be compiled once more for the shape of these draws.
    """
    if any(each.compiles_shapes for each in host_densities(request).values()):
        return ""
    found = _drawn(request, backend, point)
    if found is None:
        return ""
    where = "" if request.points == 1 else f" of data point {point}"
    text = f"The draws with the largest weights{where} lie {_position(request, *found)}"
    if request.batch == ():
        text += ". fastelbo.adapt(model) fits a q to the model"
    return text


def _drawn(request: EstimateRequest, backend: Backend, point: int) -> tuple[Floats, Floats] | None:
    """Draws (n, D) of q in its standard deviations, and those with the largest weights."""
    count = min(request.n_samples, _MOST, max(_LEAST, request.n_samples // 10))
    rows = constant(np.array([point if request.rows is None else int(request.rows[point])]))
    probe = request._replace(n_samples=count, form=StateForm((), 0), design=None, rows=rows)
    likelihood, prior, own = (each[0] for each in backend.terms(probe))
    log_weights = likelihood + (prior - own)
    sampler = draw_sampler(request.q, Points(request.batch, rows), request.precision)
    z = launch.sample(sampler, 1, count, request.q.dim, request.key, rows, request.first_index)
    draws = np.asarray(z[:, 0], dtype=np.float64)
    known = np.isfinite(draws).all(axis=1) & (np.abs(log_weights) < np.inf)
    draws, log_weights = draws[known], log_weights[known]
    y = (draws - draws.mean(axis=0)) / draws.std(axis=0)
    large = max(_LEAST_LARGE, int(_SHARE * len(y)))
    if len(y) < 2 * large or not _standardised(y):
        return None
    return y, y[np.argsort(log_weights)[-large:]]


def _standardised(y: Floats) -> bool:
    """Whether the mean square of each coordinate is 1, as it should be."""
    return bool((np.abs((y * y).mean(axis=0) - 1.0) < 1e-6).all())


def _position(request: EstimateRequest, y: Floats, large: Floats) -> str:
    """Where the large weights lie among the draws of q, and what to try."""
    shift = large.mean(axis=0)
    error = large.std(axis=0) / math.sqrt(len(large))
    aside = np.where(np.abs(shift) > _CLEARLY * error, np.abs(shift), 0.0)
    d = int(np.argmax(aside))
    if aside[d] > _ASIDE:
        side = "above" if shift[d] > 0.0 else "below"
        return (
            f"to one side of q, {aside[d]:.1f} of its standard deviations {side} its mean in "
            f"{_coordinate(request, d)}: move q there, or try {_heavier(request)}"
        )
    ratio = _mean_square(y, large) / _mean_square(y, y)
    if ratio > _RIM:
        return (
            f"at the rim of q, {math.sqrt(ratio):.1f} times as far from its mean as its draws: q "
            f"is too narrow; try {_heavier(request)}, or a larger scale"
        )
    if ratio < _CENTRE and not _long(y, large):
        return (
            f"near the mean of q, at {math.sqrt(ratio):.1f} of the distance of its draws: q is too "
            "wide; try a smaller scale"
        )
    return "all over q: its shape does not fit; try a full covariance, or a Mixture"


def _long(y: Floats, large: Floats) -> bool:
    """Whether q is not too wide for the large weights in each direction."""
    dim = y.shape[1]
    if len(large) < 2 * dim:
        return False
    spread = np.linalg.cholesky(_cov(y))
    whitened = np.linalg.solve(spread, large.T)
    return bool(np.linalg.eigvalsh(whitened @ whitened.T / len(large))[-1] > 1.0)


def _cov(y: Floats) -> Floats:
    """The covariance of all draws; of few, which it would fit too well, as if uncorrelated."""
    count, dim = y.shape
    if count < 10 * dim:
        return np.eye(dim)
    return np.asarray(y.T @ y / count + 1e-9 * np.eye(dim))


def _mean_square(y: Floats, some: Floats) -> float:
    """Mean squared distance of some draws from the mean, by the covariance of all."""
    return float((some * np.linalg.solve(_cov(y), some.T).T).sum(axis=1).mean())


def _coordinate(request: EstimateRequest, d: int) -> str:
    names = getattr(request.model, "names", None)
    return str(names[d]) if names else f"z[{d}]"


def _heavier(request: EstimateRequest) -> str:
    """A q with heavier tails than this one."""
    return "a StudentT of df = 5" if isinstance(request.q, Gaussian) else "a Mixture"
