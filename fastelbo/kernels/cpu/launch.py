"""Launching kernels from Python: threads, slices, and the calls that the layers above make."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..draws import mixtures
from ..draws.blocks import Density, Sampler
from ..jit.compile import kernel
from ..jit.threads import available_threads, most_threads, run_on_threads, take
from . import drivers

# Parts for each thread, so that the last one to finish is not far behind the others.
_PARTS = 8
# Between two launches an interrupt and a progress bar are served.
_SLICE_SECONDS = 0.25
# Numbers that the arrays of one slice of the work may hold: 32 MB.
SLICE_NUMBERS = 2**22
# Elements that one thread reduces before others are awake.
_FEW_ELEMENTS = 2**15


@functools.cache
def compiled(function: Callable[..., Any]) -> Any:
    """The kernel that works on parts of ``function`` for as long as there are any left.

    Threads that run it with one counter share the parts: whoever is done takes the next.
    """

    def share(counter, parts, *args):  # type: ignore[no-untyped-def]
        part = take(counter)
        while part < parts:
            function(part, parts, *args)
            part = take(counter)

    share.__name__ = share.__qualname__ = function.__name__
    return kernel(share)


def launch(function: Callable[..., Any], *args: Any, n_threads: int | None = None) -> None:
    """Do the work of ``function(part, parts, *args)`` for all parts, on some threads."""
    share = compiled(function)
    threads = min(n_threads or available_threads(), most_threads())
    counter = np.zeros(1, np.int64)
    run_on_threads(threads, share, counter, _PARTS * threads, *args)


def threads_for(elements: int) -> int | None:
    """How many threads to launch a kernel on, whose result they do not change."""
    return 1 if elements < _FEW_ELEMENTS else None


def paced(total: int, step: Callable[[int, int], None], first: int) -> None:
    """Call ``step(lo, hi)`` over 0..total in pieces of about a quarter of a second.

    ``first`` is the size of the first piece; what it holds never changes a result.
    """
    pace = Pace(first)
    lo = 0
    while lo < total:
        hi = min(total, lo + pace.size)
        with pace:
            step(lo, hi)
        lo = hi


class Pace:
    """Adapts the size of a launch to the time that the last one took."""

    def __init__(self, first: int) -> None:
        self.size = max(1, first)
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        # At most halved: the first launch may have compiled.
        change = min(4.0, max(0.5, _SLICE_SECONDS / elapsed))
        self.size = max(1, int(self.size * change))


# Work, in draws or points, of the first piece.
_FIRST = 2**18


def log_prob(
    density: Density, centre: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log density of member i at points[:, i], for points (M, members, D)."""
    out = np.empty(points.shape[:2])
    points = np.ascontiguousarray(points).view()
    points.setflags(write=False)
    paced(
        len(points) if points.size else 0,
        lambda lo, hi: launch(drivers.log_prob, density, centre, points, lo, hi, out),
        _FIRST // max(1, points.shape[1]),
    )
    return out


def sample(sampler: Sampler, members: int, n: int, dim: int, key: int) -> NDArray[np.float64]:
    """Draws (n, members, D) of the sampler's members."""
    draws = np.empty((n, members, dim))
    paced(
        n if members else 0,
        lambda lo, hi: launch(drivers.draws, sampler, dim, np.uint64(key), lo, hi, draws),
        _FIRST // max(1, members),
    )
    return draws


def choose(thresholds: NDArray[np.int64], n: int, key: int) -> NDArray[np.int64]:
    """Component choices (n, members)."""
    out = np.empty((n, len(thresholds)), np.int64)
    paced(
        n if len(thresholds) else 0,
        lambda lo, hi: launch(drivers.choices, thresholds, np.uint64(key), lo, hi, out),
        _FIRST // max(1, len(thresholds)),
    )
    return out


def mixture_expectations(
    density: Density,
    log_weight: NDArray[np.float64],
    centre: NDArray[np.float64],
    points: NDArray[np.float64],
    probs: NDArray[np.float64],
) -> NDArray[np.float64]:
    """log p(x), E_q log p(x | c) and KL(q || weights), each a row, at points (M, D).

    ``probs``, (M or 1, C), are the q; the density's components come without their weights.
    """
    out = np.empty((3, len(points)))
    paced(
        len(points),
        lambda lo, hi: launch(
            mixtures.expectations, density, log_weight, centre, points, probs, lo, hi, out
        ),
        _FIRST // max(1, len(log_weight)),
    )
    return out


def mixture_posterior(
    density: Density,
    log_weight: NDArray[np.float64],
    centre: NDArray[np.float64],
    points: NDArray[np.float64],
) -> NDArray[np.float64]:
    """p(c | x) at points (M, D), as (M, C)."""
    out = np.empty((len(points), len(log_weight)))
    paced(
        len(points),
        lambda lo, hi: launch(mixtures.posterior, density, log_weight, centre, points, lo, hi, out),
        _FIRST // max(1, len(log_weight)),
    )
    return out
