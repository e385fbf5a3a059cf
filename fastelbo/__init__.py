"""Monte Carlo estimates of log evidence, ELBOs and importance-weighted bounds, with error bars."""

from . import datasets, errors, math, plotting
from .engine.accumulator import LogWeightAccumulator
from .engine.adaptation import adapt
from .engine.estimation import estimate
from .engine.summaries import ess, summarize
from .engine.terms import ElboTerms, elbo_terms, log_weights
from .models.bridges import from_numpyro, from_pymc, from_torch
from .models.categorical import Categorical
from .models.divergences import kl_divergence
from .models.laplace import laplace
from .models.linear_gaussian import LinearGaussian
from .models.location_scale import Gaussian, StudentT
from .models.mixture import Mixture
from .models.mixture_model import MixtureModel
from .models.single_draw import draw
from .models.stan import from_bridgestan
from .models.user import Model
from .results.adaptation import Adaptation, AdaptationRound
from .results.estimate import Estimate
from .results.total import Total
from .version import __version__ as __version__
from .versions import show_versions
from .warmup import warmup
from .weights.bounds import Bound, cubo, iw_elbo, jackknife, renyi_bound
from .weights.differences import Difference
from .weights.loo import loo
from .weights.loo_result import LooResult
from .weights.psis import SmoothedWeights, pareto_k, psis
from .weights.reductions import logmeanexp, logsumexp
from .weights.resampling import resample

__all__ = [
    "Adaptation",
    "AdaptationRound",
    "Bound",
    "Categorical",
    "Difference",
    "ElboTerms",
    "Estimate",
    "Gaussian",
    "LinearGaussian",
    "LogWeightAccumulator",
    "LooResult",
    "Mixture",
    "MixtureModel",
    "Model",
    "SmoothedWeights",
    "StudentT",
    "Total",
    "adapt",
    "cubo",
    "datasets",
    "draw",
    "elbo_terms",
    "errors",
    "ess",
    "estimate",
    "from_bridgestan",
    "from_numpyro",
    "from_pymc",
    "from_torch",
    "iw_elbo",
    "jackknife",
    "kl_divergence",
    "laplace",
    "log_weights",
    "logmeanexp",
    "logsumexp",
    "loo",
    "math",
    "pareto_k",
    "plotting",
    "psis",
    "renyi_bound",
    "resample",
    "show_versions",
    "summarize",
    "warmup",
]


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*__all__, "__version__"])
