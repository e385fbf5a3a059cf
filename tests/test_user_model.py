"""Models of users' functions: against built-in models, closed forms, and plain Python."""

import copy
import functools
import math
import pickle
import re

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, bits

import fastelbo as fe
from fastelbo.kernels.draws.blocks import CALLED
from fastelbo.kernels.vectors.building import build
from fastelbo.models.protocol import Frame, LatentModel, Points, PointwiseDensity

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

RNG = np.random.default_rng(20261129)
X, LOADINGS, NOISE = (
    RNG.normal(size=(5, 4)),
    RNG.normal(size=(4, 3)),
    np.array([0.5, 1.0, 2.0, 0.7]),
)
BUILT_IN = fe.LinearGaussian(X, LOADINGS, noise_cov=NOISE)
MEAN = BUILT_IN.exact_posterior().mean
TRIL = 1.1 * BUILT_IN.exact_posterior().scale_tril
QS = {
    "diagonal": fe.Gaussian(MEAN, scale=0.5),
    "full": fe.Gaussian(MEAN, scale_tril=TRIL),
    "one for all": fe.Gaussian(np.zeros(3), scale=[0.5, 1.0, 1.5]),
    "student": fe.StudentT(5.0, MEAN, scale=0.5),
    "student full": fe.StudentT(5.0, MEAN, scale_tril=TRIL),
    "mixture": fe.Mixture([0.3, 0.7], fe.Gaussian(np.stack([MEAN, MEAN + 0.2], 1), scale=0.5)),
    "mixture full": fe.Mixture(
        [0.3, 0.7], fe.Gaussian(np.stack([MEAN, MEAN + 0.2], 1), scale_tril=TRIL[:, None])
    ),
    "batch": fe.Gaussian(MEAN + np.array([0.0, 0.1])[:, None, None], scale=0.5),
}


def log_likelihood(z, x, loadings, noise):
    total = 0.0
    for p in range(loadings.shape[0]):
        residual = x[p]
        for d in range(loadings.shape[1]):
            residual -= loadings[p, d] * z[d]
        total -= 0.5 * (residual * residual / noise[p] + math.log(2.0 * math.pi * noise[p]))
    return total


def log_joint(z, x, loadings, noise):
    return log_likelihood(z, x, loadings, noise) - 0.5 * z @ z - 1.5 * np.log(2.0 * np.pi)


def of_likelihood(data=X):
    return fe.Model(
        log_likelihood=log_likelihood, prior=BUILT_IN.prior, data=data, params=(LOADINGS, NOISE)
    )


@pytest.fixture(scope="module")
def model():
    return of_likelihood()


@pytest.fixture(scope="module")
def joint():
    return fe.Model(log_joint=log_joint, dim=3, data=X, params=(LOADINGS, NOISE))


# --- equal to the built-in model ----------------------------------------------------------------


@pytest.mark.parametrize("name", QS)
def test_a_users_linear_gaussian_equals_the_built_in_one(name, model, joint):
    q = QS[name]
    expected = fe.elbo_terms(BUILT_IN, q, 700, rng=1)
    got = fe.elbo_terms(model, q, 700, rng=1)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    whole = fe.log_weights(joint, q, 700, rng=1)
    np.testing.assert_allclose(whole, expected.log_weights, rtol=1e-12, atol=1e-12)


def test_estimates_report_what_the_model_tells(model, joint):
    expected, got, whole = (
        fe.estimate(each, QS["full"], 20_000, rng=1) for each in (BUILT_IN, model, joint)
    )
    for name in ("log_evidence", "log_evidence_se", "elbo", "kl", "expected_log_likelihood"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-10)
    for name in ("log_evidence", "elbo", "elbo_se", "jensen_gap", "jensen_gap_se", "ess"):
        np.testing.assert_allclose(getattr(whole, name), getattr(expected, name), rtol=1e-9)
    for name in ("kl", "kl_se", "expected_log_likelihood", "expected_log_likelihood_se"):
        assert np.isnan(getattr(whole, name)).all()
    assert "log_likelihood=" in whole.summary().splitlines()[-1]
    assert "log_likelihood=" not in got.summary()
    np.testing.assert_allclose(whole.total().log_evidence, expected.total().log_evidence)


