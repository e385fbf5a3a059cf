"""Adapted proposals: known log evidences, symmetries, what is flagged, and bad input."""

import itertools
import math
import warnings

import numpy as np
import posteriors
import pytest
from scipy.stats import multivariate_t

import fastelbo as fe
from fastelbo.engine.adaptation.draws import PastDraws, effective, tempered
from fastelbo.errors import (
    AdaptationWarning,
    InvalidInputError,
    InvalidWeightError,
    LabelSwitchingWarning,
)
from fastelbo.models.counted import CountedJoint
from fastelbo.models.exchangeable import missed_symmetry
from fastelbo.models.student_fit import (
    StudentFit,
    log_densities,
    near_images,
    refitted,
)
from fastelbo.models.symmetries import as_symmetries, symmetric_mixture

GALAXIES_START = np.array([0.0, 0.0, 10.0, 20.0, 23.0, 0.0, 0.0, 0.0])


def adapted(target, seed, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdaptationWarning)
        return fe.adapt(target.model, rng=seed, **options)


def error(found, target):
    """(log evidence - truth) / SE, with the error of the truth."""
    est = found.estimate
    se = math.sqrt(float(est.relative_variance) / int(est.n_samples))
    return (float(est.log_evidence) - target.log_evidence) / math.hypot(se, target.error)


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schools():
    return fe.adapt(posteriors.EIGHT_SCHOOLS.model, rng=1)


def test_eight_schools(schools):
    assert abs(error(schools, posteriors.EIGHT_SCHOOLS)) < 4.5
    assert not schools.flagged
    assert schools.problems == ()
    assert float(schools.estimate.log_evidence_se) <= 0.01
    assert schools.evaluations <= 40_000


def test_the_estimate_is_that_of_fresh_draws(schools):
    # Values of the rounds and of the run: nothing else was computed but for the search and checks.
    last = schools.history[-1].evaluations
    assert last + int(schools.estimate.n_samples) <= schools.evaluations
    sizes = np.diff([each.evaluations for each in schools.history])
    assert (sizes >= 1000).all()
    log_weights = fe.log_weights(posteriors.EIGHT_SCHOOLS.model, schools.q, 20_000, rng=5)
    with warnings.catch_warnings():
        # The tails of q are heavier: its ELBO has no standard error.
        warnings.simplefilter("ignore", fe.errors.HighParetoKWarning)
        other = fe.summarize(log_weights)
    gap = float(other.log_evidence - schools.estimate.log_evidence)
    assert abs(gap) < 4.5 * math.hypot(float(other.log_evidence_se), 0.01)


def test_the_history_and_its_figure(schools):
    pytest.importorskip("matplotlib").use("Agg")
    assert schools.history[-1].beta == 1.0
    assert schools.history[0].beta < 1.0
    assert all(0.0 < each.ess <= each.evaluations for each in schools.history)
    ax = schools.plot()
    x, y = ax.get_lines()[0].get_data()
    assert list(x) == [each.evaluations for each in schools.history]
    assert list(y) == [each.log_evidence for each in schools.history]
    assert ax.get_ylabel() == "log evidence (nats)"


def test_a_result_is_frozen_and_shown(schools):
    assert repr(schools).startswith("Adaptation(Estimate(log_evidence=-31.")
    assert "no problems" in repr(schools)
    with pytest.raises(AttributeError):
        schools.q = None


def test_a_seed_repeats_and_threads_do_not_matter():
    def log_joint(z):
        return -0.5 * (z[0] ** 2 + (z[1] - z[0] ** 2) ** 2)

    model = fe.Model(log_joint=log_joint, dim=2)
    options = {"target_se": 0.03, "round_size": 300}
    with warnings.catch_warnings():
        # Few draws in a round make a poor fit, which may be flagged.
        warnings.simplefilter("ignore", AdaptationWarning)
        found = [fe.adapt(model, rng=3, n_threads=n, **options) for n in (None, 1)]
        other = fe.adapt(model, rng=4, **options)
    assert float(found[0].estimate.log_evidence) == float(found[1].estimate.log_evidence)
    assert found[0].history == found[1].history
    assert float(other.estimate.log_evidence) != float(found[0].estimate.log_evidence)
    assert abs(float(other.estimate.log_evidence) - math.log(2.0 * math.pi)) < 4.5 * 0.03


