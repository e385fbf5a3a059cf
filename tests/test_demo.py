"""The claims of the demonstration hold: about the models, the three q and the tables."""

import re
import warnings

import numpy as np
import pytest

import fastelbo as fe
from fastelbo import demo

N_SAMPLES = 1024


@pytest.fixture(scope="module")
def model():
    return demo.digits_model()


@pytest.fixture(scope="module")
def runs(model):
    return demo.digits_runs(model, N_SAMPLES, rng=0)


@pytest.fixture(scope="module")
def exact(model):
    return model.exact_log_evidence()


# --- the model of the digits --------------------------------------------------------------------


def test_loadings_and_noise_are_the_maximum_likelihood_solution(model, exact):
    def log_likelihood(loadings, noise_variance, offset):
        changed = fe.LinearGaussian(model.x, loadings, noise_cov=noise_variance, offset=offset)
        return changed.exact_log_evidence().sum()

    loadings, noise_variance, offset = model.loadings, model.noise_cov[0], model.offset
    best = log_likelihood(loadings, noise_variance, offset)
    assert best == pytest.approx(exact.sum(), rel=1e-12)
    for factor in (0.99, 1.01):
        assert log_likelihood(factor * loadings, noise_variance, offset) < best
        assert log_likelihood(loadings, factor * noise_variance, offset) < best
        assert log_likelihood(loadings, noise_variance, factor * offset) < best


def test_varimax_rotates_to_a_maximum_of_its_criterion():
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(20, 4)) * [3.0, 2.0, 1.0, 0.5]
    rotated = demo.varimax(loadings)

    def criterion(matrix):
        return (matrix**2).var(axis=0).sum()

    assert rotated @ rotated.T == pytest.approx(loadings @ loadings.T, abs=1e-12)
    assert criterion(rotated) > criterion(loadings)
    for i, j in zip(*np.triu_indices(4, 1), strict=True):
        for angle in (-0.01, 0.01):
            turned = rotated.copy()
            turned[:, i] = np.cos(angle) * rotated[:, i] + np.sin(angle) * rotated[:, j]
            turned[:, j] = np.cos(angle) * rotated[:, j] - np.sin(angle) * rotated[:, i]
            assert criterion(turned) < criterion(rotated)


def test_rows_choose_the_data_and_nothing_else(model, exact):
    part = demo.digits_model([3, 5])
    assert np.array_equal(part.loadings, model.loadings)
    assert part.exact_log_evidence() == pytest.approx(exact[[3, 5]], rel=1e-13)


# --- the three q --------------------------------------------------------------------------------


def test_the_posterior_does_not_factorise(model):
    cov = model.exact_posterior().cov[0]
    sd = np.sqrt(np.diagonal(cov))
    correlation = cov / np.outer(sd, sd) - np.eye(model.dim)
    assert np.abs(correlation).max() > 0.3


def test_mean_field_is_the_best_diagonal_q_and_its_gap_is_known(model, runs):
    posterior, q = model.exact_posterior(), runs["mean field"].q
    gap = fe.kl_divergence(q, posterior)
    # With variances 1 / Lambda_dd, the trace term is D. Half of log(prod Lambda_dd / |Lambda|) is
    # left.
    precision = np.linalg.inv(posterior.cov[0])
    closed = 0.5 * (np.log(np.diagonal(precision)).sum() - np.linalg.slogdet(precision)[1])
    assert gap == pytest.approx(closed, rel=1e-10)
    assert closed == pytest.approx(0.69, abs=0.01)
    for d in range(model.dim):
        for factor in (0.99, 1.01):
            scale = q.scale.copy()
            scale[..., d] *= factor
            other = fe.kl_divergence(fe.Gaussian(q.mean, scale=scale), posterior)
            assert (other > gap).all()


def test_the_elbos_differ_from_the_evidence_by_the_divergence(model, runs, exact):
    for run in runs.values():
        gap = fe.kl_divergence(run.q, model.exact_posterior())
        error = run.total.elbo - (exact - gap).sum()
        assert abs(error) < 4.0 * run.total.elbo_se + 1e-8


