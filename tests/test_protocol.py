"""The protocol of models: each kind of log density, through every backend."""

import numpy as np
import pytest
from cases import CASES
from helpers import IGNORE_DIAGNOSTICS, bits

import fastelbo as fe
from fastelbo import reference
from fastelbo.kernels.draws.blocks import CHUNK, ELLIPTICAL, SUPPLIED, ZERO
from fastelbo.models.protocol import ExactModel, Frame, LatentModel, LogDensity, Points, Proposal
from fastelbo.models.terms import Supplied, Zero

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)


class GivenLikelihood:
    """A prior, and a likelihood whose values at the draws of q were computed elsewhere."""

    def __init__(self, prior, likelihood):
        self.prior, self.likelihood = prior, likelihood
        self.dim = prior.dim

    @property
    def batch_shape(self):
        return np.broadcast_shapes(self.prior.batch_shape, self.likelihood.batch_shape)


# Of every kind of q and prior, with and without batches.
NAMES = ["diagonal-standard-scalar", "t-gaussian-full", "mixture_full-mixture-diagonal"]
NAMES += ["mixture_t-gaussian-scalar", "every_batch"]


def given(name, n_samples, first_draw=0, **options):
    """A case with its own likelihoods supplied as values."""
    model, q = CASES[name]()
    terms = fe.elbo_terms(model, q, first_draw + n_samples, rng=3, **options)
    values = terms.log_likelihood[..., first_draw:]
    return model, GivenLikelihood(model.prior, Supplied(values, model.dim, first_draw)), q


@pytest.mark.parametrize("name", NAMES)
def test_supplied_values_give_the_bits_of_the_model_that_made_them(name):
    model, other, q = given(name, 1000)
    expected, got = (fe.estimate(m, q, 1000, rng=3) for m in (model, other))
    assert bits(got) == bits(expected)
    for a, b in zip(fe.elbo_terms(model, q, 50, 3), fe.elbo_terms(other, q, 50, 3), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("threads", [1, 2])
def test_supplied_values_of_several_chunks(threads):
    model, other, q = given("diagonal-standard-scalar", 2 * CHUNK + 700)
    expected, got = (
        fe.estimate(m, q, 2 * CHUNK + 700, rng=3, n_threads=threads) for m in (model, other)
    )
    assert bits(got) == bits(expected)


@pytest.mark.parametrize("name", NAMES)
def test_supplied_values_in_the_reference(name):
    model, other, q = given(name, 300)
    expected, got = (fe.estimate(m, q, 300, rng=3, backend="numpy") for m in (model, other))
    # The values come from the kernels. Those of the reference agree up to rounding.
    for field in ("log_evidence", "elbo", "expected_log_likelihood", "kl"):
        np.testing.assert_allclose(getattr(got, field), getattr(expected, field), rtol=1e-11)


def test_supplied_values_in_single_precision():
    model, other, q = given("diagonal-standard-scalar", 500, precision="float32")
    expected, got = (fe.estimate(m, q, 500, rng=3, precision="float32") for m in (model, other))
    assert bits(got) == bits(expected)


def test_supplied_values_begin_at_their_first_draw():
    # The terms of one draw alone, as a worker with later draws would request them.
    likelihood = reference.log_likelihood
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 20))
    supplied = Supplied(values, 2, first_draw=100)
    got = likelihood(supplied, np.zeros((2, 4, 2)), np.array([0, 2]), np.arange(105, 109))
    np.testing.assert_array_equal(got, values[[0, 2], 5:9])
    assert supplied.term(Points((3,)), frame()).first_draw == 100


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_supplied_values_that_are_no_log_densities_are_refused(bad):
    _, other, q = given("diagonal-standard-scalar", 100)
    other.likelihood.values = other.likelihood.values.copy()
    other.likelihood.values[..., 7] = bad
    with pytest.raises(fe.errors.InvalidWeightError, match="draw 7"):
        fe.estimate(other, q, 100, rng=3)


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
@pytest.mark.parametrize(("first", "count", "missing"), [(0, 99, 99), (1, 99, 0), (200, 5, 0)])
def test_draws_without_a_value_are_refused(backend, first, count, missing):
    q = fe.Gaussian([0.0, 1.0], scale=1.0)
    model = GivenLikelihood(q, Supplied(np.zeros(count), 2, first))
    with pytest.raises(fe.errors.InvalidWeightError, match=f"draw {missing}:"):
        fe.estimate(model, q, 100, rng=3, backend=backend)


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_a_supplied_prior_and_no_draws_of_weight(backend):
    q = fe.Gaussian([0.0, 1.0], scale=1.0)
    values = q.log_prob(q.sample(100, rng=3))
    model = GivenLikelihood(Supplied(values, 2), Zero(2))
    got = fe.log_weights(model, q, 100, rng=3, backend=backend)
    np.testing.assert_allclose(got, 0.0, atol=1e-13)
    model = GivenLikelihood(Supplied(np.full(100, -np.inf), 2), Zero(2))
    assert fe.estimate(model, q, 100, rng=3, backend=backend).log_evidence == -np.inf


