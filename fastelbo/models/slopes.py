"""log p(x, z) of a model at given z, and its gradient in z."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_unchecked_floats, constant
from ..errors import InvalidInputError
from ..kernels.cpu import gradients
from ..kernels.cpu.launch import launch, new_counter
from ..kernels.draws.blocks import SUPPLIED
from ..validation import Floats, require_finite
from .distributions import Elliptical
from .joint import by_member
from .lowering import exact_centre
from .protocol import Frame, LatentModel, Points

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
        prior, likelihood = (each.term(own, frame) for each in (model.prior, model.likelihood))
    if SUPPLIED in (prior.kind, likelihood.kind):
        raise InvalidInputError("model must have a density that is known at any z")
    counter = new_counter()
    work = values.size * (2 * (model.prior.work + model.likelihood.work) + _DRAW_WORK)
    launch(
        gradients.joint_slopes, prior, likelihood, constant(frame.centre), constant(points),
        values, slopes, counter, work=work, counter=counter,
    )  # fmt: skip
    return values.reshape(shape), slopes.reshape(*shape, model.dim)


def _centre(model: LatentModel, points: Points) -> Floats:
    """A point near the latents, from which coordinates are measured: that of the prior, or 0."""
    if isinstance(model.prior, Elliptical):
        return exact_centre(model.prior._components, points)
    return np.zeros((1, model.dim))
