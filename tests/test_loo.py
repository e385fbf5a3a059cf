"""Leave-one-out cross-validation, against its definition and a model with a known answer."""

import warnings
from pathlib import Path

import numpy as np
import plain_psis
import pytest
from helpers import IGNORE_DIAGNOSTICS
from scipy.signal import lfilter
from scipy.stats import norm

import fastelbo as fe
from fastelbo import errors
from fastelbo.weights.convergence import effective_draws, halves
from fastelbo.weights.smoothing import TailRows

PRIOR_VARIANCE = 4.0


def conjugate(seed=0, points=40, draws=20_000):
    """Data from N(mean, 1), and draws of their mean from its posterior under N(0, 4)."""
    rng = np.random.default_rng(seed)
    y = rng.normal(0.7, 1.0, points)
    precision = points + 1.0 / PRIOR_VARIANCE
    mean = rng.normal(y.sum() / precision, precision**-0.5, (draws, 1))
    return y, norm.logpdf(y, mean)


def exact_elpd(y):
    """log p(y_i | the others): the posterior without y_i is normal as well."""
    precision = len(y) - 1 + 1.0 / PRIOR_VARIANCE
    mean = (y.sum() - y) / precision
    return norm.logpdf(y, mean, np.sqrt(1.0 + 1.0 / precision))


def test_against_conjugate_model():
    y, log_likelihood = conjugate()
    result = fe.loo(log_likelihood)
    exact = exact_elpd(y)
    # Over forty other seeds, the largest error of 40 values was .0027 on average and .0065 at most.
    # Inverted weights, or none, have errors of .07 and more.
    np.testing.assert_allclose(result.pointwise, exact, atol=0.015)
    lppd = np.log(np.exp(log_likelihood).mean(axis=0))
    assert np.abs(lppd - exact).max() > 0.05
    assert abs(result.elpd_loo - exact.sum()) < 0.05
    assert result.elpd_loo == pytest.approx(result.pointwise.sum(), rel=1e-13)
    assert result.elpd_loo_se == pytest.approx(np.sqrt(40) * result.pointwise.std(ddof=1))
    assert result.p_loo == pytest.approx((lppd - result.pointwise).sum())
    assert result.p_loo_se == pytest.approx(np.sqrt(40) * (lppd - result.pointwise).std(ddof=1))
    assert (result.pareto_k < result.threshold).all()
    assert result.threshold == 0.7
    assert result.min_draws.shape == (40,)


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("draws", [10, 20, 21, 1000, 5000])
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_against_definition(draws, spread):
    rng = np.random.default_rng([1, draws])
    log_likelihood = spread * rng.normal(size=(draws, 11)) - 300.0
    result = fe.loo(log_likelihood)
    for i, column in enumerate(log_likelihood.T):
        weights = -column
        if draws > 20:
            weights, k, _, _ = plain_psis.psis(-column)
            assert abs(result.pareto_k[i] - k) < 1e-10
        else:
            assert np.isnan(result.pareto_k[i])
        elpd = plain_psis.log_mean(weights + column) - plain_psis.log_mean(weights)
        assert abs(result.pointwise[i] - elpd) < 1e-10


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_weights_too_small_for_a_float():
    # Relative to the largest, a dozen of the tail's 67 weights are below the least positive float.
    rng = np.random.default_rng(4)
    column = np.append(rng.normal(size=55), 800.0 + rng.normal(size=445))
    result = fe.loo(column[:, None])
    weights, k, _, _ = plain_psis.psis(-column)
    assert abs(result.pareto_k[0] - k) < 1e-10
    elpd = plain_psis.log_mean(weights + column) - plain_psis.log_mean(weights)
    assert np.isfinite(elpd)
    assert abs(result.pointwise[0] - elpd) < 1e-10


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_layout_dtype_and_efficiency():
    _, log_likelihood = conjugate(draws=1000)
    want = fe.loo(log_likelihood)
    for array in (np.asfortranarray(log_likelihood), log_likelihood[::-1][::-1]):
        for a, b in zip(fe.loo(array), want, strict=True):
            np.testing.assert_array_equal(a, b)
    single = fe.loo(log_likelihood.astype(np.float32))
    np.testing.assert_allclose(single.pointwise, want.pointwise, rtol=1e-5)
    r_eff = np.linspace(0.3, 1.0, log_likelihood.shape[1])
    k = fe.loo(log_likelihood, r_eff).pareto_k
    assert abs(k[0] - plain_psis.psis(-log_likelihood[:, 0], 0.3)[1]) < 1e-10
    assert k[0] != want.pareto_k[0]
    assert k[-1] == want.pareto_k[-1]


