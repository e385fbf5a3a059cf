"""Bounds on the log evidence, with standard errors, from log weights along their last axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.draws import Dim
from ..arrays.protocols import LogWeights
from ..errors import (
    AllWeightsZeroWarning,
    FastElboWarning,
    HighParetoKWarning,
    InvalidInputError,
    ShortTailWarning,
)
from ..inner_warnings import warn
from ..kernels.jit.threads import apart
from ..random import RandomState, generator
from ..validation import Floats, as_choice, as_count, as_number
from .pareto import fit_tails, tail_length
from .reductions import logmeanexp, weight_rows
from .scaled import mean_and_error
from .ustatistics import jackknife_rows, subset_means

_METHODS = ("auto", "complete", "partitions")
# A variance exists for tail indices below the first limit, a mean below the second.
_NO_VARIANCE = 0.5
_NO_MEAN = 1.0
# An ulp of numbers up to it is at most an eighth.
_LARGEST_LOG = 1e15


class Bound(NamedTuple):
    """An estimated bound and its standard error, one entry per data point.

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
    log_weights: LogWeights,
    k: int | Sequence[int] | NDArray[np.integer[Any]],
    *,
    method: str = "auto",
    rng: RandomState = None,
    axis: int | None = None,
    dim: Dim = None,
) -> Bound:
    """Importance-weighted bound ``E log (w_1 + ... + w_k) / k`` (Burda et al., 2016), in nats.

    The bound rises with k, from the ELBO at k = 1 to the log evidence. Bounds of different k are
    different quantities.

    Parameters
    ----------
    log_weights : (..., K) array_like, path, ElboTerms or DataArray
        ``log p(x, z) - log q(z)``; -inf is a weight of 0.
    k : int or sequence of int
        Group size or sizes, from 1 to K.
    method : {"auto", "complete", "partitions"}
        Which groups the average uses; see Notes.
    rng : None, int, SeedSequence or Generator
        Seed of the random partitions.
    axis : int, optional
        The axis of the draws; the last by default.
    dim : str or sequence of str, optional
        Dimensions of the draws of an xarray object, as for `fastelbo.summarize`.

    Returns
    -------
    Bound
        ``value`` and ``se`` of shape (...), or (..., number of sizes) for a sequence. If at least k
        weights are 0, the value is -inf and its standard error is NaN.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf; the message says which.
    InvalidInputError
        If a size is not between 1 and K, or the method is unknown.

    Warns
    -----
    AllWeightsZeroWarning
        If a row has no positive weight.
    DrawsAxisWarning
        If the last axis, taken by default, has few draws beside a long axis.
    ShortTailWarning
        If a row has too few draws or groups for a standard error.

    Notes
    -----
    ``"complete"`` averages over all groups of k out of K draws. This is the complete U-statistic,
    which has the least variance of all unbiased estimates. It uses
    ``log x = integral of (exp(-u) - exp(-u x)) du/u`` and about 100 values of an elementary
    symmetric polynomial, with O(K k) operations for each value, or O(K^2) if k > K/2. The standard
    error is that of the jackknife, ``sqrt((K-1)/K sum_i (U_i-U)^2)``, where U_i is the statistic
    without draw i. For k = K, U is the log evidence.

    ``"partitions"`` averages over 16 random partitions into groups, with O(K) operations for each
    k. Its standard error is that of disjoint groups, corrected for the variance that averaging over
    partitions removes. It is NaN if there is only one group.

    ``"auto"`` uses all groups for each k with K k (or K^2) up to 2^25, which takes at most one or
    two seconds per row. For larger k it uses random partitions. Rows with a range of more than 2^16
    nats always use random partitions.

    Examples
    --------
    >>> import fastelbo as fe
    >>> bound = fe.iw_elbo([0.0, 1.0, 2.0, -1.0], [1, 2, 4])
    >>> bound.value.round(4).tolist()
    [0.5, 0.8472, 1.0539]
    """
    rows, batch = weight_rows(log_weights, axis, dim)
    as_choice(method, "method", _METHODS)
    length = rows.shape[1]
    several = (isinstance(k, Sequence) and not isinstance(k, str)) or getattr(k, "shape", ()) != ()
    given: Any = k if several else [k]
    wanted = [as_count(size, "k") for size in given]
    if max(wanted, default=1) > length:
        raise InvalidInputError(
            f"k must be at most the number of draws, {length}, got {max(wanted)}"
        )
    sizes, place = np.unique(np.array(wanted, dtype=np.int64), return_inverse=True)
    value, se = subset_means(rows, sizes, method, generator(rng))
    _warn(rows, value, se)
    return _bound(value[:, place], se[:, place], (*batch, len(place)) if several else batch)


