"""Log densities and sigmoids of `fastelbo.math` in plain Python, against mpmath and SciPy."""

import inspect

import mpmath as mp
import numpy as np
import pytest
from math_cases import DENSITIES, EDGES, INF, NAN, RNG, function, signed, success
from scipy import special, stats

import fastelbo as fe

EPS = np.finfo(float).eps


def assert_within(got, terms, ulps):
    """Every value is as near to the sum of its terms as rounding each of them allows."""
    for value, parts in zip(got, terms, strict=True):
        error = abs(mp.mpf(float(value)) - mp.fsum(parts))
        assert error <= ulps * EPS * max(mp.fsum(map(abs, parts)), 1e-300), (value, parts)


@pytest.mark.parametrize("name", DENSITIES)
def test_densities(name):
    case = DENSITIES[name]
    with mp.workdps(60):
        numbers = [[mp.mpf(float(value)) for value in each] for each in case.args]
        terms = [case.terms(*each) for each in zip(*numbers, strict=True)]
        assert_within(function(name)(*case.args), terms, 6)


def in_scipy(name, args):
    if name == "student_t":
        x, df, loc, scale = args
        return stats.t.logpdf(x, df, loc, scale)
    if name == "log_normal":
        x, loc, scale = args
        return stats.lognorm.logpdf(x, scale, scale=np.exp(loc))
    if name == "exponential":
        return stats.expon.logpdf(args[0], scale=1.0 / args[1])
    if name in ("half_normal", "half_cauchy"):
        return DENSITIES[name].scipy.logpdf(args[0], scale=args[1])
    if name == "gamma":
        return stats.gamma.logpdf(args[0], args[1], scale=1.0 / args[2])
    if name == "inverse_gamma":
        return stats.invgamma.logpdf(args[0], args[1], scale=args[2])
    if name == "poisson_log":
        return stats.poisson.logpmf(args[0], np.exp(args[1]))
    if name in ("bernoulli_logit", "binomial_logit"):
        return DENSITIES[name].scipy.logpmf(*args[:-1], special.expit(args[-1]))
    return DENSITIES[name].scipy.logpdf(*args)


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_mean_what_scipy_means(name):
    n = len(DENSITIES[name].args)
    args = list(RNG.uniform(0.2, 3.0, size=(n, 40)))
    if name == "beta":
        args[0] /= 4.0
    if DENSITIES[name].scipy in (stats.bernoulli, stats.binom, stats.poisson):
        args[0] = RNG.integers(0, 2, 40).astype(float)
        if n == 3:
            args[1] = RNG.integers(0, 4, 40).astype(float)
    np.testing.assert_allclose(function(name)(*args), in_scipy(name, args), rtol=1e-12)


@pytest.mark.parametrize(("name", "args", "expected"), EDGES)
def test_edges(name, args, expected):
    got = function(name)(*args)
    assert isinstance(got, float)
    np.testing.assert_allclose(got, expected, rtol=4e-16, atol=0.0)


def test_categories():
    logits = signed(-3, 2, 7)
    for y in range(7):
        terms = [mp.mpf(logits[y]), -mp.log(mp.fsum(mp.exp(mp.mpf(v)) for v in logits))]
        assert_within([fe.math.categorical_logit_log_prob(y, logits)], [terms], 4)
    for y in (-1, 7, 0.5, INF, -INF):
        assert fe.math.categorical_logit_log_prob(y, logits) == -INF
    assert np.isnan(fe.math.categorical_logit_log_prob(NAN, logits))
    assert np.isnan(fe.math.categorical_logit_log_prob(9, [0.0, NAN]))
    assert fe.math.categorical_logit_log_prob(0, [0.0, -INF]) == 0.0
    assert fe.math.categorical_logit_log_prob(1, [0.0, -INF]) == -INF
    assert fe.math.categorical_logit_log_prob(1, [1e308, -1e308]) == -INF


# --- sigmoids -----------------------------------------------------------------------------------

SIGMOIDS = {
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "log_sigmoid": success,
    "expit": lambda x: 1 / (1 + mp.exp(-x)),
}


