"""Averages of the log mean of k weights over many groups of k out of K.

For positive x, ``log x = integral over u > 0 of (exp(-u) - exp(-u x)) du / u`` (Frullani). Let x be
the sum of a subset of k weights. The mean of log x over all subsets is an integral of
``g_k(u) = 1 - mean of exp(-u x)``. Elementary symmetric polynomials give g_k without a list of the
subsets (`kernels.cpu.subsets`). As a function of log u, the integrand of each subset has the
Fourier transform Gamma(i omega) up to a phase. For all weights, the error of the trapezoidal rule
with step h is therefore less than ``4 |Gamma(2 pi i / h)|``, which is 1e-17 for h = 1/4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays.inputs import constant
from ..kernels.cpu import subsets
from ..kernels.cpu.launch import SLICE_NUMBERS, launch, new_counter, paced, threads_for
from ..kernels.jit.threads import apart
from ..validation import Floats, Integers
from .reductions import logmeanexp, logsumexp
from .scaled import mean_and_error, scale_of

_STEP = 0.25
# exp(-_LOST) is negligible compared with 1.
_LOST = 37.0
# Multiply-adds of a step of the recursion, about.
_STEP_WORK = 8
# Steps of the recursion in the first launch.
_FIRST_STEPS = 2**24
# Widest range of a row, in nats: each nat takes 4 nodes.
_WIDEST = 2.0**16
_PARTITIONS = 16
# NumPy shuffles this many elements within a few hundredths of a second.
_BUCKET = 2**20
# Powers of products of odds below this are negligible, even in a sum over all pairs.
_SERIES_END = 1e-30
# A fraction of the largest float that leaves room for sums over draws.
_FRACTION = 2.0**-64
# Steps of the recursion at one value of u, for one row, that are taken by default.
_AFFORDABLE = 2**25


@dataclass(frozen=True)
class _Nodes:
    """Values of log u for each row: row r has the nodes from first[r] up to first[r + 1]."""

    row: Integers
    first: Integers
    log_u: Floats
    limit: Integers  # the largest subset size that needs this node


def subset_means(
    log_weights: Floats, sizes: Integers, method: str, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Means of the log mean of k weights of (N, K) rows, and their standard errors, (N, sizes).

    Sizes must ascend. If at least k weights are 0, the mean is -inf and its standard error is NaN.
    """
    n, length = log_weights.shape
    value, se = np.full((n, len(sizes)), -np.inf), np.full((n, len(sizes)), np.nan)
    dear = length * np.where(2 * sizes > length, length, sizes) > _AFFORDABLE
    inner = (sizes > 1) & (sizes < length)
    apart = inner & ((method == "partitions") | (dear & (method == "auto")))
    whole = inner & ~apart
    for s in np.flatnonzero(sizes == 1):
        value[:, s], se[:, s] = mean_and_error(log_weights)
    for s in np.flatnonzero((sizes == length) & (sizes > 1)):
        value[:, s], se[:, s] = jackknife_rows(log_weights, 0)
    if apart.any():
        value[:, apart], se[:, apart] = _partitions(log_weights, sizes[apart], rng)
    wide = _spread(log_weights) > _WIDEST
    if wide.any() and whole.any():
        chosen = np.ix_(wide, whole)
        value[chosen], se[chosen] = _partitions(log_weights[wide], sizes[whole], rng)
    # Group the rows by the number of sizes that do not exceed their number of zero weights.
    short = np.searchsorted(sizes[whole], np.isneginf(log_weights).sum(axis=1), side="right")
    for least in np.unique(short[~wide & (short < whole.sum())]):
        rows = ~wide & (short == least)
        chosen = np.ix_(rows, np.flatnonzero(whole)[least:])
        value[chosen], se[chosen] = _complete(log_weights[rows], sizes[whole][least:])
    return value, se


@apart
def _spread(log_weights: Floats) -> Floats:
    """Distance from the least to the largest positive weight, in nats; 0 if all weights are 0."""
    finite = np.isfinite(log_weights)
    top = log_weights.max(axis=1, where=finite, initial=-np.inf)
    least = log_weights.min(axis=1, where=finite, initial=np.inf)
    with np.errstate(over="ignore"):
        return np.asarray(np.maximum(top - least, 0.0))


