"""The CUDA backend: the draws, states and merges of the CPU backend, on a device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..arrays.devices import in_slices, require_device
from ..errors import InvalidInputError, NoDeviceFormWarning
from ..inner_warnings import warn
from ..kernels.cpu.launch import Pace
from ..kernels.draws.blocks import Density, Plan
from ..models.protocol import ExactModel, Expectations, LatentModel
from ..progress import Tick
from ..validation import Floats
from .cpu import CPUBackend
from .cuda_functions import device_calls, with_device_calls
from .cuda_states import DeviceSlice, step_bytes
from .host import refuse_host_densities
from .loop import Slice, folded_quantities
from .lower_tails import Indices, with_tails_of_densities
from .lowered import host_densities
from .states import Quantities
from .stored import StoredTerms, stored_quantities
from .task import EstimateRequest

if TYPE_CHECKING:
    from ..kernels.cuda.launch import DeviceStates
    from ..kernels.draws.blocks import DeviceCall

# Below this number of multiply-adds, about ten seconds of a CPU, starting a device and compiling
# for it costs more than it saves.
_WORTH_A_DEVICE = 2**38
# Fixed cost of a draw, in multiply-adds.
_DRAW_WORK = 64


def worth_a_device(request: EstimateRequest) -> bool:
    """Whether the request is large enough for a device, and a device is usable."""
    if request.points * request.n_samples * (request.work + _DRAW_WORK) < _WORTH_A_DEVICE:
        return False
    if host_densities(request):
        return False
    from ..kernels.cuda import device

    return device.missing() is None


def if_compiled(request: EstimateRequest, index: int) -> CUDABackend | None:
    """The backend for a request; None with a warning if a user's function has no form there."""
    backend = CUDABackend(index)
    try:
        backend.prepare(request)
    except InvalidInputError as error:
        warn(f'{error}, as does "auto"', NoDeviceFormWarning, stacklevel=5)
        return None
    return backend


class CUDABackend:
    """Runs the compiled kernels on one device."""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.device = require_device(index)
        self._model: LatentModel | None = None
        self._calls: dict[str, DeviceCall] = {}

    def prepare(self, request: EstimateRequest) -> None:
        """Compile the functions of users; an `InvalidInputError` if one has no form on a device."""
        if self._model is not request.model:
            with self.device.select(self.index):
                self._calls = device_calls(request)
            self._model = request.model

    def quantities(self, request: EstimateRequest, tick: Tick) -> Quantities:
        """Draw, weigh and fold slices of data points on the device; read their states here."""
        cut = request.cut

        def source(run: Callable[[Slice], None]) -> None:
            def run_slice(first: int, place: int, lo: int, count: int, most_bytes: int) -> None:
                plan = self._plan(request, place + lo, count)
                index = request.first_index + place + lo

                def append(states: DeviceStates, n_steps: int) -> None:
                    states.draw(plan, request.key, index, n_steps)

                def on_host(i: int) -> Slice:
                    return CPUBackend().slice(request, first + lo + i, 1)

                run(DeviceSlice(count, request.form, cut, append, on_host, most_bytes))

            point_bytes = 3 * step_bytes(request.form, cut) + 8 * request.work
            for first, place, count in request.runs():
                in_slices(self.device, count, point_bytes, partial(run_slice, first, place))

        with self.device.select(self.index):
            self.prepare(request)
            pace = Pace(self.device.blocks_at_once())
            values = folded_quantities(source, request.points, cut, request.form, pace, tick)
            return with_tails_of_densities(values, request, self._fill_terms)

    def _fill_terms(
        self, request: EstimateRequest, points: Indices, first: int, stop: int, out: Floats
    ) -> None:
        """See `lower_tails.FillDensities`."""
        from ..kernels.cuda import launch as cuda_launch

        rows = points if request.rows is None else request.rows[points]
        for j, i in enumerate(rows.tolist()):
            plan, index = self._plan(request, i, 1), request.first_index + i
            for array, terms in zip(
                out, cuda_launch.terms(plan, request.key, index, first, stop, 1), strict=True
            ):
                array[j] = terms[0]

    def terms(
        self, request: EstimateRequest, points: Indices | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """See `task.Backend`."""
        from ..kernels.cuda import launch as cuda_launch

        part = request if points is None else request.at(points)
        shape = (part.points, request.n_samples)
        out = (np.empty(shape), np.empty(shape), np.empty(shape))

        def run(start: int, place: int, lo: int, count: int, most_bytes: int) -> None:
            plan, index = self._plan(request, place + lo, count), request.first_index + place + lo
            step = max(1, most_bytes // (24 * count))
            for first in range(0, request.n_samples, step):
                stop = min(request.n_samples, first + step)
                found = cuda_launch.terms(plan, request.key, index, first, stop, count)
                for array, values in zip(out, found, strict=True):
                    array[start + lo : start + lo + count, first:stop] = values

        with self.device.select(self.index):
            self.prepare(request)
            for start, place, count in part.runs():
                bytes_of_point = 24 + 8 * request.work
                in_slices(self.device, count, bytes_of_point, partial(run, start, place))
        return out

    def stored(self, terms: StoredTerms, request: EstimateRequest, points: Indices) -> Quantities:
        """See `task.Backend`; by the kernels of the CPU, as terms are in main memory."""
        return stored_quantities(terms, request, points)

    def expectations(
        self, model: ExactModel, probs: Floats, responsibilities: bool
    ) -> Expectations:
        """See `task.Backend`."""
        return model.expectations(probs, self._component_sums, responsibilities)

    def _plan(self, request: EstimateRequest, lo: int, count: int) -> Plan:
        from ..kernels.cuda import launch as cuda_launch

        refuse_host_densities(request)
        plan = with_device_calls(request.plan(slice(lo, lo + count)), self._calls)
        return cuda_launch.put_plan(plan)

    def _component_sums(
        self,
        density: Density,
        weights: Floats,
        centre: Floats,
        x: Floats,
        probs: Floats,
        responsibilities: bool,
    ) -> tuple[Floats, Floats]:
        """See `models.protocol.ComponentSums`."""
        from ..kernels.cuda import launch as cuda_launch

        components = weights.shape[1]
        out, shares = np.empty((4, len(x))), np.empty((len(x) * responsibilities, components))

        def run(lo: int, count: int, most_bytes: int) -> None:
            part = slice(lo, lo + count)
            rows = probs if len(probs) == 1 else probs[part]
            out[:, part], shares[part] = cuda_launch.mixture_expectations(
                density, weights, centre, x[part], rows, responsibilities
            )

        with self.device.select(self.index):
            in_slices(self.device, len(x), 8 * (x.shape[1] + 2 * components + 4), run)
        return out, shares
