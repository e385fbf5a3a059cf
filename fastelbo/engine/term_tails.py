"""Tails of the terms of the log weights, drawn again for the data points that need them.

With l = log p(x|z) - r and r = log q(z) - log p(z), the KL term is r. Under q, r is rarely far
below 0: P(r < -t) is at most exp(-t). Where the likelihood is bounded, neither r nor -log p(x|z)
can therefore have a heavier tail than -l. So the terms are looked at only where -l has a heavy
tail: draws are functions of their address, and can be made again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..validation import Floats
from ..weights.diagnostics import high_k
from ..weights.pareto import fit_tails, kept_draws
from .states import Quantities
from .task import EstimateRequest

# draw(i, first, stop): log likelihood, log prior and log q of draws first to stop of data point i.
DrawTerms = Callable[[int, int, int], tuple[Floats, Floats, Floats]]
DrawTermsOf = Callable[[EstimateRequest, int, int, int], tuple[Floats, Floats, Floats]]

# Draws of a data point at a time: three arrays of 8 MB.
_PIECE = 2**20


def with_term_tails(values: Quantities, request: EstimateRequest, draw: DrawTermsOf) -> Quantities:
    """The quantities of a request, and the k-hats of `term_tails`."""
    k, capacity = values["pareto_k_elbo"], request.form.capacity
    return values | term_tails(k, request.n_samples, capacity, partial(draw, request))


def term_tails(pareto_k_elbo: Floats, n_samples: int, capacity: int, draw: DrawTerms) -> Quantities:
    """k-hat of the KL terms and of minus the log-likelihoods, where that of -l is too high.

    NaN elsewhere. They are ``pareto_k_kl`` and ``pareto_k_likelihood``.
    """
    points = len(pareto_k_elbo)
    found = np.full((2, points), np.nan)
    size = min(kept_draws(n_samples), capacity)
    heavy = np.flatnonzero(high_k(pareto_k_elbo, n_samples))
    tails = np.empty((2, len(heavy), size))
    for j, i in enumerate(heavy.tolist()):
        kept = np.empty((2, 0))
        for first in range(0, n_samples, _PIECE):
            log_likelihood, log_prior, log_q = draw(i, first, min(n_samples, first + _PIECE))
            with np.errstate(invalid="ignore"):
                terms = np.stack([log_q - log_prior, -log_likelihood])
            kept = np.concatenate([kept, terms], axis=1)
            kept = np.partition(kept, kept.shape[1] - size, axis=1)[:, -size:]
        tails[:, j] = kept
    if len(heavy):
        # An infinite term has no tail to fit; constant ones are ties.
        tails[~np.isfinite(tails).all(axis=2)] = 0.0
        for stream in range(2):
            found[stream, heavy] = fit_tails(tails[stream], logs=False, grid=False).pareto_k
    return {"pareto_k_kl": found[0], "pareto_k_likelihood": found[1]}
