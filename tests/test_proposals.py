"""Several q at once: weights by their mixture, stratified errors, and what they refuse."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, bits, linear_gaussian
from scipy import stats
from scipy.special import logsumexp
from test_protocol import GivenLikelihood

import fastelbo as fe
from fastelbo.engine import stored
from fastelbo.engine.requests import backend_named
from fastelbo.engine.stratified import new_strata
from fastelbo.models.proposals import as_proposals
from fastelbo.models.sampling import IID
from fastelbo.models.terms import Supplied
from fastelbo.weights.strata import stratified_errors

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

MODEL = linear_gaussian()
EXACT = float(MODEL.exact_log_evidence()[0])


def normal(mean, variance):
    return fe.Gaussian([mean], scale=math.sqrt(variance))


# q with their variances, shares, and n SE^2 / Z^2 (stratified, and of all draws together) and ELBO.
KNOWN = {
    "near and prior": ([(0.0, 1.0), (0.4, 0.4)], [0.5, 0.5], 0.12351140, 0.13431962, -1.65903858),
    "two narrow": ([(-1.0, 0.25), (1.0, 0.25)], [0.5, 0.5], 0.73618280, 0.98589676, -2.22936552),
    "defensive": ([(0.5, 0.3), (0.0, 4.0)], [0.9, 0.1], 0.09515696, 0.09600025, -1.70943918),
}


# --- oracles ------------------------------------------------------------------------------------


def by_quadrature(qs, shares):
    """For x = 1: log Z, n SE^2 / Z^2 stratified and of all draws, the ELBO, and n SE^2 of it."""
    z, step = np.linspace(-14.0, 14.0, 400_001, retstep=True)
    log_p = stats.norm.logpdf(z) + stats.norm.logpdf(1.0 - z)
    logs = [stats.norm.logpdf(z, mean, math.sqrt(variance)) for mean, variance in qs]
    log_w = log_p - logsumexp(np.array(logs), axis=0, b=np.array(shares)[:, None])
    w, evidence = np.exp(log_w), np.exp(log_p).sum() * step
    found = np.zeros(4)
    for share, log_q in zip(shares, logs, strict=True):
        q = step * np.exp(log_q)
        first, second = (q * w).sum() / evidence, (q * w * w).sum() / evidence**2
        mean, square = (q * log_w).sum(), (q * log_w**2).sum()
        found += share * np.array([second - first**2, second, mean, square - mean**2])
    return math.log(evidence), found[0], found[1] - 1.0, found[2], found[3]


def plain_log_density(q, z):
    """Log densities of one distribution without a batch, by SciPy."""
    if isinstance(q, fe.Mixture):
        parts = [plain_log_density(component(q, c), z) for c in range(q.weights.shape[-1])]
        return logsumexp(np.stack(parts, -1), axis=-1, b=q.weights)
    tril = np.diag(q.scale) if q.scale is not None else q.scale_tril
    shape = tril @ tril.T
    if isinstance(q, fe.StudentT):
        return stats.multivariate_t.logpdf(z, q.mean, shape, df=float(q.df))
    return stats.multivariate_normal.logpdf(z, q.mean, shape)


def component(mixture, c):
    own = mixture.components
    if isinstance(own, fe.StudentT):
        return fe.StudentT(own.df[c], own.mean[c], scale=own.scale[c])
    return fe.Gaussian(own.mean[c], scale=own.scale[c])


def plain_errors(terms, order, counts):
    """Stratified standard errors from the terms (n,) of shuffled draws, by their formulas."""
    own = np.searchsorted(np.cumsum(counts), order, side="right")
    likelihood, prior, log_q = terms
    log_w = likelihood + prior - log_q
    w = np.exp(log_w - logsumexp(log_w)) * len(log_w)
    means = {
        "log_evidence": w,
        "elbo": log_w,
        "expected_log_likelihood": likelihood,
        "kl": log_q - prior,
        "jensen_gap": w - log_w,
    }
    return {
        name: math.sqrt(
            sum((n / len(w)) ** 2 * value[own == j].var(ddof=1) / n for j, n in enumerate(counts))
        )
        for name, value in means.items()
    }


def strata_of(model, qs, n_samples, rng=0):
    return new_strata(model, as_proposals(qs), n_samples, rng, 0, "float64", None, True, IID)


# --- known answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOWN)
def test_the_known_answers_are_those_of_quadrature(name):
    qs, shares, *known = KNOWN[name]
    evidence, *found, _ = by_quadrature(qs, shares)
    assert evidence == pytest.approx(EXACT, abs=1e-12)
    np.testing.assert_allclose(found, known, rtol=0, atol=1e-8)


def known_estimate(name, total, rng):
    qs, shares, stratified, plain, elbo = KNOWN[name]
    counts = [round(share * total) for share in shares]
    # Two narrow q have k-hats about the limit, where a finite variance does not show.
    options = {"iw_sizes": (), "pareto_k": False}
    est = fe.estimate(MODEL, [normal(*q) for q in qs], counts, rng=rng, **options)
    assert abs(est.log_evidence - EXACT)[0] < 4.5 * math.sqrt(stratified / total)
    assert abs(est.log_evidence - EXACT)[0] < 4.5 * est.log_evidence_se[0]
    assert abs(est.elbo - elbo)[0] < 4.5 * est.elbo_se[0]
    gap = abs(est.jensen_gap - (EXACT - elbo))[0]
    assert gap < 4.5 * est.jensen_gap_se[0]
    assert est.log_evidence_se[0] == pytest.approx(math.sqrt(stratified / total), rel=0.02)
    assert est.relative_variance[0] == pytest.approx(plain, rel=0.05)
    return est.log_evidence_se[0] / math.sqrt(stratified / total)


@pytest.mark.parametrize("name", KNOWN)
def test_known_answers(name):
    known_estimate(name, 300_000, rng=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_known_answers_of_a_million_draws(name):
    for rng in range(20):
        assert known_estimate(name, 10**6, rng) == pytest.approx(1.0, rel=0.01)


# --- every draw and every error -----------------------------------------------------------------

TRIL = np.array([[0.8, 0.0], [0.3, 0.6]])
WIDE = fe.StudentT(5.0, [0.0, 0.2], scale_tril=1.5 * TRIL)
FULL = fe.Gaussian([0.4, -0.1], scale_tril=TRIL)
DIAGONAL = fe.Gaussian([0.3, 0.1], scale=[0.7, 0.9])
NORMALS = fe.Mixture([0.4, 0.6], fe.Gaussian([[0.0, 0.0], [0.5, -0.5]], scale=[[0.8], [1.1]]))
STUDENTS = fe.Mixture(
    [0.4, 0.6], fe.StudentT([3.0, 40.0], [[0.0, 0.0], [0.5, -0.5]], scale=[[0.8, 1.0], [1.1, 0.9]])
)
# A narrow q far from another: its density is put into the coordinates of the wide one.
NEEDLE = fe.Gaussian([300.0, 0.0], scale=1e-3)
HUGE = fe.Gaussian([0.0, 0.0], scale=1e3)
PLANE = fe.LinearGaussian([1.0, 0.5], [[1.0, 0.5], [-0.25, 1.0]], noise_cov=[0.5, 1.0])
LISTS = {
    "one": [FULL],
    "diagonal": [DIAGONAL, fe.Gaussian([0.0, 0.0], scale=1.0)],
    "full and diagonal": [FULL, DIAGONAL],
    "families": [FULL, WIDE],
    "limit of Student-t": [DIAGONAL, fe.StudentT(np.inf, [0.0, 0.2], scale=1.2)],
    "mixture": [NORMALS, DIAGONAL],
    "all": [STUDENTS, FULL, WIDE, NORMALS, DIAGONAL],
    "far": [HUGE, NEEDLE],
    "far mixture": [NORMALS, NEEDLE, WIDE],
}


@pytest.mark.parametrize("name", LISTS)
def test_terms_of_every_draw(name):
    """log q is that of the mixture, at the draws that `fastelbo.draw` makes again."""
    qs = LISTS[name]
    counts = [40 + 17 * j for j in range(len(qs))]
    strata = strata_of(PLANE, qs, counts)
    z = np.array(
        [
            fe.draw(q, 0, k, key=part.key)
            for q, part in zip(qs, strata.parts, strict=True)
            for k in range(part.n_samples)
        ]
    )[strata.order]
    assert sorted(strata.order) == list(range(sum(counts)))
    assert len({part.key for part in (*strata.parts, strata.pooled)}) == len(qs) + 1
    terms = fe.elbo_terms(PLANE, qs, counts, rng=0)
    shares = np.array(counts) / sum(counts)
    logs = np.stack([plain_log_density(q, z) for q in qs], axis=-1)
    log_q = logsumexp(logs, axis=-1, b=shares)
    # The needle's distance is 3e5 of its scales: its error is that of a rounded coordinate.
    tolerance = 1e-4 if NEEDLE in qs else 1e-12
    np.testing.assert_allclose(terms.log_q, log_q, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        fe.Proposals(qs, shares).log_prob(z), log_q, rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(
        terms.log_likelihood + terms.log_prior, PLANE.log_joint(z), rtol=1e-10, atol=1e-10
    )


BATCHED = {
    "batch of q": (
        fe.LinearGaussian([[1.0], [0.3], [-2.0]], [[1.0]], noise_cov=1.0),
        [fe.Gaussian([[0.5], [0.1], [-1.0]], scale=[[0.6], [0.7], [0.8]]), normal(0.0, 1.5)],
        [700, 350],
    ),
    "batches that broadcast": (
        fe.LinearGaussian([[[1.0]], [[0.3]]], [[1.0]], noise_cov=1.0),
        [
            fe.Gaussian([[0.5], [0.1], [0.2]], scale=1.0),
            fe.StudentT([[4.0], [9.0]], [0.2], scale=1.0),
            fe.Mixture([0.5, 0.5], fe.StudentT(6.0, [[-0.5], [0.5]], scale=1.0)),
        ],
        [300, 200, 100],
    ),
    "three in a plane": (PLANE, [STUDENTS, FULL, WIDE], [500, 2, 9000]),
    "a distribution": (FULL, [NORMALS, WIDE], [400, 500]),
}


@pytest.mark.parametrize("name", BATCHED)
def test_stratified_errors(name):
    model, qs, counts = BATCHED[name]
    est = fe.estimate(model, qs, counts, rng=3, pareto_k=False)
    terms = np.stack(fe.elbo_terms(model, qs, counts, rng=3)).reshape(3, -1, sum(counts))
    order = strata_of(model, qs, counts, 3).order
    assert est.batch_shape == np.broadcast_shapes(model.batch_shape, *(q.batch_shape for q in qs))
    for i in range(terms.shape[1]):
        expected = plain_errors(terms[:, i], order, counts)
        for quantity, se in expected.items():
            got = getattr(est, f"{quantity}_se").reshape(-1)[i]
            assert got == pytest.approx(se, rel=1e-9, abs=1e-15), quantity
        log_w = terms[0, i] + (terms[1, i] - terms[2, i])
        plain = fe.summarize(log_w, pareto_k=False)
        for quantity in ("log_evidence", "elbo", "jensen_gap", "ess", "relative_variance"):
            got = getattr(est, quantity).reshape(-1)[i]
            assert got == pytest.approx(getattr(plain, quantity), rel=1e-12, abs=1e-12), quantity
        for k in est.iw_sizes:
            value = est.iw_elbo(k).value.reshape(-1)[i]
            assert value == pytest.approx(plain.iw_elbo(k).value, rel=1e-12)
        ratio = plain.log_evidence_se**2 / expected["log_evidence"] ** 2
        assert est.variance_ratio.reshape(-1)[i] == pytest.approx(ratio, rel=1e-8)


def test_weights_of_zero_in_one_q():
    half = fe.Model(log_joint=half_normal, dim=1)
    qs, counts = [normal(-9.0, 0.25), normal(1.0, 1.0)], [300, 500]
    est = fe.estimate(half, qs, counts, rng=0, pareto_k=False)
    w = np.exp(fe.log_weights(half, qs, counts, rng=0))
    own = np.searchsorted([300, 800], strata_of(half, qs, counts).order, side="right")
    assert (w[own == 0] == 0.0).all()
    se = math.sqrt(w[own == 1].var(ddof=1) * (500 / 800) ** 2 / 500) / w.mean()
    assert est.log_evidence_se == pytest.approx(se, rel=1e-12)
    assert np.isneginf(est.elbo)
    assert np.isnan([est.elbo_se, est.jensen_gap_se]).all()
    none = fe.estimate(half, [normal(-9.0, 0.25), normal(-9.0, 0.5)], 100, rng=0)
    assert np.isneginf(none.log_evidence)
    assert np.isnan(none.log_evidence_se)


def half_normal(z):
    return -0.5 * z[0] ** 2 if z[0] > 0.0 else -np.inf


def test_few_draws_of_one_q():
    with pytest.warns(fe.errors.ShortTailWarning, match=r"q\[1\] with 10 draws") as caught:
        fe.estimate(MODEL, [normal(0.5, 0.3), normal(0.0, 4.0)], [90, 10], rng=0)
    assert caught[0].filename == __file__


def test_equal_weights_have_no_error():
    with pytest.warns(fe.errors.ConstantWeightsWarning):
        est = fe.estimate(FULL, [FULL, FULL], [60, 30], rng=0)
    assert est.log_evidence_se < 1e-15
    assert abs(est.log_evidence) < 1e-14


def test_errors_of_large_numbers_do_not_overflow():
    """From squares of 1e400 and more, which are no floats."""
    one = np.ones(1)
    stratum = {
        "log_evidence": 0.0 * one, "relative_variance": one, "elbo_se": 1e300 * one,
        "kl_se": 1e300 * one, "expected_log_likelihood_se": one, "jensen_gap_se": 1e300 * one,
    }  # fmt: skip
    found = stratified_errors({"log_evidence": 0.0 * one}, [stratum] * 2, np.array([50, 50]))
    for name in ("elbo_se", "kl_se", "jensen_gap_se"):
        assert found[name] == pytest.approx(1e300 * math.sqrt(0.5), rel=1e-12)
    assert found["stratified_evidence_se"] == pytest.approx(0.1, rel=1e-12)


def test_a_heavy_tail_is_that_of_the_draws_of_one_q():
    """A few draws of a wide q among many are no heavy tail of log weights; a Student-t is one."""
    model = linear_gaussian(np.ones(200))
    near, wide, heavy = normal(0.5, 0.3), normal(0.0, 4.0), fe.StudentT(1.0, [0.0], scale=1.0)
    est = fe.estimate(model, fe.defensive(near, wide), 1000, rng=0)
    assert np.isnan(est.elbo_se).mean() < 0.2
    together = fe.summarize(fe.elbo_terms(model, fe.defensive(near, wide), 1000, rng=0))
    assert np.isnan(together.elbo_se).mean() > 0.8
    counts = [3000, 1000]
    with pytest.warns(
        fe.errors.HighParetoKWarning, match="lower tail exceeds 0.67, the limit for 1000"
    ):
        est = fe.estimate(model, [near, heavy], counts, rng=0)
    flagged = np.isnan(est.elbo_se)
    assert flagged.mean() > 0.8
    limit = 1.0 - 1.0 / math.log10(1000)
    np.testing.assert_array_equal(flagged, np.nan_to_num(est.pareto_k_elbo) > limit)
    # The law of the tail of its draws is that of their own terms.
    own = np.searchsorted([3000, 4000], strata_of(model, [near, heavy], counts).order, side="right")
    log_w = fe.log_weights(model, [near, heavy], counts, rng=0)
    alone = fe.summarize(log_w[:, own == 1])
    np.testing.assert_allclose(est.pareto_k_elbo[flagged], alone.pareto_k_elbo[flagged], rtol=1e-9)


# --- users' models, backends, bits --------------------------------------------------------------


def own_log_joint(z, x):
    return -0.5 * (z[0] ** 2 + (x[0] - z[0]) ** 2) - math.log(2.0 * math.pi)


def host_log_joint(z):
    return -0.5 * (z[:, 0] ** 2 + (1.0 - z[:, 0]) ** 2) - math.log(2.0 * math.pi)


PAIR = [normal(0.0, 1.0), fe.StudentT(5.0, [0.4], scale=0.6)]


@pytest.mark.parametrize(
    "own",
    [
        fe.Model(log_joint=own_log_joint, dim=1, data=[[1.0]]),
        fe.Model(log_joint=host_log_joint, dim=1, vectorized=True),
    ],
    ids=["compiled", "host"],
)
def test_models_of_users(own):
    options = {"n_samples": [3000, 1000], "rng": 4}
    expected, est = fe.estimate(MODEL, PAIR, **options), fe.estimate(own, PAIR, **options)
    for name in ("log_evidence", "log_evidence_se", "elbo", "elbo_se", "jensen_gap_se", "pareto_k"):
        value = getattr(est, name).reshape(-1)
        np.testing.assert_allclose(value, getattr(expected, name), rtol=1e-9, err_msg=name)
    assert np.isnan(est.kl).all()
    assert "log p(x, z) as a whole" in est.summary()


@pytest.mark.parametrize("name", BATCHED)
def test_backends(name):
    model, qs, counts = BATCHED[name]
    options = {"n_samples": counts, "rng": 5, "iw_sizes": (3, 50)}
    cpu, plain = (fe.estimate(model, qs, **options, backend=b) for b in ("cpu", "numpy"))
    for key, value in plain.to_dict().items():
        np.testing.assert_allclose(cpu.to_dict()[key], value, rtol=1e-8, atol=1e-9, err_msg=key)
    terms = (fe.elbo_terms(model, qs, counts, rng=5, backend=b) for b in ("cpu", "numpy"))
    for got, expected in zip(*terms, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_single_precision():
    model, qs, counts = BATCHED["batches that broadcast"]
    options = {"n_samples": counts, "rng": 5}
    double, single = (
        fe.estimate(model, qs, **options, precision=precision)
        for precision in ("float64", "float32")
    )
    assert not np.array_equal(double.log_evidence, single.log_evidence)
    for name in ("log_evidence", "log_evidence_se", "elbo", "elbo_se"):
        np.testing.assert_allclose(getattr(single, name), getattr(double, name), atol=3e-5)


def test_no_thread_or_slice_changes_a_bit(monkeypatch):
    model, qs, counts = BATCHED["batches that broadcast"]
    expected = bits(fe.estimate(model, qs, counts, rng=6))
    assert bits(fe.estimate(model, qs, counts, rng=6, n_threads=1)) == expected
    assert bits(fe.estimate(model, tuple(qs), tuple(counts), rng=6)) == expected
    assert bits(fe.estimate(model, fe.Proposals(qs), np.array(counts), rng=6)) == expected
    assert bits(fe.estimate(model, qs, counts, rng=7)) != expected
    monkeypatch.setattr(stored, "STORED_NUMBERS", 1)
    assert bits(fe.estimate(model, qs, counts, rng=6)) == expected


def test_a_minibatch_has_the_draws_of_the_whole():
    x = np.array([[1.0], [0.3], [-2.0]])
    whole, part = (
        fe.estimate(
            fe.LinearGaussian(rows, [[1.0]], noise_cov=1.0), PAIR, [200, 100], rng=8,
            first_index=first,
        )
        for rows, first in ((x, 0), (x[1:], 1))
    )  # fmt: skip
    for key, value in part.to_dict().items():
        expected = np.asarray(whole.to_dict()[key])
        expected = expected[1:] if expected.ndim else expected
        np.testing.assert_array_equal(value, expected, err_msg=key)


def test_no_data_points():
    model = fe.LinearGaussian(np.zeros((0, 1)), [[1.0]], noise_cov=1.0)
    for backend in ("cpu", "numpy"):
        est = fe.estimate(model, PAIR, 100, rng=0, backend=backend)
        assert est.log_evidence_se.shape == (0,)
        assert fe.log_weights(model, PAIR, 100, rng=0, backend=backend).shape == (0, 100)


# --- what an estimate of several q tells --------------------------------------------------------


def test_counts():
    qs = [FULL, WIDE, DIAGONAL]
    assert fe.Proposals(qs).counts(None) == (334, 333, 333)
    assert fe.Proposals(qs, [0.5, 0.3, 0.2]).counts(11) == (6, 3, 2)
    assert fe.Proposals(qs).counts((2, 5, 3)) == (2, 5, 3)
    assert fe.defensive(FULL, WIDE).counts(1005) == (905, 100)
    assert fe.defensive(FULL, WIDE, share=0.25).counts(1000) == (750, 250)
    assert fe.estimate(PLANE, fe.defensive(FULL, WIDE), rng=0).n_samples == 1000
    assert fe.estimate(PLANE, fe.defensive(FULL, WIDE), [20, 50], rng=0).n_samples == 70
    for total in (17, 100, 12345):
        shares = np.random.default_rng(total).dirichlet([5.0] * 3)
        counts = np.array(fe.Proposals(qs, shares).counts(total))
        assert counts.sum() == total
        assert (abs(counts - total * shares) < 1.0).all()


def test_what_the_estimate_says():
    model, qs, counts = BATCHED["batch of q"]
    est = fe.estimate(model, qs, counts, rng=0)
    assert (est.n_samples, est.proposals, est.sampler, est.replicates) == (1050, 2, "iid", 1)
    assert "n_samples=1050, proposals=2" in repr(est)
    assert est.to_dict()["proposals"] == 2
    assert "variance_ratio" in est.to_dict()
    one = fe.estimate(model, qs[1], 1050, rng=0)
    assert one.proposals == 1
    assert "proposals" not in one.to_dict()
    np.testing.assert_array_equal(one.variance_ratio, 1.0)
    assert est.summary().count("\n") >= 3
    variance = est.log_evidence_se**2
    np.testing.assert_allclose(est.bounds().bias, variance / 2, rtol=1e-12)
    assert "SE^2/2" in est.bounds().meaning
    total = est.total()
    assert total.bias_correction == pytest.approx(variance.sum() / 2)
    assert total.log_evidence_se == pytest.approx(math.sqrt(variance.sum()))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(est)).log_evidence_se, est.log_evidence_se
    )


def test_exports_and_figures():
    est = fe.estimate(*BATCHED["batch of q"], rng=0)
    assert est.to_xarray().attrs["proposals"] == 2
    assert est.to_pandas().attrs["proposals"] == 2
    pytest.importorskip("matplotlib").use("Agg")
    assert len(est.plot(point=0).get_lines()) > 0


def test_differences():
    est, same = (fe.estimate(MODEL, PAIR, [50, 60], rng=0) for _ in range(2))
    with pytest.raises(fe.errors.InvalidInputError, match="draws of their own"):
        est - same
    other = fe.estimate(MODEL, PAIR, [50, 60], rng=1)
    assert (est - other).se == pytest.approx(np.hypot(est.log_evidence_se, other.log_evidence_se))
    # The draws of a single q with the same seed are others.
    assert np.isfinite((est - fe.estimate(MODEL, PAIR[0], 110, rng=0)).se)


def test_proposals_never_change():
    qs = fe.Proposals(PAIR, [0.25, 0.75])
    assert repr(qs) == "Proposals(dim=1, batch_shape=(), qs=2, shares=[0.25, 0.75])"
    for each in (qs, copy.deepcopy(qs), pickle.loads(pickle.dumps(qs))):
        assert not each.shares.flags.writeable
        with pytest.raises(AttributeError):
            each.shares = [0.5, 0.5]
        assert each.log_prob([[0.3]]) == qs.log_prob([[0.3]])
    assert (len(qs), list(qs)) == (2, PAIR)
    batched = fe.Proposals([fe.Gaussian(np.zeros((3, 1, 2)), scale=1.0), NEEDLE, WIDE])
    assert (batched.batch_shape, batched.dim) == ((3, 1), 2)
    assert batched.log_prob(np.zeros((5, 3, 1, 2))).shape == (5, 3, 1)
    far = fe.Proposals([normal(0.0, 1e-300), normal(1.0, 1e-300)])
    assert np.isneginf(far.log_prob([1e200]))


# --- errors -------------------------------------------------------------------------------------


def bad_beyond_two(z):
    return math.log(2.0 - z[0]) - z[0] ** 2


@pytest.mark.parametrize("call", [fe.estimate, fe.elbo_terms, fe.log_weights])
def test_a_bad_weight_names_its_q_and_its_draw(call):
    model = fe.Model(log_joint=bad_beyond_two, dim=1)
    qs = [normal(0.0, 0.01), normal(1.0, 1.0), normal(0.0, 0.01)]
    with pytest.raises(fe.errors.InvalidWeightError) as caught:
        call(model, qs, [50, 70, 60], rng=0)
    found = re.search(r"fastelbo\.draw\(q\[1\], 0, (\d+), key=(\d+)\) makes", str(caught.value))
    z = fe.draw(qs[1], 0, int(found[1]), key=int(found[2]))
    assert z[0] > 2.0
    place = int(re.search(r"first at data point 0, draw (\d+)", str(caught.value))[1])
    strata = strata_of(model, qs, [50, 70, 60])
    assert strata.order[place] == 50 + int(found[1])


def bad_above_x(z, x):
    return math.log(x[0] - z[0]) - z[0] ** 2


def test_a_bad_weight_of_one_data_point_of_a_batch():
    model = fe.Model(log_joint=bad_above_x, dim=1, data=[[99.0], [1.0]])
    qs = [normal(0.0, 0.01), fe.Gaussian([[[0.0]], [[0.5]]], scale=1.0)]
    with pytest.raises(fe.errors.InvalidWeightError, match=r"draw\(q\[1\], 1, \d+, key=") as caught:
        fe.estimate(model, qs, [50, 50], rng=0)
    call = re.search(r"fastelbo\.(draw\(.*?batch_shape=\(2, 2\)\))", str(caught.value))[1]
    assert eval(call, {"draw": fe.draw, "q": qs})[0] > 1.0


TWO = [normal(0.0, 1.0), normal(1.0, 1.0)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"q": []}, "q must have at least one distribution, got none"),
        ({"q": [TWO[0], "q"]}, r"q\[1\] must be a Gaussian, StudentT or Mixture, got 'q'"),
        ({"q": [TWO]}, r"q\[0\] must be a Gaussian"),
        ({"q": [TWO[0], fe.Categorical([0.5, 0.5])]}, r"q\[1\] must be a Gaussian"),
        ({"q": [TWO[0], fe.Gaussian]}, r"q\[1\] must be a Gaussian"),
        ({"q": [TWO[0], FULL]}, r"of one dimension, got 1 of q\[0\] and 2 of q\[1\]"),
        ({"q": [FULL, WIDE]}, "model and q must have the same dimension, got 1 and 2"),
        (
            {"q": [fe.Gaussian(np.zeros((k, 1)), scale=1.0) for k in (2, 3)]},
            r"must broadcast, got q\[0\] \(2,\), q\[1\] \(3,\)",
        ),
        ({"q": [fe.Gaussian(np.zeros((2, 1)), scale=1.0)] * 2, "model": BATCHED["batch of q"][0]},
         "must broadcast, got model"),
        ({"n_samples": [100]}, "one number for each of 2 q, got 1"),
        ({"n_samples": [100, 1]}, r"n_samples\[1\] must be at least 2, got 1"),
        ({"n_samples": [100, 2.5]}, r"n_samples\[1\] must be an integer"),
        ({"n_samples": [True, 5]}, r"n_samples\[0\] must be an integer, got the bool"),
        ({"n_samples": 3}, r"at least 2 draws, got 3, of which q\[1\] with a share of 0.5 has 1"),
        ({"n_samples": "many"}, "n_samples must be an integer"),
        ({"iw_sizes": [201]}, "iw_sizes must be at most n_samples = 200"),
        ({"sampler": "sobol"}, 'sampler must be "iid" for several q, got "sobol"'),
        ({"analytic_kl": True}, "analytic_kl must be False for several q"),
        ({"n_samples": None, "target_se": 0.1}, "target_se must not be given for several q, got"),
        ({"n_samples": None, "target_total_se": 0.1}, "target_total_se must not be given for sev"),
        ({"model": fe.MixtureModel([[0.0]], NORMALS.components and fe.Mixture(
            [1.0], fe.Gaussian([[0.0]], scale=1.0)))}, "n_samples must not be given"),
        ({"q": TWO[0], "n_samples": [50, 50]}, "n_samples must be an integer"),
    ],
)  # fmt: skip
def test_bad_input(given, message):
    arguments = {"model": MODEL, "q": TWO, "n_samples": [100, 100], "rng": 0} | given
    with pytest.raises(fe.errors.InvalidInputError, match=message):
        fe.estimate(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fe.Proposals(TWO, [0.5, 0.6]), "shares must sum to 1"),
        (lambda: fe.Proposals(TWO, [0.0, 1.0]), "shares must be positive"),
        (lambda: fe.Proposals(TWO, [1.0]), r"one number for each of 2 q, got shape \(1,\)"),
        (lambda: fe.Proposals(TWO[0]), "qs must be a sequence of distributions"),
        (lambda: fe.Proposals(TWO).log_prob([np.nan]), "z must be finite"),
        (lambda: fe.Proposals(TWO).log_prob([0.0, 1.0]), "z"),
        (lambda: fe.defensive(*TWO, share=0.0), "share must be between 0 and 1, got 0.0"),
        (lambda: fe.defensive(*TWO, share=1), "share must be between 0 and 1, got 1"),
        (lambda: fe.defensive(*TWO, share=np.nan), "share must be between 0 and 1, got nan"),
        (lambda: fe.defensive(*TWO, share="half"), "share must be a real number"),
        (
            lambda: fe.defensive(TWO[0], 3.0),
            "wide must be a Gaussian, StudentT or Mixture, got",
        ),
        (lambda: fe.defensive("q", TWO[0]), "q must be a Gaussian, StudentT or Mixture, got 'q'"),
        (lambda: fe.defensive(TWO[0], FULL), "wide must have the dimension of q, 1, got 2"),
        (lambda: fe.Proposals([TWO[0], 1]), r"qs\[1\] must be a Gaussian"),
        (lambda: fe.Proposals([]), "qs must have at least one distribution, got none"),
    ],
)
def test_bad_proposals(make, message):
    with pytest.raises(fe.errors.InvalidInputError, match=message):
        make()


def test_supplied_values_are_those_of_one_q():
    model = GivenLikelihood(TWO[0], Supplied(np.zeros(200), dim=1))
    with pytest.raises(fe.errors.InvalidInputError, match="model must not have supplied values"):
        fe.estimate(model, TWO, [100, 100], rng=0)


def test_too_many_draws():
    with pytest.raises(OverflowError):
        fe.estimate(MODEL, TWO, [2**41, 2])
    with pytest.raises(OverflowError):
        fe.estimate(MODEL, TWO, [2**40, 2**40])
    with pytest.raises(MemoryError, match="the terms of all draws"):
        fe.estimate(MODEL, TWO, 2**39)


def test_backends_are_named():
    strata = strata_of(MODEL, TWO, 100)
    assert type(backend_named("numpy", None, 0, strata.pooled)).__name__ == "NumPyBackend"


# --- the law of the estimates -------------------------------------------------------------------

REPEATS = 4000


@pytest.mark.statistical
@pytest.mark.parametrize("pareto_k", [True, False])
def test_coverage(pareto_k):
    """Of q whose means differ, so that the error of all draws together would cover 99 %."""
    qs, shares = [(0.4, 0.6), (2.5, 0.5)], [0.5, 0.5]
    _, stratified, plain, elbo, _ = by_quadrature(qs, shares)
    assert plain > 3.0 * stratified
    model = linear_gaussian(np.ones(REPEATS))
    options = {"rng": 9, "iw_sizes": [10], "pareto_k": pareto_k}
    est = fe.estimate(model, [normal(*q) for q in qs], [400, 400], **options)
    z = (est.log_evidence - EXACT) / est.log_evidence_se
    # A sd of 4000 has a standard error of 1.1 %.
    assert 0.95 < z.std() < 1.05
    # The coverage has a standard error of .0034: the band is 4.4 of them.
    for quantity, truth in (
        ("log_evidence", EXACT), ("elbo", elbo), ("jensen_gap", EXACT - elbo)
    ):  # fmt: skip
        low, high = est.confidence_interval(quantity)
        assert 0.935 < ((low <= truth) & (truth <= high)).mean() < 0.965, quantity
    total = est.total()
    assert abs(total.log_evidence - REPEATS * EXACT) < 4.5 * total.log_evidence_se


@pytest.mark.statistical
def test_bounds_of_shuffled_draws():
    """Groups of two mix the q as the mixture does; in the order of the q, they would not."""
    qs, z = KNOWN["two narrow"][0], np.linspace(-5.0, 5.0, 2001)
    q = np.mean([stats.norm.pdf(z, mean, math.sqrt(variance)) for mean, variance in qs], axis=0)
    w = stats.norm.pdf(z) * stats.norm.pdf(1.0 - z) / q
    mass = q * (z[1] - z[0])
    bound = mass @ np.log(0.5 * (w[:, None] + w)) @ mass
    est = fe.estimate(MODEL, [normal(*q) for q in qs], 10**6, rng=10, iw_sizes=[2])
    value, se = est.iw_elbo(2)
    assert abs(value - bound)[0] < 4.5 * se[0]
    assert bound - est.elbo[0] > 100 * se[0]
