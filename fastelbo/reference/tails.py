"""The generalised Pareto fit to the tails of log weights, row by row."""

from __future__ import annotations

import numpy as np

from .stream import Array

# Weights below this, relative to the largest one, have lost their digits.
UNDERFLOW = 1e-290
LEAST_TAIL = 5


def largest_share(values: Array) -> Array:
    """The largest share that one value of a row has of the sum of squares about the mean."""
    squares = (values - values.mean(axis=-1, keepdims=True)) ** 2
    return np.asarray(squares.max(axis=-1) / squares.sum(axis=-1))


def pareto_k(tails: Array) -> Array:
    """Pareto k-hat of rows of the M + 1 largest log weights, descending.

    Returns
    -------
    array of shape (N,)
        NaN if M < 5, if a quarter of the tail equals the largest log weight outside of it, or if
        all values of the tail are equal. inf if three quarters of the tail underflow relative to
        the largest.
    """
    return np.array([_row(tail, logs=True) for tail in tails]).reshape(len(tails))


def plain_pareto_k(tails: Array) -> Array:
    """Pareto k-hat of rows of the M + 1 largest values themselves, descending.

    Returns
    -------
    array of shape (N,)
        As `pareto_k`; NaN also where a value is infinite.
    """
    return np.array([_row(tail, logs=False) for tail in tails]).reshape(len(tails))


def _row(tail: Array, logs: bool) -> float:
    size = len(tail) - 1
    if size < LEAST_TAIL or tail[-1] == -np.inf or not (logs or np.isfinite(tail).all()):
        return np.nan
    if logs:
        excess = np.exp(tail[:-1] - tail[0]) - np.exp(tail[-1] - tail[0])
    else:
        half = 0.5 * tail
        span = half[0] - half[-1]
        excess = (half[:-1] - half[-1]) / (span if span > 0.0 else 1.0)
    quarter = size - int(size / 4 + 0.5)
    if tail[quarter] == tail[-1] or excess[0] == excess[-1]:
        return np.nan
    if excess[quarter] < UNDERFLOW:
        return np.inf
    n_points = 30 + int(np.sqrt(size))
    j = np.arange(1, n_points + 1)
    theta = 1.0 / excess[0] + (1.0 - np.sqrt(n_points / (j - 0.5))) / (3.0 * excess[quarter])
    with np.errstate(divide="ignore", invalid="ignore"):
        k = np.log1p(-theta[:, None] * excess).mean(axis=1)
        log_lik = size * (np.log(-theta / k) - k - 1.0)
    log_lik = np.where(np.isnan(log_lik), -np.inf, log_lik)
    weight = np.exp(log_lik - log_lik.max())
    mean = (weight * theta).sum() / weight.sum()
    shape = np.log1p(-mean * excess).mean()
    return float((size * shape + 5.0) / (size + 10.0))
