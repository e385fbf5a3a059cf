"""The log Bayes factor of two models, from any two results that have a log evidence."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import InvalidInputError
from ..validation import shown
from ..weights.bridge_result import BridgeEstimate
from ..weights.combined_intervals import difference_interval
from ..weights.differences import Difference
from ..weights.intervals import Interval, normal_interval
from .comparisons import above_limit, evidence_difference
from .estimate import Estimate
from .total import Total


@runtime_checkable
class HasLogEvidence(Protocol):
    """What has a log evidence and its standard error, in nats."""

    @property
    def log_evidence(self) -> Any: ...
    @property
    def log_evidence_se(self) -> Any: ...


@runtime_checkable
class HasEstimate(Protocol):
    """What holds an estimate, as an adaptation of q does."""

    @property
    def estimate(self) -> Any: ...


def bayes_factor(a: HasLogEvidence | HasEstimate, b: HasLogEvidence | HasEstimate) -> Difference:
    """Log Bayes factor of two models of the same data: log p_a(x) - log p_b(x), in nats.

    Parameters
    ----------
    a, b : Estimate, BridgeEstimate, or anything else with a log evidence
        Results with draws of their own, each with ``log_evidence`` and ``log_evidence_se``, or with
        an ``estimate`` that has them. Batches of two estimates are compared point by point. No
        `Total`, which does not tell whether both have the same draws, nor whether it is flagged.

    Returns
    -------
    Difference
        Of ``"log_evidence"``: above 0, the data are for ``a``. Its standard error is the root of
        the sum of squares of both, NaN if one is. It is ``flagged`` where one of both is.

    Raises
    ------
    InvalidInputError
        If one has no log evidence or is a `Total`, if the shapes of batches differ, or if both
        have the same draws, so that their errors are not independent.

    Examples
    --------
    >>> import fastelbo as fe
    >>> narrow = fe.LinearGaussian([2.0], [[1.0]], noise_cov=0.5)
    >>> wide = fe.LinearGaussian([2.0], [[1.0]], noise_cov=2.0)
    >>> draws = wide.exact_posterior().sample(4000, rng=0).reshape(4, 1000, 1)
    >>> first = fe.estimate(narrow, fe.Gaussian([1.3], scale=0.7), n_samples=10_000, rng=1)
    >>> second = fe.bridge(draws, wide, rng=2)
    >>> exact = narrow.exact_log_evidence() - wide.exact_log_evidence()
    >>> low, high = fe.bayes_factor(first, second).confidence_interval(0.999)
    >>> bool(low < exact < high)
    True
    """
    first, second = _result(a, "a"), _result(b, "b")
    if isinstance(first, Estimate) and isinstance(second, Estimate):
        difference = evidence_difference(first, second)
        return replace(difference, flagged=difference.flagged | _flagged(a) | _flagged(b))
    values = [np.asarray(each.log_evidence, dtype=np.float64) for each in (first, second)]
    errors = [np.asarray(each.log_evidence_se, dtype=np.float64) for each in (first, second)]
    shapes = {each.shape for each in (*values, *errors)}
    if len(shapes) != 1:
        raise InvalidInputError(
            f"a and b must have log evidences of one shape, got {sorted(shapes)}"
        )
    if first is second or (_key(first) is not None and _key(first) == _key(second)):
        raise InvalidInputError(
            "a and b must have draws of their own, got two results of the same draws of q, whose "
            "errors are not independent; give each another rng"
        )
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        value, se = values[0] - values[1], np.hypot(*errors)
    flags = _flagged(a) | _flagged(first) | _flagged(b) | _flagged(second)
    flagged = np.broadcast_to(flags, value.shape)
    interval = partial(_interval, first, second)
    return Difference("log_evidence", np.asarray(value), np.asarray(se), flagged, interval)


def _result(value: object, name: str) -> HasLogEvidence:
    """What has the log evidence: the value, or its estimate."""
    if isinstance(value, Total):
        raise InvalidInputError(
            f"{name} must be an Estimate, got its Total, which does not tell of its draws and "
            "k-hats; pass the estimates"
        )
    for each in (value, getattr(value, "estimate", None)):
        if not isinstance(value, type) and isinstance(each, HasLogEvidence):
            return each
    raise InvalidInputError(
        f"{name} must be a result with log_evidence and log_evidence_se, such as an Estimate, got "
        f"{shown(value)}"
    )


def _key(result: HasLogEvidence) -> int | None:
    return result._key if isinstance(result, BridgeEstimate) else None


def _flagged(result: object) -> Any:
    if isinstance(result, Estimate):
        return above_limit(result)
    return np.asarray(getattr(result, "flagged", False), dtype=bool)


def _interval(first: HasLogEvidence, second: HasLogEvidence, confidence_level: float) -> Interval:
    a, b = (np.asarray(each.log_evidence, dtype=np.float64) for each in (first, second))
    ends = [_own_interval(each, confidence_level) for each in (first, second)]
    return difference_interval(a, b, ends[0], ends[1])


def _own_interval(result: HasLogEvidence, confidence_level: float) -> Interval:
    if isinstance(result, Estimate):
        return result.confidence_interval("log_evidence", confidence_level)
    if isinstance(result, BridgeEstimate):
        return result.confidence_interval(confidence_level)
    value, se = (np.asarray(x, dtype=float) for x in (result.log_evidence, result.log_evidence_se))
    return normal_interval(value, np.where(np.isnan(se), np.inf, se), confidence_level)
