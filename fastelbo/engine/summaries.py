"""Estimates from existing log weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.dask_arrays import array_or_dask
from ..arrays.devices import on_device
from ..arrays.draws import (
    Dim,
    Draws,
    read_draws,
    replicates_of,
    warn_few_draws,
)
from ..arrays.inputs import as_rows
from ..arrays.lazy import is_dask_array
from ..arrays.protocols import ForeignArray, HasVariables, LogWeights
from ..errors import InvalidInputError
from ..progress import Tick, no_tick, progress_bar
from ..results.estimate import Estimate
from ..validation import (
    DEFAULT_IW_SIZES,
    MAX_DRAWS,
    Floats,
    as_choice,
    as_count,
    as_flag,
    group_sizes,
    shown,
)
from ..weights.diagnostics import refuse_bad_weights, warn_about_weights
from ..weights.pareto import MAX_KEPT, kept_draws
from .accumulator import LogWeightAccumulator
from .cluster.rows import dask_row_quantities
from .cuda_states import device_row_quantities
from .replicated_rows import (
    replicated_draws,
    replicated_quantities,
    sizes_of_groups,
)
from .rows import estimate_of_weights, row_quantities
from .states import Quantities, StateForm
from .terms import ElboTerms


# For an array, the declared result is a batch: its type does not show whether it has other axes.
@overload
def ess(  # type: ignore[overload-overlap]
    log_weights: Sequence[float], axis: int | None = None
) -> np.float64: ...
@overload
def ess(
    log_weights: LogWeights | ForeignArray | HasVariables,
    axis: int | None = None,
    *,
    dim: Dim = None,
    var: str | None = None,
) -> Floats: ...
def ess(
    log_weights: LogWeights | ForeignArray | HasVariables,
    axis: int | None = None,
    *,
    dim: Dim = None,
    var: str | None = None,
) -> np.float64 | Floats:
    """Effective sample size ``(sum w)^2 / sum w^2``.

    Parameters
    ----------
    log_weights : array_like, path, ElboTerms, xarray object, or Dask array
        Real numbers; -inf is a weight of 0. They may be on a GPU or in a Dask array, as for
        `summarize`.
    axis : int, optional
        The axis of the draws; the last by default.
    dim, var : str, optional
        Names of dimensions and of a variable of an xarray object, as for `summarize`.

    Returns
    -------
    ndarray or scalar
        Between 1 and the number of draws; 0 if every weight is 0.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf; the message says which.

    Warns
    -----
    DrawsAxisWarning
        If the last axis, taken by default, has few draws beside a long axis.

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
    draws = read_draws(
        log_weights, "log_weights", axis, dim, var, device=True, replicated=True, lazy=True
    ).checked()
    values, shape = _summary(draws, StateForm((), 0))
    return values["ess"].reshape(shape)[()]