@pytest.mark.parametrize(("values", "message"), [(1.0, "axis of draws"), (["a"], "values")])
def test_what_cannot_be_supplied(values, message):
    with pytest.raises(fe.errors.FastElboError, match=message):
        Supplied(values, 2)


# --- what offers what ---------------------------------------------------------------------------


def frame():
    return Frame(np.zeros((1, 2)), None, None)


def test_kinds_are_explicit():
    p = fe.Gaussian([0.0, 0.0], scale=1.0)
    assert p.term(Points(()), frame()).kind == ELLIPTICAL
    assert p.likelihood.term(Points(()), frame()).kind == ZERO
    assert Supplied(np.zeros(3), 2).term(Points(()), frame()).kind == SUPPLIED
    assert p.prior is p


def test_who_satisfies_the_protocols():
    gaussian = fe.Gaussian([0.0], scale=1.0)
    mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1.0]], scale=1.0))
    linear = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    for q in (gaussian, fe.StudentT(4.0, [0.0], scale=1.0), mixture):
        assert isinstance(q, Proposal)
        assert isinstance(q, LatentModel)
    assert isinstance(linear, LatentModel)
    assert not isinstance(linear, Proposal)
    assert isinstance(linear.likelihood, LogDensity)
    assert isinstance(fe.MixtureModel([[0.0]], mixture), ExactModel)
    assert not isinstance(fe.Categorical([1.0]), Proposal)


@pytest.mark.parametrize("wrong", [fe.Gaussian, 3.0, "q", None, fe.Categorical([1.0])])
def test_what_is_no_model_or_q_is_refused(wrong):
    p = fe.Gaussian([0.0], scale=1.0)
    with pytest.raises(fe.errors.InvalidInputError, match="model must be"):
        fe.estimate(wrong, p)
    with pytest.raises(fe.errors.InvalidInputError, match="q must be"):
        fe.estimate(p, wrong)


def test_a_mixture_model_uses_as_many_threads_as_it_is_told(monkeypatch):
    used = []

    def record(threads, function, *args, **_):
        used.append(threads)
        function(*args)

    monkeypatch.setattr("fastelbo.kernels.cpu.launch.run_on_threads", record)
    mixture = fe.Mixture([0.3, 0.7], fe.Gaussian([[0.0], [2.0]], scale=1.0))
    fe.estimate(fe.MixtureModel([[0.5]], mixture), fe.Categorical([0.5, 0.5]), n_threads=1)
    assert used == [1]


def test_the_numpy_backend_compiles_nothing(monkeypatch):
    def refuse(*_):
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr("fastelbo.kernels.cpu.launch.compiled", refuse)
    mixture = fe.Mixture([0.3, 0.7], fe.Gaussian([[0.0], [2.0]], scale=1.0))
    model = fe.MixtureModel([[0.5], [3.0]], mixture)
    q = fe.Categorical([[0.2, 0.8], [0.5, 0.5]])
    est = fe.estimate(model, q, backend="numpy")
    monkeypatch.undo()
    expected = fe.estimate(model, q)
    for field in ("log_evidence", "elbo", "kl", "expected_log_likelihood"):
        np.testing.assert_allclose(getattr(est, field), getattr(expected, field), rtol=1e-13)
