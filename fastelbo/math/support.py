"""Where a density is 0, and where a parameter makes no sense."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.math.everywhere import select
from .calls import compiled


@compiled
def if_positive(parameter: Any) -> Any:
    """A parameter that must be positive; else NaN."""
    return select(parameter > 0.0, parameter, np.nan)


@compiled
def nothing_where(outside: Any, log_prob: Any) -> Any:
    """-inf outside of the support, unless the log density is NaN."""
    return select(outside & (log_prob == log_prob), -np.inf, log_prob)


@compiled
def times_log(factor: Any, log: Any) -> Any:
    """factor * log, and 0 for no factor, of log(0), too."""
    return factor * select((factor == 0.0) & (np.abs(log) == np.inf), 0.0, log)


@compiled
def is_count(y: Any) -> Any:
    """Whether y is 0, 1, 2, ..."""
    return (y >= 0.0) & (np.floor(y) == y) & (y < np.inf)
