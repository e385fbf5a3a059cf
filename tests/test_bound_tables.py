"""The bounds of an estimate side by side: numbers of the estimate, order, meaning."""

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, linear_gaussian

import fastelbo as fe

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

PRIOR = fe.Gaussian([0.0], scale=1.0)


def test_rows_are_those_of_the_estimate():
    est = fe.estimate(linear_gaussian([1.0, -0.5]), PRIOR, n_samples=1000, rng=0, iw_sizes=(50, 5))
    bounds = est.bounds()
    assert bounds.names == ("elbo", "iw_elbo(5)", "iw_elbo(50)", "log_evidence")
    want = [est.elbo, est.iw_elbo(5).value, est.iw_elbo(50).value, est.log_evidence]
    np.testing.assert_array_equal(bounds.value, want)
    want = [est.elbo_se, est.iw_elbo(5).se, est.iw_elbo(50).se, est.log_evidence_se]
    np.testing.assert_array_equal(bounds.se, want)
    np.testing.assert_array_equal(bounds.bias, est.relative_variance / 2000)


def test_rows_are_the_exact_bounds_in_rising_order():
    est = fe.estimate(linear_gaussian(), PRIOR, n_samples=10**6, rng=0)
    bounds = est.bounds()
    exact = [-1.91893853, -1.53494159, -1.51734391, -1.51551212]
    assert (np.abs(bounds.value[:, 0] - exact) < 4.0 * bounds.se[:, 0]).all()
    assert (np.diff(bounds.value[:, 0]) > 0.0).all()


def test_size_one_is_the_elbo_and_no_row_of_its_own():
    est = fe.estimate(linear_gaussian(), PRIOR, n_samples=100, rng=0, iw_sizes=(1, 10))
    assert est.bounds().names == ("elbo", "iw_elbo(10)", "log_evidence")


def test_printed_bounds_say_what_they_bound():
    text = str(fe.estimate(linear_gaussian(), PRIOR, n_samples=1000, rng=0).bounds())
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == [
        "elbo", "iw_elbo(10)", "iw_elbo(100)", "log_evidence",
    ]  # fmt: skip
    words = " ".join(text.split())
    assert "lower bounds in expectation" in words
    assert "from all K = 1000 draws" in words
    assert "too low by about v/2K (here up to 0.0" in words
    assert "no test of q" in words
    assert "a sampled CUBO is not" in words
    assert max(map(len, lines)) <= 100


@pytest.mark.statistical
def test_bias_stated_is_the_one_measured():
    # K = 100, v = .364 (ESS/K .733). The mean error of 100 000 estimates is -v / 2K = -.0018, with
    # a standard error of .0002.
    est = fe.estimate(linear_gaussian(np.ones(100_000)), PRIOR, n_samples=100, rng=0)
    error = est.log_evidence - -1.5155121234846454
    se = error.std() / np.sqrt(error.size)
    assert abs(error.mean() + est.bounds().bias.mean()) < 4.0 * se
    assert error.mean() < -4.0 * se


def test_first_data_points_are_shown_and_the_others_counted():
    est = fe.estimate(linear_gaussian(np.zeros(7)), PRIOR, n_samples=100, rng=0)
    text = str(est.bounds())
    assert " ".join(text.splitlines()[0].split()) == "point 0 point 1 point 2 point 3 point 4"
    assert "... 2 more data points" in text


@pytest.mark.parametrize(
    ("shape", "headings"), [((), "nats"), ((2, 2), "point 0,0 point 0,1 point 1,0 point 1,1")]
)
def test_any_batch(shape, headings):
    est = fe.summarize(np.random.default_rng(0).normal(size=(*shape, 100)))
    assert " ".join(str(est.bounds()).splitlines()[0].split()) == headings


def test_sums_without_draws_are_exact():
    model = fe.MixtureModel([[0.0]], fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0)))
    bounds = fe.estimate(model, fe.Categorical([1.0])).bounds()
    assert bounds.names == ("elbo", "log_evidence")
    assert "Summed without draws" in str(bounds)
    assert "CUBO" not in str(bounds)


def test_one_draw_has_no_known_bias():
    text = str(fe.estimate(PRIOR, PRIOR, n_samples=1, rng=0).bounds())
    assert "about v/2K, with v" in " ".join(text.split())


def test_no_data_points():
    bounds = fe.summarize(np.zeros((0, 100))).bounds()
    assert bounds.value.shape == (4, 0)
    assert "lower bounds" in str(bounds)
