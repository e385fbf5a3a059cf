"""L-BFGS on common draws: the gradient, known optima, and how optimistic its draws are."""

import math

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.engine.fits.common_draws import Objective, common_draws
from fastelbo.engine.fits.fitted import FitOptions
from fastelbo.engine.fits.q_vector import QVector
from fastelbo.errors import FitNotConvergedWarning, InvalidInputError

RNG = np.random.default_rng(0)
MODEL = fe.LinearGaussian(
    RNG.normal(size=(4, 5)), RNG.normal(size=(5, 3)), noise_cov=0.7, offset=0.2
)


def trils(*shape):
    return np.tril(RNG.normal(size=(*shape, 3, 3))) * 0.3 + np.eye(3)


QS = {
    "diagonal": fe.Gaussian(RNG.normal(size=(4, 3)), scale=0.5),
    "one for all": fe.Gaussian(np.zeros(3), scale_tril=trils()),
    "shared scale": fe.Gaussian(RNG.normal(size=(4, 3)), scale_tril=trils()),
    "student": fe.StudentT(5.0, RNG.normal(size=(4, 3)), scale_tril=trils()),
    "many df": fe.StudentT([1.5, 3.0, 4.0, 5.0], np.zeros(3), scale=1.0),
    "mixture": fe.Mixture([0.3, 0.7], fe.Gaussian(RNG.normal(size=(2, 3)), scale_tril=trils(2))),
    "student mixture": fe.Mixture(
        [0.3, 0.7], fe.StudentT([5.0, 3.0], RNG.normal(size=(4, 2, 3)), scale=[0.3, 0.4, 0.5])
    ),
}
each_q = pytest.mark.parametrize("q", QS.values(), ids=QS)


@each_q
def test_a_vector_holds_q(q):
    form = QVector(q, (4,))
    copy = form.q(form.start)
    assert type(copy) is type(q)
    assert copy.batch_shape == q.batch_shape
    z = RNG.normal(size=(6, 4, 3))
    np.testing.assert_allclose(copy.log_prob(z), q.log_prob(z), rtol=1e-12)
    # Each member has parameters of its own, even where it was given one array for all.
    assert form.shared == (q.batch_shape == ())
    moved = form.q(form.start + RNG.normal(size=form.start.shape))
    own = moved.components if isinstance(q, fe.Mixture) else moved
    scale = own.scale if own.scale_tril is None else own.scale_tril[..., 0]
    assert scale.shape == (*own.batch_shape, 3)
    assert len(np.unique(scale[..., 0])) == np.prod(own.batch_shape)


@each_q
def test_the_gradient_is_that_of_the_elbo_on_the_draws(q):
    objective = Objective(MODEL, q, 24, 5)
    start = objective.form.start + 0.05 * RNG.normal(size=len(objective.form.start))

    def elbo(vector):
        return float(objective(vector)[0].mean(axis=1).sum())

    steps = 1e-5 * np.eye(len(start))
    numeric = [(elbo(start + step) - elbo(start - step)) / 2e-5 for step in steps]
    scale = np.abs(numeric).max()
    np.testing.assert_allclose(objective(start)[1], numeric, atol=1e-8 * scale)


@pytest.mark.filterwarnings("ignore::fastelbo.errors.FastElboWarning")
@each_q
def test_the_value_is_an_elbo(q):
    objective = Objective(MODEL, q, 4000, 5)
    value = objective(objective.form.start)[0].mean(axis=1).sum()
    est = fe.estimate(MODEL, q, 100_000, rng=1, pareto_k=False)
    # The error of the draws of the estimate, and of 4000 of each component.
    assert abs(value - est.elbo.sum()) < 4.5 * 6.0 * math.sqrt((est.elbo_se**2).sum())


# --- known optima -------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_one_gaussian_for_all_data_points(full):
    form = {"scale_tril": np.eye(3)} if full else {"scale": 1.0}
    found = common_draws(MODEL, fe.Gaussian(np.zeros(3), **form), FitOptions(key=1))
    posterior = MODEL.exact_posterior()
    assert found.converged
    np.testing.assert_allclose(found.q.mean, posterior.mean.mean(axis=0), atol=1e-4)
    precision = posterior.precision.reshape(-1, 3, 3)[0]
    if full:
        np.testing.assert_allclose(found.q.precision, precision, rtol=1e-3, atol=1e-3)
    else:
        np.testing.assert_allclose(found.q.scale, np.diag(precision) ** -0.5, rtol=1e-4)
    assert (np.diff(found.history.elbo) >= 0.0).all()


def test_a_gaussian_for_each_data_point_is_the_posterior():
    q0 = fe.Gaussian(np.zeros((4, 3)), scale_tril=np.tile(np.eye(3), (4, 1, 1)))
    found = common_draws(MODEL, q0, FitOptions(key=1, tol=1e-12))
    assert abs(found.history.elbo[-1] - MODEL.exact_log_evidence().sum()) < 1e-6


