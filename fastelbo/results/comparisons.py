"""The difference of the log evidences of two estimates."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError
from ..plotting import Drawable
from ..weights.combined_intervals import difference_interval
from ..weights.diagnostics import high_k
from ..weights.differences import Difference
from ..weights.intervals import Interval


class Comparable(Drawable, Protocol):
    """The attributes of a `fastelbo.Estimate` that a difference reads, besides those of figures."""

    @property
    def _addresses(self) -> tuple[int, range] | None: ...

    def confidence_interval(self, quantity: str, confidence_level: float) -> Interval: ...


def evidence_difference(first: Comparable, second: Comparable) -> Difference:
    """The difference of two log evidences from draws of their own; see `Estimate.__sub__`."""
    shapes = first.batch_shape, second.batch_shape
    if shapes[0] != shapes[1]:
        raise InvalidInputError(
            f"both estimates must have the same batch shape, got {shapes[0]} and {shapes[1]}"
        )
    if _share_draws(first, second):
        raise InvalidInputError(
            "both estimates must have draws of their own, got two with the same seed and data "
            "points, whose errors are not independent; give each estimate another rng"
        )
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        value = first.log_evidence - second.log_evidence
        se = np.hypot(first.log_evidence_se, second.log_evidence_se)
    return Difference(
        quantity="log_evidence",
        value=np.asarray(value),
        se=np.asarray(se),
        flagged=above_limit(first) | above_limit(second),
        _interval=partial(_interval, first, second),
    )


def above_limit(each: Comparable) -> NDArray[np.bool_]:
    """Where the k-hat of an estimate is above its limit."""
    return high_k(each.pareto_k, each.n_samples, each.replicates)


def _share_draws(first: Comparable, second: Comparable) -> bool:
    """Whether a draw of one is at the address of a draw of the other, as far as is known."""
    if first is second:
        return bool(np.any(first.n_samples))
    if first._addresses is None or second._addresses is None:
        return False
    (key, points), (other_key, others) = first._addresses, second._addresses
    return key == other_key and max(points.start, others.start) < min(points.stop, others.stop)


def _interval(first: Comparable, second: Comparable, confidence_level: float) -> Interval:
    intervals = (
        each.confidence_interval("log_evidence", confidence_level) for each in (first, second)
    )
    return difference_interval(first.log_evidence, second.log_evidence, *intervals)
