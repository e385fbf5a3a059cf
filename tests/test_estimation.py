"""Estimates: parity of backends, exact answers, invariances, totals, memory."""

import os
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import scipy.stats as st
from cases import CASES, linear, plain
from helpers import IGNORE_DIAGNOSTICS, bits, linear_gaussian, quiet

import fastelbo as fe
from fastelbo import reference
from fastelbo.engine import cpu as engine_cpu
from fastelbo.engine import reference as engine_reference
from fastelbo.engine import states
from fastelbo.engine.lower_tails import LARGEST_SHARE
from fastelbo.kernels.cpu import launch
from fastelbo.kernels.draws.blocks import CHUNK
from fastelbo.weights import diagnostics
from fastelbo.weights.pareto import draws_needed, k_threshold, kept_draws
from fastelbo.weights.tail_intervals import tail_interval

MILLION = 10**6
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
ignore_diagnostics = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)


def caught(function, *args, **kwargs):
    """The result of the call, and the categories of its warnings."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = function(*args, **kwargs)
    return result, {warning.category for warning in found}


# --- parity -----------------------------------------------------------------------------------


@each_case
def test_terms_of_both_backends(case):
    model, q = case()
    batch = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    got = fe.elbo_terms(model, q, 700, rng=1, backend="cpu")
    expected = fe.elbo_terms(model, q, 700, rng=1, backend="numpy")
    scale = 1.0 + np.abs(expected.log_weights)
    for name in (*got._fields, "log_weights"):
        a, b = getattr(got, name), getattr(expected, name)
        assert a.shape == b.shape == (*batch, 700)
        assert (np.abs(a - b) <= 1e-9 * scale).all(), name


@each_case
def test_estimates_of_both_backends(case):
    model, q = case()
    options = {"n_samples": 1000, "rng": 1, "iw_sizes": [1, 7, 100, 600]}
    got, got_warnings = caught(fe.estimate, model, q, backend="cpu", **options)
    expected, expected_warnings = caught(fe.estimate, model, q, backend="numpy", **options)
    assert got_warnings == expected_warnings
    assert got.batch_shape == np.broadcast_shapes(model.batch_shape, q.batch_shape)
    assert got.iw_sizes == (7, 100, 600)
    for name, value in expected.to_dict().items():
        np.testing.assert_allclose(
            got.to_dict()[name], value, rtol=1e-8, atol=1e-9, strict=True, err_msg=name
        )


@each_case
@ignore_diagnostics
def test_elbo_is_likelihood_minus_kl(case):
    est = fe.estimate(*case(), 600, rng=2)
    difference = est.expected_log_likelihood - est.kl
    scale = np.abs(est.expected_log_likelihood) + np.abs(est.kl)
    np.testing.assert_allclose(est.elbo, difference, atol=1e-14 * scale.max())
    np.testing.assert_array_equal(est.jensen_gap, est.log_evidence - est.elbo)
    np.testing.assert_array_equal(est.iw_elbo(1), (est.elbo, est.elbo_se))
    assert (est.elbo <= est.iw_elbo(10).value).all()
    assert (est.iw_elbo(10).value <= est.log_evidence + 1e-12 * scale).all()


@ignore_diagnostics
@pytest.mark.parametrize("case", ["every_batch", "plain_t", "small_noise", "prior_batch"])
def test_estimate_is_a_summary_of_the_same_draws(case):
    # More than two chunks, and a block that is not full.
    model, q = CASES[case]()
    n_samples = 2 * CHUNK + 700
    est = fe.estimate(model, q, n_samples, rng=3, iw_sizes=[10, 513])
    terms = fe.elbo_terms(model, q, n_samples, rng=3)
    expected = reference.summaries(*(t.reshape(-1, n_samples) for t in terms), [10, 513])
    for size, (value, se) in expected.pop("iw").items():
        expected[f"iw_elbo_{size}"], expected[f"iw_elbo_{size}_se"] = value, se
    expected["pareto_k"] = fe.pareto_k(terms.log_weights).reshape(-1)
    for name in ("log_evidence_se", "jensen_gap_se"):
        expected[name][expected["pareto_k"] > k_threshold(n_samples)] = np.nan
    # Means lose their errors by the k-hats of their own terms.
    tails = {
        "elbo": -terms.log_weights,
        "kl": terms.log_q - terms.log_prior,
        "expected_log_likelihood": -terms.log_likelihood,
    }
    for name, values in tails.items():
        rows = np.sort(values.reshape(-1, n_samples))[:, ::-1]
        tails[name] = reference.plain_pareto_k(rows[:, : kept_draws(n_samples)])
    share = reference.largest_share(terms.log_weights.reshape(-1, n_samples))
    tails["elbo"][~(share > LARGEST_SHARE)] = np.nan
    expected["pareto_k_elbo"] = tails["elbo"]
    heavy = tails["elbo"] > k_threshold(n_samples)
    expected["jensen_gap_se"][heavy] = np.nan
    for name, k in tails.items():
        expected[f"{name}_se"][heavy & (k > k_threshold(n_samples))] = np.nan
    for size in (10, 513):
        expected[f"iw_elbo_{size}_se"][heavy & (tails["elbo"] / size > k_threshold(n_samples))] = (
            np.nan
        )
    for name, value in est.to_dict().items():
        np.testing.assert_allclose(np.ravel(value), expected[name], rtol=1e-8, err_msg=name)
    np.testing.assert_array_equal(fe.log_weights(model, q, 20, rng=3), terms.log_weights[..., :20])


def test_terms_are_the_densities_of_the_draws():
    _, q = CASES["plain_mixture"]()
    draws = np.moveaxis(q.sample(300, rng=4), 0, -2)
    terms = fe.elbo_terms(fe.Gaussian(np.zeros(5), scale=3.0), q, 300, rng=4)
    np.testing.assert_allclose(terms.log_q, q.log_prob(draws), rtol=1e-12)
    expected = fe.Gaussian(np.zeros(5), scale=3.0).log_prob(draws)
    np.testing.assert_allclose(terms.log_prior, expected, rtol=1e-12)
    assert (terms.log_likelihood == 0.0).all()


# --- exact answers ----------------------------------------------------------------------------

PRIOR_Q = fe.Gaussian([0.0], scale=1.0)
NEAR_Q = fe.Gaussian([0.4], scale=0.4**0.5)
IW_BOUNDS = {  # at x = 1: with q = N(0, 1), and with q = N(.4, variance .4)
    1: (-1.91893853, -1.53708390),
    2: (-1.65347379, -1.52827771),
    5: (-1.55741058, -1.52139426),
    10: (-1.53494159, -1.51864144),
    50: (-1.51919852, -1.51617766),
    100: (-1.51734391, -1.51584791),
    1000: (-1.51569429, -1.51554599),
}


def assert_within(value, se, truth, z=4.5):
    """Check that a value is within z standard errors of the truth, up to the truth's digits."""
    assert (np.abs(value - truth) <= z * se + 1e-8).all(), (value, se, truth)


