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
from ..jit.threads import stopped
from ..math.columns import copy_columns
from ..math.copies import fill
from ..math.scalar import exp, exp_normal, log, log_positive, split_exponent
from ..math.selection import make_candidates, select_largest
from ..math.simd import prefetch
from ..math.sums import PARTIAL_SUMS, largest, make_partial_sums, smallest, sum_all

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
_LN2 = 0.6931471805599453
# A partial sum takes this many terms in a register before it is stored.
_TERMS = 4
_STEP = _TERMS * PARTIAL_SUMS
# Excesses and grid nodes are padded with zeros to a multiple of this, so that no loop over them has
# a scalar remainder.
_TILE = 16
# The product of a tile of factors does not overflow if no factor exceeds this.
_LARGE = 1e18

# Room for one row: candidates for its tail; the excesses; the depths of the quantiles, and the
# smoothed weights there; the grid of the fit (steps, theta, k, log-likelihood); terms of a sum.
Work = namedtuple(
    "Work",
    [
        "candidates", "excess", "depth", "smoothed", "log_smoothed", "step", "theta", "k",
        "log_lik", "product", "exponent", "terms", "partial_sums", "counter",
    ],
)  # fmt: skip


@block
def _grid_size(tail_length):
    return 30 + np.int64(np.sqrt(tail_length))


@block
def _padded(n):
    return (n + _TILE - 1) // _TILE * _TILE


@block
def _make_work(tail_length, counter=None):
    room, nodes = _padded(tail_length), _padded(_grid_size(tail_length))
    return Work(
        make_candidates(tail_length + 1),
        np.zeros(room),
        np.empty(room),
        np.empty(room),
        np.empty(room),
        np.empty(nodes),
        np.empty(nodes),
        np.empty(nodes),
        np.empty(nodes),
        np.empty(_TILE),
        np.empty(_TILE),
        np.empty(max(room, nodes)),
        make_partial_sums(),
        counter,
    )


@block
def _set_tail_length(n, work):
    """Set the depths, -log((i + 1/2) / n), padded with 0, and the steps of the grid."""
    for i in range(_padded(n)):
        work.depth[i] = -log_positive((i + 0.5) / n if i < n else 1.0)
    nodes = _grid_size(n)
    for j in range(nodes):
        work.step[j] = 1.0 - np.sqrt(nodes / (j + 0.5))


# --- the generalised Pareto fit -----------------------------------------------------------------


@scalar
def _log1p(x):
    """log(1 + x) for a normal, positive 1 + x."""
    u = 1.0 + x
    return log_positive(u) + (x - (u - 1.0)) / u


@borrower(interleave=4)
def _set_log1p(x, factor, terms):
    for i in range(x.shape[0]):
        terms[i] = _log1p(factor * x[i])


@block
def _mean_log1p(x, factor, n, terms, partial_sums):
    """Mean of log1p(factor x) over x[:n]; the padding of x with zeros adds nothing."""
    _set_log1p(x, factor, terms)
    return sum_all(terms, x.shape[0], partial_sums) / n


