"""CPU drivers of gradients: at given points, and of bounds, in groups of draws.

A chunk has whole groups: as many as fit into `CHUNK` draws, and one if none does. So has a block,
if a group fits into one. Where a group is small, lanes are permuted: draw j of group g is in lane
j m + g of a block of m groups, so that sums over the draws of a group are loops of unit stride over
the groups. A group that is larger than a block is drawn twice: once for its log weights, and once
for products, which have coefficients that depend on all of them.
"""

from __future__ import annotations

import numpy as np

from ..draws.blocks import CHUNK, LANES, SUPPLIED, make_workspace, padded, row_of
from ..draws.densities import square_norm_identity, weigh_block
from ..draws.gradient_rows import set_rows
from ..draws.sampling import sample_block
from ..draws.slopes import make_slope_room, slope_block, weigh_with_slopes
from ..jit.compile import block, borrower, scalar
from ..jit.sharing import stopped
from ..math.copies import copy, copy_to, fill, load_rows, store_rows
from ..state.estimators import make_coefficients, set_coefficients
from ..state.product_moments import (
    BAD_SLOPE,
    BAD_WEIGHT,
    COUNT,
    EMPTY,
    HEAD,
    ZEROS,
    add_products,
    clear_moments,
    first_bad,
    merge_moments,
    push_bounds,
    push_products,
    push_sums,
)

# Groups of fewer draws lie across the lanes of a block, by so many groups.
_SMALL = 32
_WIDTH = 8