def test_a_conjugate_model():
    model = fe.LinearGaussian([1.0, 2.0], [[1.0, 0.0], [0.3, 1.0]], noise_cov=0.5)
    found = fe.adapt(model, rng=0, target_se=0.02)
    est = found.estimate
    assert abs(est.log_evidence - model.exact_log_evidence()) < 4.5 * est.log_evidence_se
    assert not found.flagged
    assert np.isfinite(est.kl)


@pytest.mark.parametrize(
    "q0",
    [
        fe.Gaussian([1.0, 1.0], scale=3.0),
        fe.StudentT(3.0, [1.0, 1.0], scale=3.0),
        fe.Mixture([0.5, 0.5, 0.0], fe.Gaussian([[-6.0, 0.0], [6.0, 0.0], [0.0, 0.0]], scale=1.5)),
    ],
)
def test_a_first_proposal(q0):
    def two(z):
        far = np.logaddexp(-0.5 * (z[0] - 5.0) ** 2, -0.5 * (z[0] + 5.0) ** 2)
        return far - 0.5 * (z[1] - 0.3) ** 2 - math.log(4.0 * math.pi)

    found = fe.adapt(fe.Model(log_joint=two, dim=2), q0, rng=0, target_se=0.02)
    assert not found.flagged
    assert abs(float(found.estimate.log_evidence)) < 4.5 * 0.02


# --- what is flagged ------------------------------------------------------------------------------


def test_a_funnel_is_flagged():
    with pytest.warns(AdaptationWarning, match="k-hat of the fresh draws is"):
        found = fe.adapt(posteriors.FUNNEL_10.model, rng=0, max_evaluations=12_000)
    assert found.flagged
    assert np.isnan(found.estimate.log_evidence_se)
    assert "problem: " in repr(found)


def test_a_target_beyond_the_budget_is_flagged():
    model = fe.Model(log_joint=lambda z: -0.5 * (z[0] ** 2 + z[1] ** 2), dim=2)
    with pytest.warns(AdaptationWarning, match="above target_se = 0.001; max_evaluations"):
        found = fe.adapt(model, rng=0, target_se=0.001, max_evaluations=20_000)
    assert found.evaluations <= 20_000 + 300
    assert found.flagged


def labels(z, x):
    """Two labels with means z_0 and z_1."""
    total = -0.5 * ((z[0] / 5.0) ** 2 + (z[1] / 5.0) ** 2)
    for value in x:
        total += np.logaddexp(-2.0 * (value - z[0]) ** 2, -2.0 * (value - z[1]) ** 2)
    return total


X = np.array([-3.1, -2.7, -3.4, 2.9, 3.3, 2.5])


def test_label_switching_is_named_and_symmetries_mend_it():
    model = fe.Model(log_joint=labels, dim=2, params=(X,))
    with pytest.warns(LabelSwitchingWarning, match="swapping coordinates 0 and 1, where"):
        half = fe.adapt(model, rng=0, start=[-3.0, 3.0], target_se=0.02)
    assert half.flagged
    whole = fe.adapt(model, rng=0, start=[-3.0, 3.0], target_se=0.02, symmetries=[[1, 0]])
    assert not whole.flagged
    gap = float(whole.estimate.log_evidence - half.estimate.log_evidence)
    assert abs(gap - math.log(2.0)) < 0.13
    # By quadrature.
    grid = np.linspace(-15.0, 15.0, 1501)
    z = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    exact = float(fe.logsumexp(model.log_joint(z))) + 2.0 * math.log(grid[1] - grid[0])
    assert abs(float(whole.estimate.log_evidence) - exact) < 4.5 * 0.02
    assert whole.q.weights.shape == (2 * half.q.weights.size,) or whole.q.weights.size % 2 == 0


