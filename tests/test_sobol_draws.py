"""Quasi-random draws of the compiled kernels: points, addresses, law, and exact answers."""

import math

import numpy as np
import pytest
from cases import triangles
from helpers import IGNORE_DIAGNOSTICS, elementwise, linear_gaussian
from scipy.special import ndtr, ndtri
from scipy.stats import kstest, qmc

import fastelbo as fe
from fastelbo.kernels.cpu import launch
from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math.normal_quantile import normal_quantile
from fastelbo.models import nets
from fastelbo.models.plans import draw_sampler
from fastelbo.models.protocol import Points
from fastelbo.random import philox_key

TRANSFORMS = ["box_muller", "inverse"]
KEY = philox_key(17)


def standard(dim, members=1):
    return fe.Gaussian(np.zeros((members, dim)), scale=1.0)


def uniforms(dim, n, replicates=4, members=2):
    """(replicates, n, members, dim) uniforms of the points, from normals by the inverse."""
    q = standard(dim, members)
    z = q.sample(
        replicates * n, rng=17, sampler="sobol", transform="inverse", replicates=replicates
    )
    return ndtr(z)


# --- points -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 64, 1024, 4096])
def test_every_coordinate_has_one_point_in_each_interval(n):
    cells = np.sort(np.floor(n * uniforms(21, n)), axis=1)
    expected = np.arange(n)[None, :, None, None]
    np.testing.assert_array_equal(cells, np.broadcast_to(expected, cells.shape))


@pytest.mark.parametrize("first", range(11))
def test_first_pairs_fill_every_elementary_interval(first):
    x, y = np.moveaxis(uniforms(2, 1024), -1, 0)
    cells = np.floor(2**first * x) * 2 ** (10 - first) + np.floor(2 ** (10 - first) * y)
    expected = np.arange(1024)[None, :, None]
    np.testing.assert_array_equal(np.sort(cells, axis=1), np.broadcast_to(expected, cells.shape))


def test_radii_and_angles_of_normal_pairs_fill_every_elementary_interval():
    z = standard(2).sample(16 * 1024, rng=17, sampler="sobol")[:, :, 0]
    radius = np.exp(-0.5 * np.square(z).sum(axis=-1))
    # An angle of bits 0 is an eighth of a turn below the axis.
    turns = (np.arctan2(z[..., 1], z[..., 0]) / (2.0 * np.pi) + 0.125) % 1.0
    for bits in range(1, 10):
        cells = np.floor(2**bits * radius) * 2 ** (10 - bits) + np.floor(2 ** (10 - bits) * turns)
        counts = [np.bincount(row.astype(np.int64), minlength=1024) for row in cells]
        np.testing.assert_array_equal(counts, 1)


def test_columns_are_those_of_scipy():
    """What is not scrambled: the exclusive ors of columns are SciPy's points, in another order."""
    dim, n = 300, 256
    columns = nets._directions(dim)
    points = [
        np.bitwise_xor.reduce(columns[:, [b for b in range(8) if j >> b & 1]], axis=1)
        for j in range(n)
    ]
    # The order of the Gray code is another order of each power of two.
    gray = np.arange(n) ^ np.arange(n) >> 1
    expected = qmc.Sobol(dim, scramble=False, bits=32).random(n)
    np.testing.assert_array_equal(np.array(points)[gray] * 2.0**-32, expected)


def test_replicates_data_points_and_keys_are_uncorrelated():
    q, options = standard(3, 64), {"sampler": "sobol", "transform": "inverse", "replicates": 64}
    u, other = (ndtr(q.sample(64 * 16, rng=rng, **options)) - 0.5 for rng in (1, 2))
    pairs = {
        "replicates": (u[:-1, 5], u[1:, 5]),
        "data points": (u[:, 3, :-1], u[:, 3, 1:]),
        "keys": (u[:, 2], other[:, 2]),
    }
    for name, parts in pairs.items():
        a, b = (part.reshape(-1, 3) for part in parts)
        assert np.abs(12.0 * (a.T @ b) / len(a)).max() < 4.5 / math.sqrt(len(a)), name
    # Means of replicates: their matrices are independent too, not the shifts alone.
    means = (u[..., 0] * u[..., 1] + u[..., 1] * u[..., 2]).mean(axis=1)
    means = (means - means.mean()) / means.std()
    assert abs((means[:-1] * means[1:]).mean()) < 4.5 / math.sqrt(means[1:].size)


# --- addresses ----------------------------------------------------------------------------------


def sampler_of(kind, transform, n, replicates=3, dim=5):
    """A rotated sampler of two members, as an estimate has it, and its dimension."""
    rng = np.random.default_rng(3)
    mean, tril = rng.normal(size=(2, dim)), triangles(rng, 2, dim)
    count = 2 if kind == "mixture" else 1
    q = {
        "diagonal": lambda: fe.Gaussian(mean, scale=0.7),
        "full": lambda: fe.Gaussian(mean, scale_tril=tril),
        "t": lambda: fe.StudentT(4.0, mean, scale_tril=tril),
        "mixture": lambda: fe.Mixture([0.3, 0.7], fe.Gaussian(mean, scale_tril=tril)),
    }[kind]()
    batch, points = (2,), Points((2,))
    design = nets.new_design(q, batch, replicates * n, replicates, transform, KEY)
    rotation = np.linalg.qr(rng.normal(size=(2, count, dim, dim)))[0]
    source = q.source(points)
    return design._replace(rotation=rotation).sampler(source.sampler, points), dim, replicates * n


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", ["diagonal", "full", "t", "mixture"])
@pytest.mark.parametrize("n", [2, 256, 2048])
def test_a_draw_is_a_function_of_its_address(kind, transform, n):
    sampler, dim, draws = sampler_of(kind, transform, n)

    def made(first, count, **options):
        return launch.sample(sampler, 2, count, dim, KEY, first_draw=first, **options)

    whole = made(0, draws)
    assert np.isfinite(whole).all()
    assert len(np.unique(whole[:, :, 0])) == whole[:, :, 0].size
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(made(0, draws, n_threads=threads), whole)
    # Chunks that begin anywhere, within a replicate and across several.
    rng = np.random.default_rng(n)
    for _ in range(20):
        first, stop = np.sort(rng.choice(draws + 1, 2, replace=False))
        np.testing.assert_array_equal(made(first, stop - first), whole[first:stop])
    for k in {0, 1, n - 1, n, draws - 1, int(rng.integers(draws))}:
        np.testing.assert_array_equal(made(k, 1), whole[k : k + 1])
    # The address of a data point is first_index + its place.
    later = made(0, draws, first_index=7)
    assert not (later[:, :, 0] == whole[:, :, 0]).any()
    places = np.array([9, 7])
    places.setflags(write=False)
    moved = launch.sample(sampler, 2, draws, dim, KEY, points=places)
    np.testing.assert_array_equal(moved[:, 1], made(0, draws, first_index=6)[:, 1])


