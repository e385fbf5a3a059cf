"""Sums over data points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..errors import InvalidInputError
from ..validation import Floats
from ..weights import replicates
from ..weights.combined_intervals import sum_interval
from ..weights.diagnostics import warn_total_bias
from ..weights.intervals import normal_interval
from ..weights.scaled import root_sum_of_squares, total
from .fields import Fields
from .intervals import degrees_of_freedom, evidence_interval
from .names import QUANTITIES, require_quantity


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
    # Degrees of freedom of the errors, by quantity; infinite for those that are left out.
    _df: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def bias_correction(self) -> float:
        """The bias correction in ``log_evidence``; 0 if that is infinite.

        It is ``sum v_i / 2K``, and ``sum SE_i^2 / 2`` for replicates and for draws of several q.
        """
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
        intervals are normal. All intervals of replicates that have two ends are of Student's t,
        whose degrees of freedom are those of Welch and Satterthwaite (see
        `fastelbo.weights.replicates`).
        """
        require_quantity(quantity, QUANTITIES[:-1])
        if quantity == "log_evidence":
            return self._evidence_interval(confidence_level)
        value = np.asarray(getattr(self, quantity))
        se = np.asarray(getattr(self, f"{quantity}_se"))
        df = self._df.get(quantity, math.inf)
        low, high = normal_interval(value, se, confidence_level, df)
        return float(low), float(high)


def total_of(estimate: Fields) -> Total:
    """See `Estimate.total`."""
    if not estimate.independent:
        raise InvalidInputError(
            "total() adds data points with draws of their own, but here only q has a batch, so "
            "that the entries are estimates of one quantity, or the rows of log weights share "
            "draws, so that their errors are not independent"
        )
    names = QUANTITIES[:-1]
    sums = {name: total(_flat(estimate, name)) for name in names}
    errors = {f"{name}_se": root_sum_of_squares(_flat(estimate, f"{name}_se")) for name in names}
    df = {}
    if estimate.replicates > 1:
        each = degrees_of_freedom(estimate)
        ses = {name: _flat(estimate, f"{name}_se") for name in names}
        df = {name: replicates.degrees_of_freedom(se, each) for name, se in ses.items()}
    plain = total(estimate._uncorrected)
    correction = total(estimate._bias())
    sums["log_evidence"] = plain + correction
    warn_total_bias(correction, errors["log_evidence_se"])
    value, se = sums["log_evidence"], errors["log_evidence_se"]
    return Total(
        n_points=estimate.log_evidence.size, uncorrected_log_evidence=plain, **sums, **errors,
        _evidence_interval=partial(_evidence_interval, estimate, value, se, df), _df=df,
    )  # fmt: skip


def _evidence_interval(
    estimate: Fields, value: float, se: float, df: dict[str, float], confidence_level: float
) -> tuple[float, float]:
    intervals = evidence_interval(estimate, confidence_level)
    if df and np.isfinite(intervals.high).all():
        errors = se, root_sum_of_squares(estimate._upper_se.reshape(-1))
        below, above = (
            normal_interval(
                np.asarray(value), np.asarray(each), confidence_level, df["log_evidence"]
            )
            for each in errors
        )
        return float(below.low), float(above.high)
    with np.errstate(over="ignore"):
        return sum_interval(estimate._uncorrected, estimate._bias(), intervals, confidence_level)


def _flat(estimate: Fields, name: str) -> Floats:
    return np.asarray(getattr(estimate, name)).reshape(-1)