def caught(log_likelihood):
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        result = fe.loo(log_likelihood)
    return result, record


def test_outlier_is_flagged():
    y, log_likelihood = conjugate(points=5, draws=4000)
    # An observation at 12 standard deviations moves the posterior by itself.
    outlier = norm.logpdf(12.0, np.random.default_rng(2).normal(0.0, 0.5, (4000, 1)))
    result, record = caught(np.hstack([log_likelihood, outlier]))
    assert [entry.category for entry in record] == [errors.HighParetoKWarning]
    assert "1 of 6 data points (worst: 5)" in str(record[0].message)
    assert record[0].filename == __file__
    assert result.pareto_k[5] > result.threshold
    assert len(y) == 5


def test_equal_likelihoods():
    # An observation that tells nothing about the parameters is predicted exactly.
    rng = np.random.default_rng(3)
    log_likelihood = 0.1 * rng.normal(size=(1000, 2))
    log_likelihood[:, 1] = -1.5
    result, record = caught(log_likelihood)
    assert not record
    assert result.pointwise[1] == pytest.approx(-1.5, abs=1e-14)
    assert np.isnan(result.pareto_k[1])


def test_one_observation_and_none():
    _, log_likelihood = conjugate(points=1, draws=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.FastElboWarning)
        result = fe.loo(log_likelihood)
    assert result.elpd_loo == result.pointwise[0]
    assert np.isnan([result.elpd_loo_se, result.p_loo_se]).all()
    empty = fe.loo(np.zeros((100, 0)))
    assert (empty.elpd_loo, empty.p_loo, empty.pointwise.shape) == (0.0, 0.0, (0,))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_likelihoods_must_be_finite(bad):
    log_likelihood = np.zeros((100, 4))
    log_likelihood[8, 2] = log_likelihood[3, 3] = bad
    with pytest.raises(
        errors.InvalidWeightError, match=r"2 numbers in log_likelihood.*data point 2, draw 8"
    ):
        fe.loo(log_likelihood)


@pytest.mark.parametrize("shape", [(100,), (4, 100, 10, 2)])
def test_shape(shape):
    with pytest.raises(errors.InvalidInputError, match=r"\(draws, N\).*chains"):
        fe.loo(np.zeros(shape))


def test_scalar():
    with pytest.raises(errors.InvalidInputError, match="log_likelihood must have an axis of draws"):
        fe.loo(0.0)


# --- chains, and errors by the draws ------------------------------------------------------------


def ar_1(rng, shape, phi):
    """Stationary chains of standard normals along the second axis."""
    z = rng.normal(size=shape)
    for t in range(1, shape[1]):
        z[:, t] = phi * z[:, t - 1] + np.sqrt(1.0 - phi**2) * z[:, t]
    return z


def chains_of_conjugate(seed, phi=0.6, draws=1000, points=15):
    """The log likelihoods of `conjugate` for draws of four chains."""
    y, _ = conjugate(points=points, draws=1)
    precision = points + 1.0 / PRIOR_VARIANCE
    z = ar_1(np.random.default_rng(seed), (4, draws, 1), phi)
    return y, norm.logpdf(y, y.sum() / precision + z * precision**-0.5)


def test_chains_have_a_relative_efficiency():
    _, chains = chains_of_conjugate(0)
    result = fe.loo(chains)
    expected = [effective_draws(halves(np.exp(chains[..., i]))) / 4000 for i in range(15)]
    np.testing.assert_allclose(result.r_eff, expected, rtol=1e-10)
    # (1 - phi) / (1 + phi) = 1/4 for a likelihood that is linear in z, more for others.
    assert 0.15 < result.r_eff.min() < 0.4
    joined = chains.reshape(4000, 15)
    for got, want in zip(result, fe.loo(joined, result.r_eff), strict=True):
        np.testing.assert_array_equal(got, want)
    plain = fe.loo(joined)
    np.testing.assert_array_equal(plain.r_eff, 1.0)
    assert (plain.mcse < result.mcse).all()
    # A likelihood may be beyond the range of floats.
    np.testing.assert_allclose(fe.loo(chains - 1e4).r_eff, expected, rtol=1e-6)


