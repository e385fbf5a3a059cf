"""Values and gradients of log p(x, z) at given points."""

import numpy as np
import pytest
from cases import CASES, linear
from scipy.special import logsumexp, softmax

import fastelbo as fe
from fastelbo.errors import InvalidInputError
from fastelbo.models.slopes import log_joint_and_gradient

# Every prior and noise, and every family as the model; the other cases have other q.
NAMES = [
    "diagonal-standard-scalar", "diagonal-gaussian-diagonal", "diagonal-mixture-full",
    "full-standard-full", "full-mixture-scalar", "one_dimension", "prior_batch", "every_batch",
    "small_noise", "small_noise_far", "small_noise_far_mixture", "plain_gaussian", "plain_t",
    "plain_mixture", "plain_zero_weight",
]  # fmt: skip


def points(model, q, n):
    """Draws of q, one a data point."""
    batch = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    z = q.sample(n, rng=3)
    lead = (1,) * (len(batch) - len(q.batch_shape))
    return np.broadcast_to(z.reshape(n, *lead, *z.shape[1:]), (n, *batch, q.dim))


def check_differences(log_joint, z, slopes, step=1e-5, tol=1e-7):
    """Slopes are central differences, of as many digits as values of that size leave."""
    for d in range(z.shape[-1]):
        move = step * np.eye(z.shape[-1])[d]
        high, low = log_joint(z + move), log_joint(z - move)
        noise = 1e-15 * np.abs(high).max() / step
        expected = (high - low) / (2.0 * step)
        scale = 1.0 + np.abs(expected).max()
        np.testing.assert_allclose(slopes[..., d], expected, atol=tol * scale + 20.0 * noise)


@pytest.mark.parametrize("name", NAMES)
def test_values_and_differences(name):
    model, q = CASES[name]()
    z = points(model, q, 7)
    values, slopes = log_joint_and_gradient(model, z)
    exact = model.log_joint(z)
    # Residuals of x = 100 and noise of .001 keep eleven digits.
    tol = 1e-10 if "far" in name else 1e-12
    np.testing.assert_allclose(values, exact, rtol=tol, atol=tol * np.abs(exact).max())
    assert slopes.shape == z.shape
    # Where noise is small, so is the step, but values are quadratic there.
    check_differences(model.log_joint, z, slopes, 1e-5 if "small" not in name else 1e-3, 1e-6)


def mixture_score(weights, means, covs, z):
    """Log density of a Gaussian mixture and its gradient, of one component after the other."""
    inverses = np.linalg.inv(covs)
    moved = z[:, None, :] - means
    pulls = np.einsum("cde,nce->ncd", inverses, moved)
    logs = np.log(weights) - 0.5 * (moved * pulls).sum(-1)
    logs = logs - 0.5 * np.linalg.slogdet(2.0 * np.pi * covs)[1]
    return logsumexp(logs, axis=1), -(softmax(logs, axis=1)[..., None] * pulls).sum(1)


def test_a_mixture_prior_against_plain_numpy():
    model, q = linear("full", "mixture", "full", dim=5, features=7)
    # More draws than a block has lanes, some of them far away.
    z = q.sample(1100, rng=0) * np.geomspace(0.1, 100.0, 1100)[:, None]
    values, slopes = model.log_joint_gradient(z)
    prior, components = model.prior, model.prior.components
    value, slope = mixture_score(prior.weights, components.mean, components.cov, z)
    residual = model.x - model.offset - z @ model.loadings.T
    pull = np.linalg.solve(model.noise_cov, residual.T).T
    value = value - 0.5 * (residual * pull).sum(-1)
    value = value - 0.5 * np.linalg.slogdet(2.0 * np.pi * model.noise_cov)[1]
    slope = slope + pull @ model.loadings
    np.testing.assert_allclose(values, value, rtol=1e-11)
    np.testing.assert_allclose(slopes, slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("df", [None, 3.0])
def test_between_far_components_and_far_away(df):
    kind = fe.Gaussian if df is None else lambda *a, **b: fe.StudentT(df, *a, **b)
    mixture = fe.Mixture([0.5, 0.5], kind([[-1000.0, 0.0], [1000.0, 0.0]], scale=1.0))
    z = np.array([[0.0, 0.5], [1e-3, 0.0], [-700.0, 2.0], [1000.0, -1.0], [1e7, 1e6]])
    values, slopes = log_joint_and_gradient(mixture, z)
    np.testing.assert_allclose(values, mixture.log_joint(z), rtol=1e-12)
    assert np.isfinite(slopes).all()
    moved = np.stack([z - [m, 0.0] for m in (-1000.0, 1000.0)], 1)
    square = (moved**2).sum(-1)
    logs = -0.5 * square if df is None else -0.5 * (df + 2) * np.log1p(square / df)
    pulls = moved if df is None else (df + 2) / (df + square)[..., None] * moved
    expected = -(softmax(logs, axis=1)[..., None] * pulls).sum(1)
    np.testing.assert_allclose(slopes, expected, rtol=1e-9, atol=1e-12)


def test_where_squares_overflow():
    gaussian, z = fe.Gaussian([0.0, 1.0], scale=2.0), np.array([[1e200, -4e250]])
    values, slopes = log_joint_and_gradient(gaussian, z)
    assert values[0] == -np.inf
    np.testing.assert_allclose(slopes, -0.25 * z)
    t = fe.StudentT(4.0, [0.0, 1.0], scale=2.0)
    values, slopes = log_joint_and_gradient(t, z)
    np.testing.assert_allclose(values, t.log_prob(z), rtol=1e-12)
    # Far away, the gradient is -(df + D) z / |z|^2.
    expected = 6.0 / 4e250 * np.array([-1e200 / 4e250, 1.0])
    np.testing.assert_allclose(slopes[0], expected, rtol=1e-9, atol=0)


def own_density(z, x):
    return -0.5 * (z[0] - x[0]) ** 2 - np.exp(0.3 * z[1]) - np.log1p((z[0] * z[1]) ** 2)


def test_a_model_of_a_users_function():
    data = np.array([[0.5], [-1.0], [2.0]])
    prior = fe.StudentT(4.0, [0.2, -0.1], scale=[1.0, 2.0])
    model = fe.Model(log_likelihood=own_density, prior=prior, data=data)
    z = np.random.default_rng(1).normal(size=(5, 3, 2))
    values, slopes = model.log_joint_gradient(z)
    np.testing.assert_allclose(values, model.log_joint(z), rtol=1e-12)
    check_differences(model.log_joint, z, slopes)


def test_shapes():
    model = CASES["every_batch"]()[0]
    assert model.batch_shape == (2, 3)
    for shape in ((), (3,), (2, 1), (4, 2, 3), (0, 2, 3), (5, 1, 1, 1)):
        values, slopes = model.log_joint_gradient(np.full((*shape, model.dim), 0.5))
        assert values.shape == np.broadcast_shapes(shape, (2, 3))
        assert slopes.shape == (*values.shape, model.dim)


@pytest.mark.parametrize(
    ("z", "match"),
    [
        (np.zeros(4), "z must have a last axis of length 3"),
        ([0.0, np.nan, 0.0], "z must be finite|z.*finite"),
        (np.zeros((5, 2, 3)), "z"),
    ],
)
def test_bad_points(z, match):
    model = linear("full", model_batch=(4,))[0]
    with pytest.raises(InvalidInputError, match=match):
        model.log_joint_gradient(z)
