"""CPU drivers of weighted moments: which thread takes which chunk, and the order of their merge.

Draws are cut by address into chunks of one size. Each chunk has a state of its own, which any
thread may fill; a fold merges them in the order of their addresses, for each replicate apart.
"""

from __future__ import annotations

import numpy as np

from ..draws.blocks import LANES, make_workspace
from ..draws.sampling import sample_block
from ..jit.compile import block
from ..jit.sharing import stopped
from ..state.moments import clear, make_room, merge, push_block


@block
def draw_states(
    part, parts, sampler, dim, full, key, first_index, points, log_weights, first_chunk, size,
    states, counter,
):  # fmt: skip
    """states[i, c] = moments of the draws of chunk first_chunk + c of data point i.

    The draws are made again; ``log_weights`` (N, n) has the log weight of each. The address of data
    point i is ``first_index + points[i]``.
    """
    chunks, total = states.shape[1], log_weights.shape[1]
    items = states.shape[0] * chunks
    work = make_workspace(dim, sampler.location, counter)
    room = make_room(dim, full)
    for item in range(part * items // parts, (part + 1) * items // parts):
        i, c = item // chunks, item % chunks
        index = np.uint64(first_index + points[i])
        clear(states[i, c])
        first = (first_chunk + c) * size
        stop = min(first + size, total)
        while first < stop and not stopped(counter):
            n = min(LANES, stop - first)
            sample_block(sampler, i, dim, work, key, index, np.uint64(first), n)
            row = log_weights[i, first : first + n]
            # Rows of v beyond D are not among the values.
            push_block(states[i, c], row, work.v, 0, first, n, full, room)
            first += n


@block
def value_states(part, parts, values, full, log_weights, first_chunk, size, states):
    """states[i, c] = moments of values[i, p, k] at draw first_chunk * size + k of data point i."""
    chunks, total = states.shape[1], log_weights.shape[1]
    items = states.shape[0] * chunks
    room = make_room(values.shape[1], full)
    for item in range(part * items // parts, (part + 1) * items // parts):
        i, c = item // chunks, item % chunks
        clear(states[i, c])
        first = (first_chunk + c) * size
        stop = min(first + size, total)
        while first < stop:
            n = min(LANES, stop - first)
            row = log_weights[i, first : first + n]
            place = first - first_chunk * size
            push_block(states[i, c], row, values[i], place, first, n, full, room)
            first += n


@block
def fold(part, parts, states, values, full, first_chunk, per_replicate, prefix):
    """Append the chunks of each data point to the prefix of their replicate, from the left."""
    points = states.shape[0]
    for i in range(part * points // parts, (part + 1) * points // parts):
        for c in range(states.shape[1]):
            merge(prefix[i, (first_chunk + c) // per_replicate], states[i, c], values, full)
