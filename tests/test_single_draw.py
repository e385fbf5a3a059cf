"""`draw`: the one draw that an error message names."""

import re

import numpy as np
import pytest
from cases import CASES
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo.errors import InvalidInputError
from fastelbo.random import philox_key

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
NAMES = ["diagonal-standard-scalar", "t-gaussian-full", "mixture_full-mixture-diagonal"]
NAMES += ["mixture_t-gaussian-scalar", "every_batch"]


@pytest.mark.parametrize("name", NAMES)
def test_draws_of_every_kind_of_q_have_the_bits_of_sample(name):
    _, q = CASES[name]()
    draws = q.sample(700, rng=5).reshape(700, -1, q.dim)
    for i in {0, draws.shape[1] - 1}:
        for k in (0, 511, 512, 699):
            np.testing.assert_array_equal(fe.draw(q, i, k, key=philox_key(5)), draws[k, i])


def test_a_generator_gives_the_key_of_each_call():
    q = fe.Gaussian([0.0, 1.0], scale=1.0)
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(2):
        z, key = q.sample(5, rng=rng), philox_key(again)
        np.testing.assert_array_equal(fe.draw(q, 0, 4, key=key), z[4])


def test_q_without_a_batch_has_draws_of_every_data_point():
    model = fe.LinearGaussian(np.zeros((4, 1)), [[1.0]], noise_cov=1.0)
    q = fe.Gaussian([0.5], scale=2.0)
    log_q = fe.elbo_terms(model, q, 10, rng=5).log_q
    for i in range(4):
        z = fe.draw(q, i, 7, key=philox_key(5))
        np.testing.assert_allclose(q.log_prob(z), log_q[i, 7], rtol=1e-13)


def test_the_batch_and_the_addresses_of_the_estimate():
    model = fe.LinearGaussian(np.zeros((3, 4, 1)), [[1.0]], noise_cov=1.0)
    q = fe.Gaussian([[[0.0]], [[5.0]], [[9.0]]], scale=1.0)
    log_q = fe.elbo_terms(model, q, 10, rng=5, first_index=100).log_q.reshape(12, 10)
    for i in (0, 6, 11):
        z = fe.draw(q, i, 3, key=philox_key(5), first_index=100, batch_shape=(3, 4))
        one = fe.Gaussian(q.mean[i // 4, 0], scale=1.0)
        np.testing.assert_allclose(one.log_prob(z), log_q[i, 3], rtol=1e-13)


class Bad:
    """A model whose log density is NaN beyond 0.5 in the first coordinate."""

    def __init__(self, batch):
        self.made = fe.Model(
            log_joint=lambda z: np.where(z[..., 0] > 0.5, np.nan, 0.0), dim=2, vectorized=True
        )
        self.prior, self.likelihood, self.dim = self.made.prior, self.made.likelihood, 2
        self.batch_shape = batch


@pytest.mark.parametrize("call", [fe.estimate, fe.elbo_terms, fe.log_weights])
@pytest.mark.parametrize("rng", [None, 3, "generator"])
@pytest.mark.parametrize(
    ("batch", "q", "options"),
    [
        ((), fe.Gaussian([0.0, 1.0], scale=1.0), {}),
        ((5,), fe.Gaussian([-0.2, 1.0], scale=0.6), {"first_index": 7}),
        ((2, 3), fe.Gaussian([[[-1.0, 0.0]], [[0.1, 0.0]]], scale=0.4), {}),
        ((), fe.Gaussian([0.0, 1.0], scale=1.0), {"precision": "float32"}),
    ],
)
def test_the_call_in_an_error_makes_the_draw(call, rng, batch, q, options):
    rng = np.random.default_rng(8) if rng == "generator" else rng
    with pytest.raises(fe.errors.InvalidWeightError) as caught:
        call(Bad(batch), q, 100, rng=rng, **options)
    text = re.search(r"fastelbo\.(draw\(.*\)) makes", str(caught.value))[1]
    z = eval(f"fe.{text}", {"fe": fe, "q": q})
    assert z[0] > 0.5


def test_the_draw_in_single_precision():
    q = fe.Gaussian([0.0, 1.0], scale=1.0)
    double, single = (fe.draw(q, 0, 3, key=9, precision=name) for name in ("float64", "float32"))
    assert (single == single.astype(np.float32)).all()
    np.testing.assert_allclose(single, double, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"q": 3.0}, InvalidInputError, "q must"),
        ({"q": fe.Gaussian}, InvalidInputError, "q must"),
        ({"i": 2}, InvalidInputError, "i must be below 2"),
        ({"i": -1}, InvalidInputError, "i must"),
        ({"i": 1.5}, InvalidInputError, "i must"),
        ({"k": -1}, InvalidInputError, "k must"),
        ({"k": 2**40}, OverflowError, "k must"),
        ({"key": 2**64}, OverflowError, "key must"),
        ({"key": None}, InvalidInputError, "key must"),
        ({"first_index": 2**32}, OverflowError, "first_index"),
        ({"batch_shape": (3,)}, InvalidInputError, "broadcast"),
        ({"batch_shape": 2}, InvalidInputError, "batch_shape must be a tuple"),
        ({"batch_shape": ()}, InvalidInputError, "batch_shape must hold"),
        ({"precision": "half"}, InvalidInputError, "precision"),
    ],
)
def test_what_is_refused(changes, kind, message):
    q = fe.Gaussian([[0.0], [1.0]], scale=1.0)
    given = {"q": q, "i": 0, "k": 0, "key": 1} | changes
    with pytest.raises(kind, match=message):
        fe.draw(**given)
