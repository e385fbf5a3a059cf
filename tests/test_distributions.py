"""Densities, draws and divergences of distributions."""

import copy
import math
import pickle
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import scipy.stats as st
from cases import QS, scales, triangles
from helpers import IGNORE_DIAGNOSTICS
from scipy.integrate import quad
from scipy.special import logsumexp

import fastelbo as fe
from fastelbo import reference
from fastelbo.arrays.inputs import constant
from fastelbo.kernels.cpu import launch
from fastelbo.models import lowering
from fastelbo.models.protocol import Frame, Points

RNG = np.random.default_rng(77)
DIMS = [1, 2, 3, 5, 10, 17]


def scipy_log_prob(dist, z):
    """Log density of a distribution without a batch at z (..., D)."""
    if isinstance(dist, fe.Mixture):
        with np.errstate(divide="ignore"):
            logs = np.log(dist.weights)
        return logsumexp(
            [log + scipy_log_prob(c, z) for log, c in zip(logs, components(dist), strict=True)],
            axis=0,
        )
    tril = np.diag(dist.scale) if dist.scale is not None else dist.scale_tril
    if isinstance(dist, fe.StudentT):
        return st.multivariate_t(dist.mean, tril @ tril.T, df=float(dist.df)).logpdf(z)
    assert isinstance(dist, fe.Gaussian), "an oracle for this family is missing"
    return st.multivariate_normal(dist.mean, tril @ tril.T).logpdf(z)


def components(mixture):
    """The components of a mixture without a batch, one by one."""
    own = mixture.components
    for c in range(mixture.weights.size):
        scale = (
            {"scale": own.scale[c]} if own.scale is not None else {"scale_tril": own.scale_tril[c]}
        )
        if isinstance(own, fe.StudentT):
            yield fe.StudentT(own.df[c], own.mean[c], **scale)
        else:
            assert isinstance(own, fe.Gaussian), "an oracle for this family is missing"
            yield fe.Gaussian(own.mean[c], **scale)


