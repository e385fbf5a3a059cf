"""scikit-learn: a Gaussian mixture with the parameters that a fit would have left in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.mixture import GaussianMixture

from ..inputs import Points


def _mixture_log_prob(inputs: Points) -> Callable[[], Any]:
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


IMPLEMENTATIONS = {"scikit-learn": {"mixture_log_prob": _mixture_log_prob}}
