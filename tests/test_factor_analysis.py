"""Maximum likelihood of linear-Gaussian models, against published optima and plain formulas."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import approx_fprime

import fastelbo as fe
from fastelbo.errors import FitNotConvergedWarning, InvalidInputError, VarianceFloorWarning
from fastelbo.models.factors import em_step, principal_components, profile, rotated

IMAGES = fe.datasets.load_digits().images
VARYING = IMAGES[:, IMAGES.std(axis=0) > 0.0]
LARGE = IMAGES[:, IMAGES.std(axis=0) > 0.5]
MANY = np.random.default_rng(1).normal(size=(64, 10))


def mean_evidence(fit):
    return fit.log_evidence.value / fit.log_evidence_per_point.value.size


def model_of(x, dim, noise=1.0, **options):
    return fe.LinearGaussian(x, MANY[: x.shape[-1], :dim], noise_cov=noise, **options)


def example(seed=0, features=6, dim=2, count=200):
    """Data of a factor model, and its covariance."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(features, dim))
    psi = rng.uniform(0.3, 2.0, features)
    x = (
        3.0
        + rng.normal(size=(count, dim)) @ w.T
        + np.sqrt(psi) * rng.normal(size=(count, features))
    )
    return x, np.cov(x, rowvar=False, bias=True)


def normal_value(cov, loadings, noise):
    """Mean log density of data with this covariance about their mean, by definition."""
    total = loadings @ loadings.T + np.diag(noise)
    _, log_det = np.linalg.slogdet(2.0 * np.pi * total)
    return -0.5 * (log_det + np.trace(np.linalg.solve(total, cov)))


# --- probabilistic PCA ---------------------------------------------------------------------------


def test_pca_of_the_digits():
    fit = fe.fit(model_of(IMAGES, 10), wrt="model")
    assert fit.method == "closed"
    assert fit.converged
    assert fit.n_iter == 0
    assert mean_evidence(fit) == pytest.approx(-159.9937312015, abs=1e-9)
    assert fit.model.noise_cov[0] == pytest.approx(5.8243513193, abs=1e-9)
    np.testing.assert_allclose(fit.model.offset, IMAGES.mean(axis=0), rtol=1e-12)
    assert fit.model.likelihood.noise_form == "isotropic"
    assert fit.elbo.se == 0.0
    assert fit.estimate is None


def test_the_convention_of_loadings():
    w = fe.fit(model_of(IMAGES, 10), wrt="model").model.loadings
    gram = w.T @ w
    assert (np.diff(np.diagonal(gram)) < 0.0).all()
    np.testing.assert_allclose(gram, np.diag(np.diagonal(gram)), atol=1e-9 * gram[0, 0])
    assert (w[np.abs(w).argmax(axis=0), np.arange(10)] > 0.0).all()


def test_pca_is_a_maximum():
    _, cov = example()
    loadings, noise = principal_components(cov, 2)
    best = normal_value(cov, loadings, np.full(6, noise))
    rng = np.random.default_rng(3)
    for size in (1e-1, 1e-3):
        near = loadings + size * rng.normal(size=loadings.shape)
        assert normal_value(cov, near, np.full(6, noise)) < best
        assert normal_value(cov, loadings, np.full(6, noise * (1 + size))) < best


def test_the_evidence_is_that_of_the_normal_law():
    x, cov = example()
    fit = fe.fit(model_of(x, 2), wrt="model")
    law = stats.multivariate_normal(
        fit.model.offset, fit.model.loadings @ fit.model.loadings.T + np.diag(fit.model.noise_cov)
    )
    np.testing.assert_allclose(fit.log_evidence_per_point.value, law.logpdf(x), rtol=1e-12)
    assert mean_evidence(fit) == pytest.approx(
        normal_value(cov, fit.model.loadings, fit.model.noise_cov), rel=1e-12
    )
    np.testing.assert_allclose(fit.elbo.value, fit.log_evidence.value)
    np.testing.assert_allclose(fit.q.mean, fit.model.exact_posterior().mean)


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_loadings_absorb_another_prior(noise):
    x, _ = example()
    prior = fe.Gaussian([1.0, -2.0], cov=[[2.0, 0.6], [0.6, 0.5]])
    plain = fe.fit(model_of(x, 2), wrt="model", noise=noise)
    other = fe.fit(model_of(x, 2, prior=prior), wrt="model", noise=noise)
    assert other.model.prior is prior
    assert mean_evidence(other) == pytest.approx(mean_evidence(plain), abs=1e-9)
    w, total = other.model.loadings, plain.model.loadings @ plain.model.loadings.T
    np.testing.assert_allclose(w @ prior.cov @ w.T, total, rtol=1e-5)
    np.testing.assert_allclose(other.model.offset + w @ prior.mean, x.mean(axis=0), rtol=1e-12)