@block
def joint_slopes(part, parts, prior, likelihood, calls, centre, x, values, slopes, counter):
    """log p(x, z) of member i at x[k, i], and its gradient there.

    The terms are those of the frame v = z - centre.
    """
    n_draws, members, dim = x.shape
    n_blocks = (n_draws + LANES - 1) // LANES
    items = members * n_blocks
    work = make_workspace(dim, centre, counter)
    room = make_slope_room(dim, prior, likelihood)
    for item in range(part * items // parts, (part + 1) * items // parts):
        if stopped(counter):
            break
        i = item // n_blocks
        first = (item % n_blocks) * LANES
        n = min(LANES, n_draws - first)
        load_rows(x[first : first + n, i], centre[row_of(i, centre.shape[0])], n, work.v)
        for d in range(dim):
            fill(room.slopes[d], n, 0.0)
        slope_block(
            prior, calls[0], i, first, work.v, dim, work, room, n, work.log_prior, room.slopes
        )
        slope_block(
            likelihood, calls[1], i, first, work.v, dim, work, room, n, work.log_likelihood,
            room.slopes,
        )  # fmt: skip
        store_rows(room.slopes, n, dim, slopes[first : first + n, i])
        for k in range(n):
            values[first + k, i] = work.log_likelihood[k] + work.log_prior[k]


@borrower
def _lay_row(row, size, groups, room):
    """Move draw j of group g from lane g size + j to lane j groups + g."""
    copy(row, size * groups, room)
    for j in range(size):
        for g in range(groups):
            row[j * groups + g] = room[g * size + j]


@borrower
def _lay_across(v, dim, size, groups, room):
    """`_lay_row` for each coordinate."""
    for d in range(dim):
        _lay_row(v[d], size, groups, room)


@borrower
def _add_given(given, first, dim, n, slopes):
    """Add supplied gradients to slopes."""
    for d in range(dim):
        row, out = given[d, first : first + n], slopes[d]
        for k in range(n):
            out[k] += row[k]


@borrower
def _weigh_groups(asked, i, first, size, groups, work, room, n):
    """`_weigh` for whole groups, small ones across the lanes."""
    plan, across = asked.plan, 1 < size < _SMALL
    # Supplied values are in the order of the draws.
    supplied = plan.prior.kind == SUPPLIED or plan.likelihood.kind == SUPPLIED
    if across and not supplied:
        _lay_across(work.v, plan.dim, size, groups, work.norm)
    _weigh(asked, i, first, work, room, n)
    if across and supplied:
        _lay_across(work.v, plan.dim, size, groups, work.norm)
        _lay_across(room.slopes, plan.dim, size, groups, work.norm)
        _lay_row(work.log_weight, size, groups, work.norm)
        _lay_row(work.square, size, groups, work.norm)


@borrower
def _weigh(asked, i, first, work, room, n):
    """Log weights of a block, and gradients of log p where they are needed."""
    if asked.slopes:
        weigh_with_slopes(asked.plan, asked.calls, i, first, work, room, n)
        if asked.given.shape[1] > 0:
            _add_given(asked.given[i], first - asked.given_first, asked.plan.dim, n, room.slopes)
    else:
        weigh_block(asked.plan, i, first, work, n)
        square_norm_identity(work.v, padded(asked.plan.dim), n, work.square)


@scalar
def _draw_of(k, size, groups, across):
    """The number of the draw in lane k, from the first of the block on."""
    return (k % groups) * size + k // groups if across else k


@borrower
def _note_weights(state, log_weight, first, n, size, groups, across):
    """Count weights of 0, and note the first bad log weight."""
    zeros = np.int64(0)
    for k in range(n):
        zeros += np.int64(1) if log_weight[k] == -np.inf else np.int64(0)
    state[ZEROS] += float(zeros)
    if state[BAD_WEIGHT] >= 0.0 or first_bad(log_weight, n) < 0:
        return
    least = n
    for k in range(n):
        if not log_weight[k] < np.inf:
            least = min(least, _draw_of(k, size, groups, across))
    state[BAD_WEIGHT] = first + least


@borrower
def _note_slopes(state, asked, rows, first, n, size, groups, across):
    """Note the first draw of whose gradient a number is not finite."""
    if state[BAD_SLOPE] >= 0.0:
        return
    least = n
    for r in range(1, asked.rows.height):
        for k in range(n):
            if not abs(rows[r, k]) < np.inf:
                least = min(least, _draw_of(k, size, groups, across))
    if least < n:
        state[BAD_SLOPE] = first + least


@borrower
def _empty_groups(state, coefficients, groups):
    count = 0.0
    for g in range(groups):
        count += 1.0 if not coefficients.total[g] > 0.0 else 0.0
    state[EMPTY] += count


@borrower
def _push_small(asked, i, index, key, start, stop, work, room, coefficients, rows, sums, state,
                counter):  # fmt: skip
    """Append groups start to stop of data point i, of which each fits into a block."""
    plan, size = asked.plan, asked.size
    dim = plan.dim
    across = size < _SMALL
    most = LANES // size
    if 1 < size < _SMALL:
        most -= most % _WIDTH
    group = start
    while group < stop and not stopped(counter):
        groups = min(most, stop - group)
        n, first = groups * size, group * size
        sample_block(plan.sampler, i, dim, work, key, index, np.uint64(first), n)
        _weigh_groups(asked, i, first, size, groups, work, room, n)
        log_weight = work.log_weight
        _note_weights(state, log_weight, first, n, size, groups, across)
        set_coefficients(
            asked.kind, asked.alpha, log_weight, size, groups, across, work.partial_sums,
            coefficients,
        )  # fmt: skip
        _empty_groups(state, coefficients, groups)
        set_rows(asked, i, dim, work, room.slopes, room.form, coefficients, 0, n, rows)
        push_bounds(state, coefficients.bound, rows[0], groups, work.partial_sums)
        push_products(
            state, rows, asked.left, asked.right, size, groups, across, sums, work.partial_sums
        )
        state[COUNT] += float(groups)
        if _total(state) != 0.0:
            _note_slopes(state, asked, rows, first, n, size, groups, across)
        group += groups


@borrower
def _total(state):
    """0, or NaN if a mean is not finite."""
    total = 0.0
    for p in range(HEAD, HEAD + (state.shape[0] - HEAD) // 2):
        total += state[p] - state[p]
    return total


@borrower
def _push_large(asked, i, index, key, start, stop, work, room, coefficients, rows, logs, sums,
                state, counter):  # fmt: skip
    """Append groups start to stop of data point i, of which each has several blocks."""
    plan, size = asked.plan, asked.size
    dim = plan.dim
    for group in range(start, stop):
        opens = group * size
        for first in range(0, size, LANES):
            if stopped(counter):
                return
            n = min(LANES, size - first)
            draw = opens + first
            sample_block(plan.sampler, i, dim, work, key, index, np.uint64(draw), n)
            weigh_block(plan, i, draw, work, n)
            _note_weights(state, work.log_weight, draw, n, size, 1, False)
            copy_to(work.log_weight, n, logs, first)
        set_coefficients(
            asked.kind, asked.alpha, logs, size, 1, False, work.partial_sums, coefficients
        )
        _empty_groups(state, coefficients, 1)
        fill(sums, sums.shape[0], 0.0)
        for first in range(0, size, LANES):
            if stopped(counter):
                return
            n = min(LANES, size - first)
            draw = opens + first
            sample_block(plan.sampler, i, dim, work, key, index, np.uint64(draw), n)
            _weigh(asked, i, draw, work, room, n)
            set_rows(asked, i, dim, work, room.slopes, room.form, coefficients, first, n, rows)
            add_products(sums, rows, asked.left, asked.right, n, work.partial_sums)
            total = 0.0
            for p in range(sums.shape[0]):
                total += sums[p] - sums[p]
            if total != 0.0:
                _note_slopes(state, asked, rows, draw, n, size, 1, False)
        push_sums(state, coefficients.bound[0], sums)
        state[COUNT] += 1.0


@block
def gradient_states(
    part, parts, asked, key, first_index, points, n_groups, first_chunk, states, counter
):
    """states[i, c] = the state of chunk first_chunk + c of data point i of the plan."""
    plan, size = asked.plan, asked.size
    chunks = states.shape[1]
    items = states.shape[0] * chunks
    per_chunk = max(1, CHUNK // size)
    work = make_workspace(plan.dim, plan.sampler.location, counter)
    room = make_slope_room(plan.dim, plan.prior, plan.likelihood)
    rows = np.zeros((asked.rows.height, LANES))
    fill(rows[0], LANES, 1.0)
    coefficients = make_coefficients(max(size, LANES), LANES)
    logs = np.empty(size if size > LANES else 0)
    products = asked.left.shape[0]
    sums = np.empty(products if size > LANES else LANES)
    for item in range(part * items // parts, (part + 1) * items // parts):
        i, c = item // chunks, item % chunks
        index = np.uint64(first_index + points[i])
        start = (first_chunk + c) * per_chunk
        stop = min(start + per_chunk, n_groups)
        state = states[i, c]
        clear_moments(state)
        if size <= LANES:
            _push_small(
                asked, i, index, key, start, stop, work, room, coefficients, rows, sums, state,
                counter,
            )  # fmt: skip
        else:
            _push_large(
                asked, i, index, key, start, stop, work, room, coefficients, rows, logs, sums,
                state, counter,
            )  # fmt: skip


@block
def fold_gradients(part, parts, states, prefix):
    """Append the chunks of each data point to its prefix, from the left."""
    points = states.shape[0]
    for i in range(part * points // parts, (part + 1) * points // parts):
        for c in range(states.shape[1]):
            merge_moments(prefix[i], states[i, c])
