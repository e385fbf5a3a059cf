"""Work on a CUDA device: whether there is one, and states folded there, in pieces that fit.

Work is cut by the memory of the device and by time; the chunks, and the order in which they are
folded, are those of every backend. numba.cuda is imported with the first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DeviceMemoryError, DeviceUnavailableError, InvalidInputError
from .kernels import cpu
from .kernels.launch import Pace
from .states import States

# Memory for what is not yet folded: at most, and the least that is tried.
_MOST_BYTES = 2**30
_LEAST_BYTES = 2**20
# Chunks of draws of the first launch.
FIRST_CHUNKS = 2**10


def require_device(index: int) -> Any:
    """The module `kernels.device`, if the device of that index can be used."""
    from .kernels import device

    reason = device.missing()
    if reason is not None:
        raise DeviceUnavailableError(
            "a CUDA device needs an NVIDIA GPU, its driver and the package numba-cuda; install "
            'fastelbo with the extra "cuda12" or "cuda13", for the version of CUDA that nvidia-smi '
            f"shows. What is missing here: {reason}"
        )
    if index >= device.count():
        raise InvalidInputError(f"device must be below {device.count()}, got {index}")
    return device


def chunk_bytes(iw_sizes: list[int], capacity: int) -> int:
    """Memory of the device that one chunk of one data point takes."""
    from .kernels import grids

    return grids.Moments.bytes_of_chunk(len(iw_sizes), capacity)


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
    from .kernels import device, grids

    moments = grids.Moments(points, np.array(iw_sizes, dtype=np.int64), capacity)
    n_chunks = -(-n_samples // cpu.CHUNK)
    chunk = 0
    while chunk < n_chunks:
        most = min(pace.size, most_bytes // chunk_bytes(iw_sizes, capacity)) // points
        # What the first chunks keep spares the others most of their candidates.
        step = min(n_chunks - chunk, max(1, most), max(1, chunk))
        with pace:
            append(moments, step)
            device.cuda.synchronize()
        chunk += step
    states = States(points, iw_sizes, capacity)
    folded, kept = moments.fetch()
    states.restore(folded, kept[:, : states.kept.shape[1]])
    return states


def in_slices(
    device: Any, points: int, point_bytes: int, run: Callable[[int, int, int], None]
) -> None:
    """``run(lo, count, most_bytes)`` for all data points, in pieces that fit the device's memory.

    Where they do not, with half as much, down to a piece of a megabyte.
    """
    size = min(_MOST_BYTES, device.free_bytes() // 2)
    lo = 0
    while lo < points:
        count = max(1, min(points - lo, size // point_bytes))
        try:
            run(lo, count, size)
        except Exception as error:
            if not device.out_of_memory(error):
                raise
            if size <= _LEAST_BYTES:
                raise DeviceMemoryError(
                    f"the device has no room for a piece of {size:,} bytes of the work, with "
                    f"{device.free_bytes():,} bytes free; close what else uses it"
                ) from error
            size //= 2
            continue
        lo += count
