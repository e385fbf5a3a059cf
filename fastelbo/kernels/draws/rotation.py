"""Rotates a block of standard normals, for quasi-random draws.

A tile has four rows and four coordinates. At the ends, where two are enough, it has two: a row of
zeros would cost as much as any other.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower
from .blocks import TILE
from .densities import add_tile

_ZERO, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)


@borrower
def _add_four_by_two(rotation, j, d, e, n, out):
    """out[r] += rotation[j + r, d : d + 2] e[d : d + 2], for four rows r; at d = 0 from 0."""
    zero = out.dtype.type(0.0)
    f00, f01 = rotation[j, d], rotation[j, d + _ONE]
    f10, f11 = rotation[j + _ONE, d], rotation[j + _ONE, d + _ONE]
    f20, f21 = rotation[j + _TWO, d], rotation[j + _TWO, d + _ONE]
    f30, f31 = rotation[j + _THREE, d], rotation[j + _THREE, d + _ONE]
    for k in range(n):
        e0, e1 = e[d, k], e[d + _ONE, k]
        a0 = zero if d == _ZERO else out[0, k]
        a1 = zero if d == _ZERO else out[1, k]
        a2 = zero if d == _ZERO else out[2, k]
        a3 = zero if d == _ZERO else out[3, k]
        out[0, k] = (a0 + f00 * e0) + f01 * e1
        out[1, k] = (a1 + f10 * e0) + f11 * e1
        out[2, k] = (a2 + f20 * e0) + f21 * e1
        out[3, k] = (a3 + f30 * e0) + f31 * e1


@borrower
def _add_two_by_four(rotation, j, d, e, n, out):
    """As `_add_four_by_two`, for two rows and four coordinates."""
    zero = out.dtype.type(0.0)
    f00, f01, f02 = rotation[j, d], rotation[j, d + _ONE], rotation[j, d + _TWO]
    f10, f11 = rotation[j + _ONE, d], rotation[j + _ONE, d + _ONE]
    f12, f13 = rotation[j + _ONE, d + _TWO], rotation[j + _ONE, d + _THREE]
    f03 = rotation[j, d + _THREE]
    for k in range(n):
        e0, e1, e2, e3 = e[d, k], e[d + _ONE, k], e[d + _TWO, k], e[d + _THREE, k]
        a0 = zero if d == _ZERO else out[0, k]
        a1 = zero if d == _ZERO else out[1, k]
        out[0, k] = (((a0 + f00 * e0) + f01 * e1) + f02 * e2) + f03 * e3
        out[1, k] = (((a1 + f10 * e0) + f11 * e1) + f12 * e2) + f13 * e3


@borrower
def _add_two_by_two(rotation, j, d, e, n, out):
    """As `_add_four_by_two`, for two rows."""
    zero = out.dtype.type(0.0)
    f00, f01 = rotation[j, d], rotation[j, d + _ONE]
    f10, f11 = rotation[j + _ONE, d], rotation[j + _ONE, d + _ONE]
    for k in range(n):
        e0, e1 = e[d, k], e[d + _ONE, k]
        a0 = zero if d == _ZERO else out[0, k]
        a1 = zero if d == _ZERO else out[1, k]
        out[0, k] = (a0 + f00 * e0) + f01 * e1
        out[1, k] = (a1 + f10 * e0) + f11 * e1


@borrower
def rotate(rotation, e, dim, n, v):
    """v[:dim] = rotation e, for a rotation and coordinates e that are padded with zeros."""
    zero = v.dtype.type(0.0)
    start = zero, zero, zero, zero
    for row in range(0, dim, TILE):
        for column in range(0, dim, TILE):
            j, d, out = np.uint64(row), np.uint64(column), v[row : row + TILE]
            if dim - row > 2:
                if dim - column > 2:
                    add_tile(rotation, start, j, d, e, n, out)
                else:
                    _add_four_by_two(rotation, j, d, e, n, out)
            elif dim - column > 2:
                _add_two_by_four(rotation, j, d, e, n, out)
            else:
                _add_two_by_two(rotation, j, d, e, n, out)
