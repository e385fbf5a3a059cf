"""Parameters as users have them: covariances of any dtype, precisions, scales that broadcast."""

import numpy as np
import pytest
import scipy.stats as st
from cases import triangles
from scipy.linalg import lapack

import fastelbo as fe

RNG = np.random.default_rng(0)


def float32_inverse(dim, rng):
    """An inverse that was computed in float32 by the usual LU factors."""
    factor = rng.normal(size=(dim, dim + 1)).astype(np.float32)
    lu, pivots, _ = lapack.sgetrf(factor @ factor.T)
    return lapack.sgetri(lu, pivots)[0]


def symmetrised(matrix):
    matrix = matrix.astype(np.float64)
    return 0.5 * (matrix + matrix.T)


# --- covariances that were computed in some dtype -------------------------------------------------


@pytest.mark.parametrize("name", ["cov", "precision"])
@pytest.mark.parametrize("dim", [2, 8, 30])
def test_inverses_computed_in_float32_are_taken(name, dim):
    rng = np.random.default_rng(dim)
    skew = 0
    for _ in range(100):
        given = float32_inverse(dim, rng)
        z = rng.normal(size=(3, dim))
        q = fe.Gaussian(np.zeros(dim), **{name: given})
        exact = fe.Gaussian(np.zeros(dim), **{name: symmetrised(given)})
        np.testing.assert_array_equal(q.scale_tril, exact.scale_tril)
        np.testing.assert_array_equal(q.log_prob(z), exact.log_prob(z))
        skew += np.abs(given - given.T).max() > 1e-8 * np.abs(given).max()
    assert skew > 10


def uses(cov):
    """The scale that comes of a covariance, wherever one can be given."""
    dim = len(cov)
    mean = np.zeros(dim)
    model = fe.LinearGaussian(np.ones(dim), np.eye(dim), noise_cov=cov)
    prior = fe.Mixture([1.0], fe.Gaussian(mean[None], cov=cov))
    return {
        "gaussian": fe.Gaussian(mean, cov=cov).scale_tril,
        "batch": fe.Gaussian(mean, cov=np.stack([cov, cov])).scale_tril[1],
        "precision": fe.Gaussian(mean, precision=cov).scale_tril,
        "student": fe.StudentT(5.0, mean, cov=cov).scale_tril,
        "noise": model.noise_cov,
        "evidence": model.exact_log_evidence(),
        "prior": fe.LinearGaussian(
            np.ones(dim), np.eye(dim), noise_cov=1.0, prior=prior
        ).exact_log_evidence(),
    }


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_tolerance_follows_the_dtype(dtype):
    eps = float(np.finfo(dtype).eps)
    cov = triangles(RNG, 4)
    cov = np.asarray(cov @ cov.T, dtype=dtype)
    skew = np.triu(np.full((4, 4), 0.5 * eps**0.5 * np.abs(cov).max()), 1)
    near = (cov + skew).astype(dtype)
    assert np.abs(near - near.T).max() > 0.0
    for (use, got), expected in zip(
        uses(near).items(), uses(symmetrised(near)).values(), strict=True
    ):
        np.testing.assert_array_equal(got, expected, err_msg=use)
    far = (cov + 4.0 * skew).astype(dtype)
    for make in (
        lambda: fe.Gaussian(np.zeros(4), cov=far),
        lambda: fe.Gaussian(np.zeros(4), precision=far),
        lambda: fe.StudentT(5.0, np.zeros(4), cov=far),
        lambda: fe.LinearGaussian(np.ones(4), np.eye(4), noise_cov=far),
    ):
        with pytest.raises(fe.errors.NotPositiveDefiniteError, match=np.dtype(dtype).name):
            make()


def test_what_is_not_symmetric_in_float64_says_what_to_do():
    given = float32_inverse(8, np.random.default_rng(1)).astype(np.float64)
    with pytest.raises(fe.errors.NotPositiveDefiniteError, match=r"0\.5 \* \(cov \+ cov\.mT\)"):
        fe.Gaussian(np.zeros(8), cov=given)
    fe.Gaussian(np.zeros(8), cov=0.5 * (given + given.mT))


