"""Laplace's approximation: exact for Gaussian posteriors, several modes, and clear errors."""

import math

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.errors import InvalidInputError, ModeError
from fastelbo.models.counted import CountedJoint
from fastelbo.models.gradients import differences
from fastelbo.models.modes import find_mode

COV = np.array([[4.0, 1.2, 0.0], [1.2, 0.5, -0.001], [0.0, -0.001, 1e-4]])
MEAN = np.array([3.0, -2.0, 500.0])


def gaussian_log_joint(z, mean, precision):
    total = -1.0
    for i in range(3):
        for j in range(3):
            total -= 0.5 * (z[i] - mean[i]) * precision[i, j] * (z[j] - mean[j])
    return total


def own(function, dim=1, **options):
    return fe.Model(log_joint=function, dim=dim, vectorized=True, **options)


@pytest.fixture(scope="module")
def gaussian():
    return fe.Model(log_joint=gaussian_log_joint, dim=3, params=(MEAN, np.linalg.inv(COV)))


@pytest.mark.parametrize("start", [None, [0.0, 0.0, 0.0], [-50.0, 80.0, 501.0]])
def test_a_gaussian_posterior_is_exact(gaussian, start):
    q = fe.laplace(gaussian, start, df=None, inflate=1.0)
    assert isinstance(q, fe.Gaussian)
    sd = np.sqrt(np.diag(COV))
    np.testing.assert_allclose((q.mean - MEAN) / sd, 0.0, atol=1e-5)
    np.testing.assert_allclose(q.cov / np.outer(sd, sd), COV / np.outer(sd, sd), atol=1e-6)


@pytest.mark.parametrize(("df", "inflate"), [(5.0, 1.2), (3.0, 2.0), (math.inf, 1.5)])
def test_tails_and_inflation(gaussian, df, inflate):
    q = fe.laplace(gaussian, df=df, inflate=inflate)
    np.testing.assert_allclose(q.cov, inflate * COV, rtol=1e-5, atol=1e-8)
    assert isinstance(q, fe.Gaussian) == (df == math.inf)


def test_df_without_a_covariance_inflates_the_scale_matrix(gaussian):
    q = fe.laplace(gaussian, df=1.0, inflate=2.0)
    scale = q.scale_tril @ q.scale_tril.T
    np.testing.assert_allclose(scale, 2.0 * COV, rtol=1e-5, atol=1e-8)


def test_a_linear_gaussian_model_is_exact():
    model = fe.LinearGaussian([1.0, -2.0, 0.5], [[1.0, 0.2], [0.0, 1.0], [0.5, 0.5]], noise_cov=0.3)
    posterior = model.exact_posterior()
    q = fe.laplace(model, df=None, inflate=1.0)
    np.testing.assert_allclose(q.mean, posterior.mean, atol=1e-6)
    np.testing.assert_allclose(q.cov, posterior.cov, atol=1e-6)


def two_modes(z):
    first = -0.5 * ((z[:, 0] + 4.0) ** 2 + z[:, 1] ** 2)
    second = math.log(3.0) - 0.5 * (((z[:, 0] - 4.0) / 2.0) ** 2 + z[:, 1] ** 2)
    return np.logaddexp(first, second)


def test_several_starts_give_a_mixture_of_modes():
    # The second mode has 3 times the height and twice the volume: 6/7 of the evidence.
    model = own(two_modes, 2)
    one = fe.laplace(model, [-4.0, 1.0])
    assert isinstance(one, fe.StudentT)
    np.testing.assert_allclose(one.mean, [-4.0, 0.0], atol=1e-2)
    q = fe.laplace(model, [[-4.0, 1.0], [5.0, 1.0], [3.0, -1.0]])
    assert isinstance(q, fe.Mixture)
    np.testing.assert_allclose(q.components.mean, [[4.0, 0.0], [-4.0, 0.0]], atol=1e-2)
    np.testing.assert_allclose(q.weights, [6.0 / 7.0, 1.0 / 7.0], rtol=0.02)


def test_restarts_find_other_modes():
    q = fe.laplace(own(two_modes, 2), [-4.0, 1.0], restarts=8, rng=0)
    assert isinstance(q, fe.Mixture)
    assert sorted(np.round(q.components.mean[:, 0])) == [-4.0, 4.0]
    again = fe.laplace(own(two_modes, 2), [-4.0, 1.0], restarts=8, rng=0)
    assert np.array_equal(q.weights, again.weights)


def test_restarts_at_draws_of_the_prior():
    prior = fe.Gaussian([0.0, 0.0], scale=5.0)
    model = fe.Model(log_likelihood=two_modes, prior=prior, vectorized=True)
    assert isinstance(fe.laplace(model, restarts=10, rng=1), fe.Mixture)


