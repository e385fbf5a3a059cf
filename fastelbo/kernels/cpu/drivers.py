"""CPU drivers: which thread evaluates which blocks, and the order in which states are merged.

Work is cut into chunks of `CHUNK` draws of one data point. The cut does not depend on the memory,
the threads or the progress bar. Each chunk has its own slot for its state; any thread may fill it.
A fold then merges the slots in the order of their addresses.

`launch` calls these functions for part 0, 1, ... of ``parts`` equal parts of the work. A call
allocates its workspace once; a function that owns nothing then takes it `by_reference`, with what
all blocks share. A kernel never raises an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..draws.blocks import LANES, Cut, lanes_for, make_workspace, row_of
from ..draws.densities import called_block, elliptical_block, weigh_block
from ..draws.far import has_zero
from ..draws.sampling import sample_block
from ..draws.sobol import permute
from ..jit.compile import block, borrower
from ..jit.references import by_reference
from ..jit.sharing import stopped
from ..math.copies import all_finite, copy_to, fill, load_rows, store_rows
from ..state.matched import make_matched, match, matched_replicates, push_matched
from ..state.spans import end_span
from ..state.state import MAX, clear, merge, push_block
from ..state.top_k import (
    THRESHOLD,
    clear_row,
    close_row,
    make_sorting,
    make_top_k,
    open_row,
    push_top,
    push_top_row,
    sort_row,
)

# Points of a block of `log_prob`: with the terms of a mixture, they fit the first-level cache.
_POINTS = 128


@borrower
def _push_draws(
    plan, i, key, index, draw, base, n_draws, state, fresh, iw_sizes, work, top_k, capacity, drawn,
    counter,
):  # fmt: skip
    """Add draws to the state of their chunk; ``drawn`` takes their log weights, if it has room.

    The first has address ``draw``, and the number ``base`` among draws that have supplied values.
    """
    done = 0
    while done < n_draws and not stopped(counter):
        n, first = min(LANES, n_draws - done), draw + done
        sample_block(plan.sampler, i, plan.dim, work, key, index, np.uint64(first), n)
        weigh_block(plan, i, base + done, work, n)
        push_block(state, fresh, iw_sizes, first, work, n)
        if capacity > 0:
            push_top(top_k, 0, capacity, work.log_weight, n, fresh[MAX])
        if drawn is not None and done < drawn.shape[0]:
            copy_to(work.log_weight, n, drawn, done)
        done += n


@borrower
def _set_states(
    begin, end, plan, key, first_index, points, cut, first_step, iw_sizes, capacity, prefix_rows,
    states, top_rows, work, top_k, fresh, counter,
):  # fmt: skip
    """The chunks ``begin`` to ``end`` of `states`, of all data points one after the other."""
    plan, work, top_k = by_reference(plan), by_reference(work), by_reference(top_k)
    steps = states.shape[1]
    slot = 0
    for item in range(begin, end):
        i, c = item // steps, item % steps
        opens = c == 0 or item == begin
        slot = c if opens else slot
        if capacity > 0:
            clear_row(top_rows[i, c, 0])
            if opens:
                open_row(top_k, 0, prefix_rows[i, 0, THRESHOLD])
        clear(states[i, c])
        start = (first_step + c) * cut.chunk
        n_draws = min(cut.chunk, cut.draws - start)
        _push_draws(
            plan, i, key, np.uint64(first_index + points[i]), start, start, n_draws, states[i, c],
            fresh, iw_sizes, work, top_k, capacity, None, counter,
        )  # fmt: skip
        if capacity > 0 and (c == steps - 1 or item == end - 1):
            close_row(top_k, 0, capacity, top_rows[i, slot, 0])


@block
def states(
    part, parts, plan, key, first_index, points, cut, first_step, iw_sizes, capacity, prefix_rows,
    states, top_rows, counter,
):  # fmt: skip
    """states[i] = the states of steps first_step and following of data point i of the plan.

    The address of data point i is ``first_index + points[i]``. Its largest log weights are written
    to some of the rows top_rows[i, step, 0]. Values at or below the threshold of prefix_rows[i, 0]
    are ignored.
    """
    items = states.shape[0] * states.shape[1]
    lanes = lanes_for(min(cut.chunk, cut.draws))
    work = make_workspace(plan.dim, plan.sampler.location, counter, lanes)
    _set_states(
        part * items // parts, (part + 1) * items // parts, plan, key, first_index, points, cut,
        first_step, iw_sizes, capacity, prefix_rows, states, top_rows, work,
        make_top_k(1, capacity), np.zeros(states.shape[2]), counter,
    )  # fmt: skip


@block
def replicated_states(
    part, parts, plan, key, first_index, points, cut, first_step, iw_sizes, capacity, prefix_rows,
    states, top_rows, counter,
):  # fmt: skip
    """As `states`, for several replicates; `Cut` says in which order their chunks are."""
    lanes = lanes_for(min(cut.chunk, cut.draws))
    work = make_workspace(plan.dim, plan.sampler.location, counter, lanes)
    top_k = make_top_k(1, capacity)
    fresh = np.zeros(states.shape[2])
    # Groups are of draws of several replicates, and go into the states afterwards.
    used = matched_replicates(cut.replicates, iw_sizes)
    matched = make_matched(used, cut.chunk)
    _set_replicated_states(
        part, parts, plan, key, first_index, points, cut, first_step, iw_sizes, capacity,
        prefix_rows, states, top_rows, counter, work, top_k, fresh, used, matched,
    )  # fmt: skip


@borrower
def _set_replicated_states(
    part, parts, plan, key, first_index, points, cut, first_step, iw_sizes, capacity, prefix_rows,
    states, top_rows, counter, work, top_k, fresh, used, matched,
):  # fmt: skip
    plan, work, top_k = by_reference(plan), by_reference(work), by_reference(top_k)
    replicates = cut.replicates
    steps = states.shape[1] // replicates
    items = states.shape[0] * steps
    slot = 0
    last = (part + 1) * items // parts - 1
    for item in range(part * items // parts, last + 1):
        i, c = item // steps, item % steps
        index = np.uint64(first_index + points[i])
        opens = c == 0 or item == part * items // parts
        slot = c if opens else slot
        if capacity > 0:
            clear_row(top_rows[i, c, 0])
            if opens:
                open_row(top_k, 0, prefix_rows[i, 0, THRESHOLD])
        start = (first_step + c) * cut.chunk
        n_draws = min(cut.chunk, cut.draws - start)
        for r in range(replicates):
            state = states[i, c * replicates + r]
            clear(state)
            # Supplied values are those of the draws of these chunks alone.
            base = (r * steps + c) * cut.chunk
            drawn = matched.drawn[: n_draws if r < used else 0]
            _push_draws(
                plan, i, key, index, r * cut.draws + start, base, n_draws, state, fresh,
                iw_sizes[:0], work, top_k, capacity, drawn, counter,
            )  # fmt: skip
            if r < used:
                step = np.uint64(first_step + c)
                permute(key, index, np.uint64(r), step, n_draws, matched.places)
                match(matched, r, n_draws)
        if used > 0:
            chunks = states[i, c * replicates : (c + 1) * replicates]
            push_matched(chunks, iw_sizes, matched, n_draws, work.partial_sums)
        if capacity > 0 and (c == steps - 1 or item == last):
            close_row(top_k, 0, capacity, top_rows[i, slot, 0])


def driver_of_states(cut: Cut) -> Any:
    """The driver that makes the states of draws that are cut so."""
    return states if cut.replicates == 1 else replicated_states


@block
def fold(
    part, parts, states, begins, top_rows, iw_sizes, capacity, reset, earlier, prefix, prefix_rows,
    rows,
):  # fmt: skip
    """Append the states of each data point to its prefix, from the left.

    If ``reset``, the prefix is cleared first. Before a state that begins a span, the prefix is
    appended to the spans before, ``earlier``.
    """
    points = states.shape[0]
    top_k = make_top_k(1, capacity)
    for i in range(part * points // parts, (part + 1) * points // parts):
        if reset:
            clear(prefix[i])
        for c in range(states.shape[1]):
            if begins[c]:
                end_span(earlier[i], prefix[i], iw_sizes)
            merge(prefix[i], states[i, c], iw_sizes)
        if capacity > 0:
            for s in range(rows.shape[1]):
                open_row(top_k, 0, -np.inf)
                if not reset:
                    push_top_row(top_k, 0, capacity, prefix_rows[i, s])
                for c in range(top_rows.shape[1]):
                    push_top_row(top_k, 0, capacity, top_rows[i, c, s])
                close_row(top_k, 0, capacity, rows[i, s])


@block
def sort_top_rows(part, parts, top_rows, stream, size, out):
    """out[i] = the ``size`` largest values of top_rows[i, stream], descending."""
    points = top_rows.shape[0]
    sorting = make_sorting(size)
    for i in range(part * points // parts, (part + 1) * points // parts):
        sort_row(top_rows[i, stream], size, sorting, out[i])


@block
def terms(
    part, parts, plan, key, first_index, points, lo, hi, column, log_likelihood, log_prior, log_q,
    counter,
):  # fmt: skip
    """Set the three log densities of draws lo to hi of every data point of the plan.

    The address of data point i is ``first_index + points[i]``. Column 0 has the densities of draw
    ``column``.
    """
    work = make_workspace(plan.dim, plan.sampler.location, counter, lanes_for(hi - lo))
    _set_terms(
        part, parts, plan, key, first_index, points, lo, hi, column, log_likelihood, log_prior,
        log_q, work,
    )  # fmt: skip


@borrower
def _set_terms(
    part, parts, plan, key, first_index, points, lo, hi, column, log_likelihood, log_prior, log_q,
    work,
):  # fmt: skip
    plan, work = by_reference(plan), by_reference(work)
    n_blocks = (hi - lo + LANES - 1) // LANES
    items = log_q.shape[0] * n_blocks
    for item in range(part * items // parts, (part + 1) * items // parts):
        i = item // n_blocks
        first = lo + (item % n_blocks) * LANES
        n = min(LANES, hi - first)
        index = np.uint64(first_index + points[i])
        sample_block(plan.sampler, i, plan.dim, work, key, index, np.uint64(first), n)
        weigh_block(plan, i, first, work, n)
        place = first - column
        copy_to(work.log_likelihood, n, log_likelihood[i], place)
        copy_to(work.log_prior, n, log_prior[i], place)
        copy_to(work.log_q, n, log_q[i], place)


@block
def draws(part, parts, sampler, dim, key, first_index, points, first_draw, draws):
    """draws[k, i] = draw first_draw + k of member i, whose address is first_index + points[i]."""
    work = make_workspace(dim, sampler.location, None, lanes_for(draws.shape[0]))
    _set_draws(part, parts, sampler, dim, key, first_index, points, first_draw, draws, work)


@borrower
def _set_draws(part, parts, sampler, dim, key, first_index, points, first_draw, draws, work):
    sampler, work = by_reference(sampler), by_reference(work)
    n_draws = draws.shape[0]
    n_blocks = (n_draws + LANES - 1) // LANES
    items = draws.shape[1] * n_blocks
    for item in range(part * items // parts, (part + 1) * items // parts):
        i = item // n_blocks
        first = (item % n_blocks) * LANES
        n = min(LANES, n_draws - first)
        index, draw = np.uint64(first_index + points[i]), np.uint64(first_draw + first)
        sample_block(sampler, i, dim, work, key, index, draw, n)
        store_rows(work.v, n, dim, draws[first : first + n, i])


@block
def log_prob(part, parts, density, centre, x, lo, hi, out, counter):
    """out[k, i] = log density of member i at x[k, i], for k in lo to hi.

    If one coordinate in a block is not finite, the whole block is NaN.
    """
    work = make_workspace(x.shape[2], density.factor, counter, _POINTS)
    _set_log_prob(part, parts, density, centre, x, lo, hi, out, work)


@borrower
def _set_log_prob(part, parts, density, centre, x, lo, hi, out, work):
    density, work = by_reference(density), by_reference(work)
    members, dim = x.shape[1], x.shape[2]
    n_blocks = (hi - lo + _POINTS - 1) // _POINTS
    items = members * n_blocks
    log_q = work.log_q
    for item in range(part * items // parts, (part + 1) * items // parts):
        i = item // n_blocks
        first = lo + (item % n_blocks) * _POINTS
        n = min(_POINTS, hi - first)
        middle = centre[row_of(i, centre.shape[0])]
        load_rows(x[first : first + n, i], middle, n, work.v)
        elliptical_block(density, i, work.v, dim, work, n, log_q)
        # The density is 0, or NaN, at a point with a coordinate that is not finite.
        if has_zero(log_q, n) and not all_finite(work.v, n, dim):
            fill(log_q, n, np.nan)
        for k in range(n):
            out[first + k, i] = log_q[k]


@block
def called_values(part, parts, term, x, out, counter):
    """out[k, i] = what a user's function makes of x[k, i], for its data point i."""
    n_draws, members, dim = x.shape
    n_blocks = (n_draws + LANES - 1) // LANES
    items = members * n_blocks
    work = make_workspace(dim, term.density.factor, counter)
    origin = np.zeros(dim)
    for item in range(part * items // parts, (part + 1) * items // parts):
        if stopped(counter):
            break
        i = item // n_blocks
        first = (item % n_blocks) * LANES
        n = min(LANES, n_draws - first)
        load_rows(x[first : first + n, i], origin, n, work.v)
        called_block(term, i, work.v, dim, work, n, work.log_q)
        for k in range(n):
            out[first + k, i] = work.log_q[k]
