"""Closed forms of models: evidence in data space, posteriors, sums over components."""

import numpy as np
import pytest
import scipy.stats as st
from cases import CASES, NOISES, PRIORS, linear, scales, triangles
from helpers import linear_gaussian
from scipy.special import logsumexp, softmax

import fastelbo as fe
from fastelbo import reference

LINEAR = {name: case for name, case in CASES.items() if not name.startswith("plain")}


def prior_components(model, i):
    """Log weight, mean and covariance of each prior component at place i of the batch."""
    prior = model.prior
    if isinstance(prior, fe.Gaussian):
        mean = np.broadcast_to(prior.mean, (*model.batch_shape, model.dim))[i]
        cov = np.broadcast_to(prior.cov, (*model.batch_shape, model.dim, model.dim))[i]
        return [(0.0, mean, cov)]
    own = prior.components
    mean = np.broadcast_to(own.mean, (*model.batch_shape, *own.mean.shape[-2:]))[i]
    cov = np.broadcast_to(own.cov, (*model.batch_shape, *own.cov.shape[-3:]))[i]
    return list(zip(np.log(prior.weights), mean, cov, strict=True))


def marginal_log_density(model, i):
    """log p(x_i) from the covariance of x itself."""
    w, noise = model.loadings, model.noise_cov
    noise = np.diag(noise) if noise.ndim == 1 else noise
    x = np.broadcast_to(model.x, (*model.batch_shape, model.x.shape[-1]))[i]
    return logsumexp(
        [
            log_weight
            + st.multivariate_normal(w @ mean + model.offset, w @ cov @ w.T + noise).logpdf(x)
            for log_weight, mean, cov in prior_components(model, i)
        ]
    )


@pytest.mark.parametrize("dim", [1, 3, 10])
@pytest.mark.parametrize("features", [1, 4, 20])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("prior", PRIORS)
def test_evidence_against_the_marginal(prior, noise, features, dim):
    model, _ = linear("diagonal", prior, noise, dim=dim, features=features, model_batch=(2, 2))
    got = model.exact_log_evidence()
    assert got.shape == (2, 2)
    expected = [marginal_log_density(model, i) for i in np.ndindex(2, 2)]
    np.testing.assert_allclose(got.ravel(), expected, rtol=1e-10)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("prior", PRIORS)
def test_evidence_with_small_noise_and_far_latents(prior, noise):
    # The marginal in data space loses about 8 digits to the condition number of its covariance.
    model, _ = linear("diagonal", prior, noise, dim=3, features=6, variance=1e-6, shift=100.0)
    got = float(model.exact_log_evidence())
    assert got == pytest.approx(marginal_log_density(model, ()), rel=1e-6)


@pytest.mark.parametrize("case", LINEAR.values(), ids=LINEAR.keys())
def test_joint_over_posterior_is_the_evidence(case):
    # At any z: log p(x, z) - log p(z | x) = log p(x).
    model, _ = case()
    batch, posterior = model.batch_shape, model.exact_posterior()
    assert posterior.batch_shape == batch
    assert type(posterior) is type(model.prior)
    draws = posterior.sample(20, rng=0)
    mean = draws @ model.loadings.T + model.offset
    noise = (
        {"scale": np.sqrt(model.noise_cov)}
        if model.noise_cov.ndim == 1
        else {"cov": model.noise_cov}
    )
    likelihood = fe.Gaussian(np.zeros(model.x.shape[-1]), **noise).log_prob(model.x - mean)
    evidence = likelihood + (model.prior.log_prob(draws) - posterior.log_prob(draws))
    expected = np.broadcast_to(model.exact_log_evidence(), evidence.shape)
    np.testing.assert_allclose(evidence, expected, rtol=1e-8, atol=1e-8)


def test_batches_of_x_and_prior():
    model, _ = CASES["every_batch"]()
    assert model.batch_shape == (2, 3)
    got = model.exact_log_evidence()
    expected = [marginal_log_density(model, i) for i in np.ndindex(2, 3)]
    np.testing.assert_allclose(got.ravel(), expected, rtol=1e-10)


def test_no_data_points():
    for prior in PRIORS:
        model, _ = linear(prior=prior, model_batch=(0,))
        assert model.exact_log_evidence().shape == (0,)
        assert model.exact_posterior().batch_shape == (0,)


# --- known answers ----------------------------------------------------------------------------


