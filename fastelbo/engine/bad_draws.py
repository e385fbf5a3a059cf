"""What is known about a draw whose log weight is bad: the call that makes it, and the reason."""

from __future__ import annotations

import math

from ..models.compiled import CompiledDensity
from ..models.single_draw import draw
from .task import EstimateRequest


def about_draw(request: EstimateRequest, i: int, k: int) -> str:
    """A text on draw k of data point i. Users' functions are called there in plain Python."""
    text = f"{request.draw_call(i, k)} makes that draw"
    model = request.model
    own = [each for each in (model.likelihood, model.prior) if isinstance(each, CompiledDensity)]
    if not own:
        return text
    z = draw(
        request.q, i, k, key=request.key, first_index=request.first_index,
        batch_shape=request.batch, precision=request.precision,
    )  # fmt: skip
    outcomes = (each.outcome(z, i % math.prod(each.batch_shape)) for each in own)
    return f"{text}, at which, in plain Python, {'; '.join(outcomes)}"
