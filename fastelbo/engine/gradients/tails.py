"""Data points whose ELBO has terms of too heavy a tail for a standard error, and so its gradient.

Where log p falls like -|z|^2, so do the log weights of a Student-t q, and products of a gradient
and a draw grow as fast: they have one tail index. Draws of a Gaussian have all moments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...inner_warnings import collected
from ...models.location_scale import StudentT
from ...models.mixture import Mixture
from ...weights.pareto import k_threshold
from ..estimation import estimate
from ..task import EstimateRequest


def heavy_points(request: EstimateRequest, n_threads: int | None) -> NDArray[np.bool_]:
    """Which data points of a request, by k-hat from as many draws with another key."""
    q = request.q
    family = q.components if isinstance(q, Mixture) else q
    if not isinstance(family, StudentT) or not request.points:
        return np.zeros(request.points, np.bool_)
    with collected():
        found = estimate(
            request.model, q, request.n_samples, rng=request.key, iw_sizes=(), backend="cpu",
            first_index=request.first_index, n_threads=n_threads,
        )  # fmt: skip
    return np.asarray(found.pareto_k_elbo.reshape(-1) > k_threshold(request.n_samples))
