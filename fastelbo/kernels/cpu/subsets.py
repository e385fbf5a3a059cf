"""Averages over all subsets of k weights, through elementary symmetric polynomials.

Let y_i = exp(-u w_i). The mean of exp(-u sum of w over S), over all subsets S of k out of n
weights, is phi_k = e_k(y) / C(n, k). For this mean, the recursion of the polynomials is

    phi_k of n  =  (1 - k/n) phi_k of n-1  +  (k/n) y_n phi_(k-1) of n-1,

an average of numbers in [0, 1]: nothing cancels, overflows or underflows. The code stores
g_k = 1 - phi_k, which has full relative precision even if u is small.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, scalar
from ..jit.sharing import stopped
from ..math.scalar import exp

# Exponentials are taken of this many weights at once: 16 kB.
_PIECE = 2048
# This many weights are left out at once, one each.
_FEW = 256


@scalar
def _one_minus_exp(v):
    """1 - exp(-v) for v >= 0, with full relative precision."""
    # The Taylor series; its error is 1e-17 for v <= 1/2.
    p = -1.0 / 1307674368000.0
    p = p * v + 1.0 / 87178291200.0
    p = p * v - 1.0 / 6227020800.0
    p = p * v + 1.0 / 479001600.0
    p = p * v - 1.0 / 39916800.0
    p = p * v + 1.0 / 3628800.0
    p = p * v - 1.0 / 362880.0
    p = p * v + 1.0 / 40320.0
    p = p * v - 1.0 / 5040.0
    p = p * v + 1.0 / 720.0
    p = p * v - 1.0 / 120.0
    p = p * v + 1.0 / 24.0
    p = p * v - 1.0 / 6.0
    p = p * v + 0.5
    return v - v * v * p if v < 0.5 else 1.0 - exp(-v)


@block
def _losses(log_weights, log_u, n, out):
    """out = 1 - exp(-u w)."""
    for i in range(n):
        out[i] = _one_minus_exp(exp(log_weights[i] + log_u))


@block
def _append_weight(g, counts, loss, n, limit):
    """Update g from n - 1 weights to n, for subsets of up to ``limit`` weights; counts[k] = k."""
    y = 1.0 - loss
    share = 1.0 / n
    # k descends, so that g[k - 1] still belongs to n - 1 weights.
    for k in range(min(n, limit), 0, -1):
        g[k] += (counts[k] * share) * ((loss + y * g[k - 1]) - g[k])


@block
def means(part, parts, log_weights, row, log_u, limit, lo, hi, g, counter):
    """g[node - lo, k] at u = exp(log_u[node]), of the weights of row[node], for nodes lo to hi.

    For k > limit[node], it is set to 1.
    """
    n = log_weights.shape[1]
    counts = np.arange(1.0 * g.shape[1])
    losses = np.empty(_PIECE)
    # Parts take nodes in turn, not in ranges: limits, and so the work, decrease with u.
    for node in range(lo + part, hi, parts):
        means = g[node - lo]
        means[:] = 0.0
        for first in range(0, n, _PIECE):
            if stopped(counter):
                return
            count = min(_PIECE, n - first)
            _losses(log_weights[row[node], first : first + count], log_u[node], count, losses)
            for i in range(count):
                _append_weight(means, counts, losses[i], first + i + 1, limit[node])
        means[limit[node] + 1 :] = 1.0


# If weight i is left out, g_k changes by d_k, where
#
#     (n - k) d_k  =  k ((g_k - g_(k-1)) - loss_i (1 - g_(k-1)) - (1 - loss_i) d_(k-1)).
#
# Solved for d_k, the recursion is stable while k (1 - loss_i) <= n - k. For larger k, it is stable
# solved for d_(k-1), from k = n down.


@block
def _change_up(d, losses, g, k, n, count):
    """From d_(k-1) to d_k."""
    ratio = k / (n - k)
    rise, room = g[k] - g[k - 1], 1.0 - g[k - 1]
    for i in range(count):
        d[i] = ratio * ((rise - losses[i] * room) - (1.0 - losses[i]) * d[i])


@block
def _change_down(d, losses, g, k, n, count):
    """From d_k to d_(k-1)."""
    ratio = (n - k) / k
    rise, room = g[k] - g[k - 1], 1.0 - g[k - 1]
    for i in range(count):
        d[i] = ((rise - losses[i] * room) - ratio * d[i]) / (1.0 - losses[i])


@block
def _add_changes(out, d, losses, k, n, upwards, count):
    """Add the changes d for which this direction of the recursion is stable."""
    least = (n - k) / k
    for i in range(count):
        out[i] += d[i] if ((1.0 - losses[i]) <= least) == upwards else 0.0


@block
def _change_all(g, losses, d, n, limit, sizes, first, count, out):
    """Add to out the changes of g at one u without one of ``count`` weights from ``first``."""
    d[:] = 0.0
    s = 0
    for k in range(1, min(limit, sizes[-1]) + 1):
        _change_up(d, losses, g, k, n, count)
        if k == sizes[s]:
            _add_changes(out[s, first : first + count], d, losses, k, n, True, count)
            s += 1
    if limit < n:
        return
    d[:] = 0.0
    s = sizes.shape[0] - 1
    for k in range(n - 1, n // 2, -1):
        _change_down(d, losses, g, k + 1, n, count)
        if s >= 0 and k == sizes[s]:
            _add_changes(out[s, first : first + count], d, losses, k, n, False, count)
            s -= 1


@block
def changes(part, parts, log_weights, first_node, log_u, limit, lo, hi, g, sizes, out, counter):
    """Add to out[row, s, i] the change of g_k, k = sizes[s] < n, if weight i is left out.

    The changes are summed over those nodes lo to hi that belong to the row: ``first_node[row]`` up
    to ``first_node[row + 1]``. Sizes ascend. If a size is above n / 2, the limit must be n.
    """
    n = log_weights.shape[1]
    pieces = (n + _FEW - 1) // _FEW
    items = log_weights.shape[0] * pieces
    losses, d = np.empty(_FEW), np.empty(_FEW)
    for item in range(part * items // parts, (part + 1) * items // parts):
        row, first = item // pieces, item % pieces * _FEW
        count = min(_FEW, n - first)
        piece = log_weights[row, first : first + count]
        for node in range(max(lo, first_node[row]), min(hi, first_node[row + 1])):
            if stopped(counter):
                return
            _losses(piece, log_u[node], count, losses)
            _change_all(g[node - lo], losses, d, n, limit[node], sizes, first, count, out[row])
