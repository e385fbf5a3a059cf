"""Tail lengths and thresholds for Pareto k-hat, and the fit of given tails."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from ..arrays.inputs import constant
from ..kernels.cpu import tails as kernels
from ..kernels.cpu.launch import launch, paced
from ..validation import Floats, Integers

# Evaluations of a logarithm in the first launch.
_FIRST_WORK = 2**24

# K: one number of draws for all data points, or one for each.
Counts: TypeAlias = int | Integers


def tail_length(n_samples: Counts, r_eff: Any = 1.0) -> Integers:
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


@overload
def kept_draws(n_samples: int) -> int: ...
@overload
def kept_draws(n_samples: Integers) -> Integers: ...
def kept_draws(n_samples: Counts) -> Counts:
    """M + 1, the number of largest log weights that the k-hat of K streamed draws needs.

    M is at most `MAX_KEPT` - 1. The result is 0 if K is too small for a k-hat.
    """
    if np.ndim(n_samples) == 0:
        return _kept_of_one(int(n_samples))
    return _kept(n_samples)


def _kept(n_samples: Counts) -> Integers:
    size = np.minimum(tail_length(n_samples) + 1, MAX_KEPT)
    return np.asarray(np.where(size > kernels.LEAST_TAIL, size, 0))


@functools.lru_cache
def _kept_of_one(n_samples: int) -> int:
    # An estimate asks several times; NumPy takes as long as to read a few hundred states.
    return int(_kept(n_samples))


# The limit of k-hat for many draws: above it, their number grows too fast to be of help.
MOST_LIMIT = 0.7


@overload
def k_threshold(n_samples: int) -> float: ...
@overload
def k_threshold(n_samples: Integers) -> Floats: ...
@overload
def k_threshold(n_samples: Counts) -> float | Floats: ...
def k_threshold(n_samples: Counts) -> float | Floats:
    """The largest k-hat for which an estimate from K draws can be trusted.

    It is ``min(1 - 1 / log10 K, 0.7)`` (Vehtari et al., 2024).
    """
    if np.ndim(n_samples) == 0:
        return _limit_of_one(int(n_samples))
    return _limits(n_samples)


def _limits(n_samples: Counts) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.minimum(1.0 - 1.0 / np.log10(n_samples), MOST_LIMIT)
    return np.asarray(np.where(np.asarray(n_samples) < 2, -np.inf, limit))


@functools.lru_cache
def _limit_of_one(n_samples: int) -> float:
    return float(_limits(n_samples))


# The largest k-hat with which replicates of quasi-random draws are used, and the largest that needs
# no warning. With 16 replicates, 95 % intervals of Student's t alone covered 91 to 94 % at
# k = 0.44, and 86 to 92 % at k = 0.5.
REPLICATED_LIMIT = 0.5
REPLICATED_WARNED = 0.4


@overload
def k_limit(n_samples: int, replicates: int) -> float: ...
@overload
def k_limit(n_samples: Counts, replicates: int) -> float | Floats: ...
def k_limit(n_samples: Counts, replicates: int) -> float | Floats:
    """The largest k-hat with a standard error: `k_threshold`, and at most 0.5 for replicates."""
    limit = k_threshold(n_samples)
    if replicates == 1:
        return limit
    limit = np.minimum(limit, REPLICATED_LIMIT)
    return limit if limit.ndim else float(limit)


def pareto_k_classes(
    pareto_k: Floats, threshold: float | Floats, doubtful: float | None = None
) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Interval and name of each class of k-hat, and a flag for each data point that is in it.

    The classes are good (up to ``threshold``, which may be one number a data point), bad (up to 1)
    and very bad (above 1). With ``doubtful``, values above it are doubtful up to ``threshold``. If
    there are NaN, they have a class "unknown".
    """
    classes = []
    # One draw, or an exact sum, has no k-hat and no threshold.
    if np.size(threshold) and np.max(threshold) > -np.inf:
        limit = in_words(threshold, ".2f")
        good = pareto_k <= threshold
        if doubtful is not None:
            sound = good & (pareto_k <= doubtful)
            # A limit for few draws may be lower.
            lower = in_words(np.minimum(threshold, doubtful), ".2f")
            classes = [
                (f"(-inf, {lower}]", "good", sound),
                (f"({lower}, {limit}]", "doubtful", good & ~sound),
            ]
        else:
            classes = [(f"(-inf, {limit}]", "good", good)]
        classes += [
            (f"({limit}, 1]", "bad", (pareto_k > threshold) & (pareto_k <= 1.0)),
            ("(1, inf)", "very bad", pareto_k > 1.0),
        ]
    unknown = np.isnan(pareto_k)
    if unknown.any():
        classes.append(("NaN", "unknown", unknown))
    return classes


def in_words(numbers: Any, form: str = "d") -> str:
    """One number, or the least and the largest of several, as text."""
    if isinstance(numbers, int | float):
        return format(numbers, form)
    if not np.size(numbers):
        return "none"
    least, most = (format(end(numbers), form) for end in (np.min, np.max))
    return least if least == most else f"{least} to {most}"


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