def summarize(
    log_weights: LogWeights | ForeignArray | HasVariables | Iterator[ArrayLike | Path],
    axis: int | None = None,
    *,
    dim: Dim = None,
    var: str | None = None,
    iw_sizes: Iterable[int] | None = None,
    pareto_k: bool = True,
    progress: bool = False,
    rows: Literal["independent", "shared"] = "independent",
    replicates: int | None = None,
) -> Estimate:
    """The `Estimate` from existing log weights.

    Parameters
    ----------
    log_weights : array_like, path, ElboTerms, xarray object, Dask array, or iterator of array_like
        Real numbers ``log p(x, z_k) - log q(z_k)``; -inf is a weight of 0. Allowed are an array of
        NumPy, torch, JAX or pandas, a memory map, and the path of a ``.npy`` file, which is read in
        small parts. An iterator of them gives pieces along ``axis``. Of the terms that `elbo_terms`
        returns, the estimate also has the log-likelihood and the KL. An array on a GPU (CuPy,
        torch, JAX, numba) is reduced there in place. Its draws must be along the last axis, and it
        must not be in pieces. A Dask array, or an xarray object with one, is never loaded: see the
        notes.
    axis : int, optional
        The axis of the draws k; the last by default. The other axes are data points. `sample`,
        `log_prob` and `loo` have draws first: ``summarize(p.log_prob(z) - q.log_prob(z), axis=0)``.
        A list of arrays, which may be data points or pieces, is stacked if ``axis`` is given, and
        refused otherwise.
    dim : str or sequence of str, optional
        Dimensions of the draws of an xarray object, joined in this order. By default they are
        "chain" and "draw", or "sample". Where no dimension has one of these names, ``dim`` or
        ``axis`` is needed.
    var : str, optional
        Variable of an xarray Dataset or DataTree, or of an InferenceData, where it has several, as
        ``"y"`` or ``"group/y"``.
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
    replicates : int, optional
        R, at least 2, for log weights of quasi-random draws. Their shape is (..., R, n): R
        replicates of n draws, each with a randomisation of its own. Errors are then those between
        replicates, with Student's t; see `fastelbo.weights.replicates`. Without ``replicates`` the
        draws count as independent, and their errors come out too large. `ElboTerms` know their
        replicates. Bounds of k weights take one draw of each of k replicates: k is at most R, and n
        a power of two. Arrays on a GPU, Dask arrays and pieces are refused.

    Returns
    -------
    Estimate
        ``expected_log_likelihood`` and ``kl`` are NaN, unless `ElboTerms` are given: log weights
        alone do not determine them.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf; the message says which.
    InvalidInputError
        If an argument is invalid, or the draws of a list of arrays or of named dimensions are not
        clear.
    ClusterError
        If the workers that compute a part of a Dask array die, one after the other.

    Warns
    -----
    DrawsAxisWarning
        If the last axis, taken by default, has fewer than 100 draws, and another is at least ten
        times as long.
    FastElboWarning
        As for `estimate`.

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
    independent = as_choice(rows, "rows", ("independent", "shared")) == "independent"
    pareto_k, progress = as_flag(pareto_k, "pareto_k"), as_flag(progress, "progress")
    if isinstance(log_weights, Iterator):
        if var is not None:
            raise InvalidInputError(f"var must be None for pieces of draws, got {shown(var)}")
        if replicates is not None:
            raise InvalidInputError(
                f"replicates must be None for pieces of draws, got {shown(replicates)}"
            )
        with progress_bar(progress, None) as tick:
            result = _summarize_pieces(log_weights, axis, dim, iw_sizes, pareto_k, tick)
        return replace(result, independent=independent)
    draws = read_draws(
        log_weights, "log_weights", axis, dim, var, device=True, replicated=True, lazy=True
    )
    known = replicates_of(log_weights)
    count = _count_of_replicates(replicates, known)
    draws = draws.checked() if count == 1 else replicated_draws(draws, count, axis)
    n_samples = draws.length
    if count == 1:
        sizes = group_sizes(iw_sizes, n_samples, DEFAULT_IW_SIZES)
    else:
        sizes = sizes_of_groups(iw_sizes, count, n_samples // count)
    form = StateForm(tuple(sizes), kept_draws(n_samples) if pareto_k else 0, replicates=count)
    with progress_bar(progress, math.prod(draws.array.shape)) as tick:
        values, shape = _summary(draws, form, tick)
    terms = None
    if isinstance(log_weights, ElboTerms):
        terms = _means_of_terms(log_weights, draws, form.capacity, count)
    warn_about_weights(n_samples, values | (terms or {}), pareto_k, count)
    sampler = "sobol" if known > 1 else "iid" if count == 1 else "replicated"
    return estimate_of_weights(values, shape, n_samples, sizes, terms, count, sampler, independent)


def _count_of_replicates(replicates: object, known: int) -> int:
    """R as given, or as the log weights know it; 1 for independent draws."""
    if replicates is None:
        return known
    count = as_count(replicates, "replicates", least=2)
    if known not in (1, count):
        raise InvalidInputError(
            f"replicates must be {known}, those of the terms in log_weights, or None; got {count}"
        )
    return count


def _summary(
    draws: Draws, form: StateForm, tick: Tick = no_tick
) -> tuple[Quantities, tuple[int, ...]]:
    """The quantities of the rows, and the shape of the data points."""
    if on_device(draws.array):
        values, shape = device_row_quantities(draws.array, draws.axes[0], form, tick)
    else:
        values, shape = _row_quantities(draws, form, tick)
    refuse_bad_weights(values["n_bad"], values["first_bad"])
    return values, shape


def _row_quantities(
    draws: Draws, form: StateForm, tick: Tick = no_tick
) -> tuple[Quantities, tuple[int, ...]]:
    """As `_summary`, of an array of the host or of Dask, whatever its log weights are."""
    if form.replicates > 1:
        return replicated_quantities(draws, form, tick)
    if is_dask_array(draws.array):
        return dask_row_quantities(draws, form, tick)
    x, shape = as_rows(draws.array, draws.axes)
    return row_quantities(x, form, tick), shape


def _means_of_terms(
    terms: ElboTerms, draws: Draws, capacity: int, replicates: int = 1
) -> Quantities:
    """Means of the log-likelihood and of the KL's terms, their errors and k-hats.

    The mean of log weights is called their ELBO, and ``pareto_k_elbo`` is the k-hat of their
    negatives. Here the log weights are each of the terms.
    """
    found = {}
    log_prior, log_q = (
        array_or_dask(getattr(terms, each), each) for each in ("log_prior", "log_q")
    )
    log_ratio = log_prior - log_q
    for name, k, sign, term in (
        ("expected_log_likelihood", "pareto_k_likelihood", 1.0, terms.log_likelihood),
        ("kl", "pareto_k_kl", -1.0, log_ratio),
    ):
        own = draws._replace(array=array_or_dask(term, name))
        form = StateForm((), capacity, replicates=replicates)
        values, _ = _row_quantities(own, form)
        found[name], found[f"{name}_se"] = sign * values["elbo"], values["elbo_se"]
        if replicates > 1:
            found[f"replicate_{name}"] = sign * values["replicate_elbo"]
        # An infinite term has no tail to fit.
        found[k] = np.where(values["n_zero"] > 0, np.nan, values["pareto_k_elbo"])
    return found


def _summarize_pieces(
    pieces: Iterator[Any],
    axis: int | None,
    dim: Dim,
    iw_sizes: Iterable[int] | None,
    pareto_k: bool,
    tick: Tick,
) -> Estimate:
    wanted = None if iw_sizes is None else group_sizes(iw_sizes, MAX_DRAWS, ())
    accumulator = LogWeightAccumulator(
        DEFAULT_IW_SIZES if wanted is None else wanted, MAX_KEPT if pareto_k else 0
    )
    assumed = False
    for piece in pieces:
        draws = read_draws(piece, "log_weights", axis, dim)
        accumulator._add(draws)
        assumed |= draws.assumed
        tick(draws.array.size)
    n_samples = as_count(accumulator.n_samples, "the number of draws in log_weights")
    group_sizes(wanted, n_samples, DEFAULT_IW_SIZES)
    batch = accumulator.batch_shape
    if assumed and batch:
        # The last axis of the pieces was taken.
        warn_few_draws(n_samples, (*batch, n_samples), len(batch), "log_weights")
    return accumulator.result()
