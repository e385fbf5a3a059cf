"""Launch kernels from Python: arrays go to the device, small results come back."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..draws.blocks import CHUNK, Density, Plan
from ..state.state import state_size
from ..state.top_k import VALUES
from . import device, drivers, quadratic
from .block_reduce import values_size
from .parameters import form_of_plan

Floats = NDArray[np.float64]


class DeviceStates:
    """Folded states of some data points on the device, to which chunks of draws are appended."""

    def __init__(self, points: int, iw_sizes: NDArray[np.int64], capacity: int) -> None:
        self.points, self.capacity, self.group_sizes = points, capacity, len(iw_sizes)
        self.iw_sizes = device.put(iw_sizes)
        self.moments = device.room((points, state_size(self.group_sizes)))
        self.top_rows = device.room((points, VALUES + values_size(capacity)))
        self._scratch: tuple[Any, Any] | None = None
        self.draws = 0

    @staticmethod
    def bytes_of_chunk(group_sizes: int, capacity: int) -> int:
        """Bytes for one chunk of one data point. The folded state of a point takes as many."""
        return 8 * (state_size(group_sizes) + VALUES + values_size(capacity))

    def reset(self) -> None:
        """Forget all draws."""
        self.draws = 0

    @property
    def _fresh(self) -> bool:
        return self.draws == 0

    def draw(self, plan: Plan, key: int, first_index: int, n_draws: int, n_chunks: int) -> None:
        """Append chunks of draws of a plan on the device, which has ``n_draws`` draws in all."""
        first, states, top_rows = self._open(n_chunks)
        device.launch(
            drivers.states(form_of_plan(plan), self.group_sizes), self.points * n_chunks, *plan[:4],
            np.uint64(key), np.int64(first_index), first, np.int64(n_chunks), np.int64(n_draws),
            self.iw_sizes, np.int64(self.capacity), self._fresh, self.top_rows, states, top_rows,
        )  # fmt: skip
        self._fold(states, top_rows, n_draws)

    def reduce(self, x: Any, n_chunks: int) -> None:
        """Append chunks of the rows of x, an array on the device."""
        first, states, top_rows = self._open(n_chunks)
        blocks, chunks = self.points * n_chunks, np.int64(n_chunks)
        device.launch(
            drivers.summaries(self.group_sizes), blocks, x, first, chunks, self.iw_sizes, states
        )
        if self.capacity:
            device.launch(
                drivers.largest(), blocks, x, first, chunks, np.int64(self.capacity),
                self._fresh, self.top_rows, states, top_rows,
            )  # fmt: skip
        self._fold(states, top_rows, x.shape[1])

    def _open(self, n_chunks: int) -> tuple[np.int64, Any, Any]:
        """The next chunk, and memory for states and rows of ``n_chunks`` chunks."""
        if self._scratch is None or self._scratch[0].shape[1] != n_chunks:
            # Free the old arrays before the new ones are allocated.
            self._scratch = None
            self._scratch = (
                device.room((self.points, n_chunks, self.moments.shape[1])),
                device.room((self.points, n_chunks, *self.top_rows.shape[1:])),
            )
        return np.int64(self.draws // CHUNK), *self._scratch

    def _fold(self, states: Any, top_rows: Any, n_draws: int) -> None:
        device.launch(
            drivers.fold(), -(-self.points // device.BLOCK_THREADS), states, self.iw_sizes,
            self._fresh, self.moments,
        )  # fmt: skip
        if self.capacity:
            device.launch(
                drivers.fold_largest(), self.points, top_rows, np.int64(self.capacity),
                self._fresh, self.top_rows,
            )  # fmt: skip
        self.draws = min(n_draws, self.draws + states.shape[1] * CHUNK)

    def fetch(self) -> tuple[Floats, Floats]:
        """Wait for all launches; return the states and the rows of their largest log weights."""
        return device.fetch(self.moments), device.fetch(self.top_rows)


def terms(plan: Plan, key: int, first_index: int, lo: int, hi: int, points: int) -> list[Floats]:
    """Three log densities, each (points, hi - lo), of draws lo to hi of a plan on the device."""
    out = [device.room((points, hi - lo)) for _ in range(3)]
    n_blocks = -(-(hi - lo) // device.TILE)
    device.launch(
        drivers.terms(form_of_plan(plan)), points * n_blocks, *plan[:4], np.uint64(key),
        np.int64(first_index), np.int64(lo), np.int64(hi), np.int64(n_blocks), *out,
    )  # fmt: skip
    return [device.fetch(array) for array in out]


def log_prob(density: Density, centre: Floats, points: Any) -> Any:
    """Log density of member i at points[:, i]; points (M, members, D) and result on the device."""
    count, members, dim = points.shape
    out = device.room((count, members))
    kernel, threads = drivers.log_prob(dim, density.shift.shape[1] > 0), device.BLOCK_THREADS
    by_warps = density.factor.shape[2] > 1 and density.shift.shape[1] == 0
    if by_warps and dim <= quadratic.MOST and device.multiplies():
        kernel, threads = quadratic.log_prob(dim), quadratic.THREADS
        density = quadratic.ordered(density, dim)
    n_blocks = -(-count // threads)
    device.launch(
        kernel, members * n_blocks, device.put_all(density), device.put(centre), points,
        np.int64(n_blocks), out, threads=threads,
    )  # fmt: skip
    # The caller may use the result on another stream.
    device.synchronize()
    return out


def mixture_expectations(
    density: Density, weights: Floats, centre: Floats, points: Floats, probs: Floats
) -> Floats:
    """As `mixture_expectations` of `kernels/cpu/launch.py`, on the device."""
    out = device.room((4, len(points)))
    device.launch(
        drivers.expectations(points.shape[1], weights.shape[1], density.shift.shape[1] > 0),
        -(-len(points) // device.BLOCK_THREADS),
        device.put_all(density), *map(device.put, (weights, centre, points, probs)), out,
    )  # fmt: skip
    return device.fetch(out) if len(points) else np.empty((4, 0))


def put_plan(plan: Plan) -> Plan:
    """Copy the plan's arrays to the device."""
    return cast(Plan, device.put_all(plan))
