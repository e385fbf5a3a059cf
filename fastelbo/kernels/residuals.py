"""Data points reduced to what their likelihood sees, row by row.

Not a matrix product from a library: its last bits depend on how many rows it is given, and a data
point must come out the same whatever it is computed with.
"""

from __future__ import annotations

import numpy as np

from .blocks import row_of
from .compile import block


@block
def _whiten(residual, whitener, whitened):
    """Diagonal (1, P) or lower triangular (P, P) whitener times the residual."""
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
    """target = Q' r and square = |r - Q target|^2, r the whitened residual at the centre."""
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
