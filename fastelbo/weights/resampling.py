"""Resampling: draw indices in proportion to weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arrays.draws import Dim
from ..arrays.protocols import LogWeights
from ..errors import InvalidInputError, InvalidWeightError
from ..kernels.jit.threads import apart
from ..random import RandomState, generator
from ..validation import Floats, Integers, as_choice, as_count, as_flag
from .reductions import logsumexp, weight_rows

METHODS = ("systematic", "stratified", "multinomial", "residual")
# NumPy draws this many numbers within a few hundredths of a second.
_PIECE = 2**20


def resample(
    log_weights: LogWeights,
    n: int,
    method: str = "systematic",
    replace: bool = True,
    rng: RandomState = None,
    *,
    axis: int | None = None,
    dim: Dim = None,
) -> Integers:
    """Indices of draws, chosen in proportion to their weights.

    Parameters
    ----------
    log_weights : (..., K) array_like, path, ElboTerms or DataArray
        Log weights, normalised or not; -inf is a weight of 0, which is never chosen.
    n : int
        Number of indices for each row.
    method : {"systematic", "stratified", "multinomial", "residual"}
        Sampling method with replacement. It determines how counts vary about their expectation; see
        Notes.
    replace : bool
        If False, each index is chosen at most once: indices are drawn one after the other, in
        proportion to the weights of the remaining ones. ``method`` then has no effect.
    rng : None, int, SeedSequence or Generator
        Seed. An int repeats the indices, a Generator advances.
    axis : int, optional
        The axis of the draws; the last by default.
    dim : str or sequence of str, optional
        Dimensions of the draws of an xarray object, as for `fastelbo.summarize`. Of
        several, the indices count the draws that they make together, in this order.

    Returns
    -------
    (..., n) ndarray of int64
        Indices in ascending order; without replacement, in the order of drawing.

    Raises
    ------
    InvalidWeightError
        If a log weight is NaN or +inf, or if a row has no positive weight.
    InvalidInputError
        If an argument is invalid, or if, without replacement, n exceeds the number of positive
        weights.

    Notes
    -----
    For every method, the expected count of index i is ``n w_i / sum w``.

    - multinomial: n independent draws.
    - stratified: one uniform number in each of n equal intervals.
    - systematic: the same uniform offset in each of n equal intervals. A count differs from its
      expectation by less than 1.
    - residual: the integer parts of the expected counts are fixed, and the others are drawn
      independently (Douc, Cappe and Moulines, 2005).

    Without replacement, the result is the n largest of log weight plus Gumbel noise (Vieira, 2014).

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.resample([0.0, float("-inf"), 0.0], 4, rng=0).tolist()
    [0, 0, 2, 2]
    """
    rows, batch = weight_rows(log_weights, axis, dim)
    count, replace = as_count(n, "n"), as_flag(replace, "replace")
    method = as_choice(method, "method", METHODS)
    positive = np.isfinite(rows).sum(axis=1)
    if (positive == 0).any():
        raise InvalidWeightError(
            f"log_weights must have a positive weight in each row, but every weight of row "
            f"{int(np.argmin(positive))} is 0"
        )
    random = generator(rng)
    if replace:
        chosen = _with_replacement(rows, count, method, random)
    else:
        if positive.min(initial=count) < count:
            raise InvalidInputError(
                "without replacement, n must be at most the number of positive weights, got "
                f"{count} for the {int(positive.min())} of row {int(np.argmin(positive))}"
            )
        chosen = _without_replacement(rows, count, random)
    return chosen.reshape(*batch, count)


# A weight that underflows is 0 beside the largest.
@np.errstate(over="ignore", under="ignore")
def _with_replacement(
    rows: Floats, n: int, method: str, generator: np.random.Generator
) -> Integers:
    weights = _relative(rows, logsumexp(rows, axis=1, keepdims=True))
    chosen = np.empty((len(rows), n), dtype=np.int64)
    for out, row in zip(chosen, weights, strict=True):
        out[:] = (
            _residual(row, n, generator)
            if method == "residual"
            else _at(row, _positions(n, method, generator))
        )
    return chosen


@apart
def _relative(rows: Floats, log_sum: Floats) -> Floats:
    return np.asarray(np.exp(rows - log_sum))


def _drawn(draw: Callable[..., Any], shape: int | tuple[int, ...]) -> Floats:
    """Random numbers in short steps, between which an interrupt is served.

    Not on another thread, which would go on with the user's generator after an interrupt.
    """
    out = np.empty(shape)
    flat = out.reshape(-1)
    for lo in range(0, flat.size, _PIECE):
        draw(out=flat[lo : lo + _PIECE])
    return out


def _positions(n: int, method: str, generator: np.random.Generator) -> Floats:
    """n ascending positions in [0, 1)."""
    if method == "systematic":
        return np.asarray((np.arange(n) + generator.random()) / n)
    if method == "stratified":
        return np.asarray((np.arange(n) + _drawn(generator.random, n)) / n)
    return _ascending(_drawn(generator.random, n))


@apart
def _ascending(numbers: Floats) -> Floats:
    return np.sort(numbers)


@apart
def _at(weights: Floats, positions: Floats) -> Integers:
    """For each position, the index whose interval of cumulative weight contains it."""
    ends = np.cumsum(weights)
    found = np.searchsorted(ends, positions * ends[-1], side="right")
    # Rounding may move a position just below 1 to the end, beyond the last positive weight.
    return np.asarray(np.minimum(found, np.flatnonzero(weights)[-1]))


def _residual(weights: Floats, n: int, generator: np.random.Generator) -> Integers:
    counts, fractions = _whole_counts(weights, n)
    left = n - int(counts.sum())
    others = _at(fractions, _positions(left, "multinomial", generator)) if left > 0 else counts[:0]
    return _repeated(counts, others)


@apart
def _whole_counts(weights: Floats, n: int) -> tuple[Integers, Floats]:
    """The expected counts: their integer parts and the rest."""
    expected = n * (weights / weights.sum())
    whole = np.floor(expected)
    return whole.astype(np.int64), expected - whole


@apart
def _repeated(counts: Integers, others: Integers) -> Integers:
    """Each index as often as it is counted, and once more for each time among the others."""
    counts = counts + np.bincount(others, minlength=len(counts))
    index = np.arange(len(counts))
    # In short steps, since no other thread runs meanwhile.
    pieces = [slice(lo, lo + _PIECE) for lo in range(0, len(counts), _PIECE)]
    return np.concatenate([np.repeat(index[piece], counts[piece]) for piece in pieces])


def _without_replacement(rows: Floats, n: int, generator: np.random.Generator) -> Integers:
    return _least_keys(rows, _drawn(generator.standard_exponential, rows.shape), n)


@apart
def _least_keys(rows: Floats, exponentials: Floats, n: int) -> Integers:
    """Indices of the n least exponentials relative to their weights, in this order."""
    with np.errstate(divide="ignore"):
        keys = np.log(exponentials) - rows
    least = np.argpartition(keys, n - 1, axis=1)[:, :n]
    order = np.argsort(np.take_along_axis(keys, least, axis=1), axis=1)
    return np.asarray(np.take_along_axis(least, order, axis=1))