def test_known_evidence_in_one_dimension():
    model = linear_gaussian(1.0)
    assert float(model.exact_log_evidence()[0]) == pytest.approx(
        -1.5155121234846454, rel=1e-14, abs=0.0
    )
    posterior = model.exact_posterior()
    np.testing.assert_allclose(posterior.mean, [[0.5]], rtol=1e-15)
    np.testing.assert_allclose(posterior.cov, [[[0.5]]], rtol=1e-15)


def test_known_evidence_under_a_mixture_prior():
    prior = fe.Mixture([0.5, 0.5], fe.Gaussian([[-3.0], [3.0]], scale=1.0))
    model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0, prior=prior)
    assert float(model.exact_log_evidence()[0]) == pytest.approx(
        -2.9100719524708487, rel=1e-14, abs=0.0
    )


def test_known_evidence_of_two_features():
    model = fe.LinearGaussian([1.0, -1.0], [[1.0], [2.0]], noise_cov=0.5)
    assert float(model.exact_log_evidence()) == pytest.approx(
        -4.161859340430404, rel=1e-14, abs=0.0
    )


# --- mixtures of given components ---------------------------------------------------------------


def mixture_model(weights=(0.2, 0.5, 0.3), batch=(7,)):
    rng = np.random.default_rng(4)
    own = fe.Gaussian(rng.normal(size=(3, 2)), scale_tril=triangles(rng, 3, 2))
    return fe.MixtureModel(rng.normal(size=(*batch, 2)), fe.Mixture(weights, own))


@pytest.mark.parametrize("weights", [(0.2, 0.5, 0.3), (0.0, 0.4, 0.6)])
@pytest.mark.parametrize("batch", [(), (7,), (2, 3)])
def test_mixture_model_against_direct_sums(batch, weights):
    model = mixture_model(weights, batch)
    own = model.mixture.components
    logs = np.stack(
        [st.multivariate_normal(own.mean[c], own.cov[c]).logpdf(model.x) for c in range(3)], axis=-1
    )
    np.testing.assert_allclose(model.component_log_prob(), logs, rtol=1e-12)
    with np.errstate(divide="ignore"):
        joint = np.log(weights) + logs
    np.testing.assert_allclose(
        model.exact_log_evidence(), logsumexp(joint, axis=-1), rtol=1e-12, strict=True
    )
    posterior = model.exact_posterior()
    assert posterior.batch_shape == batch
    np.testing.assert_allclose(posterior.probs, softmax(joint, axis=-1), rtol=1e-12)


def test_mixture_model_of_student_t():
    rng = np.random.default_rng(5)
    own = fe.StudentT([3.0, 1.5], rng.normal(size=(2, 3)), scale=scales(rng, 2, 3))
    model = fe.MixtureModel(rng.normal(size=(4, 3)), fe.Mixture([0.4, 0.6], own))
    expected = reference.log_prob(model.mixture, model.x)
    np.testing.assert_allclose(model.exact_log_evidence(), expected, rtol=1e-12)


# --- what a model keeps -------------------------------------------------------------------------


def test_data_are_copied():
    x, loadings = np.ones((2, 3)), np.ones((3, 1))
    model = fe.LinearGaussian(x, loadings, noise_cov=1.0)
    before = model.exact_log_evidence()
    x[:], loadings[:] = 5.0, 5.0
    np.testing.assert_array_equal(model.exact_log_evidence(), before)
    again = fe.LinearGaussian(np.ones((2, 3)), np.ones((3, 1)), noise_cov=1.0)
    np.testing.assert_array_equal(again.exact_log_evidence(), before)


def test_noise_kinds_agree():
    rng = np.random.default_rng(6)
    x, loadings = rng.normal(size=(5, 3)), rng.normal(size=(3, 2))
    kinds = [0.7, np.full(3, 0.7), 0.7 * np.eye(3)]
    got = [fe.LinearGaussian(x, loadings, noise_cov=k).exact_log_evidence() for k in kinds]
    np.testing.assert_allclose(got[1:], [got[0]] * 2, rtol=1e-13)


def test_repr():
    model = fe.LinearGaussian(np.ones((5, 3)), np.ones((3, 2)), noise_cov=1.0)
    assert repr(model) == (
        "LinearGaussian(x=(5, 3), loadings=(3, 2), prior=Gaussian(dim=2, batch_shape=()))"
    )
    assert repr(mixture_model()) == (
        "MixtureModel(x=(7, 2), mixture=Mixture(dim=2, batch_shape=(), components=3))"
    )
