"""Monte Carlo estimates of log evidence, ELBOs and importance-weighted bounds, with error bars."""

import importlib
from typing import TYPE_CHECKING, Any

from . import errors
from .distributions import Categorical, Gaussian, Mixture, StudentT
from .divergences import kl_divergence
from .estimation import ElboTerms, elbo_terms, estimate, log_weights
from .models import LinearGaussian, MixtureModel
from .reductions import logsumexp, summarize
from .results import Bound, Estimate, Total
from .versions import show_versions
from .warmup import warmup

if TYPE_CHECKING:
    from . import datasets, plotting

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
    "datasets",
    "elbo_terms",
    "errors",
    "estimate",
    "kl_divergence",
    "log_weights",
    "logsumexp",
    "plotting",
    "show_versions",
    "summarize",
    "warmup",
]


def __getattr__(name: str) -> Any:
    """Import a submodule that few programs need when it is first asked for."""
    if name in ("datasets", "plotting"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