def test_any_batch_is_data():
    x, _ = example()
    flat, shaped = (fe.fit(model_of(each, 2), wrt="model") for each in (x, x.reshape(10, 20, 6)))
    np.testing.assert_array_equal(flat.model.loadings, shaped.model.loadings)
    assert shaped.log_evidence_per_point.value.shape == (10, 20)
    assert shaped.q.batch_shape == (10, 20)


def test_a_far_offset_costs_no_digits():
    x, _ = example()
    x = np.round(x * 2**10) / 2**10
    near, far = (fe.fit(model_of(x + shift, 2), wrt="model") for shift in (0.0, 2.0**30))
    np.testing.assert_allclose(far.model.loadings, near.model.loadings, rtol=1e-7)
    np.testing.assert_allclose(far.model.noise_cov, near.model.noise_cov, rtol=1e-9)


# --- factor analysis -----------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "value"), [(VARYING, -123.15580004), (LARGE, -131.49054721)])
def test_factors_of_the_digits(x, value):
    fit = fe.fit(model_of(x, 10, noise=x.var(axis=0)), wrt="model")
    assert fit.method == "lbfgs"
    assert fit.converged
    assert mean_evidence(fit) == pytest.approx(value, abs=2e-8)
    assert fit.model.likelihood.noise_form == "diagonal"
    # The history is the log evidence, which the accepted steps raise.
    assert fit.history.elbo[-1] == pytest.approx(fit.log_evidence.value, rel=1e-10)
    assert (np.diff(fit.history.elbo) >= -1e-7).all()
    assert (fit.history.elbo_se == 0.0).all()
    assert fit.n_iter == fit.history.iteration[-1] <= 60
    # At the optimum the model has the variances of the data.
    total = (fit.model.loadings**2).sum(axis=1) + fit.model.noise_cov
    np.testing.assert_allclose(total, x.var(axis=0), rtol=1e-4)


def test_constant_features_are_named():
    with pytest.warns(VarianceFloorWarning, match="features 0, 32, 39 of x are constant") as caught:
        fit = fe.fit(model_of(IMAGES, 10), wrt="model", noise="diagonal")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    kept = fe.fit(model_of(VARYING, 10), wrt="model", noise="diagonal")
    constant = IMAGES.std(axis=0) == 0.0
    np.testing.assert_allclose(fit.model.noise_cov[~constant], kept.model.noise_cov, rtol=1e-3)
    assert not fit.model.loadings[constant].any()
    floor = 1e-6 * VARYING.var(axis=0).mean()
    np.testing.assert_allclose(fit.model.noise_cov[constant], floor, rtol=1e-12)
    share = -1.5 * np.log(2.0 * np.pi * floor)
    assert mean_evidence(fit) - mean_evidence(kept) == pytest.approx(share, abs=1e-7)
    assert f"{share:.4g} nats" in str(caught[0].message)


