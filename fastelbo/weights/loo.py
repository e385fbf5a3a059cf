"""Leave-one-out cross-validation by Pareto smoothed importance sampling."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.draws import Dim, read_draws
from ..arrays.inputs import in_native_floats
from ..arrays.protocols import HasVariables
from ..errors import InvalidInputError
from ..kernels.cpu import tails
from .loo_result import LooResult
from .pareto import draws_needed, k_threshold
from .reductions import logsumexp
from .scaled import sum_and_error
from .smoothing import TailRows, warn_about_tails


def loo(
    log_likelihood: ArrayLike | Path | HasVariables,
    r_eff: ArrayLike = 1.0,
    axis: int | None = None,
    *,
    dim: Dim = None,
    var: str | None = None,
) -> LooResult:
    """Leave-one-out cross-validation by Pareto smoothed importance sampling.

    Parameters
    ----------
    log_likelihood : (draws, N) array_like, path, or xarray object
        ``log p(y_i | z_s)`` of N observations, with draws z_s from the posterior given all of them.
        Join chains first: ``reshape(chains * draws, N)``. The dimensions "chain" and "draw", or
        "sample", of an xarray object are its draws; all others are observations.
    r_eff : float or (N,) array_like
        Relative efficiency of the draws for ``1 / p(y_i | z_s)``; 1 for independent draws. In the
        shape of the observations, where an xarray object has several dimensions of them.
    axis : int, optional
        The axis of the draws; the first by default.
    dim : str or sequence of str, optional
        Dimensions of the draws of an xarray object, joined in this order, where they have other
        names.
    var : str, optional
        Variable of a Dataset, DataTree or InferenceData, where it has several, as ``"y"`` or
        ``"group/y"``. If there is a group "log_likelihood", it is looked for there.

    Returns
    -------
    LooResult

    Raises
    ------
    InvalidInputError
        If an array does not have two axes, if an argument is invalid, or if the names of an xarray
        object do not say which dimensions are the draws.
    InvalidWeightError
        If a log likelihood is not finite.

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
    The weights w_s are proportional to the smoothed ``1 / p(y_i | z_s)``. Then
    ``elpd_i = log(sum_s w_s p(y_i | z_s) / sum_s w_s)`` and ``p_loo = sum_i (lppd_i - elpd_i)``
    with ``lppd_i = log mean_s p(y_i | z_s)``. A standard error is sqrt(N) times the sample standard
    deviation of the pointwise values (Vehtari, Gelman and Gabry, 2017, Statistics and Computing
    27). It treats observations as independent and pointwise values as exact.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=20)
    >>> mean = rng.normal(y.mean(), 20**-0.5, size=(4000, 1))  # its posterior, under a flat prior
    >>> result = fe.loo(-0.5 * (y - mean) ** 2 - 0.5 * np.log(2 * np.pi))
    >>> bool(abs(result.p_loo - 1.0) < 0.5)
    True
    """
    draws = read_draws(
        log_likelihood, "log_likelihood", axis, dim, var,
        default=0, group="log_likelihood", terms=False,
    )  # fmt: skip
    if not draws.named and draws.array.ndim != 2:
        raise InvalidInputError(
            f"log_likelihood must have shape (draws, N), got {draws.array.shape}; join chains with "
            "reshape(chains * draws, N)"
        )
    rows = TailRows(draws.checked(), r_eff, sign=-1.0)
    log_sum = logsumexp(in_native_floats(draws.array), axis=draws.axes).reshape(-1)
    lppd = log_sum.astype(np.float64) - math.log(rows.length)
    if np.isposinf(lppd).any():
        rows.refuse()
    values = rows.fit()
    warn_about_tails(values, rows.length, "log_likelihood")
    # Outside of the tail, weight times density is 1.
    pointwise = values[:, tails.LOG_MEAN_CHANGE] - values[:, tails.SMOOTHED_LOG_EVIDENCE]
    elpd, elpd_se = sum_and_error(pointwise)
    p_loo, p_loo_se = sum_and_error(lppd, -pointwise)
    k = values[:, tails.PARETO_K]
    return LooResult(
        elpd, elpd_se, p_loo, p_loo_se, pointwise, k, k_threshold(rows.length), draws_needed(k)
    )
