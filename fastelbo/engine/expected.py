"""What is computed for an expectation, for one slice of data points after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..kernels.state.moments import state_size
from ..models.integrand import Coordinates, Integrand, Products
from ..validation import Floats
from ..weights.diagnostics import constant_weights
from ..weights.pareto import kept_draws
from .means import refuse_bad_values, symmetric, weighted_means
from .moments import Pool
from .quantiles import quantiles
from .rows import row_quantities
from .states import Quantities, StateForm

# Pairs of coordinates whose products are taken in one pass over the draws.
_PAIRS = 512

# "mean", "cov" or "quantiles", or the values of functions.
Wanted = str | Integrand


def work_for(wanted: Wanted, levels: Floats) -> Callable[[Pool], Quantities]:
    """What makes quantities of the draws of a slice."""
    if wanted == "cov":
        return _covariance
    if wanted == "quantiles":
        return lambda pool: _quantiles(pool, levels)
    return lambda pool: _means(pool, Coordinates(pool.dim) if isinstance(wanted, str) else wanted)


def numbers_of_point(wanted: Wanted, dim: int, n_samples: int) -> int:
    """How many numbers one data point needs: k-hats of each value, and a state."""
    values = dim if isinstance(wanted, str) else int(np.prod(wanted.event))
    if wanted == "cov":
        values = min(_PAIRS, dim * (dim + 1) // 2)
    rows = 1 if wanted == "quantiles" else 2 * values
    return int(rows * kept_draws(n_samples) + state_size(values, False))


def of_weights(pool: Pool) -> Quantities:
    """k-hat and ESS of the weights, (N,)."""
    form = StateForm((), kept_draws(pool.n_samples))
    read = row_quantities(pool.log_weights[:, :, None], form)
    k = np.where(constant_weights(read["relative_variance"]), np.nan, read["pareto_k"])
    return {"weights_k": k, "log_evidence": read["log_evidence"], "weights_ess": read["ess"]}


def _means(pool: Pool, integrand: Integrand) -> Quantities:
    values = int(np.prod(integrand.event))
    states = pool.moments(integrand)
    refuse_bad_values(states, integrand, pool)
    found = weighted_means(states, values, False, pool)
    # Where all weights are 0 there is no value; the tails are empty about any.
    about = np.nan_to_num(found.value)
    centred, plain = pool.tails(integrand, [about, np.zeros_like(about)])
    constant = found.se == 0.0
    return {
        **found._asdict(),
        "k": plain["pareto_k"],
        "k_centred": np.where(constant, np.nan, centred["pareto_k"]),
        "ess": np.where(constant, np.nan, centred["ess"]),
        **of_weights(pool),
    }


def _covariance(pool: Pool) -> Quantities:
    """Of all pairs i >= j, some at a time."""
    dim = pool.dim
    coordinates = Coordinates(dim)
    states = pool.moments(coordinates)
    refuse_bad_values(states, coordinates, pool)
    centre = np.nan_to_num(weighted_means(states, dim, False, pool).value)
    first, second = np.tril_indices(dim)
    parts = []
    for lo in range(0, len(first), _PAIRS):
        pairs = slice(lo, lo + _PAIRS)
        parts.append(_means(pool, Products(centre, first[pairs], second[pairs])))
    shared = of_weights(pool)
    joined = {
        name: np.concatenate([part[name] for part in parts], axis=1)
        for name in parts[0]
        if name not in shared
    }
    return {name: symmetric(each, dim) for name, each in joined.items()} | shared


def _quantiles(pool: Pool, levels: Floats) -> Quantities:
    dim = pool.dim
    coordinates = Coordinates(dim)
    refuse_bad_values(pool.moments(coordinates), coordinates, pool)
    found = quantiles(pool, levels)
    shared = of_weights(pool)
    k = np.broadcast_to(shared["weights_k"][:, None, None], found.value.shape)
    return {**found._asdict(), "k": k, "k_centred": k, **shared}


def nothing(wanted: Wanted, dim: int, levels: Floats) -> Quantities:
    """The quantities of no data points."""
    empty = np.empty((0, *event_of(wanted, dim, levels)))
    names = ("value", "se", "plain", "plain_se", "k", "k_centred", "ess")
    ends = ("weights_k", "log_evidence", "weights_ess")
    return dict.fromkeys(names, empty) | dict.fromkeys(ends, np.empty(0))


def event_of(wanted: Wanted, dim: int, levels: Floats) -> tuple[int, ...]:
    """The shape of the values of one data point."""
    if not isinstance(wanted, str):
        return wanted.event
    return {"mean": (dim,), "cov": (dim, dim), "quantiles": (len(levels), dim)}[wanted]
