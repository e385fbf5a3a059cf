"""The plan of a model and a q for some data points, in a precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.inputs import constant
from ..errors import InvalidInputError
from ..kernels.draws.blocks import Density, Plan, Real, Sampler, Term
from ..kernels.draws.radial import STUDENT_T
from .lowering import sampler_of_draws
from .nets import Design
from .protocol import LatentModel, Points, Proposal


def plan(
    model: LatentModel,
    q: Proposal,
    points: Points,
    precision: str = "float64",
    design: Design | None = None,
) -> Plan:
    """What the kernels read to draw from q, and to weigh by the model, those data points."""
    sampler, frame, own = q.source(points)
    if design is not None:
        sampler = design.sampler(sampler, points)
    prior, likelihood = (part.term(points, frame) for part in (model.prior, model.likelihood))
    double = Plan(sampler, own, prior, likelihood, q.dim)
    return double if precision == "float64" else _single_plan(double)


def draw_sampler(
    q: Proposal, points: Points, precision: str, design: Design | None = None
) -> Sampler:
    """The sampler of the draws of q for those data points, the same draws as by `plan`."""
    sampler = sampler_of_draws(q.source(points))
    if design is not None:
        sampler = design.sampler(sampler, points)
    return sampler if precision == "float64" else _single_sampler(sampler)


def work_of_draw(model: LatentModel, q: Proposal) -> int:
    """About the multiply-adds of one draw, and the numbers that a data point adds to a plan."""
    return max(1, q.work + model.prior.work + model.likelihood.work)


# Squares and their sums stay below the largest float32, 3e38.
_SINGLE_MAX = 1e15
# Beyond, a Student-t is a Gaussian to the last digit.
_SINGLE_MOST_DF = 1e30


def _single(array: Real) -> Any:
    """The array in float32, or an error where squares would overflow."""
    largest = float(np.abs(array).max(initial=0.0))
    if not largest <= _SINGLE_MAX:
        raise InvalidInputError(
            f'precision must be "float64" for this model and q: a number of {largest:g} among '
            f"their lowered parameters, ratios of scales and of distances to scales, is above the "
            f"{_SINGLE_MAX:g} that float32 allows"
        )
    with np.errstate(under="ignore"):
        return constant(array.astype(np.float32))


def single_density(density: Density) -> Density:
    """The density in float32, but for its constants, which may be large."""
    df = density.df
    if density.radial == STUDENT_T:
        df = np.where(df < _SINGLE_MOST_DF, df, np.inf)
    if density.shift.size:
        # What a kernel computes in the place of a target.
        _single(_whitened(density.factor, density.shift))
    return density._replace(
        factor=_single(density.factor),
        target=_single(density.target),
        shift=_single(density.shift),
        df=constant(df.astype(np.float32)),
    )


@np.errstate(over="ignore", under="ignore")
def _whitened(factor: Real, shift: Real) -> Any:
    """F shift of each component."""
    if factor.shape[2] == 1:
        return factor[:, :, 0] * shift
    return (factor @ shift[..., None])[..., 0]


def _single_term(term: Term) -> Term:
    return term._replace(density=single_density(term.density))


def _single_sampler(sampler: Sampler) -> Sampler:
    names = ("location", "scale", "rotation")
    return sampler._replace(**{name: _single(getattr(sampler, name)) for name in names})


def _single_plan(plan: Plan) -> Plan:
    """The plan in float32; which component, and how many proposals, is settled in float64."""
    return Plan(
        _single_sampler(plan.sampler),
        _single_term(plan.q),
        _single_term(plan.prior),
        _single_term(plan.likelihood),
        plan.dim,
    )