@pytest.mark.parametrize(
    ("scale", "index"),
    [([0.8, 1.5], 0.36), ([1.5, 0.5], 0.75), ([1.0, 1.0], 0.0), ([2.0, 3.0], 0.0)],
)
def test_tail_index_of_known_widths(scale, index):
    p, q = (fe.Gaussian([0.0, 0.0], scale=s) for s in (1.0, scale))
    assert demo.tail_index(q, p) == pytest.approx(index)


def test_tail_indices_are_on_both_sides_of_a_half(model, runs):
    posterior = model.exact_posterior()
    index = {name: demo.tail_index(run.q, posterior).mean() for name, run in runs.items()}
    assert index["wide"] == pytest.approx(0.13, abs=0.005)
    assert index["mean field"] == pytest.approx(0.60, abs=0.005)
    assert index["exact posterior"] == pytest.approx(0.0, abs=1e-12)


def test_bounds_are_in_order(runs, exact):
    for name in ("wide", "mean field"):
        est = runs[name].estimate
        bound = est.iw_elbo(10).value
        assert (est.elbo < bound).all()
        # 100 groups of 10: sometimes the error of the bound exceeds its distance from the evidence.
        assert (bound < exact).mean() > 0.99
        assert est.elbo.mean() < bound.mean() < est.iw_elbo(100).value.mean() < exact.mean()


def test_intervals_are_honest_where_the_delta_method_is_not(runs, exact):
    for name in ("wide", "mean field"):
        est = runs[name].estimate
        low, high = est.confidence_interval("log_evidence")
        # Four standard errors of a share of 0.95 among 1797 are 0.021. Some intervals of the mean
        # field have no upper end.
        assert abs(((low < exact) & (exact < high)).mean() - 0.95) < 0.021
        z = (est.log_evidence - exact) / np.sqrt(est.relative_variance / N_SAMPLES)
        within = (np.abs(z) < 1.96).mean()
        assert abs(within - 0.95) < 0.021 if name == "wide" else within < 0.90
        if name == "mean field":
            assert (z < -1.96).mean() > 0.10


def test_k_hat_tells_the_tail(runs):
    k = {name: run.estimate.pareto_k for name, run in runs.items()}
    assert np.median(k["wide"]) < 0.3
    assert abs(np.median(k["mean field"]) - 0.6) < 0.1
    assert np.isnan(k["exact posterior"]).all()
    flagged = np.flatnonzero(k["mean field"] > 1.0 - 1.0 / np.log10(N_SAMPLES))
    assert runs["mean field"].total.n_points == k["wide"].size
    assert 0.1 < flagged.size / k["wide"].size < 0.5


def test_totals_of_the_evidence_are_near_the_truth(runs, exact):
    total = runs["wide"].total
    assert abs(total.log_evidence - exact.sum()) < 4.0 * total.log_evidence_se
    posterior = runs["exact posterior"].total
    assert posterior.log_evidence == pytest.approx(exact.sum(), rel=1e-12)
    for run in runs.values():
        low, high = run.total.confidence_interval()
        assert low - 1e-6 < exact.sum() < high + 1e-6
    # Some digits have weights that may have no mean.
    assert high - low < 1e-6
    assert runs["mean field"].total.confidence_interval()[1] == np.inf


# --- warnings and tables ------------------------------------------------------------------------


def test_expected_warnings_are_kept_and_others_are_given(model, runs):
    kinds = {name: {text.split(":")[0] for text in run.warnings} for name, run in runs.items()}
    assert kinds["exact posterior"] == {"ConstantWeightsWarning"}
    assert kinds["wide"] == {"TotalBiasWarning"}
    assert kinds["mean field"] == {"HighParetoKWarning", "LowESSWarning"}
    with pytest.warns(fe.errors.ShortTailWarning):
        demo.timed_estimate(model, model.exact_posterior(), n_samples=1, rng=0)


