"""Log probabilities of counts and classes, by their logits or log rates."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.math.everywhere import lgamma, select
from .calls import public
from .gammas import log_beta
from .sigmoids import logsumexp
from .support import is_count, nothing_where, times_log

# The exponential of anything larger is inf.
_OVERFLOW = 1000.0


@public()
def bernoulli_logit_log_prob(y: Any, logits: Any) -> Any:
    """Log probability of a success or failure, in nats.

    Parameters
    ----------
    y : float or array_like
        1 or 0; -inf comes back for other numbers.
    logits : float or array_like
        log(p / (1 - p)) of the probability p of a success.

    Returns
    -------
    float or ndarray
        ``y logits - log(1 + exp(logits))``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.bernoulli_logit_log_prob(1, logits=2.0), 4)
    -0.1269
    """
    y = 1.0 * y
    # The logit of what happened.
    u = select(y == 1.0, logits, -logits)
    log_prob = np.minimum(u, 0.0) - np.log1p(np.exp(-np.abs(u)))
    outside = np.logical_not((y == 0.0) | (y == 1.0))
    return nothing_where(outside, select(y == y, log_prob, np.nan))


@public()
def binomial_logit_log_prob(y: Any, total_count: Any, logits: Any) -> Any:
    """Log probability of a number of successes, in nats.

    Parameters
    ----------
    y : float or array_like
        Number of successes; -inf comes back if it is none of 0, 1, ..., `total_count`.
    total_count : float or array_like
        Number of trials n; NaN comes back if it is none of 0, 1, 2, ...
    logits : float or array_like
        log(p / (1 - p)) of the probability p of a success.

    Returns
    -------
    float or ndarray
        ``log(n! / (y! (n - y)!)) + y log(p) + (n - y) log(1 - p)``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.binomial_logit_log_prob(2, total_count=5, logits=0.0), 4)
    -1.1632
    """
    y, n = 1.0 * y, 1.0 * total_count
    inside = is_count(y) & is_count(n) & (y <= n)
    successes, failures = select(inside, y, 0.0), select(inside, n - y, 0.0)
    rest = np.log1p(np.exp(-np.abs(logits)))
    log_prob = times_log(successes, np.minimum(logits, 0.0) - rest)
    log_prob = log_prob + times_log(failures, np.minimum(-logits, 0.0) - rest)
    ways = -np.log1p(successes + failures) - log_beta(successes + 1.0, failures + 1.0)
    # There is exactly one way to have no success, and one to have no failure.
    ways = select((successes == 0.0) | (failures == 0.0), 0.0, ways)
    valid = (y == y) & is_count(n) & (logits == logits)
    return nothing_where(np.logical_not(inside), select(valid, log_prob + ways, np.nan))


@public()
def poisson_log_log_prob(y: Any, log_rate: Any) -> Any:
    """Log probability of a count of a Poisson distribution, in nats.

    Parameters
    ----------
    y : float or array_like
        Count; -inf comes back if it is none of 0, 1, 2, ...
    log_rate : float or array_like
        Logarithm of the mean.

    Returns
    -------
    float or ndarray
        ``y log_rate - exp(log_rate) - log(y!)``.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.poisson_log_log_prob(2, log_rate=0.0), 4)
    -1.6931
    """
    y = 1.0 * y
    inside = is_count(y)
    count = select(inside, y, 0.0)
    log_prob = times_log(count, np.minimum(log_rate, _OVERFLOW)) - np.exp(log_rate)
    log_prob = log_prob - lgamma(count + 1.0)
    return nothing_where(np.logical_not(inside), select(y == y, log_prob, np.nan))


@public(vectors=("logits",))
def categorical_logit_log_prob(y: Any, logits: Any) -> Any:
    """Log probability of one of K classes, in nats.

    Parameters
    ----------
    y : int
        The class, from 0; -inf comes back if it is none of 0, 1, ..., K - 1. In a compiled density
        it must not depend on the draw.
    logits : array_like, shape (K,)
        Log probabilities up to a common constant; -inf is a probability of 0.

    Returns
    -------
    float
        ``logits[y] - log(sum(exp(logits)))``.

    Raises
    ------
    InvalidInputError
        If ``logits`` is empty or not one vector, or y is no number.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.categorical_logit_log_prob(1, logits=[0.0, 1.0, 2.0]), 4)
    -1.4076
    """
    inside = y >= 0 and y < len(logits) and np.floor(1.0 * y) == y
    log_prob = logits[int(y) if inside else 0] - logsumexp(logits)
    return nothing_where(not inside, log_prob + (0.0 if y == y else np.nan))
