"""What quasi-random draws gain, and what their errors cover, against exact answers.

Means are over the data points of a batch and over keys: data points share the scrambles of a key.
"""

import functools
import math

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, linear_gaussian
from scipy.special import digamma, gammaln, polygamma

import fastelbo as fe
from fastelbo.demo import digits_model

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
long_or_short = pytest.mark.parametrize(
    "long",
    [
        pytest.param(False, marks=pytest.mark.statistical, id="short"),
        pytest.param(True, marks=pytest.mark.slow, id="long"),
    ],
)
REPLICATES = 16
WIDE, MARGINAL = 1.25, 1.1


@functools.cache
def digits(points, factor=WIDE):
    """A model of the first digits, and a diagonal q with so many marginal standard deviations."""
    model = digits_model(range(points))
    posterior = model.exact_posterior()
    marginal = np.sqrt(np.diagonal(posterior.cov, axis1=-2, axis2=-1))
    return model, fe.Gaussian(posterior.mean, scale=factor * marginal)


def precision_of(model, q):
    """The posterior's precision in units of q, that of one digit for all."""
    scale = np.diag(np.broadcast_to(q.scale, q.mean.shape)[0])
    cov = np.broadcast_to(model.exact_posterior().cov, (*q.mean.shape, q.dim))[0]
    return scale @ np.linalg.inv(cov) @ scale


def evidence_variance(model, q):
    """v of the weights of one draw: E w^2 - 1 by a Gaussian integral."""
    m = precision_of(model, q)
    log_second = np.linalg.slogdet(m)[1] - 0.5 * np.linalg.slogdet(2.0 * m - np.eye(q.dim))[1]
    return math.expm1(log_second)


def elbo_variance(model, q):
    """Variance of the log weight of one draw, a quadratic form of normals."""
    return 0.5 * np.square(precision_of(model, q) - np.eye(q.dim)).sum()


def run(model, q, n, seed, **options):
    given = {"iw_sizes": [], "pareto_k": False, "sampler": "sobol"} | options
    return fe.estimate(model, q, REPLICATES * n, rng=seed, **given)


def digits_ratios(transform, n, points, seeds):
    """Independent draws' exact variance over the mean squared error: evidence and ELBO."""
    model, q = digits(points)
    exact = model.exact_log_evidence()
    elbo = exact - fe.kl_divergence(q, model.exact_posterior())
    squares = np.zeros(2)
    for seed in range(seeds):
        est = run(model, q, n, seed, transform=transform)
        assert est.rotation == "exact"
        squares[0] += np.square(est.log_evidence - exact).mean() / seeds
        squares[1] += np.square(est.elbo - elbo).mean() / seeds
    variances = np.array([evidence_variance(model, q), elbo_variance(model, q)])
    return variances / (REPLICATES * n) / squares


