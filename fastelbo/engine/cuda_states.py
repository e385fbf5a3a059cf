"""Slices of data points whose chunks are folded on a CUDA device."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.devices import adopt, device_of, in_slices
from ..errors import InvalidInputError
from ..kernels.cpu.launch import Pace
from ..kernels.draws.blocks import CHUNK, Cut
from ..kernels.state import state
from ..progress import Tick
from .loop import Slice, fold, folded_quantities
from .lower_tails import Indices, Terms, tails_of_draws, with_lower_tails
from .rows import row_pace, row_slice
from .spans import fold_states
from .states import Quantities, StateForm, States

if TYPE_CHECKING:
    from ..kernels.cuda.launch import DeviceStates


def step_bytes(form: StateForm, cut: Cut) -> int:
    """Device memory of one step of one data point, in bytes."""
    from ..kernels.cuda import launch as cuda_launch

    return cuda_launch.DeviceStates.bytes_of_step(len(form.iw_sizes), form.capacity, cut)


class DeviceSlice:
    """A slice with its states on the device. ``append`` folds the next chunks there.

    A device has no room for moments with a scale. Where they leave the range of floats, the host
    computes the data point again, from the slice that ``on_host`` makes of it.
    """

    def __init__(
        self,
        points: int,
        form: StateForm,
        cut: Cut,
        append: Callable[[DeviceStates, int], None],
        on_host: Callable[[int], Slice],
        most_bytes: int,
    ) -> None:
        from ..kernels.cuda import launch as cuda_launch

        self.points = points
        self._form, self._append, self._on_host = form, append, on_host
        self._steps = 0
        self._most_steps = most_bytes // step_bytes(form, cut)
        iw_sizes = np.array(form.iw_sizes, dtype=np.int64)
        self._states = cuda_launch.DeviceStates(points, iw_sizes, form.capacity, cut)

    def most_chunks(self, first: int) -> int:
        """See `loop.Slice`."""
        most = self._most_steps // self.points
        # Start small: the largest log weights of the first chunks rule out most of the later ones.
        return min(most, first) if self._form.capacity else most

    def append(self, first: int, stop: int) -> None:
        """See `loop.Slice`."""
        from ..kernels.cuda import device

        self._append(self._states, stop - first)
        device.synchronize()
        self._steps = stop

    def states(self) -> States:
        """See `loop.Slice`."""
        states = States(self.points, self._form)
        earlier, last, top_rows = self._states.fetch()
        # A replicate has its own spans here, so that its draws are joined first.
        moments = last
        if len(earlier):
            both = np.stack([earlier, last], axis=2).reshape(-1, 2, last.shape[2])
            moments = fold_states(both, states.iw_sizes).reshape(last.shape)
        states.append(moments, None, top_rows[:, None, : states.row_shape[1]])
        for i in np.flatnonzero(state.overflowed(states.moments)).tolist():
            part = self._on_host(i)
            fold(part, 0, self._steps, row_pace(), lambda first, stop: None)
            states.replace(i, part.states())
        return states


def device_row_quantities(
    log_weights: Any, axis: int, form: StateForm, tick: Tick
) -> tuple[Quantities, tuple[int, ...]]:
    """Quantities of log weights on a device, and the shape of their batch; see `states.Reader`.

    The draws must be along the last axis.
    """
    from ..kernels.cuda import device

    *batch, n_samples = log_weights.shape
    if axis != len(batch):
        raise InvalidInputError(
            f"axis must be the last one for log_weights on a device, got axis {axis} of shape "
            f"{tuple(log_weights.shape)}; make a copy with the draws along the last axis"
        )
    points, cut = math.prod(batch), Cut(1, n_samples, CHUNK)

    def source(run: Callable[[Slice], None]) -> None:
        def run_slice(lo: int, count: int, most_bytes: int) -> None:
            part = rows[lo : lo + count]

            def append(states: DeviceStates, n_chunks: int) -> None:
                states.reduce(part, n_chunks)

            def on_host(i: int) -> Slice:
                return row_slice(device.fetch(part[i : i + 1])[:, :, None], form)

            run(DeviceSlice(count, form, cut, append, on_host, most_bytes))

        in_slices(device, points, 3 * step_bytes(form, cut), run_slice)

    with device_of(log_weights):
        rows = adopt(log_weights, "log_weights").reshape(points, n_samples)
        pace = Pace(device.blocks_at_once())
        values = folded_quantities(source, points, cut, form, pace, tick)

        def draw(points: Indices, first: int, stop: int) -> Terms:
            terms = [device.fetch(rows[i, first:stop]) for i in points.tolist()]
            return {"pareto_k_elbo": -np.array(terms, dtype=np.float64)}

        tails = partial(tails_of_draws, n_samples, draw)
        return with_lower_tails(values, n_samples, form.capacity, tails), tuple(batch)
