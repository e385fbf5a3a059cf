"""Values of log densities that functions on the host compute, at draws by address.

The kernels make a batch of draws, the function computes their log densities, and the kernels take
these as supplied values. So everything else is as for other densities. A batch is cut by address
and by the shapes of the request, and never by time: its size may change the last bits of values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import constant
from ..errors import InvalidInputError
from ..kernels.cpu.launch import sample
from ..kernels.draws.blocks import Cut, Plan, Sampler, Term
from ..models.protocol import Frame, Points
from ..validation import Floats
from .lowered import Hosted, Lowered, host_densities, lower
from .task import EstimateRequest

# The first draw of a range, and the first after it.
Range = tuple[int, int]
# plans(ranges): the plan for those draws of some data points.
Plans = Callable[[list[Range]], Plan]
# plans(first, stop): the same for one range, and gradients of the log joint density.
SlopedPlans = Callable[[int, int], tuple[Plan, Floats]]
_ALIGNMENT = 64
# Most values at once: 4 MB, and as much again where batches are put together.
_MOST_VALUES = 2**19


def group_size(request: EstimateRequest) -> int:
    """Data points that share batches. Slices begin at multiples of it."""
    sizes = (
        density.batch(request.n_samples, request.points).points
        for density in host_densities(request).values()
    )
    return max(sizes, default=1)


def most_chunks(lowered: Lowered) -> int | None:
    """Steps of a cut whose values fit into memory at once; None where there are no values."""
    return max(1, _MOST_VALUES // lowered.cut.drawn(1)) if lowered.hosted else None


def refuse_host_densities(request: EstimateRequest) -> None:
    """Raise an error for a backend that has no function on the host."""
    for name in host_densities(request):
        raise InvalidInputError(
            f'backend must be "auto", "cpu" or "numpy" for a model whose {name} a function on '
            'the host computes, got "cuda"; the function itself may use a device, by '
            'array_namespace="torch" or "jax" and device='
        )


def ranges_of_steps(cut: Cut, first: int, stop: int) -> list[Range]:
    """The draws of steps first to stop of a cut."""
    if cut.steps == 1:
        return [(0, cut.total)]
    start, end = first * cut.chunk, min(cut.draws, stop * cut.chunk)
    return [(r * cut.draws + start, r * cut.draws + end) for r in range(cut.replicates)]


def plans_of(lowered: Lowered, n_threads: int | None) -> Plans:
    """The plans of some data points.

    Each range goes through the draws in ascending order, or begins again anywhere. Where there are
    several, a supplied value stands at the place of its draw in them.
    """
    plan, cut = lowered.plan, lowered.cut
    sources: dict[tuple[str, int], _Values] = {}

    def values(name: str, ranges: list[Range]) -> Floats:
        parts = []
        for j, (first, stop) in enumerate(ranges):
            if (name, j) not in sources:
                end = lowered.n_samples if len(ranges) == 1 else (j + 1) * cut.draws
                sources[name, j] = _Values(lowered.hosted[name], lowered, n_threads, end)
            parts.append(sources[name, j].at(first, stop)[0])
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def with_values(ranges: list[Range]) -> Plan:
        def term(name: str) -> Term:
            own: Term = getattr(plan, name)
            if name not in lowered.hosted:
                return own
            first_draw = ranges[0][0] if len(ranges) == 1 else 0
            return own._replace(values=constant(values(name, ranges)), first_draw=first_draw)

        return plan._replace(prior=term("prior"), likelihood=term("likelihood"))

    return with_values if lowered.hosted else lambda ranges: plan


def slopes_of(
    request: EstimateRequest,
    rows: slice | NDArray[np.int64],
    n_threads: int | None,
    wanted: bool,
) -> SlopedPlans:
    """As `plans_of`, with the gradients of the host densities in the coordinates of the draws.

    ``plans(first, stop)`` is the plan for these draws, and the sum of the gradients, of shape
    (points, D, stop - first), if they are ``wanted``.
    """
    lowered = lower(request, rows)
    plan = lowered.plan
    frame = request.q.source(Points(request.batch, rows)).frame if wanted else None
    sources = {
        name: _Values(hosted, lowered, n_threads, request.n_samples, frame)
        for name, hosted in lowered.hosted.items()
    }

    def with_slopes(first: int, stop: int) -> tuple[Plan, Floats]:
        terms: dict[str, Any] = {}
        total = np.zeros((1, 0, 0))
        for name, source in sources.items():
            values, *slopes = source.at(first, stop)
            own: Term = getattr(plan, name)
            terms[name] = own._replace(values=constant(values), first_draw=first)
            for each in slopes:
                total = total + each if total.size else each
        return plan._replace(**terms), constant(total)

    return with_slopes


class _Values:
    """The values of a host density at the draws of some data points, and its gradients if asked."""

    def __init__(
        self,
        hosted: Hosted,
        lowered: Lowered,
        n_threads: int | None,
        end: int,
        frame: Frame | None = None,
    ) -> None:
        self._hosted, self._lowered, self._n_threads = hosted, lowered, n_threads
        self._end = end  # no batch has a draw from here on
        # The coordinates in which gradients are wanted.
        self._frame = frame
        # What is known from draw ``first`` on: the rest of the last batch.
        count = len(lowered.points)
        self._first, self._known = 0, [np.empty((count, 0))]
        if frame is not None:
            self._known.append(np.empty((count, hosted.density.dim, 0)))

    def at(self, first: int, stop: int) -> list[Floats]:
        """Values (count, stop - first) of draws first to stop, and gradients (count, D, ...)."""
        known, start = self._known, self._first
        if not start <= first <= start + known[0].shape[1]:
            draws = self._hosted.batch.draws
            start = first // draws * draws
            known = [each[..., :0] for each in known]
        parts, end = [known], start + known[0].shape[1]
        while end < stop:
            parts.append(self._next(end))
            end += parts[-1][0].shape[1]
        whole = known
        if len(parts) > 1:
            whole = [np.concatenate(each, axis=-1) for each in zip(*parts, strict=True)]
        self._first, self._known = stop, [each[..., stop - start :].copy() for each in whole]
        return [each[..., first - start : stop - start] for each in whole]

    def _next(self, first: int) -> list[Floats]:
        """What belongs to the batches that begin at draw ``first``."""
        density, own, batch, _ = self._hosted
        draws = min(batch.draws, self._end - first)
        out = [np.empty((*each.shape[:-1], draws)) for each in self._known]
        for i in range(0, len(self._lowered.points), batch.points):
            members = slice(i, i + batch.points)
            where = self._draws(members, first, draws), own[members], batch
            if self._frame is None:
                out[0][members] = density.values(*where).T
            else:
                values, slopes = density.value_and_gradient(*where)
                out[0][members] = values.T
                out[1][members] = _chained(slopes, self._frame, members)
        return out

    def _draws(self, members: slice, first: int, draws: int) -> Floats:
        """Draws (draws, members, D), which nobody else holds."""
        lowered, sampler = self._lowered, self._hosted.sampler
        points, dim = lowered.points[members], lowered.plan.dim
        out = _aligned((draws, len(points), dim), sampler.location.dtype)
        sample(
            _members(sampler, members), len(points), draws, dim, lowered.key,
            points=constant(points), first_index=lowered.first_index, first_draw=first,
            n_threads=self._n_threads, out=out,
        )  # fmt: skip
        return out


def _chained(slopes: Floats, frame: Frame, members: slice) -> Floats:
    """T' slopes (members, D, draws), for slopes (draws, members, D) in z = centre + T v."""
    turned = np.transpose(slopes, (1, 2, 0))

    def part(array: Floats) -> Floats:
        return array if len(array) == 1 else array[members]

    # What leaves the range of floats is not finite, which is refused.
    with np.errstate(all="ignore"):
        if frame.scale_tril is not None:
            back = np.swapaxes(part(frame.scale_tril), 1, 2)
            return np.asarray(back @ np.ascontiguousarray(turned))
        return turned if frame.scale is None else turned * part(frame.scale)[..., None]


def _members(sampler: Sampler, members: slice) -> Sampler:
    """The sampler of some of its data points."""

    def part(array: Any) -> Any:
        return array if len(array) == 1 else array[members]

    names = ("location", "scale", "thresholds", "df", "rotation")
    return sampler._replace(**{name: part(getattr(sampler, name)) for name in names})


def _aligned(shape: tuple[int, ...], dtype: Any) -> Floats:
    """An empty array that begins with a cache line. JAX would copy any other."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    array: Floats = memory[start : start + size].view(dtype).reshape(shape)
    return array
