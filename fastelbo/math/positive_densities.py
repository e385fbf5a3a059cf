"""Log densities of a positive number: gamma, inverse gamma, exponential; beta, of a probability."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.math.everywhere import lgamma, select
from .calls import public
from .gammas import log_beta
from .support import if_positive, nothing_where, times_log


@public()
def exponential_log_prob(x: Any, rate: Any) -> Any:
    """Log density of an exponential distribution, in nats.

    Parameters
    ----------
    x : float or array_like
        -inf comes back if it is negative.
    rate : float or array_like
        1 / mean; NaN comes back if it is not positive.

    Returns
    -------
    float or ndarray
        ``log(rate) - rate x`` for x >= 0.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.exponential_log_prob(1.0, rate=2.0), 4)
    -1.3069
    """
    rate = if_positive(rate)
    return nothing_where(x < 0.0, np.log(rate) - rate * x)


@public()
def gamma_log_prob(x: Any, concentration: Any, rate: Any) -> Any:
    """Log density of a gamma distribution, in nats.

    Parameters
    ----------
    x : float or array_like
        -inf comes back if it is negative.
    concentration : float or array_like
        The shape a; the mean is ``concentration / rate``. NaN comes back if it is not positive.
    rate : float or array_like
        The rate b, 1 / scale; NaN comes back if it is not positive.

    Returns
    -------
    float or ndarray
        ``a log(b) - log(gamma(a)) + (a - 1) log(x) - b x`` for x >= 0; +inf at 0 if a < 1.

    Notes
    -----
    The parameters are named as in torch and TensorFlow Probability; SciPy takes a and 1 / b.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.gamma_log_prob(1.0, concentration=3.0, rate=2.0), 4)
    -0.6137
    """
    a, b = if_positive(concentration), if_positive(rate)
    outside = (x < 0.0) | (x == np.inf)
    x = select(outside, 1.0, x)
    log_prob = a * np.log(b) + times_log(a - 1.0, np.log(x)) - b * x - lgamma(a)
    return nothing_where(outside, log_prob)


@public()
def inverse_gamma_log_prob(x: Any, concentration: Any, scale: Any) -> Any:
    """Log density of ``1 / v`` for a v of a gamma distribution, in nats.

    Parameters
    ----------
    x : float or array_like
        -inf comes back if it is not positive.
    concentration : float or array_like
        The shape a of v; NaN comes back if it is not positive.
    scale : float or array_like
        The rate b of v, which is the scale of x; NaN comes back if it is not positive.

    Returns
    -------
    float or ndarray
        ``a log(b) - log(gamma(a)) - (a + 1) log(x) - b / x`` for x > 0.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.inverse_gamma_log_prob(1.0, concentration=3.0, scale=2.0), 4)
    -0.6137
    """
    a, b = if_positive(concentration), if_positive(scale)
    outside = (x <= 0.0) | (x == np.inf)
    x = select(outside, 1.0, x)
    return nothing_where(outside, a * np.log(b) - (a + 1.0) * np.log(x) - b / x - lgamma(a))


@public()
def beta_log_prob(x: Any, concentration1: Any, concentration0: Any) -> Any:
    """Log density of a beta distribution, in nats.

    Parameters
    ----------
    x : float or array_like
        A probability; -inf comes back if it is not in [0, 1].
    concentration1 : float or array_like
        The exponent a of x; NaN comes back if it is not positive.
    concentration0 : float or array_like
        The exponent b of 1 - x; NaN comes back if it is not positive. The mean is ``a / (a + b)``.

    Returns
    -------
    float or ndarray
        ``(a - 1) log(x) + (b - 1) log(1 - x) - log(B(a, b))``; +inf at 0 if a < 1, and at 1 if
        b < 1.

    Notes
    -----
    The parameters are named as in torch and TensorFlow Probability; SciPy calls them a and b.

    Examples
    --------
    >>> import fastelbo as fe
    >>> round(fe.math.beta_log_prob(0.5, concentration1=2.0, concentration0=3.0), 4)
    0.4055
    """
    a, b = if_positive(concentration1), if_positive(concentration0)
    outside = (x < 0.0) | (x > 1.0)
    x = select(outside, 0.5, x)
    powers = times_log(a - 1.0, np.log(x)) + times_log(b - 1.0, np.log1p(-x))
    return nothing_where(outside, powers - log_beta(a, b))
