"""Properties of the plain NumPy quasi-random draws, which are the oracle of the kernels'."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats as st
from cases import triangles
from scipy.stats import qmc

import fastelbo as fe
from fastelbo import reference
from fastelbo.reference import sobol

KEY = 0x0123456789ABCDEF
TRANSFORMS = ["box_muller", "inverse"]


def design(replicates=4, per_replicate=64, transform="inverse", rotation=None):
    return SimpleNamespace(
        replicates=replicates, per_replicate=per_replicate, transform=transform, rotation=rotation
    )


def words(of, index, dim, key=KEY):
    """(n, R, per_replicate, dim) words of data points."""
    draws = np.arange(of.replicates * of.per_replicate)
    found = sobol.sobol_words(of, key, np.asarray(index)[:, None], draws[None], dim)
    return found.reshape(len(index), of.replicates, of.per_replicate, dim)


def test_direction_numbers_make_the_points_of_scipy():
    numbers, expected = sobol.direction_numbers(7, 6), qmc.Sobol(7, scramble=False).random(64)
    points = [
        np.bitwise_xor.reduce(numbers[:, [b for b in range(6) if j >> b & 1]], axis=1)
        for j in range(64)
    ]
    ours = np.array(points) * 2.0**-32
    # The order of the Gray code is another order of each power of two.
    gray = np.arange(64) ^ np.arange(64) >> 1
    np.testing.assert_array_equal(ours[gray], expected)


def test_every_coordinate_has_one_point_in_each_interval():
    of = design()
    cells = np.sort(words(of, [0, 5, 2**32 - 1], 21) >> np.uint64(26), axis=2)
    expected = np.arange(64)[None, None, :, None]
    np.testing.assert_array_equal(cells, np.broadcast_to(expected, cells.shape))


@pytest.mark.parametrize("first", range(7))
def test_first_pairs_fill_every_elementary_interval(first):
    x, y = np.moveaxis(words(design(), [3, 8], 2), -1, 0)
    cells = (x >> np.uint64(32 - first)) * 2 ** (6 - first) + (y >> np.uint64(26 + first))
    np.testing.assert_array_equal(np.sort(cells), np.broadcast_to(np.arange(64), cells.shape))


def test_an_index_alone_has_the_words_of_the_whole():
    of = design(replicates=3, per_replicate=32)
    whole = words(of, [4, 7], 5).reshape(2, 96, 5)
    for i, k in [(4, 0), (7, 31), (7, 32), (4, 95)]:
        alone = sobol.sobol_words(of, KEY, np.array(i), np.array(k), 5)
        np.testing.assert_array_equal(alone, whole[[4, 7].index(i), k])


def test_first_coordinates_do_not_depend_on_how_many_there_are():
    of = design()
    np.testing.assert_array_equal(words(of, [4], 9)[..., :5], words(of, [4], 5))


def test_draws_beyond_the_design_are_refused():
    with pytest.raises(OverflowError, match="draw must lie in"):
        sobol.sobol_words(design(), KEY, np.array(0), np.array(256), 1)


def test_replicates_data_points_and_keys_are_uncorrelated():
    of = design(replicates=64, per_replicate=16)
    uniforms = sobol.uniforms(words(of, range(64), 3))
    # Of a first point, whose place in the sequence all share.
    first = uniforms[:, :, 0].reshape(-1, 3) - 0.5
    assert (np.abs(first.mean(axis=0)) < 4.5 / np.sqrt(12 * len(first))).all()
    for pair in [
        (uniforms[:-1, :, 3], uniforms[1:, :, 3]),
        (uniforms[:, :-1, 5], uniforms[:, 1:, 5]),
    ]:
        a, b = (part.reshape(-1, 3) - 0.5 for part in pair)
        correlation = 12.0 * (a.T @ b) / len(a)
        assert np.abs(correlation).max() < 4.5 / np.sqrt(len(a))
    other = sobol.uniforms(words(of, range(64), 3, key=KEY + 1))
    a, b = uniforms[:, :, 2].reshape(-1, 3) - 0.5, other[:, :, 2].reshape(-1, 3) - 0.5
    assert np.abs(12.0 * (a.T @ b) / len(a)).max() < 4.5 / np.sqrt(len(a))


def test_means_of_replicates_are_uncorrelated():
    """The scrambles of a key's replicates are independent, not the shifts of points alone."""
    of = design(replicates=2, per_replicate=16)
    means = []
    for key in range(500):
        u = sobol.uniforms(words(of, [0], 4, key=key))[0]
        means.append((np.prod(u[..., :2], axis=-1) - np.prod(u[..., 2:], axis=-1)).mean(axis=-1))
    a, b = np.array(means).T
    assert abs(st.pearsonr(a, b).statistic) < 4.5 / np.sqrt(500)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dim", [1, 4, 5])
def test_rotated_normals_are_standard_normals(transform, dim):
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(rng.normal(size=(64, 1, dim, dim)))[0]
    q = fe.Gaussian(np.zeros(dim), scale=1.0)
    for turned in (None, rotation):
        of = design(replicates=8, per_replicate=4, transform=transform, rotation=turned)
        # Few points of a replicate, so that they are nearly independent.
        z = reference.sample(q, KEY, np.arange(64), np.arange(32), of).reshape(-1, dim)
        for d in range(dim):
            assert st.kstest(z[:, d], "norm").pvalue > 1e-3
        np.testing.assert_allclose(np.cov(z.T), np.eye(dim), atol=4.5 * np.sqrt(2 / len(z)))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("family", ["diagonal", "full", "t", "mixture"])
