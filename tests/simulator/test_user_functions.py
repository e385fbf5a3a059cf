"""Users' functions as parts of simulated kernels, against the CPU."""

import numpy as np
import pytest
from device_functions import FUNCTIONS, model_of, q_of
from helpers import IGNORE_DIAGNOSTICS
from test_parity import assert_close

import fastelbo as fe

pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
    pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS),
    pytest.mark.filterwarnings("ignore::fastelbo.errors.OneDrawAtATimeWarning"),
]


@pytest.mark.parametrize(
    ("name", "iw_sizes"), [*((name, ()) for name in FUNCTIONS), ("schools", (1, 7))]
)
def test_estimate(name, iw_sizes):
    model = model_of(name, 20)
    got, expected = (
        fe.estimate(model, q_of(model), 45, rng=1, iw_sizes=iw_sizes, backend=backend)
        for backend in ("cuda", "cpu")
    )
    assert_close(got.to_dict(), expected.to_dict(), 1e-12)


def test_terms_with_a_prior_of_a_batch():
    def log_likelihood(z, x):
        return -0.5 * (x - z[0]) ** 2 - abs(z[1])

    mean = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.0]])
    prior = fe.Gaussian(mean, cov=[[1.0, 0.3], [0.3, 2.0]])
    model = fe.Model(log_likelihood=log_likelihood, prior=prior, data=np.array([1.0, 2.0, 0.0]))
    q = fe.StudentT(5.0, np.zeros(2), scale_tril=[[1.0, 0.0], [0.4, 0.8]])
    got, expected = (
        fe.elbo_terms(model, q, 30, rng=2, backend=backend) for backend in ("cuda", "cpu")
    )
    assert_close(got._asdict(), expected._asdict(), 1e-12)


def test_heavy_tails_of_data_points_are_drawn_again():
    def log_joint(z, x):
        return -0.5 * abs(x - z[0]) ** 1.5

    model = fe.Model(log_joint=log_joint, dim=1, data=np.array([1.0, -3.0]))
    q = fe.StudentT(1.0, np.zeros(1), scale=1.0)
    got, expected = (
        fe.estimate(model, q, 700, rng=1, iw_sizes=(), backend=backend)
        for backend in ("cuda", "cpu")
    )
    assert (expected.pareto_k_elbo > 0.5).all()
    np.testing.assert_allclose(got.pareto_k_elbo, expected.pareto_k_elbo, rtol=1e-9)


def test_the_source_that_a_device_runs_is_the_one_of_now():
    """Another constant, helper or closed-over array is another function."""
    q, values = fe.Gaussian([0.0], scale=1.0), []
    for shift in (0.5, 0.5, 2.0):
        table = np.array([shift, 1.0])

        def log_joint(z, table=table):
            return -0.5 * (z[0] - table[0]) ** 2

        model = fe.Model(log_joint=log_joint, dim=1)
        values.append(fe.estimate(model, q, 40, rng=0, iw_sizes=(), backend="cuda").log_evidence)
    assert values[0] == values[1] != values[2]