@pytest.fixture(scope="module", params=[0, 1], ids=["prior", "near"])
def bounded(request):
    q = (PRIOR_Q, NEAR_Q)[request.param]
    est = fe.estimate(linear_gaussian(), q, MILLION, rng=5, iw_sizes=IW_BOUNDS)
    return est, {k: pair[request.param] for k, pair in IW_BOUNDS.items()}


@pytest.mark.parametrize("k", IW_BOUNDS)
def test_known_bounds(bounded, k):
    # Catches errors of .003 to .005 nats with q = N(0, 1), and of .001 with the other q.
    est, truth = bounded
    assert_within(*est.iw_elbo(k), truth[k])


def test_known_evidence(bounded):
    # Catches errors of .003 and .001 nats.
    est, truth = bounded
    assert_within(est.log_evidence, est.log_evidence_se, -1.5155121234846454)
    assert_within(est.elbo, est.elbo_se, truth[1])
    assert_within(est.jensen_gap, est.jensen_gap_se, -1.5155121234846454 - truth[1])


def test_known_elbo_and_ess():
    est = fe.estimate(linear_gaussian(), PRIOR_Q, MILLION, rng=6)
    assert_within(est.elbo, est.elbo_se, -1.9189385332046727)
    assert_within(est.expected_log_likelihood, est.expected_log_likelihood_se, -1.9189385332046727)
    # ESS/K of 10^6 draws has a standard error of about .0004.
    assert est.ess[0] / MILLION == pytest.approx(0.73307, abs=0.002)
    assert est.ess[0] == pytest.approx(MILLION / (1.0 + est.relative_variance[0]), rel=1e-5)


# The ELBO under a q of 3 degrees of freedom has no variance, of which a warning tells.
@pytest.mark.filterwarnings("ignore:k-hat of the log weights")
@pytest.mark.parametrize(
    ("model", "truth"),
    [
        (
            fe.LinearGaussian(
                [1.0],
                [[1.0]],
                noise_cov=1.0,
                prior=fe.Mixture([0.5, 0.5], fe.Gaussian([[-3.0], [3.0]], scale=1.0)),
            ),
            -2.9100719524708487,
        ),
        (fe.LinearGaussian([1.0, -1.0], [[1.0], [2.0]], noise_cov=0.5), -4.161859340430404),
    ],
    ids=["mixture prior", "two features"],
)
@pytest.mark.parametrize("q", ["gaussian", "t", "mixture"])
def test_known_evidence_of_other_models(model, truth, q):
    # q is wide, so that every weight is bounded. Catches errors of .01 nats.
    wide = {
        "gaussian": fe.Gaussian([0.0], scale=2.5),
        "t": fe.StudentT(3.0, [0.0], scale=1.5),
        "mixture": fe.Mixture([0.5, 0.5], fe.Gaussian([[-2.5], [2.5]], scale=1.5)),
    }[q]
    est = fe.estimate(model, wide, MILLION, rng=7)
    assert_within(est.log_evidence, est.log_evidence_se, truth)


@pytest.mark.parametrize("variance", [2.0, 1.2, 0.9])
@pytest.mark.parametrize("dim", [1, 3])
def test_width(dim, variance):
    # ESS/K -> prod sqrt(2 s^2 - 1) / s^2, at K = 10^6 with a standard error below .2%.
    p = fe.Gaussian(np.zeros(dim), scale=1.0)
    q = fe.Gaussian(np.zeros(dim), scale=variance**0.5)
    est = fe.estimate(p, q, MILLION, rng=8)
    assert_within(est.log_evidence, est.log_evidence_se, 0.0)
    assert_within(est.elbo, est.elbo_se, -float(fe.kl_divergence(q, p)))
    expected = ((2.0 * variance - 1.0) ** 0.5 / variance) ** dim
    assert est.ess / MILLION == pytest.approx(expected, rel=0.01)


LINEAR = {name: case for name, case in CASES.items() if not name.startswith("plain")}


@pytest.mark.parametrize("case", LINEAR.values(), ids=LINEAR.keys())
def test_exact_posterior_gives_equal_weights(case):
    model, _ = case()
    truth, posterior = model.exact_log_evidence(), model.exact_posterior()
    log_weights = fe.log_weights(model, posterior, 600, rng=9)
    # Room for the rounding of the terms. They are far larger at a noise variance of 1e-6.
    tolerance = 1e-10 * (1.0 + np.abs(truth))
    assert (np.abs(log_weights - truth[..., None]) <= tolerance[..., None]).all()


