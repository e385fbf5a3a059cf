"""Mixtures: logits, moments, the components of draws, and scikit-learn's mixtures."""

import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cases import QS, scales, triangles
from scipy.special import log_softmax

import fastelbo as fe

RNG = np.random.default_rng(0)
PAIR = fe.Gaussian([[-3.0], [3.0]], scale=1.0)

# --- logits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (4, 2), (3, 1, 2)])
@pytest.mark.parametrize("shift", [0.0, 1e3, -1e3, 1e15])
def test_logits_are_weights_up_to_a_constant(shape, shift):
    logits = np.round(RNG.normal(size=shape), 1)
    mixture = fe.Mixture(logits=logits + shift, components=PAIR)
    exact = log_softmax((logits + shift) - shift, axis=-1)
    np.testing.assert_allclose(np.log(mixture.weights), exact, rtol=1e-13, atol=1e-15)
    assert mixture.batch_shape == shape[:-1]
    with np.errstate(all="raise"):
        again = fe.Mixture(logits=np.log(mixture.weights), components=PAIR)
    z = RNG.normal(size=(5, *(1,) * (len(shape) - 1), 1))
    np.testing.assert_allclose(again.log_prob(z), mixture.log_prob(z), rtol=1e-13)


@pytest.mark.parametrize("low", [-np.inf, -1e300, -720.0])
def test_a_logit_that_is_too_low_is_a_weight_of_0(low):
    with np.errstate(all="raise"):
        mixture = fe.Mixture(logits=[low, 0.0], components=PAIR)
    np.testing.assert_array_equal(mixture.weights, [0.0, 1.0])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"logits": [0.0, np.nan]}, "logits must not be NaN"),
        ({"logits": [0.0, np.inf]}, "logits must not be NaN or .inf"),
        ({"logits": [-np.inf, -np.inf]}, "nor all -inf"),
        ({"logits": [0.0]}, r"number of logits, 1; got batch_shape \(2,\)"),
        ({"logits": 0.0}, "logits must have a last axis"),
        ({}, "exactly one of weights and logits is expected, got none"),
        ({"weights": [0.5, 0.5], "logits": [0.0, 0.0]}, "got both"),
        ({"weights": [0.5, 0.5], "components": None}, "components must be .* got NoneType"),
    ],
)
def test_refused(arguments, match):
    with pytest.raises(fe.errors.InvalidInputError, match=match):
        fe.Mixture(**({"components": PAIR} | arguments))