def test_a_heavy_tail_of_a_joint_density_names_the_elbo_alone():
    narrow = fe.Model(log_joint=lambda z: -0.5 * (20.0 * z[0]) ** 4, dim=1)
    with pytest.warns(fe.errors.HighParetoKWarning, match="elbo_se is NaN"):
        est = fe.estimate(narrow, fe.StudentT(1.0, [0.0], scale=1.0), 2000, rng=0)
    assert np.isnan(est.kl)


@pytest.mark.parametrize("name", ["full", "mixture", "student"])
def test_the_reference_calls_the_function_in_plain_python(name, model, joint):
    for each in (model, joint):
        got = fe.log_weights(each, QS[name], 20, rng=2)
        expected = fe.log_weights(each, QS[name], 20, rng=2, backend="numpy")
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_minibatches_have_the_draws_of_the_whole(model):
    whole = fe.log_weights(model, QS["one for all"], 100, rng=3)
    part = fe.log_weights(of_likelihood(X[2:4]), QS["one for all"], 100, rng=3, first_index=2)
    np.testing.assert_array_equal(part, whole[2:4])


def eight_schools(z, effect, error):
    """Rubin (1981), non-centred; mu ~ N(0, 5), tau ~ half-Cauchy(5)."""
    mu, tau = 5.0 * z[0], math.exp(z[1])
    total = -0.5 * z[0] * z[0] - 0.5 * math.log(2.0 * math.pi)
    total += math.log(2.0 / (5.0 * math.pi)) - math.log1p((tau / 5.0) ** 2) + z[1]
    for j in range(len(effect)):
        residual = (effect[j] - mu - tau * z[2 + j]) / error[j]
        total -= 0.5 * (residual**2 + z[2 + j] ** 2) + math.log(2.0 * math.pi * error[j])
    return total


def test_eight_schools():
    effect, error = [28.0, 8, -3, 7, -1, 1, 18, 12], [15.0, 10, 16, 11, 9, 11, 10, 18]
    model = fe.Model(log_joint=eight_schools, dim=10, params=(effect, error))
    q = fe.StudentT(5.0, [0.9, 1.3, *[0.0] * 8], scale=[0.9, 1.2, *[1.0] * 8])
    est = fe.estimate(model, q, 300_000, rng=0)
    assert est.pareto_k < 0.7
    assert abs(est.log_evidence - -31.3113473523) < 4.0 * est.log_evidence_se < 0.03


# --- bits ---------------------------------------------------------------------------------------


def branching(z):
    """Control flow that is no choice between numbers."""
    total, k = -0.5 * (z[0] ** 2 + z[1] ** 2), 0
    while k < 3 and total < -0.1 * k:
        total -= 0.01 * math.exp(-(z[k % 2] ** 2))
        k += 1
    return total


def flat(z):
    return -0.5 * (z[0] ** 2 + z[1] ** 2) - math.log1p(math.exp(math.tanh(z[0]) - z[1] ** 2))


Q2 = fe.StudentT(5.0, [0.0, 0.1], scale=[1.0, 1.2])


@pytest.mark.parametrize("width", [1, 8, 16])
def test_no_width_changes_a_bit(width, monkeypatch):
    expected = fe.elbo_terms(fe.Model(log_joint=flat, dim=2), Q2, 1500, rng=0)
    monkeypatch.setattr("fastelbo.models.compiled.build", functools.partial(build, width=width))
    got = fe.elbo_terms(fe.Model(log_joint=flat, dim=2), Q2, 1500, rng=0)
    np.testing.assert_array_equal(got.log_likelihood, expected.log_likelihood)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_number_of_threads_changes_a_bit(threads, joint):
    expected = fe.estimate(joint, QS["one for all"], 9000, rng=0)
    got = fe.estimate(joint, QS["one for all"], 9000, rng=0, n_threads=threads)
    assert bits(got) == bits(expected)


