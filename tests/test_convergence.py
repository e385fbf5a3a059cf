"""Effective numbers of draws and R-hat against ArviZ's answers, closed forms and edge values."""

import numpy as np
import pytest

from fastelbo.weights.convergence import (
    bulk_effective_draws,
    effective_draws,
    halves,
    r_hat,
)

T, K = np.arange(100.0), np.arange(4.0)[:, None]
WAVES = np.sin(0.9 * T + K) + 0.3 * np.sin(0.05 * T**2 + K) + 0.05 * K
SUMS = np.sin(T + K) + 0.1 * np.cumsum(np.sin(37.0 * T**2) * [[1.0], [1.1], [0.9], [1.0]], axis=1)


@pytest.mark.parametrize(
    ("x", "mean", "bulk", "ratio"),
    [
        (WAVES, 193.71574544481257, 204.89767234860068, 0.9997684023415262),
        (SUMS, 182.54815075901362, 183.23919914333962, 1.0509458634785092),
        (WAVES[:1], 48.755537060394836, None, None),
        (WAVES[:, :99], 189.3925810530012, None, None),
    ],
)
def test_against_arviz_0_23_4(x, mean, bulk, ratio):
    assert effective_draws(halves(x)) == pytest.approx(mean, rel=1e-10)
    if bulk is not None:
        assert bulk_effective_draws(x) == pytest.approx(bulk, rel=1e-10)
        assert r_hat(x) == pytest.approx(ratio, rel=1e-10)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(4, 100), (2, 33), (3, 50), (4, 501), (2, 11)])
@pytest.mark.parametrize("phi", [0.0, 0.7, -0.7, 0.95])
def test_against_arviz(shape, phi):
    arviz = pytest.importorskip("arviz")
    x = chains(np.random.default_rng(3), (*shape, 2), phi)
    for j in range(2):
        column = x[..., j]
        got = effective_draws(halves(x))[j], bulk_effective_draws(x)[j], r_hat(x)[j]
        expected = arviz.ess(column, method="mean"), arviz.ess(column), arviz.rhat(column)
        np.testing.assert_allclose(got, np.array(expected, dtype=float), rtol=1e-10)


def chains(rng, shape, phi):
    """Stationary chains z' = phi z + sqrt(1 - phi^2) e of standard normals."""
    x = rng.normal(size=shape)
    for t in range(1, shape[1]):
        x[:, t] = phi * x[:, t - 1] + np.sqrt(1.0 - phi**2) * x[:, t]
    return x


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.5, 0.9])
def test_against_the_autocorrelation_time_of_ar_1(phi):
    x = chains(np.random.default_rng(0), (4, 20_000, 3), phi)
    expected = x[..., 0].size * (1.0 - phi) / (1.0 + phi)
    np.testing.assert_allclose(effective_draws(x), expected, rtol=0.12)
    np.testing.assert_allclose(r_hat(x), 1.0, atol=0.002)


def test_columns_do_not_depend_on_each_other():
    x = chains(np.random.default_rng(1), (3, 200, 2, 3), 0.5)
    got = effective_draws(x)
    assert got.shape == (2, 3)
    for index in np.ndindex(2, 3):
        own = x[(slice(None), slice(None), *index)]
        assert effective_draws(own) == pytest.approx(got[index], rel=1e-12)
        assert r_hat(own) == r_hat(x)[index]


def test_units_do_not_matter():
    x = chains(np.random.default_rng(1), (3, 200), 0.5)
    assert effective_draws(1e-150 * x) == pytest.approx(effective_draws(x), rel=1e-10)
    assert bulk_effective_draws(np.exp(9.0 * x)) == bulk_effective_draws(x)
    assert r_hat(np.exp(9.0 * x)) > r_hat(x) - 0.05


def test_chains_that_differ():
    x = chains(np.random.default_rng(2), (2, 500), 0.0)
    apart, wider = x + np.array([[0.0], [3.0]]), x * [[1.0], [4.0]]
    assert r_hat(apart) > 1.5
    assert effective_draws(apart) < 10.0
    # The ranks of distances from the median see another spread.
    assert r_hat(wider) > 1.2
    # The halves of one chain that drifts.
    assert r_hat(x[:1] + np.linspace(0.0, 6.0, 500)) > 1.5


def test_edges():
    same = np.full((2, 50, 2), 3.0)
    assert effective_draws(same).tolist() == [100.0, 100.0]
    assert r_hat(same).tolist() == [1.0, 1.0]
    stuck = np.repeat([[0.0], [1.0]], 50, axis=1)
    assert r_hat(stuck) == np.inf
    assert np.isnan(effective_draws(np.zeros((4, 4))))
    assert np.isnan(r_hat(np.zeros((4, 9))))
    assert np.isnan(bulk_effective_draws(np.zeros((4, 9))))
    bad = np.array(WAVES)
    bad[1, 3] = np.nan
    assert np.isnan(effective_draws(bad))
    assert effective_draws(np.zeros((2, 50, 0))).shape == (0,)
