"""What a GPU can do, measured: bytes read and copied a second, and multiply-adds a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastelbo.kernels import device
from fastelbo.kernels.device import cuda

_TEAM = 4 if device.SIMULATED else 256
_CHAIN = 8


class Rates(NamedTuple):
    """The device's measured rates."""

    read: float  # bytes a second
    copied: float  # bytes a second, read and written counted once each
    float32: float  # multiply-adds a second
    float64: float

    def floor(self, operations: float, size: float, precision: str) -> float:
        """The least time in seconds for so many lane operations and bytes."""
        return max(operations / getattr(self, precision), size / self.read)


@cuda.jit
def _read(x, out):
    start, step = cuda.grid(1), cuda.gridsize(1)
    total = x[start] - x[start]
    for k in range(start, x.shape[0], step):
        total += x[k]
    out[start] = total


@cuda.jit
def _copy(x, out):
    for k in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        out[k] = x[k]


@cuda.jit
def _multiply_adds(x, rounds):
    k = cuda.grid(1)
    factor, a = x[x.shape[0] - 1], x[k]
    b, c, d = a + factor, a - factor, a * factor
    for _ in range(rounds):
        for _ in range(_CHAIN):
            a = a * factor + factor
            b = b * factor + factor
            c = c * factor + factor
            d = d * factor + factor
    x[k] = (a + b) + (c + d)


def best_time(run: Callable[[], Any], repeats: int) -> float:
    """The least time in seconds of a run that waits for the device."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(*, small: bool) -> Rates:
    """The rates of the device in use."""
    blocks = 2 if device.SIMULATED else 32 * cuda.get_current_device().MULTIPROCESSOR_COUNT
    threads = blocks * _TEAM
    size = threads * 4 if small else 2**28
    x, out = device.room(size, np.float32), device.room(size, np.float32)
    rounds = 2 if small else 4096
    repeats = 1 if small else 20

    def timed(kernel: Any, *args: Any) -> float:
        def run() -> None:
            kernel[blocks, _TEAM](*args)
            device.synchronize()

        run()
        return best_time(run, repeats)

    rates = {}
    for kind in (np.float32, np.float64):
        lanes = device.put(np.full(threads, 1e-3, kind))
        operations = 4 * _CHAIN * rounds * threads
        rates[np.dtype(kind).name] = operations / timed(_multiply_adds, lanes, rounds)
    return Rates(4 * size / timed(_read, x, out), 8 * size / timed(_copy, x, out), **rates)