def test_draws_have_the_law_of_q(transform, family):
    rng = np.random.default_rng(5)
    dim, count = 3, 2
    means = rng.normal(size=(count, dim))
    q = {
        "diagonal": fe.Gaussian(means[0], scale=[0.5, 1.0, 2.0]),
        "full": fe.Gaussian(means[0], scale_tril=triangles(rng, dim)),
        "t": fe.StudentT(5.0, means[0], scale_tril=triangles(rng, dim)),
        "mixture": fe.Mixture([0.3, 0.7], fe.Gaussian(means, scale_tril=triangles(rng, 2, dim))),
    }[family]
    rotation = np.linalg.qr(rng.normal(size=(1, count if family == "mixture" else 1, dim, dim)))[0]
    of = design(16, 512, transform, rotation)
    z = reference.sample(q, KEY, np.arange(4), np.arange(16 * 512), of)
    # q's own probabilities of half spaces in random directions, from independent draws.
    directions = rng.normal(size=(dim, 20))
    independent = reference.sample(q, KEY, np.arange(1), np.arange(200_000))[0] @ directions
    for quantile in (0.05, 0.5, 0.9):
        limits = np.quantile(independent, quantile, axis=0)
        below = (z @ directions < limits).mean(axis=(0, 1))
        # Of that quantile, from 200000 draws, and of ours, which vary less than independent ones.
        error = np.sqrt(quantile * (1 - quantile) * (1 / 200_000 + 1 / 32_768))
        assert (np.abs(below - quantile) < 4.5 * error).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_components_of_a_mixture_are_stratified(transform):
    weights = np.array([0.1, 0.25, 0.65])
    q = fe.Mixture(weights, fe.Gaussian([[-100.0], [0.0], [100.0]], scale=1.0))
    z = reference.sample(q, KEY, np.arange(3), np.arange(4 * 256), design(4, 256, transform))
    chosen = np.round(z[..., 0] / 100.0).reshape(3, 4, 256).astype(int) + 1
    counts = (chosen[..., None] == np.arange(3)).sum(axis=2)
    assert (np.abs(counts - 256 * weights) < 2).all()


def test_permutations_are_bijections_that_differ():
    for size in [2**m for m in range(11)]:
        place = sobol.permuted(KEY, 2, 1, 0, size)
        np.testing.assert_array_equal(np.sort(place), np.arange(size))
    places = {
        tuple(sobol.permuted(KEY, *address, 64).tolist())
        for address in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    }
    assert len(places) == 4


@pytest.mark.parametrize("per_replicate", [1, 64, 4096])
def test_groups_take_one_draw_of_each_replicate_and_every_draw_once(per_replicate):
    of = design(replicates=7, per_replicate=per_replicate)
    groups = sobol.groups_of(of, KEY, 0, np.arange(7.0 * per_replicate), 3)
    assert groups.shape == (2, per_replicate, 3)
    replicate = groups // per_replicate
    expected = np.arange(6.0).reshape(2, 1, 3)
    np.testing.assert_array_equal(replicate, np.broadcast_to(expected, groups.shape))
    np.testing.assert_array_equal(np.sort(groups, axis=None), np.arange(6 * per_replicate))


def test_summaries_of_replicates():
    rng = np.random.default_rng(0)
    likelihood, prior, log_q = rng.normal(size=(3, 2, 4 * 8))
    prior[1, 3] = -np.inf
    of = design(4, 8)
    values = reference.summaries(likelihood, prior, log_q, (1, 2, 3, 5), of, KEY)
    weights = np.exp(likelihood + prior - log_q).reshape(2, 4, 8)
    np.testing.assert_allclose(values["replicate_log_evidence"], np.log(weights.mean(-1)))
    np.testing.assert_allclose(
        values["replicate_expected_log_likelihood"], likelihood.reshape(2, 4, 8).mean(-1)
    )
    assert values["replicate_elbo"][1, 0] == -np.inf
    assert values["replicate_kl"][1, 0] == np.inf
    assert sorted(values["iw"]) == [1, 2, 3]
    # Groups of one draw are the draws themselves.
    np.testing.assert_allclose(values["replicate_iw"][1], values["replicate_elbo"])
    assert np.isnan(values["replicate_iw"][3]).sum(axis=1).tolist() == [3, 3]
    whole = values["replicate_iw"][2][:, :2].mean(axis=-1)
    np.testing.assert_allclose(whole, values["iw"][2][0])


@pytest.mark.statistical
def test_permuted_groups_bound_the_evidence_as_independent_ones_do():
    """Groups of aligned indices would not: a digital shift keeps the difference of two points."""
    rng = np.random.default_rng(1)
    of = design(2, 256, "box_muller")
    draws = np.arange(512)
    e = reference.sample(fe.Gaussian([0.0], scale=1.0), KEY, np.arange(400), draws, of)[..., 0]
    logs = 1.2 * e - 0.72
    values = reference.summaries(logs, np.zeros_like(logs), np.zeros_like(logs), (2,), of, KEY)
    found = values["iw"][2][0]
    independent = 1.2 * rng.normal(size=(2, 10**6)) - 0.72
    pairs = np.logaddexp(*independent) - np.log(2.0)
    error = np.hypot(found.std() / 20.0, pairs.std() / 1000.0)
    assert abs(found.mean() - pairs.mean()) < 4.5 * error
    assert found.std() < pairs.std() / np.sqrt(256.0)
