"""Gradients of log densities in the coordinates v of a block of draws, beside their values.

A component of an elliptical density depends on ``s = |a|^2``, with its form ``a = F v - t``. Its
gradient is ``2 g'(s) F' a``: -F' a for a Gaussian, ``-(df + D) / (df + s) F' a`` for a Student-t.
That of a mixture is the mean of its components' by responsibilities ``r_c = p_c / sum p_c``.

Everything is in float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit.compile import block, borrower
from ..jit.sharing import stopped
from ..math.copies import fill
from ..math.scalar import exp_normal, log_positive
from ..vectors.calls import call_gradient_block
from .blocks import CALLED, ELLIPTICAL, LANES, TILE, aligned_rows, padded, row_of
from .densities import (
    add_term,
    add_tile,
    elliptical_block,
    given_block,
    log_weights,
    move,
    place_block,
    square_norm_identity,
)
from .far import ROOT_UNIT, far_distance, far_residual, has_zero, mend_far
from .radial import STUDENT_T, log_radial

_ZERO, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)


class SlopeRoom(NamedTuple):
    """Arrays of one thread for the gradients of its current block."""

    form: NDArray[np.float64]  # (padded D, LANES): a of a component
    logs: NDArray[np.float64]  # (most components, LANES): their log densities
    weight: NDArray[np.float64]  # (LANES,)
    slopes: NDArray[np.float64]  # (padded D, LANES): the sum of the gradients


@block
def make_slope_room(dim, prior, likelihood):
    """Allocate a `SlopeRoom` for two terms."""
    components = max(prior.density.log_const.shape[1], likelihood.density.log_const.shape[1])
    return SlopeRoom(
        aligned_rows(padded(dim), np.empty(0)),
        np.empty((max(1, components), LANES)),
        np.empty(LANES),
        np.zeros((padded(dim), LANES)),
    )


@borrower
def _form(density, i, c, v, dim, work, n, form):
    """form = F_c (v - shift_c) - t_c."""
    rows, place = density.factor.shape[2], v
    if density.shift.shape[1] > 0:
        move(v, density.shift[row_of(i, density.shift.shape[0]), c], padded(dim), n, work.packed)
        place = work.packed
    if rows == 0:
        for d in range(padded(dim)):
            for k in range(n):
                form[d, k] = place[d, k]
        return
    factor = density.factor[row_of(i, density.factor.shape[0]), c]
    target = density.target[row_of(i, density.target.shape[0]), c]
    if rows == 1:
        for d in range(padded(dim)):
            f, t = factor[0, d], target[d]
            for k in range(n):
                form[d, k] = f * place[d, k] - t
        return
    for j in range(0, padded(dim), TILE):
        start = -target[j], -target[j + 1], -target[j + 2], -target[j + 3]
        # Above its diagonal, the factor is 0.
        for d in range(0, j + TILE, TILE):
            add_tile(factor, start, np.uint64(j), np.uint64(d), place, n, form[j : j + TILE])


@borrower
def _take_tile(factor, j, d, a, n, slopes):
    """slopes[r] -= factor[j:j + 4, d + r]' a[j:j + 4], for r < 4."""
    row0, row1, row2, row3 = factor[j], factor[j + _ONE], factor[j + _TWO], factor[j + _THREE]
    f00, f01, f02, f03 = row0[d], row0[d + _ONE], row0[d + _TWO], row0[d + _THREE]
    f10, f11, f12, f13 = row1[d], row1[d + _ONE], row1[d + _TWO], row1[d + _THREE]
    f20, f21, f22, f23 = row2[d], row2[d + _ONE], row2[d + _TWO], row2[d + _THREE]
    f30, f31, f32, f33 = row3[d], row3[d + _ONE], row3[d + _TWO], row3[d + _THREE]
    for k in range(n):
        a0, a1, a2, a3 = a[j, k], a[j + _ONE, k], a[j + _TWO, k], a[j + _THREE, k]
        slopes[0, k] = (((slopes[0, k] - f00 * a0) - f10 * a1) - f20 * a2) - f30 * a3
        slopes[1, k] = (((slopes[1, k] - f01 * a0) - f11 * a1) - f21 * a2) - f31 * a3
        slopes[2, k] = (((slopes[2, k] - f02 * a0) - f12 * a1) - f22 * a2) - f32 * a3
        slopes[3, k] = (((slopes[3, k] - f03 * a0) - f13 * a1) - f23 * a2) - f33 * a3


