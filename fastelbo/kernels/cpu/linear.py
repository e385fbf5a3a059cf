"""Linear algebra of data points: products of scales, and the reduction of data to latent space.

It uses no library, for two reasons. The threads of a library spin while they wait for the next
call, and would compete with ours for the cores. And the last bits of its products depend on the
number of rows; a data point must give the same bits whatever other data points are computed.

A scale is lower triangular, or diagonal and then one row, which has the diagonal. Results have rows
of the `padded` length, with zeros at their ends, as `Density` has them.
"""

from __future__ import annotations

import numpy as np

from ..draws.blocks import padded, row_of
from ..draws.densities import square_norm_identity
from ..jit.compile import block, borrower
from ..math.copies import fill, store_rows

# Data points at a time.
_LANES = 64


# --- scales ---------------------------------------------------------------------------------


@borrower
def _multiply(left, right, dim, out):
    """out = left right, for two scales."""
    for i in range(out.shape[0]):
        row = out[i]
        fill(row, row.shape[0], 0.0)
        if out.shape[0] == 1:
            for j in range(dim):
                row[j] = left[0, j] * right[0, j]
        elif i < dim and right.shape[0] == 1:
            for j in range(i + 1):
                row[j] = left[i, j] * right[0, j]
        elif i < dim and left.shape[0] == 1:
            for j in range(i + 1):
                row[j] = left[0, i] * right[i, j]
        elif i < dim:
            for k in range(i + 1):
                entry, other = left[i, k], right[k]
                for j in range(k + 1):
                    row[j] += entry * other[j]


@borrower
def _apply(scale, place, origin, dim, out):
    """out = scale (place - origin)."""
    fill(out, out.shape[0], 0.0)
    for d in range(dim):
        if scale.shape[0] == 1:
            out[d] = scale[0, d] * (place[d] - origin[d])
        else:
            total = 0.0
            for j in range(d + 1):
                total += scale[d, j] * (place[j] - origin[j])
            out[d] = total


@block
def standardise(part, parts, scale, frame, mean, centre, factor, target):
    """factor[i, c] = scale[i, c] frame[i], and target[i, c] = scale[i, c] (mean[i, c] - centre[i]).

    An argument of length 1 is shared by all data points, one with a single component by all
    components. Factor and target may have length 1 too, and the target 0: it is not wanted then.
    """
    rows, dim = max(factor.shape[0], target.shape[0]), scale.shape[3]
    for i in range(part * rows // parts, (part + 1) * rows // parts):
        scales = scale[row_of(i, scale.shape[0])]
        if i < factor.shape[0]:
            own = frame[row_of(i, frame.shape[0])]
            for c in range(factor.shape[1]):
                _multiply(scales[c], own, dim, factor[i, c])
        if i < target.shape[0]:
            places, origin = mean[row_of(i, mean.shape[0])], centre[row_of(i, centre.shape[0])]
            for c in range(target.shape[1]):
                place = places[row_of(c, places.shape[0])]
                _apply(scales[row_of(c, scales.shape[0])], place, origin, dim, target[i, c])


# --- data -----------------------------------------------------------------------------------


@borrower
def _load(x, place, origin, n, v):
    """v[d, k] = x[place[k], d] - origin[d]."""
    for k in range(n):
        row = x[np.uint64(place[k])]
        for d in range(origin.shape[0]):
            v[d, k] = row[d] - origin[d]


@borrower
def _add_products(sign, entries, rows, count, n, out):
    """out += sign sum_j entries[j] rows[j], for j below ``count`` one after the other."""
    whole = count - count % 4
    for j in range(0, whole, 4):
        a, b = sign * entries[j], sign * entries[j + 1]
        c, d = sign * entries[j + 2], sign * entries[j + 3]
        for k in range(n):
            total = (out[k] + a * rows[j, k]) + b * rows[j + 1, k]
            out[k] = (total + c * rows[j + 2, k]) + d * rows[j + 3, k]
    for j in range(whole, count):
        a = sign * entries[j]
        for k in range(n):
            out[k] += a * rows[j, k]


@borrower
def _whiten(residual, whitener, features, n, whitened):
    """whitened = whitener residual."""
    for p in range(features):
        row = whitened[p]
        if whitener.shape[0] == 1:
            entry = whitener[0, p]
            for k in range(n):
                row[k] = entry * residual[p, k]
        else:
            fill(row, n, 0.0)
            _add_products(1.0, whitener[p], residual, p + 1, n, row)


@block
def reduce(
    part, parts, x, centre, components, loadings, offset, whitener, basis, transposed, target,
    square,
):  # fmt: skip
    """target = Q' r and square = |r - Q target|^2; r is the whitened residual at the centre.

    Item j of target and square is component j % components of data point j // components; of x and
    of centre too, where they have an entry for each. ``basis`` is Q.
    """
    items, features, dim = square.shape[0], x.shape[1], centre.shape[1]
    residual, whitened = np.empty((features, _LANES)), np.zeros((padded(features), _LANES))
    middle, projected = np.empty((dim, _LANES)), np.zeros((target.shape[1], _LANES))
    place, origin, total = np.empty(_LANES, np.int64), np.zeros(dim), np.empty(_LANES)
    stop = (part + 1) * items // parts
    for first in range(part * items // parts, stop, _LANES):
        n = min(_LANES, stop - first)
        for k in range(n):
            place[k] = (first + k) // components if x.shape[0] > 1 else 0
        _load(x, place, offset, n, residual)
        for k in range(n):
            place[k] = first + k if centre.shape[0] == items else (first + k) % components
        _load(centre, place, origin, n, middle)
        for p in range(features):
            _add_products(-1.0, loadings[p], middle, dim, n, residual[p])
        _whiten(residual, whitener, features, n, whitened)
        for d in range(dim):
            fill(projected[d], n, 0.0)
            _add_products(1.0, transposed[d], whitened, features, n, projected[d])
        store_rows(projected, n, target.shape[1], target[first : first + n])
        for p in range(features):
            _add_products(-1.0, basis[p], projected, dim, n, whitened[p])
        square_norm_identity(whitened, padded(features), n, total)
        for k in range(n):
            square[first + k] = total[k]