@pytest.mark.parametrize("name", SIGMOIDS)
def test_sigmoids(name):
    x = np.r_[signed(-300, 2), signed(0, 2.8), RNG.uniform(-40, 40, 300)]
    x = x[x > -708]  # a result below the normal numbers has fewer digits
    x = x if name != "log_sigmoid" else -x
    with mp.workdps(400):
        terms = [[SIGMOIDS[name](mp.mpf(float(each)))] for each in x]
        assert_within(getattr(fe.math, name)(x), terms, 4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("softplus", [0.0, 0.0, INF, 1e308, NAN]),
        ("log_sigmoid", [-INF, -1e308, 0.0, 0.0, NAN]),
        ("expit", [0.0, 0.0, 1.0, 1.0, NAN]),
    ],
)
def test_sigmoids_far_out(name, expected):
    got = getattr(fe.math, name)([-INF, -1e308, INF, 1e308, NAN])
    np.testing.assert_array_equal(got, expected)


def test_sums_on_the_log_scale():
    edges = np.r_[INF, -INF, NAN, 0.0, 1e308, -1e308, RNG.normal(0, 300, 30)]
    x, y = np.meshgrid(edges, edges)
    with np.errstate(all="ignore"):
        expected = np.logaddexp(x, y)
    np.testing.assert_allclose(fe.math.logaddexp(x, y), expected, rtol=1e-15)
    for pair in zip(x.ravel(), y.ravel(), strict=True):
        with np.errstate(all="ignore"):
            expected = special.logsumexp(pair)
        np.testing.assert_allclose(fe.math.logsumexp(pair), expected, rtol=1e-15)
    a = RNG.normal(0, 300, 50)
    np.testing.assert_allclose(fe.math.logsumexp(a), special.logsumexp(a), rtol=1e-15)


# --- arguments ----------------------------------------------------------------------------------


def test_arrays_broadcast():
    x, loc = RNG.normal(size=(3, 1)), RNG.normal(size=4)
    got = fe.math.normal_log_prob(x, loc, scale=2)
    assert got.shape == (3, 4)
    np.testing.assert_array_equal(got[1, 2], fe.math.normal_log_prob(x[1, 0], loc[2], 2.0))
    value, log_jacobian = fe.math.lower_bounded(0.5, lower=[1.0, 2.0])
    assert value.shape == log_jacobian.shape == (2,)
    assert fe.math.normal_log_prob(np.zeros((0, 2)), 0.0, 1.0).shape == (0, 2)


def test_results_share_no_memory():
    u = np.array([0.5, 1.0])
    for part in (*fe.math.positive(u), *fe.math.ordered(u), *fe.math.simplex(u)):
        assert not np.shares_memory(u, part)


VECTORS = {"logsumexp": "a", "ordered": "u", "simplex": "u", "categorical_logit_log_prob": "logits"}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("value", [1.0, [], [[1.0, 2.0]]])
def test_functions_of_one_vector(name, value):
    rest = {"y": 0} if "categorical" in name else {}
    with pytest.raises(fe.errors.InvalidInputError, match=rf"{VECTORS[name]} must be one vector"):
        getattr(fe.math, name)(**{VECTORS[name]: value}, **rest)


def test_wrong_arguments():
    with pytest.raises(fe.errors.InvalidInputError, match="y must be a number"):
        fe.math.categorical_logit_log_prob([0, 1], [0.0, 1.0])
    with pytest.raises(fe.errors.InvalidInputError, match=r"x \(2,\), loc \(3,\)"):
        fe.math.normal_log_prob([1.0, 2.0], [1.0, 2.0, 3.0], 1.0)
    with pytest.raises(fe.errors.UnsupportedDTypeError, match="scale has dtype complex128"):
        fe.math.normal_log_prob(0.0, 0.0, 1j)
    with pytest.raises(TypeError, match="scale"):
        fe.math.normal_log_prob(0.0, 0.0)


@pytest.mark.parametrize("name", fe.math.__all__)
def test_documentation(name):
    thing = getattr(fe.math, name)
    doc = inspect.getdoc(thing)
    assert "Examples\n--------\n>>> import fastelbo as fe\n" in doc
    head = doc.partition("Parameters\n")[2].partition("\nReturns")[0]
    for parameter in inspect.signature(thing).parameters:
        assert parameter in head, parameter


def test_public_names():
    assert dir(fe.math) == sorted(fe.math.__all__)