# --- densities --------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", QS)
def test_log_prob_against_scipy(kind, dim):
    rng = np.random.default_rng(dim)
    dist = QS[kind](rng, rng.normal(size=dim), 1.5)
    z = rng.normal(scale=5.0, size=(1000, dim))
    z[-1] *= 1e4
    expected = scipy_log_prob(dist, z)
    np.testing.assert_allclose(dist.log_prob(z), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", QS)
@pytest.mark.parametrize(
    ("batch", "lead"),
    [
        ((), ()),
        ((), (0,)),
        ((4,), ()),
        ((4,), (4,)),
        ((4,), (5, 1)),
        ((3, 1), (2,)),
        ((3, 2), (700, 1, 2)),
    ],
)
def test_log_prob_broadcasts(kind, batch, lead):
    rng = np.random.default_rng(1)
    dist = QS[kind](rng, rng.normal(size=(*batch, 3)), 1.0)
    assert dist.batch_shape == batch
    z = rng.normal(size=(*lead, 3))
    got, expected = dist.log_prob(z), reference.log_prob(dist, z)
    assert got.shape == expected.shape == np.broadcast_shapes(batch, lead)
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("df", [0.1, 1.0, 30.0, 1e6, 1e9, 1e15])
@pytest.mark.parametrize("dim", [1, 2, 3, 17])
def test_log_prob_of_student_t_for_any_df(df, dim):
    # Two log-Gammas of a large df cancel: an error of 1e-6 at df = 1e9.
    z = np.full(dim, 1.5)
    with mpmath.workprec(200):
        half, d = mpmath.mpf(df) / 2, mpmath.mpf(dim)
        exact = mpmath.loggamma(half + d / 2) - mpmath.loggamma(half)
        exact -= d / 2 * mpmath.log(2 * half * mpmath.pi)
        exact -= (half + d / 2) * mpmath.log1p(d * mpmath.mpf(2.25) / df)
    got = float(fe.StudentT(df, np.zeros(dim), scale=1.0).log_prob(z))
    assert got == pytest.approx(float(exact), rel=1e-13, abs=0.0)


def test_log_prob_far_from_the_origin():
    # The difference z - mean is exact here. It must be computed before any scaling.
    q = fe.Gaussian([1e8, -1e8], cov=[[1.0, 0.6], [0.6, 2.0]])
    near = fe.Gaussian([0.0, 0.0], cov=[[1.0, 0.6], [0.6, 2.0]])
    shift = np.array([0.25, -1.5])
    assert float(q.log_prob(q.mean + shift)) == float(near.log_prob(shift))


@pytest.mark.parametrize("place", range(3))
def test_zero_weights_do_not_reach_the_density(place):
    weights, means = np.zeros(3), np.array([[1e300], [-7.0], [1e-300]])
    weights[place], means[place] = 1.0, 0.5
    mixture = fe.Mixture(weights, fe.Gaussian(means, scale=1.0))
    z = np.array([[0.0], [50.0], [-7.0]])
    expected = fe.Gaussian([0.5], scale=1.0).log_prob(z)
    np.testing.assert_allclose(mixture.log_prob(z), expected, rtol=1e-14)
    assert np.abs(mixture.sample(100, rng=0)).max() < 10.0


def test_density_that_underflows_everywhere():
    mixture = fe.Mixture([0.2, 0.3, 0.5], fe.Gaussian([[0.0], [1.0], [2.0]], scale=1.0))
    assert float(mixture.log_prob([1e200])) == -np.inf


def test_separated_mixture_does_not_underflow():
    mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[-100.0], [100.0]], scale=[[1.0], [1e-3]]))
    expected = math.log(0.5) + st.norm.logpdf(-100.0, -100.0)
    assert float(mixture.log_prob([-100.0])) == pytest.approx(expected, rel=1e-14, abs=0.0)


# --- draws ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["diagonal", "full", "t", "mixture", "mixture_full", "zero_weight"]
)
def test_sample_mean_and_covariance(kind):
    # Within 5 standard errors, estimated from the draws: for the mean, .005 standard deviations.
    rng = np.random.default_rng(8)
    dist = QS[kind](rng, rng.normal(size=(2, 3)), 1.0)
    z = dist.sample(10**6, rng=9)
    assert z.shape == (10**6, 2, 3)
    mean, cov = exact_moments(dist)
    assert_near(z, mean)
    centred = z - mean
    assert_near(centred[..., :, None] * centred[..., None, :], cov)


def exact_moments(dist):
    if isinstance(dist, fe.Mixture):
        means, covs = exact_moments(dist.components)
        weights = dist.weights[..., None]
        mean = (weights * means).sum(axis=-2)
        gaps = means - mean[..., None, :]
        covs = covs + gaps[..., :, None] * gaps[..., None, :]
        return mean, (weights[..., None] * covs).sum(axis=-3)
    assert isinstance(dist, (fe.Gaussian, fe.StudentT)), "an oracle for this family is missing"
    tril = dist.scale_tril if dist.scale is None else dist.scale[..., None] * np.eye(dist.dim)
    widening = dist.df / (dist.df - 2.0) if isinstance(dist, fe.StudentT) else 1.0
    return dist.mean, widening * (tril @ np.swapaxes(tril, -1, -2))


def assert_near(draws, expected):
    se = draws.std(axis=0) / math.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - expected) <= 5 * se).all()


def test_sample_of_nothing():
    q = fe.Gaussian(np.zeros((3, 2)), scale=1.0)
    assert q.sample(0).shape == (0, 3, 2)
    assert fe.Gaussian(np.zeros((0, 2)), scale=1.0).sample(4).shape == (4, 0, 2)
    assert fe.Categorical(np.full((0, 2), 0.5)).sample(4).shape == (4, 0, 1)


