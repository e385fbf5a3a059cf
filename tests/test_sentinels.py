"""Finite log weights of any size: no square overflows, no digit of the others is lost."""

import mpmath
import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS
from sentinels import (
    assert_near,
    exact_row,
    groups,
    jackknife,
    log_mean,
    mean_and_error,
    rows_with_sentinels,
)

import fastelbo as fe
from fastelbo.kernels.draws.blocks import CHUNK

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
# Above the squares and the sums of squares of a row, and below what is left beside them.
DIGITS = 340
# Rows by default, and on demand.
KINDS = pytest.mark.parametrize("kinds", [40, pytest.param(500, marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def strict():
    """Digits for the exact values; and NumPy raises at the least overflow."""
    with mpmath.workdps(DIGITS), np.errstate(all="raise", under="ignore"):
        yield


@KINDS
def test_summaries_of_random_rows(kinds):
    for row in rows_with_sentinels(kinds, most=9, seed=0):
        estimate = fe.summarize(row, iw_sizes=[2], pareto_k=False)
        x, w = exact_row(row)
        mean, error = mean_and_error(x)
        evidence = log_mean(w)
        gap_condition = evidence[1] + mean[1]
        mean_weight = mpmath.fsum(w) / len(w)
        _, gap_error = mean_and_error([a / mean_weight - b for a, b in zip(w, x, strict=True)])
        bound, bound_error = mean_and_error(groups(w, 2))
        assert_near(estimate.elbo, *mean, 1e-14)
        assert_near(estimate.elbo_se, *error, 1e-14)
        assert_near(estimate.log_evidence, *evidence, 1e-14)
        assert_near(estimate.jensen_gap, evidence[0] - mean[0], gap_condition, 1e-14)
        # A difference of variances, of which the larger are the terms.
        assert_near(estimate.jensen_gap_se, gap_error[0], gap_error[1] + len(w), 1e-8)
        assert_near(estimate.iw_elbo(2).value, bound[0], bound[1] + 2, 1e-13)
        if len(w) > 3:
            assert_near(estimate.iw_elbo(2).se, bound_error[0], bound_error[1] + 2, 1e-13)
        ess = mpmath.fsum(w) ** 2 / mpmath.fsum(a * a for a in w)
        assert_near(estimate.ess, ess, len(w), 1e-14)
        assert 1.0 <= estimate.ess <= len(w)


@KINDS
def test_jackknife_of_random_rows(kinds):
    for row in rows_with_sentinels(kinds, most=6, seed=1):
        _, w = exact_row(row)
        for order in (1, 2):
            if len(row) <= order:
                continue
            value, error = jackknife(w, order)
            got = fe.jackknife(row, order)
            assert_near(got.value, *value, 1e-13)
            assert_near(got.se, error[0], error[1] + len(w), 1e-13)


@KINDS
def test_bounds_of_random_rows(kinds):
    for row in rows_with_sentinels(kinds, most=6, seed=2):
        x, w = exact_row(row)
        got = fe.iw_elbo(row, [1, 2, len(row)], rng=0)
        mean, error = mean_and_error(x)
        assert_near(got.value[0], *mean, 1e-14)
        assert_near(got.se[0], *error, 1e-14)
        assert_near(got.value[2], *log_mean(w), 1e-13)
        # Rows as wide are averaged over random groups, each between the least and the largest.
        assert row.min() - 1e-12 <= got.value[1] <= row.max() + 1e-12
        assert not np.isinf(got.se[1])


def test_named_examples():
    assert fe.jackknife([0.0, 1.0, 1e16], 2).value == pytest.approx(2e16, rel=1e-15)
    rows = np.tile([1e308, -1e308], (3, 50))
    np.testing.assert_array_equal(fe.summarize(rows, iw_sizes=()).elbo, 0.0)
    row = np.zeros(1000)
    row[7] = -1e300
    assert fe.summarize(row).elbo_se == pytest.approx(1e297, rel=1e-12)
    assert fe.iw_elbo(row, 1).se == pytest.approx(1e297, rel=1e-12)
    assert fe.ess([0.0, -37.0, -40.0]) == 1.0


@pytest.mark.parametrize("size", [2, 100])
def test_a_sentinel_in_one_chunk_meets_ordinary_chunks(size):
    # Before, amid and after chunks whose moments need no scale.
    rng = np.random.default_rng(3)
    for place in (5, CHUNK + 5, 3 * CHUNK - 1):
        row = rng.normal(size=3 * CHUNK)
        row[place] = -1e300
        estimate = fe.summarize(row, iw_sizes=[size], pareto_k=False)
        assert estimate.elbo == pytest.approx(-1e300 / row.size, rel=1e-14)
        assert estimate.elbo_se == pytest.approx(1e300 / row.size, rel=1e-12)
        plain = fe.summarize(np.where(row < -1e9, -50.0, row), iw_sizes=[size], pareto_k=False)
        assert estimate.log_evidence == pytest.approx(plain.log_evidence, rel=1e-13)
        bound, expected = estimate.iw_elbo(size), plain.iw_elbo(size)
        assert bound.value == pytest.approx(expected.value, rel=1e-12)
        assert bound.se == pytest.approx(expected.se, rel=1e-12)


def test_groups_of_sentinels_alone():
    row = np.repeat([0.0, -1e300, 1.0, -1e308], 4)
    bound = fe.summarize(row, iw_sizes=[4], pareto_k=False).iw_elbo(4)
    value, error = mean_and_error(exact_row(row[::4])[0])
    assert bound.value == pytest.approx(float(value[0]), rel=1e-14)
    assert bound.se == pytest.approx(float(error[0]), rel=1e-12)
