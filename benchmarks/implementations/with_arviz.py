"""ArviZ, whose Pareto smoothing goes row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..inputs import Rows


def _psis(inputs: Rows) -> Callable[[], Any]:
    # Here, because the import warns.
    import arviz

    # Without a sum of the weights, which would take longer.
    return lambda: arviz.psislw(inputs.values, normalize=False)


IMPLEMENTATIONS = {"arviz": {"psis": _psis}}