@borrower
def take_transposed(factor, rows, a, dim, n, slopes):
    """slopes -= F' a; F is the identity, diagonal or lower triangular."""
    if rows == 0:
        for d in range(dim):
            for k in range(n):
                slopes[d, k] -= a[d, k]
    elif rows == 1:
        for d in range(dim):
            f = factor[0, d]
            for k in range(n):
                slopes[d, k] -= f * a[d, k]
    else:
        for d in range(0, padded(dim), TILE):
            for j in range(d, padded(dim), TILE):
                _take_tile(factor, np.uint64(j), np.uint64(d), a, n, slopes[d : d + TILE])


@borrower
def _component(density, i, c, v, dim, work, n, form, square, out):
    """form, square = |form|^2, and out = log_const_c + g_c(square)."""
    _form(density, i, c, v, dim, work, n, form)
    square_norm_identity(form, padded(dim), n, square)
    log_radial(density, i, c, 0.0, square, dim, n, out)
    if has_zero(out, n):
        mend_far(density, i, c, 0.0, v, dim, n, out)


@borrower
def _far_form(density, i, c, df, v, dim, weight, square, n, form):
    """form = weight (df + D) / (df + s) a in the lanes where the square s overflows."""
    for k in range(n):
        if not square[k] < np.inf:
            peak, total = far_distance(density, i, c, v, dim, k)
            root = math.sqrt(total)
            distance = peak / ROOT_UNIT / ROOT_UNIT * root
            share = weight[k] * (df + dim) / (df / distance + distance)
            for j in range(dim):
                form[j, k] = share * (far_residual(density, i, c, v, j, k) / peak / root)


@borrower
def _take_component(density, i, c, v, dim, weight, square, n, form, slopes):
    """slopes += weight times the gradient of component c, whose form it overwrites."""
    df = np.inf
    if density.radial == STUDENT_T:
        df = density.df[row_of(i, density.df.shape[0]), c]
    heavy = df < np.inf
    bad = np.int64(0)
    for k in range(n):
        bad += np.int64(0) if square[k] < np.inf else np.int64(1)
    if heavy and bad > 0:
        _far_form(density, i, c, df, v, dim, weight, square, n, form)
    if heavy:
        for k in range(n):
            # Where the square overflows, the form is weighted already.
            near = square[k] < np.inf
            weight[k] = weight[k] * ((df + dim) / (df + square[k])) if near else 1.0
    for d in range(dim):
        for k in range(n):
            # A component that does not count may be too far away for a finite form.
            form[d, k] = weight[k] * form[d, k] if weight[k] != 0.0 else 0.0
    rows = density.factor.shape[2]
    factor = density.factor[row_of(i, density.factor.shape[0]), c]
    take_transposed(factor, rows, form, dim, n, slopes)


@borrower
def _gaussian_slopes(density, i, v, dim, work, room, n, out, slopes):
    """Add the gradient of one Gaussian component to slopes, and set out."""
    _component(density, i, 0, v, dim, work, n, room.form, work.square, out)
    factor = density.factor[row_of(i, density.factor.shape[0]), 0]
    take_transposed(factor, density.factor.shape[2], room.form, dim, n, slopes)


