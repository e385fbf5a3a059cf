"""How a Dask array of log weights is cut into parts, each of which is one block for one task.

A part is a box of data points and a span of draws, whatever chunks the array has. It is made of
whole chunks where it can: a chunk that parts share is made once for each batch of tasks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .lazy import dask_module

# Elements of a block: small chunks are joined up to the first, and a block that is cut across
# chunks has at most the second. These are 32 MB and 256 MB of float64.
_JOINED_ELEMENTS = 2**22
_MOST_ELEMENTS = 2**25

Interval = tuple[int, int]
# A slice for each axis of the data points.
Box = tuple[slice, ...]


class Parts(NamedTuple):
    """How an array is cut: boxes of data points, in this order, and in each of them spans."""

    axes: tuple[int, ...]  # those of the draws; a span is of the one, or has all of several
    points: list[list[Interval]]  # how each of the other axes is cut
    spans: list[Interval]

    @property
    def boxes(self) -> list[Box]:
        """Slices of the axes of the data points."""
        return [tuple(slice(*each) for each in box) for box in itertools.product(*self.points)]

    def block(self, x: Any, box: Box, span: Interval) -> Any:
        """One part of x, as a Dask array of one block."""
        part = x[self._along_axes(x.ndim, slice(*span), box)]
        # Shuffling by p2p would need the graph of the whole array at once.
        return part if part.npartitions == 1 else part.rechunk(part.shape, method="tasks")

    def _along_axes(self, ndim: int, of_draws: Any, of_points: Iterable[Any]) -> tuple[Any, ...]:
        """One thing for each axis; several axes of draws are always whole."""
        of_draws = of_draws if len(self.axes) == 1 else slice(None)
        points = iter(of_points)
        return tuple(of_draws if i in self.axes else next(points) for i in range(ndim))

    def order(self, batch: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """The places, in the flattened batch, of the data points of the boxes one by one."""
        places = np.arange(math.prod(batch)).reshape(batch)
        return np.concatenate([places.ravel()[:0], *(places[box].ravel() for box in self.boxes)])

    def mapped(self, x: Any, function: Callable[..., Any], of_points: Any, last: Any) -> Any:
        """``function(block, own, last)`` of whole rows: a Dask array with the chunks of x.

        ``own`` is the part of the array ``of_points`` that belongs to the data points of a block.
        """
        dask_array = dask_module("dask.array")
        lengths = [tuple(stop - lo for lo, stop in each) or (0,) for each in self.points]
        points, every = iter(lengths), tuple(range(x.ndim))
        rows = x.rechunk({i: -1 if i in self.axes else next(points) for i in every})
        own = dask_array.from_array(np.array(of_points), chunks=tuple(lengths))
        batch = tuple(i for i in every if i not in self.axes)
        result = dask_array.blockwise(
            function, every, rows, every, own, batch, last, None,
            dtype=np.float64, meta=np.empty((0,) * x.ndim),
        )  # fmt: skip
        return result.rechunk(x.chunks)


def cut_spans(x: Any, axis: int, chunk: int, most_points: int) -> Parts:
    """Parts of at most so many data points. Spans begin at multiples of ``chunk`` draws."""
    chunks = [lengths for i, lengths in enumerate(x.chunks) if i != axis]
    points = max(1, min(most_points, math.prod(map(max, chunks))))
    spans = _intervals(x.chunks[axis], max(chunk, _JOINED_ELEMENTS // points), chunk)
    whole = len(spans) == 1
    draws = x.shape[axis] if whole else chunk
    return Parts((axis,), _cut_points(x, chunks, draws, most_points, joins=whole), spans)


def cut_boxes(x: Any, axes: tuple[int, ...]) -> Parts:
    """Parts with all draws of their data points."""
    draws = math.prod(x.shape[axis] for axis in axes)
    chunks = [lengths for i, lengths in enumerate(x.chunks) if i not in axes]
    return Parts(axes, _cut_points(x, chunks, draws, _MOST_ELEMENTS, joins=True), [(0, draws)])


def _cut_points(
    x: Any, chunks: list[tuple[int, ...]], draws: int, most_points: int, *, joins: bool
) -> list[list[Interval]]:
    """Cuts of the axes of data points, of which a block has ``draws``; small chunks are joined.

    A block may have as many elements as a chunk of x, which is made as a whole anyway.
    """
    most = max(_MOST_ELEMENTS, math.prod(map(max, x.chunks)))
    most_points = max(1, min(most_points, most // max(1, draws)))
    found = [_intervals(lengths, 1) for lengths in chunks]
    sizes = [max(lengths) for lengths in chunks]
    for i in reversed(range(len(chunks)) if joins else ()):
        room = min(most_points, _JOINED_ELEMENTS // max(1, draws))
        others = math.prod(sizes) // max(1, sizes[i])
        found[i] = _intervals(chunks[i], room // max(1, others))
        sizes[i] = max((stop - lo for lo, stop in found[i]), default=0)
    for i in range(len(chunks)):
        others = math.prod(sizes) // max(1, sizes[i])
        sizes[i] = min(sizes[i], max(1, most_points // max(1, others)))
        found[i] = [piece for each in found[i] for piece in _pieces(each, sizes[i])]
    return found


def _intervals(lengths: tuple[int, ...], most: int, step: int = 1) -> list[Interval]:
    """Chunks as intervals: neighbours joined up to ``most``, borders moved to multiples of step."""
    ends = list(itertools.accumulate(lengths))
    borders = sorted(({end // step * step for end in ends[:-1]} | {ends[-1]}) - {0})
    found, start = [], 0
    for border, following in itertools.pairwise([*borders, math.inf]):
        if following - start > most and border > start:
            found.append((start, int(border)))
            start = int(border)
    return found


def _pieces(interval: Interval, most: int) -> list[Interval]:
    """The interval in equal pieces of at most so many."""
    lo, stop = interval
    count = -(-(stop - lo) // most)
    cuts = [lo + (stop - lo) * i // count for i in range(count + 1)]
    return list(itertools.pairwise(cuts))


def with_one_axis(x: Any, axes: tuple[int, ...]) -> tuple[Any, int]:
    """The array with its axes of draws joined to one, the last, and which axis has the draws."""
    if len(axes) == 1:
        return x, axes[0]
    dask_array = dask_module("dask.array")
    x = dask_array.moveaxis(x, axes, range(-len(axes), 0))
    first = x.ndim - len(axes)
    # Blocks stay what they are if all axes before one are cut into ones, and those after it whole.
    if not any(_joins_at(x, first, i) for i in range(first, x.ndim)):
        most = max(range(first, x.ndim), key=lambda i: x.shape[i])
        x = x.rechunk(
            {i: 1 if i < most else -1 for i in range(first, x.ndim) if i != most}, method="tasks"
        )
    return x.reshape((*x.shape[:first], math.prod(x.shape[first:]))), first


def _joins_at(x: Any, first: int, place: int) -> bool:
    ones = all(x.numblocks[i] == x.shape[i] for i in range(first, place))
    return ones and all(x.numblocks[i] == 1 for i in range(place + 1, x.ndim))
