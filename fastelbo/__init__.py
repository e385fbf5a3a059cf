"""Monte Carlo estimates of log evidence, ELBOs and importance-weighted bounds, with error bars."""

import importlib
from typing import TYPE_CHECKING, Any

from . import errors
from .accumulator import LogWeightAccumulator
from .bounds import Bound, cubo, iw_elbo, jackknife, renyi_bound
from .distributions import Categorical, Gaussian, Mixture, StudentT
from .divergences import kl_divergence
from .estimation import ElboTerms, elbo_terms, estimate, log_weights
from .linear_gaussian import LinearGaussian
from .loo import LooResult, loo
from .mixture_model import MixtureModel
from .psis import SmoothedWeights, pareto_k, psis
from .reductions import logmeanexp, logsumexp
from .resampling import resample
from .results import Estimate
from .summaries import ess, summarize
from .total import Total
from .version import __version__ as __version__
from .versions import show_versions
from .warmup import warmup

if TYPE_CHECKING:
    from . import datasets, plotting

__all__ = [
    "Bound",
    "Categorical",
    "ElboTerms",
    "Estimate",
    "Gaussian",
    "LinearGaussian",
    "LogWeightAccumulator",
    "LooResult",
    "Mixture",
    "MixtureModel",
    "SmoothedWeights",
    "StudentT",
    "Total",
    "cubo",
    "datasets",
    "elbo_terms",
    "errors",
    "ess",
    "estimate",
    "iw_elbo",
    "jackknife",
    "kl_divergence",
    "log_weights",
    "logmeanexp",
    "logsumexp",
    "loo",
    "pareto_k",
    "plotting",
    "psis",
    "renyi_bound",
    "resample",
    "show_versions",
    "summarize",
    "warmup",
]


def __getattr__(name: str) -> Any:
    """Import a submodule that few programs need when it is first asked for."""
    if name in ("datasets", "plotting"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