def renyi_bound(
    log_weights: LogWeights, alpha: float, *, axis: int | None = None, dim: Dim = None
) -> Bound:
    """Renyi bound ``log(E w^(1 - alpha)) / (1 - alpha)`` (Li and Turner, 2016), in nats.

    It is the log evidence at alpha = 0 and the ELBO at alpha = 1 (the continuous limit), and it
    decreases with alpha. It is a lower bound for alpha > 0 and an upper bound for alpha < 0; see
    `cubo` for the latter.

    Parameters
    ----------
    log_weights : (..., K) array_like, path, ElboTerms or DataArray
        ``log p(x, z) - log q(z)``; -inf is a weight of 0.
    alpha : float
        Order of the Renyi divergence.
    axis : int, optional
        The axis of the draws; the last by default.
    dim : str or sequence of str, optional
        Dimensions of the draws of an xarray object, as for `fastelbo.summarize`.

    Returns
    -------
    Bound
        ``value`` and ``se`` of shape (...). The standard error is that of the delta method,
        ``sd(w^(1-alpha)) / mean(w^(1-alpha)) / (|1-alpha| sqrt K)``. At alpha = 1 it is that of the
        ELBO. It is NaN where the value is -inf.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf; the message says which.
    InvalidInputError
        If alpha is not finite.

    Warns
    -----
    AllWeightsZeroWarning
        If a row has no positive weight.
    DrawsAxisWarning
        If the last axis, taken by default, has few draws beside a long axis.
    HighParetoKWarning
        For alpha outside of [0, 1]: if the powers of the weights have no variance, as for `cubo`.
    ShortTailWarning
        If a row has too few draws for a standard error or for a tail index.

    Examples
    --------
    >>> import fastelbo as fe
    >>> log_weights = [0.0, 1.0, 2.0, -1.0]
    >>> [round(float(fe.renyi_bound(log_weights, a).value), 4) for a in (0.0, 0.5, 1.0)]
    [1.0539, 0.8021, 0.5]
    """
    order = as_number(alpha, "alpha")
    if not math.isfinite(order):
        raise InvalidInputError(f"alpha must be finite, got {alpha!r}")
    rows, batch = weight_rows(log_weights, axis, dim)
    value, se, index = _power_mean(rows, 1.0 - order)
    _warn(rows, value, se, index)
    return _bound(value, se, batch)


