"""What comes of a target standard error: bias, errors and coverage over many estimates."""

import math

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, lognormal

import fastelbo as fe

pytestmark = [pytest.mark.statistical, pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)]

TAU = 0.05


def repeats(variance, count):
    """Errors of many estimates for a target, in targets, and whether 95 % intervals cover."""
    p, q = lognormal(np.full(count, variance))
    est = fe.estimate(p, q, target_se=TAU, rng=41, iw_sizes=[], pareto_k=False)
    se = np.sqrt(est.relative_variance / est.n_samples)
    return est.log_evidence / TAU, np.abs(est.log_evidence) <= 1.959964 * se


@pytest.mark.parametrize(("variance", "least"), [(1.0, 0.935), (3.4, 0.935), (20.0, 0.915)])
def test_bias_error_and_coverage(variance, least):
    # Standard errors of the mean: .007; of the coverage: .0017.
    errors, covered = repeats(variance, 20_000)
    assert abs(errors.mean()) <= 0.05
    assert np.sqrt(np.square(errors).mean()) <= 1.3
    assert covered.mean() >= least


def test_quasi_random_draws_reach_their_target():
    count = 4000
    p = fe.Gaussian(np.zeros(2), scale=[1.0, 0.9])
    q = fe.Gaussian(np.full((count, 2), 0.3), scale=1.0)
    est = fe.estimate(p, q, target_se=0.004, rng=5, sampler="sobol", iw_sizes=[])
    interval = est.confidence_interval()
    covered = ((interval.low <= 0.0) & (interval.high >= 0.0)).mean()
    rms = np.sqrt(np.square(est.log_evidence).mean())
    assert rms <= 0.004
    assert 0.92 <= covered <= 0.97


@pytest.mark.parametrize("name", ["target_se", "target_total_se"])
def test_coverage_of_a_total(name):
    p, q = lognormal(np.linspace(0.5, 3.4, 40))
    target = {"target_se": 0.05, "target_total_se": 0.05 * math.sqrt(40)}[name]
    found = []
    for seed in range(1000):
        est = fe.estimate(p, q, rng=seed, iw_sizes=[], pareto_k=False, **{name: target})
        total = est.total()
        low, high = total.confidence_interval()
        found.append((total.log_evidence, total.log_evidence_se, low <= 0.0 <= high))
    value, se, covered = np.array(found).T
    assert 0.95 <= se.mean() / value.std() <= 1.05
    # The standard errors of a mean and of a share of 95 % are .03 and .007.
    assert abs(value.mean()) <= 0.12 * value.std()
    assert value.std() <= 1.1 * 0.05 * math.sqrt(40)
    assert 0.93 <= covered.mean() <= 0.97
