"""What the machine can do, measured once a run: multiply-adds and bytes read a second.

The floors of `benchmarks.workloads` are stated in these. Both use all threads that fastelbo uses.
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
# More than the caches hold.
_READ = 2**28

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}


class Machine(NamedTuple):
    """Rates of all threads together."""

    threads: int
    operations_per_second: float
    bytes_per_second: float

    def floor(self, operations: float, size: float) -> float:
        """The least time in seconds for so many lane operations and bytes."""
        return max(operations / self.operations_per_second, size / self.bytes_per_second)


@numba.njit(fastmath={"contract"}, **_OPTIONS)
def _chains(x):
    """`_CHAIN` dependent multiply-adds on each lane of four rows.

    Short enough for the compiler to unroll, and wide enough to hide how long one takes.
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
    """The rates of this machine; takes about a second."""
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
    """Python and the packages that are installed, of those that are timed."""
    found = {"Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
