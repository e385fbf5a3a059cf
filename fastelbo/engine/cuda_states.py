"""Mergeable states folded on a CUDA device.

Work is cut by the memory of the device and by time; the chunks, and the order in which they are
folded, are those of every backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays.devices import adopt, device_of, in_slices
from ..errors import InvalidInputError
from ..kernels.cpu.launch import Pace
from ..kernels.draws.blocks import CHUNK
from ..progress import Tick
from ..validation import Floats
from .states import Reader, States


def chunk_bytes(iw_sizes: list[int], capacity: int) -> int:
    """Memory of the device that one chunk of one data point takes."""
    from ..kernels.cuda import launch as cuda_launch

    return cuda_launch.DeviceStates.bytes_of_chunk(len(iw_sizes), capacity)


def folded_states(
    points: int,
    n_samples: int,
    iw_sizes: list[int],
    capacity: int,
    append: Callable[[Any, int], None],
    most_bytes: int,
    pace: Pace,
) -> States:
    """States of data points, chunks of which ``append`` takes in on the device."""
    from ..kernels.cuda import device
    from ..kernels.cuda import launch as cuda_launch

    moments = cuda_launch.DeviceStates(points, np.array(iw_sizes, dtype=np.int64), capacity)
    n_chunks = -(-n_samples // CHUNK)
    chunk = 0
    while chunk < n_chunks:
        most = min(pace.size, most_bytes // chunk_bytes(iw_sizes, capacity)) // points
        step = min(n_chunks - chunk, max(1, most))
        if capacity:
            # What the first chunks keep spares the others most of their candidates.
            step = min(step, max(1, chunk))
        with pace:
            append(moments, step)
            device.synchronize()
        chunk += step
    states = States(points, iw_sizes, capacity)
    folded, top_rows = moments.fetch()
    states.restore(folded, top_rows[:, : states.top_rows.shape[1]])
    return states


def device_row_quantities(
    log_weights: Any, axis: int, iw_sizes: list[int], capacity: int, tick: Tick
) -> tuple[dict[str, Floats], tuple[int, ...]]:
    """What `states.Reader` reads of log weights on a device, whose draws are along the last axis.

    And the shape of their batch.
    """
    from ..kernels.cuda import device

    *batch, n_samples = log_weights.shape
    if axis != len(batch):
        raise InvalidInputError(
            f"axis must be the last one for log_weights on a device, got {axis} of shape "
            f"{tuple(log_weights.shape)}; a copy is left to its owner"
        )
    points = math.prod(batch)
    reader = Reader(points, n_samples, iw_sizes, capacity)

    def run(lo: int, count: int, most_bytes: int) -> None:
        part = rows[lo : lo + count]

        def append(moments: Any, n_chunks: int) -> None:
            moments.reduce(part, n_chunks)

        reader.add(folded_states(count, n_samples, iw_sizes, capacity, append, most_bytes, pace))
        tick(count * n_samples)

    with device_of(log_weights):
        pace = Pace(device.blocks_at_once())
        rows = adopt(log_weights, "log_weights").reshape(points, n_samples)
        in_slices(device, points, 2 * chunk_bytes(iw_sizes, capacity), run)
    return reader.quantities(), tuple(batch)