@scalar
def _two_factors(theta, x, i):
    return (1.0 - theta * x[i]) * (1.0 - theta * x[i + _TILE // 2])


@borrower(interleave=4)
def _multiply(theta, x, product, exponent):
    """For each theta of a tile: multiply product 2^exponent by 1 - theta x for a tile of x."""
    # No loop over x: four vectors of theta share each x in a register.
    for j in range(_TILE):
        t, p = theta[j], product[j]
        p = p * _two_factors(t, x, 0) * _two_factors(t, x, 1)
        p = p * _two_factors(t, x, 2) * _two_factors(t, x, 3)
        p = p * _two_factors(t, x, 4) * _two_factors(t, x, 5)
        p = p * _two_factors(t, x, 6) * _two_factors(t, x, 7)
        product[j], power = split_exponent(p)
        exponent[j] += power


@block
def _set_mean_logs(theta, x, n, product, exponent, counter, out):
    """out = means of log(1 - theta x) over x[:n], for tiles of theta and of x.

    It takes one logarithm of the product over x, as logarithms would be most of the work. So the
    error is absolute.
    """
    for first in range(0, theta.shape[0], _TILE):
        if stopped(counter):
            return
        tile, result = theta[first : first + _TILE], out[first : first + _TILE]
        fill(product, _TILE, 1.0)
        fill(exponent, _TILE, 0.0)
        for place in range(0, x.shape[0], _TILE):
            _multiply(tile, x[place : place + _TILE], product, exponent)
        for j in range(_TILE):
            result[j] = (log_positive(product[j]) + exponent[j] * _LN2) / n


@block
def _set_log_lik(theta, k, n, out):
    for j in range(theta.shape[0]):
        log_lik = n * (log(-theta[j] / k[j]) - k[j] - 1.0)
        # At theta = 0 and in the padding, the ratio is 0 / 0. Such a node gets no weight; its
        # neighbours represent it.
        out[j] = log_lik if log_lik == log_lik else -np.inf


@block
def _profile(x, n, work):
    """Set the log-likelihood on Zhang and Stephens' grid of theta = -k / sigma.

    Each theta has its most likely k. Returns the number of nodes, with their padding.
    """
    nodes = _grid_size(n)
    padded = _padded(nodes)
    theta, k = work.theta[:padded], work.k[:padded]
    first, step = 1.0 / x[0], 1.0 / (3.0 * x[n - np.int64(n / 4.0 + 0.5)])
    for j in range(padded):
        theta[j] = first + work.step[j] * step if j < nodes else 0.0
    if abs(theta[0]) * x[0] < _LARGE:
        _set_mean_logs(theta, x, n, work.product, work.exponent, work.counter, k)
    else:
        for j in range(padded):
            if stopped(work.counter):
                break
            k[j] = _mean_log1p(x, -theta[j], n, work.terms, work.partial_sums)
    _set_log_lik(theta, k, n, work.log_lik[:padded])
    return padded


@block
def _mean_theta(work, nodes):
    """The mean of theta over the grid, weighted by the likelihood."""
    weight, top = work.terms, largest(work.log_lik, nodes)
    for j in range(nodes):
        weight[j] = exp(work.log_lik[j] - top)
    total = sum_all(weight, nodes, work.partial_sums)
    for j in range(nodes):
        weight[j] *= work.theta[j]
    return sum_all(weight, nodes, work.partial_sums) / total


@block
def _fit(x, n, work):
    """(k, sigma) of the excesses x; a prior with the weight of ten draws shrinks k to 1/2."""
    theta = _mean_theta(work, _profile(x, n, work))
    shape = _mean_log1p(x, -theta, n, work.terms, work.partial_sums)
    return (n * shape + 5.0) / (n + 10.0), -shape / theta


@borrower(interleave=4)
def _set_scaled(tail, top, floor, n, x):
    """x = exp(tail[:n] - top) - floor."""
    for i in range(n):
        x[i] = exp_normal(tail[i] - top) - floor


@block
def _set_excesses(tail, n, x):
    """x = scaled exp(tail[:n]) - exp(tail[n]), padded with zeros; returns the status."""
    _set_scaled(tail, tail[0], exp_normal(tail[n] - tail[0]), n, x)
    return _close_excesses(tail, n, x)


@block
def _set_plain_excesses(tail, n, x):
    """x = scaled tail[:n] - tail[n], padded with zeros; returns the status."""
    # Halves, as a difference of the largest floats is none.
    floor = 0.5 * tail[n]
    largest_excess = 0.5 * tail[0] - floor
    for i in range(n):
        x[i] = (0.5 * tail[i] - floor) / largest_excess
    return _close_excesses(tail, n, x)


@block
def _close_excesses(tail, n, x):
    """Pad excesses; returns the status."""
    x[n:] = 0.0
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
    k, sigma = _fit(work.excess[: _padded(size)], size, work)
    _set_quantiles(floor, k, sigma, work, _padded(size))
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
        status = _set_excesses(tail, size, work.excess[: _padded(size)])
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


@block
def fits(part, parts, tails, logs, lo, hi, results, theta, k, log_lik):
    """Fit rows of the M + 1 largest values, or of the logs of these if ``logs``.

    Sigma is relative to the largest value, or to the largest excess of plain values. The grid is
    returned if its arrays have columns.
    """
    size = tails.shape[1] - 1
    work = _make_work(size)
    _set_tail_length(size, work)
    tail = work.candidates.value
    for i in range(lo + part * (hi - lo) // parts, lo + (part + 1) * (hi - lo) // parts):
        results[i, STATUS] = SHORT
        results[i, PARETO_K] = results[i, SIGMA] = np.nan
        found = select_largest(tails[i], size + 1, size + 1, work.candidates)
        if size < LEAST_TAIL:
            continue
        status = TIED
        if found > size:
            x = work.excess[: _padded(size)]
            status = _set_excesses(tail, size, x) if logs else _set_plain_excesses(tail, size, x)
        results[i, STATUS] = status
        if status == UNBOUNDED:
            results[i, PARETO_K] = np.inf
        if status == FITTED:
            results[i, PARETO_K], results[i, SIGMA] = _fit(work.excess[: _padded(size)], size, work)
            for j in range(theta.shape[1]):
                theta[i, j] = work.theta[j]
                k[i, j] = work.k[j]
                log_lik[i, j] = work.log_lik[j]
