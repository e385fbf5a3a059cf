"""Variational Newton on whitened draws: exact for quadratic densities, safe for others."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import gammaln, roots_hermitenorm

import fastelbo as fe
from fastelbo.demo import digits_model
from fastelbo.engine.fits import variational_newton
from fastelbo.engine.fits.fitted import FitOptions
from fastelbo.engine.fits.newton_steps import Diagonal, Full, Local
from fastelbo.engine.fits.variational_newton import Newton, newton
from fastelbo.engine.fits.whitened_draws import default_count, student_draws, whitened_draws
from fastelbo.errors import HighParetoKWarning, InvalidInputError
from fastelbo.models.slopes import log_joint_and_gradient
from fastelbo.models.subsets import Subset, joint_slopes

# --- draws --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "count"), [(1, 4), (3, 6), (3, 31), (10, 40)])
def test_whitened_draws_have_exact_moments(dim, count):
    draws = whitened_draws(dim, count, 5)
    assert draws.shape == (count + count % 2, dim)
    np.testing.assert_allclose(draws.mean(axis=0), 0.0, atol=1e-14)
    np.testing.assert_allclose(draws.T @ draws / len(draws), np.eye(dim), atol=1e-13)
    np.testing.assert_array_equal(draws, whitened_draws(dim, count, 5))
    assert np.abs(draws - whitened_draws(dim, count, 6)).max() > 0.1


def test_whitened_draws_are_normal():
    draws = whitened_draws(2, 4000, 1)
    # The sd of the mean of e^4 over 2000 pairs is sqrt(96 / 2000), of e_1^2 e_2^2 sqrt(8 / 2000).
    np.testing.assert_allclose((draws**4).mean(axis=0), 3.0, atol=4.5 * math.sqrt(96 / 2000))
    assert abs((draws[:, 0] ** 2 * draws[:, 1] ** 2).mean() - 1.0) < 4.5 * math.sqrt(8 / 2000)


def test_fewer_draws_than_dimensions_are_an_error():
    with pytest.raises(InvalidInputError, match="at least 2 D = 8"):
        whitened_draws(4, 6, 0)
    assert default_count(20) == 80


@pytest.mark.parametrize("df", [2.5, 5.0, 1e6])
def test_student_draws_have_exact_moments(df):
    draws = student_draws(whitened_draws(3, 60, 2), df)
    target = df / (df - 2.0) * np.eye(3)
    np.testing.assert_allclose(draws.T @ draws / 60, target, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(draws[:30], -draws[30:])


def test_student_draws_have_the_tails_of_their_law():
    draws = student_draws(whitened_draws(1, 4000, 2), 1.5)
    share = (np.abs(draws) > 3.0).mean()
    # 2 P(t_1.5 > 3)
    assert abs(share - 0.1247) < 4.5 * math.sqrt(0.1247 * 0.8753 / 2000)


# --- quadratic log densities --------------------------------------------------------------------

RNG = np.random.default_rng(0)
LOADINGS = RNG.normal(size=(5, 3))
X = RNG.normal(size=(2, 3, 5))
PRIOR = fe.Gaussian([0.5, -1.0, 0.0], scale_tril=[[1.0, 0, 0], [0.4, 0.8, 0], [0.1, 0.2, 2.0]])
MODEL = fe.LinearGaussian(X, LOADINGS, noise_cov=0.3, offset=0.2, prior=PRIOR)


def best_diagonal(model):
    """The mean-field optimum of a linear-Gaussian model."""
    posterior = model.exact_posterior()
    return posterior.mean, np.diagonal(posterior.precision, axis1=-2, axis2=-1) ** -0.5


@pytest.mark.parametrize("q0", [fe.Gaussian(np.zeros(3), scale_tril=np.eye(3)), MODEL.prior])
def test_full_q_is_the_posterior(q0):
    found = newton(MODEL, q0, FitOptions(key=1))
    posterior = MODEL.exact_posterior()
    np.testing.assert_allclose(found.q.mean, posterior.mean, atol=1e-9)
    np.testing.assert_allclose(found.q.cov, np.broadcast_to(posterior.cov, found.q.cov.shape))
    assert found.converged
    assert len(found.history) <= 4
    evidence = MODEL.exact_log_evidence().sum()
    np.testing.assert_allclose(found.history.elbo[-1], evidence, rtol=1e-12)
    # Where q is the posterior all draws have the same weight.
    assert found.history.elbo_se[-1] < 1e-6 < found.history.elbo_se[0]


def test_diagonal_q_is_the_mean_field_optimum():
    found = newton(MODEL, fe.Gaussian(np.full((2, 3, 3), 40.0), scale=1e-3), FitOptions(key=1))
    mean, scale = best_diagonal(MODEL)
    np.testing.assert_allclose(found.q.mean, mean, atol=1e-8)
    np.testing.assert_allclose(found.q.scale, np.broadcast_to(scale, mean.shape), rtol=1e-9)


@pytest.mark.parametrize("noise", [1e-8, 1e8])
def test_scales_far_from_the_start(noise):
    model = fe.LinearGaussian(X[0], LOADINGS, noise_cov=noise)
    found = newton(model, fe.Gaussian(np.zeros(3), scale=1.0), FitOptions(key=1))
    mean, scale = best_diagonal(model)
    assert found.converged
    np.testing.assert_allclose(found.q.mean, mean, atol=1e-6 * max(1.0, np.abs(mean).max()))
    np.testing.assert_allclose(found.q.scale, np.broadcast_to(scale, mean.shape), rtol=1e-6)


def test_mean_field_digits():
    found = newton(digits_model(), fe.Gaussian(np.zeros(10), scale=1.0), FitOptions(key=3))
    assert abs(found.history.elbo[-1] / 1797 - -160.67986062) < 1e-7
    assert len(found.history) <= 4
    assert found.history.evaluations[-1] <= 4 * 1797 * 40


def test_blocks_do_not_matter(monkeypatch):
    model, q0 = digits_model(slice(50)), fe.Gaussian(np.zeros(10), scale_tril=np.eye(10))
    whole = newton(model, q0, FitOptions(key=1))
    monkeypatch.setattr(variational_newton, "_BLOCK", 7 * 400)
    parts = newton(model, q0, FitOptions(key=1))
    np.testing.assert_allclose(parts.q.mean, whole.q.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(parts.history.elbo, whole.history.elbo, rtol=1e-12)
    np.testing.assert_array_equal(parts.history.evaluations, whole.history.evaluations)


# --- subsets of data points ---------------------------------------------------------------------


def test_a_subset_has_the_densities_of_its_points():
    rows = np.array([4, 1, 1, 5])
    z = RNG.normal(size=(7, 4, 3))
    every = np.zeros((7, 6, 3))
    for i, row in enumerate(rows):
        every[:, row] = z[:, i]
        value, slope = log_joint_and_gradient(MODEL, every.reshape(7, 2, 3, 3))
        got, slopes = joint_slopes(MODEL, (2, 3), rows, z)
        np.testing.assert_allclose(got[:, i], value.reshape(7, 6)[:, row], rtol=1e-13)
        np.testing.assert_allclose(slopes[:, i], slope.reshape(7, 6, 3)[:, row], rtol=1e-12)
    assert Subset(MODEL, (2, 3), rows).batch_shape == (4,)


def test_subsets_of_functions_of_arrays():
    def log_likelihood(z, x):
        return -0.5 * ((x - z) ** 2).sum(-1)

    def slope(z, x):
        return x - z

    data = np.arange(10.0).reshape(5, 2)
    model = fe.Model(
        log_likelihood=log_likelihood, grad=slope, prior=fe.Gaussian([0.0, 1.0], scale=2.0),
        data=data, vectorized=True,
    )  # fmt: skip
    rows, z = np.array([3, 0]), RNG.normal(size=(4, 2, 2))
    value, slopes = joint_slopes(model, (5,), rows, z)
    prior = model.prior.log_prob(z)
    np.testing.assert_allclose(value, log_likelihood(z, data[rows]) + prior)
    np.testing.assert_allclose(slopes, data[rows] - z - (z - [0.0, 1.0]) / 4.0)


def test_subsets_of_a_compiled_function():
    def log_likelihood(z, x):
        return -0.5 * ((x[0] - z[0]) ** 2 + 3.0 * (x[1] - z[1]) ** 2)

    data = np.arange(10.0).reshape(5, 2)
    prior = fe.Gaussian([0.0, 1.0], scale=2.0)
    model = fe.Model(log_likelihood=log_likelihood, prior=prior, data=data)
    rows, z = np.array([3, 0]), RNG.normal(size=(4, 2, 2))
    value, slopes = joint_slopes(model, (5,), rows, z)
    away = data[rows] - z
    expected = -0.5 * (away**2 @ [1.0, 3.0]) + prior.log_prob(z)
    np.testing.assert_allclose(value, expected)
    np.testing.assert_allclose(slopes, away * [1.0, 3.0] - (z - [0.0, 1.0]) / 4.0)


# --- other log densities ------------------------------------------------------------------------


def run(density, dim, *, full, start=0.0, scale=1.0, count=None, key=1, points=1):
    form = Full if full else Diagonal
    first = scale * np.ones((points, dim)) if not full else scale * np.eye(dim)[None]
    first = np.broadcast_to(first, (points, *first.shape[1:]))
    mean = np.broadcast_to(start, (points, dim))
    draws = whitened_draws(dim, count or default_count(dim), key)
    return Newton(density, form, mean, first, draws, tol=1e-8, max_iter=500)


def never_falls(history):
    return bool((np.diff(history.elbo) >= -1e-9 * np.abs(history.elbo[1:])).all())


ROTATION = np.linalg.qr(np.random.default_rng(7).normal(size=(10, 10)))[0]
SHAPE = 2.0


def log_gamma(z, rows):
    """Independent log-gamma variables, rotated."""
    u = z @ ROTATION
    return (SHAPE * u - np.exp(u) - gammaln(SHAPE)).sum(-1), (SHAPE - np.exp(u)) @ ROTATION.T


def log_gamma_elbo(mean, factor):
    """In closed form."""
    own, spread = ROTATION.T @ mean, ((ROTATION.T @ factor) ** 2).sum(axis=1)
    terms = SHAPE * own - np.exp(own + 0.5 * spread) - gammaln(SHAPE)
    entropy = np.linalg.slogdet(factor)[1] + 5.0 * (1.0 + math.log(2.0 * math.pi))
    return float(terms.sum() + entropy)


@pytest.mark.parametrize("full", [False, True])
def test_rotated_log_gamma(full):
    if full:
        # Mean log a - 1 / (2 a), variance 1 / a of each.
        mean = ROTATION @ np.full(10, math.log(SHAPE) - 0.5 / SHAPE)
        best = log_gamma_elbo(mean, ROTATION / math.sqrt(SHAPE))
    else:
        best = -minimize(
            lambda v: -log_gamma_elbo(v[:10], np.diag(np.exp(v[10:]))), np.zeros(20), tol=1e-10
        ).fun
    excess, optimism = [], []
    for key in range(8):
        fit = run(log_gamma, 10, full=full, key=key, count=40)
        assert fit.converged
        assert never_falls(fit.history)
        factor = fit.scale[0] if full else np.diag(fit.scale[0])
        reached = log_gamma_elbo(fit.mean[0], factor)
        excess.append(best - reached)
        optimism.append(fit.history.elbo[-1] - reached)
    assert min(excess) > -1e-9
    assert np.mean(excess) < (0.025 if full else 0.01)
    # What the draws of the fit say of it is too good.
    assert np.mean(optimism) > 0.03


def logistic(z, rows):
    """One coefficient, from 12 of 15 successes."""
    p = 1.0 / (1.0 + np.exp(-z))
    value = -12.0 * np.logaddexp(0.0, -z) - 3.0 * np.logaddexp(0.0, z) - z**2 / 8.0
    return value[..., 0], 12.0 * (1.0 - p) - 3.0 * p - z / 4.0


def poisson(z, rows):
    """The log rate of a count of 4 in 1.5 hours."""
    return (4.0 * z - 1.5 * np.exp(z) - z**2 / 2.0)[..., 0], 4.0 - 1.5 * np.exp(z) - z


@pytest.mark.parametrize("density", [logistic, poisson])
def test_one_dimension_against_quadrature(density):
    nodes, weights = roots_hermitenorm(60)
    weights = weights / weights.sum()

    def elbo(v):
        z = v[0] + math.exp(v[1]) * nodes
        entropy = v[1] + 0.5 * (1.0 + math.log(2.0 * math.pi))
        return float(weights @ density(z[:, None], None)[0]) + entropy

    best = minimize(lambda v: -elbo(v), [0.0, 0.0], tol=1e-12)
    few = run(density, 1, full=False)
    assert few.converged
    assert -1e-9 < -best.fun - elbo([few.mean[0, 0], math.log(few.scale[0, 0])]) < 3e-3
    many = run(density, 1, full=True, count=4000)
    np.testing.assert_allclose([many.mean[0, 0], math.log(many.scale[0, 0, 0])], best.x, atol=0.01)


def banana(z, rows):
    bend = z[..., 1] - 0.5 * z[..., 0] ** 2
    slopes = np.stack([-z[..., 0] / 4.0 + bend * z[..., 0] / 0.1, -bend / 0.1], axis=-1)
    return -0.5 * (z[..., 0] ** 2 / 4.0 + bend**2 / 0.1), slopes


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("start", [[0.0, 0.0], [3.0, -3.0]])
def test_the_elbo_of_a_banana_never_falls(full, start):
    fit = run(banana, 2, full=full, start=start)
    assert never_falls(fit.history)
    assert fit.history.elbo[-1] > 0.2 > fit.history.elbo[0]
    # log of the normalising constant
    assert fit.history.elbo[-1] < math.log(2.0 * math.pi * 2.0 * math.sqrt(0.1))


def test_points_end_by_themselves():
    calls = []

    def density(z, rows):
        calls.append(rows.copy())
        value, slopes = poisson(z, rows)
        easy = rows % 2 == 0
        return (
            np.where(easy, -0.5 * z[..., 0] ** 2, value),
            np.where(easy[:, None], -z, slopes),
        )

    fit = run(density, 1, full=False, points=6, start=1.0)
    assert len(calls[0]) == 6
    assert calls[-1].tolist() == [1, 3, 5]
    alone = run(poisson, 1, full=False, start=1.0)
    np.testing.assert_allclose(fit.mean[[1, 3, 5], 0], alone.mean[0, 0], rtol=1e-9)
    np.testing.assert_allclose(fit.mean[::2], 0.0, atol=1e-9)
    assert fit.history.evaluations[-1] == 32 * sum(map(len, calls))
    # Those that ended stay in the sums.
    last = 3 * (alone.history.elbo[-1] + 0.5 * math.log(2.0 * math.pi))
    np.testing.assert_allclose(fit.history.elbo[-1], last, rtol=1e-9)


def half(z, rows):
    """A normal without its part above 2, where the value is -inf and the slope NaN."""
    lost = (z > 2.0).any(axis=-1)
    return np.where(lost, -np.inf, -0.5 * (z**2).sum(-1)), np.where(lost[..., None], np.nan, -z)


@pytest.mark.parametrize("full", [False, True])
def test_draws_outside_of_the_support(full):
    fit = run(half, 2, full=full, scale=3.0, points=2)
    assert np.isfinite(fit.history.elbo).all()
    assert never_falls(fit.history)
    assert (fit.mean < 2.0).all()
    # The ELBO on the draws has its largest value at the edge.
    assert not fit.converged
    assert "2 data points ended" in fit.message


def test_a_start_outside_of_the_support_is_an_error():
    with pytest.raises(InvalidInputError, match="data point 0"):
        run(half, 2, full=False, start=5.0)
    # Around 1.9 some draws of a scale of 1 are outside: the start is narrowed.
    assert run(half, 2, full=True, start=1.9).history.evaluations[0] > 32


def test_a_curvature_without_an_inverse_names_its_data_point(monkeypatch):
    def failing(scale, slope, stein):
        if (scale > 2.0).any():
            raise np.linalg.LinAlgError("Singular matrix")
        return Local(slope, 1.0 + 0.0 * slope, stein, slope)

    monkeypatch.setattr(Diagonal, "local", staticmethod(failing))
    mean, scale = np.zeros((4, 2)), np.ones((4, 2))
    scale[2] = 3.0
    with pytest.raises(InvalidInputError, match=r"that of data point 2 has none .Singular"):
        Newton(banana, Diagonal, mean, scale, whitened_draws(2, 32, 1), tol=1e-8, max_iter=5)


def test_a_kink_does_not_hold_a_fit_up():
    fit = run(lambda z, rows: (-np.abs(z).sum(-1), -np.sign(z)), 4, full=False, scale=3.0)
    # The best sd s has E|z| = s sqrt(2 / pi) = 1.
    assert fit.converged
    assert never_falls(fit.history)
    np.testing.assert_allclose(fit.scale, math.sqrt(math.pi / 2.0), rtol=0.2)


def test_too_few_steps():
    draws = whitened_draws(10, 40, 1)
    fit = Newton(
        log_gamma, Diagonal, np.zeros((6, 10)), np.ones((6, 10)), draws, tol=1e-8, max_iter=2
    )
    assert not fit.converged
    assert "6 data points did not finish in 2 steps" in fit.message
    assert len(fit.history) == 3


def test_other_families_are_an_error():
    with pytest.raises(InvalidInputError, match="must be a Gaussian"):
        newton(MODEL, fe.StudentT(5.0, np.zeros(3), scale=1.0), FitOptions())


# --- a user's model -----------------------------------------------------------------------------


def eight_schools(z, effect, error):
    """Rubin (1981), non-centred; mu ~ N(0, 5), tau ~ half-Cauchy(5)."""
    mu, tau = 5.0 * z[0], math.exp(z[1])
    total = -0.5 * z[0] * z[0] - 0.5 * math.log(2.0 * math.pi)
    total += math.log(2.0 / (5.0 * math.pi)) - math.log1p((tau / 5.0) ** 2) + z[1]
    for j in range(len(effect)):
        residual = (effect[j] - mu - tau * z[2 + j]) / error[j]
        total -= 0.5 * (residual**2 + z[2 + j] ** 2) + math.log(2.0 * math.pi * error[j])
    return total


def test_eight_schools():
    data = [28.0, 8, -3, 7, -1, 1, 18, 12], [15.0, 10, 16, 11, 9, 11, 10, 18]
    model = fe.Model(log_joint=eight_schools, dim=10, params=data)
    fit = fe.fit(model, fe.Gaussian(np.zeros(10), scale_tril=np.eye(10)), rng=1, n_eval=20_000)
    assert fit.method == "newton"
    assert fit.converged
    assert never_falls(fit.history)
    with pytest.warns(HighParetoKWarning):
        laplace = fe.estimate(model, fe.laplace(model, df=None, inflate=1.0), 20_000, rng=2)
    assert fit.elbo.value > laplace.elbo + 10.0
    # The log evidence is -31.3113, the best ELBO of a full Gaussian about -31.54.
    assert -31.7 < fit.elbo.value < -31.5
    # Its own draws flatter it.
    assert fit.history.elbo[-1] > fit.elbo.value + 3.0 * fit.elbo.se
