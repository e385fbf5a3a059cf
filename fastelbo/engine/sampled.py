"""The quantities of the draws of one q, or of several, and what is known of these draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..progress import progress_bar
from ..weights.pareto import Counts
from .advice import advice
from .bad_draws import about_draw
from .estimates_with_moments import MomentsOfSlices, WithMoments
from .requests import Chooser
from .resume import Resume
from .rotation import with_rotation
from .states import Quantities
from .stratified import Strata
from .targets import Target, about_draws, grouped_quantities, mean_request, pilot_of, sizes_for
from .task import Backend, EstimateRequest


class Following(NamedTuple):
    """Whether the moments of the posterior are wanted, and k-hats of their errors."""

    moments: bool
    checks: bool


class Sampled(NamedTuple):
    """Quantities, and where they come from."""

    request: EstimateRequest  # its key is that of the draws
    values: Quantities
    counts: Counts  # draws of each data point
    piloted: int  # draws before these
    about: Callable[[int, int], str]  # a text on draw k of data point i
    moments: MomentsOfSlices
    advice: Callable[[int], str] | None = None  # what to change in the q of data point i
    proposals: int = 1


def of_one_q(
    request: EstimateRequest, target: Target | None, rotates: bool, backend_for: Chooser,
    follow: Following, progress: bool, resume: Resume,
) -> Sampled:  # fmt: skip
    """From as many draws as the request or the target says."""
    turned = 0
    if rotates:
        request, turned = with_rotation(request, backend_for(request))
    sizes, alike, piloted = None, request, turned
    if target is not None:
        pilot = pilot_of(request, target)
        piloted += pilot.n_samples
        sizes = sizes_for(target, pilot, request.form.iw_sizes, backend_for(pilot))
        alike = mean_request(request, sizes)
    backend = backend_for(alike)
    followed = WithMoments(backend, follow.checks)
    used = followed if follow.moments else backend
    with progress_bar(progress, alike.points * alike.n_samples) as tick:
        if sizes is None:
            values = resume.quantities(used, request, tick)
        else:
            values = grouped_quantities(request, sizes, used, tick)
    return Sampled(
        request, values,
        request.n_samples if sizes is None else sizes,
        piloted,
        partial(about_draw, request) if sizes is None else about_draws(request, sizes),
        followed.found,
        partial(advice, alike, backend),
    )  # fmt: skip


def of_several_q(strata: Strata, backend: Backend, follow: Following, progress: bool) -> Sampled:
    """From the draws of all q together."""
    request = strata.pooled
    followed = MomentsOfSlices(strata, backend, follow.checks)
    with progress_bar(progress, request.points * request.n_samples) as tick:
        values = strata.quantities(backend, tick, followed.add if follow.moments else None)
    # Estimates of one q with the same seed have other draws.
    addressed = request._replace(key=strata.parts[0].key)
    return Sampled(
        addressed, values, request.n_samples, 0, strata.about, followed,
        proposals=len(strata.parts),
    )  # fmt: skip