def test_a_heywood_case_is_named():
    """Correlations of .8, .8 and .5 ask for a squared loading of 1.28."""
    rng = np.random.default_rng(0)
    cov = np.array([[1.0, 0.8, 0.8], [0.8, 1.0, 0.5], [0.8, 0.5, 1.0]])
    e = rng.normal(size=(50, 3))
    e -= e.mean(axis=0)
    x = e @ np.linalg.inv(np.linalg.cholesky(e.T @ e / 50)).T @ np.linalg.cholesky(cov).T
    x[:, 0] *= 100.0
    with pytest.warns(VarianceFloorWarning, match="noise of features 0 of x is at its floor"):
        fit = fe.fit(model_of(x, 1), wrt="model", noise="diagonal")
    assert fit.converged
    np.testing.assert_allclose(fit.model.noise_cov[0], 1e-6 * x[:, 0].var(), rtol=1e-6)
    # With the first feature as the factor, the others have what it leaves of them.
    np.testing.assert_allclose(fit.model.noise_cov[1:], 1.0 - 0.8**2, rtol=1e-4)


def test_units_of_features_do_not_matter():
    x, _ = example()
    unit = 10.0 ** np.arange(-3, 3)
    plain, scaled = (
        fe.fit(model_of(each, 2, noise=each.var(axis=0)), wrt="model") for each in (x, x * unit)
    )
    np.testing.assert_allclose(scaled.model.noise_cov, plain.model.noise_cov * unit**2, rtol=1e-6)
    shift = np.log(unit).sum()
    assert mean_evidence(scaled) == pytest.approx(mean_evidence(plain) - shift, abs=1e-9)


def test_the_gradient_of_the_profile():
    _, cov = example()
    log_noise = np.log(np.array([0.3, 0.5, 1.5, 0.2, 0.9, 0.4]))
    for dim in (1, 2, 5):
        found = profile(cov, log_noise, dim)
        assert found.value == pytest.approx(
            normal_value(cov, found.loadings, np.exp(log_noise)), rel=1e-12
        )
        slopes = approx_fprime(log_noise, lambda v, d=dim: profile(cov, v, d).value, 1e-6)
        np.testing.assert_allclose(found.gradient, slopes, atol=1e-5)


def test_a_profile_with_fewer_factors_than_columns():
    # No direction has more variance than the noise.
    found = profile(np.eye(4), np.log(np.full(4, 2.0)), 2)
    assert not found.loadings.any()
    assert found.value == pytest.approx(normal_value(np.eye(4), found.loadings, np.full(4, 2.0)))


# --- EM ------------------------------------------------------------------------------------------


def test_a_step_of_em():
    """Against the moments of z, point by point."""
    x, cov = example()
    w, psi = np.random.default_rng(5).normal(size=(6, 2)), np.linspace(0.5, 2.0, 6)
    value, loadings, noise = em_step(cov, w, psi)
    centred = x - x.mean(axis=0)
    posterior = fe.LinearGaussian(centred, w, noise_cov=psi).exact_posterior()
    second = posterior.cov.sum(axis=0) * (len(x) / len(posterior.cov))
    second = second + posterior.mean.T @ posterior.mean
    expected = np.linalg.solve(second, posterior.mean.T @ centred).T
    np.testing.assert_allclose(loadings, expected, rtol=1e-10)
    left = (centred**2).mean(axis=0) - ((centred.T @ posterior.mean) * expected).sum(1) / len(x)
    np.testing.assert_allclose(noise, left, rtol=1e-10)
    assert value == pytest.approx(normal_value(cov, w, psi), rel=1e-12)


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_em_agrees(noise):
    x, _ = example()
    model = model_of(x, 2)
    best = fe.fit(model, wrt="model", noise=noise)
    em = fe.fit(model, wrt="model", noise=noise, method="em", tol=1e-13)
    assert em.method == "em"
    assert em.converged
    assert (np.diff(em.history.elbo) >= -1e-9).all()
    assert mean_evidence(em) == pytest.approx(mean_evidence(best), abs=1e-10)
    np.testing.assert_allclose(em.model.loadings, best.model.loadings, atol=1e-4)
    np.testing.assert_allclose(em.model.noise_cov, best.model.noise_cov, rtol=1e-4)


def test_rotated_loadings_are_the_same_model():
    w, psi = np.random.default_rng(2).normal(size=(6, 3)), np.linspace(0.5, 2.0, 6)
    new = rotated(w, psi)
    np.testing.assert_allclose(new @ new.T, w @ w.T, rtol=1e-12)
    gram = new.T @ (new / psi[:, None])
    np.testing.assert_allclose(gram, np.diag(np.diagonal(gram)), atol=1e-12)


