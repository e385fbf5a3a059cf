"""Monte Carlo estimates of log evidence, ELBOs and importance-weighted bounds, with error bars."""

from . import datasets, errors, math, plotting
from .engine.accumulator import LogWeightAccumulator
from .engine.adaptation.adapt import adapt
from .engine.bridging import bridge
from .engine.estimation import estimate
from .engine.expectation import expectation
from .engine.fits.fitting import fit
from .engine.fits.mixture_fit import fit_mixture
from .engine.gradients.elbo_gradient import elbo_gradient
from .engine.gradients.exact import exact_elbo
from .engine.posterior import importance_resample
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
from .models.proposals import Proposals, defensive
from .models.single_draw import draw
from .models.stan import from_bridgestan
from .models.user import Model
from .results.adaptation import Adaptation, AdaptationRound
from .results.bayes_factors import bayes_factor
from .results.estimate import Estimate
from .results.expectation import Expectation
from .results.fit import Fit, FitHistory
from .results.gradient import ElboGradient
from .results.mixture_fit import MixtureFit, MixtureHistory
from .results.posterior_draws import PosteriorDraws
from .results.total import Total
from .version import __version__ as __version__
from .versions import show_versions
from .warmup import warmup
from .weights.bounds import Bound, cubo, iw_elbo, jackknife, renyi_bound
from .weights.bridge import bridge_log_ratios
from .weights.bridge_result import BridgeEstimate
from .weights.differences import Difference
from .weights.loo import loo
from .weights.loo_compare import LooComparison, loo_compare
from .weights.loo_result import LooResult
from .weights.psis import SmoothedWeights, pareto_k, psis
from .weights.reductions import logmeanexp, logsumexp
from .weights.resampling import resample

__all__ = [
    "Adaptation",
    "AdaptationRound",
    "Bound",
    "BridgeEstimate",
    "Categorical",
    "Difference",
    "ElboGradient",
    "ElboTerms",
    "Estimate",
    "Expectation",
    "Fit",
    "FitHistory",
    "Gaussian",
    "LinearGaussian",
    "LogWeightAccumulator",
    "LooComparison",
    "LooResult",
    "Mixture",
    "MixtureFit",
    "MixtureHistory",
    "MixtureModel",
    "Model",
    "PosteriorDraws",
    "Proposals",
    "SmoothedWeights",
    "StudentT",
    "Total",
    "adapt",
    "bayes_factor",
    "bridge",
    "bridge_log_ratios",
    "cubo",
    "datasets",
    "defensive",
    "draw",
    "elbo_gradient",
    "elbo_terms",
    "errors",
    "ess",
    "estimate",
    "exact_elbo",
    "expectation",
    "fit",
    "fit_mixture",
    "from_bridgestan",
    "from_numpyro",
    "from_pymc",
    "from_torch",
    "importance_resample",
    "iw_elbo",
    "jackknife",
    "kl_divergence",
    "laplace",
    "log_weights",
    "logmeanexp",
    "logsumexp",
    "loo",
    "loo_compare",
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
