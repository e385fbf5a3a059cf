"""log p(x, z) of a model at given z, and its gradient in z."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_unchecked_floats, constant
from ..errors import InvalidInputError
from ..kernels.cpu import gradients
from ..kernels.cpu.launch import launch, new_counter
from ..kernels.draws.blocks import CALLED, NO_CALL, SUPPLIED, ZERO, Call, Term
from ..validation import Floats, require_finite
from .distributions import Elliptical
from .host import HostDensity
from .joint import by_member
from .lowering import exact_centre
from .protocol import Frame, LatentModel, LogDensity, Points

# Fixed cost of a draw, in multiply-adds.
_DRAW_WORK = 64


def log_joint_and_gradient(model: LatentModel, z: ArrayLike) -> tuple[Floats, Floats]:
    """log p(x, z) in nats, and its gradient in z.

    Parameters
    ----------
    model : LatentModel
        A distribution, or a model whose prior and likelihood have gradients.
    z : array_like, shape (..., *batch_shape, D)
        Latent points; the leading axes broadcast against `batch_shape`.

    Returns
    -------
    values, slopes : ndarray
        Shapes ``broadcast(z.shape[:-1], batch_shape)``, and the same with D behind it.

    Raises
    ------
    InvalidInputError
        For points of a wrong shape or that are not finite, and for a model without gradients.
    """
    given = as_unchecked_floats(z, "z")
    points, shape, batch = by_member(given, model.dim, model.batch_shape)
    require_finite(given, "z")
    values, slopes = np.empty(points.shape[:2]), np.empty(points.shape)
    own = Points(batch)
    frame = Frame(_centre(model, own), None, None)
    with np.errstate(all="ignore"):
        prior, likelihood = (_term(each, own, frame) for each in (model.prior, model.likelihood))
    if SUPPLIED in (prior.kind, likelihood.kind):
        raise InvalidInputError("model must have a density that is known at any z")
    calls = gradient_calls(model, prior, likelihood)

    def fill(rows: slice) -> None:
        counter = new_counter()
        work = values[rows].size * (2 * (model.prior.work + model.likelihood.work) + _DRAW_WORK)
        launch(
            gradients.joint_slopes, prior, likelihood, calls, constant(frame.centre),
            constant(points[rows]), values[rows], slopes[rows], counter,
            work=work, counter=counter,
        )  # fmt: skip

    fill(slice(None))
    if CALLED in (prior.kind, likelihood.kind):
        # A block ends at the first draw at which a function raises an error.
        for k in np.flatnonzero(np.isnan(values).any(axis=1)):
            fill(slice(k, k + 1))
    for part in (model.prior, model.likelihood):
        if isinstance(part, HostDensity):
            value, slope = part.log_prob_and_gradient(points.reshape(-1, *batch, model.dim))
            values += value.reshape(values.shape)
            slopes += slope.reshape(slopes.shape)
    return values.reshape(shape), slopes.reshape(*shape, model.dim)


def _term(density: LogDensity, points: Points, frame: Frame) -> Term:
    """A term; that of a function on the host is added apart, and is 0 here."""
    term = density.term(points, frame)
    return term._replace(kind=ZERO) if isinstance(density, HostDensity) else term


def _centre(model: LatentModel, points: Points) -> Floats:
    """A point near the latents, from which coordinates are measured: that of the prior, or 0."""
    if isinstance(model.prior, Elliptical):
        return exact_centre(model.prior._components, points)
    return np.zeros((1, model.dim))


def gradient_calls(model: LatentModel, prior: Term, likelihood: Term) -> tuple[Call, Call]:
    """What kernels call for gradients of users' functions among prior and likelihood."""
    return _gradient_call(model.prior, prior), _gradient_call(model.likelihood, likelihood)


def _gradient_call(density: object, term: Term) -> Call:
    if term.kind != CALLED:
        return NO_CALL
    # Some data points of a user's function have it, too.
    call = getattr(density, "_gradient_call", None)
    if not isinstance(call, Call):
        raise InvalidInputError(f"model must have a gradient, got {density!r}")
    return call
