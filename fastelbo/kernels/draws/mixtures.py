"""Sums over the components of a mixture at many data points. Nothing is drawn.

A lane is a data point. A block has fewer lanes than a block of draws, so that the terms of all
components stay in the cache until they are summed.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block
from ..math.copies import load_rows, store_rows
from ..math.scalar import exp_normal, log, log_positive
from .blocks import make_workspace
from .densities import log_component

_LANES = 128


@block
def log_joint(density, log_weight, dim, work, n, terms):
    """terms[c] = log p(x | c); work.log_q = log p(x); work.top = the largest term of log p(x)."""
    top, total, out = work.top, work.total, work.log_q
    for k in range(n):
        top[k] = -np.inf
        total[k] = 0.0
    for c in range(log_weight.shape[0]):
        log_component(density, 0, c, 0.0, work.v, dim, n, work.accumulator, work.square, terms[c])
        weight = log_weight[c]
        for k in range(n):
            joint = terms[c, k] + weight
            top[k] = joint if joint > top[k] else top[k]
    for c in range(log_weight.shape[0]):
        weight = log_weight[c]
        for k in range(n):
            # If the maximum is -inf, e is NaN, and nothing is added.
            e = exp_normal((terms[c, k] + weight) - top[k])
            total[k] += e if e == e else 0.0
    for k in range(n):
        out[k] = top[k] + log_positive(total[k]) if top[k] > -np.inf else -np.inf


@block
def expect(terms, log_weight, probs, first, n, work):
    """The two parts of the ELBO for q in rows of ``probs``.

    work.log_likelihood = E_q log p(x | c), work.log_weight = KL(q || weights).
    """
    likelihood, kl, q = work.log_likelihood, work.log_weight, work.norm
    for k in range(n):
        likelihood[k] = 0.0
        kl[k] = 0.0
    shared = probs.shape[0] == 1
    for c in range(log_weight.shape[0]):
        weight = log_weight[c]
        for k in range(n):
            q[k] = probs[0 if shared else first + k, c]
        for k in range(n):
            # 0 log 0 = 0: if q never chooses a component, its density at x may be 0.
            likely, ratio = q[k] * terms[c, k], q[k] * (log(q[k]) - weight)
            likelihood[k] += likely if q[k] > 0.0 else 0.0
            kl[k] += ratio if q[k] > 0.0 else 0.0


@block
def expectations(part, parts, density, log_weight, centre, x, probs, lo, hi, out):
    """out[:, p] = log p(x), E_q log p(x | c) and KL(q || weights), for points p in lo to hi."""
    dim = centre.shape[0]
    work = make_workspace(dim, density.factor)
    terms = np.empty((log_weight.shape[0], _LANES))
    blocks = (hi - lo + _LANES - 1) // _LANES
    for item in range(part * blocks // parts, (part + 1) * blocks // parts):
        first = lo + item * _LANES
        n = min(_LANES, hi - first)
        load_rows(x[first : first + n], centre, n, work.v)
        log_joint(density, log_weight, dim, work, n, terms)
        expect(terms, log_weight, probs, first, n, work)
        for k in range(n):
            out[0, first + k] = work.log_q[k]
            out[1, first + k] = work.log_likelihood[k]
            out[2, first + k] = work.log_weight[k]


@block
def posterior(part, parts, density, log_weight, centre, x, lo, hi, out):
    """out[p, c] = p(c | x), for points p in lo to hi."""
    dim = centre.shape[0]
    work = make_workspace(dim, density.factor)
    terms = np.empty((log_weight.shape[0], _LANES))
    blocks = (hi - lo + _LANES - 1) // _LANES
    for item in range(part * blocks // parts, (part + 1) * blocks // parts):
        first = lo + item * _LANES
        n = min(_LANES, hi - first)
        load_rows(x[first : first + n], centre, n, work.v)
        log_joint(density, log_weight, dim, work, n, terms)
        for c in range(log_weight.shape[0]):
            weight = log_weight[c]
            for k in range(n):
                terms[c, k] = exp_normal((terms[c, k] + weight) - work.log_q[k])
        store_rows(terms, n, log_weight.shape[0], out[first : first + n])