def test_estimate_with_the_exact_posterior():
    model, _ = linear("diagonal", "gaussian", dim=5, features=8, model_batch=(3,))
    truth = model.exact_log_evidence()
    with pytest.warns(fe.errors.ConstantWeightsWarning, match="3 of 3 data points"):
        est = fe.estimate(model, model.exact_posterior(), 5000, rng=10)
    for value in (est.log_evidence, est.elbo, *(est.iw_elbo(k).value for k in est.iw_sizes)):
        np.testing.assert_allclose(value, truth, rtol=1e-10)
    for name in ("log_evidence_se", "elbo_se", "jensen_gap_se"):
        np.testing.assert_allclose(getattr(est, name), 0.0, atol=1e-10)
    np.testing.assert_allclose(est.ess, 5000, rtol=1e-10)


def test_standard_errors_are_the_spread_of_repeats():
    # 4000 data points with one x: each standard error is within 5 of its own errors, of 1.1% each.
    with quiet():
        # By chance, the k-hat of 2 of them is too high.
        est = fe.estimate(linear_gaussian(np.ones(4000)), NEAR_Q, 1000, rng=11)
    for name in ("log_evidence", "elbo", "expected_log_likelihood", "kl", "jensen_gap"):
        spread = getattr(est, name).std(ddof=1)
        typical = np.sqrt(np.nanmean(getattr(est, f"{name}_se") ** 2))
        assert typical == pytest.approx(spread, rel=0.06), name
    value, se = est.iw_elbo(10)
    assert np.sqrt((se**2).mean()) == pytest.approx(value.std(ddof=1), rel=0.06)


# --- invariances ------------------------------------------------------------------------------

# A batch size that is no multiple of anything, and several chunks.
SEVERAL = {
    "linear": lambda: linear("full", "mixture", "full", dim=3, model_batch=(5,), q_batch=(5,)),
    "student": lambda: plain("mixture_full", "mixture_t", model_batch=(5,)),
}
N_SAMPLES = 3 * CHUNK + 1234


@pytest.fixture(scope="module", params=SEVERAL, ids=str)
def whole(request):
    """A case, and its estimate with default options."""
    model, q = SEVERAL[request.param]()
    return model, q, caught(fe.estimate, model, q, N_SAMPLES, rng=12)[0]


@ignore_diagnostics
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_threads_change_no_bit(whole, n_threads):
    model, q, expected = whole
    before = numba.get_num_threads()
    got = fe.estimate(model, q, N_SAMPLES, rng=12, n_threads=n_threads)
    assert bits(got) == bits(expected)
    assert numba.get_num_threads() == before
    terms = fe.elbo_terms(model, q, 1500, rng=12, n_threads=n_threads)
    np.testing.assert_array_equal(terms, fe.elbo_terms(model, q, 1500, rng=12))


def set_slices(monkeypatch, size, seconds):
    monkeypatch.setattr(launch, "_SLICE_SECONDS", seconds)
    monkeypatch.setattr(launch, "_PART_WORK", max(size, 1000))
    monkeypatch.setattr(engine_cpu, "SLICE_NUMBERS", size)
    monkeypatch.setattr(engine_cpu, "_FIRST_WORK", size)


@ignore_diagnostics
@pytest.mark.parametrize(("size", "seconds"), [(1, 1e-9), (3 * 10**6, 1e-3), (2**62, 1e9)])
def test_slices_change_no_bit(whole, monkeypatch, size, seconds):
    model, q, expected = whole
    terms, draws = fe.elbo_terms(model, q, 600, rng=12), q.sample(600, rng=12)
    density = q.log_prob(draws)
    set_slices(monkeypatch, size, seconds)
    assert bits(fe.estimate(model, q, N_SAMPLES, rng=12)) == bits(expected)
    np.testing.assert_array_equal(fe.elbo_terms(model, q, 600, rng=12), terms)
    np.testing.assert_array_equal(q.sample(600, rng=12), draws)
    np.testing.assert_array_equal(q.log_prob(draws), density)


class Bar:
    """Stands in for tqdm's bar, and adds up what it is told."""

    def __init__(self, total, **_):
        Bar.total, Bar.done = total, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, count):
        Bar.done += count


@ignore_diagnostics
@pytest.mark.parametrize("size", [1, 2**62])
def test_progress_changes_no_bit_and_counts_every_draw(whole, monkeypatch, size):
    model, q, expected = whole
    set_slices(monkeypatch, size, 1e-9)
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    assert bits(fe.estimate(model, q, N_SAMPLES, rng=12, progress=True)) == bits(expected)
    assert Bar.done == Bar.total == 5 * N_SAMPLES


def test_progress_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.warns(fe.errors.FastElboWarning, match="tqdm is not installed"):
        est = fe.estimate(linear_gaussian(), NEAR_Q, 5000, rng=0, progress=True)
    assert bits(est) == bits(fe.estimate(linear_gaussian(), NEAR_Q, 5000, rng=0))


@ignore_diagnostics
def test_minibatches_change_no_bit():
    model, q = SEVERAL["linear"]()
    expected = fe.estimate(model, q, N_SAMPLES, rng=12).to_dict()
    fields = {name: [] for name in expected if name != "n_samples"}
    for rows in (slice(0, 2), slice(2, 5)):
        part = fe.LinearGaussian(
            model.x[rows],
            model.loadings,
            noise_cov=model.noise_cov,
            offset=model.offset,
            prior=model.prior,
        )
        own = fe.Gaussian(q.mean[rows], scale_tril=q.scale_tril[rows])
        est = fe.estimate(part, own, N_SAMPLES, rng=12, first_index=rows.start)
        for name, values in fields.items():
            values.append(est.to_dict()[name])
    for name, values in fields.items():
        np.testing.assert_array_equal(np.concatenate(values), expected[name])


