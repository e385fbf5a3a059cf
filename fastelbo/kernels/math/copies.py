"""Points copied into blocks and out of them, and vectors copied and filled, as loops.

A block keeps each coordinate of its points together. Four coordinates are copied at a time: a loop
over one coordinate loads each cache line again for the next coordinate, and a loop over the
coordinates of each point does not vectorise. A slice assignment would bring numba's check of shapes
with it, whose message takes longer to compile than most kernels.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block


@block
def load_points(x, centre, n, v):
    """v[d, k] = x[k, d] - centre[d], for n points."""
    dim = centre.shape[0]
    tiled = dim - dim % 4
    for d in range(0, tiled, 4):
        c0, c1, c2, c3 = centre[d], centre[d + 1], centre[d + 2], centre[d + 3]
        for k in range(n):
            v[d, k] = x[k, d] - c0
            v[d + 1, k] = x[k, d + 1] - c1
            v[d + 2, k] = x[k, d + 2] - c2
            v[d + 3, k] = x[k, d + 3] - c3
    for d in range(tiled, dim):
        for k in range(n):
            v[d, k] = x[k, d] - centre[d]


@block
def store_points(v, n, dim, x):
    """x[k, d] = v[d, k], for n points."""
    tiled = dim - dim % 4
    for d in range(0, tiled, 4):
        for k in range(n):
            x[k, d] = v[d, k]
            x[k, d + 1] = v[d + 1, k]
            x[k, d + 2] = v[d + 2, k]
            x[k, d + 3] = v[d + 3, k]
    for d in range(tiled, dim):
        for k in range(n):
            x[k, d] = v[d, k]


@block
def all_finite(v, n, dim):
    """Whether no coordinate of n points is infinite or NaN."""
    for d in range(dim):
        bad = np.int64(0)
        for k in range(n):
            bad += np.int64(0) if abs(v[d, k]) < np.inf else np.int64(1)
        if bad > 0:
            return False
    return True


@block
def fill(x, n, value):
    """x[:n] = value."""
    for k in range(n):
        x[k] = value


@block
def copy(x, n, out):
    """out[:n] = x[:n]."""
    for k in range(n):
        out[k] = x[k]


@block
def least(x):
    """The least of x; +inf where it is empty."""
    value = np.inf
    for k in range(x.shape[0]):
        value = min(value, x[k])
    return value
