"""Importance-weight groups across replicates: one draw of each of k replicates.

Consecutive points of one replicate depend on each other, so that a group of them would be biased.
Points of the same index in different replicates are independent, but groups of them depend on each
other: a digital shift keeps the difference of two points. So the indices of each replicate are
permuted on their own (`draws.sobol.permute`) before they are matched.

The groups of the t-th k replicates go into the state of replicate t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit.compile import block, borrower
from ..math.extremes import largest
from ..math.scalar import exp
from ..math.scaled_weights import scale_weights
from .groups import GROUP_SIZE, UNDERFLOW, add_values, close_group, extend_open
from .state import GROUPS

Floats = NDArray[np.float64]


class Matched(NamedTuple):
    """The log weights of one chunk of every replicate, in the order in which they are matched."""

    drawn: Floats  # (chunk,): those of one replicate, in the order of their draws; then room
    places: NDArray[np.int64]  # (chunk,): the permutation of one replicate
    log_weight: Floats  # (replicates, chunk)
    weight: Floats  # (replicates, chunk)
    values: Floats  # (chunk,): of the groups


@block
def matched_replicates(replicates, iw_sizes):
    """How many replicates, from the first one on, have draws in groups."""
    used = 0
    for g in range(iw_sizes.shape[0]):
        used = max(used, replicates // iw_sizes[g] * iw_sizes[g])
    return used


@block
def make_matched(replicates, chunk):
    """Allocate room for chunks of the replicates; none if there are no replicates."""
    room = chunk if replicates > 0 else 0
    return Matched(
        np.empty(room),
        np.empty(room, np.int64),
        np.empty((replicates, room)),
        np.empty((replicates, room)),
        np.empty(room),
    )


@borrower
def match(matched, r, n):
    """Take the permuted log weights of replicate r, of n draws."""
    own = matched.log_weight[r]
    for k in range(n):
        own[k] = matched.drawn[np.uint64(matched.places[k])]


@borrower
def _sum_group(log_weight, first, stop, k):
    """(shift, sum of weights relative to exp(shift)) of group k of replicates first to stop."""
    shift = -np.inf
    for r in range(first, stop):
        shift = max(shift, log_weight[r, k])
    total = 0.0
    if shift > -np.inf:
        for r in range(first, stop):
            total += exp(log_weight[r, k] - shift)
    return shift, total


@borrower
def _push_set(group, matched, first, size, top, n, partial_sums):
    """Add the n groups of replicates first to first + size."""
    values = matched.values
    for k in range(n):
        values[k] = matched.weight[first, k]
    for r in range(first + 1, first + size):
        row = matched.weight[r]
        for k in range(n):
            values[k] += row[k]
    kept = 0
    for k in range(n):
        if values[k] >= UNDERFLOW:
            values[kept] = values[k]
            kept += 1
            continue
        # Relative to the largest weight of all, the weights of this group may underflow.
        shift, total = _sum_group(matched.log_weight, first, first + size, k)
        extend_open(group, float(size), shift, total)
        close_group(group, float(size))
    add_values(group, size, values, kept, top, matched.drawn, partial_sums)


@borrower
def push_matched(states, iw_sizes, matched, n, partial_sums):
    """Add the groups of each size, of one draw of each of its replicates, to the states."""
    used = matched.log_weight.shape[0]
    top = -np.inf
    for r in range(used):
        top = max(top, largest(matched.log_weight[r], n))
    base = top if top > -np.inf else 0.0
    for r in range(used):
        scale_weights(matched.log_weight[r], base, n, matched.weight[r], partial_sums)
    for g in range(iw_sizes.shape[0]):
        size, offset = iw_sizes[g], GROUPS + g * GROUP_SIZE
        for t in range(states.shape[0] // size):
            group = states[t, offset : offset + GROUP_SIZE]
            _push_set(group, matched, t * size, size, base, n, partial_sums)