def test_digits_report_shows_what_the_estimates_say(model, runs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = demo.digits_report(N_SAMPLES, rng=0)
    assert demo.sums_table(model, runs) in report
    assert demo.points_table(model, runs) in report
    assert demo.quasi_random_note(model, runs["wide"])[:70] in report
    assert "ConstantWeightsWarning: all weights are equal for 1797 of 1797" in report
    assert max(map(len, report.splitlines())) <= 100
    assert "nan" not in report


def test_quasi_random_draws_err_less_than_as_many_independent_ones(model, runs, exact):
    note = demo.quasi_random_note(model, runs["wide"], rng=0)
    assert f"{N_SAMPLES} for each image" in note
    after, before, times, covered = (
        float(number)
        for number in re.findall(r"(?:is|of|be|for) (\d[.\d]*\d)(?:[.] | nats| times| %)", note)
    )
    errors = runs["wide"].estimate.log_evidence - exact
    assert before == pytest.approx(np.sqrt(np.square(errors).mean()), abs=1e-4)
    assert times == pytest.approx((before / after) ** 2, rel=0.1)
    assert times > 10.0
    assert covered == pytest.approx(95.0, abs=2.1)


def test_points_table_has_a_row_for_each_q(model, runs):
    rows = demo.points_table(model, runs).splitlines()
    assert len(rows) == 1 + len(runs)
    wide = runs["wide"].estimate
    k, ess = f"{np.median(wide.pareto_k):.2f}", f"{np.median(wide.ess):.0f}"
    assert rows[1].split()[:4] == ["wide", "0.13", k, ess]
    assert rows[3].split()[-4:] == ["all", "equal", "-", "-"]


# --- galaxies -----------------------------------------------------------------------------------


def test_galaxies_fit_is_a_fixed_point_of_em():
    model = demo.galaxies_model()
    share, x = model.exact_posterior().probs, model.x
    mixture = model.mixture
    counts = share.sum(axis=0)
    mean = (share * x).sum(axis=0) / counts
    assert mixture.weights == pytest.approx(counts / counts.sum(), abs=1e-6)
    assert mixture.components.mean[:, 0] == pytest.approx(mean, abs=1e-6)
    variance = (share * (x - mean) ** 2).sum(axis=0) / counts
    assert mixture.components.scale[:, 0] ** 2 == pytest.approx(variance, abs=1e-5)
    assert mean == pytest.approx([9.71, 21.40, 33.04], abs=0.01)
    assert model.exact_log_evidence().sum() == pytest.approx(-203.482, abs=1e-3)


def test_galaxies_gaps_are_divergences():
    model = demo.galaxies_model()
    posterior = model.exact_posterior()
    gaps = {}
    for name, q in demo.galaxies_approximations(model).items():
        est = fe.estimate(model, q)
        gaps[name] = est.jensen_gap.sum()
        assert gaps[name] == pytest.approx(fe.kl_divergence(q, posterior).sum(), abs=1e-10)
        assert est.total().log_evidence == pytest.approx(model.exact_log_evidence().sum())
    assert abs(gaps["responsibilities"]) < 1e-10 < gaps["hard"] < gaps["softened"]
    report = demo.galaxies_report()
    assert all(name in report for name in gaps)


# --- convergence --------------------------------------------------------------------------------


def test_convergence_is_to_the_exact_evidence():
    estimates, exact = demo.convergence()
    assert [est.n_samples for est in estimates] == [2**power for power in range(7, 18)]
    errors = [est.log_evidence_se.max() for est in estimates]
    assert errors[-1] < 0.05 * errors[0]
    last = estimates[-1]
    assert (np.abs(last.log_evidence - exact) < 4.0 * last.log_evidence_se).all()
    assert (last.iw_elbo(100).value < exact).all()
    # The digits' labels are 0 to 9, in order.
    assert fe.datasets.load_digits().labels[: exact.size].tolist() == list(range(10))
