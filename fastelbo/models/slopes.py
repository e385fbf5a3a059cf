"""log p(x, z) of a model at given z, and its gradient in z."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_unchecked_floats, constant
from ..errors import InvalidInputError
from ..kernels.cpu import gradients
from ..kernels.cpu.launch import launch, new_counter
from ..kernels.draws.blocks import CALLED, SUPPLIED, ZERO, Term
from ..validation import Floats, require_finite
from .called import CalledDensity
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
        terms = [gradient_term(each, own, frame) for each in (model.prior, model.likelihood)]

    def fill(rows: slice) -> None:
        counter = new_counter()
        work = values[rows].size * (2 * (model.prior.work + model.likelihood.work) + _DRAW_WORK)
        launch(
            gradients.joint_slopes, *terms, constant(frame.centre), constant(points[rows]),
            values[rows], slopes[rows], counter, work=work, counter=counter,
        )  # fmt: skip

    fill(slice(None))
    if any(each.kind == CALLED for each in terms):
        # A block ends at the first draw at which a function raises an error.
        for k in np.flatnonzero(np.isnan(values).any(axis=1)):
            fill(slice(k, k + 1))
    for part in (model.prior, model.likelihood):
        if isinstance(part, HostDensity):
            value, slope = part.log_prob_and_gradient(points.reshape(-1, *batch, model.dim))
            values += value.reshape(values.shape)
            slopes += slope.reshape(slopes.shape)
    return values.reshape(shape), slopes.reshape(*shape, model.dim)


def gradient_term(density: LogDensity, points: Points, frame: Frame) -> Term:
    """The term of a density for kernels of gradients: a user's function comes with its slopes.

    That of a function on the host has neither values nor slopes.
    """
    term = density.term(points, frame)
    if isinstance(density, HostDensity):
        return term._replace(kind=ZERO)
    if term.kind == SUPPLIED:
        raise InvalidInputError("model must have a density that is known at any z")
    return (
        term._replace(call=density._gradient_call) if isinstance(density, CalledDensity) else term
    )


def _centre(model: LatentModel, points: Points) -> Floats:
    """A point near the latents, from which coordinates are measured: that of the prior, or 0."""
    if isinstance(model.prior, Elliptical):
        return exact_centre(model.prior._components, points)
    return np.zeros((1, model.dim))
