"""What states say: the estimates of data points, and their errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.cpu.launch import launch
from ..kernels.state.reading import read_states
from ..validation import Floats

# One thread reads this many numbers of states in the time that other threads take to start.
_FEW_NUMBERS = 2**18


class Readings(NamedTuple):
    """Quantities of some data points, each (N,), and those of bounds, (N, number of sizes)."""

    log_evidence: Floats
    elbo: Floats
    expected_log_likelihood: Floats
    kl: Floats
    relative_variance: Floats
    ess: Floats
    elbo_se: Floats
    expected_log_likelihood_se: Floats
    kl_se: Floats
    jensen_gap_se: Floats
    n_zero: Floats
    largest_share: Floats
    n_bad: Floats
    first_bad: Floats
    iw_value: Floats
    iw_se: Floats

    def part(self, first: int, stop: int) -> Readings:
        """Those of some of the data points."""
        return Readings(*(each[first:stop] for each in self))


def make_readings(points: int, group_sizes: int) -> Readings:
    """Room for quantities; each is an array of its own, which does not keep the others alive."""
    single = len(Readings._fields) - 2
    return Readings(
        *(np.empty(points) for _ in range(single)),
        *(np.empty((points, group_sizes)) for _ in range(2)),
    )


@np.errstate(all="ignore")
def read(states: Floats, out: Readings, n_threads: int | None = None) -> None:
    """Fill ``out`` with all quantities of states, which have one row per data point."""
    points = len(states)
    top, count = np.empty(points), np.empty(points)
    threads = 1 if states.size < _FEW_NUMBERS else n_threads
    launch(read_states, states, top, count, out, n_threads=threads)
    # The log of the mean weight. Here, as the bits of NumPy's logarithms are its own.
    value = top + (np.log1p(out.log_evidence) - np.log(count))
    out.log_evidence[:] = np.where(top > -np.inf, value, -np.inf)
