"""Pareto smoothed importance sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_real
from ..kernels.cpu import tails
from ..validation import Floats, Integers
from .pareto import draws_needed, k_threshold
from .smoothing import TailRows, warn_about_tails


class SmoothedWeights(NamedTuple):
    """Pareto smoothed log weights and what they tell, one entry a data point; see `psis`.

    Attributes
    ----------
    log_weights : ndarray
        The log ratios, the largest replaced by their smoothed values; not normalised, so that
        ``logmeanexp(log_weights)`` is the smoothed log evidence.
    pareto_k : ndarray
        k-hat, the tail index of the weights.
    log_evidence : ndarray
        log mean of the weights as they came: consistent, and unbiased before the logarithm.
    smoothed_log_evidence : ndarray
        log mean of the smoothed weights: less variance, some bias.
    tail_length : ndarray
        Draws in the tail.
    threshold : float
        The k-hat above which neither is to be trusted, ``min(1 - 1 / log10 K, 0.7)``.
    min_draws : ndarray
        Draws that a k-hat as large as this needs, ``10^(1 / (1 - max(0, k)))``.

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


def psis(log_ratios: ArrayLike, r_eff: ArrayLike = 1.0, axis: int = -1) -> SmoothedWeights:
    """Pareto smoothed importance sampling (Vehtari et al., 2024), of all rows at once.

    Parameters
    ----------
    log_ratios : array_like
        Log weights ``log p(x, z_k) - log q(z_k)``, or any log ratios known up to a constant; -inf
        is a weight of 0.
    r_eff : float or array_like
        Relative efficiency of correlated draws, effective ones over draws: one for all data points
        or, in the shape of the result, one for each.
    axis : int
        The axis of the K draws.

    Returns
    -------
    SmoothedWeights
        Where there is no k-hat, the weights are as they came. It is NaN for a tail of fewer than 5
        draws (K <= 20), for one of which a quarter is equal or has weight 0, and for constant
        weights. It is inf where the tail cannot be told from zeros beside its largest weight.

    Raises
    ------
    InvalidWeightError
        A log ratio that is NaN or +inf, with its place.
    UnsupportedDTypeError
        Complex, object, string, long double and masked arrays.

    Warns
    -----
    HighParetoKWarning
        k-hat above the threshold, with the count and the worst data points.
    ShortTailWarning
        No k-hat, for a tail that is too short or too tied.
    ConstantWeightsWarning, AllWeightsZeroWarning
        No k-hat, for want of different weights or of any.

    Notes
    -----
    The M = ceil(min(K / 5, 3 sqrt(K / r_eff))) largest weights are replaced by quantiles
    (i - 1/2) / M of a generalised Pareto distribution, fitted to their excesses over the next one
    (Zhang and Stephens, 2009, with k drawn to 1/2 by the weight of 10 draws), and at most as large
    as the largest that was drawn. All is computed in float64.

    k-hat can reassure falsely, as it sees only what was drawn: weights of t5 under a normal, whose
    k is 1, read .64 from 20 000 draws, and a mode that q missed altogether leaves no trace.

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
    array = as_real(log_ratios, "log_ratios")
    rows = TailRows(array, axis, r_eff, "log_ratios")
    smoothed = np.empty(rows.x.shape)
    values = rows.fit(smoothed)
    warn_about_tails(values, rows.length, "log_ratios")
    batch = rows.batch
    # The axis of draws, last of all, goes back to its place.
    weights = np.moveaxis(smoothed, 1, -1).reshape(*batch, rows.length)
    k = values[:, tails.PARETO_K].reshape(batch)
    return SmoothedWeights(
        log_weights=np.moveaxis(weights, -1, axis),
        pareto_k=k,
        log_evidence=values[:, tails.LOG_EVIDENCE].reshape(batch),
        smoothed_log_evidence=values[:, tails.SMOOTHED_LOG_EVIDENCE].reshape(batch),
        tail_length=rows.sizes.reshape(batch),
        threshold=k_threshold(rows.length),
        min_draws=draws_needed(k),
    )


# Of an array, the type is that for a batch: types do not tell that it has no other axis.
@overload
def pareto_k(  # type: ignore[overload-overlap]
    log_ratios: Sequence[float], r_eff: ArrayLike = 1.0, axis: int = -1
) -> np.float64: ...
@overload
def pareto_k(log_ratios: ArrayLike, r_eff: ArrayLike = 1.0, axis: int = -1) -> Floats: ...
def pareto_k(log_ratios: ArrayLike, r_eff: ArrayLike = 1.0, axis: int = -1) -> np.float64 | Floats:
    """Pareto k-hat of log weights, without their smoothed values.

    The parameters, errors and warnings are those of `psis`.

    Returns
    -------
    ndarray or scalar
        One value a data point: below 1/2 the weights have a variance, below 1 a mean, and above
        ``min(1 - 1 / log10 K, 0.7)`` K draws are too few. NaN or inf as for `psis`.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> bool(abs(fe.pareto_k(0.3 * rng.standard_exponential(10_000)) - 0.3) < 0.2)
    True
    """
    array = as_real(log_ratios, "log_ratios")
    rows = TailRows(array, axis, r_eff, "log_ratios")
    values = rows.fit()
    warn_about_tails(values, rows.length, "log_ratios")
    return values[:, tails.PARETO_K].reshape(rows.batch)[()]
