"""Grid drivers: which draws the threads of a GPU evaluate.

One block of threads works on one chunk of draws of one data point, tile by tile. Each thread draws
and weighs one draw at a time: it calls the functions of the CPU for blocks of one lane. Without
groups, each thread sums its own draws to the end of the chunk. With groups, all threads together
add each tile to the state of the chunk.

Then one thread per data point and replicate folds the states of its chunks, span by span, and one
block per data point folds their largest log weights.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..draws.blocks import CALLED, CHUNK, SPAN, Density, Workspace, padded, row_of
from ..draws.densities import elliptical_block, weigh_block
from ..draws.mixtures import expect_block
from ..draws.sampling import sample_block
from ..jit.compile import block
from ..math.copies import load_rows
from ..math.instructions import read_again
from ..state.spans import end_span
from ..state.state import (
    GROUPS,
    LOG_LIKELIHOOD,
    LOG_RATIO,
    MIN,
    clear,
    merge,
    state_size,
)
from ..state.top_k import COUNT, THRESHOLD, VALUES
from .block_reduce import push_lowest, push_top, push_top_row, thin
from .block_state import SLOTS, Tile, push_tile
from .device import BLOCK_THREADS, TILE, TURNS, cuda, device_kernel
from .forms import Form
from .parameters import plan_loader
from .thread_state import (
    STORED,
    open_sums,
    push_draws,
    push_row,
    set_term,
    set_weights,
    stored,
)

# Up to this number of group sizes, the state of a chunk is in shared memory.
_SHARED_GROUPS = 16


# --- one lane -----------------------------------------------------------------------------------

# Numbers per lane besides its coordinates: in the precision of the plan, and in float64.
_REALS = 8
_DOUBLES = 7


@block
def _one_lane(v, packed, reals, doubles, places, angle, words):
    """A `Workspace` of one lane, whose arrays are in the registers of a thread."""
    for d in range(v.shape[0]):
        v[d, 0] = v.dtype.type(0.0)
    return Workspace(
        v=v,
        packed=packed,
        accumulator=reals[:4],
        norm=reals[4],
        top=reals[5],
        total=reals[6],
        square=reals[7],
        terms=reals[:1],
        component=places[0],
        lane=places[1],
        angle=angle,
        log_likelihood=doubles[0],
        log_prior=doubles[1],
        log_q=doubles[2],
        log_weight=doubles[3],
        scratch=doubles[4:6],
        words=words,
        partial_sums=doubles[6:7],
        counter=None,
    )


def _packed(form: Form) -> int:
    """Coordinates set aside: by a sampler's matrix, a component with a shift, a user's draw."""
    terms = (form.q, form.prior, form.likelihood)
    by_terms = any(term.density.has_shift or term.kind == CALLED for term in terms)
    return padded(form.dim) if form.rotated or form.sampler.rows > 1 or by_terms else 1


def _near_size(group_sizes: int) -> int:
    """Length of a chunk's state in shared memory; 1 if the state is in global memory."""
    return state_size(group_sizes) if group_sizes <= _SHARED_GROUPS else 1


@block
def _open_row(prefix_row, reset, count, threshold):
    """Start the row of a chunk. It needs only values above the threshold of the prefix."""
    if cuda.threadIdx.x == 0:
        count[0] = 0
        threshold[0] = -np.inf if reset else prefix_row[THRESHOLD]
    cuda.syncthreads()


@block
def _close_row(row, count, threshold):
    """Write the number of values and their threshold to the row."""
    if cuda.threadIdx.x == 0:
        row[THRESHOLD] = threshold[0]
        row[COUNT] = float(count[0])


# --- kernels ------------------------------------------------------------------------------------


