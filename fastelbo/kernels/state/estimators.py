"""Coefficients of the draws of a group in each estimator of a gradient.

Of a group of k draws with log weights l_j, ``wbar = softmax(l)`` and the bound is
``L = log mean exp(l)``. With h the gradient of log p - log q at a draw, J the derivative of the
draw by the parameters phi of q, and s that of log q by phi at a fixed draw, the gradient of
the group is ``sum_j (a_j h_j J_j + b_j s_j)``:

=======  ===========================================  =======================
name     a                                            b
=======  ===========================================  =======================
TOTAL    wbar                                         -wbar
STL      wbar                                         0
DREG     wbar^2                                       0
RENYI    alpha wbar + (1 - alpha) wbar^2              0
RWS      wbar - wbar^2                                0
VIMCO    0                                            (L - L_-j) - wbar
SCORE    0                                            L - wbar
=======  ===========================================  =======================

TOTAL is Kingma and Welling's (2014) and Burda et al.'s (2016), STL Roeder et al.'s (2017), DREG and
RWS Tucker et al.'s (2019), VIMCO Mnih and Rezende's (2016): L_-j has the geometric mean of the
other weights in the place of w_j. For RENYI, wbar and L are those of ``(1 - alpha) l`` (Li and
Turner, 2016). The gradient by a parameter of the model is ``sum_j wbar_j`` times that of log p.

Draw j of group g is in lane ``j stride + g step``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit.compile import block, borrower
from ..math.scalar import exp_normal, log, log_positive
from ..math.sums import range_sum

TOTAL, STL, DREG, RENYI, RWS, VIMCO, SCORE = range(7)


class Coefficients(NamedTuple):
    """Coefficients of the draws of some groups, and the bounds of the groups."""

    slope: NDArray[np.float64]  # (draws,) a
    both: NDArray[np.float64]  # (draws,) a + b
    score: NDArray[np.float64]  # (draws,) b
    model: NDArray[np.float64]  # (draws,) wbar
    bound: NDArray[np.float64]  # (groups,)
    top: NDArray[np.float64]  # (groups,)
    total: NDArray[np.float64]  # (groups,)


@block
def make_coefficients(draws, groups):
    """Allocate `Coefficients`."""
    return Coefficients(
        np.empty(draws), np.empty(draws), np.empty(draws), np.empty(draws), np.empty(groups),
        np.empty(groups), np.empty(groups),
    )  # fmt: skip


@borrower
def _across(x, power, size, count, out):
    """Softmax of power x in groups that lie across the lanes."""
    w, top, total = out.model, out.top, out.total
    for g in range(count):
        top[g], total[g] = power * x[g], 0.0
    for j in range(1, size):
        first = np.uint64(j * count)
        for g in range(count):
            value = power * x[first + np.uint64(g)]
            top[g] = value if value > top[g] else top[g]
    for j in range(size):
        first = np.uint64(j * count)
        for g in range(count):
            w[first + np.uint64(g)] = exp_normal(power * x[first + np.uint64(g)] - top[g])
            total[g] += w[first + np.uint64(g)]
    for g in range(count):
        # No weight is positive.
        total[g] = total[g] if top[g] > -np.inf else 0.0
    for j in range(size):
        first = np.uint64(j * count)
        for g in range(count):
            w[first + np.uint64(g)] = w[first + np.uint64(g)] / total[g] if total[g] > 0.0 else 0.0


@borrower
def _along(x, power, size, count, partial_sums, out):
    """Softmax of power x in groups of consecutive lanes."""
    w = out.model
    for g in range(count):
        first, top, total = g * size, -np.inf, 0.0
        for k in range(first, first + size):
            value = power * x[k]
            top = value if value > top else top
        if top > -np.inf:
            for k in range(first, first + size):
                w[k] = exp_normal(power * x[k] - top)
            total = range_sum(w, first, first + size)
        for k in range(first, first + size):
            w[k] = w[k] / total if total > 0.0 else 0.0
        out.top[g], out.total[g] = top, total


@borrower
def _vimco(x, size, count, stride, step, out):
    """score = (L - L_-j) - wbar, from the sums of the draws before and behind each."""
    left, logs = out.slope, out.both
    for g in range(count):
        top = out.top[g]
        if not top > -np.inf:
            for j in range(size):
                out.score[g * step + j * stride] = 0.0
            continue
        total, total_log, whole = 0.0, 0.0, out.total[g]
        for j in range(size):
            k = g * step + j * stride
            left[k], logs[k] = total, total_log
            total += out.model[k]
            total_log += x[k] - top
        total, total_log = 0.0, 0.0
        for j in range(size - 1, -1, -1):
            k = g * step + j * stride
            mean_log = (logs[k] + total_log) / (size - 1)
            others = (left[k] + total) + exp_normal(mean_log) / whole
            total += out.model[k]
            total_log += x[k] - top
            out.score[k] = -log(others) - out.model[k]


@borrower
def set_coefficients(kind, alpha, x, size, count, across, partial_sums, out):
    """The coefficients of ``count`` groups of ``size`` draws with log weights x.

    A group whose weights are all 0 has coefficients and bound 0.
    """
    n = size * count
    power = 1.0 - alpha if kind == RENYI else 1.0
    stride, step = (count, 1) if across else (1, size)
    a, b, both, w = out.slope, out.score, out.both, out.model
    if across:
        _across(x, power, size, count, out)
    else:
        _along(x, power, size, count, partial_sums, out)
    for g in range(count):
        empty = not out.total[g] > 0.0
        value = out.top[g] + log_positive((1.0 if empty else out.total[g]) / size)
        out.bound[g] = 0.0 if empty else value
    if kind == RENYI:
        for g in range(count):
            out.bound[g] = out.bound[g] / power if power != 0.0 else 0.0
        if power == 0.0:
            for g in range(count):
                for j in range(size):
                    out.bound[g] += x[g * step + j * stride] / size
    if kind == VIMCO:
        _vimco(x, size, count, stride, step, out)
    if kind == SCORE:
        for g in range(count):
            for j in range(size):
                k = g * step + j * stride
                b[k] = out.bound[g] - w[k] if out.total[g] > 0.0 else 0.0
    if kind in (VIMCO, SCORE):
        for k in range(n):
            a[k], both[k] = 0.0, b[k]
        return
    linear, square = 1.0, 0.0
    if kind == DREG:
        linear, square = 0.0, 1.0
    elif kind == RENYI:
        linear, square = alpha, 1.0 - alpha
    elif kind == RWS:
        linear, square = 1.0, -1.0
    added = -1.0 if kind == TOTAL else 0.0
    for k in range(n):
        a[k] = w[k] * (linear + square * w[k])
        b[k] = added * w[k]
        both[k] = a[k] + b[k]
