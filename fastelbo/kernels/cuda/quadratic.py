"""Log densities with full covariances at many points, by matrix products of warps.

A warp takes 32 points, in four groups of 8, and keeps them in registers. For each component, it
multiplies 8 rows of the triangular factor at a time by the points of each group, in steps of 4
coordinates, and sums the squares. Each thread then has the squared norm of one point. The factor is
in shared memory, in the order in which threads read it (`ordered`).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..draws.blocks import Density, Real, row_of
from ..draws.densities import add_term
from ..draws.radial import log_radial
from ..jit.compile import block
from ..math.scalar import log_positive
from .device import BLOCK_THREADS, SIMULATED, cuda, device_kernel
from .warps import (
    COLUMNS,
    ROWS,
    STEP,
    WARP,
    multiply,
    sum_over_rows,
)

# Largest dimension with which 32 points fit into the registers of a warp.
MOST = 64
# Threads per block, which is also the number of points per block.
THREADS = WARP if SIMULATED else BLOCK_THREADS


def _steps(dim: int) -> int:
    return -(-dim // STEP)


def _row_steps(dim: int) -> list[int]:
    """Number of steps for each block of eight rows, which ends on the diagonal."""
    blocks = -(-dim // ROWS)
    return [min((block + 1) * ROWS // STEP, _steps(dim)) for block in range(blocks)]


def ordered(density: Density, dim: int) -> Density:
    """The density with its triangular factors as (N or 1, C, parts, 32), padded with zeros.

    A part is 8 rows and 4 columns of a factor, one number for each thread of a warp.
    """
    counts = _row_steps(dim)
    block = np.repeat(np.arange(len(counts)), counts)
    step = np.concatenate([np.arange(count) for count in counts])
    lane = np.arange(WARP)
    rows = ROWS * block[:, None] + lane // STEP
    columns = STEP * step[:, None] + lane % STEP
    factor, target = (_to_whole_rows(part, dim) for part in (density.factor, density.target))
    return density._replace(factor=factor[:, :, rows, columns], target=target)


def _to_whole_rows(array: Real, dim: int) -> Real:
    """The array, padded with zeros to a multiple of 8 on all axes but the first two."""
    length = -(-dim // ROWS) * ROWS
    widths = [(0, 0)] * 2 + [(0, length - n) if n < length else (0, 0) for n in array.shape[2:]]
    return np.pad(array, widths)


@functools.cache
def log_prob(dim: int) -> Any:
    """Kernel: out[p, i] = log density of member i at points[p, i], from an `ordered` density."""
    counts = _row_steps(dim)
    steps, blocks, size = _steps(dim), len(counts), sum(counts) * WARP

    @block
    def load(points, centre, first, i, v):
        """v[s, g] = this thread's coordinate in step s, of its point in group g."""
        lane = cuda.threadIdx.x % WARP
        middle = row_of(i, centre.shape[0])
        for s in range(steps):
            d = STEP * s + lane % STEP
            for g in range(4):
                p = first + COLUMNS * g + lane // STEP
                there = p < points.shape[0] and d < dim
                v[s, g] = points[p, i, d] - centre[middle, d] if there else 0.0

    @device_kernel
    def fill_log_prob(density, centre, points, n_blocks, out):
        me = cuda.threadIdx.x
        lane = me % WARP
        i, b = cuda.blockIdx.x // n_blocks, cuda.blockIdx.x % n_blocks
        near = cuda.shared.array(size, np.float64)
        v = cuda.local.array((steps, 4), np.float64)
        square = cuda.local.array(1, np.float64)
        term = cuda.local.array(1, np.float64)
        first = np.int64(b) * THREADS + me // WARP * WARP
        load(points, centre, first, i, v)
        factor = density.factor[row_of(i, density.factor.shape[0])]
        target = density.target[row_of(i, density.target.shape[0])]
        top, total = -np.inf, 1.0
        for c in range(factor.shape[0]):
            cuda.syncthreads()
            for k in range(me, size, THREADS):
                near[k] = factor[c, k // WARP, k % WARP]
            cuda.syncthreads()
            x0 = x1 = x2 = x3 = x4 = x5 = x6 = x7 = 0.0
            part = np.uint64(lane)
            for j in range(blocks):
                y0 = y1 = y2 = y3 = y4 = y5 = y6 = y7 = -target[c, ROWS * j + lane // STEP]
                for s in range(steps):
                    if s * STEP < (j + 1) * ROWS:
                        a = near[part]
                        y0, y1 = multiply(a, v[s, 0], y0, y1)
                        y2, y3 = multiply(a, v[s, 1], y2, y3)
                        y4, y5 = multiply(a, v[s, 2], y4, y5)
                        y6, y7 = multiply(a, v[s, 3], y6, y7)
                        part += np.uint64(WARP)
                x0, x1, x2, x3 = x0 + y0 * y0, x1 + y1 * y1, x2 + y2 * y2, x3 + y3 * y3
                x4, x5, x6, x7 = x4 + y4 * y4, x5 + y5 * y5, x6 + y6 * y6, x7 + y7 * y7
            square[0] = sum_over_rows(x0, x1, x2, x3, x4, x5, x6, x7)
            log_radial(density, i, c, 0.0, square, dim, 1, term)
            if c == 0:
                top = term[0]
            else:
                top, total = add_term(top, total, term[0], 1.0)
        value = lane // STEP
        p = first + COLUMNS * (value // 2) + 2 * (lane % STEP) + value % 2
        if p < points.shape[0]:
            out[p, i] = top + log_positive(total)

    return fill_log_prob
