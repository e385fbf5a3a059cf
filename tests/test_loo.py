"""Leave-one-out cross-validation, against its definition and a model with a known answer."""

import warnings

import numpy as np
import plain_psis
import pytest
from helpers import IGNORE_DIAGNOSTICS
from scipy.stats import norm

import fastelbo as fe
from fastelbo import errors

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
