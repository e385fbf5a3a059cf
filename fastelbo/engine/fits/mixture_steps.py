"""Expectation-maximisation from one start, with extrapolated steps that never go down.

Two steps from a point theta give r = theta_1 - theta and v = theta_2 - 2 theta_1 + theta. SQUAREM
(Varadhan and Roland, 2008) tries theta + 2 a r + a^2 v with a = |r| / |v|, from which it goes on if
the likelihood is no lower than at theta_1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...models.gaussian_components import GaussianComponents

# sum w log p(x) at components, and the components after a step.
Step = Callable[[GaussianComponents], tuple[float, GaussianComponents]]
# The first limit of a, and the factor by which a limit grows where it is met, and shrinks.
_FIRST_LENGTH = 4.0
_CHANGE = 4.0
# Of a log likelihood and its number of data points: smaller gains are rounding.
_ROUNDING = 64 * float(np.finfo(float).eps)
# What is left is extrapolated by the slowest of the last rates: behind an extrapolated step, what
# converges quickly hides what does not.
_RATES = 3
# Smaller changes of parameters are rounding where gains are.
_STILL = 1e-6


class Climb(NamedTuple):
    """Where a start ended, and the log likelihoods on the way with the seconds until each."""

    components: GaussianComponents
    log_likelihoods: list[float]
    seconds: list[float]
    n_iter: int
    left: float  # nats that the log likelihood would still gain, by extrapolation
    converged: bool


def climb(
    step: Step, first: GaussianComponents, n_points: int, floor: float, tol: float, max_iter: int
) -> Climb:
    """Steps from the first components until ``tol`` nats are left, or there were ``max_iter``."""
    begin, values, seconds, passes = time.perf_counter(), [0.0][:0], [0.0][:0], 0
    longest, left, converged, rates = _FIRST_LENGTH, math.inf, False, [0.0][:0]

    def passed(at: GaussianComponents) -> tuple[float, GaussianComponents]:
        nonlocal passes
        passes += 1
        return step(at)

    def keep(value: float) -> None:
        values.append(value)
        seconds.append(time.perf_counter() - begin)

    here = first
    value, one = passed(here)
    keep(value)
    while passes < max_iter and math.isfinite(value):
        next_value, two = passed(one)
        keep(next_value)
        gain, value = next_value - value, next_value
        points = [each.vector() for each in (here, one, two)]
        here, one = one, two
        if len({len(point) for point in points}) > 1:
            continue
        r = points[1] - points[0]
        v = points[2] - points[1] - r
        rates.append(_rate(float(np.linalg.norm(r)), float(np.linalg.norm(r + v))))
        left = _left(gain, max(rates[-_RATES:]))
        rounding = abs(gain) <= _ROUNDING * (abs(value) + n_points)
        converged = left <= tol or (rounding and float(np.abs(r).max()) <= _STILL)
        if converged:
            break
        length = float(np.linalg.norm(r) / max(float(np.linalg.norm(v)), 1e-300))
        length = min(length, longest)
        if length <= 1.0 or passes == max_iter:
            continue
        tried = two.at_vector(points[0] + 2.0 * length * r + length**2 * v, floor)
        if tried is None:
            longest = max(_CHANGE, longest / _CHANGE)
            continue
        far_value, far = passed(tried)
        if far_value >= value:
            longest *= _CHANGE if length == longest else 1.0
            keep(far_value)
            here, value, one = tried, far_value, far
        else:
            longest = max(_CHANGE, longest / _CHANGE)
    return Climb(one, values, seconds, passes, max(left, 0.0), converged)


def _rate(before: float, after: float) -> float:
    """The share of a gain that the next one is, for steps of these lengths."""
    if after >= before:
        return 1.0 if after > 0.0 else 0.0
    return (after / before) ** 2


def _left(gain: float, rate: float) -> float:
    """What is left of a series of gains, of which each is that share of the last."""
    return max(gain, 0.0) * rate / (1.0 - rate) if rate < 1.0 else math.inf
