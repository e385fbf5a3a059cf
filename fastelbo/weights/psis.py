"""Pareto smoothed importance sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.draws import Dim
from ..arrays.protocols import HasVariables, LogWeights
from ..kernels.cpu import tails
from ..validation import Floats, Integers
from .dask_tails import tail_rows
from .pareto import draws_needed, k_threshold
from .smoothing import warn_about_tails


class SmoothedWeights(NamedTuple):
    """Pareto smoothed log weights and estimates from them, one entry per data point; see `psis`.

    Attributes
    ----------
    log_weights : ndarray
        The log ratios, with smoothed values for the largest. They are not normalised:
        ``logmeanexp(log_weights)`` is the smoothed log evidence.
    pareto_k : ndarray
        k-hat, the estimated tail index of the weights.
    log_evidence : ndarray
        log mean of the unsmoothed weights: consistent, and unbiased before the logarithm.
    smoothed_log_evidence : ndarray
        log mean of the smoothed weights: less variance, some bias.
    tail_length : ndarray
        Number of draws in the tail.
    threshold : float
        If k-hat is above it, neither log evidence can be trusted: ``min(1 - 1 / log10 K, 0.7)``.
    min_draws : ndarray
        Number of draws that each k-hat needs: ``10^(1 / (1 - max(0, k)))``.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> smoothed = fe.psis(np.random.default_rng(0).normal(size=1000))
    >>> bool(smoothed.pareto_k < smoothed.threshold)
    True
    """

    log_weights: Floats
    pareto_k: Floats
    log_evidence: Floats
    smoothed_log_evidence: Floats
    tail_length: Integers
    threshold: float
    min_draws: Floats


def psis(
    log_ratios: LogWeights | HasVariables,
    r_eff: ArrayLike = 1.0,
    axis: int | None = None,
    *,
    dim: Dim = None,
    var: str | None = None,
) -> SmoothedWeights:
    """Pareto smoothed importance sampling (Vehtari et al., 2024), for all rows at once.

    Parameters
    ----------
    log_ratios : array_like, path, ElboTerms, xarray object, or Dask array
        Log weights ``log p(x, z_k) - log q(z_k)``, or any log ratios known up to a constant; -inf
        is a weight of 0. Taken are all that `fastelbo.summarize` takes in main memory, and Dask
        arrays, as the notes say.
    r_eff : float or array_like
        Relative efficiency of correlated draws: effective number of draws over number of draws. One
        value for all data points, or one for each, in the shape of the result.
    axis : int, optional
        The axis of the K draws; the last by default.
    dim : str or sequence of str, optional
        Dimensions of the draws of an xarray object, as for `fastelbo.summarize`.
    var : str, optional
        Variable of a Dataset, DataTree or InferenceData, as for `fastelbo.summarize`.

    Returns
    -------
    SmoothedWeights
        Plain arrays; the log weights have the shape of the input, and are a Dask array with its
        chunks if it is one. k-hat is NaN for a tail of fewer
        than 5 draws (K <= 20), for a tail in which a quarter of the draws is equal or has weight 0,
        and for constant weights. It is inf if the tail underflows to 0 relative to its largest
        weight. Without a finite k-hat, the weights are not changed.

    Raises
    ------
    InvalidWeightError
        If a log ratio is NaN or +inf; the message says which.
    InvalidInputError
        If an argument is invalid, or the draws of a list of arrays or of named dimensions are not
        clear.
    UnsupportedDTypeError
        For complex, object, string, long double and masked arrays.
    ClusterError
        If the workers that compute a part of a Dask array die, one after the other.

    Warns
    -----
    HighParetoKWarning
        If k-hat is above the threshold; with the count and the worst data points.
    DrawsAxisWarning
        If the last axis, taken by default, has few draws beside a long axis.
    ShortTailWarning
        If there is no k-hat, because the tail is too short or has too many equal values.
    ConstantWeightsWarning, AllWeightsZeroWarning
        If there is no k-hat, because all weights are equal, or all are 0.

    Notes
    -----
    The M = ceil(min(K / 5, 3 sqrt(K / r_eff))) largest weights are replaced by the quantiles
    (i - 1/2) / M of a generalised Pareto distribution. The distribution is fitted to their excesses
    over the next smaller weight (Zhang and Stephens, 2009). k is shrunk towards 1/2, with the
    weight of 10 draws. No smoothed weight exceeds the largest drawn weight. All computations are in
    float64.

    Of a Dask array, each block for which there is a task has all draws of some data points, at most
    2^27 of each. Chunks that hold all draws of few data points are the cheapest; others are joined,
    and made again for each block that needs them. The log weights are made and smoothed again when
    they are computed. All bits are those of the same array in main memory.

    A good k-hat can be wrong, because it depends only on the draws. Weights of a t5 under a normal
    have k = 1, but k-hat is .64 for 20 000 draws. A mode that q misses completely does not show.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25.
    Zhang and Stephens (2009), Technometrics 51.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> smoothed = fe.psis(0.3 * rng.standard_exponential((2, 10_000)))  # Pareto, k = 0.3
    >>> bool(np.all(abs(smoothed.pareto_k - 0.3) < 0.2))
    True
    >>> bool(np.all(abs(smoothed.smoothed_log_evidence - np.log(1 / 0.7)) < 0.05))
    True
    """
    rows = tail_rows(log_ratios, r_eff, axis, dim, var)
    values, log_weights = rows.smooth()
    warn_about_tails(values, rows.length, "log_ratios")
    k = values[:, tails.PARETO_K].reshape(rows.batch)
    return SmoothedWeights(
        log_weights=log_weights,
        pareto_k=k,
        log_evidence=values[:, tails.LOG_EVIDENCE].reshape(rows.batch),
        smoothed_log_evidence=values[:, tails.SMOOTHED_LOG_EVIDENCE].reshape(rows.batch),
        tail_length=rows.sizes.reshape(rows.batch),
        threshold=k_threshold(rows.length),
        min_draws=draws_needed(k),
    )


# For an array, the declared result is a batch: its type does not show whether it has other axes.
@overload
def pareto_k(  # type: ignore[overload-overlap]
    log_ratios: Sequence[float], r_eff: ArrayLike = 1.0, axis: int | None = None
) -> np.float64: ...
@overload
def pareto_k(
    log_ratios: LogWeights | HasVariables,
    r_eff: ArrayLike = 1.0,
    axis: int | None = None,
    *,
    dim: Dim = None,
    var: str | None = None,
) -> Floats: ...
def pareto_k(
    log_ratios: LogWeights | HasVariables,
    r_eff: ArrayLike = 1.0,
    axis: int | None = None,
    *,
    dim: Dim = None,
    var: str | None = None,
) -> np.float64 | Floats:
    """Pareto k-hat of log weights, without smoothing them.

    Errors and warnings are those of `psis`.

    Parameters
    ----------
    log_ratios, r_eff, axis, dim, var
        Log weights, relative efficiency of the draws, and which draws they are, as for `psis`.

    Returns
    -------
    ndarray or scalar
        One value per data point. The weights have a variance if k is below 1/2, and a mean if k is
        below 1. Above ``min(1 - 1 / log10 K, 0.7)``, K draws are too few. NaN or inf as in `psis`.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> bool(abs(fe.pareto_k(0.3 * rng.standard_exponential(10_000)) - 0.3) < 0.2)
    True
    """
    rows = tail_rows(log_ratios, r_eff, axis, dim, var)
    values = rows.fit()
    warn_about_tails(values, rows.length, "log_ratios")
    return values[:, tails.PARETO_K].reshape(rows.batch)[()]