def test_first_index_continues_an_estimate():
    x, mean = np.linspace(-1.0, 2.0, 7), np.linspace(-0.5, 1.0, 7)[:, None]
    options = {"n_samples": 16 * 64, "rng": 3, "sampler": "sobol"}
    whole, part = (
        fe.log_weights(
            linear_gaussian(x[start:]), fe.Gaussian(mean[start:], scale=0.9), first_index=start,
            **options,
        )
        for start in (0, 4)
    )  # fmt: skip
    np.testing.assert_array_equal(part, whole[4:])


# --- law ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_rotated_draws_have_the_law_of_q(kind, transform):
    # Four points of a replicate, which are nearly independent.
    sampler, dim, draws = sampler_of(kind, transform, 4, replicates=4096)
    v = launch.sample(sampler, 2, draws, dim, KEY)
    for member in range(2):
        for d in range(dim):
            assert kstest(v[:, member, d], "norm").pvalue > 1e-3
        np.testing.assert_allclose(
            np.cov(v[:, member].T), np.eye(dim), atol=4.5 * math.sqrt(2.0 / draws)
        )


@kernel
def _quantiles(x, out):
    for k in range(x.size):
        out[k] = normal_quantile(x[k])


def test_normal_quantile():
    low = np.concatenate([np.exp2(np.linspace(-33.0, -1.0, 20_000)), [0.075, 0.925, 2.0**-33]])
    u = np.concatenate([low, 1.0 - low, np.random.default_rng(0).uniform(size=20_000)])
    got, expected = np.empty_like(u), ndtri(u)
    _quantiles(u, got)
    np.testing.assert_allclose(got, expected, rtol=2e-15, atol=0.0)
    np.testing.assert_array_equal(elementwise(normal_quantile)(u), got)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_draws_of_float32_are_near(transform):
    q = standard(5, 2)
    design = nets.new_design(q, (2,), 8 * 512, 8, transform, KEY)
    exact, single = (
        launch.sample(
            draw_sampler(q, Points((2,)), precision)._replace(net=design.net), 2, 8 * 512, 5, KEY
        )
        for precision in ("float64", "float32")
    )
    assert single.dtype == np.float32
    # As for independent draws: an error of a few ulps of float32 of the pair's radius.
    np.testing.assert_allclose(single, exact, rtol=2e-6, atol=2e-6)
    assert (single != exact).any()


# --- exact answers ------------------------------------------------------------------------------

STANDARD = fe.Gaussian([0.0], scale=1.0)
HALVES = fe.Mixture([0.5, 0.5], fe.Gaussian([[-3.0], [3.0]], scale=1.0))
ANSWERS = {
    "q = prior": (linear_gaussian, STANDARD, -1.5155121234846454, -1.9189385332046727,
                  {2: -1.65347379, 5: -1.55741058, 10: -1.53494159}),
    "q near": (linear_gaussian, fe.Gaussian([0.4], scale=math.sqrt(0.4)), -1.5155121234846454,
               -1.53708390, {2: -1.52827771, 5: -1.52139426, 10: -1.51864144}),
    "mixture prior": (
        lambda: fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0, prior=HALVES),
        fe.Gaussian([1.5], scale=1.5), -2.9100719524708487, None, {}),
    "two pixels": (
        lambda: fe.LinearGaussian([[1.0, -1.0]], [[1.0], [2.0]], noise_cov=0.5),
        STANDARD, -4.161859340430404, None, {}),
}  # fmt: skip


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("case", ANSWERS)
def test_exact_answers(case, transform):
    make, q, evidence, elbo, bounds = ANSWERS[case]
    est = fe.estimate(
        make(), q, 16 * 1024, rng=1, sampler="sobol", transform=transform, iw_sizes=[*bounds]
    )
    assert abs(est.log_evidence - evidence) <= 4.5 * est.log_evidence_se
    assert est.log_evidence_se < 0.01
    if elbo is not None:
        # The table has eight digits.
        assert abs(est.elbo - elbo) <= 4.5 * est.elbo_se + 1e-8
    for k, bound in bounds.items():
        found = est.iw_elbo(k)
        assert abs(found.value - bound) <= 4.5 * found.se, k
    if case == "q = prior":
        np.testing.assert_allclose(est.ess / est.n_samples, 0.73307, rtol=0.01)
    # All draws of the exact posterior have one weight.
    posterior = make().exact_posterior()
    exact = fe.estimate(make(), posterior, 16 * 64, rng=1, sampler="sobol", transform=transform)
    np.testing.assert_allclose(exact.log_evidence, evidence, rtol=1e-12)
