"""Logistic functions and sums on the log scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.math.everywhere import select
from .calls import public


@public()
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow; Stan calls it ``log1p_exp``.

    Parameters
    ----------
    x : float or array_like

    Returns
    -------
    float or ndarray
        ``max(x, 0) + log(1 + exp(-|x|))``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.math.softplus(0.0), fe.math.softplus(1000.0)
    (0.6931471805599453, 1000.0)
    """
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


@public()
def log_sigmoid(x: Any) -> Any:
    """log(1 / (1 + exp(-x))): the log probability of a success with logit x, in nats.

    Parameters
    ----------
    x : float or array_like
        Logits. The log probability of a failure is ``log_sigmoid(-x)``.

    Returns
    -------
    float or ndarray
        ``min(x, 0) - log(1 + exp(-|x|))``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.math.log_sigmoid(0.0), fe.math.log_sigmoid(-1000.0)
    (-0.6931471805599453, -1000.0)
    """
    return np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))


@public()
def expit(x: Any) -> Any:
    """1 / (1 + exp(-x)): the logistic sigmoid, accurate in both tails.

    Parameters
    ----------
    x : float or array_like
        Logits.

    Returns
    -------
    float or ndarray
        Probabilities.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fe.math.expit(0.0)
    0.5
    """
    e = np.exp(-np.abs(x))
    return select(x < 0.0, e, 1.0) / (1.0 + e)


@public()
def logaddexp(x: Any, y: Any) -> Any:
    """log(exp(x) + exp(y)), without overflow.

    Parameters
    ----------
    x, y : float or array_like
        Logarithms; -inf is the logarithm of 0.

    Returns
    -------
    float or ndarray
        ``max(x, y) + log(1 + exp(-|x - y|))``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.logaddexp(1000.0, 1000.0), 4)  # 1000 + log(2)
    1000.6931
    """
    # Two equal infinities have no distance.
    distance = select(x == y, 0.0, np.abs(x - y))
    return np.maximum(x, y) + np.log1p(np.exp(-distance))


@public(vectors=("a",))
def logsumexp(a: Any) -> Any:
    """log(sum(exp(a))) of one vector, without overflow.

    Parameters
    ----------
    a : array_like, shape (K,)
        Logarithms; -inf is the logarithm of 0. `fastelbo.logsumexp` is for arrays with more axes.

    Returns
    -------
    float
        ``max(a) + log(sum(exp(a - max(a))))``, with ``log1p`` of all terms but the largest.

    Raises
    ------
    InvalidInputError
        If ``a`` is empty or not one vector.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.logsumexp([-1000.0, -1000.0]), 4)  # log(2) - 1000
    -999.3069
    """
    top = np.max(a)
    largest = a == top
    ties = np.sum(select(largest, 1.0, 0.0))
    rest = np.sum(select(largest, 0.0, np.exp(a - top)))
    total = top + (np.log(ties) + np.log1p(rest / ties))
    return select(np.abs(top) < np.inf, total, top)
