"""What a `LogWeightAccumulator` holds, and what it holds after more has come.

Nothing here is ever written to. A change makes another content, so that one that is interrupted has
changed nothing, and a thread that reads needs no lock.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..arrays.inputs import constant
from ..kernels.cpu.launch import threads_for
from ..kernels.draws.blocks import CHUNK
from ..validation import Floats
from .loop import HostSlice, fold
from .rows import row_filler, row_pace
from .spans import begins_span
from .states import StateForm, States


class Content(NamedTuple):
    """The folded states of all full chunks, and the log weights of the last one."""

    batch_shape: tuple[int, ...] | None
    n_samples: int
    exact: bool
    next: int  # address of the next draw: chunks and groups are cut by it
    states: States
    pending: Floats  # (points, k): the log weights of the chunk that is not full
    # The chunks' own states, which an exact merge folds; None if it needs none.
    chunks: tuple[Floats, ...] | None

    @classmethod
    def empty(cls, first_draw: int, form: StateForm) -> Content:
        """No draws yet, and no data points."""
        chunks = () if first_draw > 0 else None
        return cls(None, 0, True, first_draw, States(0, form), np.empty((0, 0)), chunks)

    def begun(self, batch: tuple[int, ...], form: StateForm) -> Content:
        """With data points, if it has none."""
        if self.batch_shape is not None:
            return self
        points = math.prod(batch)
        return self._replace(
            batch_shape=batch, states=States(points, form), pending=np.empty((points, 0))
        )

    def updated(self, x: np.ndarray[Any, Any]) -> Content:
        """With the draws of x (A, k, B)."""
        first, end = self.next, self.next + x.shape[1]
        border = min(end, -(-first // CHUNK) * CHUNK)
        content = self
        if border > first:
            content = content._held(x[:, : border - first])
            if border % CHUNK == 0:
                held = constant(content.pending[..., None])
                content = content._folded(held, border - CHUNK, border - CHUNK, border)
                content = content._replace(pending=np.empty((len(held), 0)))
        full = max(border, end // CHUNK * CHUNK)
        content = content._folded(x, first, border, full)._held(x[:, full - first :])
        return content._replace(next=end, n_samples=self.n_samples + x.shape[1])

    def merged(self, other: Content, first_draw: int) -> Content:
        """With the draws of the other content, which begins at draw ``first_draw``."""
        n_samples = self.n_samples + other.n_samples
        adjacent = self.exact and other.exact and first_draw == self.next
        if adjacent and (first_draw > 0 or self.n_samples == 0):
            return self._with_chunks_of(other)._replace(n_samples=n_samples)
        return self._with_states_of(other)._replace(n_samples=n_samples)

    def closed(self) -> States:
        """The states of all draws, those of the last chunk too."""
        states = self.states.copy()
        if self.pending.size:
            chunk = self.next // CHUNK
            x = constant(self.pending[..., None])
            part = HostSlice(states, row_filler(states, x, self.next - self.pending.shape[1]))
            part.append(chunk, chunk + 1)
        return states

    # --- inside ---------------------------------------------------------------------------------

    def _held(self, x: np.ndarray[Any, Any]) -> Content:
        """With log weights (A, k, B) that wait until their chunk is full."""
        rows = np.swapaxes(x, 1, 2).reshape(len(self.pending), x.shape[1])
        if not rows.size:
            return self
        pending = np.concatenate([self.pending, rows], axis=1, dtype=np.float64)
        return self._replace(pending=pending)

    def _folded(self, x: np.ndarray[Any, Any], first: int, start: int, stop: int) -> Content:
        """With the chunks from draw ``start`` to ``stop`` of x, which begins at draw ``first``."""
        if x.size == 0:
            return self
        states, new = self.states.copy(), list[Floats]()
        states.n_threads = threads_for(x.size)
        record = None if self.chunks is None else new.append
        part = HostSlice(states, row_filler(states, x, first), record=record)
        fold(part, start // CHUNK, stop // CHUNK, row_pace(), lambda *_: None)
        chunks = None if self.chunks is None else (*self.chunks, *new)
        return self._replace(states=states, chunks=chunks)

    def _with_chunks_of(self, other: Content) -> Content:
        """Fold the other's chunks, as if their draws had come here."""
        states, chunks = self.states.copy(), self.chunks
        if other.chunks is None:
            states = other.states
        elif other.chunks:
            own = np.concatenate(other.chunks, axis=1)
            first = self.next // CHUNK
            begins = begins_span(first, first + own.shape[1])
            states.append(own, begins, other.states.top_rows)
            chunks = None if chunks is None else (*chunks, own)
        return self._replace(states=states, chunks=chunks, pending=other.pending, next=other.next)

    def _with_states_of(self, other: Content) -> Content:
        """Append the other's folded state; groups that are open on either side are left out."""
        states, others = self.closed(), other.closed()
        states.end_groups()
        states.append(others.moments[:, None], None, others.top_rows)
        states.end_groups()
        pending = np.empty((len(states), 0))
        return self._replace(states=states, pending=pending, chunks=None, next=0, exact=False)
