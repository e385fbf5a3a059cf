"""Importance-weight groups across replicates, on a device; see `state.matched`.

A kernel of draws has kept the log weights of some chunks. One block takes one set of replicates for
each group size. Each of its threads adds up the weights of groups of its own.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..draws.sobol import UNIT, permutation, place
from ..jit.compile import block, exact
from ..math.scalar import exp
from ..state.groups import GROUP_SIZE
from ..state.state import GROUPS
from .block_state import SLOTS, push_values
from .device import BLOCK_THREADS, cuda, device_kernel


@exact
def _add_weight(shift, total, k, x):
    """Add the weight exp(x) to a sum, total[k], relative to exp(shift[k])."""
    if x > shift[k]:
        total[k] = total[k] * exp(shift[k] - x) + 1.0 if total[k] > 0.0 else 1.0
        shift[k] = x
    elif x > -np.inf:
        total[k] += exp(x - shift[k])


@block
def _match(log_weights, key, index, step, first, size, count, shift, total):
    """Sum the weights of groups of one draw of each of ``size`` replicates from ``first`` on.

    ``log_weights`` are those of one step, of all replicates.
    """
    me = cuda.threadIdx.x
    for k in range(me, count, BLOCK_THREADS):
        shift[k], total[k] = -np.inf, 0.0
    for r in range(first, first + size):
        chosen = permutation(key, index, np.uint64(r), step, count)
        for k in range(me, count, BLOCK_THREADS):
            _add_weight(shift, total, k, log_weights[r, place(chosen, k)])


@functools.cache
def groups() -> Any:
    """Kernel: the groups of each step, in the states of its chunks; one block per chunk."""

    @device_kernel
    def fill_groups(log_weights, key, first_index, first_step, n_chunks, cut, iw_sizes, states):
        i, c = cuda.blockIdx.x // n_chunks, cuda.blockIdx.x % n_chunks
        shift = cuda.shared.array(UNIT, np.float64)
        total = cuda.shared.array(UNIT, np.float64)
        slots = cuda.shared.array((SLOTS, BLOCK_THREADS), np.float64)
        own, t = c // cut.replicates, c % cut.replicates
        lo = own * cut.replicates
        rows = log_weights[i, lo : lo + cut.replicates]
        index, step = np.uint64(first_index + i), first_step + own
        count = min(cut.chunk, cut.draws - step * cut.chunk)
        for g in range(iw_sizes.shape[0]):
            size, offset = iw_sizes[g], GROUPS + g * GROUP_SIZE
            if (t + 1) * size <= cut.replicates:
                _match(rows, key, index, np.uint64(step), t * size, size, count, shift, total)
                group = states[i, c, offset : offset + GROUP_SIZE]
                push_values(group, size, shift, total, count, slots)

    return fill_groups