def _complete(log_weights: Floats, sizes: Integers) -> tuple[Floats, Floats]:
    """Complete U-statistics of the log mean of k weights, and their jackknife standard errors.

    Parameters
    ----------
    log_weights : (N, K) array
        Log weights. Each row has fewer zero weights than the least size.
    sizes : (S,) array
        Group sizes in ascending order, each at least 2 and below K.

    Returns
    -------
    value, se : (N, S) arrays
    """
    n, length = log_weights.shape
    value, se = np.empty((2, n, len(sizes)))
    # Memory of a row: the changes of all weights, and g at its nodes, typically about 100.
    step = max(1, SLICE_NUMBERS // max(length * len(sizes), 100 * int(sizes[-1])))
    for lo in range(0, n, step):
        part = slice(lo, lo + step)
        value[part], se[part] = _complete_slice(log_weights[part], sizes)
    return value, se


def _complete_slice(log_weights: Floats, sizes: Integers) -> tuple[Floats, Floats]:
    n, length = log_weights.shape
    top = log_weights.max(axis=1, keepdims=True)
    scaled = _ascending(log_weights - top)
    log_mean = logmeanexp(scaled, axis=1)
    nodes = _make_nodes(scaled, log_mean, sizes)
    count = len(nodes.row)
    scaled, first, limit = constant(scaled), constant(nodes.first), constant(nodes.limit)
    row, log_u, sizes = constant(nodes.row), constant(nodes.log_u), constant(sizes)
    at_sizes = np.empty((count, len(sizes)))
    change = np.zeros((n, len(sizes), length))

    def step(lo: int, hi: int) -> None:
        g = np.empty((hi - lo, int(limit.max()) + 1))
        threads = threads_for((hi - lo) * length)
        work = _STEP_WORK * float(limit[lo:hi].sum()) * length
        counter = new_counter()
        launch(
            subsets.means, scaled, row, log_u, limit, lo, hi, g, counter,
            n_threads=threads, work=work, counter=counter,
        )  # fmt: skip
        at_sizes[lo:hi] = g[:, sizes]
        counter = new_counter()
        # The unstable direction of the recursion overflows. Plain Python would warn about it.
        with np.errstate(all="ignore"):
            launch(
                subsets.changes, scaled, first, log_u, limit, lo, hi, g, sizes, change, counter,
                n_threads=threads, work=work, counter=counter,
            )  # fmt: skip

    paced(count, step, _FIRST_STEPS // (length * int(sizes[-1])))
    # Minus that of a sum of k mean weights, the integrand falls as u^2 at its left end.
    with np.errstate(over="ignore"):
        u = np.exp(log_u + log_mean[row])[:, None]
        reference = -np.expm1(-sizes * u)
    gap = _STEP * np.add.reduceat(at_sizes - reference, nodes.first[:-1], axis=0)
    se = _STEP * np.sqrt((length - 1) / length * (change**2).sum(axis=2))
    return top + log_mean[:, None] + gap, se


def _make_nodes(scaled: Floats, log_mean: Floats, sizes: Integers) -> _Nodes:
    """Nodes where the integrand is not negligible, for ascending rows with maximum 0."""
    n, length = scaled.shape
    # Left end: u^2 times the variance of a sum of k weights, at most k times their mean, is
    # negligible.
    left = 0.5 * (np.log(2.0) - _LOST - np.log(sizes[-1]) - log_mean)
    # Right end: the mean of exp(-u x) over subsets is at most the k-th power of the mean of
    # exp(-u w) over all weights. The latter is at most q = exp(-_LOST/k) if exp(-u w) is below q/2
    # for all weights but a fraction q/2.
    zeros = np.isneginf(scaled).sum(axis=1)[:, None]
    rank = (0.5 * length * np.exp(-_LOST / sizes)).astype(np.int64)
    # Each subset has a positive weight, so the least positive weight can replace a zero weight.
    lost = np.log(2.0) + np.where(zeros > rank, _LOST, _LOST / sizes)
    right = np.log(lost) - np.take_along_axis(scaled, np.maximum(rank, zeros), axis=1)
    counts = np.ceil((right.max(axis=1) - left) / _STEP).astype(np.int64)
    row = np.repeat(np.arange(n), counts)
    first = np.concatenate([[0], np.cumsum(counts)])
    log_u = left[row] + _STEP * (np.arange(len(row)) - first[row])
    limit = np.where(log_u[:, None] < right[row], sizes, 1).max(axis=1)
    return _Nodes(row, first, log_u, np.where(2 * limit > length, length, limit))


def _partitions(
    log_weights: Floats, sizes: Integers, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """The same averages over `_PARTITIONS` random partitions into disjoint groups.

    The variance of a mean over G disjoint groups is s^2 / G. It exceeds the variance of the
    complete U-statistic by B, the variance among partitions of the same weights. The mean over P
    partitions reduces this excess to B / P.
    """
    n, length = log_weights.shape
    means, errors = np.empty((2, _PARTITIONS, n, len(sizes)))
    step = max(1, SLICE_NUMBERS // length)
    for p in range(_PARTITIONS):
        for lo in range(0, n, step):
            part = slice(lo, lo + step)
            shuffled = _shuffled(log_weights[part], rng)
            for s, k in enumerate(sizes):
                groups = shuffled[:, : length // k * k].reshape(len(shuffled), -1, k)
                means[p, part, s], errors[p, part, s] = mean_and_error(logmeanexp(groups, axis=2))
    scale = scale_of(np.fmax(np.abs(means), errors), axis=0)[0]
    with np.errstate(invalid="ignore", under="ignore"):
        means, errors = means * scale, errors * scale
        within = (errors**2).mean(axis=0)
        variance = within - (1.0 - 1.0 / _PARTITIONS) * means.var(axis=0, ddof=1)
        se = np.sqrt(np.maximum(variance, within / _PARTITIONS))
        return means.mean(axis=0) / scale, se / scale


def _shuffled(rows: Floats, rng: np.random.Generator) -> Floats:
    """Each row in random order.

    A long one in short steps, between which an interrupt is served: each element goes to a bucket
    at random, and then each bucket is shuffled (Rao, 1961; Sandelius, 1962).
    """
    length = rows.shape[1]
    if length <= SLICE_NUMBERS:
        return rng.permuted(rows, axis=1)
    out = np.empty_like(rows)
    pieces = [slice(lo, lo + _BUCKET) for lo in range(0, length, _BUCKET)]
    for row, shuffled in zip(rows, out, strict=True):
        buckets = [rng.integers(0, len(pieces), len(row[piece]), np.uint16) for piece in pieces]
        counts = np.array([np.bincount(bucket, minlength=len(pieces)) for bucket in buckets])
        ends = np.cumsum(counts.sum(axis=0))
        # Where the elements of each piece go, in each bucket.
        starts = np.cumsum(counts, axis=0) - counts + (ends - counts.sum(axis=0))
        for piece, bucket, start, count in zip(pieces, buckets, starts, counts, strict=True):
            order = np.argsort(bucket, kind="stable")
            shift = start - (np.cumsum(count) - count)
            shuffled[np.arange(len(bucket)) + np.repeat(shift, count)] = row[piece][order]
        for bucket in np.split(shuffled, ends[:-1]):
            rng.shuffle(bucket)
    return out


def jackknife_rows(log_weights: Floats, order: int) -> tuple[Floats, Floats]:
    """Jackknife of the log evidence of (N, K) rows, of order 0, 1 or 2, and its standard error.

    Let p_i be the share of weight i in the sum. L without draw i is L + log((1 - p_i) K/(K-1)).
    Without a pair of draws, the remaining share is
    1 - p_i - p_j = (1 - p_i)(1 - p_j)(1 - q_i q_j), with odds q = p / (1 - p).
    """
    positive = np.isfinite(log_weights).sum(axis=1)
    value, se = _jackknife(log_weights, order)
    # Where numbers near the largest float overflowed on the way, a fraction of them may do. What
    # is lost, a few digits of logarithms beside them, is nothing there.
    lost = ~np.isfinite(value) & (positive > order)
    if lost.any():
        with np.errstate(over="ignore", under="ignore"):
            value[lost], se[lost] = (
                part / _FRACTION for part in _jackknife(log_weights[lost] * _FRACTION, order)
            )
    value = np.where(positive == 0, -np.inf, np.where(positive > order, value, np.nan))
    return value, np.where(positive > max(order, 1), se, np.nan)


def _jackknife(log_weights: Floats, order: int) -> tuple[Floats, Floats]:
    """See `jackknife_rows`; rows with enough positive weights."""
    length = log_weights.shape[1]
    with np.errstate(all="ignore"):
        ordered = _descending(log_weights)
        # The remainder after the largest weight, and after the largest two, each in its own frame:
        # beside the largest weight, their digits would be lost.
        log_sum, log_rest = (_log_sum_from(ordered, first) for first in (0, 1))
        fall = ordered[:, 1] - ordered[:, 0]
        log_share, kept = _shares(ordered, log_sum, fall + (log_rest - log_sum))
        mean, error = mean_and_error(kept - np.log1p(-1.0 / length))
        value = log_sum - np.log(length)
        if order == 1:
            value -= (length - 1.0) * mean
        if order == 2:
            log_third = _log_sum_from(ordered, 2)
            pairs = _log_pairs(ordered, kept, log_share, log_rest, log_third)
            pairs /= 0.5 * length * (length - 1.0)
            pairs -= np.log1p(-1.0 / (length - 1.0) ** 2)
            value += 0.5 * (length - 2.0) ** 2 * pairs - (2.0 * length - 3.0) * mean
        # The error of the mean of the pseudo-values K L - (K-1) L_i.
        return value + ordered[:, 0], (length - 1.0) * error


def _log_sum_from(ordered: Floats, first: int) -> Floats:
    """log of the sum of the weights from ``first`` on, relative to the largest of these."""
    return logsumexp(ordered[:, first:] - ordered[:, first, None], axis=1)


@apart
def _ascending(rows: Floats) -> Floats:
    return np.sort(rows, axis=1)


@apart
def _descending(rows: Floats) -> Floats:
    return np.asarray(-np.sort(-rows, axis=1))


@apart
def _shares(ordered: Floats, log_sum: Floats, log_kept: Floats) -> tuple[Floats, Floats]:
    """log p and log(1 - p); ``log_kept`` is the latter of the largest weight."""
    log_share = ordered - ordered[:, :1] - log_sum[:, None]
    share = np.exp(log_share)
    kept = np.log1p(-share)
    # Where one weight is most of the sum, 1 - p is not to be had by subtraction.
    kept[:, 0] = np.where(share[:, 0] > 0.5, log_kept, kept[:, 0])
    return log_share, kept


@apart
def _log_pairs(
    ordered: Floats, kept: Floats, log_share: Floats, log_rest: Floats, log_third: Floats
) -> Floats:
    """Sum of log(1 - q_i q_j) over the pairs of each row."""
    # With the largest weight: 1 - q_1 q_j = (1 - w_j / rest) / (1 - p_j), the rest without w_1.
    of_rest = np.log1p(-np.exp(ordered[:, 1:] - ordered[:, 1, None] - log_rest[:, None]))
    without_two = ordered[:, 2] - ordered[:, 1] + (log_third - log_rest)
    of_rest[:, 0] = np.where(of_rest[:, 0] < -np.log(2.0), without_two, of_rest[:, 0])
    total = np.asarray((of_rest - kept[:, 1:]).sum(axis=1))
    # Among the others q_i q_j is at most 1/4: sum of -(q_i q_j)^m / m over m.
    odds = np.exp(log_share[:, 1:] - kept[:, 1:])
    power = odds.copy()
    for m in range(1, 40):
        total -= (power.sum(axis=1) ** 2 - (power**2).sum(axis=1)) / (2.0 * m)
        power *= odds
        if not (power[:, 0] * power[:, 1] > _SERIES_END).any():
            break
    return total
