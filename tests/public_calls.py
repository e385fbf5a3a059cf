"""One valid call of every public function, class and method, by the names of its arguments."""

import inspect
from types import SimpleNamespace

import numpy as np
from helpers import quiet
from matplotlib.axes import Axes

import fastelbo as fe
from fastelbo.models.terms import Supplied

# Numbers that every float type holds exactly.
WEIGHTS = np.round(np.random.default_rng(0).normal(size=(3, 200)) * 8) / 8
X = np.array([[0.5, 1.0], [1.5, -2.0], [0.25, 4.0]])
LOADINGS = np.array([[1.0, 0.5], [-0.25, 2.0]])
COV = np.array([[2.0, 0.5], [0.5, 1.0]])
TRIL = np.array([[1.0, 0.0], [0.5, 2.0]])
SHARES = np.array([0.25, 0.75])

P = fe.Gaussian([0.0], scale=1.0)
Q = fe.Gaussian([0.0], scale=1.25)
COMPONENTS = fe.Gaussian([[-1.0], [1.0]], scale=1.0)
MIXTURE = fe.Mixture(SHARES, COMPONENTS)
CLASSES = fe.Categorical(SHARES)
MODEL = fe.LinearGaussian([[1.0], [2.0]], [[1.0]], noise_cov=1.0)
NEAR = fe.Gaussian([0.5], scale=0.75)
FACTORS = fe.LinearGaussian(WEIGHTS.T, [[1.0], [0.5], [0.25]], noise_cov=1.0)
ESTIMATE = fe.estimate(MODEL, NEAR, 1000, rng=0)
# As a fitted GaussianMixture of scikit-learn.
FITTED = SimpleNamespace(
    covariance_type="diag",
    weights_=SHARES,
    means_=np.array([[-1.0], [1.0]]),
    covariances_=np.ones((2, 1)),
)
ACCUMULATOR = fe.LogWeightAccumulator()
ACCUMULATOR.update(WEIGHTS)


def update(**arguments):
    accumulator = fe.LogWeightAccumulator()
    accumulator.update(**arguments)
    return accumulator.result() if accumulator.n_samples else None


update.__signature__ = inspect.signature(fe.LogWeightAccumulator().update)


def own_density(z, x, weights):
    return -0.5 * (z[0] - x[0] * weights[1, 0]) ** 2


def values_of_model(**arguments):
    return fe.Model(**arguments).log_joint([0.25])


values_of_model.__signature__ = inspect.signature(fe.Model)
OWN = fe.Model(log_joint=own_density, dim=1, data=X, params=(X,))


def scaled_square(z, x, factor):
    return factor * x[0, 0] * z[0] ** 2


EXPECTATION = fe.expectation("mean", MODEL, NEAR, 1000, rng=0)
with quiet():
    LEFT_OUT = {name: fe.loo(0.125 * WEIGHTS[:, k::2].T) for k, name in enumerate("ab")}
# Draws of P, in eighths, as chains, and log ratios of P and Q there.
CHAINS = np.round(np.random.default_rng(1).normal(size=(600, 1)) * 8) / 8
RATIOS = np.round((P.log_prob(CHAINS) - Q.log_prob(CHAINS)) * 64).reshape(2, 300) / 64
with quiet():
    BRIDGE, OTHER_BRIDGE = (fe.bridge(CHAINS, P, rng=seed) for seed in (0, 1))

MIXTURE_FIT = fe.fit_mixture(WEIGHTS[0, :, None], 2, init=MIXTURE)

DRAWS = {"model": P, "q": Q, "n_samples": 50, "rng": 0}

