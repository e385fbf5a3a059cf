"""What leave-one-out cross-validation computes for each observation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..arrays.chains import require_no_copies
from ..arrays.draws import Draws
from ..arrays.inputs import constant, in_native_floats
from ..errors import InvalidWeightError
from ..kernels.cpu import tails
from ..kernels.jit.threads import apart
from ..validation import Floats
from .convergence import effective_draws, halves
from .reductions import logsumexp_of_rows
from .smoothing import TailRows

# Numbers of which likelihoods are computed at a time.
_BLOCK = 2**21


class Pointwise(NamedTuple):
    """Results by observation."""

    values: Floats  # (N, RESULT_SIZE): those of the kernels
    elpd: Floats
    lppd: Floats  # log of the mean density
    mcse: Floats  # Monte Carlo standard error of elpd
    ess: Floats
    efficiency: Floats


def pointwise_of_array(
    draws: Draws, efficiency: Floats | None, correction: Floats | None
) -> Pointwise:
    """See `pointwise`. Chains that are copies of each other are refused."""
    if len(draws.axes) == 2:
        require_no_copies(by_chain(draws), draws.name)
    return pointwise(draws, efficiency, correction)


def pointwise(
    draws: Draws,
    efficiency: Floats | None,
    correction: Floats | None,
    kind: type[TailRows] = TailRows,
) -> Pointwise:
    """The results of log likelihoods; ``efficiency`` None is computed from their chains.

    ``correction`` is log p - log q of each draw of an approximate posterior.
    """
    efficiency = relative_efficiency(draws) if efficiency is None else efficiency
    rows = kind(draws, efficiency, sign=-1.0)
    with np.errstate(over="ignore"):
        log_sum = logsumexp_of_rows(rows.x, rows.n_threads).astype(rows.x.dtype).reshape(-1)
    lppd = log_sum.astype(np.float64) - math.log(rows.length)
    if np.isposinf(lppd).any() or (correction is not None and not np.isfinite(rows.x).all()):
        rows.refuse()
    values, elpd, spread = _smoothed(rows, correction)
    efficiency = np.array(efficiency.reshape(-1))
    mcse, ess = spread[0] / np.sqrt(efficiency), spread[1] * efficiency
    return Pointwise(values, elpd, lppd, mcse, ess, efficiency)


def by_chain(draws: Draws) -> np.ndarray[Any, Any]:
    """The array (chains, draws, ...), by the names of its axes where these say which is which."""
    named = "chain" in draws.dims[1:] or "draw" in draws.dims[:1]
    return np.moveaxis(draws.array, draws.axes[::-1] if named else draws.axes, (0, 1))


def relative_efficiency(draws: Draws) -> Floats:
    """Effective number of draws of each likelihood over their number, from chains.

    It is 1 where chains are too short to tell. Its last bits depend on the layout of the array.
    """
    array = in_native_floats(by_chain(draws))
    columns = array.reshape(*array.shape[:2], math.prod(draws.batch))
    step = max(1, _BLOCK // draws.length)
    efficiency = np.ones(columns.shape[2])
    for lo in range(0, len(efficiency), step):
        part = columns[..., lo : lo + step].astype(np.float64)
        with np.errstate(under="ignore", over="ignore", invalid="ignore"):
            likelihood = np.exp(part - part.max(axis=(0, 1)))
        found = effective_draws(halves(likelihood)) / draws.length
        efficiency[lo : lo + step] = np.where(np.isfinite(found), found, 1.0)
    return efficiency.reshape(draws.batch)


def _smoothed(rows: TailRows, correction: Floats | None) -> tuple[Floats, Floats, Floats]:
    """The kernels' result, elpd, and its relative spread and effective draws, by observation."""
    count = rows.x.shape[0] * rows.x.shape[2]
    values, elpd = np.empty((count, tails.RESULT_SIZE)), np.empty(count)
    spread = np.empty((2, count))
    for place, part in rows.parts():
        log_likelihood = part.x[..., 0].astype(np.float64, copy=False)
        if correction is not None:
            part.sign, part.x = 1.0, constant(_corrected(correction, log_likelihood)[..., None])
        smoothed = np.empty(part.x.shape)
        values[place] = part.fit(smoothed)
        smoothed = smoothed[..., 0]
        if correction is None:
            # Outside of the tail, weight times density is 1.
            total = values[place, tails.LOG_MEAN_CHANGE]
            elpd[place] = total - values[place, tails.SMOOTHED_LOG_EVIDENCE]
        else:
            elpd[place] = _log_means(smoothed, log_likelihood, part.n_threads)
        spread[:, place] = _spread(smoothed, log_likelihood, elpd[place])
    return values, elpd, spread


def _corrected(correction: Floats, log_likelihood: Floats) -> Floats:
    """The log ratios of draws of an approximation, by observation."""
    with np.errstate(over="ignore", invalid="ignore"):
        ratios = np.asarray(correction - log_likelihood)
    if not np.isfinite(ratios).all():
        draw = int(np.argwhere(~np.isfinite(ratios))[0, -1])
        raise InvalidWeightError(
            "log_p - log_q - log_likelihood must be finite, got log_p - log_q = "
            f"{correction[draw]:.6g} at draw {draw}"
        )
    return ratios


@apart
def _log_means(log_weights: Floats, log_likelihood: Floats, n_threads: int | None) -> Floats:
    """log of the weighted mean of the densities of each row."""
    with np.errstate(over="ignore", invalid="ignore"):
        both = log_weights + log_likelihood
    top, bottom = (logsumexp_of_rows(x[..., None], n_threads)[:, 0] for x in (both, log_weights))
    return top - bottom


@apart
def _spread(log_weights: Floats, log_likelihood: Floats, elpd: Floats) -> Floats:
    """Relative error of the weighted mean of the densities of each row, and ``1 / sum w^2``."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        shifted = log_weights - log_weights.max(axis=1, keepdims=True)
        weights = np.exp(shifted)
        total = weights.sum(axis=1)
        # The logs together: a density alone may be beyond the largest float.
        changes = np.exp(shifted + (log_likelihood - elpd[:, None])) - weights
        error = np.sqrt((changes**2).sum(axis=1)) / total
        ess = total**2 / (weights**2).sum(axis=1)
    return np.array([error, ess])