def test_named_chains():
    xarray = pytest.importorskip("xarray")
    _, chains = chains_of_conjugate(1)
    expected = fe.loo(chains)
    named = xarray.DataArray(chains, dims=("chain", "draw", "school"))
    data = xarray.Dataset({"y": named, "other": named})
    tree = xarray.DataTree.from_dict({"log_likelihood": data, "posterior": data})
    for got in (
        fe.loo(named),
        fe.loo(named.transpose("school", "draw", "chain")),
        fe.loo(named.rename(chain="a", draw="b"), dim=("a", "b")),
        fe.loo(tree, var="y"),
    ):
        np.testing.assert_allclose(got.r_eff, expected.r_eff, rtol=1e-12)
        np.testing.assert_array_equal(got.pointwise, expected.pointwise)
    stacked = named.stack(sample=("chain", "draw"))
    np.testing.assert_array_equal(fe.loo(stacked).r_eff, 1.0)


def test_short_chains_count_as_independent():
    _, log_likelihood = conjugate(points=3, draws=72)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.FastElboWarning)
        result = fe.loo(log_likelihood.reshape(8, 9, 3))
    np.testing.assert_array_equal(result.r_eff, 1.0)


def test_errors_by_the_draws_against_their_definition():
    _, log_likelihood = conjugate(points=6, draws=2000)
    r_eff = np.linspace(0.3, 1.1, 6)
    result = fe.loo(log_likelihood, r_eff)
    for i, column in enumerate(log_likelihood.T):
        weights = plain_psis.psis(-column, r_eff[i])[0]
        w = np.exp(weights - weights.max())
        w /= w.sum()
        density = np.exp(column)
        mean = w @ density
        error = np.sqrt((w**2 * (density - mean) ** 2).sum()) / mean
        assert result.mcse[i] == pytest.approx(error / np.sqrt(r_eff[i]), rel=1e-9)
        assert result.ess[i] == pytest.approx(r_eff[i] / (w**2).sum(), rel=1e-9)
    total = np.sqrt((result.mcse**2).sum())
    assert result.elpd_loo_mcse == pytest.approx(total, rel=1e-12)
    assert f"Monte Carlo error of elpd_loo: {total:.2g}" in repr(result)


@pytest.mark.statistical
@pytest.mark.parametrize("phi", [0.0, 0.7])
def test_errors_by_the_draws_against_their_spread(phi):
    results = [fe.loo(chains_of_conjugate([5, seed], phi, 500)[1]) for seed in range(200)]
    spread = np.std([each.pointwise for each in results], axis=0)
    stated = np.sqrt(np.mean([each.mcse**2 for each in results], axis=0))
    np.testing.assert_allclose(stated, spread, rtol=0.25)


def test_no_error_by_the_draws_beside_a_high_k_hat():
    log_likelihood = -1.5 * np.random.default_rng(0).standard_exponential((1000, 4))
    result, record = caught(log_likelihood)
    assert [entry.category for entry in record] == [errors.HighParetoKWarning]
    assert np.isnan(result.elpd_loo_mcse)
    assert np.isfinite(result.mcse).all()
    assert "unknown, as a k-hat is above its limit" in repr(result)


def test_parts_of_many_observations(monkeypatch):
    _, log_likelihood = conjugate(draws=1000)
    whole = fe.loo(log_likelihood)
    parts = TailRows.parts
    monkeypatch.setattr(TailRows, "parts", lambda self: parts(self, 3500))
    for array in (log_likelihood, np.asfortranarray(log_likelihood)):
        for got, want in zip(fe.loo(array), whole, strict=True):
            np.testing.assert_array_equal(got, want)
    log_likelihood[8, 22] = log_likelihood[3, 33] = np.nan
    with pytest.raises(errors.InvalidWeightError, match=r"2 numbers.*data point 22, draw 8"):
        fe.loo(log_likelihood)


# --- approximate posteriors ---------------------------------------------------------------------


