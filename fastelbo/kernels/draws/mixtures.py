"""Sums over the components of a mixture at many data points. Nothing is drawn.

A lane is a data point. A block has fewer lanes than a block of draws, so that the terms of all
components stay in the cache: the densities are evaluated once, and a term becomes its
responsibility in its place.

Terms log p(x | c) may be so large that an ulp of one is many nats. So the term of the most probable
component is subtracted first. Weights are factors of the exponentials, and probabilities are
divided by their own sum.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, borrower, scalar
from ..jit.references import by_reference
from ..math.columns import copy_columns
from ..math.copies import copy, fill, least, load_rows
from ..math.point_squares import SIDE, store_ratios
from ..math.scalar import exp_normal, log_positive, two_sum
from .blocks import TILE, make_workspace
from .densities import log_component, set_terms
from .far import far_distance, has_zero

_LANES = 128
_TINY = 2.0**-1022
# Differences of terms whose exponentials are far from overflow and from 0.
_MODERATE = 700.0
# If no weight is below it, ratios of weights and exponentials of terms meet no such end: a share
# that comes out as 0 is below 1e-300.
_LEAST_WEIGHT = 1e-7


@borrower
def _terms_in_registers(density, dim, work, n, terms):
    moved, acc, square = work.packed, work.accumulator, work.square
    set_terms(
        density, 0, 0, terms.shape[0], 0.0, work.v, dim, n, True, moved, acc, square, None, terms
    )


@borrower(on_host=_terms_in_registers)
def component_terms(density, dim, work, n, terms):
    """terms[c] = log p(x | c)."""
    v, moved, acc, square = work.v, work.packed, work.accumulator, work.square
    for c in range(terms.shape[0]):
        log_component(density, 0, c, 0.0, v, dim, n, True, moved, acc, square, terms[c])


@borrower
def find_top(density, weights, dim, work, n, terms):
    """work.component = the most probable component, work.log_q = log of w_c p(x | c) there.

    A lane whose terms are all -inf gets terms that order its components, and -inf in work.log_q.
    work.top = the component's term, work.norm = 1 / weight, work.log_prior = log weight.
    """
    best, component = work.log_q, work.component
    for k in range(n):
        best[k], component[k] = -np.inf, np.int64(0)
    # Two at a time: the best of a lane stays in a register between them. The last may come twice.
    for c in range(0, weights.shape[1], 2):
        last = min(c + 1, weights.shape[1] - 1)
        row, log_weight, other, log_other = terms[c], weights[1, c], terms[last], weights[1, last]
        for k in range(n):
            joint = row[k] + log_weight
            better = joint > best[k]
            top = joint if better else best[k]
            own = np.int64(c) if better else component[k]
            joint = other[k] + log_other
            better = joint > top
            best[k] = joint if better else top
            component[k] = np.int64(last) if better else own
    if has_zero(best, n):
        for k in range(n):
            if not best[k] > -np.inf:
                _order_far(density, weights, dim, work, k, terms)
    # The indexed loads do not vectorise, so that the division has a loop of its own.
    top, inverse, log_own = work.top, work.norm, work.log_prior
    for k in range(n):
        own = np.uint64(component[k])
        top[k], inverse[k], log_own[k] = terms[own, k], weights[0, own], weights[1, own]
    for k in range(n):
        inverse[k] = 1.0 / max(inverse[k], _TINY)


@borrower
def _order_far(density, weights, dim, work, k, terms):
    """Replace the terms of a lane, all -inf: the nearest components keep their constants.

    Beyond 1e154 scales, an ulp of a distance is more than 1e292 nats.
    """
    nearest, joint = np.inf, -np.inf
    for c in range(weights.shape[1]):
        peak, total = far_distance(density, 0, c, work.v, dim, k)
        terms[c, k] = peak * peak * total
        nearest = min(nearest, terms[c, k] if weights[0, c] > 0.0 else np.inf)
    for c in range(weights.shape[1]):
        terms[c, k] = density.log_const[0, c] if terms[c, k] == nearest else -np.inf
        if terms[c, k] + weights[1, c] > joint:
            joint = terms[c, k] + weights[1, c]
            work.component[k] = c


@scalar
def _share(gap, ratio, log_ratio):
    """ratio exp(gap).

    The log is rounded, and so is used only where a factor may overflow or underflow.
    """
    moderate = abs(gap) <= _MODERATE
    share = exp_normal(gap if moderate else gap + log_ratio)
    return ratio * share if moderate else share


@borrower(interleave=4)
def add_component(log_weight, row, top, q, n, below, kl):
    """Add one component's share of E_q (log p(x | c) - top) and of KL(q || weights)."""
    for k in range(n):
        # 0 log 0 = 0: if q never chooses a component, its density at x may be 0.
        chosen = q[k] > 0.0
        gap = row[k] - top[k]
        log_ratio = log_positive(max(q[k], _TINY)) - log_weight
        below[k] += q[k] * (gap if chosen else 0.0)
        kl[k] += q[k] * (log_ratio if chosen else 0.0)


@borrower(interleave=4)
def exponentiate(weight, log_weight, moderate, work, n, row):
    """row = w exp(row) over that of the top component.

    Loops have few arrays: with more, a compiler does not check that they are apart, and does not
    vectorise.
    """
    top, inverse, log_own = work.top, work.norm, work.log_prior
    if moderate:
        for k in range(n):
            row[k] = weight * inverse[k] * exp_normal(row[k] - top[k])
    else:
        for k in range(n):
            row[k] = _share(row[k] - top[k], weight * inverse[k], log_weight - log_own[k])


