"""Gradients from draws of a single location-scale q: launches, folds, and sums over data points."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...arrays.inputs import constant
from ...errors import InvalidInputError, InvalidWeightError
from ...kernels.cpu import gradients
from ...kernels.cpu.launch import SLICE_NUMBERS, Pace, launch, new_counter
from ...kernels.draws.blocks import CHUNK
from ...kernels.draws.gradient_rows import GradientPlan
from ...kernels.state.estimators import VIMCO
from ...kernels.state.product_moments import BAD_SLOPE, BAD_WEIGHT, EMPTY, HEAD, ZEROS
from ...models.gradient_plan import Asked, lower, order, parameters
from ...models.protocol import Points
from ...progress import Tick
from ...validation import Floats
from ...weights.bounds import Bound
from ..bad_draws import about_draw
from ..host import group_size, slopes_of
from ..lowered import host_densities
from ..task import EstimateRequest
from .exact import PointSums

# Multiply-adds of the first launch, and the fixed cost of a draw.
_FIRST_WORK = 2**28
_DRAW_WORK = 64


class Sampled(NamedTuple):
    """Bound and gradients; data points that have a group without a weight; draws of weight 0."""

    value: Bound
    gradients: dict[str, Bound]
    empty: int
    zeros: int


def sampled_gradient(
    asked: Asked,
    request: EstimateRequest,
    n_groups: int,
    per_point: bool,
    heavy: NDArray[np.bool_],
    n_threads: int | None,
    tick: Tick,
) -> Sampled:
    """The bound and its gradients from ``n_groups`` groups of draws of each data point.

    ``heavy`` data points have no standard error.
    """
    wanted, batch = parameters(asked), request.batch
    bounds, size = order(wanted), HEAD + 2
    size += 2 * int(bounds[-1])
    sums = {
        each.name: tuple(
            PointSums(batch, batch if per_point else each.batch, each.event) for _ in range(2)
        )
        for each in wanted
    }
    value = tuple(PointSums(batch, batch if per_point else (), ()) for _ in range(2))
    linear = asked.of_model
    own = request.work + (0 if linear is None else (linear.loadings.size + asked.q.dim**2))
    work = asked.k * (3 * request.work + _DRAW_WORK) + int(bounds[-1]) * asked.k
    group, empty, zeros = group_size(request), 0, 0
    if host_densities(request):
        own += (asked.q.dim + 1) * max(CHUNK, asked.k)
    # Slices begin where batches of a function on the host begin.
    most = group * max(1, SLICE_NUMBERS // (size + own) // group)
    pace = Pace(max(1, _FIRST_WORK // work))
    for lo in range(0, request.points, most):
        rows = slice(lo, min(lo + most, request.points))
        lowered = lower(asked, Points(batch, rows), wanted)
        plans = _plans(lowered.plan, request, rows, n_threads)
        states = _folded(plans, asked.k, request, rows, n_groups, size, work, n_threads, pace, tick)
        _refuse(asked, request, rows, states)
        without = states[:, EMPTY] > 0.0
        empty += int(without.sum())
        zeros += int(states[:, ZEROS].sum())
        count = (size - HEAD) // 2
        means, squares = states[:, HEAD : HEAD + count], states[:, HEAD + count :]
        with np.errstate(all="ignore"):
            spread = squares / (n_groups * (n_groups - 1.0))
            means[without], spread[without] = np.nan, np.nan
            means[without, 0], spread[heavy[rows], 0] = -np.inf, np.nan
            value[0].add(rows, means[:, 0])
            value[1].add(rows, spread[:, 0])
            means = means[:, 1:] * lowered.factor + lowered.added
            spread = spread[:, 1:] * lowered.factor**2
            _refuse_overflow(means[~without], spread[~without], n_groups)
            spread[heavy[rows]] = np.nan
            for each, first, stop in zip(wanted, bounds[:-1], bounds[1:], strict=True):
                for total, numbers in zip(sums[each.name], (means, spread), strict=True):
                    total.add(rows, each.spread(numbers[:, first:stop]))
    with np.errstate(all="ignore"):
        found = {name: Bound(a.total(), np.sqrt(b.total())) for name, (a, b) in sums.items()}
        return Sampled(Bound(value[0].total(), np.sqrt(value[1].total())), found, empty, zeros)


# plans(first, stop): the plan for draws first to stop.
_Plans = Callable[[int, int], GradientPlan]


def _plans(
    plan: GradientPlan, request: EstimateRequest, rows: slice, n_threads: int | None
) -> _Plans:
    """The plan, with what functions on the host give."""
    if not host_densities(request):
        return lambda first, stop: plan
    found = slopes_of(request, rows, n_threads, plan.slopes)

    def with_values(first: int, stop: int) -> GradientPlan:
        own, given = found(first, stop)
        return plan._replace(plan=own, given=given, given_first=first)

    return with_values


def _folded(
    plans: _Plans,
    k: int,
    request: EstimateRequest,
    rows: slice,
    n_groups: int,
    size: int,
    work: int,
    n_threads: int | None,
    pace: Pace,
    tick: Tick,
) -> Floats:
    """The states of some data points, from all chunks of their groups."""
    points = rows.stop - rows.start
    per_chunk = max(1, CHUNK // k)
    chunks = -(-n_groups // per_chunk)
    prefix = np.zeros((points, size))
    prefix[:, [BAD_WEIGHT, BAD_SLOPE]] = -1.0
    places = constant(np.arange(rows.start, rows.stop))
    first = 0
    while first < chunks:
        most = SLICE_NUMBERS // (points * size)
        if host_densities(request):
            most = min(most, SLICE_NUMBERS // (points * (request.q.dim + 1) * per_chunk * k))
        step = min(chunks - first, max(1, most), max(1, pace.size // (points * per_chunk)))
        states, counter = np.empty((points, step, size)), new_counter()
        groups = min(n_groups, (first + step) * per_chunk) - first * per_chunk
        plan = plans(first * per_chunk * k, (first * per_chunk + groups) * k)
        with pace:
            launch(
                gradients.gradient_states, plan, np.uint64(request.key), request.first_index,
                places, n_groups, first, states, counter, n_threads=n_threads,
                work=points * groups * work, counter=counter,
            )  # fmt: skip
        launch(gradients.fold_gradients, states, prefix, n_threads=n_threads)
        tick(points * groups * k)
        first += step
    return prefix


def _refuse_overflow(means: Floats, spread: Floats, n_groups: int) -> None:
    if not np.isfinite(means).all() or (n_groups > 1 and np.isnan(spread).any()):
        raise InvalidInputError(
            "model and q must differ less in size: on the way to the gradient, products and ratios "
            "of their parameters are beyond the largest float"
        )


def _refuse(asked: Asked, request: EstimateRequest, rows: slice, states: Floats) -> None:
    """Errors for bad log weights, and for gradients that are not finite."""
    weight, slope = states[:, BAD_WEIGHT], states[:, BAD_SLOPE]
    if (weight >= 0.0).any():
        i = int(np.argmax(weight >= 0.0))
        point, draw = rows.start + i, int(weight[i])
        raise InvalidWeightError(
            f"the log weight of data point {point}, draw {draw}, is NaN or +inf: a density "
            f"overflowed, or q is 0 where the model is positive. {about_draw(request, point, draw)}"
        )
    if (slope >= 0.0).any():
        i = int(np.argmax(slope >= 0.0))
        point, draw = rows.start + i, int(slope[i])
        why = "and its weight is not 0"
        if asked.kind == VIMCO:
            why = 'as all other weights of its group are 0: estimator="vimco" compares with them'
        raise InvalidWeightError(
            f"the gradient at data point {point}, draw {draw}, is not finite, {why}. "
            f"{about_draw(request, point, draw)}"
        )