@block
def draws_of_chunk(cut, first_step, c):
    """First and last address of the draws of chunk c of those of a launch; see `Cut`."""
    start = (first_step + c // cut.replicates) * cut.chunk
    before = c % cut.replicates * cut.draws
    return before + start, before + min(start + cut.chunk, cut.draws)


@functools.cache
def states(form: Form, group_sizes: int) -> Any:
    """Kernel: the state of each chunk, and its largest log weights; one block per chunk."""
    size = state_size(group_sizes)
    rows, packed_rows = padded(form.dim), _packed(form)
    real, angle_bits, load_plan = form.real, form.angle, plan_loader(form)
    # Without groups, threads share only log weights, to find the largest ones. Groups across
    # replicates come later, from the log weights that are kept.
    grouped = group_sizes > 0 and form.net is None
    kept = group_sizes > 0 and form.net is not None
    # The state of a net's chunk is written once.
    near_size = _near_size(group_sizes) if form.net is None else 1
    tile_size, sums_size = (TILE, 1) if grouped else (1, BLOCK_THREADS)

    @device_kernel
    def fill_states(
        sampler, q, prior, likelihood, key, first_index, first_step, n_chunks, cut, iw_sizes,
        needed, reset, prefix_rows, states, top_rows, log_weights,
    ):  # fmt: skip
        me = cuda.threadIdx.x
        i, c = cuda.blockIdx.x // n_chunks, cuda.blockIdx.x % n_chunks
        near = cuda.shared.array(near_size, np.float64)
        log_weight = cuda.shared.array(TILE, np.float64)
        log_likelihood = cuda.shared.array(tile_size, np.float64)
        log_ratio = cuda.shared.array(tile_size, np.float64)
        weight = cuda.shared.array(tile_size, np.float64)
        sums = cuda.shared.array((STORED, sums_size), np.float64)
        own_terms = cuda.local.array((2, TURNS), np.float64)
        slots = cuda.shared.array((SLOTS, BLOCK_THREADS), np.float64)
        fresh = cuda.shared.array(GROUPS, np.float64)
        count = cuda.shared.array(2, np.int64)
        threshold = cuda.shared.array(1, np.float64)
        smallest = cuda.shared.array(1, np.float64)
        v = cuda.local.array((rows, 1), real)
        packed = cuda.local.array((packed_rows, 1), real)
        reals = cuda.local.array((_REALS, 1), real)
        doubles = cuda.local.array((_DOUBLES, 1), np.float64)
        places = cuda.local.array((2, 1), np.int64)
        angle = cuda.local.array(1, angle_bits)
        words = cuda.local.array((3, 1), np.uint32)
        work = _one_lane(v, packed, reals, doubles, places, angle, words)
        tile = Tile(log_weight, log_likelihood, log_ratio, weight, slots, fresh)
        plan = load_plan(sampler, q, prior, likelihood, i)
        state = near if near_size == size else states[i, c]
        if me == 0:
            clear(state)
            smallest[0] = np.inf
        if needed > 0:
            _open_row(prefix_rows[i], reset, count, threshold)
        index = np.uint64(first_index + i)
        start, stop = draws_of_chunk(cut, first_step, c)
        if not grouped:
            open_sums(sums, log_weight)
        cuda.syncthreads()
        for first in range(start, stop, TILE):
            n = min(TILE, stop - first)
            for k in range(me, n, BLOCK_THREADS):
                read_again()
                draw = first + k
                sample_block(plan.sampler, i, plan.dim, work, key, index, np.uint64(draw), 1)
                weigh_block(plan, i, draw, work, 1)
                log_weight[k] = work.log_weight[0]
                if kept:
                    log_weights[i, c, draw - start] = work.log_weight[0]
                ratio = work.log_q[0] - work.log_prior[0]
                if grouped:
                    log_likelihood[k], log_ratio[k] = work.log_likelihood[0], ratio
                else:
                    turn = np.uint64(k) // np.uint64(BLOCK_THREADS)
                    own_terms[0, turn], own_terms[1, turn] = work.log_likelihood[0], ratio
            if grouped or needed > 0:
                cuda.syncthreads()
            if grouped:
                push_tile(state, iw_sizes, first, tile, n)
            else:
                push_draws(sums, log_weight, own_terms, first, n, v)
            if needed > 0:
                push_lowest(log_weight, n, smallest, slots)
                push_top(
                    log_weight,
                    n,
                    top_rows[i, c, VALUES:],
                    count,
                    threshold,
                    needed,
                    count[1:],
                    slots,
                )
        if not grouped:
            share, likelihoods, ratios = stored(sums)
            set_weights(state, share, stop - start, v, slots)
            set_term(state, LOG_LIKELIHOOD, likelihoods, slots)
            set_term(state, LOG_RATIO, ratios, slots)
        cuda.syncthreads()
        if me == 0:
            state[MIN] = smallest[0]
        cuda.syncthreads()
        for field in range(me, size, BLOCK_THREADS):
            states[i, c, field] = state[field]
        if needed > 0:
            _close_row(top_rows[i, c], count, threshold)

    return fill_states


@functools.cache
def fold() -> Any:
    """Kernel: append the chunks of each replicate of each data point to its prefix, in order.

    One thread folds the chunks of one replicate. Where a span begins after the first one, the
    prefix is appended to the spans before, ``earlier``.
    """

    @device_kernel
    def fold_chunks(states, first_step, iw_sizes, reset, earlier, prefix):
        item = np.int64(cuda.blockIdx.x) * BLOCK_THREADS + cuda.threadIdx.x
        replicates = prefix.shape[1]
        if item < states.shape[0] * replicates:
            i, r = item // replicates, item % replicates
            if reset:
                clear(prefix[i, r])
            for c in range(r, states.shape[1], replicates):
                step = first_step + c // replicates
                if step > 0 and step % SPAN == 0:
                    end_span(earlier[i, r], prefix[i, r], iw_sizes)
                merge(prefix[i, r], states[i, c], iw_sizes)

    return fold_chunks


@functools.cache
def fold_largest() -> Any:
    """Kernel: the largest values in the rows of a data point's chunks; one block per point."""

    @device_kernel
    def fold_rows(top_rows, needed, reset, prefix):
        me = cuda.threadIdx.x
        i = cuda.blockIdx.x
        slots = cuda.shared.array((2, BLOCK_THREADS), np.float64)
        count = cuda.shared.array(2, np.int64)
        threshold = cuda.shared.array(1, np.float64)
        row = prefix[i, VALUES:]
        if me == 0:
            count[0] = np.int64(0 if reset else prefix[i, COUNT])
            threshold[0] = -np.inf if reset else prefix[i, THRESHOLD]
        cuda.syncthreads()
        for c in range(top_rows.shape[1]):
            there = np.int64(top_rows[i, c, COUNT])
            for start in range(0, there, TILE):
                n = min(TILE, there - start)
                push_top(
                    top_rows[i, c, VALUES + start :],
                    n,
                    row,
                    count,
                    threshold,
                    needed,
                    count[1:],
                    slots,
                )
            if me == 0:
                threshold[0] = max(threshold[0], top_rows[i, c, THRESHOLD])
            cuda.syncthreads()
        if count[0] > needed:
            thin(row, count, threshold, needed, count[1:], slots)
        _close_row(prefix[i], count, threshold)

    return fold_rows


@functools.cache
def terms(form: Form) -> Any:
    """Kernel: the three log densities of draws lo to hi; a block takes draws of one data point."""
    rows, packed_rows = padded(form.dim), _packed(form)
    real, angle_bits, load_plan = form.real, form.angle, plan_loader(form)

    @device_kernel
    def fill_terms(
        sampler, q, prior, likelihood, key, first_index, lo, hi, n_blocks,
        log_likelihood, log_prior, log_q,
    ):  # fmt: skip
        i, b = cuda.blockIdx.x // n_blocks, cuda.blockIdx.x % n_blocks
        v = cuda.local.array((rows, 1), real)
        packed = cuda.local.array((packed_rows, 1), real)
        reals = cuda.local.array((_REALS, 1), real)
        doubles = cuda.local.array((_DOUBLES, 1), np.float64)
        places = cuda.local.array((2, 1), np.int64)
        angle = cuda.local.array(1, angle_bits)
        words = cuda.local.array((3, 1), np.uint32)
        work = _one_lane(v, packed, reals, doubles, places, angle, words)
        plan = load_plan(sampler, q, prior, likelihood, i)
        cuda.syncthreads()
        index = np.uint64(first_index + i)
        start = lo + b * TILE
        for draw in range(start + cuda.threadIdx.x, min(start + TILE, hi), BLOCK_THREADS):
            read_again()
            sample_block(plan.sampler, i, plan.dim, work, key, index, np.uint64(draw), 1)
            weigh_block(plan, i, draw, work, 1)
            log_likelihood[i, draw - lo] = work.log_likelihood[0]
            log_prior[i, draw - lo] = work.log_prior[0]
            log_q[i, draw - lo] = work.log_q[0]

    return fill_terms


def _shift_known(shifted: bool) -> Any:
    """A function after which a compiler knows that a density has no shift, if it has none."""

    @block
    def same(density):
        return density

    @block
    def without(density):
        nothing = density.shift[:, :0]
        return Density(
            density.radial, density.factor, density.target, nothing, density.log_const, density.df
        )

    return same if shifted else without


@functools.cache
def log_prob(dim: int, shifted: bool) -> Any:
    """Kernel: out[p, i] = log density of member i at points[p, i]; one point a thread."""
    rows, packed_rows = padded(dim), padded(dim) if shifted else 1
    known_shift = _shift_known(shifted)

    @device_kernel
    def fill_log_prob(density, centre, points, n_blocks, out):
        i, b = cuda.blockIdx.x // n_blocks, cuda.blockIdx.x % n_blocks
        v = cuda.local.array((rows, 1), np.float64)
        packed = cuda.local.array((packed_rows, 1), np.float64)
        reals = cuda.local.array((_REALS, 1), np.float64)
        doubles = cuda.local.array((_DOUBLES, 1), np.float64)
        places = cuda.local.array((2, 1), np.int64)
        angle = cuda.local.array(1, np.uint64)
        words = cuda.local.array((3, 1), np.uint32)
        work = _one_lane(v, packed, reals, doubles, places, angle, words)
        p = np.int64(b) * BLOCK_THREADS + cuda.threadIdx.x
        if p < points.shape[0]:
            middle = row_of(i, centre.shape[0])
            load_rows(points[p : p + 1, i], centre[middle], 1, v)
            known = known_shift(density)
            elliptical_block(known, i, v, dim, work, 1, work.log_q)
            out[p, i] = work.log_q[0]

    return fill_log_prob


@functools.cache
def expectations(dim: int, components: int, shifted: bool) -> Any:
    """Kernel: what `mixtures.expectations` writes of point p; one a thread."""
    rows, packed_rows = padded(dim), padded(dim) if shifted else 1
    known_shift = _shift_known(shifted)

    @device_kernel
    def fill_expectations(density, weights, centre, points, probs, out, shares):
        v = cuda.local.array((rows, 1), np.float64)
        packed = cuda.local.array((packed_rows, 1), np.float64)
        reals = cuda.local.array((_REALS, 1), np.float64)
        doubles = cuda.local.array((_DOUBLES, 1), np.float64)
        places = cuda.local.array((2, 1), np.int64)
        angle = cuda.local.array(1, np.uint64)
        words = cuda.local.array((3, 1), np.uint32)
        terms = cuda.local.array((components, 1), np.float64)
        q = cuda.local.array((components, 1), np.float64)
        work = _one_lane(v, packed, reals, doubles, places, angle, words)
        p = np.int64(cuda.blockIdx.x) * BLOCK_THREADS + cuda.threadIdx.x
        if p < points.shape[0]:
            load_rows(points[p : p + 1], centre, 1, v)
            known = known_shift(density)
            row = p if probs.shape[0] > 1 else 0
            for c in range(components):
                q[c, 0] = probs[row, c]
            expect_block(known, weights, q, p, dim, work, 1, terms, out)
            for c in range(components if shares.shape[0] > 0 else 0):
                shares[p, c] = terms[c, 0] / work.total[0]

    return fill_expectations


@functools.cache
def summaries(group_sizes: int) -> Any:
    """Kernel: the state of each chunk of existing rows; one block per chunk."""
    return _grouped_summaries(group_sizes) if group_sizes else _streamed_summaries()


def _streamed_summaries() -> Any:
    @device_kernel
    def fill_summaries(x, first_chunk, n_chunks, iw_sizes, states):
        i, c = cuda.blockIdx.x // n_chunks, cuda.blockIdx.x % n_chunks
        slots = cuda.shared.array((SLOTS, BLOCK_THREADS), np.float64)
        start = (first_chunk + c) * CHUNK
        push_row(states[i, c], x[i], start, min(start + CHUNK, x.shape[1]), slots)

    return fill_summaries


def _grouped_summaries(group_sizes: int) -> Any:
    size, near_size = state_size(group_sizes), _near_size(group_sizes)

    @device_kernel
    def fill_summaries(x, first_chunk, n_chunks, iw_sizes, states):
        me = cuda.threadIdx.x
        i, c = cuda.blockIdx.x // n_chunks, cuda.blockIdx.x % n_chunks
        near = cuda.shared.array(near_size, np.float64)
        log_weight = cuda.shared.array(TILE, np.float64)
        values = cuda.shared.array(TILE, np.float64)
        weight = cuda.shared.array(TILE, np.float64)
        slots = cuda.shared.array((SLOTS, BLOCK_THREADS), np.float64)
        fresh = cuda.shared.array(GROUPS, np.float64)
        # The terms are unknown: the log weight replaces the likelihood, 0 the ratio.
        tile = Tile(log_weight, log_weight, values, weight, slots, fresh)
        state = near if near_size == size else states[i, c]
        if me == 0:
            clear(state)
        start = (first_chunk + c) * CHUNK
        stop = min(start + CHUNK, x.shape[1])
        cuda.syncthreads()
        for first in range(start, stop, TILE):
            n = min(TILE, stop - first)
            for k in range(me, n, BLOCK_THREADS):
                log_weight[k] = x[i, first + k]
                values[k] = 0.0
            cuda.syncthreads()
            push_tile(state, iw_sizes, first, tile, n)
        for field in range(me, size, BLOCK_THREADS):
            states[i, c, field] = state[field]

    return fill_summaries


@functools.cache
def largest() -> Any:
    """Kernel: largest values and the smallest of chunks of existing rows; one block per chunk."""

    @device_kernel
    def fill_rows(x, first_chunk, n_chunks, needed, reset, prefix_rows, states, top_rows):
        i, c = cuda.blockIdx.x // n_chunks, cuda.blockIdx.x % n_chunks
        slots = cuda.shared.array((2, BLOCK_THREADS), np.float64)
        count = cuda.shared.array(2, np.int64)
        threshold = cuda.shared.array(1, np.float64)
        start = (first_chunk + c) * CHUNK
        stop = min(start + CHUNK, x.shape[1])
        _open_row(prefix_rows[i], reset, count, threshold)
        push_top_row(
            x[i],
            start,
            stop,
            top_rows[i, c, VALUES:],
            count,
            threshold,
            needed,
            count[1:],
            slots,
        )
        _close_row(top_rows[i, c], count, threshold)
        push_lowest(x[i, start:stop], stop - start, states[i, c, MIN:], slots)

    return fill_rows
