"""Distributions, models and estimates never change, nor do copies and what was pickled."""

import copy
import pickle

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo.frozen import Frozen

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

PAIR = fe.Mixture([0.3, 0.7], fe.Gaussian([[-1.0, 0.0], [2.0, 1.0]], scale=1.0))
WIDE = fe.StudentT(9.0, [1.0, 0.5], scale=[2.0, 1.5])
POINTS, LOADINGS = [[1.0, 0.0, 2.0], [0.5, 1.0, 0.0]], [[1.0, 0.0], [0.5, 1.0], [0.0, 2.0]]
LOG_WEIGHTS = np.random.default_rng(0).normal(size=(2, 500))
FACTORS = fe.LinearGaussian(POINTS, LOADINGS, noise_cov=[1.0, 2.0, 3.0], offset=[0.0, 1.0, 2.0])
COV = [[2.0, 0.5], [0.5, 1.0]]
ESTIMATE = fe.summarize(LOG_WEIGHTS)
LEFT_OUT = fe.loo(0.1 * LOG_WEIGHTS.T)
BRIDGE = fe.bridge_log_ratios(0.01 * LOG_WEIGHTS, 0.01 * LOG_WEIGHTS[0], n_eff=1000.0)


def estimated(model):
    q = fe.Gaussian(np.zeros(2), scale=1.0)
    return fe.estimate(model, q, 200, rng=0).log_evidence


def exact(model):
    return [model.exact_log_evidence(), estimated(model)]


def own_density(z, x, weights):
    return -0.5 * ((z[0] - x[0]) ** 2 + weights[0][1] * (z[1] - x[1]) ** 2)


