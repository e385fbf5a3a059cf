"""Random generator matrices for the replicates of a Sobol sequence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..draws import sobol
from .launch import launch, threads_for


def scrambled_columns(
    directions: NDArray[np.uint32], replicates: int, key: int
) -> NDArray[np.uint32]:
    """Columns (replicates, coordinates, 32) of the generator matrices of each replicate."""
    columns = np.empty((replicates, *directions.shape), np.uint32)
    threads = threads_for(columns.size)
    launch(sobol.scrambles, directions, np.uint64(key), columns, n_threads=threads)
    return columns
