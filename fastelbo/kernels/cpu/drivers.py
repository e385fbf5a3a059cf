"""CPU drivers: which thread evaluates which blocks, and the order in which states are merged.

Work is cut into chunks of `CHUNK` draws of one data point. The cut does not depend on the memory,
the threads or the progress bar. Each chunk has its own slot for its state; any thread may fill it.
A fold then merges the slots in the order of their addresses.

`launch` calls these functions for part 0, 1, ... of ``parts`` equal parts of the work. A call
allocates its workspace once. A kernel never raises an error.
"""

from __future__ import annotations

import numpy as np

from ..draws.blocks import CHUNK, LANES, make_workspace, row_of
from ..draws.densities import elliptical_block, weigh_block
from ..draws.sampling import choose_components, sample_block
from ..jit.compile import block
from ..jit.threads import stopped
from ..math.copies import all_finite, fill, load_rows, store_rows
from ..math.selection import make_candidates
from ..state.state import MAX, clear, merge, push_block, push_lowest
from ..state.top_k import (
    THRESHOLD,
    clear_row,
    close_row,
    make_top_k,
    open_row,
    push_top,
    push_top_row,
    sort_row,
)


@block
def states(
    part, parts, plan, key, first_index, first_chunk, draws, iw_sizes, capacity, prefix_rows,
    states, top_rows, counter,
):  # fmt: skip
    """states[i, c] = state of chunk first_chunk + c of data point i of the plan.

    The address of data point i is ``first_index + i``. Its largest log weights are written to some
    of the rows top_rows[i, c, 0]. Values at or below the threshold of prefix_rows[i, 0] are
    ignored.
    """
    n_chunks, size = states.shape[1], states.shape[2]
    items = states.shape[0] * n_chunks
    work = make_workspace(plan.dim, plan.sampler.location, counter)
    top_k = make_top_k(1, capacity)
    fresh = np.zeros(size)
    slot = 0
    last = (part + 1) * items // parts - 1
    for item in range(part * items // parts, last + 1):
        i, c = item // n_chunks, item % n_chunks
        state = states[i, c]
        clear(state)
        if capacity > 0:
            opens = c == 0 or item == part * items // parts
            slot = c if opens else slot
            clear_row(top_rows[i, c, 0])
            if opens:
                open_row(top_k, 0, prefix_rows[i, 0, THRESHOLD])
        first = (first_chunk + c) * CHUNK
        stop = min(first + CHUNK, draws)
        while first < stop and not stopped(counter):
            n = min(LANES, stop - first)
            index = np.uint64(first_index + i)
            sample_block(plan.sampler, i, plan.dim, work, key, index, np.uint64(first), n)
            weigh_block(plan, i, first, work, n)
            push_block(state, fresh, iw_sizes, first, work, n)
            if capacity > 0:
                push_top(top_k, 0, capacity, work.log_weight, n, fresh[MAX])
                push_lowest(state, work.log_weight, n, work.partial_sums)
            first += n
        if capacity > 0 and (c == n_chunks - 1 or item == last):
            close_row(top_k, 0, capacity, top_rows[i, slot, 0])


@block
def fold(part, parts, states, top_rows, iw_sizes, capacity, reset, prefix, prefix_rows, rows):
    """Append the chunks of each data point to its prefix, from the left.

    If ``reset``, the prefix is cleared first.
    """
    points = states.shape[0]
    top_k = make_top_k(1, capacity)
    for i in range(part * points // parts, (part + 1) * points // parts):
        if reset:
            clear(prefix[i])
        for c in range(states.shape[1]):
            merge(prefix[i], states[i, c], iw_sizes)
        if capacity > 0:
            for s in range(rows.shape[1]):
                open_row(top_k, 0, -np.inf)
                if not reset:
                    push_top_row(top_k, 0, capacity, prefix_rows[i, s])
                for c in range(states.shape[1]):
                    push_top_row(top_k, 0, capacity, top_rows[i, c, s])
                close_row(top_k, 0, capacity, rows[i, s])


@block
def sort_top_rows(part, parts, top_rows, stream, size, out):
    """out[i] = the ``size`` largest values of top_rows[i, stream], descending."""
    points = top_rows.shape[0]
    candidates = make_candidates(top_rows.shape[2])
    for i in range(part * points // parts, (part + 1) * points // parts):
        sort_row(top_rows[i, stream], size, candidates, out[i])


@block
def terms(
    part, parts, plan, key, first_index, points, lo, hi, column, log_likelihood, log_prior, log_q,
    counter,
):  # fmt: skip
    """Set the three log densities of draws lo to hi of every data point of the plan.

    The address of data point i is ``first_index + points[i]``. Column 0 has the densities of draw
    ``column``.
    """
    n_blocks = (hi - lo + LANES - 1) // LANES
    items = log_q.shape[0] * n_blocks
    work = make_workspace(plan.dim, plan.sampler.location, counter)
    for item in range(part * items // parts, (part + 1) * items // parts):
        i = item // n_blocks
        first = lo + (item % n_blocks) * LANES
        n = min(LANES, hi - first)
        index = np.uint64(first_index + points[i])
        sample_block(plan.sampler, i, plan.dim, work, key, index, np.uint64(first), n)
        weigh_block(plan, i, first, work, n)
        place = first - column
        for k in range(n):
            log_likelihood[i, place + k] = work.log_likelihood[k]
            log_prior[i, place + k] = work.log_prior[k]
            log_q[i, place + k] = work.log_q[k]


@block
def draws(part, parts, sampler, dim, key, draws):
    """draws[k, i] = draw k of member i."""
    n_draws = draws.shape[0]
    n_blocks = (n_draws + LANES - 1) // LANES
    items = draws.shape[1] * n_blocks
    work = make_workspace(dim, sampler.location)
    for item in range(part * items // parts, (part + 1) * items // parts):
        i = item // n_blocks
        first = (item % n_blocks) * LANES
        n = min(LANES, n_draws - first)
        sample_block(sampler, i, dim, work, key, np.uint64(i), np.uint64(first), n)
        store_rows(work.v, n, dim, draws[first : first + n, i])


@block
def log_prob(part, parts, density, centre, x, lo, hi, out, counter):
    """out[k, i] = log density of member i at x[k, i], for k in lo to hi.

    If one coordinate in a block is not finite, the whole block is NaN.
    """
    members, dim = x.shape[1], x.shape[2]
    n_blocks = (hi - lo + LANES - 1) // LANES
    items = members * n_blocks
    work = make_workspace(dim, density.factor, counter)
    for item in range(part * items // parts, (part + 1) * items // parts):
        i = item // n_blocks
        first = lo + (item % n_blocks) * LANES
        n = min(LANES, hi - first)
        middle = centre[row_of(i, centre.shape[0])]
        load_rows(x[first : first + n, i], middle, n, work.v)
        elliptical_block(density, i, work.v, dim, work, n, work.log_q)
        if not all_finite(work.v, n, dim):
            fill(work.log_q, n, np.nan)
        for k in range(n):
            out[first + k, i] = work.log_q[k]


@block
def choices(part, parts, thresholds, key, out):
    """out[k, i] = component that member i chooses in draw k."""
    n_draws = out.shape[0]
    n_blocks = (n_draws + LANES - 1) // LANES
    items = out.shape[1] * n_blocks
    component = np.empty(LANES, np.int64)
    word = np.empty(LANES, np.int64)
    for item in range(part * items // parts, (part + 1) * items // parts):
        i = item // n_blocks
        first = (item % n_blocks) * LANES
        n = min(LANES, n_draws - first)
        choose_components(component, word, thresholds[i], key, np.uint64(i), np.uint64(first), n)
        for k in range(n):
            out[first + k, i] = component[k]
