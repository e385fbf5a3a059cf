"""The CUDA backend: the same draws, states and merges as on the CPU, on a device.

Work is cut by the memory of the device and by time; the chunks, and the order in which they are
folded, are those of every backend. numba.cuda is imported with the first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .backends import Quantities, Task, plan_of, work_of_draw
from .errors import DeviceMemoryError, DeviceUnavailableError, InvalidInputError
from .kernels import cpu
from .kernels.launch import Pace
from .progress import Tick
from .states import Reader, States
from .validation import Floats

# Multiply-adds from which a device is worth its start: seconds of a CPU.
_WORTH_A_DEVICE = 2**36
# Memory for what is not yet folded: at most, and the least that is tried.
_MOST_BYTES = 2**30
_LEAST_BYTES = 2**20
# Chunks of draws of the first launch.
_FIRST_CHUNKS = 2**10


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


def worth_a_device(task: Task) -> bool:
    """Whether there is enough work for a device, and a device for it."""
    if task.points * task.n_samples * (work_of_draw(task) + 64) < _WORTH_A_DEVICE:
        return False
    from .kernels import device

    return device.missing() is None


class CUDABackend:
    """The compiled kernels on one device."""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.device = require_device(index)

    def moments(self, task: Task, iw_sizes: list[int], capacity: int, tick: Tick) -> Quantities:
        """Fold the chunks of slices of data points on the device; read what comes back."""
        reader = Reader(task.points, task.n_samples, iw_sizes, capacity)
        chunk_bytes = _chunk_bytes(iw_sizes, capacity)
        pace = Pace(_FIRST_CHUNKS)

        def run(lo: int, count: int, most_bytes: int) -> None:
            plan = self._plan(task, lo, count)

            def draw(moments: Any, n_chunks: int) -> None:
                moments.draw(plan, task.key, task.first_index + lo, task.n_samples, n_chunks)

            reader.add(
                _folded(count, task.n_samples, iw_sizes, capacity, draw, most_bytes, pace)
            )
            tick(count * task.n_samples)

        point_bytes = 2 * chunk_bytes + 8 * work_of_draw(task)
        with self.device.select(self.index):
            _in_slices(self.device, task.points, point_bytes, run)
        return reader.quantities()

    def terms(self, task: Task) -> tuple[Floats, Floats, Floats]:
        from .kernels import grids

        shape = (task.points, task.n_samples)
        out = (np.empty(shape), np.empty(shape), np.empty(shape))

        def run(lo: int, count: int, most_bytes: int) -> None:
            plan = self._plan(task, lo, count)
            step = max(1, most_bytes // (24 * count))
            for first in range(0, task.n_samples, step):
                stop = min(task.n_samples, first + step)
                found = grids.terms(plan, task.key, task.first_index + lo, first, stop, count)
                for array, values in zip(out, found, strict=True):
                    array[lo : lo + count, first:stop] = values

        with self.device.select(self.index):
            _in_slices(self.device, task.points, 24 + 8 * work_of_draw(task), run)
        return out

    def _plan(self, task: Task, lo: int, count: int) -> Any:
        from .kernels import grids

        return grids.put_plan(plan_of(task, lo, count))


def _chunk_bytes(iw_sizes: list[int], capacity: int) -> int:
    from .kernels import grids

    return grids.Moments.bytes_of_chunk(len(iw_sizes), capacity)


def _folded(
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
        most = min(pace.size, most_bytes // _chunk_bytes(iw_sizes, capacity)) // points
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


def _in_slices(
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
