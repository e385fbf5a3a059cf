"""What users write by hand in densities: log densities, transforms, sums on the log scale.

Each function is called with numbers, in plain Python, in ``@njit`` code, or in a density that
fastelbo compiles, where it may be given draws. In plain Python all but the functions of a vector
also take arrays that broadcast, and work item by item. Log densities are in nats. They are -inf
outside of the support, and NaN for a parameter that makes no sense, as no compiled density can
raise for one draw of many. Differences of the arguments must not overflow.
"""

from .counts import (
    bernoulli_logit_log_prob,
    binomial_logit_log_prob,
    categorical_logit_log_prob,
    poisson_log_log_prob,
)
from .positive_densities import (
    beta_log_prob,
    exponential_log_prob,
    gamma_log_prob,
    inverse_gamma_log_prob,
)
from .real_densities import (
    cauchy_log_prob,
    half_cauchy_log_prob,
    half_normal_log_prob,
    log_normal_log_prob,
    normal_log_prob,
    student_t_log_prob,
)
from .sigmoids import expit, log_sigmoid, logaddexp, logsumexp, softplus
from .transforms import interval, lower_bounded, ordered, positive, simplex, upper_bounded

__all__ = [
    "bernoulli_logit_log_prob",
    "beta_log_prob",
    "binomial_logit_log_prob",
    "categorical_logit_log_prob",
    "cauchy_log_prob",
    "expit",
    "exponential_log_prob",
    "gamma_log_prob",
    "half_cauchy_log_prob",
    "half_normal_log_prob",
    "interval",
    "inverse_gamma_log_prob",
    "log_normal_log_prob",
    "log_sigmoid",
    "logaddexp",
    "logsumexp",
    "lower_bounded",
    "normal_log_prob",
    "ordered",
    "poisson_log_log_prob",
    "positive",
    "simplex",
    "softplus",
    "student_t_log_prob",
    "upper_bounded",
]


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
