"""What is known about a draw whose log weight is bad: the call that makes it, and the reason."""

from __future__ import annotations

import math

from ..models.compiled import CompiledDensity
from ..models.single_draw import draw
from .task import EstimateRequest


def about_draw(request: EstimateRequest, i: int, k: int) -> str:
    """A text on draw k of data point i. Users' functions are called there in plain Python."""
    text = f"{request.draw_call(i, k)} makes that draw"
    z = draw(
        request.q, i, k, key=request.key, first_index=request.first_index,
        batch_shape=request.batch, precision=request.precision,
    )  # fmt: skip
    for density in (request.model.likelihood, request.model.prior):
        if isinstance(density, CompiledDensity):
            own = i % math.prod(density.batch_shape)
            text += f", at which, in plain Python, {density.outcome(z, own)}"
    return text