@ignore_diagnostics
def test_concurrent_calls(whole):
    model, q, expected = whole
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(fe.estimate, model, q, N_SAMPLES, rng=12) for _ in range(10)]
    assert {str(bits(job.result())) for job in jobs} == {str(bits(expected))}


FORK = """
import os, sys
import fastelbo as fe

def evidence():
    model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    return fe.estimate(model, fe.Gaussian([0.4], scale=0.6), 20_000, rng=0).log_evidence.tobytes()

before = evidence()
if (child := os.fork()) == 0:
    os._exit(0 if evidence() == before else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run_python(script, *args, **environment):
    """Run a script in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *args],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_works():
    run_python(FORK)


@pytest.mark.parametrize("kind", ["gaussian", "t"])
def test_without_a_compiler(kind):
    q = (
        "fe.StudentT(1.5, [0.4, 0.0], scale=0.7)"
        if kind == "t"
        else "fe.Gaussian([0.4, 0.0], scale=0.7)"
    )
    script = f"""
import fastelbo as fe
import numpy as np
model = fe.LinearGaussian([[1.0, 2.0, 0.0]], [[1.0, 0.0], [0.5, 1.0], [0.0, 1.0]], noise_cov=1.0)
got = fe.estimate(model, {q}, 40, rng=0, iw_sizes=[3])
expected = fe.estimate(model, {q}, 40, rng=0, iw_sizes=[3], backend="numpy")
for name, value in expected.to_dict().items():
    assert np.allclose(got.to_dict()[name], value, 1e-9, 1e-9, equal_nan=True), name
"""
    run_python(script, NUMBA_DISABLE_JIT="1")


# --- analytic KL --------------------------------------------------------------------------------


@ignore_diagnostics
def test_analytic_kl():
    model, q = linear("full", "gaussian", dim=3, model_batch=(4,))
    sampled = fe.estimate(model, q, 5000, rng=13)
    est = fe.estimate(model, q, 5000, rng=13, analytic_kl=True)
    np.testing.assert_array_equal(est.kl, np.full(4, fe.kl_divergence(q, model.prior)))
    assert (est.kl_se == 0.0).all()
    np.testing.assert_array_equal(est.elbo, est.expected_log_likelihood - est.kl)
    np.testing.assert_array_equal(est.elbo_se, est.expected_log_likelihood_se)
    assert (np.abs(est.elbo - sampled.elbo) <= 4.5 * sampled.kl_se).all()
    # The bound of one draw and the gap still use the sampled ELBO.
    np.testing.assert_array_equal(est.iw_elbo(1), sampled.iw_elbo(1))
    for name in ("log_evidence", "log_evidence_se", "jensen_gap", "jensen_gap_se", "ess"):
        np.testing.assert_array_equal(getattr(est, name), getattr(sampled, name))


@ignore_diagnostics
def test_analytic_kl_of_a_plain_distribution():
    model, q = CASES["plain_gaussian"]()
    est = fe.estimate(model, q, 100, rng=0, analytic_kl=True)
    np.testing.assert_array_equal(est.elbo, -fe.kl_divergence(q, model))
    assert (est.elbo_se == 0.0).all()


# --- warnings -----------------------------------------------------------------------------------


def test_low_ess_is_told_once_with_the_worst():
    model = fe.Gaussian([[0.0], [5.0], [1.0], [8.0]], scale=1.0)
    with pytest.warns(
        fe.errors.LowESSWarning, match=r"2 of 4 data points \(worst: 3, 1\)"
    ) as found:
        fe.estimate(model, fe.Gaussian([0.0], scale=2.0), 1000, rng=14, pareto_k=False)
    assert len(found) == 1
    assert found[0].filename == __file__


@pytest.mark.parametrize("size", [3, 5, 80, 81, 400])
@pytest.mark.parametrize("kind", ["normal", "ties", "few numbers", "zeros"])
def test_the_worst_of_many_are_those_of_a_sort(size, kind):
    rng = np.random.default_rng(size)
    values = rng.normal(size=size)
    if kind == "ties":
        values = np.round(values)
    elif kind == "few numbers":
        values[rng.random(size) < 0.99] = np.nan
    elif kind == "zeros":
        values = np.where(values > 0.0, 0.0, -0.0)
    worst = np.argsort(-values, kind="stable")[:5]
    text = diagnostics.places(np.ones(size, dtype=bool), values)
    assert f"(worst: {', '.join(map(str, worst))})" in text


def test_high_k_is_told_once_and_leaves_no_standard_error():
    model = fe.Gaussian([[0.0], [5.0], [1.0], [8.0]], scale=1.0)
    with pytest.warns(fe.errors.HighParetoKWarning) as found:
        est = fe.estimate(model, fe.Gaussian([0.0], scale=2.0), 1000, rng=14)
    # The effective sample size is low too, but that needs no second warning.
    assert len(found) == 1
    assert found[0].filename == __file__
    message = str(found[0].message)
    assert "exceeds 0.67, the limit for 1000 draws, for 2 of 4 data points (worst: 3, 1)" in message
    assert "no number of draws is enough" in message
    high = [1, 3]
    assert (est.pareto_k[high] > 0.67).all()
    for name in ("log_evidence_se", "jensen_gap_se"):
        np.testing.assert_array_equal(np.isnan(getattr(est, name)), [False, True, False, True])
    assert np.isfinite(est.log_evidence).all()
    assert np.isfinite(est.elbo_se).all()
    assert "For 2 of them the draws cannot tell whether the weights have a mean: log_evi" in message
    for quantity in ("log_evidence", "jensen_gap"):
        low, high = est.confidence_interval(quantity)
        assert np.isfinite(low).all()
        np.testing.assert_array_equal(np.isinf(high), [False, True, False, True])
    np.testing.assert_array_equal(est.min_draws, draws_needed(est.pareto_k))
    rows = est.summary().splitlines()
    assert f"> {est.confidence_interval().low[1]:.1f}" in rows[2]
    assert " > " not in rows[1]
    total = est.total()
    assert total.n_points == 4
    assert total.uncorrected_log_evidence == est.log_evidence.sum()
    assert np.isnan(total.log_evidence_se)
    low, high = total.confidence_interval("log_evidence", 0.9)
    assert low == pytest.approx(est.log_evidence.sum() + np.log(0.1))
    assert high == np.inf


