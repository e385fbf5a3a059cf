"""Draws for a target standard error: a pilot, then one run whose size is fixed before it starts.

The error of a log evidence from K draws is sqrt(c / K). A pilot tells c of each data point: the
relative variance v of independent weights, or, of replicates, their squared error times the draws
that they took. For a target tau of each data point, K = margin c / tau^2. For a target of the total
K_i is proportional to sqrt(c_i), which needs the fewest draws (Neyman, 1934):
K_i = margin sqrt(c_i) sum_j sqrt(c_j) / tau^2. The margin makes up for the error of c. The error of
replicates falls faster than by 1 / sqrt(K), so that their K is on the safe side.

The pilot is drawn with a key of its own and thrown away. Draws that decide how many more there are
must not be among those of the estimate: a pilot without large weights has both a low mean and a
small variance, and nothing would make up for it. For v = 3 the estimate would be too low by up to a
tenth of tau, which is nothing for one data point, but four errors of the total of 1800.

Sizes are rounded up to a grid, so that there are few of them. Data points of one size are a request
of their own. A draw is a function of its address, so each of them has the draws, and to the bit the
result, of a plain estimate of that size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError, TargetErrorWarning
from ..kernels.draws.blocks import LANES
from ..models.nets import new_design
from ..progress import Tick, no_tick
from ..random import pilot_key
from ..validation import MAX_DRAWS, Floats, Integers, as_count, as_number, shown
from ..weights.diagnostics import constant_weights, places, refuse_bad_weights, warn
from ..weights.pareto import kept_draws
from ..weights.replicates import evidence_error
from .bad_draws import about_draw
from .states import Quantities, keeps_tails
from .task import Backend, EstimateRequest

DEFAULT_MOST_SAMPLES = 2**20
# Draws of a pilot, or points of each of its replicates.
PILOT_DRAWS = 1024
PILOT_POINTS = 64
# Which of the keys of pilots that are made from the one of the call.
_KEY = 2
_MARGIN = 1.2
# An error from few replicates is less certain.
_MARGIN_OF_REPLICATES = 1.5
# Sizes of independent draws, in blocks: each is at most a block or 9% above the one before.
_SIZES_AN_OCTAVE = 8
# The k-hat from which on weights have no variance.
_MOST_K = 0.5


class Target(NamedTuple):
    """A target standard error of the log evidence, in nats."""

    name: str  # of the argument that gave it
    se: float
    max_samples: int

    @property
    def of_total(self) -> bool:
        """Whether it is the error of the sum over all data points."""
        return self.name == "target_total_se"


def as_target(
    target_se: Any, target_total_se: Any, n_samples: Any, max_samples: Any
) -> Target | None:
    """The target that these arguments of `fastelbo.estimate` give; None for a given size."""
    named = {"target_se": target_se, "target_total_se": target_total_se}
    given = {name: value for name, value in named.items() if value is not None}
    if not given:
        if max_samples is not None:
            raise InvalidInputError(
                "max_samples must not be given without target_se or target_total_se; got "
                f"{shown(max_samples)}"
            )
        return None
    if len(given) > 1:
        raise InvalidInputError(
            "target_se and target_total_se must not both be given; got "
            f"{shown(target_se)} and {shown(target_total_se)}"
        )
    ((name, value),) = given.items()
    if n_samples is not None:
        raise InvalidInputError(
            f"n_samples must not be given with {name}, which sets the number of draws (max_samples "
            f"limits it); got {shown(n_samples)}"
        )
    se = as_number(value, name)
    if not 0.0 < se < math.inf:
        raise InvalidInputError(f"{name} must be positive and finite, got {shown(value)}")
    most = DEFAULT_MOST_SAMPLES
    if max_samples is not None:
        most = as_count(max_samples, "max_samples", below=MAX_DRAWS)
    return Target(name, se, most)


def pilot_of(request: EstimateRequest, target: Target) -> EstimateRequest:
    """The request for the pilot: other draws, and nothing but what tells how many are needed."""
    if target.of_total and request.batch != request.model.batch_shape:
        raise InvalidInputError(
            "target_total_se is for data points with draws of their own, but here only q has a "
            f"batch, so that there is no total; give target_se. The batch of the model is "
            f"{request.model.batch_shape}, that of q {request.q.batch_shape}"
        )
    key, design, draws = pilot_key(request.key, _KEY), request.design, PILOT_DRAWS
    if design is not None:
        draws = design.replicates * PILOT_POINTS
        if target.max_samples < draws:
            raise InvalidInputError(
                f"max_samples must be at least {draws}, {PILOT_POINTS} points of each of "
                f'{design.replicates} replicates, for sampler="sobol"; got {target.max_samples}'
            )
        own = new_design(request.q, request.batch, draws, design.replicates, design.transform, key)
        design = own._replace(rotation=design.rotation, rotation_kind=design.rotation_kind)
    form = request.form._replace(iw_sizes=(), capacity=kept_draws(draws))
    return request._replace(n_samples=draws, key=key, form=form, design=design)


def sizes_for(
    target: Target, pilot: EstimateRequest, iw_sizes: tuple[int, ...], backend: Backend
) -> Integers:
    """Draw the pilot. The number of draws of each data point; warn where it may be too few."""
    values = backend.quantities(pilot, no_tick)
    refuse_bad_weights(values["n_bad"], values["first_bad"], partial(about_draw, pilot))
    if pilot.design is None:
        sd, margin = np.sqrt(values["relative_variance"]), _MARGIN
        least = max(min(LANES, target.max_samples), 1, *iw_sizes)
        allowed = _allowed_sizes(least, target.max_samples)
    else:
        sd = math.sqrt(pilot.n_samples) * evidence_error(values)
        margin, doublings = _MARGIN_OF_REPLICATES, target.max_samples // pilot.n_samples
        allowed = pilot.n_samples * 2 ** np.arange(doublings.bit_length())
    wanted = _wanted(target, sd, margin)
    sizes = allowed[np.minimum(np.searchsorted(allowed, wanted), len(allowed) - 1)]
    doubtful = _doubtful(sd, values["relative_variance"], values["pareto_k"])
    _warn_of_doubt(target, doubtful, values["pareto_k"], pilot.n_samples)
    _warn_of_limit(target, sd, wanted, sizes, int(allowed[-1]))
    return sizes


def _wanted(target: Target, sd: Floats, margin: float) -> Floats:
    """Numbers of draws before they are rounded; infinite where the pilot tells none."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        ratio = sd / target.se
        other = np.where(np.isfinite(sd), sd, 0.0).sum() / target.se if target.of_total else ratio
        wanted = np.where(sd == 0.0, 0.0, margin * ratio * other)
    return np.where(np.isnan(wanted), np.inf, wanted)