# --- entropy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
def test_entropy_against_scipy(dim):
    mean, tril, scale = RNG.normal(size=dim), triangles(RNG, dim), scales(RNG, dim)
    for kwargs, factor in (({"scale": scale}, np.diag(scale)), ({"scale_tril": tril}, tril)):
        cov = factor @ factor.T
        gaussian, student = fe.Gaussian(mean, **kwargs), fe.StudentT(3.5, mean, **kwargs)
        expected = st.multivariate_normal(mean, cov).entropy()
        assert float(gaussian.entropy()) == pytest.approx(expected, rel=1e-12)
        expected = st.multivariate_t(mean, cov, df=3.5).entropy()
        assert float(student.entropy()) == pytest.approx(expected, rel=1e-12)


def test_entropy_of_a_batch():
    q = fe.Gaussian(np.zeros((3, 2)), scale=[1.0, 2.0])
    np.testing.assert_array_equal(q.entropy(), np.full(3, q.entropy()[0]))
    df = np.array([2.0, 5.0])
    student = fe.StudentT(df, np.zeros((3, 1, 2)), scale=1.0)
    assert student.entropy().shape == (3, 2)
    single = [float(fe.StudentT(f, np.zeros(2), scale=1.0).entropy()) for f in df]
    np.testing.assert_allclose(student.entropy(), np.tile(single, (3, 1)), rtol=1e-14)


# --- frozen -----------------------------------------------------------------------------------


def test_frozen():
    q = fe.Gaussian([0.0, 1.0], scale=2.0)
    for name in ("mean", "scale", "anything"):
        with pytest.raises(AttributeError, match=name):
            setattr(q, name, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        q.mean[0] = 3.0
    with pytest.raises(ValueError, match="read-only"):
        fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1.0]], scale=1.0)).weights[0] = 1.0


def test_parameters_are_copied_and_never_written():
    mean, scale, probs = np.zeros(2), np.ones(2), np.array([0.3, 0.7 + 1e-7])
    q, choice = fe.Gaussian(mean, scale=scale), fe.Categorical(probs)
    mean[0], scale[0] = 7.0, 7.0
    assert q.mean[0] == 0.0
    assert q.scale[0] == 1.0
    assert probs[1] == 0.7 + 1e-7
    assert choice.probs.sum() == 1.0
    z = np.ones((3, 2))
    q.log_prob(z)
    assert z.flags.writeable
    np.testing.assert_array_equal(z, 1.0)


@pytest.mark.parametrize("kind", QS)
def test_copies_are_equal(kind):
    q = QS[kind](np.random.default_rng(0), np.zeros(2), 1.0)
    expected = q.sample(3, rng=0)
    for twin in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        np.testing.assert_array_equal(twin.sample(3, rng=0), expected)


def test_repr():
    gaussian = fe.Gaussian(np.zeros((4, 3)), scale=1.0)
    assert repr(gaussian) == "Gaussian(dim=3, batch_shape=(4,))"
    assert repr(fe.StudentT(5.0, [0.0], scale=1.0)) == "StudentT(dim=1, batch_shape=())"
    mixture = fe.Mixture(np.full(4, 0.25), gaussian)
    assert repr(mixture) == "Mixture(dim=3, batch_shape=(), components=4)"
    assert repr(fe.Categorical([0.5, 0.5])) == "Categorical(dim=1, batch_shape=())"


@pytest.mark.parametrize("kind", ["float32", "int16", "bool", ">f8"])
def test_any_real_dtype(kind):
    z = np.array([[0.0, 1.0], [1.0, 1.0]]).astype(kind)
    q = fe.Gaussian(z[0], scale=np.ones(2, kind))
    np.testing.assert_array_equal(q.log_prob(z), fe.Gaussian([0.0, 1.0], scale=1.0).log_prob(z))


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda z: z[::-1][::-1], lambda z: z[:, ::-1]]
)
def test_any_layout(layout):
    z = layout(RNG.normal(size=(40, 2)))
    z.setflags(write=False)
    q = fe.Gaussian([0.0, 1.0], scale=[1.0, 3.0])
    np.testing.assert_array_equal(q.log_prob(z), q.log_prob(z.copy(order="C")))


