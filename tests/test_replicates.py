"""Estimates from replicates of quasi-random draws, and from data points with K of their own."""

import dataclasses
import json
import pickle
import warnings

import numpy as np
import pytest
import scipy.stats as st
from helpers import IGNORE_DIAGNOSTICS, quiet
from scipy.special import logsumexp

import fastelbo as fe
from fastelbo.errors import (
    AllWeightsZeroWarning,
    ConstantWeightsWarning,
    HighParetoKWarning,
    InvalidInputError,
    InvalidWeightError,
    LowESSWarning,
    ShortTailWarning,
    TotalBiasWarning,
)
from fastelbo.reference.sobol import permuted
from fastelbo.results.quantities import from_quantities
from fastelbo.results.reports import as_json, as_text
from fastelbo.weights import replicates as rep
from fastelbo.weights.diagnostics import high_k, warn_about_weights
from fastelbo.weights.intervals import delta_interval
from fastelbo.weights.pareto import k_limit, k_threshold, kept_draws
from fastelbo.weights.tail_intervals import tail_interval

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
MEANS = ("elbo", "expected_log_likelihood", "kl")


def sobol_rows(points, replicates, n, sd=0.5, dim=2, seed=0):
    """Normal log weights (points, R, n) of scrambled Sobol points, whose evidence is 1."""
    net = [
        st.qmc.Sobol(dim, rng=np.random.default_rng([seed, i])).random(n)
        for i in range(points * replicates)
    ]
    z = st.norm.ppf(np.clip(net, 1e-12, 1.0 - 1e-12))
    log_weights = sd / np.sqrt(dim) * z.sum(axis=-1) - 0.5 * sd**2
    return log_weights.reshape(points, replicates, n)


def iid_rows(points, replicates, n, sd=0.5, seed=0):
    return sd * np.random.default_rng(seed).normal(size=(points, replicates, n)) - 0.5 * sd**2


def summarize(rows, **options):
    return fe.summarize(rows, replicates=rows.shape[-2], **options)


def oracle(rows, level=0.95):
    """Log evidence, its error, ELBO, its error, and the error of the gap, of rows (R, n)."""
    count = len(rows)
    weights = np.exp(rows.astype(np.longdouble) - rows.max()).mean(axis=1)
    ratios, elbos = weights / weights.mean(), rows.mean(axis=1)
    se, elbo_se, gap_se = (
        float(np.std(each, ddof=1) / np.sqrt(count)) for each in (ratios, elbos, ratios - elbos)
    )
    evidence = logsumexp(rows) - np.log(rows.size) + 0.5 * se**2
    return evidence, se, rows.mean(), elbo_se, gap_se


def tail_oracle(rows, k):
    """Error that the tail of the weights leaves in the log evidence of rows (R, n)."""
    count, n = rows.shape
    weights = np.sort(np.exp(rows).ravel() / np.exp(rows).mean())[::-1]
    length = int(np.ceil(min(rows.size / 5, 3.0 * np.sqrt(rows.size))))
    quantile, k = weights[min(count, length)], np.clip(k, -0.5, 0.45)
    mean_excess = (weights[:length] - weights[length]).mean()
    scale = (1.0 - k) * mean_excess + k * (quantile - weights[length])
    return st.genpareto(k, scale=max(scale, 0.0)).std() / n / np.sqrt(count)


