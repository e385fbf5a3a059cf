"""Monte Carlo estimates of log evidence, ELBOs and importance-weighted bounds, with error bars."""

from . import errors
from .distributions import Categorical, Gaussian, Mixture, StudentT
from .divergences import kl_divergence
from .estimation import ElboTerms, elbo_terms, estimate, log_weights
from .models import LinearGaussian, MixtureModel
from .results import Bound, Estimate, Total

__version__ = "0.1.0"

__all__ = [
    "Bound",
    "Categorical",
    "ElboTerms",
    "Estimate",
    "Gaussian",
    "LinearGaussian",
    "Mixture",
    "MixtureModel",
    "StudentT",
    "Total",
    "elbo_terms",
    "errors",
    "estimate",
    "kl_divergence",
    "log_weights",
]