def cubo(
    log_weights: LogWeights, n: float = 2.0, *, axis: int | None = None, dim: Dim = None
) -> Bound:
    """Chi upper bound ``log(E w^n) / n`` (Dieng et al., 2017), in nats.

    Parameters
    ----------
    log_weights : (..., K) array_like, path, ElboTerms or DataArray
        ``log p(x, z) - log q(z)``; -inf is a weight of 0.
    n : float
        Order, at least 1; 1 is the log evidence.
    axis : int, optional
        The axis of the draws; the last by default.
    dim : str or sequence of str, optional
        Dimensions of the draws of an xarray object, as for `fastelbo.summarize`.

    Returns
    -------
    Bound
        ``value`` and ``se`` of shape (...). The standard error is that of the delta method,
        ``sd(w^n) / mean(w^n) / (n sqrt K)``. It is NaN if w^n appears to have no variance.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf; the message says which.
    InvalidInputError
        If the order is below 1 or not finite.

    Warns
    -----
    AllWeightsZeroWarning
        If a row has no positive weight.
    DrawsAxisWarning
        If the last axis, taken by default, has few draws beside a long axis.
    HighParetoKWarning
        If the tail index of w^n, which is n times that of the weights, is 1/2 or more: w^n has no
        variance. If it is 1 or more, w^n has no mean either, and the value estimates nothing.
    ShortTailWarning
        If a row has too few draws for a standard error or for a tail index.

    Notes
    -----
    The exact quantity is an upper bound on the log evidence. Its estimate is biased low and is not
    a bound: only ``exp(n cubo)`` is unbiased. The estimate is never below the log evidence of the
    same draws. This is algebra, and it holds even if q misses a mode. ``cubo(l, n)`` equals
    ``renyi_bound(l, 1 - n)``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastelbo as fe
    >>> round(float(fe.cubo(np.log(np.arange(1.0, 101.0))).value), 4)
    4.0633
    """
    order = as_number(n, "n")
    if not 1.0 <= order < math.inf:
        raise InvalidInputError(f"n must be a finite number of at least 1, got {n!r}")
    rows, batch = weight_rows(log_weights, axis, dim)
    value, se, index = _power_mean(rows, order)
    _warn(rows, value, se, index)
    return _bound(value, se, batch)


def jackknife(
    log_weights: LogWeights, order: int = 1, *, axis: int | None = None, dim: Dim = None
) -> Bound:
    """Log evidence with less bias, by the jackknife (Nowozin, 2018), in nats.

    ``L_K = log mean w`` has a bias of about -v/2K, with v the relative variance of the weights. The
    jackknife reduces it to O(1/K^2) for order 1 and to O(1/K^3) for order 2. The result is not a
    bound.

    Parameters
    ----------
    log_weights : (..., K) array_like, path, ElboTerms or DataArray
        ``log p(x, z) - log q(z)``; -inf is a weight of 0.
    order : {1, 2}
        Order m of the jackknife; K must be larger.
    axis : int, optional
        The axis of the draws; the last by default.
    dim : str or sequence of str, optional
        Dimensions of the draws of an xarray object, as for `fastelbo.summarize`.

    Returns
    -------
    Bound
        ``value`` and ``se`` of shape (...). For both orders, the standard error is that of the mean
        of the pseudo-values of order 1, ``K L_K - (K-1) L_(without i)``. Value and standard error
        are NaN if no more than ``order`` weights are positive. The value is -inf if none is.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf; the message says which.
    InvalidInputError
        If the order is not 1 or 2, or there are too few draws.

    Warns
    -----
    AllWeightsZeroWarning
        If a row has no positive weight.
    DrawsAxisWarning
        If the last axis, taken by default, has few draws beside a long axis.
    ShortTailWarning
        If a row has no more than ``order`` positive weights.

    Notes
    -----
    The value is ``sum_j c_j U_(K-j)`` over j = 0..m, where U_k is the complete U-statistic of the
    log mean of k weights and ``c_j = (-1)^j (K-j)^m / (j! (m-j)!)``. For order 2, a series of power
    sums gives the sum over pairs of draws in O(K) operations.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(float(fe.jackknife([0.0, 1.0, 2.0, -1.0]).value), 4)
    1.2609
    """
    rows, batch = weight_rows(log_weights, axis, dim)
    m = as_count(order, "order")
    if m > 2:
        raise InvalidInputError(f"order must be 1 or 2, got {m}")
    if rows.shape[1] <= m:
        raise InvalidInputError(
            f"log_weights for order {m} must have at least {m + 1} draws, got {rows.shape[1]}"
        )
    value, se = jackknife_rows(rows, m)
    _warn(rows, value, se)
    return _bound(value, se, batch)


