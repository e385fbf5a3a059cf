"""Gradients of users' models: by dual numbers, by grad=, and what is refused."""

import copy
import functools
import math
import pickle

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS
from scipy import special
from test_duals import schools_by_hand
from test_vectors import EFFECTS, ERRORS

import fastelbo as fe
from benchmarks.user_models import schools
from fastelbo.errors import InvalidInputError, OneDrawAtATimeWarning
from fastelbo.models.counted import CountedJoint
from fastelbo.models.gradients import known_gradient
from fastelbo.models.slopes import log_joint_and_gradient

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
RNG = np.random.default_rng(17)


def schools_grad(z, y, sigma):
    tau = math.exp(z[1])
    g = np.empty(10)
    of_mu, of_tau, square = -z[0] / 25.0, 0.0, (tau / 5.0) ** 2
    for j in range(8):
        pull = (y[j] - z[0] - tau * z[2 + j]) / sigma[j] ** 2
        of_mu += pull
        of_tau += pull * z[2 + j]
        g[2 + j] = tau * pull - z[2 + j]
    g[0] = of_mu
    g[1] = 1.0 - 2.0 * square / (1.0 + square) + tau * of_tau
    return g


def schools_both(z, y, sigma):
    """The pair of log density and gradient, in one loop."""
    tau = math.exp(z[1])
    g = np.empty(10)
    square = (tau / 5.0) ** 2
    total = -0.5 * (z[0] / 5.0) ** 2 + z[1] - math.log(1.0 + square)
    of_mu, of_tau = -z[0] / 25.0, 0.0
    for j in range(8):
        rest = (y[j] - z[0] - tau * z[2 + j]) / sigma[j]
        pull = rest / sigma[j]
        total -= 0.5 * z[2 + j] ** 2 + 0.5 * rest**2
        of_mu += pull
        of_tau += pull * z[2 + j]
        g[2 + j] = tau * pull - z[2 + j]
    g[0] = of_mu
    g[1] = 1.0 - 2.0 * square / (1.0 + square) + tau * of_tau
    return total, g


def of_schools(grad=None):
    return fe.Model(log_joint=schools, dim=10, params=(EFFECTS, ERRORS), grad=grad)


@pytest.fixture(scope="module", params=[None, schools_grad, schools_both])
def eight_schools(request):
    return of_schools(request.param)


def test_eight_schools(eight_schools):
    z = RNG.normal(size=(3, 700, 10)) * 1.5
    values, slopes = log_joint_and_gradient(eight_schools, z)
    equal = np.testing.assert_array_equal
    if eight_schools.likelihood.gradient_has_value:
        equal = functools.partial(np.testing.assert_allclose, rtol=1e-13)
    equal(values, eight_schools.log_joint(z))
    exact = np.moveaxis(schools_by_hand(np.moveaxis(z, -1, 0).reshape(10, -1)), 0, -1)
    exact = exact.reshape(z.shape)
    assert (abs(slopes - exact) <= 1e-12 * np.maximum(1.0, abs(exact))).all()
    alone = eight_schools.likelihood.value_and_gradient(z[0])
    np.testing.assert_array_equal(alone[0], values[0])
    np.testing.assert_allclose(alone[1], slopes[0], rtol=1e-15, atol=1e-15)


def test_copies_have_the_same_gradient(eight_schools):
    z = RNG.normal(size=(5, 10))
    _, slopes = log_joint_and_gradient(eight_schools, z)
    for other in (copy.deepcopy(eight_schools), pickle.loads(pickle.dumps(eight_schools))):
        np.testing.assert_array_equal(log_joint_and_gradient(other, z)[1], slopes)


def test_a_search_counts_a_gradient_as_one_point(eight_schools):
    joint = CountedJoint(eight_schools)
    both = known_gradient(joint)
    value, slope = both(np.full(10, 0.3))
    assert joint.evaluations == 1
    expected = log_joint_and_gradient(eight_schools, np.full((1, 10), 0.3))
    assert value == expected[0][0]
    np.testing.assert_array_equal(slope, expected[1][0])
    assert both(np.full(10, np.inf))[0] == -np.inf


