"""Transforms from the real line, or real vectors, with the logarithms of their Jacobians.

A density of the constrained value plus the log-Jacobian is the density of the unconstrained one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.math.everywhere import select
from .calls import public
from .support import if_positive


@public()
def positive(u: Any) -> tuple[Any, Any]:
    """A positive number from a real one.

    Parameters
    ----------
    u : float or array_like
        Unconstrained.

    Returns
    -------
    value : float or ndarray
        ``exp(u)``.
    log_jacobian : float or ndarray
        ``log |d value / d u| = u``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.math.positive(0.0)
    (1.0, 0.0)
    """
    return np.exp(u), 1.0 * u


@public()
def lower_bounded(u: Any, lower: Any) -> tuple[Any, Any]:
    """A number above a bound from a real one.

    Parameters
    ----------
    u : float or array_like
        Unconstrained.
    lower : float or array_like

    Returns
    -------
    value : float or ndarray
        ``lower + exp(u)``.
    log_jacobian : float or ndarray
        ``log |d value / d u| = u``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.math.lower_bounded(0.0, lower=2.0)
    (3.0, 0.0)
    """
    return lower + np.exp(u), 1.0 * u


@public()
def upper_bounded(u: Any, upper: Any) -> tuple[Any, Any]:
    """A number below a bound from a real one.

    Parameters
    ----------
    u : float or array_like
        Unconstrained.
    upper : float or array_like

    Returns
    -------
    value : float or ndarray
        ``upper - exp(u)``.
    log_jacobian : float or ndarray
        ``log |d value / d u| = u``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.math.upper_bounded(0.0, upper=2.0)
    (1.0, 0.0)
    """
    return upper - np.exp(u), 1.0 * u


@public()
def interval(u: Any, lower: Any, upper: Any) -> tuple[Any, Any]:
    """A number between two bounds from a real one.

    Parameters
    ----------
    u : float or array_like
        Unconstrained.
    lower, upper : float or array_like
        NaN comes back if ``lower`` is not below ``upper``.

    Returns
    -------
    value : float or ndarray
        ``lower + (upper - lower) expit(u)``.
    log_jacobian : float or ndarray
        ``log |d value / d u| = log(upper - lower) + log_sigmoid(u) + log_sigmoid(-u)``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> value, log_jacobian = fe.math.interval(0.0, lower=-1.0, upper=3.0)
    >>> value, log_jacobian
    (1.0, 0.0)
    """
    width = if_positive(upper - lower)
    a = np.abs(u)
    e = np.exp(-a)
    # The distance from the nearer bound.
    part = width * (e / (1.0 + e))
    value = select(u > 0.0, upper - part, lower + part)
    return value, np.log(width) - a - 2.0 * np.log1p(e)


@public(vectors=("u",))
def ordered(u: Any) -> tuple[Any, Any]:
    """An ascending vector from a real one.

    Parameters
    ----------
    u : array_like, shape (K,)
        Unconstrained.

    Returns
    -------
    value : ndarray, shape (K,)
        ``u[0]``, and each next is larger by ``exp(u[k])``.
    log_jacobian : float
        ``log |det d value / d u| = u[1] + ... + u[K - 1]``.

    Raises
    ------
    InvalidInputError
        If ``u`` is empty or not one vector.

    Examples
    --------
    >>> import fastelbo as fe
    >>> value, log_jacobian = fe.math.ordered([1.0, 0.0, 0.0])
    >>> value, log_jacobian
    (array([1., 2., 3.]), 0.0)
    """
    value = 1.0 * u
    log_jacobian = 0.0
    for k in range(1, len(u)):
        value[k] = value[k - 1] + np.exp(u[k])
        log_jacobian = log_jacobian + u[k]
    return value, log_jacobian


@public(vectors=("u",))
def simplex(u: Any) -> tuple[Any, Any]:
    """K probabilities from K - 1 real numbers, by breaking a stick.

    Parameters
    ----------
    u : array_like, shape (K - 1,)
        Unconstrained; zeros give equal probabilities.

    Returns
    -------
    value : ndarray, shape (K,)
        Item k, from 0, is the part ``expit(u[k] - log(K - 1 - k))`` of what the items before leave
        of 1. The last one is the rest.
    log_jacobian : float
        ``log |det d value[:-1] / d u|``.

    Raises
    ------
    InvalidInputError
        If ``u`` is empty or not one vector.

    Notes
    -----
    The transform of Stan (Stan Reference Manual, chapter Constraint Transforms, unit simplex).

    Examples
    --------
    >>> import fastelbo as fe
    >>> value, log_jacobian = fe.math.simplex([0.0, 0.0])
    >>> value.round(4), round(log_jacobian, 4)
    (array([0.3333, 0.3333, 0.3333]), -3.2958)
    """
    n = len(u)
    # Room for n + 1 numbers of the kind of u.
    value = u[np.minimum(np.arange(n + 1), n - 1)]
    rest, log_rest, log_jacobian = 1.0, 0.0, 0.0
    for k in range(n):
        v = u[k] - np.log(1.0 * (n - k))
        a = np.abs(v)
        e = np.exp(-a)
        part, left = select(v < 0.0, e, 1.0) / (1.0 + e), select(v < 0.0, 1.0, e) / (1.0 + e)
        soft = np.log1p(e)
        value[k] = rest * part
        log_jacobian = log_jacobian + (log_rest - a - 2.0 * soft)
        log_rest = log_rest + (np.minimum(-v, 0.0) - soft)
        rest = rest * left
    value[n] = rest
    return value, log_jacobian
