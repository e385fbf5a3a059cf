"""Rows of numbers of the draws of a block, of whose products gradients are made.

For a location-scale q, ``z = m + T y``. Of a draw with coefficients a and b (`state.estimators`),
``G = a grad_z log p + (a + b) u``, with ``u = -grad_z log q = rho(|y|^2) T^-T y``: rho is 1 for a
Gaussian, ``(df + D) / (df + |y|^2)`` for a Student-t. The gradient is G by m, and
``tril(G y') - b diag(1 / T_dd)`` by T. For a diagonal T, all is in units of T: G is ``T' grad``.

Scores of the model are affine in ``delta = z - m``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit.compile import borrower
from ..math.copies import copy, fill
from .blocks import TILE, Call, Plan, padded, row_of
from .densities import add_tile
from .radial import STUDENT_T
from .slopes import take_transposed


class Rows(NamedTuple):
    """Where the rows of each kind begin; -1 for a kind that is not made."""

    ones: int
    score: int  # b, one row
    y: int  # D rows
    g: int  # D rows, padded
    own: int  # u_d y_d - 1 / T_dd, D rows
    z: int  # D rows, padded
    model: int  # scores of the model, padded
    weighted: int  # the same times wbar
    count: int


class GradientPlan(NamedTuple):
    """What kernels read for gradients, beside the plan of an estimate."""

    plan: Plan
    calls: tuple[Call, Call]  # gradients of a user's prior and likelihood
    kind: int  # the estimator
    alpha: float
    size: int  # k
    slopes: bool  # whether gradients of log p are needed
    rows: Rows
    left: NDArray[np.int64]  # (products,) rows
    right: NDArray[np.int64]
    inverse: NDArray[np.float64]  # (N or 1, D, D) of a triangular T, padded; (1, 0, 0) if diagonal
    own: NDArray[np.float64]  # (N or 1, D): 1 / T_dd; 1 if diagonal
    centre: NDArray[np.float64]  # (N or 1, D), padded
    scale: NDArray[np.float64]  # (N or 1, 1 or D, D) T, padded
    affine: NDArray[np.float64]  # (N or 1, scores, D), padded
    start: NDArray[np.float64]  # (N or 1, scores), padded
    # Gradients of supplied log densities in v, (N, D, draws), draw ``given_first`` on; (1, 0, 0).
    given: NDArray[np.float64]
    given_first: int = 0


@borrower
def _set_g(asked, i, dim, work, slopes, form, coefficients, first, n, rows):
    """The rows of G; for estimators without gradients of log p also those of ``own``."""
    density, where = asked.plan.q.density, asked.rows
    a, both, b = coefficients.slope, coefficients.both, coefficients.score
    df, heavy, rho, first = np.inf, False, work.norm, np.uint64(first)
    if density.radial == STUDENT_T:
        df = density.df[row_of(i, density.df.shape[0]), 0]
        heavy = df < np.inf
    fill(rho, n, 1.0)
    if heavy:
        for k in range(n):
            rho[k] = (df + dim) / (df + work.square[k])
    for d in range(dim):
        y, slope, out = work.v[d], slopes[d], form[d]
        if asked.slopes:
            for k in range(n):
                pulled = (
                    a[first + np.uint64(k)] * slope[k] if a[first + np.uint64(k)] != 0.0 else 0.0
                )
                out[k] = -(pulled + both[first + np.uint64(k)] * (rho[k] * y[k]))
        else:
            for k in range(n):
                out[k] = -rho[k] * y[k]
    for d in range(dim, padded(dim)):
        fill(form[d], n, 0.0)
    g = rows[where.g : where.g + padded(dim)]
    for d in range(padded(dim)):
        fill(g[d], n, 0.0)
    inverse = asked.inverse[row_of(i, asked.inverse.shape[0])]
    take_transposed(inverse, inverse.shape[0], form, dim, n, g)
    if asked.slopes:
        return
    own = asked.own[row_of(i, asked.own.shape[0])]
    for d in range(dim):
        y, here, out, e = work.v[d], g[d], rows[where.own + d], own[d]
        for k in range(n):
            out[k] = here[k] * y[k] - e
            here[k] = b[first + np.uint64(k)] * here[k]
    for k in range(n):
        rows[where.score, k] = b[first + np.uint64(k)]


@borrower
def _set_model(asked, i, dim, work, coefficients, first, n, rows):
    """The rows of z, of the scores of the model, and of these times their coefficients."""
    where, v, first = asked.rows, work.v, np.uint64(first)
    z = rows[where.z : where.z + padded(dim)]
    scale = asked.scale[row_of(i, asked.scale.shape[0])]
    if scale.shape[0] == 1:
        for d in range(padded(dim)):
            t = scale[0, d]
            for k in range(n):
                z[d, k] = t * v[d, k]
    else:
        for d in range(0, padded(dim), TILE):
            for j in range(0, d + TILE, TILE):
                add_tile(
                    scale, (0.0, 0.0, 0.0, 0.0), np.uint64(d), np.uint64(j), v, n, z[d : d + TILE]
                )
    affine = asked.affine[row_of(i, asked.affine.shape[0])]
    start = asked.start[row_of(i, asked.start.shape[0])]
    count = affine.shape[0]
    for r in range(0, count, TILE):
        begin = start[r], start[r + 1], start[r + 2], start[r + 3]
        out = rows[where.model + r : where.model + r + TILE]
        for j in range(0, padded(dim), TILE):
            add_tile(affine, begin, np.uint64(r), np.uint64(j), z, n, out)
    centre, weight = asked.centre[row_of(i, asked.centre.shape[0])], coefficients.model
    for d in range(dim):
        c = centre[d]
        for k in range(n):
            z[d, k] += c
    if where.weighted != where.model:
        for r in range(count):
            score, out = rows[where.model + r], rows[where.weighted + r]
            for k in range(n):
                w = weight[first + np.uint64(k)]
                out[k] = w * score[k] if w != 0.0 else 0.0
                # What counts for nothing may be infinite, in the factor beside it too.
                score[k] = score[k] if w != 0.0 else 0.0


@borrower
def set_rows(asked, i, dim, work, slopes, form, coefficients, first, n, rows):
    """Fill the rows that are asked for; the coefficients of lane 0 are at ``first``."""
    where = asked.rows
    if where.g >= 0:
        for d in range(dim):
            copy(work.v[d], n, rows[where.y + d])
        _set_g(asked, i, dim, work, slopes, form, coefficients, first, n, rows)
    if where.model >= 0:
        _set_model(asked, i, dim, work, coefficients, first, n, rows)
