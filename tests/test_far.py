"""Densities and sums over components where digits would be lost, against 50 digits and more.

Components that are far apart in units of their scale, points so far away that squares overflow,
degrees of freedom of any size, and the probabilities of components that follow from them.
"""

import mpmath
import numpy as np
import pytest
from cases import triangles
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe
from fastelbo import reference

EPS = 2.0**-52
CASES = 600


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


# --- exact values -------------------------------------------------------------------------------


def exact_log_const(df, dim):
    """The log of the normalising constant for a scale of 1; df = inf is the Gaussian."""
    half, d = mpmath.mpf(df) / 2, mpmath.mpf(dim)
    gaussian = -d / 2 * mpmath.log(2 * mpmath.pi)
    if df == np.inf:
        return gaussian
    if df > 1e25:
        return gaussian + d * (d - 2) / (8 * half)
    return (
        mpmath.loggamma(half + d / 2)
        - mpmath.loggamma(half)
        - d / 2 * mpmath.log(2 * half * mpmath.pi)
    )


def exact_log_prob(mean, tril, df, z):
    """Log density of a Student-t, or of a Gaussian for df = inf, of numbers as they are."""
    dim, residual, log_det = len(mean), [], mpmath.mpf(0)
    for j in range(dim):
        rest = mpmath.mpf(z[j]) - mpmath.mpf(mean[j])
        rest -= mpmath.fsum(mpmath.mpf(tril[j][k]) * residual[k] for k in range(j))
        residual.append(rest / mpmath.mpf(tril[j][j]))
        log_det += mpmath.log(mpmath.mpf(tril[j][j]))
    square = mpmath.fsum(r * r for r in residual)
    const = exact_log_const(df, dim) - log_det
    if df == np.inf:
        return const - square / 2
    with mpmath.workdps(700 if df > 1e25 else 60):
        return const - (mpmath.mpf(df) + dim) / 2 * mpmath.log1p(square / mpmath.mpf(df))


def exact_terms(mixture, z):
    """log p(z | c) of each component."""
    own = mixture.components
    trils = own.scale_tril
    if trils is None:
        trils = own.scale[..., None] * np.eye(own.dim)
    count = mixture.weights.size
    dfs = np.broadcast_to(getattr(own, "df", np.inf), count)
    trils = np.broadcast_to(trils, (count, own.dim, own.dim))
    means = np.broadcast_to(own.mean, (count, own.dim))
    return [exact_log_prob(means[c], trils[c], dfs[c], z) for c in range(count)]


def exact_joint(mixture, z):
    """log w_c + log p(z | c), without the components of weight 0."""
    terms = zip(mixture.weights, exact_terms(mixture, z), strict=True)
    return {c: mpmath.log(mpmath.mpf(w)) + t for c, (w, t) in enumerate(terms) if w > 0.0}


def exact_log_sum(joint):
    top = max(joint.values())
    return top + mpmath.log(mpmath.fsum(mpmath.exp(t - top) for t in joint.values()))


# --- inputs -------------------------------------------------------------------------------------


def far_mixture(rng, most=17.0):
    """Components apart by 10^most of their scales at most, anywhere, and a point near one."""
    dim, count = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    scale = 10.0 ** rng.uniform(-9.0, 3.0)
    apart = scale * 10.0 ** rng.uniform(0.0, most)
    where = rng.choice([0.0, 1.0]) * apart * 10.0 ** rng.uniform(-2.0, 4.0)
    mean = where + apart * rng.normal(size=(count, dim))
    if rng.random() < 0.5:
        width = {"scale": scale * rng.uniform(0.5, 2.0, (count, dim))}
    else:
        width = {"scale_tril": scale * triangles(rng, count, dim)}
    if rng.random() < 0.3:
        parts = fe.StudentT(10.0 ** rng.uniform(0.0, 3.0, count), mean, **width)
    else:
        parts = fe.Gaussian(mean, **width)
    weights = rng.dirichlet(np.ones(count))
    if rng.random() < 0.3:
        weights[0] = 0.0
    near = mean[rng.integers(count)] + scale * rng.normal(size=dim) * 10.0 ** rng.uniform(-1, 1.5)
    return fe.Mixture(weights / weights.sum(), parts), near


