"""Launch kernels from Python: arrays go to the device, small results come back."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..draws.blocks import SPAN, Cut, Density, Net, Plan
from ..state.state import state_size
from ..state.top_k import VALUES
from . import device, drivers, matched, quadratic
from .block_reduce import values_size
from .forms import form_of_plan

Floats = NDArray[np.float64]
# In place of None, which kernels of a device do not take among their arguments.
_NO_NET = Net(np.zeros((0, 0, 32), np.uint32), 0, False)


class DeviceStates:
    """Folded states of some data points on the device, to which chunks of draws are appended.

    Each replicate of a data point has its own. Their largest log weights are together.
    """

    def __init__(self, points: int, iw_sizes: NDArray[np.int64], capacity: int, cut: Cut) -> None:
        self.points, self.capacity, self.group_sizes = points, capacity, len(iw_sizes)
        self.cut = cut
        self.iw_sizes = device.put(iw_sizes)
        self.moments = device.room((points, cut.replicates, state_size(self.group_sizes)))
        self.reset()
        self.top_rows = device.room((points, VALUES + values_size(capacity)))
        self._scratch: tuple[Any, ...] | None = None

    @staticmethod
    def bytes_of_step(group_sizes: int, capacity: int, cut: Cut) -> int:
        """Bytes of one step of one data point. Its folded states take at most twice as many."""
        row, kept = _sizes_of_chunk(group_sizes, capacity, cut)
        return 8 * cut.replicates * (state_size(group_sizes) + row + kept)

    def reset(self) -> None:
        """Forget all draws."""
        self.steps, self._earlier = 0, device.room((0, *self.moments.shape[1:]))

    @property
    def _fresh(self) -> bool:
        return self.steps == 0

    def draw(self, plan: Plan, key: int, first_index: int, n_steps: int) -> None:
        """Append the chunks of the next steps, from a plan on the device."""
        states, top_rows, log_weights = self._open(n_steps)
        chunks = n_steps * self.cut.replicates
        place = np.uint64(key), np.int64(first_index), np.int64(self.steps), np.int64(chunks)
        device.launch(
            drivers.states(form_of_plan(plan), self.group_sizes), self.points * chunks, *plan[:4],
            *place, self.cut, self.iw_sizes, np.int64(self.capacity), self._fresh, self.top_rows,
            states, top_rows, log_weights,
        )  # fmt: skip
        if log_weights.shape[2]:
            device.launch(
                matched.groups(), self.points * chunks, log_weights, *place, self.cut,
                self.iw_sizes, states,
            )  # fmt: skip
        self._fold(states, top_rows)

    def reduce(self, x: Any, n_chunks: int) -> None:
        """Append chunks of the rows of x, an array on the device."""
        states, top_rows, _ = self._open(n_chunks)
        first, chunks = np.int64(self.steps), np.int64(n_chunks)
        blocks = self.points * n_chunks
        device.launch(
            drivers.summaries(self.group_sizes), blocks, x, first, chunks, self.iw_sizes, states
        )
        if self.capacity:
            device.launch(
                drivers.largest(), blocks, x, first, chunks, np.int64(self.capacity),
                self._fresh, self.top_rows, states, top_rows,
            )  # fmt: skip
        self._fold(states, top_rows)

    def _open(self, n_steps: int) -> tuple[Any, ...]:
        """Memory for states, rows and kept log weights of the chunks of so many steps."""
        chunks = n_steps * self.cut.replicates
        if self._scratch is None or self._scratch[0].shape[1] != chunks:
            # Free the old arrays before the new ones are allocated.
            self._scratch = None
            others = _sizes_of_chunk(self.group_sizes, self.capacity, self.cut)
            sizes = (self.moments.shape[2], *others)
            self._scratch = tuple(device.room((self.points, chunks, size)) for size in sizes)
        return self._scratch

    def _fold(self, states: Any, top_rows: Any) -> None:
        items = self.points * self.moments.shape[1]
        stop = self.steps + states.shape[1] // self.moments.shape[1]
        if stop > SPAN and not self._earlier.shape[0]:
            self._earlier = device.put(np.zeros(self.moments.shape))
        device.launch(
            drivers.fold(), -(-items // device.BLOCK_THREADS), states, np.int64(self.steps),
            self.iw_sizes, self._fresh, self._earlier, self.moments,
        )  # fmt: skip
        if self.capacity:
            device.launch(
                drivers.fold_largest(), self.points, top_rows, np.int64(self.capacity),
                self._fresh, self.top_rows,
            )  # fmt: skip
        self.steps = stop

    def fetch(self) -> tuple[Floats, Floats, Floats]:
        """Wait for all launches; return the states and the rows of their largest log weights.

        The states are those of the spans before the last one, of no rows without such, and those of
        the last one.
        """
        there = self._earlier.shape[0] > 0
        earlier = device.fetch(self._earlier) if there else np.zeros(self._earlier.shape)
        return earlier, device.fetch(self.moments), device.fetch(self.top_rows)


def _sizes_of_chunk(group_sizes: int, capacity: int, cut: Cut) -> tuple[int, int]:
    """Lengths of the row of a chunk's largest log weights, and of the log weights that it keeps."""
    kept = cut.chunk if group_sizes and cut.replicates > 1 else 0
    return VALUES + min(values_size(capacity), cut.chunk), kept


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
    density: Density,
    weights: Floats,
    centre: Floats,
    points: Floats,
    probs: Floats,
    responsibilities: bool = False,
) -> tuple[Floats, Floats]:
    """As `mixture_expectations` of `kernels/cpu/launch.py`, on the device."""
    sizes = (4, len(points)), (len(points) if responsibilities else 0, weights.shape[1])
    if not len(points):
        return np.empty(sizes[0]), np.empty(sizes[1])
    out, shares = map(device.room, sizes)
    device.launch(
        drivers.expectations(points.shape[1], weights.shape[1], density.shift.shape[1] > 0),
        -(-len(points) // device.BLOCK_THREADS),
        device.put_all(density), *map(device.put, (weights, centre, points, probs)), out,
        shares,
    )  # fmt: skip
    return device.fetch(out), device.fetch(shares) if responsibilities else np.empty(sizes[1])


def put_plan(plan: Plan) -> Plan:
    """Copy the plan's arrays to the device."""
    sampler = plan.sampler
    plan = plan._replace(sampler=sampler._replace(net=sampler.net or _NO_NET))
    return cast(Plan, device.put_all(plan))
