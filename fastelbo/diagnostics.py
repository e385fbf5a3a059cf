"""Warnings about an estimate: one a kind, with the count and the worst of its data points."""

from __future__ import annotations

import warnings

import numpy as np

from .errors import (
    AllWeightsZeroWarning,
    ConstantWeightsWarning,
    FastElboWarning,
    InvalidWeightError,
    LowESSWarning,
    ShortTailWarning,
    TotalBiasWarning,
)
from .validation import Floats

# The delta method is a first-order expansion in v/K, the squared standard error.
LOW_ESS_VARIANCE = 0.01
# Standard deviation, in nats, below which weights count as equal. A missed mode far away leaves
# more than rounding does, an approximate q always far more than this.
_CONSTANT = 1e-6
_TOTAL_BIAS = 0.25


def _warn(kind: type[FastElboWarning], message: str) -> None:
    warnings.warn(message, kind, stacklevel=4)


def _places(flags: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], worst: Floats) -> str:
    """How many data points, and the indices of the worst few (the largest of ``worst``)."""
    where = np.flatnonzero(flags)
    order = where[np.argsort(-worst[where], kind="stable")][:5]
    return f"{where.size} of {flags.size} data points (worst: {', '.join(map(str, order))})"


def refuse_bad_weights(n_bad: Floats, first_bad: Floats) -> None:
    """Raise if a log weight came out NaN or +inf."""
    points = np.flatnonzero(n_bad)
    if points.size:
        i = int(points[0])
        raise InvalidWeightError(
            f"{int(n_bad.sum())} log weights are NaN or +inf, the first at data point {i}, draw "
            f"{int(first_bad[i])}: a density overflowed, or q is 0 where the model is not"
        )


def warn_about_weights(n_samples: int, log_evidence: Floats, v: Floats) -> None:
    """Warn of weights from which an evidence or its error cannot be trusted."""
    zero = np.isneginf(log_evidence)
    if zero.any():
        _warn(
            AllWeightsZeroWarning,
            f"every weight is 0 for {_places(zero, zero.astype(float))}: log_evidence is -inf",
        )
    if n_samples == 1 and log_evidence.size:
        _warn(ShortTailWarning, "n_samples = 1 gives no standard error: each is NaN")
        return
    with np.errstate(invalid="ignore"):
        constant = np.sqrt(v) <= _CONSTANT
        low = v / n_samples > LOW_ESS_VARIANCE
    if constant.any():
        _warn(
            ConstantWeightsWarning,
            f"all weights are equal for {constant.sum()} of {constant.size} data points (first: "
            f"{np.flatnonzero(constant)[0]}): q is exact there, or all draws missed a mode",
        )
    if low.any():
        _warn(
            LowESSWarning,
            f"the standard error of log_evidence exceeds {LOW_ESS_VARIANCE**0.5:g} nats for "
            f"{_places(low, v)}: too few effective draws for it to be trusted",
        )


def warn_total_bias(correction: float, se: float) -> None:
    """Warn when the bias of a total of log evidences is not small against its error."""
    if correction > _TOTAL_BIAS * se:
        _warn(
            TotalBiasWarning,
            f"the bias correction of the total, {correction:.3g} nats, is more than "
            f"{_TOTAL_BIAS:g} of its standard error, {se:.3g}; more draws a data point make it "
            "smaller",
        )