@borrower
def elliptical_slopes(density, i, v, dim, work, room, n, out, slopes):
    """Add the gradient of the log density of data point i at v to slopes, and set out to its value.

    Where the launch is stopped, some components are left out.
    """
    components = density.log_const.shape[1]
    form, square, weight = room.form, work.square, room.weight
    if components == 1:
        if density.radial != STUDENT_T:
            _gaussian_slopes(density, i, v, dim, work, room, n, out, slopes)
            return
        _component(density, i, 0, v, dim, work, n, form, square, out)
        fill(weight, n, 1.0)
        _take_component(density, i, 0, v, dim, weight, square, n, form, slopes)
        return
    top, total = work.top, work.total
    for c in range(components):
        if c > 0 and stopped(work.counter):
            return
        logs = room.logs[c]
        _component(density, i, c, v, dim, work, n, form, square, logs)
        if c == 0:
            for k in range(n):
                top[k], total[k] = logs[k], 1.0
            continue
        for k in range(n):
            top[k], total[k] = add_term(top[k], total[k], logs[k], 1.0)
    for k in range(n):
        out[k] = top[k] + log_positive(total[k])
    for c in range(components):
        if stopped(work.counter):
            return
        logs = room.logs[c]
        _form(density, i, c, v, dim, work, n, form)
        square_norm_identity(form, padded(dim), n, square)
        for k in range(n):
            # Relative to the sum of the same numbers, so that weights add up to 1 however far v is.
            weight[k] = exp_normal(logs[k] - top[k]) / total[k]
        _take_component(density, i, c, v, dim, weight, square, n, form, slopes)


@borrower
def _called_slopes(term, call, i, v, dim, work, room, n, out, slopes):
    """Add the gradient of a user's density, chained by the frame, to slopes, and set out.

    NaN from the first draw on that the function refuses.
    """
    density, form = term.density, room.form
    place_block(density, i, v, n, work.packed)
    z, row = work.packed[:dim], np.int64(term.values[row_of(i, term.values.shape[0]), 0])
    passed, failed, tried = 0, n + 1, n
    while failed - passed > 1:
        if call_gradient_block(call.function, call.arguments, z, row, tried, out, form) == 0:
            passed = tried
        else:
            failed = tried
        tried = (passed + failed) // 2
    if 0 < passed < n:
        call_gradient_block(call.function, call.arguments, z, row, passed, out, form)
    for k in range(passed, n):
        out[k] = np.nan
    for d in range(dim):
        for k in range(n):
            form[d, k] = -form[d, k] if k < passed else np.nan
    for d in range(dim, padded(dim)):
        fill(form[d], n, 0.0)
    factor = density.factor[row_of(i, density.factor.shape[0]), 0]
    take_transposed(factor, density.factor.shape[2], form, dim, n, slopes)


@borrower
def slope_block(term, call, i, first, v, dim, work, room, n, out, slopes):
    """Add the gradient of a log density to slopes, and set out to its value.

    ``call`` is that of the gradient of a user's function. A density that is not known away from
    the draws counts as one of gradient 0.
    """
    if term.kind == ELLIPTICAL:
        elliptical_slopes(term.density, i, v, dim, work, room, n, out, slopes)
    elif term.kind == CALLED:
        _called_slopes(term, call, i, v, dim, work, room, n, out, slopes)
    else:
        given_block(term, i, first, n, out)


@borrower
def weigh_with_slopes(plan, calls, i, first, work, room, n):
    """As `weigh_block`, for an elliptical q; ``room.slopes`` is the gradient of the log joint.

    ``work.square`` is then the squared norm of a standardised draw.
    """
    v, dim, slopes = work.v, plan.dim, room.slopes
    for d in range(padded(dim)):
        fill(slopes[d], n, 0.0)
    slope_block(plan.prior, calls[0], i, first, v, dim, work, room, n, work.log_prior, slopes)
    slope_block(
        plan.likelihood, calls[1], i, first, v, dim, work, room, n, work.log_likelihood, slopes
    )
    elliptical_block(plan.q.density, i, v, dim, work, n, work.log_q)
    log_weights(work.log_likelihood, work.log_prior, work.log_q, n, work.log_weight)