def test_against_the_r_package_of_an_approximate_posterior():
    """The data are those of the tests of R's loo; the numbers are of its version 2.5.1."""
    with np.load(Path(__file__).parent / "data" / "approximate_posterior.npz") as data:
        ratio, log_likelihood = data["log_ratio"], data["log_likelihood"]
    log_q = np.linspace(-3.0, 5.0, len(ratio))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.HighParetoKWarning)
        result = fe.loo(log_likelihood, log_p=ratio + log_q - 7.0, log_q=log_q)
    close = {"rtol": 1e-10, "atol": 0.0}
    np.testing.assert_allclose(
        [result.elpd_loo, result.elpd_loo_se, result.p_loo, result.p_loo_se],
        [-18.408528806887, 4.5971817375287, 6.0231932772534, 2.9743908170917],
        **close,
    )
    np.testing.assert_allclose(
        result.pointwise, [-8.0945360516492, -3.1153515675565, -7.1986411876815], **close
    )
    np.testing.assert_allclose(
        result.pareto_k, [1.3728296652656, 0.86191919028961, 0.97185439556453], **close
    )


@pytest.mark.parametrize("draws", [21, 1000])
@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_approximate_posterior_against_its_definition(draws):
    rng = np.random.default_rng([2, draws])
    log_likelihood, ratio = rng.normal(size=(draws, 5)) - 300.0, rng.normal(size=draws)
    result = fe.loo(log_likelihood, log_p=ratio, log_q=np.zeros(draws))
    for i, column in enumerate(log_likelihood.T):
        weights, k, _, _ = plain_psis.psis(ratio - column)
        assert abs(result.pareto_k[i] - k) < 1e-10
        elpd = plain_psis.log_mean(weights + column) - plain_psis.log_mean(weights)
        assert abs(result.pointwise[i] - elpd) < 1e-10


def test_approximate_posterior_of_the_conjugate_model():
    y, _ = conjugate()
    rng = np.random.default_rng(7)
    precision = len(y) + 1.0 / PRIOR_VARIANCE
    centre, scale = y.sum() / precision + 0.05, 1.3 * precision**-0.5
    mean = rng.normal(centre, scale, (20_000, 1))
    log_likelihood = norm.logpdf(y, mean)
    log_p = log_likelihood.sum(axis=1) + norm.logpdf(mean[:, 0], 0.0, PRIOR_VARIANCE**0.5)
    result = fe.loo(log_likelihood, log_p=log_p, log_q=norm.logpdf(mean[:, 0], centre, scale))
    np.testing.assert_allclose(result.pointwise, exact_elpd(y), atol=0.015)
    # Without the correction, each is off.
    assert np.abs(fe.loo(log_likelihood).pointwise - exact_elpd(y)).max() > 0.03


def test_an_exact_posterior_needs_no_correction():
    _, log_likelihood = conjugate(draws=1000)
    log_p = np.linspace(-1.0, 3.0, 1000)
    plain, corrected = fe.loo(log_likelihood), fe.loo(log_likelihood, log_p=log_p, log_q=log_p)
    for got, want in zip(corrected, plain, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_log_densities_of_chains():
    _, chains = chains_of_conjugate(3, 0.0)
    ratio = 0.1 * chains.sum(axis=-1)
    expected = fe.loo(chains.reshape(4000, -1), log_p=ratio.reshape(-1), log_q=np.zeros(4000))
    for log_p in (ratio, ratio.reshape(-1)):
        got = fe.loo(chains, log_p=log_p, log_q=np.zeros((4, 1000)))
        np.testing.assert_array_equal(got.pointwise, expected.pointwise)
        np.testing.assert_array_equal(got.r_eff, 1.0)
    # The axis of the draws may be the last.
    last = fe.loo(chains[0].T, axis=1, log_p=ratio[0], log_q=np.zeros(1000))
    first = fe.loo(chains[0], log_p=ratio[0], log_q=np.zeros(1000))
    np.testing.assert_array_equal(last.pointwise, first.pointwise)


TWO = np.zeros((100, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"log_p": np.zeros(100)}, "log_p and log_q must be given together, got log_q=None"),
        ({"log_q": np.zeros(100)}, "log_p and log_q must be given together, got log_p=None"),
        (
            {"log_p": np.zeros(99), "log_q": np.zeros(100)},
            r"log_p must have a number for each draw .* axis 0, shape \(100,\), got .*\(99,\)",
        ),
        ({"log_p": np.zeros(100), "log_q": np.zeros((100, 2))}, "log_q must have a number"),
        ({"log_p": np.full(100, np.nan), "log_q": np.zeros(100)}, "log_p must be finite"),
        ({"log_p": np.zeros(100), "log_q": np.full(100, -np.inf)}, "log_q must be finite"),
        ({"r_eff": 0.0}, "r_eff must be positive"),
        ({"r_eff": np.ones(3)}, r"r_eff must be a scalar or .* \(2,\); got shape \(3,\)"),
        ({"log_likelihood": np.zeros((200, 4, 3))}, "200 chains of 4 draws; swap"),
        ({"log_likelihood": np.zeros((4, 50, 3)), "axis": 1}, r"without axis, got .* axis 1"),
    ],
)
def test_bad_arguments(given, message):
    with pytest.raises(errors.InvalidInputError, match=message):
        fe.loo(**({"log_likelihood": TWO} | given))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_likelihoods_of_an_approximate_posterior_must_be_finite(bad):
    log_likelihood = np.zeros((100, 4))
    log_likelihood[8, 2] = bad
    with pytest.raises(errors.InvalidWeightError, match=r"1 numbers .* data point 2, draw 8"):
        fe.loo(log_likelihood, log_p=np.zeros(100), log_q=np.zeros(100))