# --- components that are far apart --------------------------------------------------------------


def test_log_prob_of_components_far_apart():
    rng = np.random.default_rng(1)
    for _ in range(CASES):
        mixture, z = far_mixture(rng)
        expected = float(exact_log_sum(exact_joint(mixture, z)))
        bound = 50 * EPS * (1.0 + abs(expected))
        assert abs(float(mixture.log_prob(z)) - expected) <= bound
        assert abs(float(reference.log_prob(mixture, z)) - expected) <= bound


@pytest.mark.parametrize("apart", [1e10, 1e14, 1e16])
def test_known_separations(apart):
    mixture = fe.Mixture([0.25, 0.75], fe.Gaussian([[0.0], [apart]], scale=1.0))
    z = np.array([[0.3], [1.0], [apart], [apart + 2.0]])
    single = fe.Gaussian([[0.0], [0.0], [apart], [apart]], scale=1.0).log_prob(z)
    expected = np.log([0.25, 0.25, 0.75, 0.75]) + single
    np.testing.assert_allclose(mixture.log_prob(z), expected, rtol=4 * EPS)


def test_a_batch_does_not_change_the_bits_of_a_member():
    # One member needs shifts, the others do not.
    rng = np.random.default_rng(2)
    mean = rng.normal(size=(5, 3, 2))
    mean[3, 1] += 1e9
    tril = triangles(rng, 5, 3, 2)
    z = rng.normal(size=(40, 5, 2))
    z[:, 3] += 1e9
    for width in ({"scale": np.diagonal(tril, axis1=-2, axis2=-1)}, {"scale_tril": tril}):
        whole = fe.Mixture([0.2, 0.3, 0.5], fe.Gaussian(mean, **width)).log_prob(z)
        for i in range(5):
            own = {name: value[i] for name, value in width.items()}
            alone = fe.Mixture([0.2, 0.3, 0.5], fe.Gaussian(mean[i], **own)).log_prob(z[:, i])
            np.testing.assert_array_equal(whole[:, i], alone)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("apart", [1e3, 1e8, 1e12])
