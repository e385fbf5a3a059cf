"""Copying and filling, as loops: a slice assignment brings numba's check of shapes with it, whose
message takes longer to compile than most kernels.
"""

from __future__ import annotations

import numpy as np

from .compile import block


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