def test_integers_are_covariances():
    q = fe.Gaussian([0.0, 0.0], cov=[[2, 1], [1, 2]])
    np.testing.assert_allclose(q.cov, [[2.0, 1.0], [1.0, 2.0]], rtol=1e-15)


def test_covariances_near_the_largest_float():
    cov = np.array([[1.7e308, 1e308], [1e308, 1.7e308]])
    np.testing.assert_allclose(fe.Gaussian([0.0, 0.0], cov=cov).cov, cov, rtol=1e-14)


# --- precisions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_precision_against_the_covariance(dim):
    tril = triangles(RNG, 3, dim)
    cov = tril @ tril.mT
    q = fe.Gaussian(np.zeros(dim), precision=np.linalg.inv(cov))
    np.testing.assert_allclose(q.cov, cov, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(q.scale_tril, tril, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(q.precision @ cov, np.tile(np.eye(dim), (3, 1, 1)), atol=1e-10)
    diagonal = fe.Gaussian(np.zeros(2), scale=[2.0, 4.0])
    np.testing.assert_array_equal(diagonal.precision, np.diag([0.25, 0.0625]))


def test_precision_of_an_ill_conditioned_matrix():
    # The inverse in float64 has lost 12 digits; the factor has not.
    low = 1e-12
    precision = np.array([[1.0, 1.0 - low], [1.0 - low, 1.0]])
    z = np.array([3.0, -2.0])
    square = z @ precision @ z
    log_det = np.log1p(-(precision[0, 1] ** 2))
    expected = -0.5 * square - np.log(2.0 * np.pi) + 0.5 * log_det
    got = float(fe.Gaussian([0.0, 0.0], precision=precision).log_prob(z))
    assert got == pytest.approx(expected, rel=1e-4)


# --- the covariance of a Student-t ----------------------------------------------------------------


@pytest.mark.parametrize("df", [2.001, 3.0, 50.0, 1e300])
def test_covariance_of_a_student_t_is_not_its_scale_matrix(df):
    tril = triangles(RNG, 3)
    cov = tril @ tril.T
    q = fe.StudentT(df, np.zeros(3), cov=cov)
    np.testing.assert_allclose(q.cov, cov, rtol=1e-12, atol=1e-14)
    shape = cov * ((df - 2.0) / df)
    z = RNG.normal(size=(5, 3))
    if df < 1e15:
        expected = st.multivariate_t(np.zeros(3), shape, df).logpdf(z)
        np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-10)


def test_covariance_of_draws_of_a_student_t():
    cov = np.array([[2.0, 0.5], [0.5, 1.0]])
    z = fe.StudentT(12.0, [1.0, -1.0], cov=cov).sample(10**6, rng=0)
    products = (z - [1.0, -1.0])[:, :, None] * (z - [1.0, -1.0])[:, None, :]
    se = products.std(axis=0) / 1e3
    assert (np.abs(products.mean(axis=0) - cov) < 5.0 * se).all()


def test_covariance_of_student_t_batches():
    df = np.array([3.0, np.inf, 10.0])
    q = fe.StudentT(df, np.zeros(2), cov=np.diag([4.0, 9.0]))
    np.testing.assert_allclose(q.cov, np.tile(np.diag([4.0, 9.0]), (3, 1, 1)), rtol=1e-14)
    np.testing.assert_allclose(q.scale_tril[0], np.diag([2.0, 3.0]) / 3.0**0.5, rtol=1e-14)
    spread = fe.StudentT([1.5, 2.0, 4.0], [0.0], scale=1.0).cov[:, 0, 0]
    np.testing.assert_array_equal(spread, [np.nan, np.nan, 2.0])
    with pytest.raises(fe.errors.InvalidInputError, match=r"df \(3,\), cov \(2,\)"):
        fe.StudentT(df, np.zeros(2), cov=np.tile(np.eye(2), (2, 1, 1)))


@pytest.mark.parametrize("df", [0.5, 2.0, [3.0, 2.0]])
def test_covariance_needs_degrees_of_freedom(df):
    with pytest.raises(fe.errors.InvalidInputError, match=r"df must be above 2 with cov.* got"):
        fe.StudentT(df, [0.0, 0.0], cov=np.eye(2))


# --- scales that broadcast ------------------------------------------------------------------------


@pytest.mark.parametrize("family", [fe.Gaussian, lambda m, **s: fe.StudentT(4.0, m, **s)])
@pytest.mark.parametrize("count", [3, 4])
def test_one_scale_for_each_component(family, count):
    means, scale = RNG.normal(size=(count, 4)), RNG.uniform(0.5, 2.0, (count, 1))
    q, spelt_out = family(means, scale=scale), family(means, scale=np.repeat(scale, 4, axis=1))
    assert q.scale.shape == (count, 4)
    z = RNG.normal(size=(7, 1, 4))
    np.testing.assert_array_equal(q.log_prob(z), spelt_out.log_prob(z))
    mixture = fe.Mixture(np.full(count, 1.0 / count), q)
    assert mixture.batch_shape == ()
    assert family(np.zeros(4), scale=scale).batch_shape == (count,)


def test_the_last_axis_of_a_scale_is_the_coordinates():
    # As many components as coordinates: by NumPy's rules the scales are those of coordinates.
    scale = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(fe.Gaussian(np.zeros((3, 3)), scale=scale).scale, scale)
    np.testing.assert_array_equal(
        fe.Gaussian(np.zeros((3, 3)), scale=scale[:, None]).scale, np.repeat(scale[:, None], 3, 1)
    )
    # One for each component must be said, so that it does not depend on their number.
    for dim in (1, 2, 4):
        with pytest.raises(fe.errors.InvalidInputError, match=r"scale\[\.\.\., None\] has one"):
            fe.Gaussian(np.zeros((3, dim)), scale=scale)
    with pytest.raises(fe.errors.InvalidInputError, match=r"shapes \(2, 4\) and \(3,\)$"):
        fe.Gaussian(np.zeros((2, 4)), scale=scale)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e150, 1e300])