@pytest.mark.parametrize("layout", ["groups", "blocks", "logits", "sign"])
def test_symmetries_are_found_in_each_layout(layout):
    def groups(z):  # three means, three scales, one other
        parts = -((z[..., :3] - 3.0) ** 2) + np.sin(z[..., 3:6]) * z[..., :3]
        return parts.sum(-1) * z[..., 6]

    def blocks(z):  # one other, then three blocks of two
        return (z[..., 1::2] * np.sin(z[..., 2::2])).sum(-1) + z[..., 0]

    def logits(z):  # two labels: a logit against the last, two means
        w = 1.0 / (1.0 + np.exp(-z[..., 0]))
        return np.log(w * np.exp(-(z[..., 1] ** 2)) + (1.0 - w) * np.exp(-(z[..., 2] ** 2)))

    def sign(z):
        return -(z**2).sum(-1) + z[..., 0] * z[..., 1]

    function, dim, words = {
        "groups": (groups, 7, "swapping coordinates 0 and 1, 3 and 4"),
        "blocks": (blocks, 7, "swapping coordinates 1 and 3, 2 and 4"),
        "logits": (
            logits,
            3,
            "swapping coordinates 1 and 2 with changing the sign of coordinates 0",
        ),
        "sign": (sign, 2, "swapping coordinates 0 and 1"),
    }[layout]
    joint = CountedJoint(fe.Model(log_joint=function, dim=dim, vectorized=True))
    draws = np.random.default_rng(0).normal(size=(50, dim)) * 0.1 + np.arange(1.0, dim + 1.0)
    q = fe.Mixture([1.0], fe.Gaussian(np.arange(1.0, dim + 1.0)[None], scale=0.1))
    assert missed_symmetry(joint, q, draws) == words
    wide = fe.Mixture([1.0], fe.Gaussian(np.zeros((1, dim)), scale=50.0))
    assert missed_symmetry(joint, wide, draws) is None


def test_no_symmetry_is_found_where_there_is_none():
    target = posteriors.EIGHT_SCHOOLS
    q = fe.Mixture([1.0], fe.Gaussian(np.zeros((1, 10)), scale=1.0))
    joint = CountedJoint(target.model)
    assert missed_symmetry(joint, q, np.random.default_rng(0).normal(size=(9, 10))) is None
    assert joint.evaluations < 520


# --- symmetries -----------------------------------------------------------------------------------


def test_symmetric_mixtures_have_the_symmetry():
    rng = np.random.default_rng(0)
    maps = posteriors.GALAXIES.symmetries
    factors = np.linalg.cholesky(np.cov(rng.normal(size=(8, 50))))
    fit = StudentFit(
        np.array([0.3, 0.7]), rng.normal(size=(2, 8)), np.array([factors, 2 * factors])
    )
    q = symmetric_mixture(fit, 5.0, maps)
    z = rng.normal(size=(7, 8))
    for matrix in maps:
        np.testing.assert_allclose(q.log_prob(z @ matrix.T), q.log_prob(z), rtol=1e-10)
    # The average over images of the plain one.
    plain = [multivariate_t(m, t @ t.T, df=5.0) for m, t in zip(fit.means, fit.trils, strict=True)]
    images = np.einsum("gij,nj->gni", maps, z)
    expected = np.log(
        sum(w * p.pdf(images) for w, p in zip(fit.weights, plain, strict=True)).mean(0)
    )
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-10)


def test_maps_generate_a_group():
    assert as_symmetries(None, 3, 2).shape == (1, 3, 3)
    # A cycle and a swap of three labels.
    group = as_symmetries([[1, 2, 0], [1, 0, 2]], 3, 2)
    found = {tuple(np.argmax(each, axis=1)) for each in group}
    assert found == set(itertools.permutations(range(3)))
    assert np.array_equal(group[0], np.eye(3))
    assert len(as_symmetries(posteriors.GALAXIES.symmetries, 8, 3)) == 6
    assert len(as_symmetries(posteriors.GALAXIES.symmetries[[1, 3]], 8, 3)) == 6


@pytest.mark.parametrize(
    ("symmetries", "message"),
    [
        ([[0, 0]], "must be permutations of 0 to 1"),
        ([[0, 1, 2]], r"index permutations of shape \(G, 2\)"),
        ([0, 1], "index permutations"),
        ([[[2.0, 0.0], [0.0, 1.0]]], "determinants of 1 or -1, got 2"),
        ([[[1.0, 1.0], [0.0, 1.0]]], "generate more than 500 maps"),
        ([[[-1.0, 0.0], [0.0, 1.0]]], "must leave log p.* as it is"),
        ([[[np.nan, 0.0], [0.0, 1.0]]], "symmetries must be finite"),
    ],
)
def test_bad_symmetries(symmetries, message):
    model = fe.Model(log_joint=labels, dim=2, params=(X,))
    with pytest.raises(InvalidInputError, match=message):
        fe.adapt(model, start=[-3.0, 3.0], symmetries=symmetries, rng=0)