def test_the_draws_that_the_worst_needs_are_told():
    q = fe.Gaussian([0.0], scale=0.45)
    with pytest.warns(fe.errors.HighParetoKWarning, match=r"1 of 1 .*the worst is 0\.\d\d: above"):
        est = fe.estimate(fe.Gaussian([0.0], scale=1.0), q, 4000, rng=1)
    assert est.min_draws > 4000


@pytest.mark.parametrize("n", [25, 100, 640, 1000, 2000, 2154, 2155, 5000, 10**6])
def test_no_warning_names_draws_that_are_there_already(n):
    threshold = k_threshold(n)
    above = np.concatenate([
        np.nextafter(threshold, 1.0) + np.geomspace(1e-15, 1.0, 200), [0.7, 0.72, 1.0, 5.0, np.inf]
    ])  # fmt: skip
    for k in above[above > threshold]:
        with pytest.warns(fe.errors.HighParetoKWarning) as met:
            diagnostics.warn_high_k(np.array([k]), np.array([True]), n, "so")
        message = str(met[0].message)
        named = re.search(r"the worst, [\d.]+, needs (\d+) draws", message)
        assert (named is not None) == (k <= 0.7)
        if named:
            assert int(named[1]) > n
            assert int(named[1]) == pytest.approx(draws_needed(k), rel=0.11)
        else:
            assert ("no number of draws is enough" if k >= 1.0 else "help slowly") in message
            assert "q should change" in message


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_too_few_draws_for_k_hat(backend):
    with pytest.warns(fe.errors.ShortTailWarning, match="k-hat cannot be computed from 20") as met:
        est = fe.estimate(linear_gaussian(), NEAR_Q, 20, rng=0, backend=backend)
    assert len(met) == 1
    assert np.isnan(est.pareto_k).all()
    assert np.isfinite(est.log_evidence_se).all()
    with quiet():
        est = fe.estimate(linear_gaussian(), NEAR_Q, 21, rng=0, backend=backend)
    assert np.isfinite(est.pareto_k).all()


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_without_pareto_k(backend):
    model, q = CASES["every_batch"]()
    options = {"rng": 0, "backend": backend}
    with quiet():
        est = fe.estimate(model, q, 1000, pareto_k=False, **options)
        expected = fe.estimate(model, q, 1000, **options)
    assert np.isnan(est.pareto_k).all()
    assert np.isnan(est.min_draws).all()
    assert est._tail is None
    assert expected._tail.shape == (*est.batch_shape, 96)
    error = np.sqrt(est.relative_variance / 1000)
    np.testing.assert_allclose(est.log_evidence_se, error, rtol=1e-12)
    got, want = est.to_dict(), expected.to_dict()
    assert np.isnan(got.pop("pareto_k_elbo")).all()
    for name in set(got) - {"pareto_k"}:
        # Without k-hats no error is withheld.
        assert np.isfinite(got[name]).all()
        kept = np.isfinite(want[name])
        assert kept.all() or name.endswith("_se")
        np.testing.assert_array_equal(np.asarray(got[name])[kept], np.asarray(want[name])[kept])


def test_tails_that_would_fill_the_memory_are_not_kept(monkeypatch):
    model = linear_gaussian([1.0, 2.0])
    expected = fe.estimate(model, NEAR_Q, 1000, rng=0)
    monkeypatch.setattr(states, "_TAIL_BYTES", 1000)
    est = fe.estimate(model, NEAR_Q, 1000, rng=0)
    assert bits(est) == bits(expected)
    assert est._tail is None
    low, high = est.confidence_interval("log_evidence")
    np.testing.assert_allclose(high - low, 2 * st.norm.ppf(0.975) * est.log_evidence_se)


def test_streamed_tails_are_those_of_the_whole():
    # More draws than are ever kept, in chunks; the first chunk has the largest weights.
    model, q = CASES["plain_t"]()
    n_samples = 2_000_000
    with quiet():
        est = fe.estimate(model, q, n_samples, rng=1, iw_sizes=[])
    log_weights = np.sort(fe.log_weights(model, q, n_samples, rng=1), axis=-1)
    assert est._tail.shape[-1] == 4096
    np.testing.assert_array_equal(est._tail, log_weights[:, :-4097:-1])


def test_all_weights_zero():
    # At every draw of the second data point, the density of p is 0 by overflow of its exponent.
    model = fe.Gaussian([[0.0], [0.0]], scale=[[1.0], [1e-200]])
    with pytest.warns(fe.errors.AllWeightsZeroWarning, match=r"1 of 2 data points \(worst: 1\)"):
        est = fe.estimate(model, fe.Gaussian([0.0], scale=1.5), 1000, rng=15)
    assert est.log_evidence[1] == -np.inf
    assert est.elbo[1] == -np.inf
    assert est.kl[1] == np.inf
    assert est.ess[1] == 0.0
    assert est.n_zero.tolist() == [0.0, 1000.0]
    assert np.isnan(est.log_evidence_se[1])
    assert np.isnan(est.elbo_se[1])
    assert np.isfinite(est.log_evidence[0])