def _power_mean(rows: Floats, power: float) -> tuple[Floats, Floats, Floats]:
    """Log of the power mean, its standard error, and the tail index of the powers.

    For a power in [0, 1] the tail index is not computed, and 0 is returned: such powers have a mean
    if the weights have one.
    """
    frame = _frame(rows, power)
    # Beside the largest power, what underflows is 0.
    with np.errstate(over="ignore", under="ignore"):
        framed = rows - frame[:, None]
        value, se = _log_power_mean(framed, power)
        value += frame
        if 0.0 <= power <= 1.0:
            return value, se, np.zeros(len(rows))
        index = _tail_index(power * framed)
    return value, np.where(index >= _NO_VARIANCE, np.nan, se), index


@apart
def _frame(rows: Floats, power: float) -> Floats:
    """0, or the log weight of the largest power where an ulp of the powers' logs may be a nat.

    A centre that is rounded as much would be far from all of them.
    """
    if power == 0.0:
        return np.zeros(len(rows))
    top = rows.max(axis=1) if power > 0.0 else rows.min(axis=1)
    finite = np.isfinite(rows)
    size = np.maximum(rows.max(axis=1, where=finite, initial=0.0), 0.0)
    size = np.maximum(size, -rows.min(axis=1, where=finite, initial=0.0))
    far = np.isfinite(top) & (size > _LARGEST_LOG / abs(power))
    return np.where(far, top, 0.0)


def _tail_index(log_values: Floats) -> Floats:
    """Pareto k-hat of each row; NaN if there are too few different values."""
    n, length = log_values.shape
    count = int(tail_length(length))
    if count < 5:
        return np.full(n, np.nan)
    return fit_tails(_largest(log_values, count + 1), grid=False).pareto_k


@apart
def _largest(rows: Floats, count: int) -> Floats:
    """The largest numbers of each row, the least of them first."""
    return np.partition(rows, rows.shape[1] - count, axis=1)[:, -count:].copy()


def _log_power_mean(rows: Floats, power: float) -> tuple[Floats, Floats]:
    """log(mean(w^power)) / power and its delta-method standard error; at power 0, their limits."""
    if power == 0.0:
        return mean_and_error(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        # For a small power, the mean of expm1 about a centre near the result avoids cancellation.
        # If the powers differ by at most a factor of e, the mean of the log weights is near enough.
        narrow = abs(power) * np.ptp(rows, axis=1) <= 1.0
        centre = np.where(narrow, rows.mean(axis=1), logmeanexp(power * rows, axis=1) / power)
        excess = _excess(rows, power, centre).mean(axis=1)
        value = np.where(np.isfinite(centre), centre + np.log1p(excess) / power, centre)
        return value, mean_and_error(_excess(rows, power, value) / power)[1]


@apart
def _excess(rows: Floats, power: float, centre: Floats) -> Floats:
    """The powers of the weights, relative to the power at the centre of each row, minus 1."""
    return np.asarray(np.expm1(power * (rows - centre[:, None])))


def _bound(value: Floats, se: Floats, shape: tuple[int, ...]) -> Bound:
    return Bound(value.reshape(shape)[()], se.reshape(shape)[()])


def _warn(rows: Floats, value: Floats, se: Floats, index: Floats | None = None) -> None:
    """Warn the caller of a public function, once per kind, with the count and the first row."""
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
                "the tail of the powers of the weights is too heavy for a standard error (tail "
                f"index up to {index.max(initial=0.0, where=heavy):.2f}; from {_NO_VARIANCE} on "
                f"there is no variance, from {_NO_MEAN} on no mean)",
            ),
            (
                ShortTailWarning,
                np.isnan(index) & (se != 0.0) & ~zero & ~short,
                "too few different draws to estimate the tail index of the powers of the weights: "
                "the standard error may not exist",
            ),
        ]
    found.append(
        (ShortTailWarning, short, "too few draws or groups for a standard error: it is NaN")
    )
    for kind, flags, message in found:
        if flags.any():
            where = f"{int(flags.sum())} of {flags.size} (first: {np.flatnonzero(flags)[0]})"
            warn(f"{message}, for {where}", kind, stacklevel=3)