# --- moments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("kind", ["mixture", "mixture_full", "zero_weight"])
def test_mean_and_covariance(kind, batch):
    mixture = QS[kind](RNG, RNG.normal(size=(*batch, 3)), 1.0)
    assert mixture.mean.shape == (*batch, 3)
    assert mixture.cov.shape == (*batch, 3, 3)
    # Second moments about the origin, component by component.
    means, covs = mixture.components.mean, mixture.components.cov
    weights = mixture.weights
    seconds = covs + means[..., :, None] * means[..., None, :]
    mean = np.einsum("...c,...cd->...d", weights, means)
    cov = (
        np.einsum("...c,...cde->...de", weights, seconds) - mean[..., :, None] * mean[..., None, :]
    )
    np.testing.assert_allclose(mixture.mean, mean, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(mixture.cov, cov, rtol=1e-12, atol=1e-13)


def test_mean_and_covariance_of_draws():
    mixture = fe.Mixture(
        [0.3, 0.7], fe.StudentT([8.0, 20.0], [[0.0, 1.0], [2.0, -1.0]], scale=[1.0, 0.5])
    )
    z = mixture.sample(10**6, rng=0)
    products = (z - mixture.mean)[:, :, None] * (z - mixture.mean)[:, None, :]
    for got, expected in ((z, mixture.mean), (products, mixture.cov)):
        assert (np.abs(got.mean(axis=0) - expected) < 5.0 * got.std(axis=0) / 1e3).all()


def test_moments_without_cancellation():
    far = fe.Mixture([0.5, 0.5], fe.Gaussian([[1e8], [1e8 + 2.0]], scale=0.5))
    np.testing.assert_array_equal(far.mean, [1e8 + 1.0])
    np.testing.assert_array_equal(far.cov, [[1.25]])


def test_moments_of_a_shared_location():
    mixture = fe.Mixture([[0.5, 0.5], [0.25, 0.75]], fe.Gaussian([1.0], scale=[[1.0], [3.0]]))
    np.testing.assert_array_equal(mixture.mean, [[1.0], [1.0]])
    np.testing.assert_array_equal(mixture.cov[:, 0, 0], [5.0, 7.0])


def test_moments_that_do_not_exist():
    def moments(weights):
        components = fe.StudentT([1.0, 2.0, 4.0], np.zeros((3, 1)), scale=1.0)
        mixture = fe.Mixture(weights, components)
        return [float(mixture.mean[0]), float(mixture.cov[0, 0])]

    np.testing.assert_array_equal(moments([0.1, 0.1, 0.8]), [np.nan, np.nan])
    np.testing.assert_array_equal(moments([0.0, 0.1, 0.9]), [0.0, np.nan])
    np.testing.assert_array_equal(moments([0.0, 0.0, 1.0]), [0.0, 2.0])


# --- the components of draws ----------------------------------------------------------------------


@pytest.mark.parametrize("family", [fe.Gaussian, lambda m, **s: fe.StudentT(5.0, m, **s)])
@pytest.mark.parametrize(
    ("weights", "means"),
    [
        ([0.2, 0.5, 0.3], [[0.0], [1e6], [2e6]]),
        ([[0.2, 0.8, 0.0], [0.6, 0.1, 0.3]], [[0.0], [1e6], [2e6]]),
        ([0.2, 0.5, 0.3], np.arange(12.0).reshape(4, 3, 1) * 1e6),
        ([1.0], [[7e6]]),
    ],
)
def test_components_are_those_of_the_draws(family, weights, means):
    means = np.array(means)
    mixture = fe.Mixture(weights, family(means, scale=1.0))
    draws, component = mixture.sample(5000, rng=3, return_component=True)
    np.testing.assert_array_equal(draws, mixture.sample(5000, rng=3))
    assert component.dtype == np.int64
    assert component.shape == (5000, *mixture.batch_shape)
    centres = np.broadcast_to(means[..., 0], (*mixture.batch_shape, means.shape[-2]))
    nearest = np.abs(draws - centres).argmin(axis=-1)
    np.testing.assert_array_equal(component, nearest)
    shares = np.stack([(component == c).mean(axis=0) for c in range(means.shape[-2])], axis=-1)
    assert np.abs(shares - mixture.weights).max() < 0.04


def test_a_generator_advances_once():
    rng, twin = np.random.default_rng(0), np.random.default_rng(0)
    mixture = fe.Mixture([0.5, 0.5], PAIR)
    first, _ = mixture.sample(10, rng, return_component=True)
    np.testing.assert_array_equal(first, mixture.sample(10, twin))
    np.testing.assert_array_equal(mixture.sample(10, rng), mixture.sample(10, twin))
    draws, component = mixture.sample(0, return_component=True)
    assert (draws.shape, component.shape) == ((0, 1), (0,))


# --- scikit-learn ---------------------------------------------------------------------------------

TYPES = ["full", "tied", "diag", "spherical"]


def fitted(kind, dim=3):
    """The attributes of a fitted mixture, as scikit-learn has them."""
    tril = triangles(RNG, 2, dim)
    covariances = {
        "full": tril @ tril.mT,
        "tied": tril[0] @ tril[0].T,
        "diag": scales(RNG, 2, dim) ** 2,
        "spherical": scales(RNG, 2) ** 2,
    }
    return SimpleNamespace(
        covariance_type=kind, weights_=np.array([0.3, 0.7]), means_=RNG.normal(size=(2, dim)),
        covariances_=covariances[kind],
    )  # fmt: skip


def full_covariances(gm, dim=3):
    if gm.covariance_type in ("full", "tied"):
        return np.broadcast_to(gm.covariances_, (2, dim, dim))
    spread = gm.covariances_ if gm.covariance_type == "diag" else gm.covariances_[:, None]
    return np.broadcast_to(spread, (2, dim))[..., None] * np.eye(dim)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_from_the_attributes_of_a_fitted_mixture(kind, dtype):
    gm = fitted(kind)
    for name in ("weights_", "means_", "covariances_"):
        setattr(gm, name, getattr(gm, name).astype(dtype))
    mixture = fe.Mixture.from_sklearn(gm)
    np.testing.assert_array_equal(mixture.components.mean, gm.means_)
    np.testing.assert_allclose(mixture.weights, gm.weights_, rtol=1e-7)
    got = np.broadcast_to(mixture.components.cov, (2, 3, 3))
    np.testing.assert_allclose(got, full_covariances(gm), rtol=1e-6, atol=1e-7)


def test_what_is_not_a_fitted_mixture():
    with pytest.raises(fe.errors.InvalidInputError, match="without weights_ and means_"):
        fe.Mixture.from_sklearn(SimpleNamespace(covariance_type="full", covariances_=1.0))
    with pytest.raises(fe.errors.InvalidInputError, match="'spherical', got 'other'"):
        fe.Mixture.from_sklearn(
            SimpleNamespace(**(vars(fitted("full")) | {"covariance_type": "other"}))
        )


@pytest.mark.parametrize(
    "mixture",
    [
        fe.Mixture([1.0], fe.StudentT(3.0, [[0.0]], scale=1.0)),
        fe.Mixture([[1.0]], fe.Gaussian([[0.0]], scale=1.0)),
    ],
)
def test_what_scikit_learn_has_no_mixture_for(mixture):
    with pytest.raises(fe.errors.InvalidInputError, match="needs a mixture of Gaussians"):
        mixture.to_sklearn()


def test_without_scikit_learn_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(ImportError, match=r"to_sklearn\(\) needs sklearn; .* scikit-learn"):
        fe.Mixture([0.5, 0.5], PAIR).to_sklearn()


def test_scikit_learn_is_not_imported():
    code = "import fastelbo, sys; print('sklearn' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dim", [1, 3])