# --- errors and intervals ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 16])
@pytest.mark.parametrize("make", [sobol_rows, iid_rows])
def test_errors_are_those_between_replicates(make, count):
    rows = make(3, count, 64)
    est = summarize(rows)
    t = st.t(count - 1)
    for i in range(3):
        evidence, se, elbo, elbo_se, gap_se = oracle(rows[i])
        np.testing.assert_allclose(est.log_evidence[i], evidence, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(est.log_evidence_se[i], se, rtol=1e-10)
        np.testing.assert_allclose(est.elbo[i], elbo, rtol=1e-12)
        np.testing.assert_allclose(est.elbo_se[i], elbo_se, rtol=1e-10)
        np.testing.assert_allclose(est.jensen_gap[i], evidence - elbo, rtol=1e-10)
        np.testing.assert_allclose(est.jensen_gap_se[i], gap_se, rtol=1e-9)
        v = np.exp(rows[i]).var(ddof=1) / np.exp(rows[i]).mean() ** 2
        np.testing.assert_allclose(est.variance_ratio[i], v / rows[i].size / se**2, rtol=1e-9)
        for name in ("log_evidence", "elbo", "jensen_gap"):
            low, high = est.confidence_interval(name, 0.9)
            value, half = getattr(est, name)[i], t.ppf(0.95) * getattr(est, f"{name}_se")[i]
            np.testing.assert_allclose(low[i], value - half, rtol=1e-9)
            beyond = tail_oracle(rows[i], est.pareto_k[i]) / se
            if name == "log_evidence":
                half *= max(1.0, beyond)
            if name == "jensen_gap" and beyond > 1.0:
                assert value + half < high[i]
                assert high[i] < value + t.ppf(0.95) * (beyond * se + elbo_se)
            else:
                np.testing.assert_allclose(high[i], value + half, rtol=1e-9)


def test_what_describes_the_weights_is_that_of_all_draws():
    rows = sobol_rows(4, 8, 128)
    est, flat = summarize(rows, iw_sizes=()), fe.summarize(rows.reshape(4, -1), iw_sizes=())
    # Chunks are those of replicates here, and of all draws there.
    for name in ("ess", "relative_variance", "pareto_k", "pareto_k_elbo", "n_zero", "elbo"):
        np.testing.assert_allclose(getattr(est, name), getattr(flat, name), rtol=1e-14)
    correction = 0.5 * est.log_evidence_se**2
    np.testing.assert_allclose(est.log_evidence - correction, flat.log_evidence, rtol=1e-14)
    assert (est.n_samples, est.replicates, est.sampler) == (1024, 8, "replicated")
    assert est.corrected
    assert (flat.replicates, flat.sampler, flat.rotation, flat.corrected) == (1, "iid", None, False)
    np.testing.assert_array_equal(flat.variance_ratio, 1.0)
    assert (est.variance_ratio > 2.0).all()


@pytest.mark.parametrize("n_samples", [16 * 128, 16 * 4096])
def test_terms_of_draws_give_the_bits_of_their_estimate(n_samples):
    model = fe.LinearGaussian([[1.0, 0.0], [2.0, -1.0]], np.eye(2), noise_cov=0.5)
    q = fe.Gaussian(model.exact_posterior().mean, scale=0.7)
    draws = {"n_samples": n_samples, "rng": 3, "sampler": "sobol"}
    est, found = fe.estimate(model, q, **draws), fe.summarize(fe.elbo_terms(model, q, **draws))
    known = ["elbo", "ess", "expected_log_likelihood", "jensen_gap", "log_evidence", "pareto_k"]
    known += [f"{name}_se" for name in ("elbo", "expected_log_likelihood", "log_evidence", "kl")]
    for name in known:
        np.testing.assert_array_equal(getattr(found, name), getattr(est, name), err_msg=name)
    # Groups are permuted by another key.
    low, high = est.confidence_interval("iw_elbo", 0.9999, k=10)
    assert ((low < found.iw_elbo(10).value) & (found.iw_elbo(10).value < high)).all()


def test_order_within_and_of_replicates_and_a_shift():
    rows = sobol_rows(2, 8, 64)
    est = summarize(rows, iw_sizes=())
    names = ("log_evidence_se", "elbo_se", "jensen_gap_se", "variance_ratio")
    rng = np.random.default_rng(0)
    for other in (rows[:, rng.permutation(8)], rng.permuted(rows, axis=-1)):
        moved = summarize(other, iw_sizes=())
        for name in names:
            np.testing.assert_allclose(getattr(moved, name), getattr(est, name), rtol=1e-9)
    moved = summarize(rows - 512.0, iw_sizes=())
    np.testing.assert_allclose(moved.log_evidence + 512.0, est.log_evidence, atol=1e-12)
    np.testing.assert_allclose(moved.log_evidence_se, est.log_evidence_se, rtol=1e-9)


def test_intervals_cover():
    # Binomial error of 400 intervals: .011.
    rows = iid_rows(400, 8, 32, seed=5)
    est = summarize(rows, pareto_k=False, iw_sizes=(2,))
    exact = {"log_evidence": 0.0, "elbo": -0.125, "jensen_gap": 0.125}
    for name, value in exact.items():
        low, high = est.confidence_interval(name)
        assert 0.91 <= ((low <= value) & (value <= high)).mean() <= 0.985
    # E log (w + w') / 2 by quadrature.
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    pair = np.logaddexp(0.5 * node[:, None], 0.5 * node) - 0.125 - np.log(2.0)
    value = (weight[:, None] * weight * pair).sum() / (2.0 * np.pi)
    low, high = est.confidence_interval("iw_elbo", k=2)
    assert 0.91 <= ((low <= value) & (value <= high)).mean() <= 0.985


# --- bounds of k weights --------------------------------------------------------------------------


def permutations(first_index, shape):
    """The draws of each replicate in the order of their groups, in units of 1024, by the oracle."""
    points, replicates, n = shape
    size = min(n, 1024)
    places = np.empty((points, replicates, n // size, size), np.int64)
    for i, r, unit in np.ndindex(places.shape[:3]):
        places[i, r, unit] = unit * size + permuted(0, first_index + i, r, unit, size)
    return places.reshape(shape)


def groups_of(rows, k, places):
    """Values of the groups (sets, n), from the permuted indices (R, n)."""
    permuted = np.take_along_axis(rows, places, axis=-1)
    sets = len(rows) // k
    groups = permuted[: sets * k].reshape(sets, k, -1)
    return logsumexp(groups, axis=1) - np.log(k)


@pytest.mark.parametrize("n", [1, 2, 64, 2048])
def test_bounds_have_one_draw_of_each_of_k_replicates(n):
    rows = iid_rows(2, 8, n, sd=1.0)
    est = summarize(rows, iw_sizes=(2, 3, 5, 8))
    places = permutations(0, rows.shape)
    # Each unit of 1024 draws is permuted on its own, as whole.
    units = np.sort(places.reshape(2, 8, -1, min(n, 1024)), axis=-1)
    np.testing.assert_array_equal(
        units.reshape(rows.shape), np.broadcast_to(np.arange(n), (2, 8, n))
    )
    for k, sets in ((2, 4), (3, 2), (5, 1), (8, 1)):
        value, se = est.iw_elbo(k)
        low, high = est.confidence_interval("iw_elbo", 0.9, k=k)
        for i in range(2):
            groups = groups_of(rows[i], k, places[i])
            assert groups.shape == (sets, n)
            np.testing.assert_allclose(value[i], groups.mean(), rtol=1e-11)
            if sets >= 4:
                error = groups.mean(axis=1).std(ddof=1) / np.sqrt(sets)
                reach = st.t(sets - 1).ppf(0.95)
            else:
                error = groups.std(ddof=1) / np.sqrt(groups.size) if groups.size > 1 else np.nan
                reach = st.norm.ppf(0.95)
            np.testing.assert_allclose(se[i], error, rtol=1e-9)
            np.testing.assert_allclose(high[i] - low[i], 2.0 * reach * error, rtol=1e-9)


def test_bounds_rise_and_permutations_differ():
    places = permutations(3, (2, 4, 256))
    flat = places.reshape(8, 256)
    agree = (flat[:, None] == flat).mean(axis=-1)[~np.eye(8, dtype=bool)]
    assert agree.max() < 0.05
    np.testing.assert_array_equal(permutations(4, (1, 4, 256))[0], places[1])
    rows = sobol_rows(3, 16, 128, sd=1.0)
    est = summarize(rows, iw_sizes=(2, 4, 8, 16))
    values = est.bounds().value
    assert (np.diff(values, axis=0) > 0.0).all()
    # They are of other pairs than the biased ones of consecutive draws.
    exact = summarize(iid_rows(64, 16, 4096, sd=1.0), iw_sizes=(2,)).iw_elbo(2)
    assert abs(est.iw_elbo(2).value - exact.value.mean()).max() < 0.05


def test_sizes_of_groups():
    rows = iid_rows(2, 16, 32)
    assert summarize(rows).iw_sizes == (10,)
    assert summarize(rows[:, :8]).iw_sizes == ()
    assert summarize(rows[..., :31]).iw_sizes == ()
    with pytest.raises(
        InvalidInputError, match=r"iw_sizes must be at most replicates = 16, got 17"
    ):
        summarize(rows, iw_sizes=(2, 17))
    with pytest.raises(InvalidInputError, match=r"no power of two.*got \[2\] with n = 31"):
        summarize(rows[..., :31], iw_sizes=(2,))


# --- edge values ----------------------------------------------------------------------------------


def test_weights_of_zero():
    rows = sobol_rows(4, 8, 64)
    rows[0, 2, 5] = -np.inf
    rows[1, 3] = -np.inf
    rows[2, 1:] = -np.inf
    rows[3] = -np.inf
    est = summarize(rows, iw_sizes=(2,))
    for i in range(2):
        evidence, se, *_ = (
            np.log(np.exp(rows[i]).mean()),
            np.exp(rows[i]).mean(axis=1).std(ddof=1) / np.exp(rows[i]).mean() / np.sqrt(8),
        )
        np.testing.assert_allclose(est.log_evidence_se[i], se, rtol=1e-9)
        np.testing.assert_allclose(est.log_evidence[i], evidence + 0.5 * se**2, rtol=1e-9)
    assert est.log_evidence_se[2] == pytest.approx(1.0) or np.isnan(est.log_evidence_se[2])
    assert est.log_evidence[3] == -np.inf
    assert np.isnan(est.log_evidence_se[3])
    np.testing.assert_array_equal(est.elbo, -np.inf)
    assert np.isnan([est.elbo_se, est.jensen_gap_se]).all()
    assert np.isnan(est.iw_elbo(2).se[[0, 1, 2, 3]][2:]).all()
    low, high = est.confidence_interval()
    assert np.isfinite(low[:3]).all()
    # An error of 1 leaves no upper end.
    assert high[2] == high[3] == np.inf
    assert low[3] == -np.inf
    np.testing.assert_allclose(low[2], est._uncorrected[2] + np.log(0.05))


def test_equal_weights():
    rows = np.full((2, 4, 16), -3.0)
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        est = summarize(rows, iw_sizes=(2,))
    assert {each.category for each in met} == {ConstantWeightsWarning}
    np.testing.assert_allclose(est.log_evidence, -3.0)
    np.testing.assert_array_equal(est.log_evidence_se, 0.0)
    np.testing.assert_array_equal(est.iw_elbo(2).se, 0.0)
    assert np.isnan(est.variance_ratio).all()
    for name in ("log_evidence", "elbo", "jensen_gap"):
        for end in est.confidence_interval(name):
            np.testing.assert_allclose(end, getattr(est, name))
    assert "nan" in repr(est)


@pytest.mark.parametrize("size", [1e10, 1e200, 1e308])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_huge_log_weights(size, sign):
    rng = np.random.default_rng(0)
    rows = sign * size * rng.random((2, 4, 32))
    with np.errstate(all="raise"), quiet():
        est = summarize(rows, iw_sizes=(2,))
        est.bounds()
        est.summary()
        ends = est.confidence_interval("elbo"), est.confidence_interval("jensen_gap")
        total = est.total()
    unit = rows / size
    np.testing.assert_allclose(est.elbo / size, unit.mean(axis=(1, 2)), rtol=1e-12)
    error = unit.mean(axis=2).std(axis=1, ddof=1) / 2.0
    np.testing.assert_allclose(est.elbo_se / size, error, rtol=1e-9)
    np.testing.assert_allclose(est._gap_se / size, error, rtol=1e-6)
    assert np.isfinite(ends[0]).all()
    assert total.elbo_se == pytest.approx(size * np.hypot(*error))


def test_numbers_that_are_no_log_weights():
    rows = sobol_rows(3, 4, 16)
    for bad in (np.nan, np.inf):
        rows[1, 2, 3] = bad
        with pytest.raises(InvalidWeightError, match="data point 1, draw 35"):
            summarize(rows)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_batches(shape):
    rows = np.random.default_rng(0).normal(size=(*shape, 4, 32))
    est = summarize(rows, iw_sizes=(2,))
    assert est.batch_shape == shape
    for each in (est.variance_ratio, *est.iw_elbo(2), *est.confidence_interval("jensen_gap")):
        assert each.shape == shape
    assert f"replicates={4}" in repr(est)
    assert est.summary()
    assert est._repr_html_()
    assert len(est.pareto_k_table().splitlines()) >= 4
    assert est.total().n_points == np.prod(shape, dtype=int)
    as_text(est)
    json.loads(as_json(est))


# --- k-hat ----------------------------------------------------------------------------------------


def with_k(k, k_elbo=None, replicates=8, n=128):
    """Quantities whose k-hats are replaced, and the estimate and warnings from them."""
    rows = sobol_rows(len(k), replicates, n)
    est = summarize(rows, iw_sizes=(2,))
    values = {
        "log_evidence": est._uncorrected, "ess": est.ess, "n_zero": est.n_zero,
        "relative_variance": est.relative_variance, "pareto_k": np.array(k),
        "pareto_k_elbo": np.full(len(k), np.nan) if k_elbo is None else np.array(k_elbo),
        "iw_value": est.iw_elbo(2).value[:, None], "iw_se": est.iw_elbo(2).se[:, None],
        "tail": np.zeros((len(k), 0)), "jensen_gap_se": est.jensen_gap_se,
        "replicate_log_evidence": logsumexp(rows, axis=2) - np.log(n),
        "replicate_elbo": rows.mean(axis=2),
        "replicate_iw": np.zeros((len(k), 1, replicates)) + np.arange(replicates),
    }  # fmt: skip
    for name in MEANS:
        values[name] = est.elbo
        values[f"{name}_se"] = est.elbo_se
    for name in MEANS[1:]:
        values[f"replicate_{name}"] = values["replicate_elbo"]
    draws = replicates * n
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        warn_about_weights(draws, values, replicates=replicates)
    result = from_quantities(
        values, (len(k),), draws, [2], independent=True, replicates=replicates, sampler="sobol",
        rotation="exact", pilot_samples=100,
    )  # fmt: skip
    return result, est, [(each.category, str(each.message)) for each in met]


def test_a_k_hat_above_a_half_withholds_the_error():
    k = [0.1, 0.4, 0.45, 0.5, 0.51, 1.2]
    got, _, met = with_k(k)
    withheld = np.array(k) > 0.5
    np.testing.assert_array_equal(np.isnan(got.log_evidence_se), withheld)
    np.testing.assert_array_equal(np.isnan(got.jensen_gap_se), withheld)
    np.testing.assert_array_equal(np.isnan(got.variance_ratio), withheld)
    assert np.isfinite([got.elbo_se, got.kl_se, got.expected_log_likelihood_se]).all()
    low, high = got.confidence_interval()
    np.testing.assert_array_equal(np.isposinf(high), withheld)
    # The log of the mean itself, without a correction that needs the error.
    np.testing.assert_array_equal(got.log_evidence[withheld], got._uncorrected[withheld])
    np.testing.assert_allclose(low[withheld], got.log_evidence[withheld] + np.log(0.05))
    low, high = got.confidence_interval("jensen_gap")
    np.testing.assert_array_equal(np.isposinf(high), withheld)
    assert (low < got.jensen_gap).all()
    kinds = [kind for kind, _ in met]
    assert kinds == [HighParetoKWarning, HighParetoKWarning]
    (_, high_text), (_, doubtful_text) = met
    assert "k-hat exceeds 0.50, the limit for 1024 draws in 8 replicates" in high_text
    assert "2 of 6 data points (worst: 5, 4)" in high_text
    assert "k-hat exceeds 0.4 for 2 of 6 data points (worst: 3, 2)" in doubtful_text
    for text in (high_text, doubtful_text):
        assert "38 % of them are above 0.4 and 15 % above 0.5 at K = 1024" in text
    table = got.pareto_k_table().splitlines()
    assert [line.split()[-3] for line in table[1:]] == ["2", "2", "1", "1"]
    assert "doubtful" in table[2]
    assert "ESS" not in table[0]


def test_the_tail_of_the_elbo_has_the_same_limits():
    k = [0.1, 0.1, 0.1]
    got, _, met = with_k(k, [np.nan, 0.45, 0.6])
    np.testing.assert_array_equal(np.isnan(got.elbo_se), [False, False, True])
    np.testing.assert_array_equal(np.isnan(got.jensen_gap_se), [False, False, True])
    assert np.isfinite(got.log_evidence_se).all()
    assert np.isnan(got.confidence_interval("elbo").low).tolist() == [False, False, True]
    assert np.isnan(got.confidence_interval("jensen_gap").low).tolist() == [False, False, True]
    assert [kind for kind, _ in met] == [HighParetoKWarning]
    assert "lower tail exceeds 0.50" in met[0][1]


def test_no_k_hat_in_the_limits_warns_of_nothing():
    assert with_k([0.1, 0.39])[2] == []
    assert k_limit(10_000, 1) == k_threshold(10_000) == 0.7
    assert k_limit(10_000, 16) == 0.5
    assert k_limit(50, 16) == k_threshold(50) < 0.5
    np.testing.assert_array_equal(k_limit(np.array([50, 10_000]), 2), [k_threshold(50), 0.5])


def test_the_error_that_is_too_large_is_that_of_replicates():
    rows = sobol_rows(2, 4, 64, sd=0.3)
    rows[0] += 2.0 * np.arange(4)[:, None]
    with pytest.warns(LowESSWarning, match=r"1 of 2 data points \(worst: 0\)"):
        est = summarize(rows, pareto_k=False)
    assert est.log_evidence_se[0] > 0.5
    assert est.confidence_interval().high[0] == np.inf
    with pytest.warns(AllWeightsZeroWarning):
        summarize(np.full((1, 2, 16), -np.inf))
    with pytest.warns(ShortTailWarning, match="from 16 draws"):
        summarize(sobol_rows(1, 2, 8))


# --- totals and differences -----------------------------------------------------------------------


def test_total_of_replicates():
    rows = np.concatenate([sobol_rows(3, 8, 64, sd=0.5), sobol_rows(2, 8, 64, sd=1.0, seed=1)])
    est = summarize(rows, iw_sizes=())
    with quiet():
        total = est.total()
    squares = est.log_evidence_se**2
    assert total.log_evidence == pytest.approx(est.log_evidence.sum())
    assert total.bias_correction == pytest.approx(0.5 * squares.sum())
    assert total.uncorrected_log_evidence == pytest.approx(est._uncorrected.sum())
    assert total.log_evidence_se == pytest.approx(np.sqrt(squares.sum()))
    for name in ("log_evidence", "elbo"):
        errors = getattr(est, f"{name}_se")
        df = (errors**2).sum() ** 2 / (errors**4 / 7.0).sum()
        reach, value = st.t(df).ppf(0.95), getattr(total, name)
        above = errors
        if name == "log_evidence":
            tails = map(tail_oracle, rows, est.pareto_k)
            above = np.maximum(errors, np.array(list(tails)))
        low, high = total.confidence_interval(name, 0.9)
        assert low == pytest.approx(value - reach * np.sqrt(np.square(errors).sum()), rel=1e-10)
        assert high == pytest.approx(value + reach * np.sqrt(np.square(above).sum()), rel=1e-9)
    assert np.isnan(total.kl)
    one = summarize(rows[:1], iw_sizes=()).total()
    np.testing.assert_allclose(
        one.confidence_interval(), np.ravel(est.confidence_interval())[[0, 5]], rtol=1e-10
    )


def test_total_with_a_data_point_without_an_error():
    got, _, _ = with_k([0.1, 0.7, 0.2])
    total = got.total()
    assert np.isnan(total.log_evidence_se)
    assert np.isfinite([total.elbo_se, total.kl_se]).all()
    low, high = total.confidence_interval()
    assert high == np.inf
    assert low == pytest.approx(got._uncorrected.sum() + np.log(0.05))
    assert total.bias_correction == pytest.approx(0.5 * np.nansum(got.log_evidence_se**2))


def test_total_warns_of_a_large_correction():
    rows = iid_rows(400, 4, 16, sd=0.7)
    with pytest.warns(TotalBiasWarning):
        summarize(rows, pareto_k=False).total()


def test_degrees_of_freedom():
    errors = np.array([0.3, 0.1, 0.2])
    want = (errors**2).sum() ** 2 / (errors**4 / 15.0).sum()
    for scale in (1.0, 1e-170, 1e300):
        assert rep.degrees_of_freedom(scale * errors, 15.0) == pytest.approx(want)
    assert rep.degrees_of_freedom(np.zeros(3), 15.0) == 15.0
    assert rep.degrees_of_freedom(np.zeros(0), 15.0) == 15.0
    assert rep.degrees_of_freedom(errors, np.inf) == np.inf


def test_differences():
    first, second = summarize(sobol_rows(2, 8, 64)), summarize(sobol_rows(2, 8, 64, seed=3))
    plain = fe.summarize(iid_rows(2, 1, 4000)[:, 0])
    for other in (second, plain):
        difference = first - other
        np.testing.assert_allclose(difference.value, first.log_evidence - other.log_evidence)
        np.testing.assert_allclose(
            difference.se, np.hypot(first.log_evidence_se, other.log_evidence_se)
        )
        low, high = difference.confidence_interval()
        assert ((low < 0.0) & (high > 0.0)).all()
    got, _, _ = with_k([0.1, 0.6])
    assert (got - summarize(sobol_rows(2, 8, 64, seed=5))).flagged.tolist() == [False, True]


# --- tables, exports, figures ---------------------------------------------------------------------


def test_tables_show_what_replicates_gain():
    got, _, _ = with_k([0.1, 0.7, 0.45])
    headings = " ".join(got.summary().splitlines())
    assert "variance_ratio" in headings
    assert "ess/K" in headings
    assert " ess " not in headings
    # A lower end in place of the error.
    assert " > " in got.summary()
    text = repr(got)
    assert "least variance_ratio=" in text
    assert "n_samples=1024, sampler='sobol', replicates=8" in text
    assert "ess" not in text
    report = as_text(got)
    assert "K = 1024 draws in 8 replicates" in report
    assert "sum SE^2/2" in report
    bounds = got.bounds()
    assert bounds.corrected
    assert "It has SE^2/2 added" in repr(bounds)
    np.testing.assert_array_equal(bounds.bias, [0.0, np.nan, 0.0])
    facts = json.loads(as_json(got))
    assert (facts["sampler"], facts["replicates"], facts["rotation"]) == ("sobol", 8, "exact")
    assert facts["pareto_k_threshold"] == 0.5
    assert facts["variance_ratio"][1] is None


def test_exports_have_the_sampler():
    pytest.importorskip("pandas")
    pytest.importorskip("xarray")
    got, _, _ = with_k([0.1, 0.7])
    frame, data = got.to_pandas(), got.to_xarray()
    np.testing.assert_array_equal(frame["variance_ratio"], got.variance_ratio)
    np.testing.assert_array_equal(data["variance_ratio"], got.variance_ratio)
    assert data["variance_ratio"].attrs["units"] == "1"
    for attributes in (frame.attrs, data.attrs):
        assert attributes["sampler"] == "sobol"
        assert attributes["replicates"] == 8
        assert attributes["pilot_samples"] == 100
        assert attributes["rotation"] == "exact"
    again = pickle.loads(pickle.dumps(got))
    np.testing.assert_array_equal(again.confidence_interval(), got.confidence_interval())


def test_figures():
    got, _, _ = with_k([0.1, 0.7, 0.45, np.nan])
    ax = got.plot("pareto_k")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    for label in (
        "limit of good, 0.40",
        "limit of doubtful, 0.50",
        "1 good",
        "1 doubtful",
        "1 bad",
    ):
        assert label in labels
    got.plot("bounds")
    fe.plotting.plot_convergence([got, with_k([0.1] * 4, n=256)[0]])


# --- what comes in --------------------------------------------------------------------------------


def test_shapes_that_do_not_fit():
    rows = iid_rows(3, 4, 32)
    for value, count in ((rows, 8), (rows[0, 0], 32), (rows.reshape(3, 128), 4)):
        with pytest.raises(InvalidInputError, match=r"shape \(\.\.\., R, n\) with R = replicates"):
            fe.summarize(value, replicates=count)
    with pytest.raises(InvalidInputError, match=r"got shape \(3, 4, 32\)"):
        fe.summarize(rows, replicates=8)
    with pytest.raises(InvalidInputError, match="axis must be None with replicates"):
        fe.summarize(rows, axis=0, replicates=4)
    with pytest.raises(InvalidInputError, match="replicates must be at least 2, got 1"):
        fe.summarize(rows, replicates=1)
    with pytest.raises(InvalidInputError, match="replicates must be None for pieces"):
        fe.summarize(iter([rows]), replicates=4)


def test_files_and_other_libraries(tmp_path):
    rows = iid_rows(3, 4, 32)
    want = summarize(rows, iw_sizes=(2,))
    path = tmp_path / "rows.npy"
    np.save(path, rows)
    others = [path, np.load(path, mmap_mode="r"), np.asfortranarray(rows), rows.tolist()]
    xarray = pytest.importorskip("xarray")
    others.append(xarray.DataArray(rows, dims=("point", "chain", "draw")))
    others.append(xarray.DataArray(np.moveaxis(rows, 0, -1), dims=("chain", "draw", "point")))
    for other in others:
        got = fe.summarize(other, replicates=4, iw_sizes=(2,))
        for name, array in want.to_dict().items():
            np.testing.assert_array_equal(got.to_dict()[name], array)
    single = fe.summarize(rows.astype(np.float32), replicates=4, iw_sizes=(2,))
    np.testing.assert_allclose(single.log_evidence_se, want.log_evidence_se, rtol=1e-5)


class ReplicatedTerms(fe.ElboTerms):
    replicates = 4


def some_terms():
    rng = np.random.default_rng(0)
    return ReplicatedTerms(*(rng.normal(size=(3, 4, 32)) for _ in range(3)))


def test_terms_know_their_replicates():
    terms = some_terms()
    est = fe.summarize(terms)
    assert (est.replicates, est.sampler) == (4, "sobol")
    want = summarize(terms.log_weights)
    np.testing.assert_array_equal(est.log_evidence_se, want.log_evidence_se)
    for name, term in (
        ("expected_log_likelihood", terms.log_likelihood), ("kl", terms.log_q - terms.log_prior)
    ):  # fmt: skip
        by_replicate = term.mean(axis=2)
        np.testing.assert_allclose(getattr(est, name), by_replicate.mean(axis=1), rtol=1e-12)
        error = by_replicate.std(axis=1, ddof=1) / 2.0
        np.testing.assert_allclose(getattr(est, f"{name}_se"), error, rtol=1e-10)
    with pytest.raises(InvalidInputError, match="replicates must be 4"):
        fe.summarize(terms, replicates=2)
    np.testing.assert_allclose(fe.ess(terms), est.ess)


@pytest.mark.parametrize(
    "call",
    [
        lambda terms: fe.iw_elbo(terms, 2),
        lambda terms: fe.jackknife(terms),
        lambda terms: fe.resample(terms, 2),
        lambda terms: fe.psis(terms),
        lambda terms: fe.pareto_k(terms),
        lambda terms: fe.loo(terms),
        lambda terms: fe.cubo(terms, 2),
        lambda terms: fe.renyi_bound(terms, 0.5),
        lambda terms: fe.LogWeightAccumulator().update(terms),
    ],
)
def test_what_needs_independent_draws_refuses_them(call):
    with pytest.raises(InvalidInputError, match="independent draws, got terms of 4 replicates"):
        call(some_terms())


# --- data points with numbers of draws of their own -----------------------------------------------


def joined(counts, seed=0, corrected=False):
    """One estimate of data points with these numbers of draws, and those of each alone."""
    rng = np.random.default_rng(seed)
    alone = [fe.summarize(rng.normal(size=(1, k)), iw_sizes=(2,)) for k in counts]
    longest = max(kept_draws(k) for k in counts)

    def padded(tail):
        row = np.full((1, longest), np.nan)
        if tail is not None:
            row[:, : tail.shape[1]] = tail
        return row

    names = ("log_evidence", "ess", "relative_variance", "n_zero", "pareto_k", "pareto_k_elbo")
    names += ("elbo", "elbo_se", "kl", "kl_se")
    names += ("expected_log_likelihood", "expected_log_likelihood_se")
    values = {name: np.concatenate([getattr(est, name) for est in alone]) for name in names}
    values["jensen_gap_se"] = np.concatenate([est._gap_se for est in alone])
    values["iw_value"] = np.concatenate([est.iw_elbo(2).value for est in alone])[:, None]
    values["iw_se"] = np.concatenate([est.iw_elbo(2).se for est in alone])[:, None]
    values["tail"] = np.concatenate([padded(est._tail) for est in alone])
    counts = np.array(counts)
    with quiet():
        warn_about_weights(counts, values)
    options = {"independent": True, "corrected": corrected}
    return from_quantities(values, (len(counts),), counts, [2], **options), alone


def test_each_data_point_is_as_it_is_alone():
    counts = [1000, 15, 2048, 1000, 5, 4000, 60]
    est, alone = joined(counts)
    np.testing.assert_array_equal(est.n_samples, counts)
    for name in ("log_evidence", "log_evidence_se", "jensen_gap_se", "elbo_se", "min_draws"):
        want = [getattr(each, name)[0] for each in alone]
        np.testing.assert_array_equal(getattr(est, name), want)
    for name in ("log_evidence", "jensen_gap", "elbo"):
        ends = np.array(est.confidence_interval(name))
        want = np.array([each.confidence_interval(name) for each in alone])[..., 0].T
        np.testing.assert_allclose(ends, want, rtol=1e-12)
    without = dataclasses.replace(est, _tail=None)
    want = [dataclasses.replace(each, _tail=None).confidence_interval() for each in alone]
    np.testing.assert_array_equal(without.confidence_interval(), np.array(want)[..., 0].T)
    with quiet():
        total, totals = est.total(), [each.total() for each in alone]
    assert total.bias_correction == pytest.approx(sum(each.bias_correction for each in totals))
    np.testing.assert_allclose(
        est.bounds().bias, np.concatenate([each.bounds().bias for each in alone])
    )
    # Lines of single rows are those of the interval of all.
    heavy = dataclasses.replace(est, log_evidence_se=np.full(len(counts), np.nan))
    assert heavy.summary().count(" in [") + heavy.summary().count("> ") >= 5


def test_limits_are_those_of_each_data_point():
    counts = np.array([30, 1000, 10**6, 1])
    want = [k_threshold(int(k)) for k in counts]
    np.testing.assert_array_equal(k_threshold(counts), want)
    np.testing.assert_array_equal(kept_draws(counts), [kept_draws(int(k)) for k in counts])
    np.testing.assert_array_equal(high_k(np.full(4, 0.5), counts), [True, False, False, True])
    value, v = np.zeros(4), np.array([0.1, 0.2, 3.0, np.nan])
    ends = delta_interval(counts, value, v, 0.9)
    each = [delta_interval(int(k), value[i], v[i], 0.9) for i, k in enumerate(counts)]
    np.testing.assert_array_equal(np.transpose(ends), each)
    est, _ = joined([30, 1000])
    assert "(-inf, 0.32 to 0.67]" in est.pareto_k_table()


def test_texts_and_exports_of_such_data_points():
    est, _ = joined([1000, 2048, 512])
    assert "n_samples=512 to 2048" in repr(est)
    assert "K = 512 to 2048 draws" in as_text(est)
    assert "all K = 512 to 2048 draws" in repr(est.bounds())
    assert "n_samples" in est.summary()
    assert "2048" in est.summary()
    assert json.loads(as_json(est))["n_samples"] == [1000, 2048, 512]
    assert len(json.loads(as_json(est))["pareto_k_threshold"]) == 3
    pytest.importorskip("pandas")
    pytest.importorskip("xarray")
    frame, data = est.to_pandas(), est.to_xarray()
    assert frame["n_samples"].tolist() == data["n_samples"].values.tolist() == [1000, 2048, 512]
    assert "n_samples" not in frame.attrs
    ax = est.plot("pareto_k")
    assert ax.get_legend() is not None
    est.plot("bounds")
    est.plot("bounds", point=1)
    fe.plotting.plot_convergence([est, joined([100, 100, 200])[0]])
    assert (est - joined([1000, 2048, 512], seed=1)[0]).flagged.shape == (3,)


def test_corrected_evidence_of_independent_draws():
    counts = [1000, 2048]
    plain, _ = joined(counts)
    est, _ = joined(counts, corrected=True)
    correction = 0.5 * plain.log_evidence_se**2
    np.testing.assert_allclose(est.log_evidence, plain.log_evidence + correction)
    np.testing.assert_allclose(est.jensen_gap, plain.jensen_gap + correction)
    for name in ("log_evidence", "jensen_gap"):
        # Moved with the estimates, so that the shortest interval holds its estimate.
        ends = np.array(plain.confidence_interval(name)) + correction
        np.testing.assert_allclose(est.confidence_interval(name), ends, rtol=1e-12)
    for name in ("log_evidence", "uncorrected_log_evidence"):
        assert getattr(est.total(), name) == pytest.approx(getattr(plain.total(), name))
    # The reaches of a plain total are those of its data points about corrected estimates.
    np.testing.assert_allclose(
        est.total().confidence_interval(),
        plain.total().confidence_interval(),
        atol=correction.sum(),
        rtol=0.0,
    )
    np.testing.assert_array_equal(est.bounds().bias, 0.0)
    assert "SE^2/2" in est.bounds().meaning


def test_tails_of_several_lengths():
    rng = np.random.default_rng(1)
    rows = [np.sort(rng.normal(size=k))[::-1] for k in (500, 2000, 40)]
    value = np.array([logsumexp(row) - np.log(row.size) for row in rows])
    v = np.array([np.exp(row).var(ddof=1) / np.exp(row).mean() ** 2 for row in rows])
    counts = np.array([500, 2000, 40])
    tail = np.full((3, kept_draws(2000)), np.nan)
    for i, row in enumerate(rows):
        tail[i, : kept_draws(row.size)] = row[: kept_draws(row.size)]
    got = np.array(tail_interval(counts, value, v, tail, 0.9))
    for i, row in enumerate(rows):
        want = tail_interval(row.size, value[i], v[i], row[: kept_draws(row.size)], 0.9)
        np.testing.assert_allclose(got[:, i], want, rtol=1e-12)
