"""numexpr: the exponentials of a large array in one pass over blocks, on all cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numexpr
import numpy as np

from ..inputs import Rows


def _logsumexp(inputs: Rows) -> Callable[[], Any]:
    a, axis = inputs

    def run() -> Any:
        top = a.max(axis=axis, keepdims=True)
        return np.log(numexpr.evaluate("exp(a - top)").sum(axis=axis)) + top.squeeze(axis)

    return run


def _summary(inputs: Rows) -> Callable[[], Any]:
    a, axis = inputs
    k = a.shape[axis]

    def run() -> Any:
        top = a.max(axis=axis, keepdims=True)
        w = numexpr.evaluate("exp(a - top)")
        mean = w.mean(axis=axis, keepdims=True)
        second = numexpr.evaluate("(w - mean)**2").sum(axis=axis) / mean.squeeze(axis) ** 2
        evidence = (np.log(mean) + top).squeeze(axis)
        return evidence, a.mean(axis=axis), second / (k - 1), k / (1.0 + second / k)

    return run


IMPLEMENTATIONS = {"numexpr": {"logsumexp": _logsumexp, "summary": _summary}}