def _allowed_sizes(least: int, most: int) -> Integers:
    """Numbers of draws in ascending order, from ``least`` to ``most``."""
    steps = _SIZES_AN_OCTAVE * (1 + max(0, math.ceil(math.log2(most / LANES))))
    blocks = np.ceil(2.0 ** (np.arange(steps + 1) / _SIZES_AN_OCTAVE)).astype(np.int64)
    return np.unique(np.clip(LANES * blocks, least, most))


def _doubtful(sd: Floats, relative_variance: Floats, pareto_k: Floats) -> NDArray[np.bool_]:
    """Where a pilot does not tell how many draws are needed, although it has an error."""
    with np.errstate(invalid="ignore"):
        # Equal weights have no k-hat, and weights that are all 0 no error.
        untold = ~(pareto_k <= _MOST_K) & ~constant_weights(relative_variance)
    return np.asarray(untold & ~np.isnan(sd))


def _warn_of_doubt(
    target: Target, doubtful: NDArray[np.bool_], pareto_k: Floats, draws: int
) -> None:
    if doubtful.any():
        warn(
            TargetErrorWarning,
            f"{target.name} = {target.se:g} is not promised for "
            f"{places(doubtful, np.nan_to_num(pareto_k, nan=np.inf))}: the k-hat of a pilot of "
            f"{draws} draws exceeds {_MOST_K}, or there is none, so that the pilot may have "
            "missed the weights that make up the error; log_evidence_se tells what was reached",
            depth=2,
        )


def _warn_of_limit(target: Target, sd: Floats, wanted: Floats, sizes: Integers, most: int) -> None:
    """Warn where more draws would be needed than are allowed."""
    short, unknown = wanted > most, np.isnan(sd)
    if not short.any():
        return
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = sd / np.sqrt(sizes)
        total = math.sqrt(np.square(expected[~unknown]).sum())
    reached = []
    if (short & ~unknown).any():
        worst = float(expected[short & ~unknown].max())
        reached = [f"the pilot expects standard errors of up to {worst:.2g} there"]
    if reached and target.of_total:
        reached = [f"the pilot expects a standard error of the total of {total:.2g}"]
    if (short & unknown).any():
        reached.append("a pilot whose weights are all 0 tells nothing")
    warn(
        TargetErrorWarning,
        f"max_samples = {target.max_samples} is too small for {target.name} = {target.se:g} at "
        f"{places(short, np.where(unknown, np.inf, expected))}: {'; '.join(reached)}",
        depth=2,
    )


def mean_request(request: EstimateRequest, sizes: Integers) -> EstimateRequest:
    """A request that is as much work as all groups together."""
    return request._replace(n_samples=math.ceil(sizes.mean()) if sizes.size else 1)


def grouped_quantities(
    request: EstimateRequest, sizes: Integers, backend: Backend, tick: Tick
) -> Quantities:
    """The quantities of each data point, from as many draws as ``sizes`` has for it."""
    parts, members = [], []
    keeps = keeps_tails(sizes.size, kept_draws(int(sizes.max(initial=1))))
    for size in np.unique(sizes) if sizes.size else [request.n_samples]:
        rows = np.flatnonzero(sizes == size)
        part = backend.quantities(_part(request, rows, int(size)), tick)
        part["tail"] = part["tail"] if keeps else part["tail"][:, :0]
        parts.append(part)
        members.append(rows)
    order = np.argsort(np.concatenate(members))
    return {name: _joined([part[name] for part in parts])[order] for name in parts[0]}


def about_draws(request: EstimateRequest, sizes: Integers) -> Callable[[int, int], str]:
    """`about_draw` for data points with as many draws as ``sizes`` has for each.

    The number of draws is part of the address of quasi-random ones.
    """

    def about(i: int, k: int) -> str:
        return about_draw(_part(request, np.array([i]), int(sizes[i])), i, k)

    return about


def _part(request: EstimateRequest, rows: NDArray[np.int64], n_samples: int) -> EstimateRequest:
    """The request for some data points, of so many draws."""
    form = request.form
    if form.capacity:
        form = form._replace(capacity=kept_draws(n_samples))
    design = request.design
    if design is not None:
        design = design._replace(per_replicate=n_samples // design.replicates)
    every = len(rows) == request.points
    return request._replace(
        n_samples=n_samples, form=form, design=design, rows=None if every else rows
    )


def _joined(arrays: list[Floats]) -> Floats:
    """The rows of all arrays. Tails of fewer values have NaN at their end."""
    if len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    out = np.full((sum(map(len, arrays)), max(array.shape[1] for array in arrays)), np.nan)
    start = 0
    for array in arrays:
        out[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return out
