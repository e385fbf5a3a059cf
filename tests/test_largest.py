"""Numbers near the largest float: what is finite stays so, and nothing becomes NaN on the way."""

import mpmath
import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS
from public_api import strict
from sentinels import LARGEST, assert_near, exact_row, rows_with_sentinels

import fastelbo as fe
from fastelbo.weights.combined_intervals import gap_interval
from fastelbo.weights.intervals import Interval
from fastelbo.weights.scaled import mean_and_error, root_sum_of_squares, total

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
POWERS = [1.0, 2.0, 3.0, 1e-3, 0.5, 300.0, -1.0, -1e-12, -7.0]


@pytest.fixture(autouse=True)
def exact():
    with mpmath.workdps(340), strict():
        yield


# 60 rows by default, and 500 among the slow tests.
rows = pytest.mark.parametrize("rows", [60, pytest.param(500, marks=pytest.mark.slow)])


@rows
def test_power_means_of_random_rows(rows):
    for i, row in enumerate(rows_with_sentinels(rows, most=7, seed=4)):
        power = POWERS[i % len(POWERS)]
        x, _ = exact_row(row)
        order = 1.0 - power
        got = fe.renyi_bound(row, order)
        # The order is rounded.
        power = mpmath.mpf(1.0 - order)
        mean = mpmath.fsum(mpmath.exp(power * value) for value in x) / len(x)
        condition = max(map(abs, x)) + mpmath.log(len(x)) / abs(power)
        assert_near(got.value, mpmath.log(mean) / power, condition, 1e-14)
        assert not np.isinf(got.se)


def test_chi_bounds_of_large_log_weights():
    # An ulp of 1e20 is 16384 nats.
    assert fe.cubo([1e20, 0.0], 3.0).value == 1e20
    assert fe.cubo([1e308, -1e308], 2.0).value == 1e308
    assert fe.renyi_bound([LARGEST, 0.0, 1.0], 0.5).value == LARGEST
    assert fe.renyi_bound([-1e300, 0.0], 3.0).value == -1e300


@rows
def test_sums_and_errors_of_random_rows(rows):
    for row in rows_with_sentinels(rows, most=9, seed=5):
        x, _ = exact_row(row)
        size = mpmath.fsum(map(abs, x))
        assert_near(total(row), mpmath.fsum(x), size, 1e-15)
        norm = mpmath.sqrt(mpmath.fsum(value**2 for value in x))
        assert_near(root_sum_of_squares(row), norm, norm, 1e-15)
        mean, _ = mean_and_error(row)
        assert_near(mean, mpmath.fsum(x) / len(x), size / len(x), 1e-15)


def test_totals_and_their_intervals():
    rows = np.random.default_rng(0).normal(size=(6, 200))
    rows[:, 3] = -1e300
    sums = fe.summarize(rows, pareto_k=False).total()
    assert sums.elbo == pytest.approx(-6e300 / 200, rel=1e-12)
    assert sums.elbo_se == pytest.approx(np.sqrt(6) * 1e300 / 200, rel=1e-12)
    low, high = sums.confidence_interval("elbo", 0.5)
    assert low == pytest.approx(sums.elbo - 0.6744897501960817 * sums.elbo_se, rel=1e-12)
    assert high == pytest.approx(sums.elbo + 0.6744897501960817 * sums.elbo_se, rel=1e-12)


def test_interval_of_a_large_jensen_gap():
    # Errors of 1e300 times those of an ordinary gap, beside the ordinary one.
    unit = np.array([1.0, 1e300])
    errors = tuple(unit * error for error in (0.1, 0.2, 0.15))
    evidence = -2.0 * unit
    ends = Interval(evidence - 0.2 * unit, evidence + 0.5 * unit)
    low, high = gap_interval(unit, errors, evidence, ends, 0.95)
    assert low[1] == pytest.approx(1e300 * low[0], rel=1e-14)
    assert high[1] == pytest.approx(1e300 * high[0], rel=1e-14)


