"""Launches kernels from Python: threads, pieces of work, and the calls for the layers above."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..draws import mixtures
from ..draws.blocks import Density, Sampler
from ..jit.compile import kernel
from ..jit.sharing import STOPPED, Counter, take
from ..jit.threads import available_threads, can_wait, most_threads, run_on_threads
from . import drivers

# Parts per thread: small parts, so that all threads finish at about the same time.
_PARTS = 8
# A part has at most so many multiply-adds if it can: a hundredth of a second or two.
_PART_WORK = 2**28
_SHORT_WORK = 2**22
# For less work, the main thread takes part: it is back within a tenth of a second.
_LONG_WORK = 2**30
# About the multiply-adds that an exponential costs.
ELEMENT_WORK = 2**5
# Duration of a launch. Progress bars are handled between launches.
_SLICE_SECONDS = 0.25
# Largest size of a launch, above all that fits into memory.
_MOST_PACE = 2**62
# Most numbers in the arrays of one slice of the work: 32 MB.
SLICE_NUMBERS = 2**22
# One thread reduces this many elements in the time that other threads take to start.
_FEW_ELEMENTS = 2**15


@functools.cache
def compiled(function: Callable[..., Any]) -> Any:
    """The kernel that runs parts of ``function`` until none is left.

    Threads that run it with the same counter share the parts: a thread that is done takes the next.
    """

    def share(counter, parts, *args):  # type: ignore[no-untyped-def]
        part = take(counter)
        while part < parts:
            function(part, parts, *args)
            part = take(counter)

    share.__name__ = share.__qualname__ = function.__name__
    return kernel(share)


def new_counter() -> Counter:
    """The counter of the parts of one launch."""
    return np.zeros(1, np.int64)


def launch(
    function: Callable[..., Any],
    *args: Any,
    n_threads: int | None = None,
    work: float = 0.0,
    short: bool = False,
    counter: Counter | None = None,
) -> None:
    """Run ``function(part, parts, *args)`` for all parts, on up to ``n_threads`` threads.

    ``work`` is about the number of multiply-adds. If they take long, the main thread waits for the
    others and serves interrupts: then no further part is taken. A kernel of which one part may take
    long has the ``counter`` among its arguments too, and looks at it. Parts are ``short`` where one
    takes hardly more time than its share of the work.

    A launch that is stopped raises what stopped it. It leaves its results undone, so that no array
    that it writes to may be one that anybody keeps.
    """
    share = compiled(function)
    threads = n_threads or available_threads()
    if n_threads is not None and threads > 1:
        threads = min(threads, most_threads())
    parts = max(_PARTS * threads, int(work / (_SHORT_WORK if short else _PART_WORK)))
    waits = work > _LONG_WORK and can_wait()
    if waits or not getattr(share, "overloads", True):
        # Compile on this thread, that an interrupt need not wait for a compiler on another.
        share(np.full(1, STOPPED), parts, *args)
    counter = new_counter() if counter is None else counter
    run_on_threads(threads, share, counter, parts, *args, waits=waits)


def threads_for(elements: int) -> int | None:
    """Number of threads for a launch, None for all. It never changes a result."""
    return 1 if elements < _FEW_ELEMENTS else None


def paced(total: int, step: Callable[[int, int], None], first: int) -> None:
    """Call ``step(lo, hi)`` over 0..total in pieces of about a quarter of a second.

    ``first`` is the size of the first piece. The sizes of pieces never change a result.
    """
    pace = Pace(first)
    lo = 0
    while lo < total:
        hi = min(total, lo + pace.size)
        with pace:
            step(lo, hi)
        lo = hi


class Pace:
    """Adapts the size of the next launch to the duration of the last one."""

    def __init__(self, first: int) -> None:
        self.size = max(1, first)
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        # At most halved, as the duration of the first launch may include compilation.
        change = min(4.0, max(0.5, _SLICE_SECONDS / elapsed))
        # Launches that memory or the data points limit are quick however large this is.
        self.size = min(max(1, int(self.size * change)), _MOST_PACE)


def _work(density: Density) -> int:
    """Multiply-adds of the log density at one point."""
    return ELEMENT_WORK + math.prod(density.factor.shape[1:]) + math.prod(density.target.shape[1:])


def log_prob(
    density: Density, centre: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log density of member i at x[:, i], for x of shape (M, members, D)."""
    out = np.empty(x.shape[:2])
    x = np.ascontiguousarray(x).view()
    x.setflags(write=False)
    counter = new_counter()
    work = out.size * _work(density)
    launch(
        drivers.log_prob, density, centre, x, 0, len(x), out, counter, work=work, counter=counter
    )
    return out


def sample(
    sampler: Sampler,
    members: int,
    n: int,
    dim: int,
    key: int,
    points: NDArray[np.int64] | None = None,
    first_index: int = 0,
    first_draw: int = 0,
    n_threads: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Draws (n, members, D) of the sampler's members, in the precision of the sampler.

    The address of member i is ``first_index + points[i]``, and i without ``points``; draws begin at
    ``first_draw``. ``out`` is a new array that takes them, as `launch` may leave it undone.
    """
    if points is None:
        points = np.arange(members)
        points.setflags(write=False)
    draws = np.empty((n, members, dim), sampler.location.dtype) if out is None else out
    # A draw takes one component, but a component that few draws of a block take costs no less.
    components, rows = sampler.scale.shape[1:3]
    work = draws.size * (ELEMENT_WORK + rows * max(1, components // 8))
    launch(
        drivers.draws, sampler, dim, np.uint64(key), first_index, points, first_draw, draws,
        n_threads=n_threads, work=work,
    )  # fmt: skip
    return draws


def mixture_expectations(
    density: Density,
    weights: NDArray[np.float64],
    centre: NDArray[np.float64],
    points: NDArray[np.float64],
    probs: NDArray[np.float64],
    responsibilities: bool = False,
    n_threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows log p(x), E_q log p(x | c), KL(q || weights), KL(q || p(c | x)), for data points (M, D).

    And the ``responsibilities`` p(c | x), (M, C), or of no rows unless they are asked for.
    ``probs``, of shape (M or 1, C), is q; of no rows, only log p(x) means something. The
    components of the density do not include their weights: ``weights`` holds them and, in a second
    row, their logarithms.
    """
    out = np.empty((4, len(points)))
    shares = np.empty((len(points) if responsibilities else 0, weights.shape[1]))
    work = len(points) * _work(density)
    launch(
        mixtures.expectations, density, weights, centre, points, probs, 0, len(points), out, shares,
        n_threads=n_threads, work=work,
    )  # fmt: skip
    return out, shares
