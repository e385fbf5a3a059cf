"""What an estimate keeps so that more draws go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..frozen import Frozen
from ..validation import Floats


class KeptState(Frozen):
    """The state of each data point after all whole chunks of its draws.

    `fastelbo.estimate` makes it with ``keep_state=True``, and goes on from an estimate that has one
    with ``previous=``. It can be pickled with its estimate.

    Attributes
    ----------
    n_samples : int
        The draws of each data point that it holds, a multiple of 8192. The others are made again.
    nbytes : int
        The memory that it takes; see `Estimate.state`.
    """

    n_samples: int
    # By what the run is known, what else the last bits depend on, and how many of the largest log
    # weights are whole.
    facts: Mapping[str, Any]
    machine: Mapping[str, Any]
    capacity: int
    # As in `engine.folded.Folded`.
    earlier: Floats
    last: Floats
    top_rows: Floats

    def __init__(
        self,
        n_samples: int,
        facts: Mapping[str, Any],
        machine: Mapping[str, Any],
        capacity: int,
        earlier: Floats,
        last: Floats,
        top_rows: Floats,
    ) -> None:
        self._set(
            n_samples=n_samples, facts=dict(facts), machine=dict(machine), capacity=capacity,
            earlier=earlier, last=last, top_rows=top_rows,
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.earlier.nbytes + self.last.nbytes + self.top_rows.nbytes

    def __repr__(self) -> str:
        return f"KeptState(n_samples={self.n_samples}, nbytes={self.nbytes})"