@pytest.mark.parametrize("method", ["lbfgs", "em"])
def test_stopping_early_is_said(method):
    x, _ = example()
    with pytest.warns(FitNotConvergedWarning, match="did not converge"):
        fit = fe.fit(model_of(x, 2), wrt="model", noise="diagonal", method=method, max_iter=2)
    assert not fit.converged
    assert fit.n_iter == 2


# --- what is refused -----------------------------------------------------------------------------

X = np.arange(12.0).reshape(4, 3) ** 2 % 7.0
ONE = np.ones((3, 1))
MIXTURE = fe.Mixture([0.5, 0.5], fe.Gaussian([[-1.0], [1.0]], scale=1.0))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (fe.LinearGaussian(X, ONE, noise_cov=np.eye(3)), {}, "whole covariance"),
        (fe.LinearGaussian(X, np.eye(3), noise_cov=1.0), {}, "fewer columns"),
        (fe.LinearGaussian(X[:, 1:], np.eye(2), noise_cov=np.ones(2)), {}, "D = 2 of 2"),
        (fe.LinearGaussian(X[0], ONE, noise_cov=1.0), {}, "at least 2 data points"),
        (fe.LinearGaussian(X[:2], ONE, noise_cov=1.0), {}, "more than D = 1 directions"),
        (fe.LinearGaussian(X * 1e200, ONE, noise_cov=1.0), {}, "x must be smaller"),
        (fe.LinearGaussian(X, ONE, noise_cov=1.0, prior=MIXTURE), {}, "one Gaussian prior"),
        (
            fe.LinearGaussian(X, ONE, noise_cov=1.0, prior=fe.Gaussian(np.ones((4, 1)), scale=1.0)),
            {},
            "one Gaussian prior",
        ),
        (fe.LinearGaussian(X, ONE, noise_cov=1.0), {"method": "lbfgs"}, '"closed" or "em"'),
        (fe.LinearGaussian(X, ONE, noise_cov=1.0), {"method": "newton"}, "got 'newton'"),
        (fe.LinearGaussian(X, 0 * ONE, noise_cov=1.0), {"method": "em"}, "must not be all 0"),
        (fe.LinearGaussian(X, ONE, noise_cov=1.0), {"noise": "full"}, "noise must be"),
        (fe.LinearGaussian(X, ONE, noise_cov=1.0), {"batch_size": 2}, "batch_size must be left"),
        (fe.LinearGaussian(X, ONE, noise_cov=1.0), {"q0": fe.Gaussian([0.0], scale=1.0)}, "q0"),
        (fe.Gaussian([0.0], scale=1.0), {}, "has no parameters"),
    ],
)
def test_what_is_refused(model, options, message):
    with pytest.raises(InvalidInputError, match=message):
        fe.fit(model, wrt="model", **options)


def scaled_columns():
    rng = np.random.default_rng(3)
    loadings, sizes = rng.normal(size=(8, 2)), np.logspace(-4.0, 4.0, 8)
    x = rng.normal(size=(300, 2)) @ loadings.T + rng.normal(size=(300, 8))
    return x, loadings, sizes


def test_units_do_not_change_the_maximum():
    x, loadings, sizes = scaled_columns()
    ours, theirs = (
        fe.fit(fe.LinearGaussian(x * each, loadings, noise_cov=np.ones(8)), wrt="model")
        for each in (np.ones(8), sizes)
    )
    shift = len(x) * np.log(sizes).sum()
    np.testing.assert_allclose(
        theirs.log_evidence.value + shift, ours.log_evidence.value, rtol=1e-9
    )


@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_em_leaves_loadings_that_have_vanished(size):
    x, loadings, _ = scaled_columns()
    model = fe.LinearGaussian(size * x, loadings, noise_cov=np.full(8, size) ** 2)
    by_em, best = (fe.fit(model, wrt="model", method=name) for name in ("em", "lbfgs"))
    assert by_em.converged
    np.testing.assert_allclose(by_em.log_evidence.value, best.log_evidence.value, atol=1e-3)