# --- the parts ------------------------------------------------------------------------------------


def test_log_densities_are_those_of_scipy():
    rng = np.random.default_rng(0)
    tril = np.linalg.cholesky(np.cov(rng.normal(size=(4, 30))))
    fit = StudentFit(np.ones(1), rng.normal(size=(1, 4)), tril[None])
    x = rng.normal(size=(20, 4))
    values, squares = log_densities(x, fit, 5.0)
    exact = multivariate_t(fit.means[0], tril @ tril.T, df=5.0)
    np.testing.assert_allclose(values[0], exact.logpdf(x), rtol=1e-12)
    gap = x - fit.means[0]
    expected = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(tril @ tril.T), gap)
    np.testing.assert_allclose(squares[0], expected, rtol=1e-10)


def test_a_fit_finds_the_components_of_its_draws():
    components = fe.StudentT(5.0, [[-4.0, 0.0], [4.0, 1.0]], scale=[[1.0, 2.0], [0.5, 1.0]])
    x = fe.Mixture([0.3, 0.7], components).sample(20_000, rng=0)
    first = StudentFit(
        np.full(2, 0.5), np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([3 * np.eye(2)] * 2)
    )
    draws = near_images(x[:, None], np.full(20_000, 1 / 20_000), first, 5.0)
    found = first
    for _ in range(4):
        found = refitted(draws, found, 5.0)
    np.testing.assert_allclose(found.weights, [0.3, 0.7], atol=0.02)
    np.testing.assert_allclose(found.means, components.mean, atol=0.1)
    diagonals = np.diagonal(found.trils, axis1=1, axis2=2)
    np.testing.assert_allclose(diagonals, components.scale, rtol=0.05)


def test_a_fit_with_images_is_that_of_all_images():
    # A mixture and its mirror image: all images with half the weight each give the same fit.
    x = fe.StudentT(5.0, [1.0, 0.5], scale=1.0).sample(4000, rng=1)
    mirrored = np.stack([x, -x], axis=1)
    weights = np.random.default_rng(0).dirichlet(np.ones(4000))
    first = StudentFit(np.ones(1), np.array([[0.8, 0.3]]), np.eye(2)[None])
    one = refitted(near_images(mirrored, weights, first, 5.0), first, 5.0)
    two = StudentFit(
        np.full(2, 0.5), np.concatenate([first.means, -first.means]), np.tile(np.eye(2), (2, 1, 1))
    )
    both = near_images(mirrored.reshape(-1, 1, 2), np.repeat(weights / 2, 2), two, 5.0)
    pair = refitted(both, two, 5.0)
    np.testing.assert_allclose(one.means[0], pair.means[0], rtol=1e-2)
    np.testing.assert_allclose(one.trils[0], pair.trils[0], rtol=2e-2, atol=1e-3)