def test_cov_and_its_factor_agree():
    tril = triangles(RNG, 3, 4)
    cov = tril @ np.swapaxes(tril, -1, -2)
    np.testing.assert_allclose(fe.Gaussian(np.zeros(4), cov=cov).scale_tril, tril, rtol=1e-12)
    np.testing.assert_allclose(fe.Gaussian(np.zeros(4), scale_tril=tril).cov, cov, rtol=1e-12)
    np.testing.assert_array_equal(
        fe.Gaussian(np.zeros(2), scale=[2.0, 3.0]).cov, np.diag([4.0, 9.0])
    )


# --- categorical ------------------------------------------------------------------------------


def test_categorical():
    probs = np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    q = fe.Categorical(probs)
    assert q.batch_shape == (2,)
    classes = np.arange(3)[:, None, None]
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(q.log_prob(classes), np.log(probs.T))
    np.testing.assert_allclose(q.entropy(), [st.entropy(probs[0]), 0.0], rtol=1e-14)
    draws = q.sample(1000, rng=0)
    assert draws.shape == (1000, 2, 1)
    assert draws.dtype == np.int64
    assert (draws[:, 1] == 1).all()
    assert set(draws[:, 0, 0]) == {0, 1, 2}


# --- divergences ------------------------------------------------------------------------------


def gaussian(kind, dim, batch=(), seed=0):
    rng = np.random.default_rng(seed)
    return QS[kind](rng, rng.normal(size=(*batch, dim)), 1.0)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("p_kind", ["diagonal", "full"])
@pytest.mark.parametrize("q_kind", ["diagonal", "full"])
def test_kl_of_gaussians(q_kind, p_kind, dim):
    q, p = gaussian(q_kind, dim, seed=1), gaussian(p_kind, dim, seed=2)
    inverse, gap = np.linalg.inv(p.cov), p.mean - q.mean
    log_dets = np.linalg.slogdet(p.cov)[1] - np.linalg.slogdet(q.cov)[1]
    expected = 0.5 * (np.trace(inverse @ q.cov) + gap @ inverse @ gap - dim + log_dets)
    assert float(fe.kl_divergence(q, p)) == pytest.approx(expected, rel=1e-11)
    assert float(fe.kl_divergence(q, q)) == pytest.approx(0.0, abs=1e-13)


def test_kl_by_quadrature():
    q, p = fe.Gaussian([0.3], scale=0.8), fe.Gaussian([-0.5], scale=1.7)
    a, b = st.norm(0.3, 0.8), st.norm(-0.5, 1.7)
    expected, _ = quad(lambda z: a.pdf(z) * (a.logpdf(z) - b.logpdf(z)), -10.0, 10.0, epsabs=1e-12)
    assert float(fe.kl_divergence(q, p)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("p_kind", ["diagonal", "full"])
@pytest.mark.parametrize("q_kind", ["diagonal", "full"])
def test_kl_broadcasts(q_kind, p_kind):
    q, p = gaussian(q_kind, 3, (4, 1), seed=1), gaussian(p_kind, 3, (2,), seed=2)
    got = fe.kl_divergence(q, p)
    assert got.shape == (4, 2)

    def entry(dist, i):
        if dist.scale is not None:
            return fe.Gaussian(dist.mean[i], scale=dist.scale[i])
        return fe.Gaussian(dist.mean[i], scale_tril=dist.scale_tril[i])

    for i, j in np.ndindex(4, 2):
        single = float(fe.kl_divergence(entry(q, (i, 0)), entry(p, j)))
        assert got[i, j] == pytest.approx(single, rel=1e-13, abs=0.0)


def test_kl_of_categoricals():
    q, p = fe.Categorical([[0.2, 0.8], [0.0, 1.0]]), fe.Categorical([0.5, 0.5])
    expected = [st.entropy([0.2, 0.8], [0.5, 0.5]), math.log(2.0)]
    np.testing.assert_allclose(fe.kl_divergence(q, p), expected, rtol=1e-14)
    assert np.isposinf(fe.kl_divergence(p, fe.Categorical([1.0, 0.0])))


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("p_kind", ["diagonal", "full"])
@pytest.mark.parametrize("q_kind", ["diagonal", "full"])
def test_kl_against_its_estimate(q_kind, p_kind):
    # The standard error is about .002.
    q, p = gaussian(q_kind, 3, (2,), seed=3), gaussian(p_kind, 3, seed=4)
    est = fe.estimate(p, q, 10**6, rng=5)
    assert (np.abs(est.kl - fe.kl_divergence(q, p)) <= 4.5 * est.kl_se).all()
    np.testing.assert_array_equal(est.elbo, -est.kl)


MIXTURE = fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0))