# --- data, priors, returns ----------------------------------------------------------------------

LOADINGS = RNG.normal(size=(3, 2))
X = RNG.normal(size=(4, 3))
LINEAR = fe.LinearGaussian(
    X, LOADINGS, noise_cov=0.5, prior=fe.Gaussian([0.3, 0.0], cov=[[1.0, 0.2], [0.2, 2.0]])
)


def log_likelihood(z, x, w):
    total = -1.5 * math.log(math.pi)
    for p in range(3):
        total -= (x[p] - w[p, 0] * z[0] - w[p, 1] * z[1]) ** 2
    return total


def as_tuple(z, x, w):
    one, two = 0.0, 0.0
    for p in range(3):
        rest = 2.0 * (x[p] - w[p, 0] * z[0] - w[p, 1] * z[1])
        one += rest * w[p, 0]
        two += rest * w[p, 1]
    return one, two


def as_list(z, x, w):
    one, two = as_tuple(z, x, w)
    return [one, two]


def as_vector(z, x, w):
    return 2.0 * ((x - w @ z) @ w)


@pytest.mark.parametrize("grad", [None, as_tuple, as_list, as_vector])
def test_data_points_and_a_prior(grad):
    model = fe.Model(
        log_likelihood=log_likelihood, prior=LINEAR.prior, data=X, params=(LOADINGS,), grad=grad
    )
    z = RNG.normal(size=(600, 4, 2))
    got, expected = log_joint_and_gradient(model, z), log_joint_and_gradient(LINEAR, z)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-13)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12, atol=1e-13)


def test_own_defaults_of_both_functions():
    def log_joint(z, a, b=2.0):
        return -0.5 * a * z[0] ** 2 - b

    def grad(z, a, c=1.0, *, d=0.0):
        return (-a * c * z[0] + d,)

    model = fe.Model(log_joint=log_joint, dim=1, params=(3.0,), grad=grad)
    values, slopes = log_joint_and_gradient(model, [[2.0]])
    assert (values[0], slopes[0, 0]) == (-8.0, -6.0)


def steered(z):
    total = 0.0
    while total < z[0]:
        total += 1.0
    return -0.5 * z[0] ** 2 - total


def test_one_draw_at_a_time():
    with pytest.warns(OneDrawAtATimeWarning):
        model = fe.Model(log_joint=steered, dim=1)
    z = RNG.normal(size=(40, 1))
    values, slopes = log_joint_and_gradient(model, z)
    np.testing.assert_array_equal(values, model.log_joint(z))
    np.testing.assert_array_equal(slopes, -z)


def steered_gradient(z):
    return (-z[0] + 0.0 * int(z[0]),)


def test_a_gradient_one_draw_at_a_time():
    with pytest.warns(OneDrawAtATimeWarning, match="grad steered_gradient") as caught:
        model = fe.Model(log_joint=lambda z: -0.5 * z[0] ** 2, dim=1, grad=steered_gradient)
    assert caught[0].filename == __file__
    z = RNG.normal(size=(40, 1))
    np.testing.assert_array_equal(log_joint_and_gradient(model, z)[1], -z)


def raises_above_one(z):
    if z[0] > 1.0:
        raise ValueError("math domain error")
    return -0.5 * z[0] ** 2


@pytest.mark.filterwarnings("ignore::fastelbo.errors.OneDrawAtATimeWarning")
def test_draws_at_which_it_raises_are_nan_alone():
    model = fe.Model(log_joint=raises_above_one, dim=1)
    z = RNG.normal(size=(1200, 1))
    values, slopes = log_joint_and_gradient(model, z)
    bad = z[:, 0] > 1.0
    assert bad.any()
    np.testing.assert_array_equal(np.isnan(values), bad)
    np.testing.assert_array_equal(slopes[~bad], -z[~bad])
    alone = model.likelihood.value_and_gradient(z)
    np.testing.assert_array_equal(alone[0], values)
    np.testing.assert_array_equal(np.isnan(alone[1][:, 0]), bad)


# --- the check of grad= -------------------------------------------------------------------------


def off(z, y, sigma):
    g = 1.0 * schools_grad(z, y, sigma)
    g[3] *= 1.0 + 1e-4
    return g


