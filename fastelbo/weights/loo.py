"""Leave-one-out cross-validation by Pareto smoothed importance sampling."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.draws import Dim, Draws, read_draws
from ..arrays.inputs import as_floats
from ..arrays.lazy import is_dask_array
from ..arrays.protocols import HasVariables
from ..errors import InvalidInputError
from ..kernels.cpu import tails
from ..validation import Floats, shown
from .dask_tails import pointwise_of_dask
from .loo_pointwise import pointwise_of_array
from .loo_result import LooResult
from .pareto import draws_needed, k_threshold
from .scaled import root_sum_of_squares, sum_and_error
from .smoothing import efficiencies, warn_about_tails


def loo(
    log_likelihood: ArrayLike | Path | HasVariables,
    r_eff: ArrayLike | None = None,
    axis: int | None = None,
    *,
    log_p: ArrayLike | None = None,
    log_q: ArrayLike | None = None,
    dim: Dim = None,
    var: str | None = None,
) -> LooResult:
    """Leave-one-out cross-validation by Pareto smoothed importance sampling.

    Parameters
    ----------
    log_likelihood : (draws, N) or (chains, draws, N) array_like, path, xarray object or Dask array
        ``log p(y_i | z_s)`` of N observations, with draws z_s from the posterior given all of them,
        or from an approximation of it. The dimensions "chain" and "draw", or "sample", of an xarray
        object are its draws; all others are observations. Of an InferenceData or DataTree, they are
        looked for in the group "log_likelihood". A Dask array is never loaded: a task takes all
        draws of some observations, as in `psis`, and gives its results by observation. They are the
        same, or those of an ``r_eff`` that differs by rounding if it is computed.
    r_eff : float or (N,) array_like, optional
        Relative efficiency of the draws for ``p(y_i | z_s)``: effective number of draws over number
        of draws. By default it is computed where the chains are known, by three axes or by the
        dimensions "chain" and "draw"; else, and for an approximation, it is 1: draws are taken as
        independent. In the shape of the observations, where an xarray object has several
        dimensions of them.
    axis : int, optional
        The axis of the draws; the first by default.
    log_p, log_q : (draws,) or (chains, draws) array_like, optional
        For draws of an approximation q of the posterior: its log density at each draw, and that of
        the posterior, or log p(y, z). Constants do not matter.
    dim : str or sequence of str, optional
        Dimensions of the draws of an xarray object, joined in this order, where they have other
        names. Two of them are chains and draws, in any order if one is "chain" or "draw".
    var : str, optional
        Variable of a Dataset, DataTree or InferenceData, where it has several, as ``"y"`` or
        ``"group/y"``; the latter is needed where there is no group "log_likelihood".

    Returns
    -------
    LooResult

    Raises
    ------
    InvalidInputError
        If an array has another number of axes, if an argument is invalid, if one of log_p and log_q
        is missing, or if the names of an xarray object do not say which dimensions are the draws.
    InvalidWeightError
        If a log likelihood, or log_p - log_q less it, is not finite.
    ClusterError
        If the workers that compute a part of a Dask array die, one after the other.

    Warns
    -----
    HighParetoKWarning
        If k-hat is above the threshold: without the observation, the posterior is too different.
    ShortTailWarning
        If there are too few draws, or too few different ones.
    DrawsAxisWarning
        If the first axis, taken by default, has few draws beside a long axis.

    Notes
    -----
    The weights w_s are proportional to the smoothed ``1 / p(y_i | z_s)``, or to the smoothed
    ``p(z_s) / (q(z_s) p(y_i | z_s))`` for an approximation (Magnusson, Andersen, Jonasson and
    Vehtari, 2019, ICML). Then ``elpd_i = log(sum_s w_s p(y_i | z_s) / sum_s w_s)`` and
    ``p_loo = sum_i (lppd_i - elpd_i)`` with ``lppd_i = log mean_s p(y_i | z_s)``, for an
    approximation too, as in the R package loo. A standard error is sqrt(N) times the sample
    standard deviation of the pointwise values (Vehtari, Gelman and Gabry, 2017, Statistics and
    Computing 27). It treats observations as independent and pointwise values as exact. The Monte
    Carlo standard error of elpd_i is ``sqrt(sum_s w_s^2 (p(y_i | z_s) / exp(elpd_i) - 1)^2 /
    r_eff_i) / sum_s w_s``, by the delta method.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=20)
    >>> mean = rng.normal(y.mean(), 20**-0.5, size=(4000, 1))  # its posterior, under a flat prior
    >>> result = fe.loo(-0.5 * (y - mean) ** 2 - 0.5 * np.log(2 * np.pi))
    >>> bool(abs(result.p_loo - 1.0) < 0.5)
    True
    >>> q = fe.Gaussian([y.mean()], scale=0.3)  # an approximation, wider than the posterior
    >>> z = q.sample(4000, rng=0)
    >>> log_likelihood = -0.5 * (y - z) ** 2 - 0.5 * np.log(2 * np.pi)
    >>> approximate = fe.loo(log_likelihood, log_p=log_likelihood.sum(axis=1), log_q=q.log_prob(z))
    >>> bool(abs(approximate.elpd_loo - result.elpd_loo) < 0.1)
    True
    """
    draws = read_draws(
        log_likelihood, "log_likelihood", axis, dim, var,
        default=0, group="log_likelihood", terms=False, lazy=True,
    )  # fmt: skip
    draws = _with_chains(draws, axis)
    correction = _correction(log_p, log_q, draws)
    if r_eff is None and (correction is not None or len(draws.axes) != 2):
        r_eff = 1.0
    efficiency = None if r_eff is None else efficiencies(r_eff, draws.batch)
    pointwise = pointwise_of_dask if is_dask_array(draws.array) else pointwise_of_array
    found = pointwise(draws.checked(), efficiency, correction)
    warn_about_tails(found.values, draws.length, "log_likelihood")
    elpd, elpd_se = sum_and_error(found.elpd)
    p_loo, p_loo_se = sum_and_error(found.lppd, -found.elpd)
    k, threshold = found.values[:, tails.PARETO_K], k_threshold(draws.length)
    unknown = np.isin(found.values[:, tails.STATUS], (tails.SHORT, tails.TIED))
    known = not (unknown | (k > threshold)).any()
    return LooResult(
        elpd, elpd_se, p_loo, p_loo_se, found.elpd, k, threshold, draws_needed(k),
        root_sum_of_squares(found.mcse) if known else math.nan, found.mcse, found.ess,
        found.efficiency,
    )  # fmt: skip


def _with_chains(draws: Draws, axis: int | None) -> Draws:
    """The draws; of an array with three axes, the first two are those of chains and draws."""
    if draws.named or draws.array.ndim == 2:
        _check_dims(draws)
        return draws
    shape = draws.array.shape
    if draws.array.ndim != 3 or axis is not None:
        raise InvalidInputError(
            "log_likelihood must have shape (draws, N), or (chains, draws, N) without axis, got "
            f"{shape} with axis {axis}"
        )
    if shape[0] > shape[1]:
        raise InvalidInputError(
            f"log_likelihood must have shape (chains, draws, N), got {shape[0]} chains of "
            f"{shape[1]} draws; swap its first axes"
        )
    return draws._replace(axes=(0, 1), assumed=False)


def _check_dims(draws: Draws) -> None:
    """Refuse two dimensions without a known name that are draws and chains, not these in order."""
    if len(draws.dims) != 2 or {"chain", "draw"} & {*draws.dims}:
        return
    chains, count = (draws.array.shape[each] for each in draws.axes)
    if chains > count:
        first, second = draws.dims
        raise InvalidInputError(
            f"dim must name the chains and then the draws, got {chains} chains of {count} draws "
            f"by {draws.dims}; say dim={(second, first)}"
        )


def _correction(log_p: Any, log_q: Any, draws: Draws) -> Floats | None:
    """log p - log q of each draw, in the order in which the axes of draws are joined."""
    given = {"log_p": log_p, "log_q": log_q}
    if log_p is None and log_q is None:
        return None
    sizes = tuple(int(draws.array.shape[each]) for each in draws.axes)
    found = []
    for name, value in given.items():
        if value is None:
            raise InvalidInputError(f"log_p and log_q must be given together, got {name}=None")
        array = as_floats(value, name)
        if array.shape not in (sizes, (math.prod(sizes),)):
            raise InvalidInputError(
                f"{name} must have a number for each draw of log_likelihood, along its axis "
                f"{', '.join(map(str, draws.axes))}, shape {sizes}, got {shown(array)}"
            )
        found.append(array.reshape(-1))
    with np.errstate(over="ignore"):
        return np.asarray(found[0] - found[1])
