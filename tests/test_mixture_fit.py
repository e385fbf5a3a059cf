"""Fits of Gaussian mixtures: a step against plain NumPy, known maxima, starts, floors, weights."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp

import fastelbo as fe
from fastelbo.arrays.inputs import constant
from fastelbo.engine.fits.mixture_fit import fit_mixture_model
from fastelbo.engine.fits.mixture_steps import climb
from fastelbo.errors import FitNotConvergedWarning, InvalidInputError, VarianceFloorWarning
from fastelbo.kernels.cpu.mixture_em import mixture_sums
from fastelbo.kernels.math import products
from fastelbo.models.gaussian_components import COVARIANCE_TYPES, factors, of_covariances

FAITHFUL = fe.datasets.load_faithful()
GALAXIES = fe.datasets.load_galaxies()[:, None]
each_kind = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def clusters(points, dim, count, seed=0, spread=3.0):
    """Points of clusters with covariances of their own."""
    rng = np.random.default_rng(seed)
    centres = spread * rng.normal(size=(count, dim))
    roots = 0.5 * rng.normal(size=(count, dim, dim)) + np.eye(dim)
    label = rng.integers(0, count, points)
    return centres[label] + np.einsum("nij,nj->ni", roots[label], rng.normal(size=(points, dim)))


def components(kind, dim, count, seed=0):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(count, dim, dim)) + 2.0 * np.eye(dim)
    weights = rng.dirichlet(np.full(count, 5.0))
    mean = 2.0 * rng.normal(size=(count, dim))
    return of_covariances(kind, np.log(weights), mean, roots @ roots.transpose(0, 2, 1), 1e-6)


def covariances(found):
    """Covariance matrices (C, D, D) of components."""
    count, dim = found.mean.shape
    if found.of_matrices:
        return np.broadcast_to(found.scale @ found.scale.transpose(0, 2, 1), (count, dim, dim))
    return np.stack([np.diag(np.broadcast_to(row**2, dim)) for row in found.scale])


def plain_step(x, w, found):
    """Log likelihood, weights, means and covariances after a step, in plain NumPy."""
    cov = covariances(found)
    gap = x[:, None] - found.mean
    square = np.einsum("ncd,cde,nce->nc", gap, np.linalg.inv(cov), gap)
    log_det = np.linalg.slogdet(2.0 * np.pi * cov)[1]
    joint = found.log_weight - 0.5 * (square + log_det)
    log_p = logsumexp(joint, axis=1)
    r = w[:, None] * np.exp(joint - log_p[:, None])
    total = r.sum(axis=0)
    mean = r.T @ x / total[:, None]
    gap = x[:, None] - mean
    scatter = np.einsum("nc,ncd,nce->cde", r, gap, gap)
    own = scatter / total[:, None, None]
    dim = x.shape[1]
    if found.kind == "tied":
        own = np.broadcast_to(scatter.sum(axis=0) / total.sum(), own.shape)
    elif found.kind == "diag":
        own = own * np.eye(dim)
    elif found.kind == "spherical":
        own = np.einsum("cdd->c", own)[:, None, None] / dim * np.eye(dim)
    return (w * log_p).sum(), total / total.sum(), mean, own


# --- the step -----------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize(
    ("points", "dim", "count"), [(1, 1, 1), (600, 2, 3), (5000, 5, 4), (257, 8, 1), (130, 3, 7)]
)
def test_step_is_that_of_plain_numpy(kind, points, dim, count):
    x = clusters(points, dim, count)
    w = np.random.default_rng(1).uniform(0.0, 2.0, points)
    found = components(kind, dim, count)
    sums = mixture_sums(constant(x), constant(w), found.whitened())
    value, weights, mean, cov = plain_step(x, w, found)
    after = found.maximised(sums, 1e-12)
    assert sums.log_likelihood == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(np.exp(after.log_weight), weights, rtol=1e-12)
    np.testing.assert_allclose(after.mean, mean, rtol=1e-11, atol=1e-11)
    if points > 1:
        scale = np.abs(cov).max(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(covariances(after) / scale, cov / scale, atol=2e-12)


def test_a_step_loses_no_digit_to_where_a_narrow_component_is():
    rng = np.random.default_rng(0)
    x = np.concatenate([-1.0 + 1e-3 * rng.normal(size=(300, 2)), rng.normal(size=(300, 2)) + 1.0])
    cov = np.array([1e-6 * np.eye(2), np.eye(2)])
    found = of_covariances(
        "full", np.log([0.5, 0.5]), np.array([[-1.0, -1.0], [1.0, 1.0]]), cov, 0.0
    )
    after = found.maximised(
        mixture_sums(constant(x), constant(np.ones(600)), found.whitened()), 0.0
    )
    _, _, _, expected = plain_step(x, np.ones(600), found)
    np.testing.assert_allclose(covariances(after)[0] / 1e-6, expected[0] / 1e-6, atol=1e-11)


def test_no_number_of_threads_changes_a_bit():
    x, w = constant(clusters(9001, 3, 4)), constant(np.random.default_rng(1).uniform(size=9001))
    for kind in ("full", "diag"):
        whitened = components(kind, 3, 4).whitened()
        one, *others = (mixture_sums(x, w, whitened, threads) for threads in (1, 2, 3))
        for other in others:
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_products_without_a_compiler():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 6, 16))
    sums = np.ones((12, 4))
    products.add_tile_products(left, right, 2, 1, 12, sums, 1)
    expected = 4.0 + left[2:4, :12] @ right[1:5, :12].T
    np.testing.assert_allclose(sums[1:9].sum(axis=1).reshape(2, 4), expected)
    assert (sums[[0, 9, 10, 11]] == 1.0).all()
    rows = np.zeros((4, 4))
    products.add_row_products(left, right, 1, 2, 16, rows, 0)
    np.testing.assert_allclose(rows.sum(axis=1), (left[1:5] * right[2:6]).sum(axis=1))
    assert products.close_products(np.array([[1.0, 2.0, 3.0, 4.0]]), 0) == 10.0


def test_factors_raise_eigenvalues_to_the_floor():
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    values = np.array([[2.0, 1.0, 1e-9, 0.0], [3.0, 2.0, 1.0, 0.5]])
    cov = (vectors * values[:, None, :]) @ vectors.T
    tril = factors(cov, 1e-4)
    expected = (vectors * np.maximum(values, 1e-4)[:, None, :]) @ vectors.T
    np.testing.assert_allclose(tril @ tril.transpose(0, 2, 1), expected, atol=1e-14)
    assert (np.triu(tril, 1) == 0.0).all()
    assert (np.einsum("cdd->cd", tril) > 0.0).all()


# --- the maximum --------------------------------------------------------------------------------


def test_old_faithful():
    fit = fe.fit_mixture(FAITHFUL, 2, rng=0)
    assert fit.log_likelihood == pytest.approx(-1130.26396018, abs=1e-6)
    assert (fit.converged, fit.n_parameters, fit.problems) == (True, 11, ())
    assert fit.bic == pytest.approx(11 * np.log(272) + 2 * 1130.26396018, abs=1e-5)
    assert fit.aic == pytest.approx(22 + 2 * 1130.26396018, abs=1e-5)
    three = fe.fit_mixture(FAITHFUL, 3, rng=0, n_init=10)
    assert three.log_likelihood == pytest.approx(-1119.21397, abs=1e-5)
    ends = three.start_log_likelihoods
    assert ends[three.start] == pytest.approx(ends.max(), abs=1e-5)
    assert len(ends) == 10


@each_kind
def test_one_component_has_the_moments_of_the_data(kind):
    x = clusters(300, 3, 2)
    w = np.random.default_rng(2).uniform(0.5, 2.0, 300)
    fit = fe.fit_mixture(x, 1, covariance_type=kind, weights=w)
    mean = w @ x / w.sum()
    cov = (w[:, None] * (x - mean)).T @ (x - mean) / w.sum()
    if kind == "diag":
        cov = cov * np.eye(3)
    elif kind == "spherical":
        cov = np.trace(cov) / 3 * np.eye(3)
    np.testing.assert_allclose(fit.mixture.components.mean[0], mean, rtol=1e-12)
    np.testing.assert_allclose(fit.mixture.cov, cov, rtol=1e-11, atol=1e-12)


@each_kind
def test_the_likelihood_never_falls_and_is_that_of_the_mixture(kind):
    x = clusters(400, 2, 4, seed=3, spread=1.5)
    fit = fe.fit_mixture(x, 4, covariance_type=kind, rng=1, n_init=2)
    history = fit.history
    assert (np.diff(history.log_likelihood) >= -1e-15 * np.abs(history.log_likelihood[1:])).all()
    assert (np.diff(history.seconds) >= 0.0).all()
    log_p = fit.mixture.log_prob(x)
    assert fit.log_likelihood == pytest.approx(log_p.sum(), rel=1e-13)
    assert fit.mean_log_likelihood.value == pytest.approx(log_p.mean(), rel=1e-13)
    assert fit.mean_log_likelihood.se == pytest.approx(log_p.std() / 20.0, rel=1e-12)
    assert history.log_likelihood[-1] == pytest.approx(log_p.mean(), abs=1e-8)
    # A further step changes nothing.
    again = fe.fit_mixture(x, 4, covariance_type=kind, init=fit.mixture)
    assert again.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-5)
    assert again.n_iter <= 4
    assert fit.n_parameters == 3 + 8 + {"full": 12, "tied": 3, "diag": 8, "spherical": 4}[kind]


def test_extrapolation_takes_fewer_passes_to_the_same_end():
    x = constant(clusters(800, 2, 3, seed=5, spread=0.8))
    w, first = constant(np.ones(800)), components("full", 2, 3)

    def step(at):
        sums = mixture_sums(x, w, at.whitened())
        return sums.log_likelihood, at.maximised(sums, 1e-6)

    found = climb(step, first, 800, 1e-6, 1e-6, 2000)
    plain, value = first, -np.inf
    for _ in range(found.n_iter):
        value, plain = step(plain)
    # As many passes without extrapolation are not yet there.
    assert found.converged
    assert found.log_likelihoods[-1] > value + 1e-5


# --- invariance ---------------------------------------------------------------------------------


@each_kind
def test_weights_are_repeats(kind):
    x = clusters(150, 2, 2)
    w = np.random.default_rng(0).integers(0, 4, 150)
    init = fe.Mixture([0.5, 0.5], fe.Gaussian(x[:2], scale=2.0))
    options = {"covariance_type": kind, "init": init, "tol": 1e-9}
    one = fe.fit_mixture(x, 2, weights=w, **options)
    other = fe.fit_mixture(np.repeat(x, w, axis=0), 2, **options)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-11)
    assert one.n_data == other.n_data == w.sum()
    np.testing.assert_allclose(one.mixture.weights, other.mixture.weights, rtol=1e-4)
    scaled = fe.fit_mixture(x, 2, weights=1e-300 * w, **options)
    np.testing.assert_allclose(scaled.mixture.weights, one.mixture.weights, rtol=1e-4)


@each_kind
def test_order_of_points_and_components(kind):
    x = clusters(200, 3, 2)
    rng = np.random.default_rng(0)
    init = fe.Mixture([0.3, 0.7], fe.Gaussian(x[:2], scale=2.0))
    mirrored = fe.Mixture([0.7, 0.3], fe.Gaussian(x[1::-1], scale=2.0))
    options = {"covariance_type": kind, "tol": 1e-9}
    one = fe.fit_mixture(x, 2, init=init, **options)
    other = fe.fit_mixture(rng.permutation(x), 2, init=mirrored, **options)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-7)
    np.testing.assert_allclose(one.mixture.weights, other.mixture.weights[::-1], rtol=1e-4)


def test_affine_maps():
    matrix, shift = np.array([[3.0, 0.0], [100.0, 1e-3]]), np.array([1e3, -5.0])
    fit = fe.fit_mixture(FAITHFUL, 2, rng=0)
    mapped = fe.fit_mixture(FAITHFUL @ matrix.T + shift, 2, rng=0, tol=1e-7)
    change = -272 * np.log(np.linalg.det(matrix))
    assert mapped.log_likelihood == pytest.approx(fit.log_likelihood + change, abs=2e-5)
    np.testing.assert_allclose(mapped.mixture.mean, matrix @ fit.mixture.mean + shift, rtol=1e-6)
    # Units of coordinates alone change no decision.
    units = np.array([2.0**-400, 2.0**300])
    scaled = fe.fit_mixture(FAITHFUL * units, 2, covariance_type="diag", rng=0)
    plain = fe.fit_mixture(FAITHFUL, 2, covariance_type="diag", rng=0)
    np.testing.assert_array_equal(
        scaled.mixture.components.scale, plain.mixture.components.scale * units
    )


# --- starts -------------------------------------------------------------------------------------


def test_starts_are_repeated_and_the_best_is_kept():
    x = clusters(500, 2, 5, seed=7, spread=2.0)
    one, same = (fe.fit_mixture(x, 5, rng=3, n_init=4) for _ in range(2))
    np.testing.assert_array_equal(one.start_log_likelihoods, same.start_log_likelihoods)
    np.testing.assert_array_equal(one.mixture.components.mean, same.mixture.components.mean)
    assert one.start_log_likelihoods.shape == (4,)
    assert one.start == np.argmax(
        one.start_log_likelihoods > one.start_log_likelihoods.max() - 1e-5
    )
    many = fe.fit_mixture(x, 5, rng=3, n_threads=1, n_init=4)
    np.testing.assert_array_equal(one.mixture.components.mean, many.mixture.components.mean)


def test_a_long_array_starts_from_some_of_its_points():
    x = np.random.default_rng(0).normal(size=(20_000, 1)) + np.repeat([-4.0, 4.0], 10_000)[:, None]
    fit = fe.fit_mixture(x, 2, rng=0, n_init=1)
    np.testing.assert_allclose(np.sort(fit.mixture.components.mean[:, 0]), [-4.0, 4.0], atol=0.1)


def test_single_starts_find_all_of_many_clusters():
    x = clusters(20_000, 8, 8)
    ends = [fe.fit_mixture(x, 8, rng=seed, n_init=1).log_likelihood / 20_000 for seed in range(3)]
    # What scikit-learn finds from starts of k-means, at best of three.
    np.testing.assert_allclose(ends, -13.3791, atol=1e-4)


def test_a_start_that_ends_at_the_floor_is_not_kept():
    x = np.concatenate([np.linspace(-1.0, 1.0, 40), [0.3] * 15, np.linspace(4.0, 5.0, 20)])[:, None]
    narrow = fe.Mixture([0.1, 0.9], fe.Gaussian([[0.3], [1.0]], scale=[[1e-3], [2.0]]))
    fit = fe.fit_mixture(x, 2, init=narrow, n_init=6, rng=0)
    assert fit.start > 0
    assert fit.start_log_likelihoods[0] > fit.log_likelihood
    with pytest.warns(VarianceFloorWarning, match=r"component 0 are at the floor, in coordinate 0"):
        fe.fit_mixture(x, 2, init=narrow)


def test_the_mixture_of_a_model_goes_on_from_where_it_is():
    for scale in ({"scale": [[1.0], [1.5]]}, {"scale_tril": np.eye(2)}, {"cov": [np.eye(2)] * 2}):
        begin = fe.Mixture([0.4, 0.6], fe.Gaussian([[2.0, 50.0], [4.0, 80.0]], **scale))
        model = fe.MixtureModel(FAITHFUL.reshape(16, 17, 2), begin)
        fit = fit_mixture_model(model, tol=1e-7)
        kind = {"scale": "diag", "scale_tril": "tied", "cov": "full"}[next(iter(scale))]
        assert fit.covariance_type == kind
        expected = fe.fit_mixture(FAITHFUL, 2, covariance_type=kind, rng=0)
        assert fit.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-5)
        np.testing.assert_allclose(
            fit.responsibilities(FAITHFUL),
            fe.MixtureModel(FAITHFUL, fit.mixture).exact_posterior().probs,
        )


# --- floors, and other ends ---------------------------------------------------------------------


def test_a_constant_coordinate():
    x = np.column_stack([FAITHFUL, np.full(272, 7.25)])
    with pytest.warns(VarianceFloorWarning, match="coordinate 2 of x is constant") as caught:
        fit = fe.fit_mixture(x, 2, rng=0, n_init=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_allclose(fit.mixture.components.mean[:, 2], 7.25)
    flat = fe.fit_mixture(FAITHFUL, 2, rng=0, n_init=2)
    np.testing.assert_allclose(
        np.sort(fit.mixture.weights), np.sort(flat.mixture.weights), rtol=1e-3
    )


@each_kind
def test_the_floor_is_a_share_of_the_variance(kind):
    x = np.concatenate([np.full((5, 2), 3.0), clusters(60, 2, 1)]) * [1.0, 1e3]
    init = fe.Mixture(
        [0.1, 0.9], fe.Gaussian([[3.0, 3e3], [0.0, 0.0]], scale=[[0.1, 100.0], [5.0, 5e3]])
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = fe.fit_mixture(x, 2, covariance_type=kind, init=init, var_floor=1e-4)
    low = any(issubclass(each.category, VarianceFloorWarning) for each in caught)
    assert low == (kind != "tied")
    if low:
        share = {"full": np.cov(x.T, ddof=0), "diag": np.diag(x.var(axis=0))}
        share["spherical"] = x.var(axis=0).mean() * np.eye(2)
        cov = fit.mixture.components.cov[0]
        np.testing.assert_allclose(cov, 1e-4 * share[kind], rtol=1e-6)
    assert bool(fit.problems) == low


def test_points_in_a_plane():
    x = np.column_stack([FAITHFUL, FAITHFUL @ [2.0, 0.5]])
    with pytest.warns(VarianceFloorWarning, match="at the floor, in coordinates 0, 1, 2"):
        fit = fe.fit_mixture(x, 2, rng=0, n_init=2)
    np.testing.assert_allclose(np.sort(fit.mixture.weights), [0.356, 0.644], atol=1e-3)


def test_more_components_than_points_that_differ():
    x = np.repeat([[0.0], [1.0], [5.0]], 4, axis=0)
    with pytest.warns(VarianceFloorWarning, match="component"):
        fit = fe.fit_mixture(x, 5, rng=0)
    assert np.isfinite(fit.log_likelihood)
    assert fit.mixture.weights.sum() == pytest.approx(1.0)


def test_an_empty_component_is_named():
    far = fe.Mixture([0.5, 0.5], fe.Gaussian([[20.0], [1e4]], scale=1.0))
    with pytest.warns(VarianceFloorWarning, match="component 1 is empty"):
        fit = fe.fit_mixture(GALAXIES, 2, init=far)
    np.testing.assert_array_equal(fit.mixture.weights, [1.0, 0.0])
    assert fit.mixture.components.mean[1, 0] == pytest.approx(1e4)
    assert fit.mixture.components.mean[0, 0] == pytest.approx(GALAXIES.mean())


def test_a_fit_that_has_not_converged_says_so():
    with pytest.warns(FitNotConvergedWarning, match="not converged in 3 passes"):
        fit = fe.fit_mixture(FAITHFUL, 3, rng=0, n_init=2, max_iter=3)
    assert (fit.converged, fit.n_iter, len(fit.history.seconds)) == (False, 3, 3)
    assert "not converged" in repr(fit)


@pytest.mark.parametrize("at", [1e300, 1e-300, 1e9])
def test_data_far_from_1(at):
    x = np.array([[0.0], [0.25], [0.5], [3.0], [3.5], [3.25]]) * (at if at != 1e9 else 1.0)
    x = x + 1e9 if at == 1e9 else x
    fit = fe.fit_mixture(x, 2, rng=0)
    means = np.sort(fit.mixture.components.mean[:, 0])
    np.testing.assert_allclose(means, [x[:3].mean(), x[3:].mean()], rtol=1e-6)
    assert np.isfinite(fit.log_likelihood)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": FAITHFUL[:, 0]}, r"x must have shape \(N, D\).*x\[:, None\]"),
        ({"x": np.zeros((0, 2))}, r"x must have shape"),
        ({"x": np.ones((5, 2))}, "points that differ"),
        ({"x": [[0.0], [np.nan]]}, "x must be finite"),
        ({"n_components": 0}, "n_components must be at least 1"),
        ({"covariance_type": "diagonal"}, 'covariance_type must be "full"'),
        ({"weights": [1.0]}, r"weights must have one entry a data point, shape \(272,\)"),
        ({"weights": np.full(272, -1.0)}, "weights must not be negative, got -1.0 at index 0"),
        ({"weights": np.zeros(272)}, "positive, finite sum"),
        ({"init": fe.Gaussian([0.0, 0.0], scale=1.0)}, "init must be a Mixture of Gaussians"),
        (
            {"init": fe.Mixture([1.0], fe.Gaussian([[0.0, 0.0]], scale=1.0))},
            "init must have n_components = 2 components of 2 coordinates",
        ),
        (
            {"init": fe.Mixture([0.5, 0.5], fe.Gaussian([[1e200] * 2, [2e200] * 2], scale=1.0))},
            "init must give every data point a density above 0",
        ),
        ({"tol": -1.0}, "tol must be at least 0"),
        ({"tol": np.nan}, "tol must be at least 0"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"n_init": 0}, "n_init must be at least 1"),
        ({"var_floor": 0.0}, "var_floor must be from 1e-12 to below 1"),
        ({"n_threads": 0}, "n_threads must be at least 1"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(InvalidInputError, match=message):
        fe.fit_mixture(**{"x": FAITHFUL, "n_components": 2, "rng": 0} | change)


def test_figure():
    pytest.importorskip("matplotlib").use("Agg")
    fit = fe.fit_mixture(FAITHFUL, 3, rng=0, n_init=3)
    ax = fit.plot()
    line, *others = ax.get_lines()
    np.testing.assert_array_equal(line.get_ydata(), fit.history.log_likelihood)
    assert len(others) == 2


def test_a_start_whose_components_coincide_is_refused():
    x = np.random.default_rng(0).normal(size=(50, 2))
    start = fe.Mixture([0.3, 0.7], fe.Gaussian(np.zeros((2, 2)), scale=1.0))
    with pytest.raises(InvalidInputError, match="components that differ"):
        fe.fit_mixture(x, 2, init=start)
