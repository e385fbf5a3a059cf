"""Estimates from log weights that arrive in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_array, as_real, as_rows, constant, normal_axes
from ..errors import InvalidInputError, InvalidWeightError
from ..kernels.cpu.launch import threads_for
from ..kernels.draws.blocks import CHUNK
from ..results.estimate import Estimate
from ..validation import DEFAULT_IW_SIZES, MAX_DRAWS, Floats, as_count, group_sizes
from ..weights.diagnostics import warn_about_weights
from ..weights.pareto import MAX_KEPT
from . import checkpoints
from .loop import HostSlice, fold
from .rows import estimate_of_weights, row_filler, row_pace
from .states import Reader, StateForm, States


class LogWeightAccumulator:
    """Accumulates log weights in pieces of any size; `result` is the `Estimate` of all so far.

    It stores one folded state of fixed size for each data point, and the log weights of the last,
    incomplete chunk of 8192 draws. Chunks are counted from the first draw and do not depend on the
    pieces. The result therefore has the same bits as `summarize` of all draws at once.

    Parameters
    ----------
    iw_sizes : iterable of int
        Group sizes of the importance-weighted bounds. The result leaves out sizes above the number
        of draws.
    tail_draws : int
        How many of the largest log weights, and of the smallest, are kept for k-hats, at most 4096,
        which is enough for the full tail of 1.8 million draws: up to 73 kB a data point. 0 for no
        k-hat.
    first_draw : int
        Address of the first draw, a multiple of 8192. A worker that takes the draws from there on
        sets it; its accumulator is then merged into the accumulator of the draws before.

    Attributes
    ----------
    n_samples : int
        Number of draws so far, for each data point.
    batch_shape : tuple of int or None
        Shape of the data points; None before the first update.
    exact : bool
        Whether the result has the same bits as one call with all draws. `merge` keeps it True if
        the other's ``first_draw`` is the draw at which this accumulator ends. Otherwise results
        differ by rounding, and the importance-weighted bounds start new groups.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> log_weights = np.random.default_rng(0).normal(size=(3, 20_000))
    >>> accumulator = fe.LogWeightAccumulator()
    >>> for piece in np.array_split(log_weights, 7, axis=1):
    ...     accumulator.update(piece)
    >>> bool(np.all(accumulator.result().elbo == fe.summarize(log_weights).elbo))
    True
    """

    iw_sizes: tuple[int, ...]
    tail_draws: int
    first_draw: int
    n_samples: int
    batch_shape: tuple[int, ...] | None
    exact: bool

    def __init__(
        self,
        iw_sizes: Iterable[int] = DEFAULT_IW_SIZES,
        tail_draws: int = MAX_KEPT,
        *,
        first_draw: int = 0,
    ) -> None:
        self.iw_sizes = tuple(group_sizes(iw_sizes, MAX_DRAWS, ()))
        self.tail_draws = as_count(tail_draws, "tail_draws", least=0)
        if self.tail_draws > MAX_KEPT:
            raise InvalidInputError(f"tail_draws must be at most {MAX_KEPT}, got {tail_draws}")
        self.first_draw = as_count(first_draw, "first_draw", least=0, below=MAX_DRAWS)
        if self.first_draw % CHUNK:
            raise InvalidInputError(
                f"first_draw must be a multiple of {CHUNK}, got {self.first_draw}"
            )
        self.n_samples = 0
        self.batch_shape = None
        self.exact = True
        # Address of the next draw. It determines chunks and groups.
        self._next = self.first_draw
        self._form = StateForm(self.iw_sizes, self.tail_draws)
        self._states = States(0, self._form)
        self._pending = np.empty((0, 0))
        # States of single chunks, for an exact merge into another accumulator. Empty if first_draw
        # is 0: no draws come before, and the folded state is enough.
        self._chunks: list[Floats] = []

    def __repr__(self) -> str:
        return (
            f"LogWeightAccumulator(batch_shape={self.batch_shape}, n_samples={self.n_samples}, "
            f"exact={self.exact})"
        )

    def update(self, log_weights: ArrayLike | Path, axis: int = -1) -> None:
        """Add more draws of every data point.

        Parameters
        ----------
        log_weights : array_like
            The shape of the data points must equal that of the first call. The number of draws may
            differ.
        axis : int
            The axis of the draws.

        Raises
        ------
        InvalidInputError
            If the data points have another shape.
        InvalidWeightError
            If a log weight is NaN or +inf. Nothing of this piece is then added, and all earlier
            draws are kept.
        UnsupportedDTypeError
            For complex, object, string, long double and masked arrays.
        """
        array = as_real(as_array(log_weights, "log_weights"), "log_weights")
        if array.ndim == 0:
            raise InvalidInputError("log_weights must have an axis of draws, got a scalar")
        x, batch = as_rows(array, normal_axes(axis, array.ndim))
        self._check_batch(batch)
        self._refuse_bad(x)
        if self._next + x.shape[1] > MAX_DRAWS:
            raise OverflowError(
                f"draws must be at most {MAX_DRAWS} in all, got {self._next} + {x.shape[1]}"
            )
        if self.batch_shape is None:
            self._begin(batch)
        points, length = len(self._pending), x.shape[1]
        first, end = self._next, self._next + length
        border = min(end, -(-first // CHUNK) * CHUNK)
        if border > first:
            self._hold(x[:, : border - first])
            if border % CHUNK == 0:
                self._push(constant(self._pending[..., None]), border - CHUNK, border)
                self._pending = np.empty((points, 0))
        full = max(border, end // CHUNK * CHUNK)
        self._push(x, first, full, start=border)
        self._hold(x[:, full - first :])
        self._next = end
        self.n_samples += length

    def merge(self, other: LogWeightAccumulator) -> None:
        """Append the draws of another accumulator, which does not change; see ``exact``.

        Raises
        ------
        InvalidInputError
            If ``iw_sizes``, ``tail_draws`` or the shape of the data points differ.
        """
        for name in ("iw_sizes", "tail_draws"):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                raise InvalidInputError(
                    f"{name} of both accumulators must be equal, got {mine} and {others}"
                )
        if other.batch_shape is None:
            return
        self._check_batch(other.batch_shape)
        if self.batch_shape is None:
            self._begin(other.batch_shape)
        if other.n_samples == 0:
            return
        follows = self.exact and other.exact and other.first_draw == self._next > 0
        if follows or (other.exact and self.n_samples == 0 and other.first_draw == self._next):
            self._append_chunks(other)
        else:
            self._append_whole(other)
        self.n_samples += other.n_samples

    def result(self) -> Estimate:
        """The estimate from all draws so far, with the warnings of `summarize`."""
        if self.batch_shape is None or self.n_samples == 0:
            raise InvalidInputError("the accumulator has no draws yet; call update() first")
        states = self._closed()
        reader = Reader(len(states.moments), self.n_samples, self._form)
        reader.add(states)
        values = reader.quantities()
        fitting = [j for j, k in enumerate(self.iw_sizes) if k <= self.n_samples]
        values["iw_value"], values["iw_se"] = (
            values["iw_value"][:, fitting],
            values["iw_se"][:, fitting],
        )
        warn_about_weights(self.n_samples, values, self.tail_draws > 0)
        sizes = [self.iw_sizes[j] for j in fitting]
        return estimate_of_weights(values, self.batch_shape, self.n_samples, sizes)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint for `load`. An existing file is replaced in one atomic step.

        Raises
        ------
        CheckpointError
            If the file cannot be written. An existing file is then unchanged.
        """
        checkpoints.write(path, self._facts(), self._arrays())

    @classmethod
    def load(cls, path: str | Path) -> LogWeightAccumulator:
        """Read an accumulator from a checkpoint.

        One of version 1 goes on too. It did not follow the smallest log weights, so that
        ``pareto_k_elbo`` of its results is NaN.

        Raises
        ------
        CheckpointError
            If the file cannot be read, is truncated or was changed.
        CheckpointMismatchError
            If the checkpoint has another version.
        """
        facts, arrays = checkpoints.read(path)
        acc = cls(facts["iw_sizes"], facts["tail_draws"], first_draw=facts["first_draw"])
        if facts["batch_shape"] is not None:
            acc._begin(tuple(facts["batch_shape"]))
            acc.n_samples, acc.exact, acc._next = (
                facts[name] for name in ("n_samples", "exact", "next")
            )
            acc._states.restore(arrays["moments"], arrays["kept"])
            acc._pending = arrays["pending"]
            acc._chunks = [arrays["chunks"]] if arrays["chunks"].size else []
        return acc

    # --- private --------------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        names = ("iw_sizes", "tail_draws", "first_draw", "n_samples", "batch_shape", "exact")
        return {name: getattr(self, name) for name in names} | {"next": self._next}

    def _arrays(self) -> dict[str, Floats]:
        points, size = self._states.moments.shape
        chunks = [np.empty((points, 0, size)), *self._chunks]
        return {
            "moments": self._states.moments,
            "kept": self._states.packed_top_rows(),
            "pending": self._pending,
            "chunks": np.concatenate(chunks, axis=1),
        }

    def _check_batch(self, batch: tuple[int, ...]) -> None:
        if self.batch_shape not in (None, batch):
            raise InvalidInputError(
                f"log_weights must have data points of shape {self.batch_shape}, as in the first "
                f"update, got {batch}"
            )

    def _refuse_bad(self, x: np.ndarray[Any, Any]) -> None:
        with np.errstate(invalid="ignore"):
            if x.size == 0 or x.max() < np.inf:
                return
        bad = ~(x < np.inf)
        i, k, j = np.argwhere(bad)[0]
        raise InvalidWeightError(
            f"{int(bad.sum())} log weights are NaN or +inf, the first at data point "
            f"{i * x.shape[2] + j}, draw {k} of this piece; nothing of this piece was added"
        )

    def _begin(self, batch: tuple[int, ...]) -> None:
        points = int(np.prod(batch, dtype=np.int64))
        self.batch_shape = batch
        self._states = States(points, self._form)
        self._pending = np.empty((points, 0))

    def _hold(self, x: np.ndarray[Any, Any]) -> None:
        """Store log weights (A, k, B) until their chunk is complete."""
        rows = np.swapaxes(x, 1, 2).reshape(len(self._pending), x.shape[1])
        if rows.size:
            self._pending = np.concatenate([self._pending, rows], axis=1, dtype=np.float64)

    def _push(
        self, x: np.ndarray[Any, Any], first: int, stop: int, start: int | None = None
    ) -> None:
        """Fold the chunks of x from draw ``start`` to ``stop``; x begins at draw ``first``."""
        if x.size == 0:
            return
        states = self._states
        states.n_threads = threads_for(x.size)
        record = self._chunks.append if self.first_draw > 0 and self.exact else None
        part = HostSlice(states, row_filler(states, x, first), record=record)
        begin = first if start is None else start
        fold(part, begin // CHUNK, stop // CHUNK, row_pace(), lambda *_: None)

    def _closed(self) -> States:
        """A copy of the states with the pending draws added."""
        states = self._states.copy()
        held = self._pending.shape[1]
        if self._pending.size:
            chunk = self._next // CHUNK
            x = constant(self._pending[..., None])
            part = HostSlice(states, row_filler(states, x, self._next - held))
            part.append(chunk, chunk + 1)
        return states

    def _append_chunks(self, other: LogWeightAccumulator) -> None:
        """Fold the other's chunks one by one, as if their draws had been added here."""
        states = other._states
        if other.first_draw == 0:
            self._states = states.copy()
        elif other._chunks:
            own = np.concatenate(other._chunks, axis=1)
            self._states.append(own, states.top_rows)
            if self.first_draw > 0:
                self._chunks.append(own)
        self._pending, self._next = other._pending.copy(), other._next

    def _append_whole(self, other: LogWeightAccumulator) -> None:
        """Append the other's folded state. Incomplete groups of both sides are dropped."""
        self._states, states = self._closed(), other._closed()
        self._states.end_groups()
        self._states.append(states.moments[:, None], states.top_rows)
        self._states.end_groups()
        self._pending, self._chunks = np.empty((len(states.moments), 0)), []
        self._next, self.exact = 0, False
