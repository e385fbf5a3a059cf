"""Gradients from draws of a single location-scale q in plain NumPy, which stores all of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidWeightError
from ...models.gradient_plan import Asked, parameters
from ...reference.gradients import elbo_gradients
from ...validation import Floats, require_memory
from ...weights.bounds import Bound
from ..task import EstimateRequest
from .exact import PointSums
from .states import Sampled


@np.errstate(all="ignore")
def plain_gradient(
    asked: Asked,
    estimator: str,
    request: EstimateRequest,
    n_groups: int,
    per_point: bool,
    heavy: NDArray[np.bool_],
) -> Sampled:
    """As `gradient_states.sampled_gradient`, without kernels."""
    batch, points = request.batch, request.points
    wanted = parameters(asked)
    numbers = sum(math.prod(each.event) for each in wanted)
    require_memory('gradients of backend="numpy"', 8 * points * n_groups * asked.k * numbers)
    found = elbo_gradients(
        asked.model, asked.q, batch, request.key, request.first_index, n_groups, asked.k,
        estimator, asked.alpha, asked.of_model is not None,
    )  # fmt: skip
    bound = found["value"]
    if not (bound < np.inf).all():
        i, g = np.argwhere(~(bound < np.inf))[0]
        raise InvalidWeightError(
            f"a log weight of data point {i}, draws {g * asked.k} to {(g + 1) * asked.k - 1}, is "
            "NaN or +inf"
        )
    if "scale" in found and "log_scale" in asked.wrt:
        assert asked.q.scale is not None
        scale = np.broadcast_to(asked.q.scale, (*batch, asked.q.dim)).reshape(points, 1, -1)
        found["log_scale"] = found["scale"] * scale
    empty = np.isneginf(bound).any(axis=1)
    every = slice(0, points)

    def summed(values: Floats, own: tuple[int, ...], event: tuple[int, ...]) -> Bound:
        totals = [PointSums(batch, batch if per_point else own, event) for _ in range(2)]
        mean = values.mean(axis=1)
        squares = np.square(values - mean[:, None]).sum(axis=1)
        squares[heavy] = np.nan
        totals[0].add(every, mean)
        totals[1].add(every, squares / (n_groups * (n_groups - 1.0)))
        return Bound(totals[0].total(), np.sqrt(totals[1].total()))

    gradients = {}
    for each in wanted:
        values = found[each.name]
        bad = np.isfinite(bound) & ~np.isfinite(values).all(axis=tuple(range(2, values.ndim)))
        if bad.any():
            i, g = np.argwhere(bad)[0]
            raise InvalidWeightError(
                f"the gradient by {each.name} of data point {i}, draws {g * asked.k} to "
                f"{(g + 1) * asked.k - 1}, is not finite"
            )
        values[empty] = np.nan
        gradients[each.name] = summed(values, each.batch, each.event)
    return Sampled(summed(bound, (), ()), gradients, int(empty.sum()), int(found["zeros"].sum()))