def test_weights_of_past_draws_are_by_the_balance_heuristic():
    qs = [
        fe.Mixture([1.0], fe.StudentT(5.0, [[m, 0.0]], scale=s))
        for m, s in ((0, 1), (1, 2), (-1, 1))
    ]
    past, counts = PastDraws(2), (30, 50, 20)
    for i, (q, n) in enumerate(zip(qs, counts, strict=True)):
        z = q.sample(n, rng=i)
        past.add(q, z, -(z**2).sum(-1))
    mixed = sum(n / 100 * np.exp(q.log_prob(past.z)) for q, n in zip(qs, counts, strict=True))
    np.testing.assert_allclose(past.log_weights, -(past.z**2).sum(-1) - np.log(mixed), rtol=1e-10)
    power = tempered(20.0 * past.log_weights, 30.0)
    assert 0.0 < power < 1.0
    np.testing.assert_allclose(effective(20.0 * past.log_weights, power), 30.0, rtol=1e-5)
    assert tempered(past.log_weights, 2.0) == 1.0


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q0": "q"}, "q0 must be a Gaussian, StudentT or Mixture"),
        ({"q0": fe.Gaussian([0.0], scale=1.0)}, "dim of the model, 2; got batch_shape .* dim 1"),
        ({"q0": fe.Gaussian(np.zeros((3, 2)), scale=1.0)}, "q0 must have no batch"),
        ({"target_se": 0.0}, "target_se must be positive"),
        ({"target_se": math.nan}, "target_se must be positive"),
        ({"target_se": True}, "target_se must be a real number"),
        ({"df": 2.0}, "df must be above 2"),
        ({"df": math.inf}, "df must be above 2"),
        ({"n_components": 0}, "n_components must be at least 1"),
        ({"round_size": 10}, "round_size must be at least 20"),
        ({"defensive": 0.0}, "defensive must be above 0"),
        ({"defensive": 1.0}, "defensive must be above 0"),
        ({"max_evaluations": 5}, "max_evaluations must be at least 20"),
        ({"max_rounds": 0}, "max_rounds must be at least 1"),
        ({"n_threads": 0}, "n_threads must be at least 1"),
        ({"start": [0.0]}, "start must have shape"),
        ({"rng": 1.5}, "rng must be"),
    ],
)
def test_bad_arguments(arguments, message):
    model = fe.Model(log_joint=labels, dim=2, params=(X,))
    with pytest.raises(InvalidInputError, match=message):
        fe.adapt(model, **arguments)


def test_nan_and_an_empty_support():
    def nan_far(z):
        return np.where(abs(z[:, 0]) > 2.0, np.nan, -0.5 * z[:, 0] ** 2)

    model = fe.Model(log_joint=nan_far, dim=1, vectorized=True)
    with pytest.raises(InvalidWeightError, match=r"is nan at .* draws, the first z = "):
        fe.adapt(model, fe.Gaussian([0.0], scale=2.0), rng=0)
    empty = fe.Model(
        log_joint=lambda z: np.where(abs(z[:, 0]) > 1.0, -np.inf, 0.0 * z[:, 0]),
        dim=1,
        vectorized=True,
    )
    with pytest.raises(InvalidInputError, match="q0 must have draws where log p"):
        fe.adapt(empty, fe.Gaussian([500.0], scale=1.0), rng=0)


def test_a_support_with_edges():
    # A uniform density on [-1, 1], times 3.
    model = fe.Model(
        log_joint=lambda z: np.where(abs(z[:, 0]) > 1.0, -np.inf, math.log(1.5) + 0.0 * z[:, 0]),
        dim=1,
        vectorized=True,
    )
    found = fe.adapt(model, fe.Gaussian([0.0], scale=1.0), rng=0, target_se=0.02)
    assert abs(float(found.estimate.log_evidence) - math.log(3.0)) < 4.5 * 0.02


# --- repeats --------------------------------------------------------------------------------------


def schools_hold(count):
    found = [adapted(posteriors.EIGHT_SCHOOLS, seed) for seed in range(count)]
    z = np.array([error(each, posteriors.EIGHT_SCHOOLS) for each in found])
    good = [
        float(each.estimate.log_evidence_se) < 0.01 and each.evaluations <= 25_000 for each in found
    ]
    return z, np.mean(good), sum(each.flagged for each in found)


def right_or_flagged(target, count, limit, **options):
    """Numbers of flagged answers, and of those that are wrong and not flagged."""
    found = [adapted(target, seed, **options) for seed in range(count)]
    wrong = [not each.flagged and abs(error(each, target)) > limit for each in found]
    return sum(each.flagged for each in found), sum(wrong), found


@pytest.mark.statistical
def test_some_seeds_of_each_posterior():
    z, good, flagged = schools_hold(8)
    assert 0.5 < math.sqrt(np.mean(z**2)) < 1.6
    assert np.abs(z).max() < 4.5
    assert good >= 0.75
    assert flagged <= 1
    options = {"symmetries": posteriors.GALAXIES.symmetries, "start": GALAXIES_START}
    flagged, wrong, _ = right_or_flagged(posteriors.GALAXIES, 2, 4.0, **options)
    assert (flagged <= 1, wrong) == (True, 0)
    assert right_or_flagged(posteriors.BANANA, 2, 4.5)[:2] == (0, 0)
    assert right_or_flagged(posteriors.BANANA_10, 1, 4.0)[1] == 0
    assert right_or_flagged(posteriors.FUNNEL_10, 1, 4.0, max_evaluations=60_000)[1] == 0


