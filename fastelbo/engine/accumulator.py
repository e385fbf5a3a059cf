"""Estimates from log weights that come in pieces."""

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
    """Takes log weights in pieces of any size, and gives the `Estimate` of all so far.

    It holds a folded state for each data point, of a size that does not grow, and the log weights
    of the chunk of 8192 draws that is not full. Chunks are counted from the first draw, whatever
    the pieces, so that the result has the bits that `summarize` gives for all draws at once.

    Parameters
    ----------
    iw_sizes : iterable of int
        Group sizes of the importance-weighted bounds. One above the number of draws is absent from
        the result.
    tail_draws : int
        How many of the largest log weights, and of the smallest, are kept for k-hats, at most 4096,
        which is enough for the full tail of 1.8 million draws: up to 73 kB a data point. 0 for no
        k-hat.
    first_draw : int
        Address of the first draw that will come, a multiple of 8192: the accumulator of a worker
        that takes the draws from there on, to be merged into that of the draws before.

    Attributes
    ----------
    n_samples : int
        Draws taken in, for each data point.
    batch_shape : tuple of int or None
        Shape of the data points; None before the first update.
    exact : bool
        Whether the result has the bits that all draws would give in one call. Merging keeps it
        where the other's ``first_draw`` is the draw at which this one ends; elsewhere results
        differ by rounding, and groups of the importance-weighted bounds begin anew.

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
        # Address of the next draw: chunks and groups are cut by it.
        self._next = self.first_draw
        self._form = StateForm(self.iw_sizes, self.tail_draws)
        self._states = States(0, self._form)
        self._pending = np.empty((0, 0))
        # The chunks' own states, which an exact merge folds; without draws before, they are folded.
        self._chunks: list[Floats] = []

    def __repr__(self) -> str:
        return (
            f"LogWeightAccumulator(batch_shape={self.batch_shape}, n_samples={self.n_samples}, "
            f"exact={self.exact})"
        )

    def update(self, log_weights: ArrayLike | Path, axis: int = -1) -> None:
        """Take in further draws of every data point.

        Parameters
        ----------
        log_weights : array_like
            Of the shape of the first call, but for the number of draws.
        axis : int
            The axis of the draws.

        Raises
        ------
        InvalidInputError
            Another shape of the data points.
        InvalidWeightError
            A log weight that is NaN or +inf. Nothing of this piece has then been taken in, and
            nothing before it is lost.
        UnsupportedDTypeError
            Complex, object, string, long double and masked arrays.
        """
        array = as_real(as_array(log_weights, "log_weights"), "log_weights")
        if array.ndim == 0:
            raise InvalidInputError("log_weights must have an axis of draws, got a scalar")
        x, batch = as_rows(array, normal_axes(axis, array.ndim))
        self._check_batch(batch)
        self._refuse_bad(x)
        if self._next + x.shape[1] > MAX_DRAWS:
            raise OverflowError(f"draws must be at most {MAX_DRAWS}")
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
        """Append the draws of another accumulator, which stays as it is; see ``exact``.

        Raises
        ------
        InvalidInputError
            If the other has another ``iw_sizes``, ``tail_draws`` or shape.
        """
        for name in ("iw_sizes", "tail_draws"):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                raise InvalidInputError(f"{name} must be equal to merge, got {mine} and {others}")
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
        """The estimate from all draws so far; warnings are those of `summarize`."""
        if self.batch_shape is None or self.n_samples == 0:
            raise InvalidInputError("the accumulator has no draws yet: update() it first")
        states = self._closed()
        reader = Reader(len(states.moments), self.n_samples, self._form)
        reader.add(states)
        values = reader.quantities()
        known = [j for j, k in enumerate(self.iw_sizes) if k <= self.n_samples]
        values["iw_value"], values["iw_se"] = (
            values["iw_value"][:, known],
            values["iw_se"][:, known],
        )
        warn_about_weights(self.n_samples, values, self.tail_draws > 0)
        sizes = [self.iw_sizes[j] for j in known]
        return estimate_of_weights(values, self.batch_shape, self.n_samples, sizes)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, from which `load` goes on; an existing one is replaced at once.

        Raises
        ------
        CheckpointError
            If the file cannot be written; what stood there before stands there still.
        """
        checkpoints.write(path, self._facts(), self._arrays())

    @classmethod
    def load(cls, path: str | Path) -> LogWeightAccumulator:
        """The accumulator that was saved.

        One of version 1 goes on too. It did not follow the smallest log weights, so that
        ``pareto_k_elbo`` of its results is NaN.

        Raises
        ------
        CheckpointError
            A file that cannot be read, is cut off or was changed.
        CheckpointMismatchError
            A checkpoint of another version.
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

    # --- inside ---------------------------------------------------------------------------------

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
                f"log_weights must have data points of shape {self.batch_shape}, as the first "
                f"ones, got {batch}"
            )

    def _refuse_bad(self, x: np.ndarray[Any, Any]) -> None:
        with np.errstate(invalid="ignore"):
            if x.size == 0 or x.max() < np.inf:
                return
        bad = ~(x < np.inf)
        i, k, j = np.argwhere(bad)[0]
        raise InvalidWeightError(
            f"{int(bad.sum())} log weights are NaN or +inf, the first at data point "
            f"{i * x.shape[2] + j}, draw {k} of this piece, of which nothing was taken in"
        )

    def _begin(self, batch: tuple[int, ...]) -> None:
        points = int(np.prod(batch, dtype=np.int64))
        self.batch_shape = batch
        self._states = States(points, self._form)
        self._pending = np.empty((points, 0))

    def _hold(self, x: np.ndarray[Any, Any]) -> None:
        """Keep log weights (A, k, B) until their chunk is full."""
        rows = np.swapaxes(x, 1, 2).reshape(len(self._pending), x.shape[1])
        if rows.size:
            self._pending = np.concatenate([self._pending, rows], axis=1, dtype=np.float64)

    def _push(
        self, x: np.ndarray[Any, Any], first: int, stop: int, start: int | None = None
    ) -> None:
        """Fold the chunks from draw ``start`` to ``stop`` of x, which begins at draw ``first``."""
        if x.size == 0:
            return
        states = self._states
        states.n_threads = threads_for(x.size)
        record = self._chunks.append if self.first_draw > 0 and self.exact else None
        part = HostSlice(states, row_filler(states, x, first), record=record)
        begin = first if start is None else start
        fold(part, begin // CHUNK, stop // CHUNK, row_pace(), lambda *_: None)

    def _closed(self) -> States:
        """A copy of the states that has taken in what is pending."""
        states = self._states.copy()
        held = self._pending.shape[1]
        if self._pending.size:
            chunk = self._next // CHUNK
            x = constant(self._pending[..., None])
            part = HostSlice(states, row_filler(states, x, self._next - held))
            part.append(chunk, chunk + 1)
        return states

    def _append_chunks(self, other: LogWeightAccumulator) -> None:
        """Fold the other's chunks one by one, as if their draws had come here."""
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
        """Append the other's folded state; groups that are open on either side are left out."""
        self._states, states = self._closed(), other._closed()
        self._states.end_groups()
        self._states.append(states.moments[:, None], states.top_rows)
        self._states.end_groups()
        self._pending, self._chunks = np.empty((len(states.moments), 0)), []
        self._next, self.exact = 0, False