def test_student_t_of_a_quadratic_density():
    q0 = fe.StudentT(5.0, np.zeros((4, 3)), scale_tril=np.tile(np.eye(3), (4, 1, 1)))
    found = common_draws(MODEL, q0, FitOptions(key=1, tol=1e-12))
    posterior = MODEL.exact_posterior()
    # At the best scale matrix the covariance is that of the posterior: trace terms are exact.
    np.testing.assert_allclose(found.q.mean, posterior.mean, atol=1e-4)
    np.testing.assert_allclose(found.q.cov[2], posterior.cov.reshape(-1, 3, 3)[0], atol=1e-4)
    np.testing.assert_allclose(
        found.history.elbo[-1], fe.exact_elbo(MODEL, found.q).sum(), rtol=1e-9
    )


def test_a_mixture_finds_a_mixture():
    target = fe.Mixture(
        [0.3, 0.7],
        fe.Gaussian(
            [[0.0, 0.0], [2.0, 1.5]], scale_tril=[[[1.0, 0], [0.3, 0.6]], [[0.5, 0], [0, 1]]]
        ),
    )
    q0 = fe.Mixture([0.5, 0.5], fe.Gaussian([[-0.5, 0.0], [1.0, 1.0]], scale_tril=[np.eye(2)] * 2))
    fit = fe.fit(target, q0, rng=1, n_eval=10_000)
    assert fit.method == "lbfgs"
    assert fit.converged
    np.testing.assert_allclose(fit.q.weights, [0.3, 0.7], atol=0.05)
    np.testing.assert_allclose(fit.q.components.mean, target.components.mean, atol=0.15)
    # The log evidence of a distribution is 0.
    assert -0.01 < fit.elbo.value < 4.5 * fit.elbo.se
    assert len(fit.history.elbo) == fit.n_iter + 1


def test_the_draws_of_a_fit_are_optimistic():
    q0 = fe.Mixture([0.5, 0.5], fe.Gaussian([[-1.0] * 4, [1.0] * 4], scale_tril=[np.eye(4)] * 2))
    target = fe.StudentT(4.0, np.zeros(4), scale=1.0)
    gaps = [
        (fit.history.elbo[-1] - fit.elbo.value) / fit.elbo.se
        for fit in (
            fe.fit(target, q0, rng=key, n_samples=16, n_eval=4000, tol=1e-4) for key in range(3)
        )
    ]
    assert min(gaps) > 5.0


# --- safety -------------------------------------------------------------------------------------


def test_walls_of_a_density():
    """The search steps back from where log p is not finite."""

    def log_joint(z):
        return 3.0 * math.log(z[0]) - 2.0 * z[0] if z[0] > 0.0 else -math.inf

    model = fe.Model(log_joint=log_joint, dim=1)
    found = common_draws(model, fe.Gaussian([2.0], scale=0.2), FitOptions(key=1))
    assert np.isfinite(found.history.elbo).all()
    assert (np.diff(found.history.elbo) >= 0.0).all()
    assert found.history.elbo[-1] > found.history.elbo[0] + 0.2
    with pytest.raises(InvalidInputError, match="must have draws at which"):
        common_draws(model, fe.Gaussian([-2.0], scale=0.2), FitOptions(key=1))


def test_errors():
    with pytest.raises(InvalidInputError, match="no component of weight 0"):
        common_draws(
            MODEL, fe.Mixture([0.0, 1.0], fe.Gaussian(np.zeros((2, 3)), scale=1.0)), FitOptions()
        )
    with pytest.warns(FitNotConvergedWarning, match="max_iter"):
        fit = fe.fit(MODEL, fe.StudentT(5.0, np.zeros(3), scale=1.0), rng=1, max_iter=2, n_eval=0)
    assert fit.n_iter == 2


def test_each_data_point_has_a_scale_of_its_own():
    prior = fe.Gaussian(np.zeros((4, 2)), scale=[[0.1, 0.1], [1.0, 1.0], [3.0, 3.0], [9.0, 9.0]])
    model = fe.LinearGaussian(np.ones((4, 2)), np.eye(2), noise_cov=1.0, prior=prior)
    start = fe.Gaussian(np.zeros((4, 2)), scale=1.0)
    found, best = (fe.fit(model, start, method=name, rng=0) for name in ("lbfgs", "closed"))
    assert found.q.scale.shape == (4, 2)
    np.testing.assert_allclose(found.elbo.value, best.elbo.value, atol=1e-6)


def beyond_zero(z):
    return -z[0] - 0.5 * z[1] * z[1] if z[0] > 0.0 else -np.inf


def test_an_edge_of_the_support_is_no_maximum():
    model = fe.Model(log_joint=beyond_zero, dim=2)
    with pytest.warns(FitNotConvergedWarning, match="though its gradient promises"):
        found = fe.fit(model, fe.Gaussian([0.8, 0.0], scale=0.2), method="lbfgs", rng=0, n_eval=0)
    assert not found.converged
