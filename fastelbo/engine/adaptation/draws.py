"""All draws of an adaptation, weighted by the mixture of the proposals that they are from."""

from __future__ import annotations

import math

import numpy as np

from ...arrays.draws import read_draws
from ...errors import InvalidWeightError
from ...kernels.cpu import tails
from ...models.mixture import Mixture
from ...special import logsumexp
from ...validation import Floats
from ...weights.smoothing import TailRows

# Weights of draws far out underflow, as they should.
_unflagged = np.errstate(all="ignore")


class PastDraws:
    """Draws z (n, D), their log p(x, z), and the log of the sum of n_t q_t(z) over all rounds t."""

    def __init__(self, dim: int) -> None:
        self.z = np.empty((0, dim))
        self.log_joint = np.empty(0)
        self._log_sum = np.empty(0)
        self._rounds: list[tuple[float, Mixture]] = []

    @_unflagged
    def add(self, q: Mixture, z: Floats, log_joint: Floats) -> None:
        """Draws of one more proposal."""
        _refuse(z, log_joint)
        log_count = math.log(len(z))
        self._rounds.append((log_count, q))
        if len(self.z):
            self._log_sum = np.logaddexp(self._log_sum, log_count + q.log_prob(self.z))
        own = [count + each.log_prob(z) for count, each in self._rounds]
        self.z = np.concatenate([self.z, z])
        self.log_joint = np.concatenate([self.log_joint, log_joint])
        self._log_sum = np.concatenate([self._log_sum, logsumexp(own, axis=0)])

    @_unflagged
    def share_of(self, q: Mixture, z: Floats, log_joint: Floats) -> float:
        """The share of the weight that draws of one more proposal would have; NaN without any."""
        log_count = math.log(len(z))
        own = [count + each.log_prob(z) for count, each in self._rounds]
        new = log_joint - logsumexp([*own, log_count + q.log_prob(z)], axis=0)
        old = self.log_joint - np.logaddexp(self._log_sum, log_count + q.log_prob(self.z))
        return float(np.exp(logsumexp(new) - logsumexp(np.concatenate([new, old]))))

    @property
    def log_weights(self) -> Floats:
        """Log weights (n,) by the balance heuristic (Cornuet et al., 2012)."""
        return self.log_joint - self._log_sum + math.log(len(self.z))


def _refuse(z: Floats, log_joint: Floats) -> None:
    bad = np.isnan(log_joint) | (log_joint == np.inf)
    if bad.any():
        first = int(bad.argmax())
        raise InvalidWeightError(
            f"log p(x, z) is {log_joint[first]} at {int(bad.sum())} of {len(z)} draws, the first "
            f"z = {np.array2string(z[first], precision=4, threshold=6)}: expected log densities, "
            "-inf where z is impossible"
        )


@_unflagged
def effective(log_weights: Floats, power: float = 1.0) -> float:
    """Effective sample size of weights to a power."""
    powers = power * log_weights
    return math.exp(2.0 * float(logsumexp(powers)) - float(logsumexp(2.0 * powers)))


@_unflagged
def normalised(log_weights: Floats) -> Floats:
    """Weights that sum to 1."""
    return np.asarray(np.exp(log_weights - logsumexp(log_weights)))


def tempered(log_weights: Floats, least: float) -> float:
    """The largest power of weights, at most 1, that leaves so many effective draws."""
    if effective(log_weights) >= least:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        if effective(log_weights, middle) >= least:
            low = middle
        else:
            high = middle
    return low


def tail_index(log_weights: Floats) -> float:
    """Pareto k-hat, without warnings."""
    rows = TailRows(read_draws(log_weights, "log_weights", -1, None, None).checked(), 1.0)
    return float(rows.fit()[0, tails.PARETO_K])
