"""The CUDA backend: the same draws, states and merges as on the CPU, on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays.devices import in_slices, require_device
from ..kernels.cpu.launch import Pace
from ..progress import Tick
from ..validation import Floats
from .cuda_states import chunk_bytes, folded_states
from .states import Reader
from .task import EstimateRequest, Quantities, plan_of, work_of_draw

# Multiply-adds from which a device is worth its start, compiling above all: ten seconds of a CPU.
_WORTH_A_DEVICE = 2**38


def worth_a_device(request: EstimateRequest) -> bool:
    """Whether there is enough work for a device, and a device for it."""
    if request.points * request.n_samples * (work_of_draw(request) + 64) < _WORTH_A_DEVICE:
        return False
    from ..kernels.cuda import device

    return device.missing() is None


class CUDABackend:
    """The compiled kernels on one device."""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.device = require_device(index)

    def quantities(
        self, request: EstimateRequest, iw_sizes: list[int], capacity: int, tick: Tick
    ) -> Quantities:
        """Fold the chunks of slices of data points on the device; read what comes back."""
        reader = Reader(request.points, request.n_samples, iw_sizes, capacity)

        def run(lo: int, count: int, most_bytes: int) -> None:
            plan = self._plan(request, lo, count)

            def draw(moments: Any, n_chunks: int) -> None:
                moments.draw(
                    plan, request.key, request.first_index + lo, request.n_samples, n_chunks
                )

            reader.add(
                folded_states(count, request.n_samples, iw_sizes, capacity, draw, most_bytes, pace)
            )
            tick(count * request.n_samples)

        point_bytes = 2 * chunk_bytes(iw_sizes, capacity) + 8 * work_of_draw(request)
        with self.device.select(self.index):
            pace = Pace(self.device.blocks_at_once())
            in_slices(self.device, request.points, point_bytes, run)
        return reader.quantities()

    def terms(self, request: EstimateRequest) -> tuple[Floats, Floats, Floats]:
        from ..kernels.cuda import launch as cuda_launch

        shape = (request.points, request.n_samples)
        out = (np.empty(shape), np.empty(shape), np.empty(shape))

        def run(lo: int, count: int, most_bytes: int) -> None:
            plan = self._plan(request, lo, count)
            step = max(1, most_bytes // (24 * count))
            for first in range(0, request.n_samples, step):
                stop = min(request.n_samples, first + step)
                found = cuda_launch.terms(
                    plan, request.key, request.first_index + lo, first, stop, count
                )
                for array, values in zip(out, found, strict=True):
                    array[lo : lo + count, first:stop] = values

        with self.device.select(self.index):
            in_slices(self.device, request.points, 24 + 8 * work_of_draw(request), run)
        return out

    def _plan(self, request: EstimateRequest, lo: int, count: int) -> Any:
        from ..kernels.cuda import launch as cuda_launch

        return cuda_launch.put_plan(plan_of(request, lo, count))


def mixture_expectations_on(index: int) -> Callable[..., Floats]:
    """As `kernels.launch.mixture_expectations`, on the device of that index."""
    device = require_device(index)
    from ..kernels.cuda import launch as cuda_launch

    def expectations(density: Any, log_weight: Floats, centre: Floats, x: Any, q: Any) -> Floats:
        out = np.empty((3, len(x)))

        def run(lo: int, count: int, most_bytes: int) -> None:
            part = slice(lo, lo + count)
            probs = q if len(q) == 1 else q[part]
            out[:, part] = cuda_launch.mixture_expectations(
                density, log_weight, centre, x[part], probs
            )

        with device.select(index):
            in_slices(device, len(x), 8 * (x.shape[1] + len(log_weight) + 3), run)
        return out

    return expectations
