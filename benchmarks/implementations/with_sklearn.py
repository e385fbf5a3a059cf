"""scikit-learn: Gaussian mixtures, and factor analysis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture

from ..inputs import Images, Points, Start


def _mixture_log_prob(inputs: Points) -> Callable[[], Any]:
    """With the parameters that a fit would have left in it."""
    components = inputs.mixture.components
    full = components.scale is None
    kind = "full" if full else "diag"
    fitted = GaussianMixture(inputs.mixture.weights.size, covariance_type=kind)
    fitted.weights_, fitted.means_ = inputs.mixture.weights, components.mean
    if full:
        fitted.precisions_cholesky_ = np.swapaxes(np.linalg.inv(components.scale_tril), -1, -2)
    else:
        fitted.precisions_cholesky_ = 1.0 / components.scale
    return lambda: fitted.score_samples(inputs.points)


def _mixture_em(inputs: Start) -> Callable[[], Any]:
    parts = inputs.mixture.components
    start = {
        "weights_init": inputs.mixture.weights,
        "means_init": parts.mean,
        "precisions_init": np.linalg.inv(parts.cov),
    }

    def run() -> Any:
        # No start of its own is used; "random_from_data" takes the least time to make.
        fit = GaussianMixture(
            len(parts.mean), init_params="random_from_data", reg_covar=0.0, tol=0.0,
            max_iter=inputs.steps, **start,
        ).fit(inputs.points)  # fmt: skip
        return fit.lower_bound_

    return run


def _factor_analysis(inputs: Images) -> Callable[[], Any]:
    """To its default tolerance, by LAPACK's exact decompositions."""

    def run() -> Any:
        model = FactorAnalysis(inputs.factors, max_iter=10_000, svd_method="lapack")
        return model.fit(inputs.x).score(inputs.x)

    return run


IMPLEMENTATIONS = {
    "scikit-learn": {
        "mixture_log_prob": _mixture_log_prob,
        "mixture_em": _mixture_em,
        "factor_analysis": _factor_analysis,
    }
}