def shifted(z, y, sigma):
    value, g = schools_both(z, y, sigma)
    return value + 1.0, g


REFUSED = {
    "another value": (shifted, r"returned .* beside the gradient, where the log density is"),
    "wrong": (off, r"grad off .* as the slope in z\[3\], and central differences .*at z = \["),
    "a number": (lambda z, y, s: z[0], r"returned .*; expected the gradient in z.* 10 real"),
    "short": (lambda z, y, s: z[:9], r"of shape \(9,\).*expected the gradient in z"),
    "None": (lambda z, y, s: None, r"returned None .*; expected the gradient in z"),
    "arguments": (lambda z: z, r"grad <lambda> .* is called as <lambda>\(z, \*params\)"),
    "raises": (lambda z, y, s: z[99], "grad <lambda> .* raised IndexError"),
    "no function": (3, "grad must be a function, got 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_gradients_that_are_refused(name):
    grad, message = REFUSED[name]
    with pytest.raises(InvalidInputError, match=message):
        of_schools(grad)


def test_a_density_without_a_rule_asks_for_grad():
    def log_joint(z):
        return special.digamma(1.0 + z[0] ** 2) - z[0] ** 2

    model = fe.Model(log_joint=log_joint, dim=1)  # values need no gradient
    with pytest.raises(InvalidInputError, match=r"no derivative.*special.digamma.*grad="):
        log_joint_and_gradient(model, [[0.0]])
    assert known_gradient(CountedJoint(model)) is None


KINKS = {
    "a kink at a probe": (lambda z: -abs(z[0] - 0.375), lambda z: (-1.0 if z[0] > 0.375 else 1.0,)),
    "an edge": (
        lambda z: -z[0] if z[0] > 0 else -math.inf, lambda z: (-1.0 if z[0] > 0 else math.nan,),
    ),
    "steep": (lambda z: -1e8 * z[0] ** 2, lambda z: (-2e8 * z[0],)),
    "far from 0": (lambda z: 1e9 - 0.5 * z[0] ** 2, lambda z: (-z[0],)),
    "rough": (lambda z: math.sin(40.0 * z[0]) - z[0] ** 2,
              lambda z: (40.0 * math.cos(40.0 * z[0]) - 2.0 * z[0],)),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_gradients_that_are_taken(name):
    function, grad = KINKS[name]
    fe.Model(log_joint=function, dim=1, grad=grad)


# --- functions of arrays ------------------------------------------------------------------------


def of_arrays(z, x):
    return -1.5 * np.log(np.pi) - ((x - z @ LOADINGS.T) ** 2).sum(-1)


def grad_of_arrays(z, x):
    return 2.0 * (x - z @ LOADINGS.T) @ LOADINGS


def of_host(grad):
    return fe.Model(
        log_likelihood=of_arrays, prior=LINEAR.prior, data=X, vectorized=True, grad=grad
    )


def test_a_gradient_of_arrays():
    z = RNG.normal(size=(3, 700, 4, 2))
    got, expected = (log_joint_and_gradient(m, z) for m in (of_host(grad_of_arrays), LINEAR))
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-13)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12, atol=1e-13)
    pair = of_host(lambda z, x: (of_arrays(z, x), grad_of_arrays(z, x)))
    for one, other in zip(log_joint_and_gradient(pair, z), got, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gradients_of_arrays_that_are_refused():
    with pytest.raises(InvalidInputError, match=r"beside the gradient"):
        of_host(lambda z, x: (of_arrays(z, x) + 1.0, grad_of_arrays(z, x)))
    with pytest.raises(InvalidInputError, match=r"no gradient of its own: give it as grad="):
        log_joint_and_gradient(of_host(None), np.zeros((4, 2)))
    with pytest.raises(InvalidInputError, match=r"as the slope in z\[0\].* and data\[0\]"):
        of_host(lambda z, x: 1.001 * grad_of_arrays(z, x))
    with pytest.raises(InvalidInputError, match=r"of shape \(1, 1, 2\) as z.* shape \(1, 1\)"):
        of_host(lambda z, x: grad_of_arrays(z, x)[..., 0])
