"""Bad input: each message names the argument, what came and what was expected."""

import numpy as np
import pytest
from helpers import linear_gaussian

import fastelbo as fe
from fastelbo import errors

MODEL = linear_gaussian()
Q = fe.Gaussian([0.0], scale=1.0)
THREE = fe.Gaussian(np.zeros((3, 2)), scale=1.0)
MIXTURE = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1.0]], scale=1.0))
MIXTURE_MODEL = fe.MixtureModel([[0.0]], MIXTURE)
W = np.ones((3, 2))


def gaussian(**kwargs):
    return lambda: fe.Gaussian([0.0, 0.0], **kwargs)


def linear(**kwargs):
    defaults = {"x": np.zeros((4, 3)), "loadings": W, "noise_cov": 1.0}
    return lambda: fe.LinearGaussian(**(defaults | kwargs))


def estimate(*args, **kwargs):
    return lambda: fe.estimate(*args, **kwargs)


INVALID = {
    # the number of draws
    "no draws": (estimate(MODEL, Q, 0), "n_samples must be at least 1, got 0"),
    "negative draws": (estimate(MODEL, Q, -5), "n_samples must be at least 1, got -5"),
    "draws as a float": (estimate(MODEL, Q, 10.0), "n_samples must be an integer, got 10.0"),
    "draws as a string": (estimate(MODEL, Q, "10"), "n_samples must be an integer, got '10'"),
    "draws as a bool": (estimate(MODEL, Q, True), "n_samples must be an integer, got the bool"),
    "no terms": (lambda: fe.elbo_terms(MODEL, Q, 0), "n_samples must be at least 1"),
    "terms as a bool": (lambda: fe.elbo_terms(MODEL, Q, np.True_), "n_samples .* bool True"),
    "sample": (lambda: Q.sample(-1), "n must be at least 0, got -1"),
    "sample as a float": (lambda: Q.sample(2.5), "n must be an integer, got 2.5"),
    "sample of classes": (lambda: fe.Categorical([1.0]).sample(True), "n must be an integer"),
    # other options of an estimate
    "large group": (estimate(MODEL, Q, 9, iw_sizes=[10]), "iw_sizes .* n_samples = 9, got 10"),
    "empty group": (estimate(MODEL, Q, 9, iw_sizes=[0]), "iw_sizes must be at least 1, got 0"),
    "group as a float": (estimate(MODEL, Q, 9, iw_sizes=[2.0]), "iw_sizes must be an integer"),
    "backend": (estimate(MODEL, Q, 9, backend="gpu"), "backend must be .* got 'gpu'"),
    "no threads": (estimate(MODEL, Q, 9, n_threads=0), "n_threads must be at least 1, got 0"),
    "threads as a bool": (estimate(MODEL, Q, 9, n_threads=True), "n_threads must be an integer"),
    "first_index": (estimate(MODEL, Q, 9, first_index=-1), "first_index must be at least 0"),
    "model": (estimate(3, Q, 9), "model must be a Model, a distribution.*; got int"),
    "model for a class": (
        estimate(fe.Categorical([1.0]), Q, 9),
        "model must be .* got Categorical",
    ),
    "q": (estimate(MODEL, MODEL, 9), "q must be a distribution.*; got LinearGaussian"),
    "q of classes": (estimate(MODEL, fe.Categorical([1.0]), 9), "q must be .*; got Categorical"),
    "dimensions": (
        estimate(MODEL, fe.Gaussian([0.0, 0.0], scale=1.0), 9),
        r"model and q must have the same dimension, got 1 and 2: LinearGaussian\(x=\(1, 1\)",
    ),
    "batches": (
        estimate(linear_gaussian(np.zeros(4)), fe.Gaussian(np.zeros((3, 1)), scale=1.0), 9),
        r"model \(4,\), q \(3,\)",
    ),
    "analytic_kl": (
        estimate(MIXTURE, Q, 9, analytic_kl=True),
        r"no closed form .* Gaussian from Mixture; estimate\(p, q\)\.kl",
    ),
    # mixtures of given components
    "draws of a sum": (
        estimate(MIXTURE_MODEL, fe.Categorical([0.5, 0.5]), 100),
        "n_samples must not be given .* got 100",
    ),
    "groups of a sum": (
        estimate(MIXTURE_MODEL, fe.Categorical([0.5, 0.5]), iw_sizes=[2]),
        "iw_sizes must not be given",
    ),
    "q of a sum": (estimate(MIXTURE_MODEL, Q), "q must be a Categorical .* got Gaussian"),
    "classes": (
        estimate(MIXTURE_MODEL, fe.Categorical([0.2, 0.3, 0.5])),
        "q must have as many classes .* 2; got 3",
    ),
    "terms of a sum": (
        lambda: fe.elbo_terms(MIXTURE_MODEL, fe.Categorical([0.5, 0.5]), 10),
        "model must be one with draws, got a MixtureModel",
    ),
    "mixture": (lambda: fe.MixtureModel([[0.0]], Q), "mixture must be a Mixture .* got Gaussian"),
    "batch of mixtures": (
        lambda: fe.MixtureModel([[0.0]], fe.Mixture([[1.0]] * 2, fe.Gaussian([[0.0]], scale=1.0))),
        r"mixture must be .* got .*batch_shape=\(2,\)",
    ),
    "x of a mixture": (lambda: fe.MixtureModel([[0.0, 1.0]], MIXTURE), r"x .* 1, .* \(1, 2\)"),
    # scales and covariances
    "no scale": (gaussian(), "scale, cov, precision and scale_tril is expected, got none"),
    "two scales": (gaussian(scale=1.0, cov=np.eye(2)), "got scale and cov"),
    "zero scale": (gaussian(scale=[1.0, 0.0]), r"scale must be positive, got 0.0 at index \(1,\)"),
    "negative scale": (gaussian(scale=-1.0), "scale must be positive, got -1.0"),
    "length of scale": (gaussian(scale=[1.0] * 3), r"mean and scale .* shapes \(2,\) and \(3,\)"),
    "shape of cov": (gaussian(cov=np.ones((2, 3))), r"cov must hold square .* \(2, 3\)"),
    "size of cov": (gaussian(cov=np.eye(3)), r"mean and .* shapes \(2,\) and \(3, 3\)"),
    "upper factor": (gaussian(scale_tril=[[1.0, 2.0], [0.0, 1.0]]), "must be lower triangular"),
    "diagonal of factor": (
        gaussian(scale_tril=[[1.0, 0.0], [1.0, -2.0]]),
        r"scale_tril's diagonal must be positive, got -2.0 at index \(1,\)",
    ),
    "batch of scale": (
        lambda: fe.Gaussian(np.zeros((3, 2)), scale=np.ones((4, 2))),
        r"mean \(3,\), scale \(4,\)",
    ),
    "empty mean": (lambda: fe.Gaussian(np.zeros((3, 0)), scale=1.0), r"mean .* got \(3, 0\)"),
    "scales of a t": (
        lambda: fe.StudentT(3.0, [0.0]),
        "one of scale, cov and scale_tril is expected, got none",
    ),
    "df": (lambda: fe.StudentT([3.0, 0.09], [0.0], scale=1.0), "df must be at least 0.1, got 0.09"),
    "negative df": (lambda: fe.StudentT(-1.0, [0.0], scale=1.0), "df must be at least 0.1, got -1"),
    # weights
    "negative weight": (
        lambda: fe.Mixture([1.5, -0.5], MIXTURE.components),
        r"weights must not be negative, got -0.5 at index \(1,\)",
    ),
    "weight not a number": (
        lambda: fe.Mixture([np.nan, 1.0], MIXTURE.components),
        r"weights must be finite; 1 .* first, nan, at index \(0,\)",
    ),
    "sum of weights": (
        lambda: fe.Mixture([0.5, 0.50001], MIXTURE.components),
        "weights must sum to 1 .* within 1e-06, .* off by 1e-05",
    ),
    "number of weights": (
        lambda: fe.Mixture([0.2, 0.3, 0.5], MIXTURE.components),
        r"components .* number of weights, 3; got batch_shape \(2,\)",
    ),
    "components": (lambda: fe.Mixture([1.0], MIXTURE), "components must be .* got Mixture"),
    "probs": (lambda: fe.Categorical([0.5, 0.6]), "probs must sum to 1"),
    "scalar probs": (lambda: fe.Categorical(1.0), r"probs must have a last axis .* got shape \(\)"),
    "class": (lambda: fe.Categorical([0.5, 0.5]).log_prob([2]), "z must be in 0 to 1, got 2 to 2"),
    "class as a float": (lambda: fe.Categorical([1.0]).log_prob([0.0]), "z must hold integers"),
    # data and parameters that are not finite
    "nan in x": (
        linear(x=[[0.0, 0.0, 0.0], [0.0, np.nan, np.inf]]),
        r"x must be finite; 2 of its 6 entries are not, the first, nan, at index \(1, 1\)",
    ),
    "inf in loadings": (linear(loadings=[[np.inf]]), r"loadings must be finite; 1 .* \(0, 0\)"),
    "nan in noise": (linear(noise_cov=np.nan), "noise_cov must be finite"),
    "nan in offset": (linear(offset=np.nan), "offset must be finite"),
    "nan in mean": (lambda: fe.Gaussian([np.nan], scale=1.0), "mean must be finite"),
    "inf in scale": (gaussian(scale=np.inf), "scale must be finite"),
    "nan in cov": (gaussian(cov=[[1.0, 0.0], [np.nan, 1.0]]), "cov must be finite"),
    "nan in df": (lambda: fe.StudentT(np.nan, [0.0], scale=1.0), "df must be finite"),
    "nan in z": (lambda: Q.log_prob([[0.0], [np.nan]]), r"z must be finite; .* index \(1, 0\)"),
    # shapes of a model
    "x and loadings": (linear(x=np.zeros((4, 5))), r"x .* P = 3, .* \(3, 2\) .* \(4, 5\)"),
    "loadings": (linear(loadings=np.zeros(3)), r"loadings must have shape \(P, D\), got \(3,\)"),
    "noise": (linear(noise_cov=np.ones(4)), r"noise_cov must be .* \(3,\) or \(3, 3\), got \(4,\)"),
    "zero noise": (linear(noise_cov=0.0), "noise_cov must be positive, got 0.0"),
    "negative noise": (
        linear(noise_cov=[1.0, 1.0, -1.0]),
        r"noise_cov must be positive, got -1.0 at index \(2,\)",
    ),
    "offset": (linear(offset=np.zeros(2)), r"offset must be a scalar or .* \(3,\), got \(2,\)"),
    "prior": (linear(prior=fe.StudentT(3.0, [0.0, 0.0], scale=1.0)), "prior must be a Gaussian"),
    "dimension of prior": (linear(prior=Q), r"prior must have dimension D = 2, .* got 1"),
    "batch of prior": (linear(prior=THREE), r"x \(4,\), prior \(3,\)"),
    "scale without a reciprocal": (
        lambda: fe.Gaussian([0.0], scale=1e-310).log_prob([0.0]),
        "scale must have a finite inverse",
    ),
    "scale of q without a reciprocal": (
        estimate(fe.StudentT(3.0, [0.0], scale=5e-324), Q, 9),
        "scale must have a finite inverse",
    ),
    "factor without an inverse": (
        lambda: fe.Gaussian(W[0], scale_tril=[[1e-300, 0.0], [1.0, 1e-300]]).log_prob(W[0]),
        "scale_tril must have a finite inverse",
    ),
    "precision without one": (
        lambda: fe.Gaussian(W[0], scale_tril=1e-310 * np.eye(2)).precision,
        "scale_tril must have a finite inverse",
    ),
    "divergence without one": (
        lambda: fe.kl_divergence(
            fe.Gaussian(W[0], scale=1.0),
            fe.Gaussian(W[0], scale_tril=[[1e-300, 0.0], [1.0, 1e-300]]),
        ),
        "scale_tril must have a finite inverse",
    ),
    "densities that are not numbers": (
        lambda: fe.elbo_terms(fe.Gaussian([1e16], scale=1e-300), Q, 9),
        "numbers of log_prior are NaN, the first at data point 0, draw 0",
    ),
    "weights that are not numbers": (
        lambda: fe.log_weights(Q, fe.Gaussian([1e308], scale=1.0), 9, precision="float32"),
        "float64",
    ),
    "posterior of a far point": (
        linear(
            x=[1e200] * 3, prior=fe.Mixture([1.0], fe.Gaussian([[0.0, 0.0]], scale=1.0))
        )().exact_posterior,
        "x must be nearer",
    ),
    "posterior beyond floats": (
        linear(loadings=W * 1e308, noise_cov=1e-300)().exact_log_evidence,
        "must differ less in size",
    ),
    # objects of other kinds
    "merged": (
        lambda: fe.LogWeightAccumulator().merge("x"),
        "other must be a LogWeightAccumulator, got 'x' of type str",
    ),
    "several levels": (
        lambda: fe.estimate(MIXTURE_MODEL, fe.Categorical([0.5, 0.5])).confidence_interval(
            "kl", [0.5, 0.9]
        ),
        "confidence_level must be a real number",
    ),
    "plotted": (lambda: fe.plotting.plot(None, "bounds"), "estimate must be an Estimate"),
    "k-hat plotted": (lambda: fe.plotting.plot(None, "pareto_k"), "estimate must be an Estimate"),
    "plotted bounds": (lambda: fe.plotting.plot_bounds(Q), "estimate must be an Estimate"),
    "plotted together": (
        lambda: fe.plotting.plot_convergence("ab"),
        "estimates must be a sequence of Estimate",
    ),
    "last axis of z": (lambda: THREE.log_prob([1.0]), r"z .* length 2, got shape \(1,\)"),
    "scalar z": (lambda: THREE.log_prob(1.0), r"z .* length 2, got shape \(\)"),
    "batch of z": (lambda: THREE.log_prob(np.zeros((4, 2))), r"z \(4,\), batch_shape \(3,\)"),
}