@pytest.mark.slow
def test_eight_schools_on_200_seeds():
    z, good, flagged = schools_hold(200)
    assert good >= 0.95
    assert 0.8 <= math.sqrt(np.mean(z**2)) <= 1.2
    assert np.abs(z).max() <= 4.5
    assert flagged <= 2


@pytest.mark.slow
def test_galaxies_on_20_seeds():
    options = {"symmetries": posteriors.GALAXIES.symmetries, "start": GALAXIES_START}
    flagged, wrong, found = right_or_flagged(posteriors.GALAXIES, 20, 4.0, **options)
    assert flagged <= 2
    assert wrong == 0
    assert np.median([each.evaluations for each in found]) <= 30_000
    assert np.mean([float(each.estimate.log_evidence_se) < 0.012 for each in found]) >= 0.8


@pytest.mark.slow
def test_galaxies_without_symmetries_are_flagged():
    for seed in range(5):
        with pytest.warns(LabelSwitchingWarning, match="label switching"):
            found = fe.adapt(posteriors.GALAXIES.model, start=GALAXIES_START, rng=seed)
        assert found.flagged


@pytest.mark.slow
def test_bananas_and_funnels_on_20_seeds():
    flagged, wrong, _ = right_or_flagged(posteriors.BANANA, 20, 3.5)
    assert (flagged, wrong) == (0, 0)
    assert right_or_flagged(posteriors.BANANA_10, 20, 3.0)[1] == 0
    assert right_or_flagged(posteriors.FUNNEL_10, 20, 3.0)[1] == 0


def spike_and_slab(narrow, wide, share, dim):
    def log_normal(z, scale):
        return -0.5 * ((z / scale) ** 2 + np.log(2.0 * np.pi * scale**2)).sum(axis=-1)

    def log_joint(z):
        return np.logaddexp(
            np.log(share) + log_normal(z, narrow), np.log1p(-share) + log_normal(z, wide)
        )

    return fe.Model(log_joint=log_joint, dim=dim, vectorized=True)


@pytest.mark.parametrize(
    ("narrow", "wide", "share", "dim"), [(0.02, 1.5, 0.5, 3), (0.05, 1.5, 0.1, 6)]
)
def test_a_wide_part_around_a_narrow_one(narrow, wide, share, dim):
    model = spike_and_slab(narrow, wide, share, dim)
    found = fe.adapt(model, start=np.full(dim, 1e-3), target_se=0.02, rng=0)
    assert not found.flagged
    assert abs(found.estimate.log_evidence) < 4.0 * found.estimate.log_evidence_se


def test_signs_are_tried_in_many_dimensions():
    def log_joint(z):
        return np.logaddexp(*(-0.5 * ((z - m) ** 2).sum(axis=-1) for m in (-2.0, 2.0)))

    model = fe.Model(log_joint=log_joint, dim=25, vectorized=True)
    with pytest.warns(fe.errors.LabelSwitchingWarning, match="sign"):
        assert fe.adapt(model, start=np.full(25, 2.0), target_se=0.05, rng=0).flagged


def test_a_model_that_overflows_far_out():
    def log_joint(z):
        return -0.5 * z[0] ** 2 + (np.inf if abs(z[0]) > 15.0 else 0.0)

    found = fe.adapt(fe.Model(log_joint=log_joint, dim=1), start=[0.1], rng=0)
    assert abs(found.estimate.log_evidence - 0.5 * np.log(2.0 * np.pi)) < 0.04


def test_symmetries_are_checked_off_the_diagonal():
    model = fe.Gaussian([0.0, 0.0], scale=[1.0, 0.2])
    with pytest.raises(InvalidInputError, match="symmetries must leave"):
        fe.adapt(model, fe.Gaussian([0.0, 0.0], scale=1.0), symmetries=[[1, 0]], rng=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_evaluations": 2500}, "at least three rounds"),
        ({"q0": fe.Gaussian([0.0], scale=1.0), "start": [0.0]}, "start must be left out"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(InvalidInputError, match=message):
        fe.adapt(fe.Gaussian([0.0], scale=1.0), rng=0, **options)