@ignore_diagnostics
@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_some_weights_zero(backend):
    # p is the narrow component of q: draws of the other component have weight 0.
    model = fe.Gaussian([0.0], scale=1e-200)
    q = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [0.0]], scale=[[1.0], [1e-200]]))
    est = fe.estimate(model, q, 10_000, rng=16, backend=backend)
    assert 4700 < est.n_zero < 5300
    # Every other weight is p / (p / 2) = 2.
    share = 1.0 - est.n_zero / 10_000
    assert est.log_evidence == pytest.approx(np.log(2.0 * share), abs=1e-12)
    assert est.ess == pytest.approx(10_000 * share, rel=1e-12)
    assert est.elbo == -np.inf
    assert np.isnan(est.elbo_se)
    assert np.isnan(est.jensen_gap_se)
    assert est.log_evidence_se == pytest.approx(np.sqrt((1 / share - 1) / 9999), rel=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_weights_are_refused(monkeypatch, bad):
    # No distribution of this package makes such a value, so the test inserts it.
    terms = [np.zeros((3, 20)) for _ in range(3)]
    terms[1][1, 4] = terms[1][2, 3] = bad
    monkeypatch.setattr(engine_reference.NumPyBackend, "terms", lambda self, task: terms)
    model = linear_gaussian(np.zeros(3))
    with pytest.raises(
        fe.errors.InvalidWeightError, match=r"2 log weights .* data point 1, draw 4"
    ):
        fe.estimate(model, NEAR_Q, 20, backend="numpy")


# --- totals -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many():
    model = linear_gaussian(np.linspace(-2.0, 2.0, 50))
    return fe.estimate(model, fe.Gaussian([0.0], scale=1.2), 10_000, rng=18)


def test_total(many):
    total = many.total()
    assert total.n_points == 50
    correction = many.relative_variance.sum() / (2 * 10_000)
    assert total.bias_correction == pytest.approx(correction, rel=1e-9)
    assert total.uncorrected_log_evidence == pytest.approx(
        many.log_evidence.sum(), rel=1e-14, abs=0.0
    )
    assert total.log_evidence == pytest.approx(
        many.log_evidence.sum() + correction, rel=1e-14, abs=0.0
    )
    for name in ("elbo", "expected_log_likelihood", "kl"):
        assert getattr(total, name) == pytest.approx(getattr(many, name).sum(), rel=1e-14, abs=0.0)
    for name in ("log_evidence", "elbo", "expected_log_likelihood", "kl"):
        expected = np.sqrt((getattr(many, f"{name}_se") ** 2).sum())
        assert getattr(total, f"{name}_se") == pytest.approx(expected, rel=1e-14, abs=0.0)
    low, high = total.confidence_interval("elbo", 0.9)
    half = st.norm.ppf(0.95) * total.elbo_se
    assert (low, high) == pytest.approx((total.elbo - half, total.elbo + half), rel=1e-12)
    with pytest.raises(TypeError):
        many.total(omit_flagged=True)


def test_total_bias_warning():
    model = linear_gaussian(np.full(2000, 1.8))
    est = fe.estimate(model, PRIOR_Q, 500, rng=19)
    with pytest.warns(fe.errors.TotalBiasWarning, match="bias correction of the total"):
        total = est.total()
    assert total.bias_correction > 0.25 * total.log_evidence_se


def test_total_of_flagged_points():
    model = fe.Gaussian([[0.0], [0.0], [0.0]], scale=[[1.0], [1e-200], [1.2]])
    with pytest.warns(fe.errors.AllWeightsZeroWarning):
        est = fe.estimate(model, fe.Gaussian([0.0], scale=1.5), 1000, rng=20)
    total = est.total()
    assert total.n_points == 3
    assert total.log_evidence == total.uncorrected_log_evidence == -np.inf
    assert total.confidence_interval() == (-np.inf, np.inf)


def test_total_of_several_q_is_refused():
    q = fe.Gaussian([[0.0], [0.1]], scale=1.2)
    est = fe.estimate(fe.Gaussian([0.0], scale=1.0), q, 1000, rng=21)
    assert not est.independent
    with pytest.raises(fe.errors.InvalidInputError, match="only q has a batch"):
        est.total()
    both = fe.estimate(linear_gaussian(np.ones(2)), q, 1000, rng=21)
    assert both.total().n_points == 2


# --- intervals, bounds, tables ------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_confidence_interval(many, level):
    half = st.norm.ppf(0.5 + level / 2.0)
    low, high = many.confidence_interval("log_evidence", level)
    tail = many.relative_variance, many._tail
    expected = tail_interval(10_000, many.log_evidence, *tail, level)
    np.testing.assert_array_equal((low, high), expected)
    # The weights are bounded, so the interval is nearly that of the delta method.
    np.testing.assert_allclose(high - low, 2.0 * half * many.log_evidence_se, rtol=0.01)
    for name in ("elbo", "expected_log_likelihood", "kl", "jensen_gap"):
        low, high = many.confidence_interval(name, level)
        value, se = getattr(many, name), getattr(many, f"{name}_se")
        np.testing.assert_allclose(low, value - half * se, rtol=1e-12)
        np.testing.assert_allclose(high, value + half * se, rtol=1e-12)
    interval = many.confidence_interval("iw_elbo", level, k=10)
    value, se = many.iw_elbo(10)
    np.testing.assert_allclose(interval.high, value + half * se, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda e: e.iw_elbo(11), r"k must be one of .*\(1, 10, 100\), got 11"),
        (lambda e: e.confidence_interval("ess"), "quantity must be .*'ess'"),
        (lambda e: e.confidence_interval("iw_elbo"), "k must be given"),
        (lambda e: e.confidence_interval("iw_elbo", k=3), "got 3"),
        (lambda e: e.confidence_interval("elbo", 1.0), "confidence_level.*1.0"),
        (lambda e: e.confidence_interval("elbo", 95), "confidence_level.*95"),
        (lambda e: e.total().confidence_interval("jensen_gap"), "quantity must be .*'jensen_gap'"),
    ],
)
def test_questions_without_an_answer(many, call, match):
    with pytest.raises(fe.errors.InvalidInputError, match=match):
        call(many)


