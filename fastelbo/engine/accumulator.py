"""Estimates from log weights that arrive in pieces."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays.draws import Dim, Draws, read_draws
from ..arrays.protocols import HasVariables, LogWeights
from ..errors import CheckpointMismatchError, InvalidInputError, InvalidWeightError
from ..kernels.draws.blocks import CHUNK
from ..results.estimate import Estimate
from ..validation import DEFAULT_IW_SIZES, MAX_DRAWS, Floats, as_count, group_sizes, shown
from ..version import STREAM_VERSION
from ..weights.diagnostics import warn_about_weights
from ..weights.pareto import MAX_KEPT
from . import checkpoints
from .content import Content
from .folded import Folded
from .lower_tails import with_lower_tails
from .rows import estimate_of_weights
from .states import Reader, StateForm


class LogWeightAccumulator:
    """Accumulates log weights in pieces of any size; `result` is the `Estimate` of all so far.

    It stores a folded state of fixed size for each data point, two from 8.4 million draws on, and
    the log weights of the last, incomplete chunk of 8192 draws. Chunks are counted from the first
    draw and do not depend on the pieces. The result therefore has the same bits as `summarize` of
    all draws at once.

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
        Whether the result has the same bits as one call with all draws, at the same addresses.
        `merge` keeps it True if the other's ``first_draw`` is the draw at which this accumulator
        ends. Otherwise results differ by rounding, and the importance-weighted bounds start new
        groups. Of a checkpoint with an older ``stream_version``, it is False, as the last bits of
        its sums are older.

    Notes
    -----
    Several threads may share an accumulator. An update or merge that is interrupted or fails
    changes nothing.

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
        self._form = StateForm(self.iw_sizes, self.tail_draws, smallest=True)
        self._content = Content.empty(self.first_draw, self._form)
        self._unlock()

    @property
    def n_samples(self) -> int:
        """Number of draws so far, for each data point."""
        return self._content.n_samples

    @property
    def batch_shape(self) -> tuple[int, ...] | None:
        """Shape of the data points; None before the first update."""
        return self._content.batch_shape

    @property
    def exact(self) -> bool:
        """Whether the result has the same bits as one call with all draws."""
        return self._content.exact

    def __getstate__(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if name != "_lock"}
        return own | {"stream_version": STREAM_VERSION}

    def __setstate__(self, state: dict[str, Any]) -> None:
        found = state.pop("stream_version", None)
        if found != STREAM_VERSION:
            raise CheckpointMismatchError(
                f"the pickled accumulator has stream version {found or 'unknown'}, expected "
                f"{STREAM_VERSION}; what save() writes goes on in later versions"
            )
        vars(self).update(state)
        self._unlock()

    def __repr__(self) -> str:
        content = self._content
        return (
            f"LogWeightAccumulator(batch_shape={content.batch_shape}, "
            f"n_samples={content.n_samples}, exact={content.exact})"
        )

    def update(
        self, log_weights: LogWeights | HasVariables, axis: int | None = None, *, dim: Dim = None
    ) -> None:
        """Add more draws of every data point.

        Parameters
        ----------
        log_weights : array_like, path, ElboTerms or DataArray
            The shape of the data points must equal that of the first call. The number of draws may
            differ.
        axis : int, optional
            The axis of the draws; the last by default.
        dim : str or sequence of str, optional
            Dimensions of the draws of an xarray object, as for `fastelbo.summarize`.

        Raises
        ------
        InvalidInputError
            If the data points have another shape, or an argument is invalid.
        InvalidWeightError
            If a log weight is NaN or +inf. Nothing of this piece is then added, and all earlier
            draws are kept.
        UnsupportedDTypeError
            For complex, object, string, long double and masked arrays.
        """
        self._add(read_draws(log_weights, "log_weights", axis, dim, least=0))

    def _add(self, draws: Draws) -> None:
        """See `update`."""
        x, batch = draws.rows()
        _refuse_bad(x)

        def change(content: Content) -> Content:
            _check_batch(content, batch)
            if content.next + x.shape[1] > MAX_DRAWS:
                raise OverflowError(
                    f"draws must be at most {MAX_DRAWS} in all, got {content.next} + {x.shape[1]}"
                )
            return content.begun(batch, self._form).updated(x)

        self._change(change)

    def merge(self, other: LogWeightAccumulator) -> None:
        """Append the draws of another accumulator, which does not change; see ``exact``.

        Raises
        ------
        InvalidInputError
            If ``other`` is no accumulator or is this one, or if ``iw_sizes``, ``tail_draws`` or the
            shape of the data points differ.
        """
        if not isinstance(other, LogWeightAccumulator):
            raise InvalidInputError(
                f"other must be a LogWeightAccumulator, got {shown(other)} of type "
                f"{type(other).__name__}"
            )
        if other is self:
            raise InvalidInputError(
                "other must be another accumulator, got this one: its draws would count twice"
            )
        for name in ("iw_sizes", "tail_draws"):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                raise InvalidInputError(
                    f"{name} of both accumulators must be equal, got {mine} and {others}"
                )
        theirs = other._content
        batch = theirs.batch_shape
        if batch is None:
            return

        def change(content: Content) -> Content:
            _check_batch(content, batch)
            content = content.begun(batch, self._form)
            return content.merged(theirs, other.first_draw) if theirs.n_samples else content

        self._change(change)

    def result(self) -> Estimate:
        """The estimate from all draws so far, with the warnings of `summarize`."""
        content = self._content
        n_samples = content.n_samples
        if content.batch_shape is None or n_samples == 0:
            raise InvalidInputError("the accumulator has no draws yet; call update() first")
        states = content.closed()
        reader = Reader(len(states), n_samples, self._form)
        reader.add(states)
        values = with_lower_tails(
            reader.quantities(), n_samples, self.tail_draws,
            lambda points, names: {"pareto_k_elbo": states.lower_tails(n_samples, points)},
        )  # fmt: skip
        fitting = [j for j, k in enumerate(self.iw_sizes) if k <= n_samples]
        values["iw_value"], values["iw_se"] = (
            values["iw_value"][:, fitting],
            values["iw_se"][:, fitting],
        )
        warn_about_weights(n_samples, values, self.tail_draws > 0)
        sizes = [self.iw_sizes[j] for j in fitting]
        return estimate_of_weights(values, content.batch_shape, n_samples, sizes)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint for `load`. An existing file is replaced in one atomic step.

        If the path is a symbolic link, its target is replaced. Temporary files that a killed
        process has left beside it are removed.

        Raises
        ------
        CheckpointError
            If the file cannot be written. An existing file is then unchanged.
        InvalidInputError
            If the path is no str or Path.
        """
        content = self._content
        target = checkpoints.as_path(path, "path")
        checkpoints.write(target, checkpoints.ACCUMULATOR, self._facts(content), _arrays(content))

    @classmethod
    def load(cls, path: str | Path) -> LogWeightAccumulator:
        """Read an accumulator from a checkpoint.

        One of an older version goes on too, with ``exact`` False. The first version did not follow
        the smallest log weights, so that ``pareto_k_elbo`` of its results is NaN.

        Raises
        ------
        CheckpointError
            If the file cannot be read, is truncated or was changed.
        CheckpointMismatchError
            If the checkpoint is of a later version, or of chunks of another size.
        InvalidInputError
            If the path is no str or Path.
        """
        facts, arrays = checkpoints.read(checkpoints.as_path(path, "path"), checkpoints.ACCUMULATOR)
        acc = cls(facts["iw_sizes"], facts["tail_draws"], first_draw=facts["first_draw"])
        if facts["batch_shape"] is not None:
            content = acc._content.begun(tuple(facts["batch_shape"]), acc._form)
            last = arrays["moments"]
            content.states.restore(Folded(arrays["earlier"], last, arrays["kept"], last[:0]))
            exact = facts["exact"]
            chunks = (arrays["chunks"],) if arrays["chunks"].size else ()
            acc._content = content._replace(
                n_samples=facts["n_samples"],
                exact=exact,
                next=facts["next"],
                pending=arrays["pending"],
                chunks=chunks if acc.first_draw > 0 and exact else None,
            )
        return acc

    # --- private --------------------------------------------------------------------------------

    def _unlock(self) -> None:
        # One that its own thread may take again: a signal handler may call `update`, too.
        self._lock = threading.RLock()
        _accumulators.add(self)

    def _change(self, change: Callable[[Content], Content]) -> None:
        """Replace the content by ``change`` of it: at once, wholly, and one thread at a time."""
        with self._lock:
            while True:
                before = self._content
                after = change(before)
                # Only a signal handler on this thread may have changed it meanwhile.
                if self._content is before:
                    self._content = after
                    return

    def _facts(self, content: Content) -> dict[str, Any]:
        return {
            "iw_sizes": self.iw_sizes,
            "tail_draws": self.tail_draws,
            "first_draw": self.first_draw,
            "n_samples": content.n_samples,
            "batch_shape": content.batch_shape,
            "exact": content.exact,
            "next": content.next,
        }


def _arrays(content: Content) -> dict[str, Floats]:
    folded = content.states.folded().packed()
    points, size = folded.last.shape
    chunks = [np.empty((points, 0, size)), *(content.chunks or ())]
    return {
        "earlier": folded.earlier,
        "moments": folded.last,
        "kept": folded.top_rows,
        "pending": content.pending,
        "chunks": np.concatenate(chunks, axis=1),
    }


def _check_batch(content: Content, batch: tuple[int, ...]) -> None:
    if content.batch_shape not in (None, batch):
        raise InvalidInputError(
            f"log_weights must have data points of shape {content.batch_shape}, as in the first "
            f"update, got {batch}"
        )


def _refuse_bad(x: np.ndarray[Any, Any]) -> None:
    with np.errstate(invalid="ignore"):
        if x.size == 0 or x.max() < np.inf:
            return
    bad = ~(x < np.inf)
    i, k, j = np.argwhere(bad)[0]
    raise InvalidWeightError(
        f"{int(bad.sum())} log weights are NaN or +inf, the first at data point "
        f"{i * x.shape[2] + j}, draw {k} of this piece; nothing of this piece was added"
    )


_accumulators: weakref.WeakSet[LogWeightAccumulator] = weakref.WeakSet()


def _unlock_all() -> None:
    """A forked child has no thread that would release the lock of one. None is half changed."""
    for accumulator in list(_accumulators):
        accumulator._unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_all)
