"""Tail lengths and thresholds for Pareto k-hat, and the fit of given tails."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import constant
from ..kernels.cpu import tails as kernels
from ..kernels.cpu.launch import launch, paced
from ..validation import Floats, Integers

# Evaluations of a logarithm in the first launch.
_FIRST_WORK = 2**24


def tail_length(n_samples: int, r_eff: Any = 1.0) -> Integers:
    """M, the number of draws in the tail: ``ceil(min(K / 5, 3 sqrt(K / r_eff)))``.

    Source: Vehtari et al. (2024, JMLR 25). r_eff is the relative efficiency of correlated draws.
    """
    with np.errstate(over="ignore", under="ignore"):
        efficient = 3.0 * np.sqrt(n_samples / np.asarray(r_eff, dtype=np.float64))
    return np.ceil(np.minimum(n_samples / 5.0, efficient)).astype(np.int64)


# Largest squared standard error v/K: the delta method is a first-order expansion in it.
LOW_ESS_VARIANCE = 0.01

# Upper limit for the number of largest log weights stored per data point while draws stream.
MAX_KEPT = 4096


def kept_draws(n_samples: int) -> int:
    """M + 1, the number of largest log weights that the k-hat of K streamed draws needs.

    M is at most `MAX_KEPT` - 1. The result is 0 if K is too small for a k-hat.
    """
    size = min(int(tail_length(n_samples)) + 1, MAX_KEPT)
    return size if size > kernels.LEAST_TAIL else 0


# The limit of k-hat for many draws: above it, their number grows too fast to be of help.
MOST_LIMIT = 0.7


def k_threshold(n_samples: int) -> float:
    """The largest k-hat for which an estimate from K draws can be trusted.

    It is ``min(1 - 1 / log10 K, 0.7)`` (Vehtari et al., 2024).
    """
    if n_samples < 2:
        return -np.inf
    return float(min(1.0 - 1.0 / np.log10(n_samples), MOST_LIMIT))


def pareto_k_classes(
    pareto_k: Floats, threshold: float
) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Interval and name of each class of k-hat, and a flag for each data point that is in it.

    The classes are good (up to ``threshold``), bad (up to 1) and very bad (above 1). If there are
    NaN, they have a class "unknown".
    """
    classes = []
    # One draw, or an exact sum, has no k-hat and no threshold.
    if threshold > -np.inf:
        classes = [
            (f"(-inf, {threshold:.2f}]", "good", pareto_k <= threshold),
            (f"({threshold:.2f}, 1]", "bad", (pareto_k > threshold) & (pareto_k <= 1.0)),
            ("(1, inf)", "very bad", pareto_k > 1.0),
        ]
    unknown = np.isnan(pareto_k)
    if unknown.any():
        classes.append(("NaN", "unknown", unknown))
    return classes


def draws_needed(pareto_k: Any) -> Floats:
    """Number of draws that an estimate with this k-hat needs: ``10^(1 / (1 - max(0, k)))``.

    It is infinite for k >= 1 (Vehtari et al., 2024).
    """
    k = np.maximum(0.0, pareto_k)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.asarray(np.where(k < 1.0, 10.0 ** (1.0 / (1.0 - k)), k * np.inf))


class TailFits(NamedTuple):
    """Generalised Pareto fits of tails, one per row, and the grid of theta that they average."""

    status: Floats
    pareto_k: Floats
    sigma: Floats
    theta: Floats  # (rows, grid size): -k / sigma
    k: Floats  # the most likely k for each theta
    log_likelihood: Floats


def fit_tails(
    tails: Floats, *, logs: bool = True, grid: bool = True, n_threads: int | None = None
) -> TailFits:
    """Fit rows of the M + 1 largest values, in any order, or of the logs of these.

    Sigma is relative to the largest, or to the largest excess of values that are no logs.
    """
    tails = constant(tails)
    rows, size = len(tails), tails.shape[1] - 1
    results = np.full((rows, kernels.RESULT_SIZE), np.nan)
    grid_size = 30 + int(np.sqrt(size)) if grid else 0
    grids = [np.full((rows, grid_size), np.nan) for _ in range(3)]
    paced(
        rows,
        lambda lo, hi: launch(
            kernels.fits, tails, logs, lo, hi, results, *grids, n_threads=n_threads
        ),
        _FIRST_WORK // (30 * (size + 1)),
    )
    return TailFits(
        results[:, kernels.STATUS], results[:, kernels.PARETO_K], results[:, kernels.SIGMA], *grids
    )