class Density:
    """A distribution of another library."""

    def log_prob(self, z):
        return log_density(z)


def log_density(z):
    return -0.5 * ((z - 1.0) ** 2).sum(axis=-1)


@pytest.mark.parametrize("call", [fe.estimate, fe.elbo_terms, fe.log_weights])
@pytest.mark.parametrize(
    ("density", "name"), [(log_density, "model"), (Density(), "model.log_prob")]
)
@pytest.mark.parametrize(
    "q", [fe.Gaussian([0.8], scale=1.3), fe.Gaussian([[0.5], [0.7]], scale=1.5)]
)
def test_a_function_is_no_model_and_how_to_use_it_is_said(call, density, name, q):
    with pytest.raises(fe.errors.InvalidInputError, match=r"model must be .*; got ") as caught:
        call(density, q, 100)
    called = getattr(density, "__name__", name)
    assert f"If {called}(z) is log p(x, z)" in str(caught.value)
    # What the message says works as it stands.
    statement = str(caught.value).split("many draws (n, D), ")[1]
    names = {"model": density, "log_density": log_density, "D": 1, "fastelbo": fe}
    est = fe.estimate(eval(statement, names), q, 20_000, rng=0)
    assert est.batch_shape == q.batch_shape
    exact = 0.5 * np.log(2.0 * np.pi)
    assert (np.abs(est.log_evidence - exact) < 5.0 * est.log_evidence_se).all()


@pytest.mark.parametrize("other", [fe.Gaussian, None, "model", 1.0])
def test_what_is_no_function_gets_no_such_advice(other):
    with pytest.raises(fe.errors.InvalidInputError, match="model must be") as caught:
        fe.estimate(other, NEAR_Q, 100)
    assert "fastelbo.Model(" not in str(caught.value)


def test_summary_and_repr(many):
    parts = [part.splitlines() for part in many.summary(3).split("\n\n")]
    assert [heading for part in parts for heading in part[0].split()] == [
        "log_evidence", "elbo", "expected_log_likelihood", "kl", "jensen_gap", "iw_elbo(10)",
        "iw_elbo(100)", "ess", "pareto_k",
    ]  # fmt: skip
    table = parts[0]
    assert len(table) == 4
    table = [*table, parts[-1][-1]]
    assert table[-1] == "... 47 more"
    shown = float(re.match(r"\s*0\s+(-?[\d.]+) \+- ", table[1])[1])
    assert shown == pytest.approx(many.log_evidence[0], abs=many.log_evidence_se[0])
    assert re.fullmatch(r"Estimate\(50 data points, .*n_samples=10000\)", repr(many))


@ignore_diagnostics
@pytest.mark.parametrize("case", [CASES["one_dimension"], CASES["every_batch"]])
def test_every_field_is_an_array_of_the_batch(case):
    model, q = case()
    est = fe.estimate(model, q, 200, rng=0)
    shape = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    for name, value in est.to_dict().items():
        if name != "n_samples":
            assert isinstance(value, np.ndarray), name
            assert value.shape == shape, name
            assert value.dtype == np.float64, name


# --- few draws, no data -------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_one_draw(backend):
    model = linear_gaussian([1.0, 2.0])
    with pytest.warns(fe.errors.ShortTailWarning, match="n_samples = 1") as found:
        est = fe.estimate(model, NEAR_Q, 1, rng=22, backend=backend)
    assert len(found) == 1
    weight = fe.log_weights(model, NEAR_Q, 1, rng=22)[:, 0]
    np.testing.assert_allclose(est.log_evidence, weight, rtol=1e-14)
    np.testing.assert_allclose(est.elbo, weight, rtol=1e-14)
    np.testing.assert_array_equal(est.ess, 1.0)
    assert est.iw_sizes == ()
    for name, value in est.to_dict().items():
        if name.endswith("_se"):
            assert np.isnan(value).all(), name
    total = est.total()
    assert total.log_evidence == total.uncorrected_log_evidence
    assert np.isnan(total.log_evidence_se)


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_no_data_points(backend):
    est = fe.estimate(linear_gaussian(np.empty(0)), NEAR_Q, 100, rng=0, backend=backend)
    assert est.batch_shape == (0,)
    assert all(np.shape(v) == (0,) for k, v in est.to_dict().items() if k != "n_samples")
    assert est.iw_elbo(10).value.shape == (0,)
    total = est.total()
    assert (total.n_points, total.log_evidence, total.elbo_se) == (0, 0.0, 0.0)
    assert "0 data points" in repr(est)
    assert "log_evidence" in est.summary()
    terms = fe.elbo_terms(linear_gaussian(np.empty(0)), NEAR_Q, 5, rng=0, backend=backend)
    assert terms.log_weights.shape == (0, 5)


