"""Where the draws are made: one class a backend, all with the same two methods.

`moments` returns the quantities of `states.Reader` for each data point, k-hat from ``capacity``
largest log weights, `terms` the three log densities of each draw. The draws are the same
everywhere: functions of their address.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import lowering, reference
from .kernels import cpu, extremes, state
from .kernels.blocks import CHUNK, Plan
from .kernels.launch import Pace, launch
from .progress import Tick
from .states import Reader, States
from .validation import Floats, require_memory

Quantities = dict[str, Floats]


class Task(NamedTuple):
    """A validated request."""

    model: Any
    q: Any
    batch: tuple[int, ...]
    n_samples: int
    key: int
    first_index: int
    precision: str

    @property
    def points(self) -> int:
        """Number of data points, of the flattened batch."""
        return math.prod(self.batch)


class Backend(Protocol):
    """What a backend offers."""

    def moments(self, task: Task, iw_sizes: list[int], capacity: int, tick: Tick) -> Quantities: ...

    def terms(self, task: Task) -> tuple[Floats, Floats, Floats]: ...


# Numbers that the plan and the states of one slice of data points may hold: 32 MB each.
_SLICE_NUMBERS = 2**22
# Multiply-adds of the first launch, a hundredth of a second or two.
_FIRST_WORK = 2**28


class CPUBackend:
    """The compiled kernels on all cores."""

    def __init__(self, n_threads: int | None = None) -> None:
        self.n_threads = n_threads

    def moments(self, task: Task, iw_sizes: list[int], capacity: int, tick: Tick) -> Quantities:
        """Fill the states of slices of data points and chunks; fold each slice, then read it."""
        size = state.state_size(len(iw_sizes)) + extremes.row_size(capacity)
        n_chunks = -(-task.n_samples // CHUNK)
        chunk_work = min(task.n_samples, CHUNK) * (work_of_draw(task) + 64)
        pace = Pace(max(1, _FIRST_WORK // chunk_work))
        most_points = max(1, _SLICE_NUMBERS // (work_of_draw(task) + size))
        most_states = max(1, _SLICE_NUMBERS // size)
        reader = Reader(task.points, task.n_samples, iw_sizes, capacity)
        lo = 0
        while lo < task.points:
            count = min(max(1, pace.size // n_chunks), most_points, task.points - lo)
            plan = plan_of(task, lo, count)
            states = States(count, iw_sizes, capacity, self.n_threads)
            chunk = 0
            while chunk < n_chunks:
                stop = min(n_chunks, chunk + max(1, min(pace.size, most_states) // count))
                with pace:
                    states.advance(stop - chunk, self._filler(task, plan, lo, chunk, states))
                tick(count * (min(stop * CHUNK, task.n_samples) - chunk * CHUNK))
                chunk = stop
            reader.add(states)
            lo += count
        return reader.quantities()

    def _filler(
        self, task: Task, plan: Any, lo: int, chunk: int, states: States
    ) -> Callable[[Floats, Floats], None]:
        """A function that fills chunks, from ``chunk`` on, of the data points from ``lo`` on."""
        return lambda chunks, kept: self._launch(
            cpu.states, plan, np.uint64(task.key), task.first_index + lo, chunk, task.n_samples,
            states.iw_sizes, states.capacity, states.kept, chunks, kept,
        )  # fmt: skip

    def terms(self, task: Task) -> tuple[Floats, Floats, Floats]:
        shape = (task.points, task.n_samples)
        out = (np.empty(shape), np.empty(shape), np.empty(shape))
        draws_a_launch = max(1, _FIRST_WORK // (work_of_draw(task) + 64))
        most_points = max(1, _SLICE_NUMBERS // work_of_draw(task))
        lo = 0
        while lo < task.points:
            count = min(most_points, max(1, draws_a_launch // task.n_samples), task.points - lo)
            plan = plan_of(task, lo, count)
            slices = tuple(array[lo : lo + count] for array in out)
            for first in range(0, task.n_samples, draws_a_launch):
                stop = min(task.n_samples, first + draws_a_launch)
                self._launch(
                    cpu.terms, plan, np.uint64(task.key), task.first_index + lo, first, stop,
                    *slices,
                )  # fmt: skip
            lo += count
        return out

    def _launch(self, function: Callable[..., Any], *args: Any) -> None:
        launch(function, *args, n_threads=self.n_threads)


def plan_of(task: Task, lo: int, count: int) -> Plan:
    """The plan of ``count`` data points, from ``lo`` on."""
    rows = slice(lo, lo + count)
    return lowering.plan(task.model, task.q, task.batch, rows, task.precision)


def work_of_draw(task: Task) -> int:
    """Numbers in the affine forms of one data point: about the multiply-adds of one draw."""
    components = task.q._components.log_weight.shape[-1]
    components += task.model._prior._components.log_weight.shape[-1]
    return int((components + 1) * task.q.dim**2)


class NumPyBackend:
    """The plain reference: slow, independent, and holding the terms of every draw in memory.

    In float64 whatever the precision, which is the least that is asked for.
    """

    def moments(self, task: Task, iw_sizes: list[int], capacity: int, tick: Tick) -> Quantities:
        terms = self.terms(task)
        with np.errstate(invalid="ignore"):
            bad = ~(terms[0] + (terms[1] - terms[2]) < np.inf)
            values = reference.moments(*terms, iw_sizes)
        tick(task.points * task.n_samples)
        values["n_bad"] = bad.sum(axis=-1)
        values["first_bad"] = bad.argmax(axis=-1)
        bounds = np.array([values["iw"][k] for k in iw_sizes])
        bounds = bounds.reshape(len(iw_sizes), 2, task.points)
        values["iw_value"], values["iw_se"] = bounds[:, 0].T, bounds[:, 1].T
        log_weights = terms[0] + (terms[1] - terms[2])
        ascending = np.sort(log_weights, axis=-1)[:, task.n_samples - capacity :]
        values["tail"] = ascending[:, ::-1]
        values["pareto_k"] = reference.pareto_k(values["tail"])
        return values

    def terms(self, task: Task) -> tuple[Floats, Floats, Floats]:
        require_memory('the terms of backend="numpy"', 3 * 8 * task.points * task.n_samples)
        return reference.elbo_terms(task.model, task.q, task.n_samples, task.key, task.first_index)