@pytest.mark.parametrize(
    ("q", "p"),
    [
        (MIXTURE, fe.Gaussian([0.0], scale=1.0)),
        (fe.Gaussian([0.0], scale=1.0), MIXTURE),
        (fe.StudentT(3.0, [0.0], scale=1.0), fe.StudentT(3.0, [0.0], scale=1.0)),
        (fe.Gaussian([0.0], scale=1.0), fe.Categorical([1.0])),
    ],
)
def test_kl_without_a_closed_form(q, p):
    pattern = rf"{type(q).__name__} from {type(p).__name__}; estimate\(p, q\)\.kl"
    with pytest.raises(fe.errors.InvalidInputError, match=pattern):
        fe.kl_divergence(q, p)


@pytest.mark.parametrize(
    ("q", "p", "match"),
    [
        (gaussian("full", 2), gaussian("full", 3), "one dimension, got 2 and 3"),
        (gaussian("full", 2, (2,)), gaussian("full", 2, (3,)), r"q \(2,\), p \(3,\)"),
        (fe.Categorical([1.0]), fe.Categorical([0.5, 0.5]), "as many classes, got 1 and 2"),
        (fe.Categorical([[1.0]] * 2), fe.Categorical([[1.0]] * 3), r"q \(2,\), p \(3,\)"),
    ],
)
def test_kl_of_shapes_that_disagree(q, p, match):
    with pytest.raises(fe.errors.InvalidInputError, match=match):
        fe.kl_divergence(q, p)


@pytest.mark.parametrize("components", [1, 3])
def test_codes_that_no_family_has(components):
    """Densities and draws are NaN, and not what the arrays of the block held before."""
    parts = fe.StudentT(3.0, np.zeros((components, 2)), scale=1.0)
    mixture = fe.Mixture(np.full(components, 1.0 / components), parts)._components
    points, centre = Points(()), np.zeros((1, 2))
    density = lowering.density(mixture, points, Frame(centre, None, None))
    sampler = lowering.draw_components(mixture, points, centre)
    for code in (-1, 2, 7):
        x = np.ones((5, 1, 2))
        got = launch.log_prob(density._replace(radial=code), constant(centre), x)
        assert np.isnan(got).all()
        assert np.isnan(launch.sample(sampler._replace(radial=code), 1, 5, 2, 0)).all()


def test_a_family_that_the_reference_does_not_know():
    other = SimpleNamespace(family="other", parameter=np.array([3.0]))
    y = np.ones((1, 1, 2))
    with pytest.raises(ValueError, match="got 'other'"):
        reference.radial.log_radial(other, y, np.zeros(()))
    with pytest.raises(ValueError, match="got 'other'"):
        reference.radial.scale_radius("other", other.parameter, y, 0, 0, 0)
