"""Sums over data points, and the names of the quantities that have a standard error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..validation import as_choice
from ..weights.intervals import normal_interval

# Quantities with a standard error, in the order of the columns of a summary.
QUANTITIES = ("log_evidence", "elbo", "expected_log_likelihood", "kl", "jensen_gap")


@dataclass(frozen=True)
class Total:
    """Sums over data points, with standard errors; see `Estimate.total`.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0], [2.0]], [[1.0]], noise_cov=1.0)
    >>> q = fe.Gaussian(model.exact_posterior().mean, scale=0.8)
    >>> total = fe.estimate(model, q, n_samples=10_000, rng=0).total()
    >>> low, high = total.confidence_interval("log_evidence", 0.999)
    >>> bool(low < model.exact_log_evidence().sum() < high)
    True
    """

    n_points: int
    log_evidence: float
    log_evidence_se: float
    uncorrected_log_evidence: float
    elbo: float
    elbo_se: float
    expected_log_likelihood: float
    expected_log_likelihood_se: float
    kl: float
    kl_se: float
    # The interval of the log evidence at a level; it takes the intervals of all data points.
    _evidence_interval: Callable[[float], tuple[float, float]] = field(repr=False, compare=False)

    @property
    def bias_correction(self) -> float:
        """The bias correction in ``log_evidence``: ``sum v_i / 2K``; 0 if that is infinite."""
        if not math.isfinite(self.uncorrected_log_evidence):
            return 0.0
        return self.log_evidence - self.uncorrected_log_evidence

    def confidence_interval(
        self, quantity: str = "log_evidence", confidence_level: float = 0.95
    ) -> tuple[float, float]:
        """Confidence interval of one of the sums.

        The interval of the log evidence covers what is unknown about the tail of each data point's
        weights (see `fastelbo.weights.combined_intervals`). If one of the tails may have no mean,
        it has no upper end, and its lower end is
        ``uncorrected_log_evidence + log(1 - confidence_level)`` by Markov's inequality. The other
        intervals are normal.
        """
        require_quantity(quantity, QUANTITIES[:-1])
        if quantity == "log_evidence":
            return self._evidence_interval(confidence_level)
        value = np.asarray(getattr(self, quantity))
        se = np.asarray(getattr(self, f"{quantity}_se"))
        low, high = normal_interval(value, se, confidence_level)
        return float(low), float(high)


def require_quantity(quantity: str, names: Sequence[str]) -> None:
    """Raise an error if ``quantity`` is not in ``names``."""
    as_choice(quantity, "quantity", names)