def test_chains_are_found_by_the_names_of_dimensions():
    xarray = pytest.importorskip("xarray")
    rng = np.random.default_rng(0)
    walk = 0.1 * lfilter([1.0], [1.0, -0.9], rng.normal(size=(4, 500, 3)), axis=1)
    log_p, log_q = walk.sum(axis=2), rng.normal(size=(4, 500))
    data = xarray.DataArray(walk, dims=("chain", "draw", "i"))
    expected, other = fe.loo(walk), fe.loo(walk, log_p=log_p, log_q=log_q)
    assert (expected.r_eff < 0.5).all()
    swapped = fe.loo(data, dim=("draw", "chain"))
    np.testing.assert_allclose(swapped.r_eff, expected.r_eff)
    np.testing.assert_allclose(swapped.mcse, expected.mcse)
    # The draws are joined in the order of dim, and so are flat densities.
    flat = {"log_p": log_p.T.reshape(-1), "log_q": log_q.T.reshape(-1)}
    np.testing.assert_allclose(
        fe.loo(data, dim=("draw", "chain"), **flat).pointwise, other.pointwise
    )
    walkers = data.rename(chain="walker", draw="step")
    np.testing.assert_allclose(fe.loo(walkers, dim=("walker", "step")).r_eff, expected.r_eff)
    with pytest.raises(
        errors.InvalidInputError, match=r"500 chains of 4 draws .*\('walker', 'step'\)"
    ):
        fe.loo(walkers, dim=("step", "walker"))


def test_a_missing_group_is_named():
    xarray = pytest.importorskip("xarray")
    values = np.random.default_rng(0).normal(size=(4, 200, 3))
    data = xarray.Dataset({"y": (("chain", "draw", "i"), 0.1 * values)})
    tree = xarray.DataTree.from_dict({"posterior": data})
    for var in (None, "y"):
        with pytest.raises(
            errors.InvalidInputError, match="a group 'log_likelihood', got the groups 'posterior'"
        ):
            fe.loo(tree, var=var)
    expected = fe.loo(data).pointwise
    np.testing.assert_array_equal(fe.loo(tree, var="posterior/y").pointwise, expected)
    np.testing.assert_array_equal(fe.loo(xarray.DataTree(data)).pointwise, expected)


@pytest.mark.parametrize(("p", "q"), [(1.7e308, -1.7e308), (1.7e308, 0.0)])
def test_corrections_beyond_the_largest_float(p, q):
    log_p, log_q = np.zeros((2, 100))
    log_p[3], log_q[3] = p, q
    log_likelihood = np.zeros((100, 2))
    log_likelihood[3] = -1.7e308
    with pytest.raises(
        errors.InvalidWeightError, match=r"log_p - log_q - .* must be finite, .* at draw 3"
    ):
        fe.loo(log_likelihood, log_p=log_p, log_q=log_q)


def test_results_of_earlier_versions():
    result = fe.loo(0.1 * np.random.default_rng(0).normal(size=(1000, 3)) - 2.0)
    # As they are unpickled: with the eight fields that they had.
    old = fe.LooResult(*result[:8])
    assert np.isnan(old.elpd_loo_mcse)
    assert (old - result).value == 0.0
    assert "unknown" in repr(old)
    assert old.mcse.size == old.ess.size == old.r_eff.size == 0
    pytest.importorskip("pandas")
    assert old.to_pandas()["mcse"].isna().all()