@borrower
def _add_rows(terms, c, count, n, four, lost, total):
    """total + lost += ``count`` rows of terms from c on, none below 0.

    Four rows are added in two roundings; what is lost in adding their sums to others is kept. So a
    sum of many is within 1.5 ulp.
    """
    if count == TILE:
        row0, row1, row2, row3 = terms[c], terms[c + 1], terms[c + 2], terms[c + 3]
        for k in range(n):
            four[k] = (row0[k] + row1[k]) + (row2[k] + row3[k])
    else:
        copy(terms[c], n, four)
        for rest in range(c + 1, c + count):
            row = terms[rest]
            for k in range(n):
                four[k] += row[k]
    for k in range(n):
        total[k], rounded = two_sum(total[k], four[k])
        lost[k] += rounded


@borrower
def expect_block(density, weights, q, first, dim, work, n, terms, out):
    """The columns of ``out`` from ``first`` on, of `expectations`, for the points in work.v.

    q[c] are probabilities of component c; of no rows, there is no q. Then terms[c] / work.total are
    the responsibilities.
    """
    component_terms(density, dim, work, n, terms)
    find_top(density, weights, dim, work, n, terms)
    components, moderate = weights.shape[1], least(weights[0]) >= _LEAST_WEIGHT
    total, lost, top = work.total, work.scratch[0], work.top
    below, kl = work.log_likelihood, work.log_weight
    for k in range(n):
        total[k], lost[k], below[k], kl[k] = 0.0, 0.0, 0.0, 0.0
    # All of a tile while it is in the cache.
    for c in range(0, components, TILE):
        stop = min(c + TILE, components)
        for j in range(c, min(stop, q.shape[0])):
            add_component(weights[1, j], terms[j], top, q[j], n, below, kl)
        for j in range(c, stop):
            exponentiate(weights[0, j], weights[1, j], moderate, work, n, terms[j])
        _add_rows(terms, c, stop - c, n, work.square, lost, total)
    for k in range(n):
        total[k] += lost[k]
    _store_sums(work, first, n, out)


@borrower
def _store_sums(work, first, n, out):
    """The rows of `expectations` from what is summed."""
    rest, total, top, best = work.log_prior, work.total, work.top, work.log_q
    expected, divergence = work.log_likelihood, work.log_weight
    for k in range(n):
        # log p(x) - top; nothing of the size of the terms is in the gap.
        above = rest[k] + log_positive(total[k])
        below, kl = expected[k], divergence[k]
        gap = above + (kl - below)
        possible = best[k] > -np.inf
        out[0, first + k] = top[k] + above if possible else -np.inf
        # The probabilities of q sum to 1.
        out[1, first + k] = top[k] + below if possible else -np.inf
        out[2, first + k] = kl
        # Rounding must not make a divergence negative.
        out[3, first + k] = max(gap, 0.0)


@borrower
def store_shares(terms, total, n, out, first):
    """out[first + k, c] = terms[c, k] / total[k], for n lanes and all rows of terms."""
    rows = terms.shape[0]
    wide, whole = rows - rows % SIDE, n - n % SIDE
    for k in range(0, whole, SIDE):
        for c in range(0, wide, SIDE):
            store_ratios(terms, total, c, k, out, first)
    for c in range(rows):
        for k in range(0 if c >= wide else whole, n):
            out[first + k, c] = terms[c, k] / total[k]


@block
def expectations(part, parts, density, weights, centre, x, probs, lo, hi, out, shares):
    """out[:, p] and shares[p, c] = p(c | x), for points p in lo to hi.

    The rows of ``out`` are log p(x), E_q log p(x | c), KL(q || weights) and KL(q || p(c | x)). q is
    in the rows of ``probs``; of no rows, the last three are not those of a q. Of no rows of
    ``shares``, they are not stored.
    """
    dim, components = centre.shape[0], weights.shape[1]
    work = make_workspace(dim, density.factor, None, _LANES)
    terms = np.empty((components, _LANES))
    q = np.empty((components if probs.shape[0] > 0 else 0, _LANES))
    for c in range(q.shape[0]):
        fill(q[c], _LANES, probs[0, c])
    _set_expectations(
        part, parts, density, weights, centre, x, probs, lo, hi, out, shares, work, terms, q
    )


@borrower
def _set_expectations(
    part, parts, density, weights, centre, x, probs, lo, hi, out, shares, work, terms, q
):  # fmt: skip
    density, work = by_reference(density), by_reference(work)
    dim, components = centre.shape[0], weights.shape[1]
    rows_of_q = probs.reshape((1, probs.shape[0], components))
    blocks = (hi - lo + _LANES - 1) // _LANES
    for item in range(part * blocks // parts, (part + 1) * blocks // parts):
        first = lo + item * _LANES
        n = min(_LANES, hi - first)
        load_rows(x[first : first + n], centre, n, work.v)
        if probs.shape[0] > 1:
            copy_columns(rows_of_q, 0, first, 0, components, n, q)
        expect_block(density, weights, q, first, dim, work, n, terms, out)
        if shares.shape[0] > 0:
            store_shares(terms, work.total, n, shares, first)
