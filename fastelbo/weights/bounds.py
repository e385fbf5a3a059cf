"""Bounds on the log evidence from log weights, along their last axis, with standard errors."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import (
    AllWeightsZeroWarning,
    FastElboWarning,
    HighParetoKWarning,
    InvalidInputError,
    ShortTailWarning,
)
from ..random import RandomState
from ..validation import Floats, as_count
from .pareto import fit_tails, tail_length
from .reductions import logmeanexp, weight_rows
from .ustatistics import jackknife_rows, mean_and_error, subset_means

_METHODS = ("auto", "complete", "partitions")
# Tail indices from which on a variance, or a mean, does not exist.
_NO_VARIANCE = 0.5
_NO_MEAN = 1.0


class Bound(NamedTuple):
    """An estimated bound and its standard error, one entry a data point.

    Examples
    --------
    >>> import fastelbo as fe
    >>> p = fe.Gaussian([0.0], scale=1.0)
    >>> value, se = fe.estimate(p, fe.Gaussian([0.0], scale=1.25), rng=0).iw_elbo(10)
    >>> bool(abs(value) < 0.1), bool(se < 0.01)
    (True, True)
    """

    value: Floats
    se: Floats


def iw_elbo(
    log_weights: ArrayLike,
    k: int | Sequence[int] | NDArray[np.integer[Any]],
    *,
    method: str = "auto",
    rng: RandomState = None,
) -> Bound:
    """Importance-weighted bound ``E log (w_1 + ... + w_k) / k`` (Burda et al., 2016), in nats.

    It rises from the ELBO at k = 1 towards the log evidence; bounds of different k are different
    quantities.

    Parameters
    ----------
    log_weights : (..., K) array_like
        ``log p(x, z) - log q(z)``; -inf is a weight of 0.
    k : int or sequence of int
        Size or sizes of a group, from 1 to K.
    method : {"auto", "complete", "partitions"}
        Which groups are averaged over, see Notes.
    rng : None, int, SeedSequence or Generator
        For the random partitions.

    Returns
    -------
    Bound
        ``value`` and ``se``, of shape (...), or (..., number of sizes) for a sequence. Where at
        least k weights are 0, the value is -inf and its error NaN.

    Raises
    ------
    InvalidWeightError
        A log weight that is NaN or +inf, with its place.
    InvalidInputError
        A size outside 1 to K, or an unknown method.

    Warns
    -----
    AllWeightsZeroWarning
        A row without a positive weight.
    ShortTailWarning
        Too few draws or groups for a standard error.

    Notes
    -----
    ``"complete"`` averages over all groups of k out of K: the complete U-statistic, which has the
    least variance of all unbiased estimates. By ``log x = integral of (exp(-u) - exp(-u x)) du/u``
    it takes about 100 values of an elementary symmetric polynomial, in O(K k) operations each, or
    O(K^2) where k > K/2. Its standard error is the jackknife's, ``sqrt((K-1)/K sum_i (U_i-U)^2)``
    with U_i the statistic without draw i; for k = K, U is the log evidence.

    ``"partitions"`` averages over 16 random partitions into groups, in O(K) operations for each k.
    Its standard error is that of disjoint groups, less the share of their variance that the average
    takes off; NaN where there is one group only.

    ``"auto"`` takes all groups for each k with K k (or K^2) up to 2^25, which is at most a second
    or two for each row, and random partitions for the others. Rows that spread over more than 2^16
    nats are always partitioned.

    Examples
    --------
    >>> import fastelbo as fe
    >>> bound = fe.iw_elbo([0.0, 1.0, 2.0, -1.0], [1, 2, 4])
    >>> bound.value.round(4).tolist()
    [0.5, 0.8472, 1.0539]
    """
    rows, batch = weight_rows(log_weights)
    if method not in _METHODS:
        raise InvalidInputError(f"method must be one of {', '.join(_METHODS)}; got {method!r}")
    length = rows.shape[1]
    given: Any = k if np.ndim(k) else [k]
    wanted = [as_count(size, "k") for size in given]
    if max(wanted, default=1) > length:
        raise InvalidInputError(
            f"k must be at most the number of draws, {length}, got {max(wanted)}"
        )
    sizes, place = np.unique(np.array(wanted, dtype=np.int64), return_inverse=True)
    value, se = subset_means(rows, sizes, method, np.random.default_rng(rng))
    _warn(rows, value, se)
    return _bound(value[:, place], se[:, place], (*batch, len(place)) if np.ndim(k) else batch)


def renyi_bound(log_weights: ArrayLike, alpha: float) -> Bound:
    """Renyi bound ``log(E w^(1 - alpha)) / (1 - alpha)`` (Li and Turner, 2016), in nats.

    The log evidence at alpha = 0, the ELBO at alpha = 1 (as the limit, which is continuous); it
    falls with alpha. A lower bound for alpha > 0, an upper one for alpha < 0, of which `cubo` tells
    more.

    Parameters
    ----------
    log_weights : (..., K) array_like
        ``log p(x, z) - log q(z)``; -inf is a weight of 0.
    alpha : float
        Order of the Renyi divergence.

    Returns
    -------
    Bound
        ``value`` and ``se``, of shape (...). The standard error is the delta method's,
        ``sd(w^(1-alpha)) / mean(w^(1-alpha)) / (|1-alpha| sqrt K)``, which at alpha = 1 is that of
        the ELBO.

    Raises
    ------
    InvalidWeightError
        A log weight that is NaN or +inf, with its place.
    InvalidInputError
        An alpha that is not finite.

    Warns
    -----
    AllWeightsZeroWarning
        A row without a positive weight.
    HighParetoKWarning
        For alpha outside of [0, 1]: powers of the weights without a variance, as for `cubo`.
    ShortTailWarning
        Too few draws for a standard error, or for that check.

    Examples
    --------
    >>> import fastelbo as fe
    >>> log_weights = [0.0, 1.0, 2.0, -1.0]
    >>> [round(float(fe.renyi_bound(log_weights, a).value), 4) for a in (0.0, 0.5, 1.0)]
    [1.0539, 0.8021, 0.5]
    """
    order = float(alpha)
    if not math.isfinite(order):
        raise InvalidInputError(f"alpha must be finite, got {alpha!r}")
    rows, batch = weight_rows(log_weights)
    value, se, index = _power_mean(rows, 1.0 - order)
    _warn(rows, value, se, index)
    return _bound(value, se, batch)


def cubo(log_weights: ArrayLike, n: float = 2.0) -> Bound:
    """Chi upper bound ``log(E w^n) / n`` (Dieng et al., 2017), in nats.

    Parameters
    ----------
    log_weights : (..., K) array_like
        ``log p(x, z) - log q(z)``; -inf is a weight of 0.
    n : float
        Order, at least 1; 1 is the log evidence.

    Returns
    -------
    Bound
        ``value`` and ``se``, of shape (...). The standard error is the delta method's,
        ``sd(w^n) / mean(w^n) / (n sqrt K)``; NaN where w^n seems to have no variance.

    Raises
    ------
    InvalidWeightError
        A log weight that is NaN or +inf, with its place.
    InvalidInputError
        An order below 1.

    Warns
    -----
    AllWeightsZeroWarning
        A row without a positive weight.
    HighParetoKWarning
        The tail index of w^n, n times that of the weights, is 1/2 or more, so that w^n has no
        variance; where it is 1 or more, it has no mean either, and the value estimates nothing.
    ShortTailWarning
        Too few draws for a standard error, or for a tail index.

    Notes
    -----
    The exact quantity is an upper bound on the log evidence. Its estimate is biased low and bounds
    nothing by itself: only ``exp(n cubo)`` is unbiased. That it is never below the log evidence of
    the same draws is algebra, even where q misses a mode. It is `renyi_bound` at alpha = 1 - n.

    Examples
    --------
    >>> import numpy as np
    >>> import fastelbo as fe
    >>> round(float(fe.cubo(np.log(np.arange(1.0, 101.0))).value), 4)
    4.0633
    """
    order = float(n)
    if not 1.0 <= order < math.inf:
        raise InvalidInputError(f"n must be a finite number of at least 1, got {n!r}")
    rows, batch = weight_rows(log_weights)
    value, se, index = _power_mean(rows, order)
    _warn(rows, value, se, index)
    return _bound(value, se, batch)


def jackknife(log_weights: ArrayLike, order: int = 1) -> Bound:
    """Log evidence, its bias reduced by the jackknife (Nowozin, 2018), in nats.

    The bias of ``L_K = log mean w``, about -v/2K with v the relative variance of the weights, falls
    to order 1/K^2 or 1/K^3. The result is no bound.

    Parameters
    ----------
    log_weights : (..., K) array_like
        ``log p(x, z) - log q(z)``; -inf is a weight of 0.
    order : {1, 2}
        Order m of the jackknife; K is above it.

    Returns
    -------
    Bound
        ``value`` and ``se``, of shape (...). The standard error is that of the mean of the first
        order's pseudo-values, ``K L_K - (K-1) L_(without i)``; it serves for both orders. NaN where
        no more than ``order`` weights are positive.

    Raises
    ------
    InvalidWeightError
        A log weight that is NaN or +inf, with its place.
    InvalidInputError
        Another order, or too few draws.

    Warns
    -----
    AllWeightsZeroWarning
        A row without a positive weight.
    ShortTailWarning
        A row with no more than ``order`` positive weights.

    Notes
    -----
    ``sum_j c_j U_(K-j)`` over j = 0..m, with U_k the complete U-statistic of the log mean of k
    weights and ``c_j = (-1)^j (K-j)^m / (j! (m-j)!)``. The sum over pairs of draws in the second
    order is a series of power sums, in O(K) operations.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(float(fe.jackknife([0.0, 1.0, 2.0, -1.0]).value), 4)
    1.2609
    """
    rows, batch = weight_rows(log_weights)
    m = as_count(order, "order")
    if m > 2:
        raise InvalidInputError(f"order must be 1 or 2, got {m}")
    if rows.shape[1] <= m:
        raise InvalidInputError(
            f"a jackknife of order {m} takes at least {m + 1} draws, got {rows.shape[1]}"
        )
    value, se = jackknife_rows(rows, m)
    _warn(rows, value, se)
    return _bound(value, se, batch)


def _power_mean(rows: Floats, power: float) -> tuple[Floats, Floats, Floats]:
    """Log of the power mean, its standard error, and the tail index of the powers.

    A power within [0, 1] has a mean wherever the weights do: its index is then not asked for.
    """
    value, se = _log_power_mean(rows, power)
    if 0.0 <= power <= 1.0:
        return value, se, np.zeros(len(rows))
    index = _tail_index(power * rows)
    return value, np.where(index >= _NO_VARIANCE, np.nan, se), index


def _tail_index(log_values: Floats) -> Floats:
    """Pareto k-hat of each row; NaN where there are too few different values."""
    n, length = log_values.shape
    count = int(tail_length(length))
    if count < 5:
        return np.full(n, np.nan)
    tails = np.partition(log_values, length - count - 1, axis=1)[:, -count - 1 :]
    return fit_tails(tails, grid=False).pareto_k


def _log_power_mean(rows: Floats, power: float) -> tuple[Floats, Floats]:
    """log(mean(w^power)) / power and its standard error by the delta method, continuous at 0."""
    if power == 0.0:
        return mean_and_error(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        # The mean of expm1 about a centre near the result holds the digits that a small power
        # leaves. While the powers differ by a factor of up to e, the mean of l is near enough.
        narrow = abs(power) * np.ptp(rows, axis=1) <= 1.0
        centre = np.where(narrow, rows.mean(axis=1), logmeanexp(power * rows, axis=1) / power)
        excess = np.expm1(power * (rows - centre[:, None])).mean(axis=1)
        value = np.where(np.isfinite(centre), centre + np.log1p(excess) / power, centre)
        return value, mean_and_error(np.expm1(power * (rows - value[:, None])) / power)[1]


def _bound(value: Floats, se: Floats, shape: tuple[int, ...]) -> Bound:
    return Bound(value.reshape(shape)[()], se.reshape(shape)[()])


def _warn(rows: Floats, value: Floats, se: Floats, index: Floats | None = None) -> None:
    """Warn the caller of a public function: one warning a kind, with the count and the first."""
    zero = np.isneginf(rows).all(axis=1)
    short = ~np.isneginf(value) & np.isnan(se)
    found: list[tuple[type[FastElboWarning], Any, str]] = [
        (AllWeightsZeroWarning, zero, "every weight is 0: the bound is -inf")
    ]
    if index is not None:
        heavy = index >= _NO_VARIANCE
        short &= ~heavy
        found += [
            (
                HighParetoKWarning,
                heavy,
                "the powers of the weights have too heavy a tail for a standard error (a tail "
                f"index of up to {index.max(initial=0.0, where=heavy):.2f}, where {_NO_VARIANCE} "
                f"or more leaves no variance and {_NO_MEAN} or more no mean to estimate)",
            ),
            (
                ShortTailWarning,
                np.isnan(index) & (se != 0.0) & ~zero & ~short,
                "too few different draws to tell the tail index of the powers of the weights: the "
                "standard error may not exist",
            ),
        ]
    found.append(
        (ShortTailWarning, short, "too few draws or groups for a standard error: it is NaN")
    )
    for kind, flags, message in found:
        if flags.any():
            where = f"{int(flags.sum())} of {flags.size} (first: {np.flatnonzero(flags)[0]})"
            warnings.warn(f"{message}, for {where}", kind, stacklevel=3)
