"""Importance-weighted bounds of existing log weights in replicates.

A group has one draw of each of k replicates. The draws of a replicate are permuted by a bijection
that is made from its address and not linear: points of equal index in two replicates are dependent,
as a digital shift keeps the differences of points. See `fastelbo.kernels.state.matched`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import drop_pages, memory_map
from ..kernels.cpu import rows as kernels
from ..kernels.cpu.launch import launch, threads_for
from ..kernels.draws.sobol import UNIT
from ..validation import Floats
from .scaled import mean_and_error

# Most log weights at once: arrays of 8 MB.
_MOST_ELEMENTS = 2**20


def group_quantities(
    x: np.ndarray[Any, Any], replicates: int, sizes: tuple[int, ...]
) -> dict[str, Floats]:
    """The bounds of rows of x (A, R n, B), with n a power of two.

    ``iw_value`` and ``iw_se``, (A B, sizes), are mean and error over all groups as if they were
    independent. ``replicate_iw``, (A B, sizes, R), has the mean over the groups of each of the
    R // k sets of replicates, and NaN beyond.
    """
    before, length, after = x.shape
    points = before * after
    value, se = np.empty((points, len(sizes))), np.empty((points, len(sizes)))
    means = np.full((points, len(sizes), replicates), np.nan)
    step = max(1, _MOST_ELEMENTS // length) if sizes else max(1, points)
    for lo in range(0, points if sizes else 0, step):
        rows = np.arange(lo, min(points, lo + step))
        drawn = x[rows // after, :, rows % after].astype(np.float64)
        drop_pages(memory_map(x))
        drawn = drawn.reshape(len(rows), replicates, length // replicates)
        drawn = np.take_along_axis(drawn, permutations(lo, drawn.shape), axis=-1)
        for j, k in enumerate(sizes):
            groups = group_values(drawn, k)
            value[rows, j], se[rows, j] = mean_and_error(groups.reshape(len(rows), -1))
            means[rows, j, : groups.shape[1]] = mean_and_error(groups)[0]
    return {"iw_value": value, "iw_se": se, "replicate_iw": means}


def permutations(first_index: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Permuted indices (points, replicates, n), each of the draws of its replicate, for key 0."""
    places = np.empty(shape, np.int64)
    launch(
        kernels.permutations, np.uint64(0), first_index, min(shape[-1], UNIT), places,
        n_threads=threads_for(places.size), work=2**4 * places.size,
    )  # fmt: skip
    return places


@np.errstate(divide="ignore", under="ignore", over="ignore", invalid="ignore")
def group_values(log_weights: Floats, k: int) -> Floats:
    """Log mean weights (N, sets, n) of the groups of k rows of log weights (N, R, n)."""
    points, replicates, n = log_weights.shape
    sets = replicates // k
    groups = log_weights[:, : sets * k].reshape(points, sets, k, n)
    top = groups.max(axis=2)
    shift = np.where(np.isneginf(top), 0.0, top)
    mean = np.exp(groups - shift[:, :, None]).sum(axis=2) / k
    return np.asarray(np.where(np.isneginf(top), -np.inf, shift + np.log(mean)))


def in_powers_of_two(n: int) -> bool:
    """Whether n draws of a replicate can be permuted."""
    return n > 0 and math.log2(n).is_integer()
