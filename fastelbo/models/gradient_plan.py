"""Which products of rows a gradient needs, and how their means become gradients.

Rows are those of `kernels.draws.gradient_rows`. For a linear-Gaussian model, the scores are
``t = Psi^-1 (x - b - W z)`` and, of a Gaussian prior, ``s = S0^-1 (z - m0)``. The gradients of
log p(x, z) are t z' (loadings), t (offset), (t t' - Psi^-1) / 2 (noise), s (prior's mean), and
(s s' - S0^-1) / 2 (its covariance, of which all entries are free).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import constant
from ..errors import InvalidInputError
from ..kernels.draws.blocks import NO_CALL, padded
from ..kernels.draws.gradient_rows import GradientPlan, Rows
from ..kernels.state.estimators import SCORE, TOTAL, VIMCO
from ..validation import Floats, Integers
from .linear_gaussian import LinearGaussian
from .location_scale import Gaussian, LocationScale
from .lowering import finite_inverse
from .plans import plan
from .protocol import Frame, LatentModel, Points
from .slopes import gradient_calls
from .terms import Supplied


class Asked(NamedTuple):
    """A gradient that is asked for."""

    model: LatentModel
    q: LocationScale
    wrt: Collection[str]  # "q", "model", "log_scale"
    kind: int  # the estimator, of `kernels.state.estimators`
    alpha: float
    k: int

    @property
    def of_q(self) -> bool:
        """Whether gradients of q are asked for."""
        return "q" in self.wrt or "log_scale" in self.wrt

    @property
    def of_model(self) -> LinearGaussian | None:
        """The model, where its gradients are asked for."""
        return (
            self.model if "model" in self.wrt and isinstance(self.model, LinearGaussian) else None
        )

    @property
    def by_scores(self) -> bool:
        """Whether gradients of log p are not needed for those of q."""
        return self.kind in (VIMCO, SCORE)


class Parameter(NamedTuple):
    """A parameter, the products of its gradient, and where they go."""

    name: str
    batch: tuple[int, ...]  # its own
    event: tuple[int, ...]
    left: list[int]
    right: list[int]
    # The place of each product among the entries of the event, and of their mirror images.
    places: NDArray[np.int64]
    mirror: NDArray[np.int64] | None = None

    def spread(self, values: Floats) -> Floats:
        """Numbers of products (n, products), as (n, *event)."""
        out = np.zeros((len(values), math.prod(self.event)))
        out[:, self.places] = values
        if self.mirror is not None:
            out[:, self.mirror] = values
        return out.reshape(len(values), *self.event)


def rows_of(asked: Asked) -> Rows:
    """Where the rows are."""
    dim = asked.q.dim
    size, count = padded(dim), 1
    score = y = g = own = z = model = weighted = -1
    if asked.of_q:
        score, y, g = count, count + 1, count + 1 + dim
        own = g + size
        count = own + dim
    linear = asked.of_model
    if linear is not None:
        scores = padded(linear.loadings.shape[0] + dim)
        z, model = count, count + size
        weighted = model if asked.k == 1 else model + scores
        count = weighted + scores
    return Rows(0, score, y, g, own, z, model, weighted, count)


def parameters(asked: Asked) -> list[Parameter]:
    """The parameters in the order of their products."""
    rows, found = rows_of(asked), []
    if asked.of_q:
        found += _of_q(asked, rows)
    if asked.of_model is not None:
        found += _of_model(asked.of_model, rows)
    return found


def _of_q(asked: Asked, rows: Rows) -> list[Parameter]:
    q, dim = asked.q, asked.q.dim
    own, each = q._parameter_shapes(), np.arange(dim)
    mean = Parameter(
        "mean", own["mean"], (dim,), [rows.g + d for d in range(dim)], [rows.ones] * dim, each
    )
    places, left, right = [], [], []
    for d in range(dim):
        for e in range(d + 1 if q.scale is None else 0):
            if e < d:
                places.append(d * dim + e)
                left.append(rows.g + d)
                right.append(rows.y + e)
        places.append(d * dim + d)
        left.append(rows.score if asked.by_scores else rows.g + d)
        right.append(rows.own + d if asked.by_scores else rows.y + d)
    if q.scale is None:
        scale = Parameter(
            "scale_tril", own["scale_tril"], (dim, dim), left, right, np.array(places)
        )
    else:
        name = "log_scale" if "log_scale" in asked.wrt else "scale"
        scale = Parameter(name, own["scale"], (dim,), left, right, each)
    return [mean, scale]


def _of_model(model: LinearGaussian, rows: Rows) -> list[Parameter]:
    features, dim = model.loadings.shape
    t, tw = rows.model, rows.weighted
    grid = [(p, d) for p in range(features) for d in range(dim)]
    found = [
        Parameter(
            "loadings", (), (features, dim), [tw + p for p, _ in grid],
            [rows.z + d for _, d in grid], np.arange(features * dim),
        ),
        Parameter(
            "offset", (), (features,), [tw + p for p in range(features)], [rows.ones] * features,
            np.arange(features),
        ),
    ]  # fmt: skip
    if model.noise_cov.ndim == 1:
        every = range(features)
        found.append(
            Parameter(
                "noise_cov", (), (features,), [tw + p for p in every], [t + p for p in every],
                np.arange(features),
            )
        )  # fmt: skip
    else:
        found.append(_square("noise_cov", (), features, tw, t))
    prior = model.prior
    if isinstance(prior, Gaussian):
        own = prior._parameter_shapes()
        found.append(
            Parameter(
                "prior_mean", own["mean"], (dim,), [tw + features + d for d in range(dim)],
                [rows.ones] * dim, np.arange(dim),
            )
        )  # fmt: skip
        batch = own["scale_tril" if prior.scale is None else "scale"]
        found.append(_square("prior_cov", batch, dim, tw + features, t + features))
    return found


def _square(name: str, batch: tuple[int, ...], size: int, left: int, right: int) -> Parameter:
    """A matrix of products of the same vector."""
    one, two = np.tril_indices(size)
    return Parameter(
        name, batch, (size, size), (left + one).tolist(), (right + two).tolist(), one * size + two,
        two * size + one,
    )  # fmt: skip


class Lowered(NamedTuple):
    """What kernels read for some data points, and what their means are multiplied by and get."""

    plan: GradientPlan
    factor: Floats  # (n or 1, products)
    added: Floats  # (n or 1, products)


@np.errstate(all="ignore")
def lower(asked: Asked, points: Points, wanted: list[Parameter]) -> Lowered:
    """The plan of some data points. The engine puts in what a function on the host gives."""
    model, q, dim = asked.model, asked.q, asked.q.dim
    made = plan(model, q, points)
    slopes = asked.of_q and not asked.by_scores
    if slopes and any(isinstance(part, Supplied) for part in (model.prior, model.likelihood)):
        raise InvalidInputError(
            f"model must have a gradient in z, and supplied values have none; got {model!r}"
        )
    calls = gradient_calls(model, made.prior, made.likelihood) if slopes else _NO_CALLS
    frame = q.source(points).frame
    inverse = _NO_MATRIX if frame.scale_tril is None else finite_inverse(frame.scale_tril)
    if frame.scale_tril is None:
        own = np.ones((1, dim))
    else:
        own = 1.0 / np.diagonal(frame.scale_tril, axis1=-2, axis2=-1)
    affine, start = np.zeros((1, 0, padded(dim))), np.zeros((1, 0))
    if asked.of_model is not None:
        affine, start = _scores(asked.of_model, points, frame)
    scale = frame.scale_tril if frame.scale is None else frame.scale[:, None, :]
    assert scale is not None
    left, right = (
        np.array([row for each in wanted for row in getattr(each, side)], np.int64)
        for side in ("left", "right")
    )
    arrays = (
        left, right, _padded_matrix(inverse, dim), own, _padded_last(frame.centre, dim),
        _padded_matrix(scale, dim), affine, start,
    )  # fmt: skip
    lowered = GradientPlan(
        made, calls, asked.kind, asked.alpha, asked.k, slopes, rows_of(asked),
        *map(constant, (*arrays, _NO_GIVEN)),
    )  # fmt: skip
    factor, added = _readings(asked, points, frame, own, wanted)
    return Lowered(lowered, factor, added)


_NO_GIVEN = np.zeros((1, 0, 0))
_NO_MATRIX = np.zeros((1, 0, 0))
_NO_CALLS = NO_CALL, NO_CALL


def _padded_last(array: Floats, dim: int) -> Floats:
    """The last axis, of length D, with zeros behind it."""
    behind = [(0, 0)] * (array.ndim - 1) + [(0, padded(dim) - dim)]
    return np.pad(array, behind)


def _padded_matrix(array: Floats, dim: int) -> Floats:
    """Matrices (n, 0, 0), (n, 1, D) or (n, D, D), of padded D."""
    if array.shape[1] == 0:
        return array
    more = padded(dim) - dim
    return np.pad(array, [(0, 0), (0, more if array.shape[1] > 1 else 0), (0, more)])


def precisions(model: LinearGaussian) -> Floats:
    """Psi^-1: (P,) reciprocals of variances, or (P, P)."""
    whitener = model.likelihood.reduced.whitener
    if model.noise_cov.ndim == 1:
        return np.asarray(whitener[0] * whitener[0])
    return np.asarray(whitener.T @ whitener)


def prior_precision(prior: Gaussian, points: Points) -> Floats:
    """S0^-1, (n or 1, D, D)."""
    if prior.scale is not None:
        scale = points.select(prior.scale, 1)
        return np.asarray((1.0 / scale**2)[..., None] * np.eye(prior.dim))
    assert prior.scale_tril is not None
    inverse = finite_inverse(points.select(prior.scale_tril, 2))
    return np.asarray(np.swapaxes(inverse, -1, -2) @ inverse)


def _scores(model: LinearGaussian, points: Points, frame: Frame) -> tuple[Floats, Floats]:
    """(affine, start) of the scores, ``start + affine (z - centre)``."""
    features, dim = model.loadings.shape
    precision, centre = precisions(model), frame.centre
    residual = points.select(model.x, 1) - model.offset
    residual = residual - (model.loadings @ centre[..., None])[..., 0]
    if precision.ndim == 1:
        pull, start = -precision[:, None] * model.loadings, precision * residual
    else:
        pull, start = -precision @ model.loadings, (precision @ residual[..., None])[..., 0]
    affine, prior = pull[None], model.prior
    if isinstance(prior, Gaussian):
        own = prior_precision(prior, points)
        moved = centre - points.select(prior.mean, 1)
        shift = (own @ moved[..., None])[..., 0]
        affine = np.concatenate([np.broadcast_to(affine, (len(own), features, dim)), own], axis=1)
        count = max(len(start), len(shift))
        start = np.concatenate(
            [np.broadcast_to(each, (count, each.shape[1])) for each in (start, shift)], axis=1
        )
    more = padded(features + dim) - affine.shape[1]
    affine = np.pad(affine, [(0, 0), (0, more), (0, padded(dim) - dim)])
    return affine, np.pad(start, [(0, 0), (0, more)])


def _readings(
    asked: Asked, points: Points, frame: Frame, own: Floats, wanted: list[Parameter]
) -> tuple[Floats, Floats]:
    """By what means of products are multiplied, and what is added then."""
    dim, factors, added = asked.q.dim, [], []
    total = 1.0 if asked.kind == TOTAL else 0.0
    for each in wanted:
        factor, more = np.ones((1, len(each.left))), np.zeros((1, len(each.left)))
        if each.name in ("mean", "scale") and frame.scale is not None:
            factor = 1.0 / frame.scale
        if each.name in ("scale", "log_scale"):
            more = total * factor
        elif each.name == "scale_tril":
            more = np.zeros((len(own), len(each.left)))
            more[:, [(d + 1) * (d + 2) // 2 - 1 for d in range(dim)]] = total * own
        elif each.name == "noise_cov":
            assert asked.of_model is not None
            factor, more = 0.5 * factor, _minus_half(precisions(asked.of_model)[None], each)
        elif each.name == "prior_cov":
            assert asked.of_model is not None
            prior = asked.of_model.prior
            factor, more = 0.5 * factor, _minus_half(prior_precision(prior, points), each)
        factors.append(factor)
        added.append(more)
    return _joined(factors), _joined(added)


def _minus_half(precision: Floats, parameter: Parameter) -> Floats:
    """-1/2 of the entries that products have."""
    return np.asarray(-0.5 * precision.reshape(len(precision), -1)[:, parameter.places])


def _joined(parts: list[Floats]) -> Floats:
    """Columns side by side; rows that all share become as many as the others."""
    if not parts:
        return np.zeros((1, 0))
    count = max(len(each) for each in parts)
    return np.concatenate([np.broadcast_to(each, (count, each.shape[1])) for each in parts], 1)


def order(wanted: list[Parameter]) -> Integers:
    """Where the products of each parameter begin, and the end."""
    return np.cumsum([0, *(len(each.left) for each in wanted)])