def test_one_draw_at_a_time():
    with pytest.warns(fe.errors.OneDrawAtATimeWarning, match="while k < 3") as caught:
        model = fe.Model(log_joint=branching, dim=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    got = fe.log_weights(model, Q2, 300, rng=0)
    expected = fe.log_weights(model, Q2, 300, rng=0, backend="numpy")
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


# --- draws where the function fails -------------------------------------------------------------


def raising(z, w):
    total = -0.5 * z[0] ** 2
    for j in range(int(abs(z[0]))):
        total += w[j]
    return total


@pytest.mark.filterwarnings("ignore::fastelbo.errors.OneDrawAtATimeWarning")
def test_a_draw_at_which_the_function_raises_is_named():
    model = fe.Model(log_joint=raising, dim=1, params=(np.zeros(3),))
    q = fe.Gaussian([0.0], scale=1.5)
    z = q.sample(5000, rng=0)
    first = int(np.argmax(np.abs(z[:, 0]) >= 4.0))
    assert first > 0
    with pytest.raises(
        fe.errors.InvalidWeightError, match=f"draw {first}: .*draw\\(q, 0, {first}, key="
    ):
        fe.estimate(model, q, 5000, rng=0)
    fails = np.abs(z[:, 0]) >= 4.0
    assert fails.sum() > 3
    expected = np.where(fails, np.nan, -0.5 * z[:, 0] ** 2)
    np.testing.assert_allclose(model.log_joint(z), expected, rtol=1e-13)


def far_away(z, x):
    if z[0] > 2.0:
        return math.log(1.0 - z[0]) + x
    return -0.5 * (z[0] - x) ** 2


def overflowing(z, x):
    return -0.5 * z[0] ** 2 + math.exp(1e4 * (z[0] + x - 2.0) if z[0] > 2.0 else -1.0)


def stopping(z, x):
    return -0.5 * z[0] ** 2 - x + 0 * (7 // int(2.5 - abs(z[0])) if abs(z[0]) < 2.4 else 0)


def counting(z, x):
    k = int(z[0])
    return 6 // k + x[0] if k != 3 else np.log(-1.0 + 0.0 * z[0])


@pytest.mark.filterwarnings("ignore::fastelbo.errors.OneDrawAtATimeWarning")
def test_a_draw_that_fails_leaves_the_others_their_values():
    model = fe.Model(
        log_likelihood=counting, prior=fe.Gaussian([0.0], scale=1.0), data=[[1.0], [2.0]]
    )
    z = np.array([0.5, 2.0, 3.0, 0.2, 1.0, 0.0, 6.0] * 200)[:, None, None]
    expected = np.array([np.nan, 3.0, np.nan, np.nan, 6.0, np.nan, 1.0] * 200)
    got = model.likelihood.log_prob(z)
    np.testing.assert_array_equal(got, expected[:, None] + [1.0, 2.0])


BAD = {
    "a domain": (far_away, "raised ValueError: math domain error at .*`return math.log"),
    "an overflow": (overflowing, "raised OverflowError: math range error at .*`return -0.5"),
    "a division": (stopping, "raised ZeroDivisionError: .* at .*`return -0.5"),
    "nan": (
        lambda z, x: np.log(2.0 - z[0]) - z[0] ** 2 + x,
        "log_joint <lambda> .test_user_model.py:.* returned nan",
    ),
}


@pytest.mark.filterwarnings("ignore::fastelbo.errors.OneDrawAtATimeWarning")
@pytest.mark.parametrize("call", [fe.estimate, fe.elbo_terms])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_weight_is_explained_by_plain_python(name, call):
    function, match = BAD[name]
    data = np.array([0.0, 0.25])
    model = fe.Model(log_joint=function, dim=1, data=data)
    q = fe.Gaussian([[0.0], [0.1]], scale=1.0)
    if name == "an overflow" and call is fe.elbo_terms:
        return  # its terms are infinite, which only a weight may not be
    with pytest.raises(fe.errors.InvalidWeightError, match=match) as caught:
        call(model, q, 2000, rng=0)
    text = str(caught.value)
    assert "\n" not in text
    i, k, key = re.search(r"draw\(q, (\d+), (\d+), key=(\d+)\)", text).groups()
    z = fe.draw(q, int(i), int(k), key=int(key))
    with np.errstate(all="ignore"):
        try:
            bad = not function(z, data[int(i)]) < np.inf
        except (ArithmeticError, ValueError):
            bad = True
    assert bad


def test_the_key_of_an_error_repeats_the_draws():
    model = fe.Model(log_joint=lambda z: math.log(z[0] + 1.0) - z[0] ** 2, dim=1)
    with pytest.raises(fe.errors.InvalidWeightError) as caught:
        fe.estimate(model, fe.Gaussian([0.0], scale=1.0), 1000)
    assert 0 <= int(str(caught.value).partition("key=")[2].partition(")")[0]) < 2**64


# --- log_joint at any z -------------------------------------------------------------------------


def test_log_joint_of_every_model(model, joint):
    z = RNG.normal(size=(600, 5, 3))
    noise = sum(
        -0.5 * (X[:, p] - z @ LOADINGS[p]) ** 2 / NOISE[p] - 0.5 * math.log(2 * math.pi * NOISE[p])
        for p in range(4)
    )
    expected = noise - 0.5 * (z**2).sum(-1) - 1.5 * math.log(2.0 * math.pi)
    for each in (BUILT_IN, model, joint):
        np.testing.assert_allclose(each.log_joint(z), expected, rtol=1e-12)
        assert each.log_joint(z[0, 0]).shape == (5,)
        assert each.log_joint(z[:2, :1]).shape == (2, 5)
        with pytest.raises(fe.errors.InvalidInputError, match="last axis of length 3"):
            each.log_joint(np.zeros(2))
        with pytest.raises(fe.errors.InvalidInputError, match="broadcast"):
            each.log_joint(np.zeros((4, 3)))
        with pytest.raises(fe.errors.InvalidInputError, match="z must be finite"):
            each.log_joint([0.0, np.nan, 0.0])


@pytest.mark.parametrize("q", QS.values(), ids=QS)
def test_log_joint_of_a_distribution_is_its_density(q):
    z = np.zeros(3)
    np.testing.assert_array_equal(q.log_joint(z), q.log_prob(z))


def test_log_joint_far_away_does_not_cancel():
    far = 1e9 + np.array([0.25, 0.5])
    built_in = fe.LinearGaussian(
        far[:, None], [[1.0]], noise_cov=1e-4, prior=fe.Gaussian([1e9], scale=1.0)
    )
    np.testing.assert_allclose(
        built_in.log_joint(far[:, None] + 0.0078125),
        -0.5 * (78.125e-2**2 + np.array([0.2578125, 0.5078125]) ** 2)
        - math.log(2.0 * math.pi) - 0.5 * math.log(1e-4),
        rtol=1e-9,
    )  # fmt: skip


# --- what it is ---------------------------------------------------------------------------------


def test_a_model_offers_what_a_backend_asks_for(model, joint):
    for each in (model, joint):
        assert isinstance(each, LatentModel)
        assert isinstance(each.likelihood, PointwiseDensity)
        assert (each.dim, each.batch_shape) == (3, (5,))
    frame = Frame(np.zeros((1, 3)), None, None)
    term = model.likelihood.term(Points((5,), slice(2, 4)), frame)
    assert term.kind == CALLED
    np.testing.assert_array_equal(term.values, [[2.0], [3.0]])
    assert repr(joint) == "Model(log_joint=log_joint, dim=3, batch_shape=(5,))"
    with pytest.raises(AttributeError, match="frozen"):
        model.names = ("a", "b", "c")


def test_arrays_are_copied():
    data, weights = np.array([1.0, 2.0]), np.array([1.0])
    model = fe.Model(
        log_joint=lambda z, x, w: -w[0] * (z[0] - x) ** 2, dim=1, data=data, params=(weights,)
    )
    before = model.log_joint([0.0])
    data[:], weights[:] = 0.0, 5.0
    np.testing.assert_array_equal(model.log_joint([0.0]), before)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_machine_code_of_their_own(again, joint):
    other = again(joint)
    assert other.likelihood._arguments is not joint.likelihood._arguments
    expected, got = (fe.log_weights(m, QS["full"], 100, rng=0) for m in (joint, other))
    np.testing.assert_array_equal(got, expected)


def test_compiled_functions_take_float64_alone(joint):
    message = "precision must be .*log_joint=log_joint"
    with pytest.raises(fe.errors.InvalidInputError, match=message):
        fe.estimate(joint, QS["full"], 10, precision="float32")


def test_a_partial_function_binds_keywords():
    def scaled(z, *, factor=0.5):
        return -factor * z[0] ** 2

    for function, expected in ((scaled, -0.5), (functools.partial(scaled, factor=2.0), -2.0)):
        assert fe.Model(log_joint=function, dim=1).log_joint([1.0]) == expected


def test_names_of_coordinates():
    model = fe.Model(log_joint=flat, dim=2, names=["mu", "tau"])
    assert model.names == ("mu", "tau")
    for names in (["mu"], ["mu", "mu"], ["mu", 1], "ab"):
        with pytest.raises(fe.errors.InvalidInputError, match="names must be"):
            fe.Model(log_joint=flat, dim=2, names=names)