def test_estimates_of_components_far_apart(apart, full):
    """q and prior are mixtures of the same far components, the prior wider."""
    rng = np.random.default_rng(3)
    mean = apart * np.array([[0.0, 0.0], [1.0, -1.0], [0.5, 1.0]])
    tril = triangles(rng, 3, 2) if full else rng.uniform(0.5, 1.5, (3, 1, 2)) * np.eye(2)
    q = fe.Mixture([0.2, 0.3, 0.5], fe.Gaussian(mean, scale_tril=tril))
    p = fe.Mixture([0.2, 0.3, 0.5], fe.Gaussian(mean, scale_tril=1.2 * tril))
    got = fe.elbo_terms(p, q, 300, rng=4)
    z = q.sample(300, rng=4)
    np.testing.assert_allclose(got.log_q, reference.log_prob(q, z), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(got.log_prior, reference.log_prob(p, z), rtol=1e-13, atol=1e-13)
    plain = fe.elbo_terms(p, q, 300, rng=4, backend="numpy")
    # The coordinates of the draws are rounded to ulps of their distance from the origin.
    tolerance = 1e-12 + 20 * EPS * apart
    np.testing.assert_allclose(got.log_weights, plain.log_weights, rtol=0, atol=tolerance)
    est = fe.estimate(p, q, 10_000, rng=4)
    near = fe.estimate(
        fe.Gaussian(mean[0], scale_tril=1.2 * tril[0]),
        fe.Gaussian(mean[0], scale_tril=tril[0]), 10_000, rng=4,
    )  # fmt: skip
    assert abs(float(est.log_evidence)) < 5.0 * float(est.log_evidence_se)
    assert abs(float(est.elbo - near.elbo)) < 5.0 * float(est.elbo_se + near.elbo_se)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_a_narrow_q_at_one_of_many_far_components():
    rng = np.random.default_rng(5)
    for apart in 10.0 ** rng.uniform(1.0, 14.0, 20):
        p = fe.Mixture([0.4, 0.6], fe.Gaussian([[0.0], [apart]], scale=1.0))
        q = fe.Gaussian([apart], scale=1.3)
        terms = fe.elbo_terms(p, q, 50, rng=6)
        alone = fe.elbo_terms(fe.Gaussian([apart], scale=1.0), q, 50, rng=6)
        other = fe.elbo_terms(fe.Gaussian([0.0], scale=1.0), q, 50, rng=6)
        expected = np.logaddexp(np.log(0.6) + alone.log_prior, np.log(0.4) + other.log_prior)
        np.testing.assert_allclose(terms.log_prior, expected, rtol=1e-14, atol=1e-14)


# --- points so far away that squares overflow ---------------------------------------------------


def test_student_t_at_any_distance():
    rng = np.random.default_rng(7)
    for _ in range(CASES):
        dim = int(rng.integers(1, 5))
        df = 10.0 ** (rng.uniform(-1.0, 300.0) if rng.random() < 0.3 else rng.uniform(-1.0, 2.0))
        scale = 10.0 ** rng.uniform(-100.0, 100.0)
        tril = scale * triangles(rng, dim)
        if rng.random() < 0.5:
            tril = np.diag(np.diagonal(tril))
        z = rng.normal(size=dim) * scale * 10.0 ** rng.uniform(150.0, 200.0, dim)
        mean = z * 10.0 ** rng.uniform(-20.0, 0.0)
        t = fe.StudentT(df, mean, scale_tril=tril)
        expected = float(exact_log_prob(mean, tril, df, z))
        with np.errstate(over="ignore"):
            assert float(t.log_prob(z)) == pytest.approx(expected, rel=1e-13, abs=0.0)
            assert float(reference.log_prob(t, z)) == pytest.approx(expected, rel=1e-13, abs=0.0)


def test_mixtures_of_student_t_at_any_distance():
    rng = np.random.default_rng(8)
    for _ in range(CASES):
        dim, count = int(rng.integers(1, 4)), 3
        scale = 10.0 ** rng.uniform(-20.0, 20.0, (count, 1))
        parts = fe.StudentT(
            10.0 ** rng.uniform(-1.0, 1.0, count), rng.normal(size=(count, dim)),
            scale=scale * rng.uniform(0.5, 2.0, (count, dim)),
        )  # fmt: skip
        mixture = fe.Mixture(rng.dirichlet(np.ones(count)), parts)
        z = rng.normal(size=dim) * 10.0 ** rng.uniform(100.0, 250.0)
        expected = float(exact_log_sum(exact_joint(mixture, z)))
        assert float(mixture.log_prob(z)) == pytest.approx(expected, rel=1e-13, abs=0.0)


def test_known_student_t():
    got = fe.StudentT(3.0, [0.0], scale=1.0).log_prob([[1e154], [1e188]])
    assert got == pytest.approx([float(exact_log_prob([0.0], [[1.0]], 3.0, [z]))
                                 for z in (1e154, 1e188)], rel=1e-15)  # fmt: skip


def test_gaussians_at_the_end_of_the_range():
    """Finite as long as half the square is, -inf beyond; alone and in a mixture."""
    rng = np.random.default_rng(9)
    z = 10.0 ** rng.uniform(154.0, 154.4, (CASES, 1)) * rng.choice([-1.0, 1.0], (CASES, 1))
    single = fe.Gaussian([0.0], scale=1.0)
    mixture = fe.Mixture([0.3, 0.7], fe.Gaussian([[0.0], [0.0]], scale=1.0))
    largest = np.finfo(float).max
    expected = np.array([-(mpmath.mpf(x) ** 2) / 2 for x in z[:, 0]])
    expected = np.array([float(x) if abs(x) <= largest else -np.inf for x in expected])
    assert 100 < np.isfinite(expected).sum() < CASES - 100
    for dist in (single, mixture):
        np.testing.assert_allclose(dist.log_prob(z), expected, rtol=1e-15)
        np.testing.assert_allclose(reference.log_prob(dist, z), expected, rtol=1e-15)


@pytest.mark.parametrize("kind", [fe.Gaussian, lambda *q, **scale: fe.StudentT(3.0, *q, **scale)])
def test_terms_that_overflow_with_opposite_signs_are_refused(kind):
    mean = [1.7e308, 1.7e308]
    q = kind(mean, scale_tril=[[0.125, 0.0], [2.0, 1e-300]])
    with pytest.raises(fe.errors.InvalidInputError, match=r"z must not be so far .* 1 of 2 points"):
        q.log_prob([[0.0, 0.0], mean])


def test_differences_that_overflow():
    largest = np.finfo(float).max
    t = fe.StudentT(3.0, [-largest], scale=1.0)
    expected = float(exact_log_prob([-largest], [[1.0]], 3.0, [largest]))
    np.testing.assert_allclose(t.log_prob([[largest], [0.0]])[0], expected, rtol=1e-14)
    wide = fe.Gaussian([-largest], scale=1e200)
    expected = float(exact_log_prob([-largest], [[1e200]], np.inf, [largest]))
    np.testing.assert_allclose(wide.log_prob([largest]), expected, rtol=1e-14)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_estimates_at_squares_that_overflow(precision):
    if precision == "float64":
        p, q = fe.StudentT(4.0, [0.0], scale=1e-3), fe.Gaussian([1e200], scale=1.0)
    else:
        # Squares overflow from 1e19 on.
        p, q = fe.StudentT(0.5, [0.0], scale=1e-7), fe.StudentT(0.3, [0.0], scale=1e7)
    got = fe.elbo_terms(p, q, 2000, rng=1, precision=precision)
    plain = fe.elbo_terms(p, q, 2000, rng=1, backend="numpy")
    assert np.isfinite(plain.log_prior).all()
    assert plain.log_prior.min() < -60.0
    # In single precision, densities at points near the mean move with the rounded point.
    tolerance = 1e-13 if precision == "float64" else 1e-4
    np.testing.assert_allclose(got.log_prior, plain.log_prior, rtol=tolerance)


# --- degrees of freedom of any size -------------------------------------------------------------


def exact_entropy(df, dim, log_det):
    half, d = mpmath.mpf(df) / 2, mpmath.mpf(dim)
    if df > 1e25:
        return log_det + d / 2 * mpmath.log(2 * mpmath.pi) + d / 2
    steps = mpmath.digamma(half + d / 2) - mpmath.digamma(half)
    return log_det - exact_log_const(df, dim) + (half + d / 2) * steps


def test_entropy_at_any_df():
    rng = np.random.default_rng(10)
    for _ in range(CASES):
        df = 10.0 ** (rng.uniform(-1.0, 300.0) if rng.random() < 0.3 else rng.uniform(-1.0, 18.0))
        dim = int(rng.integers(1, 13))
        scale = rng.uniform(0.5, 2.0, dim)
        expected = float(exact_entropy(df, dim, mpmath.fsum(map(mpmath.log, scale))))
        got = float(fe.StudentT(df, np.zeros(dim), scale=scale).entropy())
        assert abs(got - expected) <= 1e-14 * (1.0 + abs(expected))


def test_log_prob_at_any_df():
    rng = np.random.default_rng(11)
    for _ in range(CASES):
        df = 10.0 ** (rng.uniform(-1.0, 300.0) if rng.random() < 0.3 else rng.uniform(-1.0, 18.0))
        dim = int(rng.integers(1, 8))
        z = rng.normal(size=dim) * 10.0 ** rng.uniform(-2.0, 2.0)
        t = fe.StudentT(df, np.zeros(dim), scale=1.0)
        expected = float(exact_log_prob(np.zeros(dim), np.eye(dim), df, z))
        bound = 1e-14 * (1.0 + abs(expected))
        assert abs(float(t.log_prob(z)) - expected) <= bound
        assert abs(float(reference.log_prob(t, z)) - expected) <= 10 * bound


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("backend", ["cpu", "numpy"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_infinite_df_is_the_gaussian(precision, backend):
    rng = np.random.default_rng(12)
    mean, tril = rng.normal(size=3), triangles(rng, 3)
    t, gaussian = fe.StudentT(np.inf, mean, scale_tril=tril), fe.Gaussian(mean, scale_tril=tril)
    np.testing.assert_array_equal(t.sample(50, rng=1), gaussian.sample(50, rng=1))
    z = 3.0 * rng.normal(size=(50, 3))
    np.testing.assert_array_equal(t.log_prob(z), gaussian.log_prob(z))
    assert float(t.entropy()) == pytest.approx(float(gaussian.entropy()), rel=1e-15)
    q = fe.Gaussian(mean + 0.1, scale=1.5)
    options = {"rng": 2, "backend": backend, "precision": precision}
    for model, own in ((t, q), (q, t)):
        other = gaussian if model is t else q, q if model is t else gaussian
        got = fe.estimate(model, own, 500, **options)
        expected = fe.estimate(*other, 500, **options)
        np.testing.assert_allclose(got.log_evidence, expected.log_evidence, atol=1e-13)
        np.testing.assert_allclose(got.elbo, expected.elbo, atol=1e-13)


def test_infinite_beside_finite_df():
    df = np.array([3.0, np.inf])
    mean, z = np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([[0.5, 0.5], [9.0, -3.0]])
    mixture = fe.Mixture([0.4, 0.6], fe.StudentT(df, mean, scale=1.3))
    logs = [
        fe.StudentT(3.0, mean[0], scale=1.3).log_prob(z),
        fe.Gaussian(mean[1], scale=1.3).log_prob(z),
    ]
    expected = np.logaddexp(np.log(0.4) + logs[0], np.log(0.6) + logs[1])
    np.testing.assert_allclose(mixture.log_prob(z), expected, rtol=1e-14)
    np.testing.assert_allclose(reference.log_prob(mixture, z), expected, rtol=1e-14)


@pytest.mark.parametrize("df", [np.nan, -np.inf, [1.0, np.nan]])
def test_df_that_is_refused(df):
    with pytest.raises(fe.errors.InvalidInputError, match="df must be"):
        fe.StudentT(df, [0.0], scale=1.0)


# --- probabilities of components ----------------------------------------------------------------


def assert_follows_from_exact_terms(mixture, x):
    """Probabilities, evidence, ELBO and gap of one point, in ulps of the largest term."""
    model = fe.MixtureModel(x[None], mixture)
    probs = model.exact_posterior().probs[0]
    terms, joint = exact_terms(mixture, x), exact_joint(mixture, x)
    evidence = exact_log_sum(joint)
    largest = max(1.0, float(max(abs(t) for t in terms)))
    ulp = np.spacing(min(largest, 1e308))
    assert abs(probs.sum() - 1.0) <= 2 * EPS
    for c, prob in enumerate(probs):
        if c not in joint:
            assert prob == 0.0
        elif prob > 1e-300:
            assert abs(np.log(prob) - float(joint[c] - evidence)) <= 4 * ulp + 4 * EPS
        else:
            assert float(joint[c] - evidence) <= -690.0 + 4 * ulp
    uniform = np.full(probs.size, 1.0 / probs.size)
    for q in (probs, uniform, mixture.weights):
        for backend in ("cpu", "numpy"):
            est = fe.estimate(model, fe.Categorical([q]), backend=backend)
            assert abs(float(est.log_evidence[0]) - float(evidence)) <= 8 * ulp
            assert est.elbo[0] <= est.log_evidence[0]
            assert est.jensen_gap[0] >= 0.0
            if np.isfinite(est.elbo[0]):
                parts = est.expected_log_likelihood - est.kl
                assert abs(parts[0] - est.elbo[0]) <= 8 * ulp * probs.size
            if q is probs:
                assert est.jensen_gap[0] <= 4 * ulp


def test_probabilities_of_components_far_apart():
    rng = np.random.default_rng(13)
    for _ in range(CASES // 2):
        assert_follows_from_exact_terms(*far_mixture(rng))


def test_probabilities_between_components():
    """Points half way between, where terms are large and nearly equal, at scales down to 1e-9."""
    rng = np.random.default_rng(14)
    for _ in range(CASES):
        count, scale = int(rng.integers(2, 5)), 10.0 ** rng.uniform(-9.0, 1.0)
        mean = 1000.0 * rng.normal(size=(count, 1))
        if rng.random() < 0.3:
            mean = np.round(mean)
        parts = fe.Gaussian(
            mean, scale=scale * rng.choice([np.ones((count, 1)), rng.uniform(0.5, 2.0, (count, 1))])
        )
        x = 0.5 * (mean[0] + mean[1]) * (1.0 + rng.choice([0.0, 1e-16, 1e-12, 1e-3]))
        assert_follows_from_exact_terms(fe.Mixture(rng.dirichlet(np.ones(count)), parts), x)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-9, 1e-30])
def test_ties_stay_ties(scale):
    mixture = fe.Mixture([0.3, 0.7], fe.Gaussian([[0.0], [2000.0]], scale=scale))
    probs = fe.MixtureModel([[1000.0]], mixture).exact_posterior().probs
    np.testing.assert_allclose(probs, [[0.3, 0.7]], rtol=2 * EPS)


def test_weights_of_any_size():
    rng = np.random.default_rng(15)
    for _ in range(CASES // 2):
        weights = np.array(
            [1.0, 10.0 ** rng.uniform(-320.0, -1.0), 10.0 ** rng.uniform(-300.0, 0.0)]
        )
        apart = rng.normal(size=(3, 1)) * 10.0 ** rng.uniform(0.0, 2.0)
        mixture = fe.Mixture(weights / weights.sum(), fe.Gaussian(apart, scale=1.0))
        x = apart[rng.integers(3)] + rng.normal(size=1)
        model = fe.MixtureModel(x[None], mixture)
        joint = exact_joint(mixture, x)
        evidence = exact_log_sum(joint)
        probs = model.exact_posterior().probs[0]
        assert abs(probs.sum() - 1.0) <= 2 * EPS
        for c, log_joint in joint.items():
            expected = log_joint - evidence
            # Beyond 700 nats, log weights are added in double precision.
            assert probs[c] == pytest.approx(float(mpmath.exp(expected)), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
@pytest.mark.parametrize("x", [1e8, 1e100, 1e154, 1e160, 1e300, 1.7e308])
def test_far_outliers(x, backend):
    rng = np.random.default_rng(16)
    for _ in range(100):
        mean = 10.0 ** rng.uniform(0.0, 5.0) * rng.normal(size=(3, 2))
        parts = fe.Gaussian(mean, scale=10.0 ** rng.uniform(-6.0, 1.0))
        model = fe.MixtureModel([[x, -x], [0.0, 1.0], [x, 0.0]], fe.Mixture([0.2, 0.3, 0.5], parts))
        posterior = model.exact_posterior()
        assert (np.abs(posterior.probs.sum(axis=-1) - 1.0) <= 2 * EPS).all()
        with np.errstate(over="ignore"):
            est = fe.estimate(model, posterior, backend=backend)
        assert (est.elbo <= est.log_evidence).all()
        assert (est.jensen_gap >= 0.0).all()


def test_the_narrower_of_two_at_a_far_outlier_is_impossible():
    mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [0.0]], scale=[[1.0], [2.0]]))
    model = fe.MixtureModel([[1e160], [-1e300]], mixture)
    np.testing.assert_array_equal(model.exact_posterior().probs, [[0.0, 1.0]] * 2)


def test_many_components():
    rng = np.random.default_rng(17)
    mixture = fe.Mixture(
        rng.dirichlet(np.ones(3000)), fe.Gaussian(rng.normal(size=(3000, 1)), scale=1.0)
    )
    probs = fe.MixtureModel(rng.normal(size=(300, 1)), mixture).exact_posterior().probs
    sums = np.array([float(mpmath.fsum(map(mpmath.mpf, row))) for row in probs])
    assert (np.abs(sums - 1.0) <= 2 * EPS).all()


@pytest.mark.parametrize("batch", [(0,), (3, 0)])
def test_mixture_model_of_an_empty_batch(batch):
    mixture = fe.Mixture([0.3, 0.7], fe.Gaussian([[0.0], [2.0]], scale=1.0))
    model = fe.MixtureModel(np.zeros((*batch, 1)), mixture)
    posterior = model.exact_posterior()
    assert posterior.probs.shape == (*batch, 2)
    assert model.exact_log_evidence().shape == batch
    assert model.component_log_prob().shape == (*batch, 2)
    for backend in ("cpu", "numpy"):
        est = fe.estimate(model, posterior, backend=backend)
        assert est.elbo.shape == est.jensen_gap.shape == batch