# Each with what it says, which fills its caches.
OBJECTS = {
    "Gaussian": (fe.Gaussian([[0.0, 1.0]], scale=[1.0, 2.0]), estimated),
    "full Gaussian": (fe.Gaussian([0.0, 1.0], cov=COV), estimated),
    "StudentT": (fe.StudentT([3.0, 4.0], np.zeros((2, 2)), scale=1.0), estimated),
    "Mixture": (PAIR, estimated),
    "Proposals": (
        fe.Proposals([fe.Gaussian([0.0, 1.0], scale=1.0), PAIR], [0.25, 0.75]),
        lambda qs: qs.log_prob([0.5, 0.5]),
    ),
    "Categorical": (fe.Categorical([[0.25, 0.75]]), lambda q: q.entropy()),
    "LinearGaussian": (FACTORS, exact),
    "LinearGaussian of a mixture": (
        fe.LinearGaussian(POINTS, LOADINGS, noise_cov=np.eye(3), prior=PAIR),
        exact,
    ),
    "its likelihood": (FACTORS.likelihood, lambda likelihood: likelihood.reduced.factor),
    "its posterior": (FACTORS.exact_posterior(), estimated),
    "Model": (
        fe.Model(log_joint=own_density, dim=2, data=POINTS, params=((np.array([1.0, 2.0]),),)),
        estimated,
    ),
    "MixtureModel": (
        fe.MixtureModel([[0.5, 0.0]], PAIR),
        lambda model: [model.exact_log_evidence(), model.exact_posterior().probs],
    ),
    "its posterior's probabilities": (
        fe.MixtureModel([[0.5, 0.0]], PAIR).exact_posterior(),
        lambda q: q.entropy(),
    ),
    "Estimate": (ESTIMATE, lambda estimate: estimate.confidence_interval()),
    "exact Estimate": (
        fe.estimate(fe.MixtureModel([[0.5, 0.0]], PAIR), fe.Categorical([0.5, 0.5])),
        lambda estimate: estimate.elbo,
    ),
    "Estimate with moments": (
        fe.estimate(PAIR, WIDE, 1000, rng=0, moments=True),
        lambda estimate: [estimate.posterior_mean, estimate.posterior_cov],
    ),
    "Expectation": (
        fe.expectation("mean", PAIR, WIDE, 1000, rng=0),
        lambda result: result.confidence_interval(),
    ),
    "PosteriorDraws": (
        fe.importance_resample(PAIR, WIDE, 10, rng=0),
        repr,
    ),
    "ElboGradient": (
        fe.elbo_gradient(FACTORS, fe.Gaussian([0.0, 1.0], cov=COV), 200, rng=0),
        lambda result: [*result.gradients.values()],
    ),
    "Difference": (ESTIMATE - fe.summarize(LOG_WEIGHTS[::-1]), repr),
    "BridgeEstimate": (BRIDGE, lambda result: result.confidence_interval()),
    "LooComparison": (fe.loo_compare([LEFT_OUT, LEFT_OUT]), repr),
    "BoundTable": (ESTIMATE.bounds(), repr),
    "Fit": (fe.fit(FACTORS, n_eval=50, rng=0), lambda fit: [fit.q.mean, fit.elbo]),
    "FitHistory": (
        fe.fit(FACTORS, method="newton", n_eval=50, rng=0).history,
        lambda history: history.elbo,
    ),
    "MixtureFit": (
        fe.fit_mixture(fe.datasets.load_faithful(), 2, rng=0, n_init=2),
        lambda fit: [fit.bic, fit.responsibilities([[2.0, 50.0]])],
    ),
}
COPIES = {
    "itself": lambda thing: thing,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "copy of a copy": lambda thing: copy.copy(copy.deepcopy(thing)),
    **{
        f"pickle {protocol}": lambda thing, protocol=protocol: pickle.loads(
            pickle.dumps(thing, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def arrays(thing, place):
    """The arrays of an object's fields, and of what they hold, with their names."""
    if isinstance(thing, np.ndarray):
        yield place, thing
    elif isinstance(thing, dict):
        for key, item in thing.items():
            yield from arrays(item, f"{place}[{key}]")
    elif isinstance(thing, tuple):
        for key, item in enumerate(thing):
            yield from arrays(item, f"{place}[{key}]")
    elif isinstance(thing, Frozen):
        for key, item in thing.__getstate__().items():
            yield from arrays(item, f"{place}.{key}")


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", OBJECTS)
def test_arrays_are_read_only_and_results_the_same(name, how):
    thing, says = OBJECTS[name]
    before = says(thing)
    made = COPIES[how](thing)
    found = dict(arrays(made, name))
    assert found
    assert found.keys() == dict(arrays(thing, name)).keys()
    assert [place for place, array in found.items() if array.flags.writeable] == []
    np.testing.assert_equal(says(made), before)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", OBJECTS)
def test_no_attribute_can_be_set_or_deleted(name, how):
    made = COPIES[how](OBJECTS[name][0])
    public = [attribute for attribute in dir(made) if not attribute.startswith("_")]
    for attribute in [*vars(made), *public, "another"]:
        with pytest.raises(AttributeError):
            setattr(made, attribute, 1.0)
        with pytest.raises(AttributeError):
            delattr(made, attribute)


def test_all_public_classes_with_arrays_are_here():
    classes = {name: value for name, value in vars(fe).items() if isinstance(value, type)}
    frozen = {value for value in classes.values() if issubclass(value, Frozen)}
    assert frozen == {type(thing) for thing, _ in OBJECTS.values()} & set(classes.values())
    # The others: arrays that a call returns and nothing follows from, numbers, and what grows.
    others = {name for name, value in classes.items() if value not in frozen}
    returned = {name for name in others if issubclass(classes[name], tuple)}
    assert others - returned == {"Adaptation", "LogWeightAccumulator", "Total"}


def test_arguments_stay_writable_and_do_not_matter_any_more():
    x, loadings, noise, offset = np.array(POINTS), np.array(LOADINGS), np.eye(3), np.zeros(3)
    weights, means = np.array([0.3, 0.7]), np.zeros((2, 3))
    mixture = fe.Mixture(weights, fe.Gaussian(means, scale=1.0))
    models = [
        fe.LinearGaussian(x, loadings, noise_cov=noise, offset=offset),
        fe.MixtureModel(x, mixture),
    ]
    before = [model.exact_log_evidence() for model in models]
    for array in (x, loadings, noise, offset, weights, means):
        array += 1.0
    assert all((model.x == POINTS).all() for model in models)
    after = [copy.copy(model).exact_log_evidence() for model in models]
    np.testing.assert_array_equal(after, before)
