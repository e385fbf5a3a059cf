"""Confidence intervals of the quantities of an estimate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from ..weights.combined_intervals import gap_interval
from ..weights.diagnostics import high_k
from ..weights.intervals import Interval, delta_interval, normal_interval, replicated_interval
from ..weights.pareto import Counts
from ..weights.tail_intervals import tail_interval
from .fields import Fields
from .names import QUANTITIES, require_quantity


def quantity_interval(
    estimate: Fields, quantity: str, confidence_level: float, k: int | None
) -> Interval:
    """See `Estimate.confidence_interval`."""
    require_quantity(quantity, (*QUANTITIES, "iw_elbo"))
    if quantity == "iw_elbo":
        if k is None:
            raise InvalidInputError("k must be given with quantity='iw_elbo', got None")
        value, se = estimate.iw_elbo(k)
        return normal_interval(value, se, confidence_level, estimate._bound_df.get(k, math.inf))
    if quantity == "log_evidence":
        return evidence_interval(estimate, confidence_level)
    value, se = getattr(estimate, quantity), getattr(estimate, f"{quantity}_se")
    df = degrees_of_freedom(estimate)
    if quantity == "jensen_gap" and (estimate.replicates > 1 or estimate._tail is not None):
        errors = estimate._evidence_se, estimate.elbo_se, estimate._gap_se
        ends = evidence_interval(estimate, confidence_level)
        interval = gap_interval(value, errors, estimate.log_evidence, ends, confidence_level, df)
        if estimate._tail is None or not np.isnan(estimate._tail).any():
            return interval
        # Some data points have too few draws for a tail.
        without, normal = (
            np.isnan(estimate._tail[..., 0]),
            normal_interval(value, se, confidence_level),
        )
        return Interval(*(np.where(without, *each) for each in zip(normal, interval, strict=True)))
    return normal_interval(value, se, confidence_level, df)


def evidence_interval(
    estimate: Fields, confidence_level: float, index: tuple[int, ...] | None = None
) -> Interval:
    """The interval of the log evidence, of all data points or of one."""
    place: Any = ... if index is None else index
    value, se, v, k = (
        np.asarray(each[place])
        for each in (
            estimate.log_evidence, estimate.log_evidence_se, estimate._variance_of_draws,
            estimate.pareto_k,
        )
    )  # fmt: skip
    draws, plain = counts_at(estimate.n_samples, place), np.asarray(estimate._uncorrected[place])
    if estimate.replicates > 1:
        df = degrees_of_freedom(estimate)
        errors = se, np.asarray(estimate._upper_se[place])
        return replicated_interval(value, plain, errors, df, confidence_level)
    if estimate._tail is not None:
        ends = tail_interval(draws, plain, v, estimate._tail[place], confidence_level)
        return _moved(Interval(*ends), estimate, place)
    normal = normal_interval(value, se, confidence_level)
    if not np.any(draws):
        return normal
    heavy = high_k(k, draws)
    # A tail that is heavy but was not kept leaves nothing to go by.
    delta = delta_interval(draws, plain, np.where(heavy, np.inf, v), confidence_level)
    delta = _moved(delta, estimate, place)
    light = ~heavy & ~np.isnan(k)
    return Interval(*(np.where(light, *ends) for ends in zip(normal, delta, strict=True)))


def _moved(ends: Interval, estimate: Fields, place: Any) -> Interval:
    """Intervals of logs of means, moved as the estimates were for their bias.

    One without an upper end is not: Markov's inequality is about the mean of the weights itself.
    """
    by = np.broadcast_to(estimate._correction, estimate.batch_shape)[place]
    by = np.where(np.isposinf(ends.high), 0.0, by)
    return Interval(ends.low + by, ends.high + by)


def degrees_of_freedom(estimate: Fields) -> float:
    """Of errors: R - 1 for R replicates, infinite for independent draws."""
    return estimate.replicates - 1.0 if estimate.replicates > 1 else math.inf


def counts_at(n_samples: Counts, place: Any) -> Counts:
    """The numbers of draws of some data points."""
    return n_samples if isinstance(n_samples, int) else np.asarray(n_samples)[place]