@long_or_short
@pytest.mark.parametrize(
    ("transform", "n", "least"),
    [
        ("inverse", 256, 6), ("inverse", 1024, 17), ("inverse", 4096, 50),
        ("box_muller", 256, 50), ("box_muller", 1024, 120), ("box_muller", 4096, 160),
    ],
)  # fmt: skip
def test_variance_of_digits_falls(transform, n, least, long):
    points, seeds = (100, 50) if long else (20480 // n + 20, 4)
    evidence, elbo = digits_ratios(transform, n, points, seeds)
    assert evidence >= least
    if transform == "box_muller":
        assert elbo >= 100


def digits_errors(points, seeds, n=256):
    """rms error of the evidence, mean standard error, and iid draws for that error over ours."""
    model, q = digits(points)
    exact = model.exact_log_evidence()
    found = []
    for seed in range(seeds):
        est = run(model, q, n, seed)
        found.append([est.log_evidence - exact, est.log_evidence_se])
    errors, ses = np.swapaxes(found, 0, 1)
    rms = np.sqrt(np.square(errors).mean())
    return rms, ses.mean(), evidence_variance(model, q) / rms**2 / (REPLICATES * n)


@long_or_short
def test_error_is_as_it_says_and_draws_are_few(long):
    rms, se, fewer = digits_errors(200, 50 if long else 4)
    assert 0.9 <= se / rms <= 1.1
    assert fewer >= 40


def total_z(seeds, n=256):
    """(estimate - exact) / SE of the sum over all digits, a key each."""
    model, q = digits(1797)
    exact, z = model.exact_log_evidence().sum(), []
    for seed in range(seeds):
        total = run(model, q, n, seed).total()
        z.append((total.log_evidence - exact) / total.log_evidence_se)
    return np.array(z)


@pytest.mark.slow
def test_totals_of_all_digits():
    z = total_z(20)
    assert np.abs(z).max() <= 3.0
    # The mean of 20 has a standard error of .22, a root mean square one of .16.
    assert abs(z.mean()) <= 4.5 * 0.22
    assert 1.0 - 2.5 * 0.16 <= np.sqrt(np.square(z).mean()) <= 1.0 + 4.5 * 0.16


@pytest.mark.statistical
def test_totals_of_all_digits_of_fewer_keys():
    assert np.abs(total_z(4, n=64)).max() <= 3.0


# --- bounds of groups ---------------------------------------------------------------------------


def bound_errors(n, points, seeds):
    """(2, draws, 2): errors of iw_elbo(2) and (10), x = 1, of quasi-random and iid draws."""
    truth = np.array([-1.65347379, -1.53494159])
    model, prior = linear_gaussian(np.ones(points)), fe.Gaussian([0.0], scale=1.0)
    found = []
    for sampler in ("sobol", "iid"):
        parts = []
        for seed in range(seeds):
            est = run(model, prior, n, seed, sampler=sampler, iw_sizes=[2, 10])
            parts.append(np.stack([est.iw_elbo(k).value for k in (2, 10)], axis=-1) - truth)
        found.append(np.concatenate(parts))
    return np.array(found)


def pair_variances():
    """Variance of log((w + w') / 2) of two draws, and of what is no sum of functions of each."""
    x, share = np.polynomial.hermite_e.hermegauss(120)
    share = share / share.sum()
    logs = -0.5 * math.log(2.0 * math.pi) - 0.5 * np.square(1.0 - x)
    values = np.logaddexp(logs[:, None], logs) - math.log(2.0)
    mean, along = share @ values @ share, values @ share
    whole = share @ np.square(values - mean) @ share
    return whole, whole - 2.0 * (share @ np.square(along - mean))


@long_or_short
@pytest.mark.parametrize("n", [256, 1024, 4096])
def test_bounds_of_groups_are_unbiased_and_better(n, long):
    points, seeds = (200, 10) if long else (102_400 // n, 4)
    errors = bound_errors(n, points, seeds)
    mean, deviation = errors.mean(axis=1), errors.std(axis=1)
    # The standard error of a mean is 1 / sqrt(count) of the deviation, and of it 1 / sqrt(2 count).
    count = points * seeds
    assert (np.abs(mean) <= 4.5 * deviation / math.sqrt(count)).all()
    # Even points leave of a pair what is no sum of functions of each: 2.76 times less.
    whole, rest = pair_variances()
    pairs = REPLICATES // 2 * n
    slack = 1.0 + 4.5 / math.sqrt(2.0 * count)
    np.testing.assert_array_less(deviation[0, 0], slack * math.sqrt(rest / pairs))
    np.testing.assert_array_less(math.sqrt(whole / pairs) / slack, deviation[1, 0])
    assert deviation[1, 1] >= 3.0 * deviation[0, 1]


# --- coverage -----------------------------------------------------------------------------------


def digits_coverage(factor, transform, n, repeats, points=50):
    """Share of 95 % intervals that hold the exact evidence."""
    model, q = digits(points, factor)
    exact, held = model.exact_log_evidence(), []
    for seed in range(repeats // points):
        est = run(model, q, n, seed, transform=transform, pareto_k=True)
        low, high = est.confidence_interval()
        held.append((low <= exact) & (exact <= high))
    return np.mean(held)


@long_or_short
@pytest.mark.parametrize("n", [256, 1024])
@pytest.mark.parametrize(
    ("factor", "transform", "least"),
    [
        (WIDE, "box_muller", 0.935), (WIDE, "inverse", 0.935),
        (MARGINAL, "inverse", 0.935), (MARGINAL, "box_muller", 0.92),
    ],
)  # fmt: skip
def test_coverage_of_digits(factor, transform, n, least, long):
    repeats = 4000 if long else 256_000 // n
    error = 0.0 if long else math.sqrt(0.95 * 0.05 / repeats)
    covered = digits_coverage(factor, transform, n, repeats)
    assert least - error <= covered <= 0.965 + error


@long_or_short
@pytest.mark.parametrize("transform", ["box_muller", "inverse"])
@pytest.mark.parametrize("scale", [0.95, 0.85, 0.75])
@pytest.mark.parametrize("dim", [1, 2, 5, 10])
def test_coverage_where_q_is_narrower(dim, scale, transform, long):
    # Student's t alone covers 82 % at k = 0.36 in one dimension.
    repeats = 4000 if long else 1000
    p, mean = fe.Gaussian(np.zeros(dim), scale=1.0), np.zeros((repeats, dim))
    q = fe.Gaussian(mean, scale=scale)
    est = fe.estimate(p, q, rng=7, sampler="sobol", transform=transform, iw_sizes=())
    low, high = est.confidence_interval()
    error = 2.0 * math.sqrt(0.91 * 0.09 / repeats)
    assert ((low <= 0.0) & (high >= 0.0)).mean() >= 0.91 - error


# --- rotations from a pilot -----------------------------------------------------------------------


def turned(dim):
    return np.linalg.qr(np.random.default_rng(7).normal(size=(dim, dim)))[0]


def off_centre(dim):
    """A Gaussian whose mean is .45 off N(0, I), and the relative variance of its weights."""
    basis, d = turned(dim), np.arange(dim)
    variances = np.clip(0.8 + 0.5 * (-1.0) ** (d + 1) * np.exp(-d / 3.0), 0.3, 1.25)
    along = np.zeros(dim)
    along[:2] = 0.4, 0.2
    excess = 2.0 / variances - 1.0
    # E w^2 = prod of the integrals of p(y)^2 / N(y; 0, 1).
    log_second = along**2 / (variances * excess) - np.log(variances) - 0.5 * np.log(excess)
    target = fe.Gaussian(basis @ along, cov=(basis * variances) @ basis.T)
    return target, math.expm1(log_second.sum())


def log_gammas(z, basis, start, spread, constant):
    """Log density of independent log-gamma(6) variables in turned coordinates."""
    total = constant
    for d in range(len(start)):
        y = start[d]
        for j in range(len(start)):
            y += spread * z[j] * basis[j, d]
        total += 6.0 * y - math.exp(y)
    return total


def skewed(dim):
    spread = math.sqrt(1.2 * polygamma(1, 6.0))
    constant = dim * (math.log(spread) - gammaln(6.0))
    start = np.full(dim, digamma(6.0))
    params = turned(dim), start, spread, constant
    return fe.Model(log_joint=log_gammas, dim=dim, params=params)


def replicate_errors(target, dim, points, seeds, n=1024, **options):
    """Relative errors of evidences, which are 1, each from n draws of one replicate."""
    q, found = fe.Gaussian(np.zeros((points, dim)), scale=1.0), []
    for seed in range(seeds):
        logs = fe.log_weights(target, q, REPLICATES * n, rng=seed, **options)
        found.append(np.exp(logs).reshape(points * REPLICATES, n).mean(axis=-1) - 1.0)
    return np.concatenate(found)


@long_or_short
@pytest.mark.parametrize("transform", ["box_muller", "inverse"])
@pytest.mark.parametrize(("dim", "least"), [(5, 50), (10, 15), (20, 4), (50, 0.8)])
def test_a_pilot_cuts_the_variance_of_a_mean_off(dim, least, transform, long, monkeypatch):
    # The target is a Gaussian, whose eigenvectors would be known.
    monkeypatch.setattr("fastelbo.engine.rotation.exact_rotation", lambda *args: None)
    target, variance = off_centre(dim)
    points, seeds = (16, 16) if long else (4, 4 if dim < 50 else 2)
    errors = replicate_errors(target, dim, points, seeds, sampler="sobol", transform=transform)
    assert variance / 1024 / np.square(errors).mean() >= least


def skewed_errors(dim, points, seeds, transform):
    """Of independent draws, of rotated and of other quasi-random draws."""
    target = skewed(dim)
    given = {"sampler": "sobol", "transform": transform}
    return [
        replicate_errors(target, dim, points, seeds, **options)
        for options in ({}, given, given | {"rotate": False})
    ]


@long_or_short
@pytest.mark.parametrize("transform", ["box_muller", "inverse"])
@pytest.mark.parametrize("dim", [10, 50])
def test_a_skewed_target_loses_nothing(dim, transform, long):
    # The weights have no variance. So errors are bounded by 1: a rare draw of a weight of a
    # thousand, as likely with any sampler, would be the mean square.
    points, seeds = (16, 16) if long else (4, 6)
    independent, rotated, other = skewed_errors(dim, points, seeds, transform)
    for mean in (lambda e: np.minimum(np.square(e), 1.0).mean(), lambda e: np.median(abs(e)) ** 2):
        assert mean(independent) >= 0.8 * mean(rotated)
        assert mean(independent) >= 0.8 * mean(other)