def test_round_trip_through_scikit_learn(kind, dim):
    mixtures = pytest.importorskip("sklearn.mixture")
    x = np.concatenate([RNG.normal(size=(200, dim)), RNG.normal(3.0, 0.5, size=(100, dim))])
    gm = mixtures.GaussianMixture(n_components=2, covariance_type=kind, random_state=0).fit(x)
    mixture = fe.Mixture.from_sklearn(gm)
    np.testing.assert_allclose(mixture.log_prob(x), gm.score_samples(x), rtol=1e-11, atol=1e-11)
    back = mixture.to_sklearn()
    if dim > 1:
        assert back.covariance_type == kind
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        got, expected = getattr(back, name), getattr(gm, name)
        assert got.flags.writeable
        if dim > 1:
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(back.score_samples(x), gm.score_samples(x), rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(back.predict(x), gm.predict(x))
    np.testing.assert_allclose(back.predict_proba(x), gm.predict_proba(x), atol=1e-11)
    assert back.sample(5)[0].shape == (5, dim)
    assert back.n_features_in_ == dim
    assert np.isfinite(pickle.loads(pickle.dumps(back)).bic(x))


def test_a_bayesian_mixture_of_scikit_learn_gives_its_parameters():
    mixtures = pytest.importorskip("sklearn.mixture")
    x = RNG.normal(size=(300, 2))
    gm = mixtures.BayesianGaussianMixture(n_components=2, random_state=0, max_iter=500).fit(x)
    mixture = fe.Mixture.from_sklearn(gm)
    np.testing.assert_allclose(mixture.components.cov, gm.covariances_, rtol=1e-12)
