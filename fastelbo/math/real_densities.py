"""Log densities of a real number: normal, Cauchy, Student-t, their halves, log-normal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.math.everywhere import select
from .calls import compiled, public
from .gammas import log_gamma_step
from .support import if_positive, nothing_where

_HALF_LOG_2PI = 0.9189385332046728
_LOG_PI = 1.1447298858494002
_LOG_2 = 0.6931471805599453
# Beyond this, 1 + t^2 rounds to t^2.
_FAR = 1e8


@compiled
def _log1p_square(t: Any) -> Any:
    """log(1 + t^2) of any t, by one logarithm."""
    a = np.abs(t)
    far = a > _FAR
    return np.log1p(select(far, a - 1.0, a * a)) * select(far, 2.0, 1.0)


@public()
def normal_log_prob(x: Any, loc: Any, scale: Any) -> Any:
    """Log density of a normal distribution, in nats.

    Parameters
    ----------
    x : float or array_like
    loc : float or array_like
        Mean.
    scale : float or array_like
        Standard deviation; NaN comes back if it is not positive.

    Returns
    -------
    float or ndarray
        ``-((x - loc) / scale)^2 / 2 - log(scale) - log(2 pi) / 2``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.normal_log_prob(1.0, loc=0.0, scale=2.0), 4)
    -1.7371
    """
    scale = if_positive(scale)
    r = (x - loc) / scale
    return -0.5 * r * r - np.log(scale) - _HALF_LOG_2PI


@public()
def half_normal_log_prob(x: Any, scale: Any) -> Any:
    """Log density of ``|v|`` for a normal v of mean 0, in nats.

    Parameters
    ----------
    x : float or array_like
        -inf comes back if it is negative.
    scale : float or array_like
        Standard deviation of v; NaN comes back if it is not positive.

    Returns
    -------
    float or ndarray
        ``log(2) + normal_log_prob(x, 0, scale)`` for x >= 0.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.half_normal_log_prob(1.0, scale=2.0), 4)
    -1.0439
    """
    return nothing_where(x < 0.0, normal_log_prob(x, 0.0, scale) + _LOG_2)


@public()
def cauchy_log_prob(x: Any, loc: Any, scale: Any) -> Any:
    """Log density of a Cauchy distribution, in nats.

    Parameters
    ----------
    x : float or array_like
    loc : float or array_like
        Median.
    scale : float or array_like
        Half the distance of the quartiles; NaN comes back if it is not positive.

    Returns
    -------
    float or ndarray
        ``-log(pi scale (1 + ((x - loc) / scale)^2))``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.cauchy_log_prob(1.0, loc=0.0, scale=2.0), 4)
    -2.061
    """
    scale = if_positive(scale)
    return -_log1p_square((x - loc) / scale) - np.log(scale) - _LOG_PI


@public()
def half_cauchy_log_prob(x: Any, scale: Any) -> Any:
    """Log density of ``|v|`` for a Cauchy v of median 0, in nats.

    Parameters
    ----------
    x : float or array_like
        -inf comes back if it is negative.
    scale : float or array_like
        The median; NaN comes back if it is not positive.

    Returns
    -------
    float or ndarray
        ``log(2) + cauchy_log_prob(x, 0, scale)`` for x >= 0.

    Notes
    -----
    A prior of scales in hierarchical models (Gelman, 2006, Bayesian Analysis 1, 515-534).

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.half_cauchy_log_prob(1.0, scale=2.0), 4)
    -1.3679
    """
    return nothing_where(x < 0.0, cauchy_log_prob(x, 0.0, scale) + _LOG_2)


@public()
def student_t_log_prob(x: Any, df: Any, loc: Any, scale: Any) -> Any:
    """Log density of a Student-t distribution, in nats.

    Parameters
    ----------
    x : float or array_like
    df : float or array_like
        Degrees of freedom; inf is the normal distribution. NaN comes back if it is not positive.
    loc : float or array_like
        Location, the median.
    scale : float or array_like
        Scale, not the standard deviation; NaN comes back if it is not positive.

    Returns
    -------
    float or ndarray
        With r = (x - loc) / scale, ``log(gamma((df + 1) / 2) / gamma(df / 2)) - log(df pi) / 2
        - log(scale) - (df + 1) / 2 * log(1 + r^2 / df)``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.student_t_log_prob(1.0, df=3.0, loc=0.0, scale=2.0), 4)
    -1.8541
    """
    df, scale = if_positive(df), if_positive(scale)
    r = (x - loc) / scale
    limit = df == np.inf
    finite = select(limit, 1.0, df)
    heavy = 0.5 * (finite + 1.0) * _log1p_square(r / np.sqrt(finite))
    constant = select(limit, 0.0, log_gamma_step(0.5 * finite)) - _HALF_LOG_2PI
    return constant - select(limit, 0.5 * r * r, heavy) - np.log(scale)


@public()
def log_normal_log_prob(x: Any, loc: Any, scale: Any) -> Any:
    """Log density of ``exp(v)`` for a normal v, in nats.

    Parameters
    ----------
    x : float or array_like
        -inf comes back if it is not positive.
    loc : float or array_like
        Mean of v.
    scale : float or array_like
        Standard deviation of v; NaN comes back if it is not positive.

    Returns
    -------
    float or ndarray
        ``normal_log_prob(log(x), loc, scale) - log(x)`` for x > 0.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.log_normal_log_prob(2.0, loc=0.0, scale=1.0), 4)
    -1.8523
    """
    outside = (x <= 0.0) | (x == np.inf)
    log_x = np.log(select(outside, 1.0, x))
    return nothing_where(outside, normal_log_prob(log_x, loc, scale) - log_x)