CALLS = {
    "summarize": (fe.summarize, {"log_weights": WEIGHTS}),
    "ess": (fe.ess, {"log_weights": WEIGHTS}),
    "psis": (fe.psis, {"log_ratios": WEIGHTS, "r_eff": np.array([1.0, 0.5, 0.75])}),
    "pareto_k": (fe.pareto_k, {"log_ratios": WEIGHTS, "r_eff": np.array([1.0, 0.5, 0.75])}),
    "loo": (fe.loo, {"log_likelihood": WEIGHTS.T.copy(), "r_eff": np.array([1.0, 0.5, 0.75])}),
    "loo of an approximation": (
        fe.loo,
        {
            "log_likelihood": WEIGHTS.T.copy(),
            "log_p": WEIGHTS[0].copy(),
            "log_q": WEIGHTS[1].copy(),
        },
    ),
    "loo_compare": (fe.loo_compare, {"models": LEFT_OUT}),
    "bridge": (fe.bridge, {"draws": CHAINS, "model": P, "df": 5.0, "n_proposal": 200, "rng": 0}),
    "bridge with q": (fe.bridge, {"draws": CHAINS, "model": P, "q": Q, "rng": 0}),
    "bridge_log_ratios": (
        fe.bridge_log_ratios,
        {"l1": RATIOS, "l2": RATIOS[0].copy(), "n_eff": 600.0},
    ),
    "bayes_factor": (fe.bayes_factor, {"a": BRIDGE, "b": OTHER_BRIDGE}),
    "BridgeEstimate.confidence_interval": (BRIDGE.confidence_interval, {}),
    "iw_elbo": (fe.iw_elbo, {"log_weights": WEIGHTS, "k": 2, "rng": 0}),
    "renyi_bound": (fe.renyi_bound, {"log_weights": WEIGHTS, "alpha": 0.5}),
    "cubo": (fe.cubo, {"log_weights": WEIGHTS}),
    "jackknife": (fe.jackknife, {"log_weights": WEIGHTS}),
    "resample": (fe.resample, {"log_weights": WEIGHTS, "n": 5, "rng": 0}),
    "logsumexp": (fe.logsumexp, {"a": WEIGHTS, "b": np.abs(WEIGHTS), "axis": 1}),
    "logmeanexp": (fe.logmeanexp, {"a": WEIGHTS, "axis": 1}),
    "LogWeightAccumulator": (fe.LogWeightAccumulator, {}),
    "LogWeightAccumulator.update": (update, {"log_weights": WEIGHTS}),
    "LogWeightAccumulator.merge": (fe.LogWeightAccumulator().merge, {"other": ACCUMULATOR}),
    "Gaussian": (fe.Gaussian, {"mean": X, "scale": np.abs(X)}),
    "Gaussian of cov": (fe.Gaussian, {"mean": X, "cov": COV}),
    "Gaussian of scale_tril": (fe.Gaussian, {"mean": X, "scale_tril": TRIL}),
    "Gaussian of precision": (fe.Gaussian, {"mean": X, "precision": COV}),
    "StudentT of cov": (fe.StudentT, {"df": np.array([3.0, 4.0, 5.0]), "mean": X, "cov": COV}),
    "Mixture of logits": (
        fe.Mixture,
        {"weights": None, "components": COMPONENTS, "logits": np.array([0.5, -1.0])},
    ),
    "Mixture.from_sklearn": (fe.Mixture.from_sklearn, {"gm": FITTED}),
    "Mixture.sample": (MIXTURE.sample, {"n": 5, "rng": 0}),
    "StudentT": (fe.StudentT, {"df": np.array([3.0, 4.0, 5.0]), "mean": X, "scale": np.abs(X)}),
    "Mixture": (fe.Mixture, {"weights": SHARES, "components": COMPONENTS}),
    "Categorical": (fe.Categorical, {"probs": SHARES}),
    "LinearGaussian": (
        fe.LinearGaussian,
        {"x": X, "loadings": LOADINGS, "noise_cov": COV, "offset": np.array([0.5, -0.5])},
    ),
    "Model": (values_of_model, {"log_joint": own_density, "dim": 1, "data": X, "params": (X,)}),
    "Model.log_joint": (OWN.log_joint, {"z": X[:, :1]}),
    "LinearGaussian.log_joint": (MODEL.log_joint, {"z": np.array([[0.5], [0.25]])}),
    "Model.log_joint_gradient": (OWN.log_joint_gradient, {"z": X[:, :1]}),
    "LinearGaussian.log_joint_gradient": (
        MODEL.log_joint_gradient,
        {"z": np.array([[0.5], [0.25]])},
    ),
    "MixtureModel": (fe.MixtureModel, {"x": X[:, :1], "mixture": MIXTURE}),
    "Gaussian.log_prob": (Q.log_prob, {"z": X[:, :1]}),
    "Mixture.log_prob": (MIXTURE.log_prob, {"z": X[:, :1]}),
    "Gaussian.sample": (Q.sample, {"n": 5, "rng": 0}),
    "Categorical.log_prob": (CLASSES.log_prob, {"z": np.array([[0], [1]])}),
    "Categorical.sample": (CLASSES.sample, {"n": 5, "rng": 0}),
    "Supplied": (Supplied, {"values": WEIGHTS, "dim": 2}),
    "estimate": (fe.estimate, DRAWS),
    "estimate of target_se": (
        fe.estimate,
        {"model": P, "q": Q, "target_se": 0.125, "max_samples": 4000, "rng": 0},
    ),
    "estimate of target_total_se": (
        fe.estimate,
        {"model": MODEL, "q": Q, "target_total_se": 0.125, "rng": 0},
    ),
    "estimate of several": (
        fe.estimate,
        {"model": P, "q": [Q, MIXTURE], "n_samples": np.array([30, 40]), "rng": 0},
    ),
    "elbo_terms": (fe.elbo_terms, DRAWS),
    "log_weights": (fe.log_weights, DRAWS),
    "expectation": (
        fe.expectation,
        DRAWS | {"f": "quantiles", "probs": np.array([0.25, 0.5])},
    ),
    "expectation of params": (
        fe.expectation,
        DRAWS | {"f": scaled_square, "params": (X, 2.0)},
    ),
    "importance_resample": (fe.importance_resample, {"model": P, "q": Q, "n": 5, "rng": 0}),
    "estimate of moments": (fe.estimate, DRAWS | {"moments": True}),
    "Expectation.confidence_interval": (EXPECTATION.confidence_interval, {}),
    "Proposals": (fe.Proposals, {"qs": [Q, MIXTURE], "shares": SHARES}),
    "Proposals.log_prob": (fe.Proposals([Q, P]).log_prob, {"z": X[:, :1]}),
    "Proposals.counts": (fe.Proposals([Q, P]).counts, {"n_samples": np.array([30, 40])}),
    "defensive": (fe.defensive, {"q": Q, "wide": MIXTURE, "share": 0.25}),
    "laplace": (fe.laplace, {"model": P, "start": X[:, :1], "rng": 0}),
    "adapt": (
        fe.adapt,
        {"model": P, "start": X[:, :1], "target_se": 0.125, "round_size": 50, "rng": 0},
    ),
    "draw": (fe.draw, {"q": fe.Gaussian(X, scale=1.0), "i": 2, "k": 3, "key": 5}),
    "fit": (fe.fit, {"model": MODEL, "q0": NEAR, "method": "lbfgs", "n_eval": 50, "rng": 0}),
    "fit of a model": (
        fe.fit,
        {"model": FACTORS, "wrt": "model", "noise": "diagonal", "tol": 0.125, "max_iter": 50},
    ),
    "kl_divergence": (fe.kl_divergence, {"q": Q, "p": P}),
    "exact_elbo": (fe.exact_elbo, {"model": MODEL, "q": NEAR}),
    "elbo_gradient": (fe.elbo_gradient, {"model": MODEL, "q": NEAR, "n_samples": 100, "rng": 0}),
    "Estimate.iw_elbo": (ESTIMATE.iw_elbo, {"k": 10}),
    "Estimate.confidence_interval": (
        ESTIMATE.confidence_interval,
        {"quantity": "iw_elbo", "k": 10},
    ),
    "Difference.confidence_interval": (
        (ESTIMATE - fe.estimate(MODEL, NEAR, 1000, rng=1)).confidence_interval,
        {},
    ),
    "Estimate.summary": (ESTIMATE.summary, {}),
    "Total.confidence_interval": (ESTIMATE.total().confidence_interval, {}),
    "plot_bounds": (
        fe.plotting.plot_bounds,
        {"estimate": ESTIMATE, "exact": np.array([-1.0, -2.0])},
    ),
    "plot_pareto_k": (fe.plotting.plot_pareto_k, {"pareto_k": np.array([0.25, 0.5])}),
    "plot_convergence": (
        fe.plotting.plot_convergence,
        {"estimates": [ESTIMATE], "exact": np.array([-1.0, -2.0])},
    ),
    "fit_mixture": (
        fe.fit_mixture,
        {
            "x": WEIGHTS[0, :, None].copy(),
            "n_components": 2,
            "weights": np.abs(WEIGHTS[1]),
            "init": MIXTURE,
            "n_init": 2,
            "rng": 0,
        },
    ),
    "MixtureFit.responsibilities": (MIXTURE_FIT.responsibilities, {"x": X[:, :1]}),
}

