"""What is known about a draw whose log weight is bad: the call that makes it, and the reason."""

from __future__ import annotations

import math

import numpy as np

from ..kernels.cpu import launch
from ..models.compiled import CompiledDensity
from ..models.plans import draw_sampler
from ..models.protocol import Points
from .task import EstimateRequest


def about_draw(request: EstimateRequest, i: int, k: int) -> str:
    """A text on draw k of data point i. Users' functions are called there in plain Python."""
    model, design = request.model, request.design
    own = [each for each in (model.likelihood, model.prior) if isinstance(each, CompiledDensity)]
    if design is None and not own:
        return f"{request.draw_call(i, k)} makes that draw"
    sampler = draw_sampler(
        request.q, Points(request.batch, slice(i, i + 1)), request.precision, design
    )
    address = request.first_index + i
    one = launch.sample(
        sampler, 1, 1, request.q.dim, request.key, first_index=address, first_draw=k
    )
    z = np.asarray(one[0, 0], dtype=np.float64)
    text = f"{request.draw_call(i, k)} makes that draw"
    if design is not None:
        # Its points and its rotation are not arguments of a call.
        text = f"That draw is z = {np.array2string(z, threshold=20, separator=', ')}"
    if not own:
        return text
    outcomes = (each.outcome(z, i % math.prod(each.batch_shape)) for each in own)
    return f"{text}, at which, in plain Python, {'; '.join(outcomes)}"
