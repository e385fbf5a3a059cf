"""SciPy: its own functions for the task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc

from ..inputs import Draws, Points, Rows, SobolNormals


def _logsumexp(inputs: Rows) -> Callable[[], Any]:
    return lambda: logsumexp(inputs.values, axis=inputs.axis)


def _mixture_log_prob(inputs: Points) -> Callable[[], Any]:
    components = inputs.mixture.components
    if components.scale is None:
        covs = [stats.Covariance.from_cholesky(tril) for tril in components.scale_tril]
    else:
        covs = [stats.Covariance.from_diagonal(scale**2) for scale in components.scale]
    frozen = [
        stats.multivariate_normal(mean, cov)
        for mean, cov in zip(components.mean, covs, strict=True)
    ]
    weights = inputs.mixture.weights[:, None]

    def run() -> Any:
        return logsumexp([part.logpdf(inputs.points) for part in frozen], axis=0, b=weights)

    return run


def _sobol_normals(inputs: SobolNormals) -> Callable[[], Any]:
    def run() -> Any:
        rng = np.random.default_rng(0)
        normals = np.empty((inputs.replicates, inputs.n, inputs.dim))
        for replicate in normals:
            # 2^-33 is half a step between points: 0 has no quantile.
            points = qmc.Sobol(inputs.dim, bits=32, seed=rng).random(inputs.n)
            ndtri(points + 2.0**-33, out=replicate)
        return normals

    return run


def _gaussian_sample(inputs: Draws) -> Callable[[], Any]:
    cov = stats.Covariance.from_cholesky(inputs.gaussian.scale_tril)
    frozen = stats.multivariate_normal(inputs.gaussian.mean, cov)
    return lambda: frozen.rvs(inputs.n, random_state=np.random.default_rng(0))


IMPLEMENTATIONS = {
    "scipy": {
        "logsumexp": _logsumexp,
        "mixture_log_prob": _mixture_log_prob,
        "sobol_normals": _sobol_normals,
        "gaussian_sample": _gaussian_sample,
    }
}
