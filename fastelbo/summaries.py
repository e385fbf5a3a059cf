"""Estimates from log weights that are there already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .diagnostics import refuse_bad_weights, warn_about_weights
from .errors import InvalidInputError
from .kernels import cpu, extremes, rows, state
from .kernels.launch import Pace, launch
from .pareto import kept_draws
from .progress import Tick, no_tick, progress_bar
from .reductions import as_real, as_rows, normal_axes, threads_for
from .results import Estimate, from_quantities
from .states import Reader, States
from .validation import DEFAULT_IW_SIZES, Floats, as_count, group_sizes

# Numbers in the states of one slice of rows: 32 MB.
_SLICE_NUMBERS = 2**22
_FIRST_ELEMENTS = 2**20


def ess(log_weights: ArrayLike, axis: int = -1) -> Any:
    """Effective sample size ``(sum w)^2 / sum w^2``.

    Parameters
    ----------
    log_weights : array_like
        Real; -inf is a weight of 0.
    axis : int
        The axis of the draws.

    Returns
    -------
    ndarray or scalar
        Between 1 and the number of draws; 0 where every weight is 0.

    Raises
    ------
    InvalidWeightError
        A log weight that is NaN or +inf, with its place.

    Notes
    -----
    Computed as K / (1 + v) from v, the centred second moment of the weights over their squared
    mean, which does not cancel when they are nearly equal.

    Examples
    --------
    >>> import fastelbo as fe
    >>> float(fe.ess([0.0, 0.0, float("-inf")]))
    2.0
    """
    values, shape, _, _ = _summary(log_weights, axis, [], pareto_k=False)
    return values["ess"].reshape(shape)[()]


def summarize(
    log_weights: ArrayLike,
    axis: int = -1,
    *,
    iw_sizes: Iterable[int] | None = None,
    pareto_k: bool = True,
    progress: bool = False,
) -> Estimate:
    """The `Estimate` of log weights that come from elsewhere.

    Parameters
    ----------
    log_weights : array_like
        ``log p(x, z_k) - log q(z_k)``, real; -inf is a weight of 0.
    axis : int
        The axis of the draws k; the others are data points, whose draws are independent.
    iw_sizes : iterable of int, optional
        Group sizes of the importance-weighted bounds, as for `estimate`.
    pareto_k : bool
        Whether to estimate the tail index, as for `estimate`.
    progress : bool
        Show a bar, with tqdm where that is installed.

    Returns
    -------
    Estimate
        ``expected_log_likelihood`` and ``kl``, which the weights do not tell apart, are NaN.

    Raises
    ------
    InvalidWeightError
        A log weight that is NaN or +inf, with its place.

    Examples
    --------
    >>> import fastelbo as fe
    >>> est = fe.summarize([[0.0, 0.1, -0.1, 0.05]], iw_sizes=(), pareto_k=False)
    >>> round(float(est.log_evidence[0]), 6)
    0.015204
    """
    with progress_bar(progress, np.size(log_weights)) as tick:
        values, shape, n_samples, sizes = _summary(log_weights, axis, iw_sizes, pareto_k, tick)
    warn_about_weights(n_samples, values, pareto_k)
    return estimate_of_weights(values, shape, n_samples, sizes)


def estimate_of_weights(
    values: dict[str, Floats], shape: tuple[int, ...], n_samples: int, sizes: list[int]
) -> Estimate:
    """The estimate of log weights whose terms are not known."""
    unknown = np.full(len(values["ess"]), np.nan)
    values |= {
        name: unknown
        for name in ("expected_log_likelihood", "expected_log_likelihood_se", "kl", "kl_se")
    }
    return from_quantities(values, shape, n_samples, sizes, independent=True)


def _summary(
    log_weights: ArrayLike,
    axis: int,
    iw_sizes: Iterable[int] | None,
    pareto_k: bool,
    tick: Tick = no_tick,
) -> tuple[dict[str, Floats], tuple[int, ...], int, list[int]]:
    """What the rows' states tell, the batch shape, the number of draws and the group sizes."""
    array = as_real(log_weights, "log_weights")
    if array.ndim == 0:
        raise InvalidInputError("log_weights must have an axis of draws, got a scalar")
    axes = normal_axes(axis, array.ndim)
    if len(axes) != 1:
        raise InvalidInputError(f"axis must be one axis, that of the draws, got {axis!r}")
    x, shape = as_rows(array, axes)
    n_samples = as_count(x.shape[1], "the number of draws in log_weights")
    sizes = group_sizes(iw_sizes, n_samples, DEFAULT_IW_SIZES)
    values = _row_quantities(x, sizes, kept_draws(n_samples) if pareto_k else 0, tick)
    refuse_bad_weights(values["n_bad"], values["first_bad"])
    return values, shape, n_samples, sizes


def _row_quantities(
    x: np.ndarray[Any, Any], iw_sizes: list[int], capacity: int, tick: Tick
) -> dict[str, Floats]:
    """What `Reader` reads, of each row of x (A, K, B)."""
    before, length, after = x.shape
    size = state.state_size(len(iw_sizes)) + extremes.row_size(capacity)
    n_chunks = -(-length // cpu.CHUNK)
    reader = Reader(before * after, length, iw_sizes, capacity)
    pace = Pace(max(1, _FIRST_ELEMENTS // cpu.CHUNK))
    threads = threads_for(x.size)
    lo = 0
    while lo < before and after:
        most = min(pace.size, _SLICE_NUMBERS // size) // (n_chunks * after)
        count = min(before - lo, max(1, most))
        states = States(count * after, iw_sizes, capacity, threads)
        first = 0
        while first < n_chunks:
            last = min(n_chunks, first + max(1, pace.size // (count * after)))
            with pace:
                push_rows(states, x[lo : lo + count], 0, first, last)
            tick(count * after * (min(last * cpu.CHUNK, length) - first * cpu.CHUNK))
            first = last
        reader.add(states)
        lo += count
    return reader.quantities()


def push_rows(
    states: States, x: np.ndarray[Any, Any], first_draw: int, first: int, last: int
) -> Floats:
    """Append chunks ``first`` to ``last`` of all rows of x, which begins at draw ``first_draw``.

    Returns the states of the chunks.
    """
    before, _, after = x.shape

    def fill(chunks: Floats, kept: Floats) -> None:
        launch(
            rows.summaries, x, first_draw, first, last, states.iw_sizes, states.capacity,
            states.kept.reshape(before, after, states.kept.shape[1]),
            chunks.reshape(before, after, *chunks.shape[1:]),
            kept.reshape(before, after, *kept.shape[1:]), n_threads=states.n_threads,
        )  # fmt: skip

    return states.advance(last - first, fill)