# Results, which are not made by users; functions without arguments, and of other libraries' models.
NOT_CALLED = {
    *("from_bridgestan", "from_numpyro", "from_pymc", "from_torch"),
    *("BridgeEstimate", "LooComparison"),
    *("Bound", "Difference", "ElboTerms", "Estimate", "LooResult", "SmoothedWeights", "Total"),
    *("Expectation", "PosteriorDraws", "Fit", "FitHistory", "ElboGradient"),
    *(
        "Adaptation",
        "AdaptationRound",
        "Bound",
        "Difference",
        "ElboTerms",
        "Estimate",
        "LooResult",
        "SmoothedWeights",
        "Total",
    ),
    *("MixtureFit", "MixtureHistory"),
    *("show_versions", "warmup", "datasets", "errors", "math", "plotting"),
}


def content(value):
    """Everything in a result, as arrays in lists and dictionaries."""
    if isinstance(value, fe.Estimate):
        return value.to_dict()
    if isinstance(value, fe.FitHistory):
        return [value.iteration, value.elbo]
    if isinstance(value, fe.MixtureHistory):
        return value.log_likelihood
    if isinstance(value, tuple):
        return [content(each) for each in value]
    if isinstance(value, Axes):
        return [line.get_xydata() for line in value.get_lines()]
    if isinstance(value, np.ndarray) or not hasattr(value, "__dict__"):
        return value
    return {name: content(each) for name, each in vars(value).items() if name[0] != "_"}
