"""Compilation ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .engine.estimation import estimate
from .engine.fits.mixture_fit import fit_mixture
from .engine.summaries import summarize
from .engine.terms import elbo_terms
from .inner_warnings import collected
from .models.categorical import Categorical
from .models.location_scale import Gaussian
from .weights.bounds import cubo, iw_elbo
from .weights.loo import loo
from .weights.psis import psis
from .weights.reductions import logsumexp


def calls() -> list[Callable[[], object]]:
    """Small calls, each of which has other kernels compiled; first those that take long."""
    p, q = Gaussian([0.0], scale=1.0), Gaussian([0.0], scale=1.5)
    rows = 0.1 * np.arange(80.0).reshape(2, 40) % 1.0
    weights = np.zeros((2, 40))
    single = weights.astype(np.float32)
    return [
        lambda: estimate(p, q, n_samples=2, rng=0),
        lambda: summarize(weights),
        lambda: estimate(p, q, n_samples=4, rng=0, sampler="sobol", replicates=2, iw_sizes=[2]),
        lambda: psis(weights),
        lambda: p.log_prob(p.sample(2, rng=0)),
        lambda: summarize(single),
        lambda: fit_mixture(rows.T, 1, covariance_type="diag"),
        lambda: logsumexp(weights, axis=-1),
        lambda: elbo_terms(p, q, n_samples=2, rng=0),
        # The tail of low log weights, which a single one makes heavy.
        lambda: summarize(np.where(rows == 0.0, -1e3, rows)),
        lambda: logsumexp(single, axis=-1),
        lambda: psis(single),
        lambda: iw_elbo(rows, 2),
        lambda: Categorical([0.5, 0.5]).sample(2, rng=0),
        lambda: cubo(rows),
        lambda: loo(weights.T),
    ]


def warmup() -> None:
    """Compile the CPU kernels now, or load them from the disk cache.

    A kernel compiles at its first call, which takes seconds, and is then kept on disk: beside the
    package if that folder is writable, else in the user's cache folder. A kernel compiles again
    after a change of any kernel's source, of its options, of numba or of the processor.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.warmup()
    """
    # So few draws are too few on purpose.
    with collected():
        for call in calls():
            call()