def test_a_saddle_is_left():
    # Two labels: at equal means the gradient is 0.
    def labels(z):
        total = -0.5 * ((z / 10.0) ** 2).sum(-1)
        for x in (-3.0, -2.0, 2.0, 3.0):
            total = total + np.logaddexp(-0.5 * (x - z[:, 0]) ** 2, -0.5 * (x - z[:, 1]) ** 2)
        return total

    q = fe.laplace(own(labels, 2), [0.0, 0.0])
    np.testing.assert_allclose(np.sort(q.mean), [-2.5, 2.5], atol=0.05)


def test_a_narrow_support_and_bad_scales():
    # log z with a Jacobian, scales of 1e-6 and 1e6, and a wall.
    def scaled(z):
        with np.errstate(all="ignore"):
            gamma = 3.0 * np.log(z[:, 0] * 1e6) - z[:, 0] * 1e6
        return gamma - 0.5 * (z[:, 1] / 1e6 - 2.0) ** 2

    q = fe.laplace(own(scaled, 2), [1e-6, 0.0], df=None, inflate=1.0)
    np.testing.assert_allclose(q.mean, [3e-6, 2e6], rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(np.diag(q.cov)), [math.sqrt(3.0) * 1e-6, 1e6], rtol=1e-3)


def flat(z):
    return -0.5 * (z[:, 0] + z[:, 1]) ** 2


def separable(z):
    return -np.logaddexp(0.0, -z[:, 0])


def rising(z):
    return z[:, 0]


def edge(z):
    return np.where(z[:, 0] < 0.0, -np.inf, -z[:, 0])


def nan_beside(z):
    return np.where(abs(z[:, 1]) > 1e-9, np.nan, -(z[:, 0] ** 2))


@pytest.mark.parametrize(
    ("function", "dim", "start", "message"),
    [
        (flat, 2, [1.0, 2.0], "flat along a direction of coordinates 0, 1"),
        (separable, 1, None, "mode seems to be at infinity"),
        (rising, 1, None, "at infinity"),
        (edge, 1, [1.0], "NaN or infinite beside|at infinity|does not fall|not negative definite"),
        (edge, 1, [-1.0], "is -inf at the start"),
        (nan_beside, 2, [0.5, 0.0], "region of NaN"),
        (nan_beside, 2, [0.5, 1.0], "is nan at the start"),
    ],
)
def test_what_has_no_mode(function, dim, start, message):
    with pytest.raises(ModeError, match=message):
        fe.laplace(own(function, dim), start)


def half(z):
    return np.where(z[:, 0] < 0.0, -np.inf, -((z[:, 0] - 3.0) ** 2))


def test_one_of_several_starts_may_fail():
    assert isinstance(fe.laplace(own(half), [[-1.0], [2.0]]), fe.StudentT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": [1.0]}, r"start must have shape \(3,\) or \(S, 3\)"),
        ({"start": np.zeros((0, 3))}, "start must have shape"),
        ({"start": [0.0, np.nan, 0.0]}, "start must be finite"),
        ({"df": 0.0}, "df must be at least 0.1"),
        ({"df": math.nan}, "df must be at least 0.1"),
        ({"df": True}, "df must be a real number"),
        ({"inflate": 0.0}, "inflate must be positive"),
        ({"inflate": math.inf}, "inflate must be positive"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"restarts": 2, "rng": "a"}, "rng must be"),
    ],
)
def test_bad_arguments(gaussian, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        fe.laplace(gaussian, **arguments)


@pytest.mark.parametrize("call", [fe.laplace, fe.adapt])
def test_models_with_a_batch_are_refused(call):
    with pytest.raises(InvalidInputError, match="no batch of data points"):
        call(fe.LinearGaussian([[1.0], [2.0]], [[1.0]], noise_cov=1.0))
    mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1.0]], scale=1.0))
    with pytest.raises(InvalidInputError, match="must have draws"):
        call(fe.MixtureModel([[0.0]], mixture))
    for wrong in (None, fe.Gaussian, "model"):
        with pytest.raises(InvalidInputError, match="must be a Model or a distribution"):
            call(wrong)


def test_evaluations_are_counted():
    calls = []

    def counted(z):
        calls.append(len(z))
        return -0.5 * (z**2).sum(-1)

    model = own(counted, 4)
    joint, before = CountedJoint(model), sum(calls)
    find_mode(joint, np.ones(4))
    # A call may be padded by a row, so that no shape is taken for another.
    assert 0 <= sum(calls) - before - joint.evaluations <= len(calls)


def test_differences_at_an_edge():
    joint = CountedJoint(own(lambda z: np.where(z[:, 0] > 1.0, -np.inf, z[:, 0])))
    value, slope = differences(joint, np.array([1.0]), np.array([1.0]))
    assert value == 1.0
    np.testing.assert_allclose(slope, [1.0], rtol=1e-6)


def test_gradients_of_torch_are_used():
    torch = pytest.importorskip("torch")

    def log_joint(z):
        assert z.shape[-1] == 2
        return -0.5 * ((z - torch.tensor([1.0, -2.0])) ** 2).sum(-1)

    q = fe.laplace(fe.from_torch(log_joint, dim=2), df=None, inflate=1.0)
    np.testing.assert_allclose(q.mean, [1.0, -2.0], atol=1e-5)