def test_defaults():
    est = fe.estimate(linear_gaussian(), NEAR_Q, rng=0)
    assert est.n_samples == 1000
    assert est.iw_sizes == (10, 100)
    assert fe.estimate(linear_gaussian(), NEAR_Q, 50, rng=0).iw_sizes == (10,)


# --- mixtures of given components ---------------------------------------------------------------


@pytest.fixture
def mixture_model():
    rng = np.random.default_rng(23)
    own = fe.Gaussian(rng.normal(size=(3, 2)), scale=[0.5, 2.0])
    return fe.MixtureModel(rng.normal(size=(6, 2)), fe.Mixture([0.2, 0.0, 0.8], own))


@pytest.mark.parametrize("probs", [[0.5, 0.0, 0.5], [[0.1, 0.0, 0.9]] * 6, [0.2, 0.3, 0.5]])
def test_mixture_model(mixture_model, probs):
    q = fe.Categorical(probs)
    est, expected = fe.estimate(mixture_model, q), reference.exact_mixture(mixture_model, q.probs)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(est, name), value, rtol=1e-13)
        np.testing.assert_array_equal(getattr(est, f"{name}_se"), 0.0)
    np.testing.assert_array_equal(est.log_evidence, mixture_model.exact_log_evidence())
    # The gap is summed by itself: the difference has the rounding of its larger terms.
    rounding = 8.0 * np.spacing(np.abs(est.elbo).max())
    np.testing.assert_allclose(est.jensen_gap, est.log_evidence - est.elbo, atol=rounding)
    assert np.isnan(est.ess).all()
    assert est.n_samples == 0
    total = est.total()
    assert total.log_evidence == total.uncorrected_log_evidence
    assert total.log_evidence == pytest.approx(est.log_evidence.sum())


@pytest.mark.parametrize("n", [1, 6, 300])
@pytest.mark.parametrize("components", [1, 3, 4, 9])
def test_responsibilities(n, components):
    rng = np.random.default_rng(24)
    weights = rng.dirichlet(np.ones(components))
    weights[1::3] = 0.0
    parts = fe.Gaussian(3.0 * rng.normal(size=(components, 2)), scale=[0.5, 2.0])
    model = fe.MixtureModel(
        5.0 * rng.normal(size=(n, 2)), fe.Mixture(weights / weights.sum(), parts)
    )
    own = np.where(weights > 0.0, rng.dirichlet(np.ones(components), n), 0.0)
    q = fe.Categorical(own / own.sum(axis=-1, keepdims=True))
    expected = reference.responsibilities(model)
    for each in (q, fe.Categorical(model.mixture.weights)):
        bare = fe.estimate(model, each)
        for backend in ("cpu", "numpy"):
            est = fe.estimate(model, each, backend=backend, responsibilities=True)
            np.testing.assert_allclose(est.responsibilities, expected, rtol=1e-12, atol=1e-300)
            assert not est.responsibilities.flags.writeable
        est = fe.estimate(model, each, responsibilities=True, n_threads=1)
        np.testing.assert_equal(est.to_dict(), bare.to_dict())
        np.testing.assert_array_equal(est.responsibilities, model.exact_posterior().probs)


def test_responsibilities_of_a_batch_of_q(mixture_model):
    q = fe.Categorical([[[0.5, 0.0, 0.5]], [[0.1, 0.0, 0.9]]])
    for backend in ("cpu", "numpy"):
        est = fe.estimate(mixture_model, q, backend=backend, responsibilities=True)
        expected = np.broadcast_to(mixture_model.exact_posterior().probs, (2, 6, 3))
        np.testing.assert_allclose(est.responsibilities, expected, rtol=1e-14)


def test_responsibilities_that_are_not_there(mixture_model):
    est = fe.estimate(mixture_model, fe.Categorical([0.5, 0.0, 0.5]))
    with pytest.raises(fe.errors.InvalidInputError, match="responsibilities=True"):
        _ = est.responsibilities
    with pytest.raises(fe.errors.InvalidInputError, match="responsibilities must be False"):
        fe.estimate(linear_gaussian(), NEAR_Q, 50, rng=0, responsibilities=True)


def test_mixture_model_at_its_posterior(mixture_model):
    est = fe.estimate(mixture_model, mixture_model.exact_posterior())
    np.testing.assert_allclose(est.elbo, est.log_evidence, rtol=1e-13)
    np.testing.assert_allclose(est.jensen_gap, 0.0, atol=1e-13)


def test_mixture_model_with_an_impossible_component():
    # The second component has log density -inf at x, and probability 0 in q: 0 times -inf is 0.
    own = fe.Gaussian([[0.0], [1.0]], scale=[[1.0], [1e-200]])
    model = fe.MixtureModel([[0.0]], fe.Mixture([0.5, 0.5], own))
    est = fe.estimate(model, model.exact_posterior())
    np.testing.assert_allclose(est.elbo, est.log_evidence, rtol=1e-13)


# --- memory -------------------------------------------------------------------------------------

PEAK = """
import sys, warnings
import numpy as np
import fastelbo as fe

warnings.simplefilter("ignore")
model = fe.Gaussian(np.zeros(10), scale=1.0)
fe.estimate(model, fe.Gaussian(np.zeros(10), scale=1.1), int(sys.argv[1]), rng=0)
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
@pytest.mark.parametrize("n_samples", [10**7, pytest.param(10**8, marks=pytest.mark.slow)])
def test_memory_is_flat(n_samples):
    # 10^7 draws would take 800 MB. A first run fills the cache, so that the others do not compile.
    run_python(PEAK, "100")
    few, many = (int(run_python(PEAK, str(n))) / 1024 for n in (10**4, n_samples))
    assert many - few < 60.0, f"{few:.0f} MB at 10^4 draws, {many:.0f} MB at {n_samples}"
