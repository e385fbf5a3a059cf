"""Estimates from log weights that are there already."""

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


# Of an array, the type is that for a batch: types do not tell that it has no other axis.
@overload
def ess(log_weights: Sequence[float], axis: int = -1) -> np.float64: ...  # type: ignore[overload-overlap]
@overload
def ess(log_weights: ArrayLike | Path | ForeignArray, axis: int = -1) -> Floats: ...
def ess(log_weights: ArrayLike | Path | ForeignArray, axis: int = -1) -> np.float64 | Floats:
    """Effective sample size ``(sum w)^2 / sum w^2``.

    Parameters
    ----------
    log_weights : array_like
        Real; -inf is a weight of 0. May be on a GPU, as for `summarize`.
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
    log_weights: ArrayLike | Path | ForeignArray | Iterator[ArrayLike | Path],
    axis: int = -1,
    *,
    iw_sizes: Iterable[int] | None = None,
    pareto_k: bool = True,
    progress: bool = False,
    rows: Literal["independent", "shared"] = "independent",
) -> Estimate:
    """The `Estimate` of log weights that come from elsewhere.

    Parameters
    ----------
    log_weights : array_like, path or iterator of array_like
        ``log p(x, z_k) - log q(z_k)``, real; -inf is a weight of 0. A NumPy, torch or JAX array, a
        memory map, or the path of a ``.npy`` file, of which little is in memory at a time; or an
        iterator of such arrays, which are pieces along ``axis``. An array on a GPU (CuPy, torch,
        JAX, numba), but not in pieces, is reduced there, in place, with the draws along its last
        axis.
    axis : int
        The axis of the draws k; the others are data points.
    iw_sizes : iterable of int, optional
        Group sizes of the importance-weighted bounds, as for `estimate`.
    pareto_k : bool
        Whether to estimate the tail index, as for `estimate`.
    progress : bool
        Show a bar, with tqdm where that is installed.
    rows : {"independent", "shared"}
        Whether each data point has draws of its own, or all have the same, as pointwise
        likelihoods of one set of posterior draws do. Errors of shared draws are not independent:
        `Estimate.total` is then refused.

    Returns
    -------
    Estimate
        ``expected_log_likelihood`` and ``kl``, which the weights do not tell apart, are NaN.

    Raises
    ------
    InvalidWeightError
        A log weight that is NaN or +inf, with its place.
    InvalidInputError
        Another axis, size or ``rows`` than are possible.

    Notes
    -----
    On a GPU the weights of a float32 array, where no groups are asked for, are exponentials of
    single precision: the log evidence and its standard error are within 1e-6 (1 + their size) of
    those of float64, and the Jensen gap and its error are lost where log weights differ by less
    than about 3e-4. The ELBO is not concerned; sums are always of float64.

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
    """What the rows' states tell, the batch shape, the number of draws and the group sizes."""
    there = on_device(log_weights)
    array = log_weights if there else as_array(log_weights, "log_weights")
    if array.ndim == 0:
        raise InvalidInputError("log_weights must have an axis of draws, got a scalar")
    axes = normal_axes(axis, array.ndim)
    if len(axes) != 1:
        raise InvalidInputError(f"axis must be one axis, that of the draws, got {axis!r}")
    n_samples = as_count(array.shape[axes[0]], "the number of draws in log_weights")
    sizes = group_sizes(iw_sizes, n_samples, DEFAULT_IW_SIZES)
    form = StateForm(tuple(sizes), kept_draws(n_samples) if pareto_k else 0)
    if there:
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
