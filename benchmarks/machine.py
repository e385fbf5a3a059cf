"""Rates of the machine, measured once per run: multiply-adds and bytes read per second.

They set the floors of `benchmarks.workloads`. Both use as many threads as fastelbo.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

_LANES = 256
_CHAIN = 16
_ROUNDS = 20_000
_REPEATS = 40
# Bytes to read: more than the caches hold.
_READ = 2**28

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}


class Machine(NamedTuple):
    """Rates of all threads together."""

    threads: int
    operations_per_second: float
    bytes_per_second: float

    def floor(self, operations: float, size: float) -> float:
        """The least time, in seconds, for this many lane operations and bytes."""
        return max(operations / self.operations_per_second, size / self.bytes_per_second)


@numba.njit(fastmath={"contract"}, **_OPTIONS)
def _chains(x):
    """Do `_CHAIN` dependent multiply-adds on each lane of four rows.

    The chain is short enough to be unrolled, and there are enough lanes to hide its latency.
    """
    for k in range(x.shape[1]):
        a, b, c, d = x[0, k], x[1, k], x[2, k], x[3, k]
        for _ in range(_CHAIN):
            a = a * 0.999999 + 1e-6
            b = b * 0.999999 + 1e-6
            c = c * 0.999999 + 1e-6
            d = d * 0.999999 + 1e-6
        x[0, k], x[1, k], x[2, k], x[3, k] = a, b, c, d


@numba.njit(parallel=True, **_OPTIONS)
def _multiply_adds(x, rounds):
    for part in numba.prange(x.shape[0]):
        for _ in range(rounds):
            _chains(x[part])


@numba.njit(fastmath={"contract", "reassoc", "nsz"}, **_OPTIONS)
def _sum(x):
    total = 0.0
    for value in x:
        total += value
    return total


@numba.njit(parallel=True, **_OPTIONS)
def _read(x, sums):
    for part in numba.prange(x.shape[0]):
        sums[part] = _sum(x[part])


def _best(function: Callable[..., None], *args: Any) -> float:
    function(*args)
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        function(*args)
        times.append(time.perf_counter() - start)
    return min(times)


def measure() -> Machine:
    """Measure this machine, which takes about a second."""
    threads = numba.get_num_threads()
    lanes = np.ones((threads, 4, _LANES))
    operations = lanes.size * _CHAIN * _ROUNDS
    array = np.ones((threads * 16, _READ // 8 // (threads * 16)))
    return Machine(
        threads,
        operations / _best(_multiply_adds, lanes, _ROUNDS),
        array.nbytes / _best(_read, array, np.empty(len(array))),
    )


_PACKAGES = ("fastelbo", "numpy", "scipy", "numba", "numba-cuda", "scikit-learn", "numexpr", "jax",
             "numpyro", "torch", "cupy-cuda12x", "cupy-cuda13x", "arviz")  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the timed packages that are installed."""
    found = {"Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
