"""What the processes of a cluster run: pure functions of what has travelled to them.

A task makes numbers of some data points and some of their draws. It depends on its order alone, so
that it may run anywhere, and again after a fault.
"""

from __future__ import annotations

import functools
import platform
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from ...errors import ClusterError
from ...kernels.cpu.launch import Pace
from ...kernels.jit.targets import target
from ...validation import Floats
from ...version import STREAM_VERSION, __version__
from ..cpu import chunk_filler, fill_terms
from ..host import most_chunks
from ..loop import HostSlice, fold
from ..lower_tails import Terms, merged_tails, terms_of
from ..lowered import Lowered
from ..spans import Begins, begins_span, in_spans
from ..states import StateForm, States
from .travelling import Packed, arrived, unpack

# Draws whose terms are made at once: arrays of 8 MB.
_PIECE = 2**20
# More chunks than any launch has.
_ALL = 2**62
# Values that a process keeps: functions with their machine code, and data points of recent tasks.
_KEPT = 8


# --- facts --------------------------------------------------------------------------------------


class Facts(NamedTuple):
    """What the bits of a process depend on, beside its task."""

    python: str
    fastelbo: str
    stream_version: str
    numba: str
    llvmlite: str
    target: str  # the instruction set that it compiles for

    def needed(self) -> dict[str, str]:
        """What must be the same where tasks go, so that they mean the same there."""
        names = ("python", "fastelbo", "stream_version")
        return {_WORDS[name]: getattr(self, name) for name in names}

    def exact(self) -> dict[str, str]:
        """What must be the same for the same bits."""
        names = ("numba", "llvmlite", "target")
        return {_WORDS[name]: getattr(self, name) for name in names}


_WORDS = {
    "python": "Python", "fastelbo": "fastelbo", "stream_version": "stream version",
    "numba": "numba", "llvmlite": "llvmlite", "target": "instruction set",
}  # fmt: skip


@functools.cache
def facts() -> Facts:
    """The facts of this process."""
    # Not those of `info`, which looks for a GPU: that takes a second.
    python = ".".join(platform.python_version_tuple()[:2])
    return Facts(
        f"{platform.python_implementation()} {python}", __version__, str(STREAM_VERSION),
        version("numba"), version("llvmlite"), target().name,
    )  # fmt: skip


def _check(asked: Facts, exact: bool) -> None:
    """Raise an error if this process does not answer as the one that asked."""
    own = facts()
    for allowed, wanted, found in (
        ("", asked.needed(), own.needed()),
        ("; allow_mixed=True takes it, without the guarantee of the same bits", asked.exact(),
         own.exact()),
    ):  # fmt: skip
        if wanted != found and (exact or not allowed):
            names = [name for name, each in wanted.items() if found[name] != each]
            raise ClusterError(
                f"client has a worker, {_address()}, with another {' and '.join(names)}: it has "
                f"{_listed(found, names)}, and this process {_listed(wanted, names)}{allowed}"
            )


def _listed(values: dict[str, str], names: list[str]) -> str:
    return ", ".join(f"{name} {values[name]}" for name in names)


def _address() -> str:
    """The address of this worker, or the name of its machine."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        # Another scheduler of Dask.
        return platform.node()


# --- tasks --------------------------------------------------------------------------------------


class Order(NamedTuple):
    """What a task is to do: the first of its large arrays are those of its functions."""

    asked: Facts
    exact: bool  # whether the facts must be the same to the last bit
    functions: Packed
    points: Packed
    job: Callable[..., Any]
    args: tuple[Any, ...]


class Reply(NamedTuple):
    """What a task has made, and how long it took."""

    value: Any
    seconds: float


def run(order: Order, *apart: bytes) -> Reply:
    """Do what the order says, on one thread."""
    # Before anything is unpacked, which another version of Python may not be able to.
    _check(order.asked, order.exact)
    shared = len(order.functions.writable)
    functions = _recent.of(order.functions, lambda: _functions(order.functions, apart[:shared]))
    lowered = _recent.of(
        order.points,
        lambda: arrived(functions, unpack(order.points, apart[shared:])),
        order.functions.digest,
    )
    start = time.perf_counter()
    value = order.job(lowered, *order.args)
    return Reply(value, time.perf_counter() - start)


def _functions(packed: Packed, apart: tuple[bytes, ...]) -> Any:
    """Functions, with their machine code."""
    functions = unpack(packed, apart)
    for each in functions.values():
        getattr(each, "_call", None)
    return functions


class _Recent:
    """The values that were used last. Threads that want the same wait for the one that makes it."""

    def __init__(self, kept: int) -> None:
        self._kept, self._lock = kept, threading.RLock()
        self._values: OrderedDict[str, Any] = OrderedDict()

    def of(self, packed: Packed, make: Callable[[], Any], prefix: str = "") -> Any:
        """The value of what is packed."""
        name = prefix + packed.digest
        with self._lock:
            if name not in self._values:
                self._values[name] = make()
                while len(self._values) > self._kept:
                    self._values.popitem(last=False)
            self._values.move_to_end(name)
            return self._values[name]


_recent = _Recent(_KEPT)


# --- jobs ---------------------------------------------------------------------------------------


def chunk_states(
    lowered: Lowered, form: StateForm, first: int, stop: int
) -> tuple[Floats, Begins, Floats]:
    """The states of steps ``first`` to ``stop``, and one row of largest values for all.

    The states are those of chunks or of spans, and it is said which begin a span, as for
    `States.append`. Those of replicates are needed chunk by chunk.
    """
    states = States(len(lowered.points), form, 1)
    made: list[Floats] = []
    part = HostSlice(
        states, chunk_filler(lowered, states, 1), most_states=most_chunks(lowered),
        record=made.append,
    )  # fmt: skip
    # A task is short: its launches are as large as memory allows.
    fold(part, first, stop, Pace(_ALL), lambda *_: None)
    moments, begins = np.concatenate(made, axis=1), begins_span(first, stop, form.replicates)
    if form.replicates == 1:
        moments, begins = in_spans(moments, first, states.iw_sizes, 1)
    return moments, begins, states.folded().packed().top_rows


def terms(lowered: Lowered, first: int, stop: int) -> Floats:
    """Log likelihood, log prior and log q (3, points, draws) of draws first to stop."""
    out = np.empty((3, len(lowered.points), stop - first))
    fill_terms(lowered, first, stop, out, 1)
    return out


def tails(lowered: Lowered, names: tuple[str, ...], size: int, first: int, stop: int) -> Terms:
    """The ``size`` largest values, or all, of some terms of draws first to stop, descending."""
    step = max(1, _PIECE // len(lowered.points))
    kept = Terms()
    for start in range(first, stop, step):
        kept = merged_tails(
            kept, terms_of(terms(lowered, start, min(stop, start + step))), names, size
        )
    return kept
