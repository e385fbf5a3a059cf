"""The log densities of every draw as Dask arrays, whose blocks are made when they are needed.

Blocks hold whole chunks of draws, so that `fastelbo.summarize` takes them as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...errors import InvalidWeightError
from ...kernels.draws.blocks import CHUNK
from ...optional import optional
from ...validation import Floats
from ..host import group_size
from ..lowered import lower
from ..task import EstimateRequest
from . import workers
from .travelling import Apart, Packed, pack_functions, pack_points
from .workers import Facts, Order, facts

# Draws of a block: 8 MB for each term. A power of two.
_DRAWS = 2**20

NAMES = ("log_likelihood", "log_prior", "log_q")


class _Parcel(NamedTuple):
    """What all blocks of some data points are made from."""

    asked: Facts
    exact: bool
    functions: Packed
    points: Packed
    apart: tuple[Apart, ...]


def dask_terms(request: EstimateRequest, exact: bool) -> tuple[Any, Any, Any]:
    """Log likelihood, log prior and log q of each draw (*batch, draws).

    Draws of replicates have two axes, of which the last is that within a replicate.
    """
    array = optional("dask.array", "client=", '"fastelbo[dask]"')
    delayed = optional("dask", "client=", '"fastelbo[dask]"').delayed
    functions, shared = pack_functions(request)
    width, per_replicate = _width(request), request.cut.draws
    rows, make = [], delayed(_block, pure=True)
    for lo, count in _points(request, width):
        points, apart = pack_points(lower(request, request.places(slice(lo, lo + count))))
        parcel = _Parcel(facts(), exact, functions, points, (*shared, *apart))
        name = f"fastelbo-points-{functions.digest}-{points.digest}"
        node, blocks = delayed(parcel, name=name, traverse=False), []
        for start in range(0, request.n_samples, width):
            stop = min(request.n_samples, start + width)
            inner = min(stop - start, per_replicate)
            block = make(node, lo, start, stop, inner)
            shape = 3, count, (stop - start) // inner, inner
            blocks.append(array.from_delayed(block, shape, dtype=np.float64))
        rows.append(_joined(array, blocks, per_replicate))
    if not rows:
        rows = [array.zeros((3, 0, request.cut.replicates, per_replicate))]
    whole = array.concatenate(rows, axis=1)
    whole = whole[:, :, 0] if request.design is None else whole
    if len(request.batch) != 1:
        whole = whole.reshape(3, *request.batch, *whole.shape[2:])
    return whole[0], whole[1], whole[2]


def _width(request: EstimateRequest) -> int:
    """Draws of a block: whole chunks, or whole replicates, or a part of one."""
    if request.design is None:
        return min(_DRAWS, -(-request.n_samples // CHUNK) * CHUNK)
    draws = request.cut.draws
    return draws * min(request.cut.replicates, _DRAWS // draws) if draws < _DRAWS else _DRAWS


def _points(request: EstimateRequest, width: int) -> list[tuple[int, int]]:
    """First data points and counts of the rows of blocks."""
    group = group_size(request)
    step = group * max(1, _DRAWS // min(width, request.n_samples) // group)
    return [(lo, min(step, request.points - lo)) for lo in range(0, request.points, step)]


def _joined(array: Any, blocks: list[Any], per_replicate: int) -> Any:
    """Blocks (3, count, replicates, draws) along replicates, or within them."""
    if blocks[0].shape[3] == per_replicate:
        return array.concatenate(blocks, axis=2)
    parts = per_replicate // blocks[0].shape[3] + bool(per_replicate % blocks[0].shape[3])
    inner = [
        array.concatenate(blocks[first : first + parts], axis=3)
        for first in range(0, len(blocks), parts)
    ]
    return array.concatenate(inner, axis=2)


def _block(parcel: _Parcel, lo: int, start: int, stop: int, inner: int) -> Floats:
    """The terms (3, points, replicates, draws) of draws start to stop."""
    order = Order(*parcel[:4], workers.terms, (start, stop))
    out: Floats = workers.run(order, *(each.content for each in parcel.apart)).value
    _refuse_nan(out, lo, start)
    return out.reshape(3, out.shape[1], -1, inner)


def _refuse_nan(terms: Floats, lo: int, start: int) -> None:
    for name, array in zip(NAMES, terms, strict=True):
        if np.isnan(array).any():
            point, draw = np.argwhere(np.isnan(array))[0]
            raise InvalidWeightError(
                f"{int(np.isnan(array).sum())} numbers of {name} are NaN in a block of draws, the "
                f"first at data point {lo + int(point)}, draw {start + int(draw)}: scales and "
                "distances of model and q differ so much that their products and ratios are beyond "
                "the largest float, or a function returned NaN"
            )
