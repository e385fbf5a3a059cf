"""Linear algebra of data points: triangular products, and the reduction of data to latent space.

It uses no library, for two reasons. The threads of a library spin while they wait for the next
call, and would compete with ours for the cores. And the last bits of its products depend on the
number of rows; a data point must give the same bits whatever other data points are computed.
"""

from __future__ import annotations

import numpy as np

from ..draws.blocks import row_of
from ..jit.compile import block


@block
def _multiply(left, right, out):
    """out += left right, for lower triangular matrices."""
    dim = left.shape[0]
    for i in range(dim):
        row = out[i]
        for k in range(i + 1):
            entry, other = left[i, k], right[k]
            for j in range(k + 1):
                row[j] += entry * other[j]


@block
def product(part, parts, left, right, out):
    """out[i, c] += left[i, c] right[i]; if left or right has length 1, all i share its entry."""
    components = out.shape[1]
    items = out.shape[0] * components
    for item in range(part * items // parts, (part + 1) * items // parts):
        i, c = item // components, item % components
        _multiply(left[row_of(i, left.shape[0]), c], right[row_of(i, right.shape[0])], out[i, c])


@block
def _whiten(residual, whitener, whitened):
    """whitened = whitener residual; the whitener is diagonal (1, P) or lower triangular (P, P)."""
    features = residual.shape[0]
    if whitener.shape[0] < features:
        for p in range(features):
            whitened[p] = whitener[0, p] * residual[p]
        return
    for p in range(features):
        total = 0.0
        for r in range(p + 1):
            total += whitener[p, r] * residual[r]
        whitened[p] = total


@block
def reduce(part, parts, x, centre, loadings, offset, whitener, basis, target, square):
    """target = Q' r and square = |r - Q target|^2; r is the whitened residual at the centre."""
    points, components, dim = target.shape
    features = x.shape[1]
    residual = np.empty(features)
    whitened = np.empty(features)
    for item in range(
        part * points * components // parts, (part + 1) * points * components // parts
    ):
        i = item // components
        c = item % components
        middle = centre[row_of(i, centre.shape[0]), c]
        row = x[row_of(i, x.shape[0])]
        for p in range(features):
            total = row[p] - offset[p]
            for d in range(dim):
                total -= loadings[p, d] * middle[d]
            residual[p] = total
        _whiten(residual, whitener, whitened)
        for d in range(dim):
            target[i, c, d] = 0.0
        for p in range(features):
            for d in range(dim):
                target[i, c, d] += whitened[p] * basis[p, d]
        total = 0.0
        for p in range(features):
            left = whitened[p]
            for d in range(dim):
                left -= target[i, c, d] * basis[p, d]
            total += left * left
        square[i, c] = total
