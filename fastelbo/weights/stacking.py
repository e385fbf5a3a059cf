"""Stacking weights: the mixture of predictive densities with the best leave-one-out log score."""

from __future__ import annotations

import numpy as np

from ..validation import Floats

# The first barrier, how barriers fall, and by how much the sum of log scores may be too low at the
# last: the mean is by at most the barrier times the number of models.
_FIRST, _FACTOR, _MOST_LOSS = 1e-2, 0.1, 1e-9
_MOST_STEPS = 50
# Weights that are 0 but for the last barrier.
_NOTHING = 1e-8


@np.errstate(under="ignore")
def stacking_weights(log_densities: Floats) -> Floats:
    """The weights w (M,) that maximise ``mean_i log sum_k w_k exp(l_ik)`` for l (N, M).

    It is concave in w (Yao, Vehtari, Simpson and Gelman, 2018, Bayesian Analysis 13). Newton's
    method follows the maxima with a logarithmic barrier, which falls to 0: models may be equal.
    """
    densities = np.exp(log_densities - log_densities.max(axis=1, keepdims=True))
    count = densities.shape[1]
    last = _MOST_LOSS / densities.size
    weights = np.full(count, 1.0 / count)
    barrier = _FIRST
    while barrier > last:
        barrier *= _FACTOR
        for _ in range(_MOST_STEPS):
            step = _newton_step(densities, weights, barrier)
            if step is None:
                break
            weights = step
    weights = np.where(weights < _NOTHING, 0.0, weights)
    return np.asarray(weights / weights.sum())


def _newton_step(densities: Floats, weights: Floats, barrier: float) -> Floats | None:
    """Weights nearer to the maximum with a barrier; None where they are there."""
    relative = densities / (densities @ weights)[:, None]
    slope = relative.mean(axis=0) + barrier / weights
    # In units of the weights themselves, of which some are tiny.
    curvature = relative.T @ relative / len(densities) * np.outer(weights, weights)
    curvature += barrier * np.eye(len(weights))
    both = np.linalg.solve(curvature, np.array([slope * weights, weights]).T).T * weights
    change = both[0] - both[1] * (both[0].sum() / both[1].sum())
    gain = float(slope @ change)
    if not gain > 1e-3 * barrier:
        return None
    shrinking = change < 0.0
    most = float((weights[shrinking] / -change[shrinking]).min(initial=np.inf))
    length, score = min(1.0, 0.99 * most), _score(densities, weights, barrier)
    while length > 1e-10:
        moved = weights + length * change
        moved /= moved.sum()
        if _score(densities, moved, barrier) >= score + 1e-4 * length * gain:
            return np.asarray(moved)
        length *= 0.5
    return None


def _score(densities: Floats, weights: Floats, barrier: float) -> float:
    return float(np.log(densities @ weights).mean() + barrier * np.log(weights).sum())
