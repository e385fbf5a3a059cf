"""The arrays of folded states, as they are kept and saved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.state import top_k
from ..validation import Floats


class Folded(NamedTuple):
    """The arrays of states, which nobody writes to."""

    earlier: Floats  # (points, ...): the spans before the last one; of no rows without such
    last: Floats  # (points, ...): the last span
    top_rows: Floats  # (points, streams, ...): the largest values
    of_replicates: Floats  # (points * replicates, ...); of no rows without replicates

    def packed(self) -> Folded:
        """With top rows without the columns that no row uses."""
        rows = self.top_rows
        if not rows.size or rows.shape[2] <= top_k.VALUES:
            return self._replace(top_rows=rows[..., :0])
        count = rows[..., top_k.COUNT].astype(np.int64)
        rows = rows[..., : top_k.VALUES + int(count.max())].copy()
        rows[..., top_k.VALUES :][np.arange(count.max()) >= count[..., None]] = -np.inf
        return self._replace(top_rows=rows)

    def part(self, lo: int, stop: int) -> Folded:
        """Those of some data points, of draws without replicates."""
        return Folded(
            self.earlier[lo:stop], self.last[lo:stop], self.top_rows[lo:stop], self.of_replicates
        )


def joined(parts: list[Folded]) -> Folded:
    """Packed arrays of data points that follow one another, of draws without replicates."""
    width = max(part.top_rows.shape[2] for part in parts)

    def widened(rows: Floats) -> Floats:
        missing = width - rows.shape[2]
        return np.pad(rows, ((0, 0), (0, 0), (0, missing)), constant_values=-np.inf)

    return Folded(
        np.concatenate([part.earlier for part in parts]),
        np.concatenate([part.last for part in parts]),
        np.concatenate([widened(part.top_rows) for part in parts]),
        parts[0].of_replicates,
    )
