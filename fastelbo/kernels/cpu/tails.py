"""Upper tails of log weights, row by row: the Pareto fit, and Pareto smoothing.

Weights are scaled by the row's largest weight. The threshold u is the largest weight outside the
tail. A generalised Pareto distribution is fitted to the excesses of the tail over u (Zhang and
Stephens, 2009), as in Pareto smoothed importance sampling (Vehtari et al., 2024). The sum of a
row's weights is the sum of min(w, u) plus the sum of the excesses. Smoothing changes only the
excesses.

A tail is stored in descending order.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from ..jit.compile import block, borrower, scalar
from ..math.columns import copy_columns
from ..math.copies import copy, fill
from ..math.extremes import largest, smallest
from ..math.scalar import exp, exp_normal, log, log_positive
from ..math.selection import make_candidates, select_largest
from ..math.simd import prefetch
from ..math.sorting import room_to_sort, sort_copy
from ..math.sums import PARTIAL_SUMS, make_partial_sums, sum_all
from ..state.top_k import make_sorting, sort_row
from .pareto_fit import fit, make_grid, padded, set_steps

# A tail with fewer draws is not fitted.
LEAST_TAIL = 5

# Fields of a row's result.
STATUS = 0
PARETO_K = 1
SIGMA = 2  # scale of the excesses, relative to the largest weight
LOG_EVIDENCE = 3
SMOOTHED_LOG_EVIDENCE = 4
LOG_MEAN_CHANGE = 5  # log of the mean over draws of smoothed weight / weight; 0 if not requested
RESULT_SIZE = 6

# Values of STATUS.
FITTED = 0.0
SHORT = 1.0  # too few draws in the tail
TIED = 2.0  # too many weights of the tail are equal
UNBOUNDED = 3.0  # most of the tail underflows relative to its maximum: k-hat is set to inf
ZERO = 4.0  # all weights are 0
CONSTANT = 5.0  # all weights are equal, or differ only by rounding
BAD = 6.0  # NaN or +inf among the log ratios

# A quartile of the excesses below this has lost digits, or its reciprocal overflows.
_UNDERFLOW = 1e-290
# Log weights within this many nats count as equal: their excesses are rounding noise.
_EQUAL = 1e-6
# Rows that are sorted before they are fitted.
_BATCH = 16
# A partial sum takes this many terms in a register before it is stored.
_TERMS = 4
_STEP = _TERMS * PARTIAL_SUMS

# Room for one row: candidates for its tail; the excesses; the depths of the quantiles, and the
# smoothed weights there; the grid of the fit; terms of a sum.
Work = namedtuple(
    "Work",
    ["candidates", "excess", "depth", "smoothed", "log_smoothed", "grid", "terms", "partial_sums"],
)


@block
def _make_work(tail_length, counter=None):
    room = padded(tail_length)
    return Work(
        make_candidates(tail_length + 1),
        np.zeros(room),
        np.empty(room),
        np.empty(room),
        np.empty(room),
        make_grid(tail_length, counter),
        np.empty(room),
        make_partial_sums(),
    )


@block
def _set_tail_length(n, work):
    """Set the depths, -log((i + 1/2) / n), padded with 0, and the steps of the grid."""
    for i in range(padded(n)):
        work.depth[i] = -log_positive((i + 0.5) / n if i < n else 1.0)
    set_steps(n, work.grid)


# --- excesses -----------------------------------------------------------------------------------


@borrower(interleave=4)
def _set_scaled(tail, top, floor, x):
    """x = exp(tail - top) - floor; the tail is at least as long as x."""
    for i in range(x.shape[0]):
        x[i] = exp_normal(tail[i] - top) - floor


@borrower
def _set_excesses(tail, n, x):
    """x = scaled exp(tail[:n]) - exp(tail[n]), padded with zeros; returns the status."""
    _set_scaled(tail, tail[0], exp_normal(tail[n] - tail[0]), x)
    return _close_excesses(tail, n, x)


@borrower
def _set_plain_excesses(tail, n, x):
    """x = scaled tail[:n] - tail[n], padded with zeros; returns the status."""
    # Halves, as a difference of the largest floats is none.
    floor = 0.5 * tail[n]
    largest_excess = 0.5 * tail[0] - floor
    for i in range(n):
        x[i] = (0.5 * tail[i] - floor) / largest_excess
    return _close_excesses(tail, n, x)


@borrower
def _close_excesses(tail, n, x):
    """Pad excesses; returns the status."""
    fill(x[n:], x.shape[0] - n, 0.0)
    quartile = n - np.int64(n / 4.0 + 0.5)
    if tail[quartile] == tail[n] or x[0] == x[n - 1]:
        return TIED
    return UNBOUNDED if x[quartile] < _UNDERFLOW else FITTED


# --- smoothing ----------------------------------------------------------------------------------


@scalar
def _growth(y):
    """(exp(y) - 1) / y."""
    series = y / 5040.0 + 1.0 / 720.0
    series = series * y + 1.0 / 120.0
    series = series * y + 1.0 / 24.0
    series = series * y + 1.0 / 6.0
    series = series * y + 0.5
    series = series * y + 1.0
    return series if abs(y) < 0.03125 else (exp(y) - 1.0) / y


@borrower(interleave=4)
def _set_quantiles(floor, k, sigma, work, room):
    """Set the smoothed weights: quantiles of the fit at the depths, at most the largest weight."""
    depth, smoothed, log_smoothed = work.depth, work.smoothed, work.log_smoothed
    for i in range(room):
        value = floor + sigma * (depth[i] * _growth(k * depth[i]))
        smoothed[i] = 1.0 if value > 1.0 else value
    for i in range(room):
        log_smoothed[i] = log(smoothed[i])


@borrower
def _sum_above(x, floor, n, terms, partial_sums):
    for i in range(n):
        terms[i] = x[i] - floor
    return sum_all(terms, n, partial_sums)


@scalar
def _clipped(value, threshold, top):
    return exp_normal((threshold if value > threshold else value) - top)


@borrower
def _clipped_sum(row, threshold, top, n, partial_sums, ahead):
    """Sum of exp(min(row, threshold) - top), with no term above 1; NaN in the row gives NaN.

    The loop also prefetches ``ahead``, an array of the same length.
    """
    partial = partial_sums[0]
    fill(partial, PARTIAL_SUMS, 0.0)
    whole, full = n - n % _STEP, n - n % PARTIAL_SUMS
    for first in range(0, whole, _STEP):
        # The loop vectorises only over a slice: its indices are visibly not negative.
        piece = row[first : first + _STEP]
        prefetch(ahead, first, first + _STEP)
        for j in range(PARTIAL_SUMS):
            total = partial[j]
            for term in range(_TERMS):
                total += _clipped(piece[j + term * PARTIAL_SUMS], threshold, top)
            partial[j] = total
    for first in range(whole, full, PARTIAL_SUMS):
        piece = row[first : first + PARTIAL_SUMS]
        for j in range(PARTIAL_SUMS):
            partial[j] += _clipped(piece[j], threshold, top)
    for k in range(full, n):
        partial[k - full] += _clipped(row[k], threshold, top)
    return sum_all(partial, PARTIAL_SUMS, partial_sums[1:])


@borrower
def _log_mean_change(log_smoothed, tail, n, size, change, partial_sums):
    """log of the mean over n draws of smoothed weight / weight; the ratio is 1 outside the tail."""
    top = tail[0]
    for i in range(size):
        change[i] = log_smoothed[i] - (tail[i] - top)
    shift = max(0.0, largest(change, size))
    total = (n - size) * exp(-shift)
    return shift + np.log(
        (total + _clipped_sum(change, np.inf, shift, size, partial_sums, change)) / n
    )


# --- a row --------------------------------------------------------------------------------------


@borrower
def _smooth_row(n, size, clipped, compare, work, result):
    """Fit and smooth the tail in ``work``; ``clipped`` is the sum of scaled min(w, u)."""
    tail = work.candidates.value
    top, floor = tail[0], exp(tail[size] - tail[0])
    k, sigma = fit(work.excess[: padded(size)], size, work.grid)
    _set_quantiles(floor, k, sigma, work, padded(size))
    result[PARETO_K], result[SIGMA] = k, sigma
    total = clipped + _sum_above(work.smoothed, floor, size, work.terms, work.partial_sums)
    result[SMOOTHED_LOG_EVIDENCE] = top + np.log(total / n)
    if compare:
        # The excesses are not needed any more: their array is used again.
        result[LOG_MEAN_CHANGE] = _log_mean_change(
            work.log_smoothed, tail, n, size, work.excess, work.partial_sums
        )


@borrower
def _fit_row(row, n, size, compare, work, result, ahead):
    """Set the result of a row; ``work`` then holds its tail before and after smoothing.

    ``ahead`` is the next row, to prefetch; it may be empty.
    """
    tail = work.candidates.value
    fits = size >= LEAST_TAIL
    found = select_largest(row, n, size + 1 if fits else 1, work.candidates)
    top = tail[0] if found > 0 else 0.0
    threshold, excess = top, 0.0
    status = TIED if fits else SHORT
    if fits and found > size:
        threshold = tail[size]
        status = _set_excesses(tail, size, work.excess[: padded(size)])
        excess = sum_all(work.excess, size, work.partial_sums)
    clipped = _clipped_sum(row, threshold, top, n, work.partial_sums, ahead)
    result[:] = np.nan
    if top == np.inf or clipped != clipped:
        result[STATUS] = BAD
        return
    result[LOG_EVIDENCE] = -np.inf if found == 0 else top + np.log((clipped + excess) / n)
    result[SMOOTHED_LOG_EVIDENCE] = result[LOG_EVIDENCE]
    result[LOG_MEAN_CHANGE] = 0.0
    if found == 0:
        status = ZERO
    elif fits and top - threshold <= _EQUAL and top - smallest(row, n) <= _EQUAL:
        status = CONSTANT
    elif status == UNBOUNDED:
        result[PARETO_K] = np.inf
    elif status == FITTED:
        _smooth_row(n, size, clipped, compare, work, result)
    result[STATUS] = status


@borrower
def _write_tail(row, size, work):
    top = work.candidates.value[0]
    for i in range(size):
        row[work.candidates.place[i]] = top + work.log_smoothed[i]


# --- rows and columns ---------------------------------------------------------------------------


@borrower
def _negate(x, n):
    for k in range(n):
        x[k] = -x[k]


@borrower
def _store_columns(tile, a, b, width, count, out):
    """out[a, k, b + j] = tile[j, k]."""
    for k in range(count):
        for j in range(width):
            out[a, k, b + j] = tile[j, k]


@block
def psis(part, parts, x, sign, sizes, lo, hi, width, results, out, counter):
    """Fit rows of sign * x, and write smoothed rows to ``out`` unless it has no elements.

    x has shape (A, K, B); a row is x[a, :, b]. ``width`` neighbours along B are taken together, as
    a tile. lo and hi count tiles.
    """
    length, columns = x.shape[1], x.shape[2]
    tiles = (columns + width - 1) // width
    work = _make_work(sizes.max(), counter)
    # If B is 1, rows are smoothed in out itself; otherwise in a tile.
    write = out.size > 0
    in_place = write and columns == 1
    tile = np.empty((width, 0 if in_place else length))
    flat = x.reshape(x.size)
    size = 0
    for item in range(lo + part * (hi - lo) // parts, lo + (part + 1) * (hi - lo) // parts):
        a, b = item // tiles, item % tiles * width
        neighbours = min(width, columns - b)
        if in_place:
            tile = out.reshape(out.shape[0], length)[a : a + 1]
        copy_columns(x, a, 0, b, neighbours, length, tile)
        ahead = flat[(a + 1) * length : (a + 2) * length] if columns == 1 else flat[:0]
        for j in range(neighbours):
            if sign < 0.0:
                _negate(tile[j], length)
            if sizes[a, b + j] != size:
                size = sizes[a, b + j]
                _set_tail_length(size, work)
            # A caller that asks for smoothed weights asks for the mean change of inverted x alone.
            compare = not write or sign < 0.0
            _fit_row(tile[j], length, size, compare, work, results[a, b + j], ahead)
            if write and results[a, b + j, STATUS] == FITTED:
                _write_tail(tile[j], size, work)
        if write and not in_place:
            _store_columns(tile, a, b, neighbours, length, out)


@borrower
def _fit_tail(tail, size, logs, excess, grid, result):
    """Set the result of a sorted tail, or of the logs of one if ``logs``."""
    result[STATUS] = SHORT
    result[PARETO_K] = result[SIGMA] = np.nan
    if size < LEAST_TAIL:
        return
    status = TIED
    if tail[size] > -np.inf:
        status = (
            _set_excesses(tail, size, excess) if logs else _set_plain_excesses(tail, size, excess)
        )
    result[STATUS] = status
    if status == UNBOUNDED:
        result[PARETO_K] = np.inf
    if status == FITTED:
        result[PARETO_K], result[SIGMA] = fit(excess, size, grid)


@block
def fits(part, parts, tails, logs, lo, hi, results, theta, k, log_lik):
    """Fit rows of the M + 1 largest values, or of the logs of these if ``logs``.

    Sigma is relative to the largest value, or to the largest excess of plain values. The grid is
    returned if its arrays have columns.
    """
    size = tails.shape[1] - 1
    grid = make_grid(size)
    set_steps(size, grid)
    spare, tail = np.empty(room_to_sort(size + 1)), np.empty(room_to_sort(size + 1))
    excess = np.empty(padded(size))
    for i in range(lo + part * (hi - lo) // parts, lo + (part + 1) * (hi - lo) // parts):
        sort_copy(tails[i], size + 1, spare, tail)
        _fit_tail(tail, size, logs, excess, grid, results[i])
        if results[i, STATUS] == FITTED:
            for j in range(theta.shape[1]):
                theta[i, j] = grid.theta[j]
                k[i, j] = grid.k[j]
                log_lik[i, j] = grid.log_lik[j]


@block
def fit_top_rows(part, parts, top_rows, stream, size, tails, pareto_k):
    """tails[i] = the ``size`` largest log weights of top_rows[i, stream], descending; their k-hat.

    Some rows are sorted, then they are fitted. Their tails are still in the cache then, and the
    cache of instructions has to hold only one of the two steps at a time.
    """
    points = top_rows.shape[0]
    lo, hi = part * points // parts, (part + 1) * points // parts
    sorting, grid = make_sorting(size), make_grid(size - 1)
    set_steps(size - 1, grid)
    excess, result = np.empty(padded(size - 1)), np.empty(RESULT_SIZE)
    # A tail that is fitted is at least as long as its padded excesses.
    batch = np.zeros((_BATCH, room_to_sort(size)))
    for first in range(lo, hi, _BATCH):
        stop = min(first + _BATCH, hi)
        for i in range(first, stop):
            sort_row(top_rows[i, stream], size, sorting, batch[i - first])
        for i in range(first, stop):
            tail = batch[i - first]
            copy(tail, size, tails[i])
            _fit_tail(tail, size - 1, True, excess, grid, result)
            pareto_k[i] = result[PARETO_K]