def test_intervals_at_levels_next_to_1():
    for level in (1.0 - 1e-16, 1.0 - 1e-12):
        exact_sum = fe.estimate(
            fe.MixtureModel([[0.0]], fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0))),
            fe.Categorical([1.0]),
        )
        for name in ("log_evidence", "elbo", "kl"):
            value = getattr(exact_sum, name)
            assert exact_sum.confidence_interval(name, level) == (value, value)
        estimate = fe.summarize(np.random.default_rng(0).normal(size=500))
        low, high = estimate.confidence_interval("elbo", level)
        assert np.isfinite([low, high]).all()
        assert 7.0 < (high - low) / (2.0 * estimate.elbo_se) < 8.5


def test_covariances_of_large_and_small_scales():
    cov = fe.Gaussian([0.0, 0.0, 0.0], scale=[1e300, 1e-300, 2.0]).cov
    np.testing.assert_array_equal(cov, np.diag([np.inf, 0.0, 4.0]))
    batch = np.arange(1.0, 7.0).reshape(2, 3)
    expected = [np.diag(row**2) for row in batch]
    np.testing.assert_array_equal(fe.Gaussian(np.zeros(3), scale=batch).cov, expected)


@pytest.mark.parametrize("method", ["systematic", "stratified", "multinomial", "residual"])
def test_resampling_of_weights_that_underflow(method):
    chosen = fe.resample([-1e308, 1e308, 0.0, 1e308], 100, method, rng=0)
    assert set(chosen) == {1, 3}
    assert set(fe.resample([-745.2, 0.0, -1e6], 20, method, rng=0)) == {1}


def test_leave_one_out_of_large_log_likelihoods():
    log_likelihood = np.random.default_rng(0).normal(size=(200, 3))
    log_likelihood += [-1e300, 2e300, -4e300]
    result = fe.loo(log_likelihood)
    assert result.elpd_loo == pytest.approx(-3e300)
    assert result.elpd_loo_se == pytest.approx(np.sqrt(3) * np.std([-1, 2, -4], ddof=1) * 1e300)


def test_empty_batches():
    for q in (
        fe.Gaussian(np.zeros((0, 2)), scale=1.0),
        fe.Mixture([0.5, 0.5], fe.Gaussian(np.zeros((0, 2, 2)), scale=1.0)),
    ):
        assert q.log_prob(np.zeros((5, 1, 2))).shape == (5, 0)
    for b in (None, 2.0):
        assert fe.logsumexp(np.zeros((4, 0)), axis=0, b=b).shape == (0,)
    accumulator = fe.LogWeightAccumulator()
    accumulator.update(np.zeros((0, 50)))
    other = fe.LogWeightAccumulator()
    other.update(np.zeros((0, 50)))
    accumulator.merge(other)
    assert accumulator.result().log_evidence.shape == (0,)


def test_bias_correction_of_an_infinite_total():
    with strict():
        rows = np.zeros((2, 50))
        rows[1] = -np.inf
        assert fe.summarize(rows).total().bias_correction == 0.0


def test_tails_of_any_efficiency():
    row = np.random.default_rng(0).normal(size=500)
    assert fe.pareto_k(row, r_eff=5e-324) == fe.pareto_k(row, r_eff=1e-3)


def test_probabilities_that_underflow():
    for shares in ([0.4, 5e-324, 0.6], [0.4153617589, 6.5e-309, 0.5846382411]):
        assert fe.Categorical(shares).probs == pytest.approx(shares, rel=1e-6, abs=1e-300)


def test_jackknife_beside_the_largest_float():
    # Four fifths of the weights' logs without one draw are the whole's: K L - (K - 1) mean L_i.
    row = [9e307, 5e-324, 5e-324, 5e-324, 5e-324]
    assert fe.jackknife(row).value == pytest.approx(1.8 * 9e307, rel=1e-14)
    assert fe.jackknife(row).se == pytest.approx(0.8 * 9e307, rel=1e-14)
