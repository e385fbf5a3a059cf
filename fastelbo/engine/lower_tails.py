"""The lower tails of log weights l, and of their terms, where they may be heavy.

The k-hat of -l tells whether the ELBO, the mean of l, has a standard error. To follow the smallest
of all l would cost about as much as all other sums. So the tail is looked at only in data points
where a single draw has more than `LARGEST_SHARE` of the sum of squares of l about its mean.
Elsewhere no draw makes up the ELBO's error, and the k-hat is NaN. Of generalised Pareto, Student-t
and log-normal tails whose k-hat is above its limit, 98 to 100% have such a draw (K = 100 to 10^5).

Draws are functions of their address, and rows are still there: the tails are taken from them, drawn
or read again. Only where draws are gone, as in an accumulator, are the smallest l stored.

With l = log p(x|z) - r and r = log q(z) - log p(z), the KL term is r. Under q, r is rarely far
below 0: P(r < -t) is at most exp(-t). Where the likelihood is bounded, neither r nor -log p(x|z)
can therefore have a heavier tail than -l. So the tails of terms are looked at only where -l has a
heavy tail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..kernels.cpu import drivers
from ..kernels.cpu.launch import launch, threads_for
from ..kernels.state import top_k
from ..validation import Floats
from ..weights.diagnostics import high_k
from ..weights.pareto import fit_tails, kept_draws
from .states import Quantities
from .task import EstimateRequest

Indices = NDArray[np.int64]
# Arrays (points, ...) of minus the log weights, and of other terms, by the names of their k-hats.
Terms = dict[str, Floats]
# tails(points, names): the M + 1 largest values of some terms, descending.
Tails = Callable[[Indices, tuple[str, ...]], Terms]
# draw(points, first, stop): the terms of draws first to stop.
Draw = Callable[[Indices, int, int], Terms]
# fill(request, points, first, stop, out) sets log likelihood, log prior and log q (points, draws).
FillDensities = Callable[[EstimateRequest, Indices, int, int, Floats], None]

LARGEST_SHARE = 0.125
OTHER_TERMS = ("pareto_k_kl", "pareto_k_likelihood")
# Draws at a time: arrays of 8 MB.
_PIECE = 2**20


def suspects(values: Mapping[str, Floats]) -> Indices:
    """The data points where a single draw has much of the sum of squares of l."""
    sound = (values["n_zero"] == 0) & (values["n_bad"] == 0)
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(sound & (values["largest_share"] > LARGEST_SHARE))


def with_lower_tails(
    values: Quantities,
    n_samples: int,
    capacity: int,
    tails: Tails,
    others: tuple[str, ...] = (),
    replicates: int = 1,
    most_points: int | None = None,
) -> Quantities:
    """The quantities and k-hats of minus the log weights, and of other terms.

    A tail is heavy whose k-hat is above the limit for draws in so many ``replicates``. k-hats are
    NaN where the tail is not looked at, or ``capacity`` is 0. ``tails`` takes ``most_points`` data
    points at once, by default those whose draws fit a piece.
    """
    names = ("pareto_k_elbo", *others)
    found = {name: np.full(len(values["n_zero"]), np.nan) for name in names}
    if min(kept_draws(n_samples), capacity):
        suspicious = suspects(values)
        most = most_points or max(1, _PIECE // n_samples)
        for start in range(0, len(suspicious), most):
            points = suspicious[start : start + most]
            elbo = _k_hats(tails(points, names[:1])[names[0]])
            found[names[0]][points] = elbo
            heavy = points[high_k(elbo, n_samples, replicates)]
            if len(heavy) and others:
                for name, tail in tails(heavy, others).items():
                    found[name][heavy] = _k_hats(tail)
    return values | found


def tails_of_draws(n_samples: int, draw: Draw, points: Indices, names: tuple[str, ...]) -> Terms:
    """The tails of terms that ``draw`` makes, a piece at a time."""
    size, kept = kept_draws(n_samples), Terms()
    for first in range(0, n_samples, _PIECE):
        drawn = draw(points, first, min(n_samples, first + _PIECE))
        kept = merged_tails(kept, drawn, names, size)
    return kept


def merged_tails(kept: Terms, drawn: Terms, names: tuple[str, ...], size: int) -> Terms:
    """The ``size`` largest values of some terms, descending, among those kept and those drawn.

    Where there are fewer, all of them.
    """
    merged = Terms()
    for name in names:
        parts = [kept[name], drawn[name]] if name in kept else [drawn[name]]
        values = np.concatenate(parts, axis=1)
        merged[name] = largest_of_rows(values, min(size, values.shape[1]))
    return merged


def largest_of_rows(values: Floats, size: int, n_threads: int | None = None) -> Floats:
    """The ``size`` largest values of each row (n, k), descending."""
    rows = np.empty((len(values), 1, top_k.VALUES + values.shape[1]))
    rows[..., top_k.COUNT] = values.shape[1]
    rows[:, 0, top_k.VALUES :] = values
    tails = np.empty((len(values), size))
    threads = n_threads or threads_for(values.size)
    launch(drivers.sort_top_rows, rows, 0, size, tails, n_threads=threads)
    return tails


def with_tails_of_densities(
    values: Quantities, request: EstimateRequest, fill: FillDensities
) -> Quantities:
    """The quantities of a request and the k-hats of -l, the KL terms and the log-likelihoods."""

    def draw(points: Indices, first: int, stop: int) -> Terms:
        out = np.empty((3, len(points), stop - first))
        fill(request, points, first, stop, out)
        return terms_of(out)

    tails, others = partial(tails_of_draws, request.n_samples, draw), OTHER_TERMS
    return with_lower_tails(
        values, request.n_samples, request.form.capacity, tails, others, request.cut.replicates
    )


def terms_of(densities: Floats) -> Terms:
    """-l, the KL terms and -log-likelihoods of log likelihood, log prior and log q (3, ...)."""
    log_likelihood, log_prior, log_q = densities
    with np.errstate(invalid="ignore", over="ignore"):
        return {
            "pareto_k_elbo": -(log_likelihood + (log_prior - log_q)),
            "pareto_k_kl": log_q - log_prior,
            "pareto_k_likelihood": -log_likelihood,
        }


def _k_hats(tails: Floats) -> Floats:
    """k-hat of rows of the M + 1 largest values themselves; NaN where one is infinite."""
    tails = np.where(np.isfinite(tails).all(axis=1, keepdims=True), tails, 0.0)
    return fit_tails(tails, logs=False, grid=False).pareto_k.copy()