@pytest.mark.parametrize(("call", "match"), INVALID.values(), ids=INVALID.keys())
def test_invalid_input(call, match):
    with pytest.raises(errors.InvalidInputError, match=match):
        call()


NOT_POSITIVE_DEFINITE = {
    "singular": gaussian(cov=[[1.0, 1.0], [1.0, 1.0]]),
    "indefinite": gaussian(cov=[[1.0, 2.0], [2.0, 1.0]]),
    "zero": gaussian(cov=np.zeros((2, 2))),
    "not symmetric": gaussian(cov=[[1.0, 0.5], [0.5 + 1e-7, 1.0]]),
    "one of a batch": lambda: fe.Gaussian(np.zeros(2), cov=[np.eye(2), [[1.0, 2.0], [2.0, 1.0]]]),
    "not symmetric beside a large one": lambda: fe.Gaussian(
        np.zeros(2), cov=[1e10 * np.eye(2), [[1.0, 0.5], [0.2, 1.0]]]
    ),
    "noise": linear(noise_cov=[[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    "noise not symmetric": linear(noise_cov=[[1.0, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
}


@pytest.mark.parametrize("call", NOT_POSITIVE_DEFINITE.values(), ids=NOT_POSITIVE_DEFINITE.keys())
def test_not_positive_definite(call):
    with pytest.raises(errors.NotPositiveDefiniteError, match=r"cov must be (symmetric|positive)"):
        call()


def test_nearly_symmetric_covariances_are_taken():
    q = fe.Gaussian([0.0, 0.0], cov=[[1.0, 0.5], [0.5 + 1e-9, 1.0]])
    np.testing.assert_allclose(q.cov, [[1.0, 0.5], [0.5, 1.0]], rtol=1e-8)


def test_weights_of_a_float32_softmax_are_taken():
    weights = np.array([0.1, 0.2, 0.7], np.float32)
    shares = fe.Categorical(weights).probs
    assert shares.sum() == pytest.approx(1.0, abs=1e-16)
    np.testing.assert_allclose(shares, weights, rtol=1e-6)


UNSUPPORTED = {
    "complex": np.zeros((4, 3), complex),
    "object": np.zeros((4, 3), object),
    "none": [[None, 0.0, 0.0]],
    "string": np.full((4, 3), "1.0"),
    "longdouble": np.zeros((4, 3), np.longdouble),
    "dates": np.zeros((4, 3), "datetime64[s]"),
    "masked": np.ma.masked_invalid([[0.0, np.nan, 1.0]]),
}


@pytest.mark.parametrize("value", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_unsupported_dtype(value):
    if value is UNSUPPORTED["longdouble"] and value.dtype.itemsize == 8:
        pytest.skip("a long double is a double here")
    expected = "masked array" if isinstance(value, np.ma.MaskedArray) else "has dtype .* expected"
    for call in (linear(x=value), lambda: fe.Gaussian(value, scale=1.0)):
        with pytest.raises(errors.UnsupportedDTypeError, match=expected):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: fe.elbo_terms(MODEL, Q, 2**40),
        lambda: fe.log_weights(MODEL, Q, 2**40),
        lambda: fe.elbo_terms(MODEL, Q, 2**40, backend="numpy"),
        lambda: fe.estimate(MODEL, Q, 2**40, backend="numpy"),
        lambda: Q.sample(2**40),
    ],
    ids=["elbo_terms", "log_weights", "elbo_terms numpy", "estimate numpy", "sample"],
)
def test_too_large_for_memory(call):
    with pytest.raises(MemoryError, match=r"\d{13,} bytes"):
        call()


def test_hierarchy_of_errors():
    assert issubclass(errors.InvalidInputError, ValueError)
    assert issubclass(errors.NotPositiveDefiniteError, np.linalg.LinAlgError)
    assert issubclass(errors.NotPositiveDefiniteError, errors.InvalidInputError)
    assert issubclass(errors.InvalidWeightError, errors.InvalidInputError)
    assert issubclass(errors.UnsupportedDTypeError, TypeError)
    for name in errors.__all__:
        kind = getattr(errors, name)
        base = errors.FastElboWarning if name.endswith("Warning") else errors.FastElboError
        assert issubclass(kind, base)
    assert issubclass(errors.FastElboWarning, UserWarning)
