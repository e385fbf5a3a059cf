"""Loops that copy rows of a matrix into blocks and out of them, and copy and fill vectors.

A row becomes a lane of a block; a block stores each coordinate of all its lanes contiguously. Four
coordinates are copied at a time, on a CPU those of four rows. A loop over one coordinate would load
each cache line again for the next coordinate, and a loop over the coordinates of one row does not
vectorise.

These are loops, not slice assignments: numba checks the shapes of a slice assignment, and the
message of that check takes longer to compile than most kernels.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower
from .point_squares import SIDE, load_square


@borrower
def _load_squares(x, centre, n, v):
    dim = centre.shape[0]
    tiled, whole = dim - dim % SIDE, n - n % SIDE
    for k in range(0, whole, SIDE):
        for d in range(0, tiled, SIDE):
            load_square(x, k, d, centre, v)
    for k in range(whole, n):
        for d in range(tiled):
            v[d, k] = x[k, d] - centre[d]
    for d in range(tiled, dim):
        for k in range(n):
            v[d, k] = x[k, d] - centre[d]


@borrower(on_host=_load_squares)
def load_rows(x, centre, n, v):
    """v[d, k] = x[k, d] - centre[d], for n rows of x."""
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


@borrower
def store_rows(v, n, dim, x):
    """x[k, d] = v[d, k], for n rows of x."""
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


@borrower
def all_finite(v, n, dim):
    """Whether all coordinates of n lanes are finite."""
    for d in range(dim):
        bad = np.int64(0)
        for k in range(n):
            bad += np.int64(0) if abs(v[d, k]) < np.inf else np.int64(1)
        if bad > 0:
            return False
    return True


@borrower
def fill(x, n, value):
    """x[:n] = value."""
    for k in range(n):
        x[k] = value


@borrower
def copy(x, n, out):
    """out[:n] = x[:n]."""
    for k in range(n):
        out[k] = x[k]


@borrower
def copy_to(x, n, out, start):
    """out[start : start + n] = x[:n]."""
    # An unsigned index is not looked at for a sign.
    first = np.uint64(start)
    for k in range(n):
        out[first + np.uint64(k)] = x[k]


@borrower
def scaled(x, factor, n, out):
    """out[:n] = factor x[:n]."""
    for k in range(n):
        out[k] = factor * x[k]


@borrower
def least(x):
    """The smallest of x; +inf if x is empty."""
    value = np.inf
    for k in range(x.shape[0]):
        value = min(value, x[k])
    return value
