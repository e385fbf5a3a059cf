"""Kinds of work, and how fast this machine does each: the floors of `benchmarks.workloads`.

The rates are measured once per run, on as many threads as fastelbo takes. A core executes a number
of vector instructions a cycle, and fewer of some kinds, which only some of its ports can do. So the
floor of a workload is the longest of these times, as if each kind overlapped with all others:

- its multiply-adds, at their rate; a product of floats counts as one;
- its 32-bit products and shifts, at the rate of both in turn, as Philox needs them;
- its divisions and square roots, which share one unit: the sum of both times;
- all its instructions, at the rate of multiply-adds beside integer sums and exclusive ors;
- its bytes, at the rate of reading.

Loads, stores and addresses are not counted.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

import numba
import numpy as np

from fastelbo.kernels.cpu.launch import available_threads
from fastelbo.kernels.jit import targets

_ROWS, _LANES = 4, 256
_CHAIN = 8
_SECONDS = 0.01
_REPEATS = 20
# Bytes to read: more than the caches hold.
_READ = 2**28


@dataclass(frozen=True)
class Work:
    """Lane operations by kind.

    ``xors`` are exclusive ors of three words; ``others`` are all that may take any port: sums,
    comparisons, selects, conversions. ``operations`` is the number of all in the floor that takes
    each for a multiply-add; it is their sum, if not given.
    """

    multiply_adds: float = 0.0
    integer: float = 0.0
    xors: float = 0.0
    others: float = 0.0
    divisions: float = 0.0
    roots: float = 0.0
    operations: float = math.nan

    def __post_init__(self) -> None:
        if math.isnan(self.operations):
            object.__setattr__(self, "operations", sum(astuple(self)[:-1]))

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __rmul__(self, count: float) -> Work:
        return Work(*(count * each for each in astuple(self)))


class Machine(NamedTuple):
    """Rates of all threads; an exclusive or of three words is ``per_xor`` instructions."""

    threads: int
    target: str
    multiply_adds: float
    integer: float
    instructions: float
    divisions: float
    roots: float
    bytes_per_second: float
    per_xor: int

    def floor(self, work: Work, size: float) -> float:
        """The least time, in seconds, for this work and bytes."""
        instructions = work.multiply_adds + work.integer + self.per_xor * work.xors
        instructions += work.others + work.divisions + work.roots
        return max(
            work.multiply_adds / self.multiply_adds,
            work.integer / self.integer,
            work.divisions / self.divisions + work.roots / self.roots,
            instructions / self.instructions,
            size / self.bytes_per_second,
        )

    def floor_at_one_rate(self, work: Work, size: float) -> float:
        """The same, as if each operation took as long as a multiply-add."""
        return max(work.operations / self.multiply_adds, size / self.bytes_per_second)


# --- measurements ---------------------------------------------------------------------------


def _compiled(step: Callable[..., Any]) -> Any:
    """Do a step `_CHAIN` times on each lane of four rows of floats and words, again and again.

    A step waits for the one before: the rows, and vectors of lanes, fill the time.
    """
    inner = numba.njit(step, fastmath={"contract"}, error_model="numpy", forceinline=True)

    @numba.njit(nogil=True, error_model="numpy")
    def run(x, words, rounds):
        for _ in range(rounds):
            for k in range(x.shape[1]):
                a, b, c, d = x[0, k], x[1, k], x[2, k], x[3, k]
                e, f, g, h = words[0, k], words[1, k], words[2, k], words[3, k]
                for _ in range(_CHAIN):
                    a, e = inner(a, e)
                    b, f = inner(b, f)
                    c, g = inner(c, g)
                    d, h = inner(d, h)
                words[0, k], words[1, k], words[2, k], words[3, k] = e, f, g, h
                x[0, k], x[1, k], x[2, k], x[3, k] = a, b, c, d

    return run


_LOW, _FACTOR, _MASK = np.uint64(0xFFFFFFFF), np.uint64(0xD2511F53), np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(11)

# Each with the number of operations in a step.
_STEPS: dict[str, tuple[int, Callable[..., Any]]] = {
    "multiply_adds": (1, lambda a, w: (a * 0.999999 + 1e-6, w)),
    "integer": (2, lambda a, w: (a, ((w & _LOW) * _FACTOR) >> _SHIFT)),
    "instructions": (3, lambda a, w: (a * 0.999999 + 1e-6, (w ^ _MASK) + _FACTOR)),
    "divisions": (1, lambda a, w: (1.5 / a, w)),
    "roots": (1, lambda a, w: (math.sqrt(a + 0.7), w)),
}


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _sum(x):
    total = 0.0
    for value in x:
        total += value
    return total


def _seconds(pool: ThreadPoolExecutor, function: Callable[..., Any], parts: list[Any]) -> float:
    """The shortest time in which all parts are done, one in each thread."""
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        list(pool.map(lambda part: function(*part), parts))
        times.append(time.perf_counter() - start)
    return min(times)


def _rate(pool: ThreadPoolExecutor, threads: int, count: int, step: Callable[..., Any]) -> float:
    run = _compiled(step)
    shape = threads, _ROWS, _LANES
    lanes = [*zip(np.full(shape, 1.5), np.full(shape, _MASK), strict=True)]
    run(*lanes[0], 1)
    rounds = 1000
    while (seconds := _seconds(pool, run, [(*each, rounds) for each in lanes])) < _SECONDS:
        rounds *= 2
    return threads * _ROWS * _LANES * _CHAIN * count * rounds / seconds


def measure() -> Machine:
    """Measure this machine, which takes some seconds."""
    threads = available_threads()
    array = np.ones((threads, _READ // 8 // threads))
    _sum(array[0])
    with ThreadPoolExecutor(threads) as pool:
        rates = {name: _rate(pool, threads, *of_step) for name, of_step in _STEPS.items()}
        reading = array.nbytes / _seconds(pool, _sum, [(part,) for part in array])
    found = targets.target()
    return Machine(
        threads, found.name, **rates, bytes_per_second=reading,
        per_xor=1 if found == targets.AVX512 else 2,
    )  # fmt: skip


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
