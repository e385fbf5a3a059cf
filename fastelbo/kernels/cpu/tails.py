"""Upper tails of log weights, row by row: the Pareto fit, and Pareto smoothing.

Weights are scaled by the row's largest. The excesses of the tail over u, the largest weight outside
of it, are fitted by a generalised Pareto distribution (Zhang and Stephens, 2009), as Pareto
smoothed importance sampling does (Vehtari et al., 2024). The sum of a row's weights is that of
min(w, u) and that of the excesses; smoothing changes the second alone.

Tails run from the largest value down.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from ..jit.compile import block, scalar
from ..math.copies import fill
from ..math.scalar import exp, exp_normal, log, log_positive, split_exponent
from ..math.selection import make_candidates, select_largest, smallest
from ..math.simd import prefetch
from ..math.sums import PARTIAL_SUMS, largest, make_partial_sums, sum_all
from .rows import copy_columns

# A tail of fewer draws is not fitted.
LEAST_TAIL = 5

# Fields of a row's result.
STATUS = 0
PARETO_K = 1
SIGMA = 2  # scale of the excesses, where the largest weight is 1
LOG_EVIDENCE = 3
SMOOTHED_LOG_EVIDENCE = 4
LOG_MEAN_CHANGE = 5  # log of the mean over draws of smoothed weight / weight; 0 if it is not wanted
RESULT_SIZE = 6

# Values of STATUS.
FITTED = 0.0
SHORT = 1.0  # too few draws in the tail
TIED = 2.0  # too many of the tail are equal
UNBOUNDED = 3.0  # most of the tail underflows beside its maximum: k-hat is taken as inf
ZERO = 4.0  # every weight is 0
CONSTANT = 5.0  # all weights are equal, or differ by rounding alone
BAD = 6.0  # NaN or +inf among the log ratios

# A quartile of the excesses below this has lost its digits, or would overflow its reciprocal.
_UNDERFLOW = 1e-290
# Nats within which weights count as equal, whose excesses are then noise.
_EQUAL = 1e-6
_LN2 = 0.6931471805599453
# Terms that a partial sum takes before it goes back to memory.
_TERMS = 4
_STEP = _TERMS * PARTIAL_SUMS
# Excesses, and points of the grid, are padded with zeros to a multiple of this, so that no loop
# over them has a remainder, which is scalar.
_TILE = 16
# A tile of factors of at most this size has a product.
_LARGE = 1e18

# Room for one row: candidates for its tail, the excesses, the quantiles in their place and the
# depths at which they stand, the fit's grid with its steps, and the terms of a sum.
Work = namedtuple(
    "Work",
    [
        "candidates", "excess", "depth", "smoothed", "log_smoothed", "step", "theta", "k",
        "log_lik", "product", "exponent", "terms", "partial_sums",
    ],
)  # fmt: skip


@block
def _grid_size(tail_length):
    return 30 + np.int64(np.sqrt(tail_length))


@block
def _padded(n):
    return (n + _TILE - 1) // _TILE * _TILE


@block
def _make_work(tail_length):
    room, points = _padded(tail_length), _padded(_grid_size(tail_length))
    return Work(
        make_candidates(tail_length + 1),
        np.zeros(room),
        np.empty(room),
        np.empty(room),
        np.empty(room),
        np.empty(points),
        np.empty(points),
        np.empty(points),
        np.empty(points),
        np.empty(_TILE),
        np.empty(_TILE),
        np.empty(max(room, points)),
        make_partial_sums(),
    )


@block
def _set_tail_length(n, work):
    """Depths, -log of the quantiles (i + 1/2) / n, and steps, 0 where they are over."""
    for i in range(_padded(n)):
        work.depth[i] = -log_positive((i + 0.5) / n if i < n else 1.0)
    points = _grid_size(n)
    for j in range(points):
        work.step[j] = 1.0 - np.sqrt(points / (j + 0.5))


# --- the generalised Pareto fit -----------------------------------------------------------------


@scalar
def _log1p(x):
    """log(1 + x) for a normal, positive 1 + x."""
    u = 1.0 + x
    return log_positive(u) + (x - (u - 1.0)) / u


@block
def _mean_log1p(x, factor, n, terms, partial_sums):
    """Mean of log1p(factor x) over x[:n], whose padding with zeros adds nothing."""
    for i in range(x.shape[0]):
        terms[i] = _log1p(factor * x[i])
    return sum_all(terms, x.shape[0], partial_sums) / n


@block
def _multiply(theta, x, product, exponent):
    """Multiply product 2^exponent of each theta of a tile by 1 - theta x for a tile of x."""
    for j in range(_TILE):
        p = product[j]
        for i in range(_TILE // 2):
            p *= (1.0 - theta[j] * x[i]) * (1.0 - theta[j] * x[i + _TILE // 2])
        product[j], power = split_exponent(p)
        exponent[j] += power


@block
def _set_mean_logs(theta, x, n, product, exponent, out):
    """out = means of log(1 - theta x) over x[:n], for tiles of theta and of x.

    The logarithm is that of the product of all x, as taking it is most of the work. Its error is
    absolute.
    """
    for first in range(0, theta.shape[0], _TILE):
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
        # At theta = 0 the ratio is 0 / 0; its neighbours stand for it. So does the padding.
        out[j] = log_lik if log_lik == log_lik else -np.inf


@block
def _profile(x, n, work):
    """The log-likelihood over Zhang and Stephens' grid of theta = -k / sigma.

    Each theta has its most likely k. Returns the number of points, with their padding.
    """
    points = _grid_size(n)
    padded = _padded(points)
    theta, k = work.theta[:padded], work.k[:padded]
    first, step = 1.0 / x[0], 1.0 / (3.0 * x[n - np.int64(n / 4.0 + 0.5)])
    for j in range(padded):
        theta[j] = first + work.step[j] * step if j < points else 0.0
    if abs(theta[0]) * x[0] < _LARGE:
        _set_mean_logs(theta, x, n, work.product, work.exponent, k)
    else:
        for j in range(padded):
            k[j] = _mean_log1p(x, -theta[j], n, work.terms, work.partial_sums)
    _set_log_lik(theta, k, n, work.log_lik[:padded])
    return padded


@block
def _mean_theta(work, points):
    """The mean of theta, weighted by its likelihood."""
    weight, top = work.terms, largest(work.log_lik, points)
    for j in range(points):
        weight[j] = exp(work.log_lik[j] - top)
    total = sum_all(weight, points, work.partial_sums)
    for j in range(points):
        weight[j] *= work.theta[j]
    return sum_all(weight, points, work.partial_sums) / total


@block
def _fit(x, n, work):
    """(k, sigma) of the excesses x, with k drawn to 1/2 by the weight of ten draws."""
    theta = _mean_theta(work, _profile(x, n, work))
    shape = _mean_log1p(x, -theta, n, work.terms, work.partial_sums)
    return (n * shape + 5.0) / (n + 10.0), -shape / theta


@block
def _set_excesses(tail, n, x):
    """x = exp(tail[:n]) - exp(tail[n]), scaled, then zeros; returns the status."""
    top = tail[0]
    floor = exp(tail[n] - top)
    for i in range(n):
        x[i] = exp(tail[i] - top) - floor
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


@block
def _set_quantiles(floor, k, sigma, work, room):
    """Scaled weights at the depths of the fit from above, at most the largest."""
    depth, smoothed, log_smoothed = work.depth, work.smoothed, work.log_smoothed
    for i in range(room):
        value = floor + sigma * (depth[i] * _growth(k * depth[i]))
        smoothed[i] = 1.0 if value > 1.0 else value
    for i in range(room):
        log_smoothed[i] = log(smoothed[i])


@block
def _sum_above(x, floor, n, terms, partial_sums):
    for i in range(n):
        terms[i] = x[i] - floor
    return sum_all(terms, n, partial_sums)


@scalar
def _clipped(value, limit, top):
    return exp_normal((limit if value > limit else value) - top)


@block
def _clipped_sum(row, limit, top, n, partial_sums, ahead):
    """Sum of exp(min(row, limit) - top), where none is above 1; NaN if there is one.

    There is time to fetch ``ahead``, which is as long.
    """
    partial = partial_sums[0]
    fill(partial, PARTIAL_SUMS, 0.0)
    whole, full = n - n % _STEP, n - n % PARTIAL_SUMS
    for first in range(0, whole, _STEP):
        # A slice, whose indices are plainly not negative, or the loop would not vectorise.
        piece = row[first : first + _STEP]
        prefetch(ahead, first, first + _STEP)
        for j in range(PARTIAL_SUMS):
            total = partial[j]
            for term in range(_TERMS):
                total += _clipped(piece[j + term * PARTIAL_SUMS], limit, top)
            partial[j] = total
    for first in range(whole, full, PARTIAL_SUMS):
        piece = row[first : first + PARTIAL_SUMS]
        for j in range(PARTIAL_SUMS):
            partial[j] += _clipped(piece[j], limit, top)
    for k in range(full, n):
        partial[k - full] += _clipped(row[k], limit, top)
    return sum_all(partial, PARTIAL_SUMS, partial_sums[1:])


@block
def _log_mean_change(log_smoothed, tail, n, size, change, partial_sums):
    """log of the mean over n draws of smoothed weight / weight, which is 1 outside of the tail."""
    top = tail[0]
    for i in range(size):
        change[i] = log_smoothed[i] - (tail[i] - top)
    shift = max(0.0, largest(change, size))
    total = (n - size) * exp(-shift)
    return shift + np.log(
        (total + _clipped_sum(change, np.inf, shift, size, partial_sums, change)) / n
    )


# --- a row --------------------------------------------------------------------------------------


@block
def _smooth_row(n, size, clipped, compare, work, result):
    """Fit and smooth the tail in ``work``; ``clipped`` is the sum of min(w, u), scaled."""
    tail = work.candidates.value
    top, floor = tail[0], exp(tail[size] - tail[0])
    k, sigma = _fit(work.excess[: _padded(size)], size, work)
    _set_quantiles(floor, k, sigma, work, _padded(size))
    result[PARETO_K], result[SIGMA] = k, sigma
    total = clipped + _sum_above(work.smoothed, floor, size, work.terms, work.partial_sums)
    result[SMOOTHED_LOG_EVIDENCE] = top + np.log(total / n)
    if compare:
        # The excesses have done their work.
        result[LOG_MEAN_CHANGE] = _log_mean_change(
            work.log_smoothed, tail, n, size, work.excess, work.partial_sums
        )


@block
def _fit_row(row, n, size, compare, work, result, ahead):
    """The result of a row; ``work`` keeps its tail before and after smoothing.

    ``ahead`` is the row that comes next, perhaps empty.
    """
    tail = work.candidates.value
    fits = size >= LEAST_TAIL
    found = select_largest(row, n, size + 1 if fits else 1, work.candidates)
    top = tail[0] if found > 0 else 0.0
    limit, excess = top, 0.0
    status = TIED if fits else SHORT
    if fits and found > size:
        limit = tail[size]
        status = _set_excesses(tail, size, work.excess[: _padded(size)])
        excess = sum_all(work.excess, size, work.partial_sums)
    clipped = _clipped_sum(row, limit, top, n, work.partial_sums, ahead)
    result[:] = np.nan
    if top == np.inf or clipped != clipped:
        result[STATUS] = BAD
        return
    result[LOG_EVIDENCE] = -np.inf if found == 0 else top + np.log((clipped + excess) / n)
    result[SMOOTHED_LOG_EVIDENCE] = result[LOG_EVIDENCE]
    result[LOG_MEAN_CHANGE] = 0.0
    if found == 0:
        status = ZERO
    elif fits and top - limit <= _EQUAL and top - smallest(row, n) <= _EQUAL:
        status = CONSTANT
    elif status == UNBOUNDED:
        result[PARETO_K] = np.inf
    elif status == FITTED:
        _smooth_row(n, size, clipped, compare, work, result)
    result[STATUS] = status


@block
def _write_tail(row, size, work):
    top = work.candidates.value[0]
    for i in range(size):
        row[work.candidates.place[i]] = top + work.log_smoothed[i]


# --- rows and columns ---------------------------------------------------------------------------


@block
def _negate(x, n):
    for k in range(n):
        x[k] = -x[k]


@block
def _store_columns(tile, a, b, width, count, out):
    """out[a, k, b + j] = tile[j, k]."""
    for k in range(count):
        for j in range(width):
            out[a, k, b + j] = tile[j, k]


@block
def psis(part, parts, x, sign, sizes, lo, hi, width, results, out):
    """Rows of sign * x, of shape (A, K, B), ``width`` neighbours along B at once.

    lo and hi count such groups of neighbours. An ``out`` without elements is not written.
    """
    length, columns = x.shape[1], x.shape[2]
    groups = (columns + width - 1) // width
    work = _make_work(sizes.max())
    # Columns are smoothed in a tile of rows, rows where they will stand.
    write = out.size > 0
    in_place = write and columns == 1
    tile = np.empty((width, 0 if in_place else length))
    flat = x.reshape(x.size)
    size = 0
    for item in range(lo + part * (hi - lo) // parts, lo + (part + 1) * (hi - lo) // parts):
        a, b = item // groups, item % groups * width
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
            # Whoever wants the weights does not ask by how much they changed.
            _fit_row(tile[j], length, size, not write, work, results[a, b + j], ahead)
            if write and results[a, b + j, STATUS] == FITTED:
                _write_tail(tile[j], size, work)
        if write and not in_place:
            _store_columns(tile, a, b, neighbours, length, out)


@block
def fits(part, parts, tails, lo, hi, results, theta, k, log_lik):
    """Fit rows of the M + 1 largest log weights; a grid without points is not wanted."""
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
        status = _set_excesses(tail, size, work.excess[: _padded(size)]) if found > size else TIED
        results[i, STATUS] = status
        if status == UNBOUNDED:
            results[i, PARETO_K] = np.inf
        if status == FITTED:
            results[i, PARETO_K], results[i, SIGMA] = _fit(work.excess[: _padded(size)], size, work)
            for j in range(theta.shape[1]):
                theta[i, j] = work.theta[j]
                k[i, j] = work.k[j]
                log_lik[i, j] = work.log_lik[j]
