"""Means, errors and sums of numbers up to the largest float, whose squares or sums may overflow.

They are computed of `TINY` times the numbers where these are large. `TINY` is a power of 2, so that
scaling rounds nothing, and what becomes 0 by it was nothing beside the large numbers.
"""

from __future__ import annotations

import math

import numpy as np

from ..kernels.jit.threads import apart
from ..kernels.state.scales import LARGE, TINY
from ..validation import Floats


def scale_of(values: Floats, axis: int | None) -> Floats:
    """1, or `TINY` along an axis with values so large that their squares overflow."""
    finite = np.isfinite(values)
    top = np.abs(values).max(axis=axis, where=finite, initial=0.0, keepdims=True)
    return np.where(top > LARGE, TINY, 1.0)


@apart
def mean_and_error(rows: Floats) -> tuple[Floats, Floats]:
    """Mean of each row and its standard error, NaN where there is none; along the last axis."""
    scale = scale_of(rows, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore", under="ignore"):
        scaled = rows * scale
        mean = np.clip(scaled.mean(axis=-1) / scale[..., 0], np.min(rows, -1), np.max(rows, -1))
        se = scaled.std(axis=-1) / np.sqrt(rows.shape[-1] - 1.0) / scale[..., 0]
    return np.asarray(mean), np.asarray(se)


@np.errstate(over="ignore", under="ignore")
def total(values: Floats) -> float:
    """Sum of all values; infinite only where it is beyond the largest float."""
    scale = scale_of(values, axis=None).item()
    return float((scale * values).sum() / scale)


@np.errstate(over="ignore", under="ignore")
def root_sum_of_squares(values: Floats) -> float:
    """Square root of the sum of all squares; infinite only where it is beyond the largest float."""
    scale = scale_of(values, axis=None).item()
    return float(np.sqrt(((scale * values) ** 2).sum()) / scale)


@np.errstate(over="ignore", under="ignore")
def sum_and_error(*terms: Floats) -> tuple[float, float]:
    """Sum over independent entries of the sums of ``terms``, and its standard error."""
    n = len(terms[0])
    scale = min(scale_of(term, axis=0).item() for term in terms)
    values = np.asarray(sum(scale * term for term in terms))
    se = math.sqrt(n * values.var(ddof=1)) / scale if n > 1 else math.nan
    return float(values.sum() / scale), se