def test_no_flag_of_the_arithmetic_leaks(size):
    scale = size * np.array([[1.0], [0.5]])
    near = np.array([[1.0, 0.25], [0.25, 1.0]])
    with np.errstate(all="raise"):
        for q in (
            fe.Gaussian(np.zeros((2, 2)), scale=scale),
            fe.StudentT([3.0, np.inf], np.zeros((2, 2)), scale=scale),
            fe.Gaussian(size * near, scale_tril=size * np.linalg.cholesky(near)),
        ):
            covs = [q.cov, *([q.precision] if isinstance(q, fe.Gaussian) else [])]
            assert not np.isnan(covs).any()
            mixture = fe.Mixture([0.5, 0.5], fe.Gaussian(q.mean, scale=scale))
            assert np.isfinite(mixture.mean).all()
            assert not np.isnan(mixture.cov).any()
        for name in ("cov", "precision"):
            if 1e-200 < size < 1e200:
                fe.Gaussian([0.0, 0.0], **{name: size * near})
        q = fe.StudentT(3.0, [0.0, 0.0], cov=size * near)
    np.testing.assert_allclose(q.cov, size * near, rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fe.Gaussian([0.0], cov=[[1.0]], precision=[[1.0]]), "got cov and precision"),
        (lambda: fe.Gaussian([0.0], precision=[[-1.0]]), "precision must be positive definite"),
        (lambda: fe.Gaussian([0.0], precision=1.0), "precision must hold square matrices"),
        (lambda: fe.StudentT(3.0, [0.0], cov=[[1.0]], scale=1.0), "got scale and cov"),
        (lambda: fe.StudentT(3.0, [0.0], cov=[[0.0]]), "cov must be positive definite"),
    ],
)
def test_refused(make, match):
    with pytest.raises(fe.errors.InvalidInputError, match=match):
        make()
