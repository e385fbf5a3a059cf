"""Rates of a GPU, measured: bytes read and copied, and multiply-adds, per second.

Also the peak memory of a run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastelbo.kernels.cuda import device
from fastelbo.kernels.cuda.device import cuda
from fastelbo.kernels.cuda.warps import COLUMNS, ROWS, STEP, WARP, multiply

_BLOCK_THREADS = 4 if device.SIMULATED else 256
_CHAIN = 8


class Rates(NamedTuple):
    """The device's measured rates."""

    read: float  # bytes a second
    copied: float  # bytes a second, read and written counted once each
    operations: dict[str, float]  # multiply-adds a second, by precision

    def floor(self, operations: float, size: float, precision: str) -> float:
        """The least time, in seconds, for this many lane operations and bytes."""
        return max(operations / self.operations[precision], size / max(self.read, self.copied))


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
def _multiply_adds(x, rounds, out):
    k = cuda.grid(1)
    factor, a = x[x.shape[0] - 1], x[k]
    b, c, d = a + factor, a - factor, a * factor
    for _ in range(rounds):
        for _ in range(_CHAIN):
            a = a * factor + factor
            b = b * factor + factor
            c = c * factor + factor
            d = d * factor + factor
    out[k] = (a + b) + (c + d)


@cuda.jit
def _products_of_warps(x, rounds, out):
    k = cuda.grid(1)
    a = x[k]
    c0 = c1 = d0 = d1 = e0 = e1 = f0 = f1 = 0.0
    for _ in range(rounds):
        for _ in range(_CHAIN):
            c0, c1 = multiply(a, a, c0, c1)
            d0, d1 = multiply(a, a, d0, d1)
            e0, e1 = multiply(a, a, e0, e1)
            f0, f1 = multiply(a, a, f0, f1)
    out[k] = (c0 + c1) + (d0 + d1) + (e0 + e1) + (f0 + f1)


def most_bytes(run: Callable[[], Any]) -> int:
    """Peak device memory of a run in bytes, sampled every millisecond."""
    before = least = device.free_bytes()
    done = threading.Event()

    def watch() -> None:
        nonlocal least
        with device.select(index):
            while not done.wait(1e-3):
                least = min(least, device.free_bytes())

    index = device.current_index()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return before - least


def best_time(run: Callable[[], Any], repeats: int) -> float:
    """The shortest time, in seconds, of a run that waits for the device."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(*, small: bool) -> Rates:
    """Measure the current device."""
    blocks = 2 if device.SIMULATED else 32 * cuda.get_current_device().MULTIPROCESSOR_COUNT
    threads = blocks * _BLOCK_THREADS
    size = threads * 4 if small else 2**28
    x, out = device.room(size, np.float32), device.room(size, np.float32)
    rounds = 2 if small else 4096
    repeats = 1 if small else 20

    def timed(kernel: Any, *args: Any) -> float:
        def run() -> None:
            kernel[blocks, _BLOCK_THREADS](*args)
            device.synchronize()

        run()
        return best_time(run, repeats)

    operations = {}
    for kind in (np.float32, np.float64):
        lanes, results = device.put(np.full(threads, 1e-3, kind)), device.room(threads, kind)
        count = 4 * _CHAIN * rounds * threads
        operations[np.dtype(kind).name] = count / timed(_multiply_adds, lanes, rounds, results)
    if device.multiplies() and not device.SIMULATED:
        count = 4 * _CHAIN * rounds * threads // WARP * ROWS * COLUMNS * STEP
        operations["float64 of warps"] = count / timed(_products_of_warps, lanes, rounds, results)
    else:
        operations["float64 of warps"] = operations["float64"]
    return Rates(4 * size / timed(_read, x, out), 8 * size / timed(_copy, x, out), operations)
