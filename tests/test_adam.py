"""Adam: batches of data points, averages, and the stop by common draws."""

import numpy as np
import pytest

import fastelbo as fe
from fastelbo.engine.fits.adam import _Order, _Stop, adam
from fastelbo.engine.fits.common_draws import common_draws
from fastelbo.engine.fits.fitted import FitOptions
from fastelbo.errors import InvalidInputError

RNG = np.random.default_rng(0)
LOADINGS = RNG.normal(size=(5, 3))
X = RNG.normal(size=(100, 5)) + LOADINGS @ [1.0, -1.0, 0.5]
MODEL = fe.LinearGaussian(X, LOADINGS, noise_cov=0.7)
STEPS = 400


def gap(q):
    """How far one q for all is from the best one, in nats a data point."""
    best = common_draws(MODEL, q, FitOptions(key=5, n_samples=100)).q
    if isinstance(q, fe.Mixture):
        one, other = (fe.estimate(MODEL, each, 1000, rng=3, pareto_k=False) for each in (best, q))
        return float((one.elbo - other.elbo).mean())
    return float((fe.exact_elbo(MODEL, best) - fe.exact_elbo(MODEL, q)).mean())


@pytest.mark.filterwarnings("ignore::fastelbo.errors.FastElboWarning")
@pytest.mark.parametrize(
    "q0",
    [
        fe.Gaussian(np.zeros(3), scale=1.0),
        fe.Gaussian(np.zeros(3), scale_tril=np.eye(3)),
        pytest.param(fe.StudentT(5.0, np.zeros(3), scale=1.0), marks=pytest.mark.slow),
        fe.Mixture([0.4, 0.6], fe.Gaussian([[0.0] * 3, [1.0] * 3], scale=1.0)),
    ],
    ids=["diagonal", "full", "student", "mixture"],
)
def test_batches_of_data_points(q0):
    options = FitOptions(key=2, batch_size=20, max_iter=STEPS, learning_rate=0.1)
    found = adam(MODEL, q0, options)
    assert abs(gap(found.q)) < 0.01
    assert found.q.batch_shape == ()


def test_a_q_for_each_data_point():
    model = fe.LinearGaussian(X[:4], LOADINGS, noise_cov=0.7)
    q0 = fe.Gaussian(np.zeros((4, 3)), scale_tril=np.tile(np.eye(3), (4, 1, 1)))
    found = adam(model, q0, FitOptions(key=1, learning_rate=0.1, max_iter=1000))
    # Gradients along the path have no noise at the posterior.
    elbo = fe.exact_elbo(model, found.q)
    np.testing.assert_allclose(elbo, model.exact_log_evidence(), atol=1e-4)
    assert found.history.elbo[-1] > found.history.elbo[0]


def test_batches_need_one_q_for_all():
    q0 = fe.Gaussian(np.zeros((100, 3)), scale=1.0)
    with pytest.raises(InvalidInputError, match="batch_size must be left out"):
        adam(MODEL, q0, FitOptions(batch_size=10))


def test_a_batch_of_all_data_points_is_no_batch():
    q0 = fe.Gaussian(np.zeros(3), scale=1.0)
    one, other = (
        adam(MODEL, q0, FitOptions(key=1, max_iter=20, batch_size=size)) for size in (None, 100)
    )
    np.testing.assert_array_equal(one.q.mean, other.q.mean)


def test_draws_follow_their_addresses():
    q0 = fe.Gaussian(np.zeros(3), scale=1.0)
    one, other = (
        adam(MODEL, q0, FitOptions(key=1, max_iter=20, batch_size=30, n_threads=n)) for n in (1, 2)
    )
    np.testing.assert_array_equal(one.q.mean, other.q.mean)
    again = adam(MODEL, q0, FitOptions(key=2, max_iter=20, batch_size=30))
    assert (again.q.mean != one.q.mean).all()


def test_each_data_point_comes_once_before_any_again():
    order = _Order(12, 4, 7)
    for _ in range(3):
        taken = np.concatenate([order.next() for _ in range(3)])
        assert sorted(taken.tolist()) == list(range(12))


def test_a_fit_stops_by_gains_on_common_draws():
    stop = _Stop(tol=0.0)
    noise = RNG.normal(size=(5, 50))
    stop.add(noise)
    for step, gain in enumerate((1.0, 0.0, 0.0)):
        noise = noise + gain + 0.3 * RNG.normal(size=(5, 50)) - 0.1
        stop.add(noise)
        assert stop.is_met == (step == 2)
    # A gain that all draws agree on is no noise, however small.
    stop.add(noise + 1e-3)
    assert not stop.is_met


def test_steps_end_early_at_the_optimum():
    q0 = fe.Gaussian(X[:, :3].mean(axis=0) * 0.0 + [0.9, -0.9, 0.4], scale=0.4)
    found = adam(MODEL, q0, FitOptions(key=1, batch_size=50, max_iter=STEPS))
    assert found.converged
    assert found.history.iteration[-1] < STEPS
    short = adam(MODEL, fe.Gaussian(np.full(3, 30.0), scale=1.0), FitOptions(key=1, max_iter=20))
    assert not short.converged


def test_a_loss_that_is_not_finite_is_an_error():
    def log_joint(z):
        return -0.5 * z[0] ** 2 if z[0] > 0.0 else float("-inf")

    model = fe.Model(log_joint=log_joint, dim=1)
    with pytest.raises(InvalidInputError, match="after 0 steps one of data point 0"):
        adam(model, fe.Gaussian([-9.0], scale=1.0), FitOptions(key=1))
