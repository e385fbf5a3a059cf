"""Estimates from existing log weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.devices import on_device
from ..arrays.inputs import as_array, as_rows, normal_axes
from ..arrays.protocols import ForeignArray
from ..errors import InvalidInputError
from ..progress import Tick, no_tick, progress_bar
from ..results.estimate import Estimate
from ..validation import DEFAULT_IW_SIZES, Floats, as_count, group_sizes
from ..weights.diagnostics import refuse_bad_weights, warn_about_weights
from ..weights.pareto import MAX_KEPT, kept_draws
from .accumulator import LogWeightAccumulator
from .cuda_states import device_row_quantities
from .rows import estimate_of_weights, row_quantities
from .states import StateForm


# For an array, the declared result is a batch: its type does not show whether it has other axes.
@overload
def ess(log_weights: Sequence[float], axis: int = -1) -> np.float64: ...  # type: ignore[overload-overlap]
@overload
def ess(log_weights: ArrayLike | Path | ForeignArray, axis: int = -1) -> Floats: ...
def ess(log_weights: ArrayLike | Path | ForeignArray, axis: int = -1) -> np.float64 | Floats:
    """Effective sample size ``(sum w)^2 / sum w^2``.

    Parameters
    ----------
    log_weights : array_like
        Real numbers; -inf is a weight of 0. They may be on a GPU, as for `summarize`.
    axis : int
        The axis of the draws.

    Returns
    -------
    ndarray or scalar
        Between 1 and the number of draws; 0 if every weight is 0.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf; the message says which.

    Notes
    -----
    Computed as K / (1 + v), where v is the centred second moment of the weights over their squared
    mean. This has no cancellation for nearly equal weights.

    Examples
    --------
    >>> import fastelbo as fe
    >>> float(fe.ess([0.0, 0.0, float("-inf")]))
    2.0
    """
    values, shape, _, _ = _summary(log_weights, axis, [], pareto_k=False)
    return values["ess"].reshape(shape)[()]


def summarize(
    log_weights: ArrayLike | Path | ForeignArray | Iterator[ArrayLike | Path],
    axis: int = -1,
    *,
    iw_sizes: Iterable[int] | None = None,
    pareto_k: bool = True,
    progress: bool = False,
    rows: Literal["independent", "shared"] = "independent",
) -> Estimate:
    """The `Estimate` from existing log weights.

    Parameters
    ----------
    log_weights : array_like, path or iterator of array_like
        Real numbers ``log p(x, z_k) - log q(z_k)``; -inf is a weight of 0. Allowed are a NumPy,
        torch or JAX array, a memory map, and the path of a file that
        `fastelbo.arrays.files.open_array` reads: a ``.npy`` file is read in small parts, and must
        not be cut meanwhile, which ends the process. An iterator of them gives pieces along
        ``axis``. An array on a GPU (CuPy, torch, JAX, numba) is reduced there in place. Its draws
        must be along the last axis, and it must not be in pieces.
    axis : int
        The axis of the draws k. The other axes are data points.
    iw_sizes : iterable of int, optional
        Group sizes of the importance-weighted bounds, as for `estimate`.
    pareto_k : bool
        Whether to estimate the tail index, as for `estimate`.
    progress : bool
        Show a progress bar, if tqdm is installed.
    rows : {"independent", "shared"}
        Whether each data point has draws of its own, or all have the same, as pointwise
        likelihoods of one set of posterior draws do. Errors of shared draws are not independent:
        `Estimate.total` is then refused.

    Returns
    -------
    Estimate
        ``expected_log_likelihood`` and ``kl`` are NaN: log weights do not determine them.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf; the message says which.
    InvalidInputError
        If ``rows``, an axis or a size is invalid.

    Notes
    -----
    For a float32 array on a GPU and empty ``iw_sizes``, the weights are exponentials in single
    precision. The log evidence and its standard error then differ by at most 1e-6 (1 + their size)
    from float64. The Jensen gap and its error are lost if log weights differ by less than about
    3e-4. The ELBO is not affected. Sums are always in float64.

    Examples
    --------
    >>> import fastelbo as fe
    >>> est = fe.summarize([[0.0, 0.1, -0.1, 0.05]], iw_sizes=(), pareto_k=False)
    >>> round(float(est.log_evidence[0]), 6)
    0.015204
    """
    if rows not in ("independent", "shared"):
        raise InvalidInputError(f"rows must be 'independent' or 'shared', got {rows!r}")
    independent = rows == "independent"
    if isinstance(log_weights, Iterator):
        with progress_bar(progress, None) as tick:
            result = _summarize_pieces(log_weights, axis, iw_sizes, pareto_k, tick)
        return replace(result, independent=independent)
    array: Any = log_weights
    if not on_device(array):
        array = as_array(array, "log_weights")
    with progress_bar(progress, math.prod(array.shape)) as tick:
        values, shape, n_samples, sizes = _summary(array, axis, iw_sizes, pareto_k, tick)
    warn_about_weights(n_samples, values, pareto_k)
    result = estimate_of_weights(values, shape, n_samples, sizes)
    return replace(result, independent=independent)


def _summary(
    log_weights: Any,
    axis: int,
    iw_sizes: Iterable[int] | None,
    pareto_k: bool,
    tick: Tick = no_tick,
) -> tuple[dict[str, Floats], tuple[int, ...], int, list[int]]:
    """The quantities of the rows, the batch shape, the number of draws and the group sizes."""
    is_on_device = on_device(log_weights)
    array = log_weights if is_on_device else as_array(log_weights, "log_weights")
    if array.ndim == 0:
        raise InvalidInputError("log_weights must have an axis of draws, got a scalar")
    axes = normal_axes(axis, array.ndim)
    if len(axes) != 1:
        raise InvalidInputError(f"axis must be one axis, the axis of the draws, got {axis!r}")
    n_samples = as_count(array.shape[axes[0]], "the number of draws in log_weights")
    sizes = group_sizes(iw_sizes, n_samples, DEFAULT_IW_SIZES)
    form = StateForm(tuple(sizes), kept_draws(n_samples) if pareto_k else 0)
    if is_on_device:
        values, shape = device_row_quantities(array, axes[0], form, tick)
    else:
        x, shape = as_rows(array, axes)
        values = row_quantities(x, form, tick)
    refuse_bad_weights(values["n_bad"], values["first_bad"])
    return values, shape, n_samples, sizes


def _summarize_pieces(
    pieces: Iterator[Any],
    axis: int,
    iw_sizes: Iterable[int] | None,
    pareto_k: bool,
    tick: Tick,
) -> Estimate:
    wanted = None if iw_sizes is None else list(iw_sizes)
    accumulator = LogWeightAccumulator(
        DEFAULT_IW_SIZES if wanted is None else wanted, MAX_KEPT if pareto_k else 0
    )
    for piece in pieces:
        accumulator.update(piece, axis)
        tick(np.size(piece))
    draws = as_count(accumulator.n_samples, "the number of draws in log_weights")
    group_sizes(wanted, draws, DEFAULT_IW_SIZES)
    return accumulator.result()
