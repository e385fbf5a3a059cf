"""The dispatcher of fits, its result, and closed forms of q."""

import pickle
import warnings

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS
from scipy.optimize import minimize

import fastelbo as fe
from fastelbo.demo import digits_model
from fastelbo.errors import FitNotConvergedWarning, InvalidInputError
from fastelbo.results.fit import FitHistory

# A mean-field q has weights of heavy tails, and a fit says so.
pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

X = np.array([[0.5, 1.0, -1.0], [1.5, -2.0, 0.0], [0.25, 4.0, 2.0], [0.0, 0.0, 1.0]])
W = np.array([[1.0, 0.5], [-0.25, 2.0], [0.5, 0.5]])
PSI = np.array([0.5, 1.0, 2.0])
WIDE = fe.Gaussian([0.5, -0.5], cov=[[2.0, 0.5], [0.5, 1.0]])
MODEL = fe.LinearGaussian(X, W, noise_cov=PSI, offset=0.25, prior=WIDE)
FULL = np.array([[1.0, 0.0], [0.5, 2.0]])
TWO = fe.Mixture([0.5, 0.5], fe.Gaussian([[-1.0, 0.0], [1.0, 0.0]], scale=1.0))


def own(scale=None, count=4):
    """A q0 for each data point."""
    mean = np.zeros((count, 2))
    return fe.Gaussian(mean, scale_tril=FULL) if scale is None else fe.Gaussian(mean, scale=scale)


def curved(z, x):
    return -0.5 * z[0] ** 2 - 0.5 * z[1] ** 2 - np.exp(0.5 * (z[0] + x[0]))


CURVED = fe.Model(log_joint=curved, dim=2, data=X)


# --- closed forms --------------------------------------------------------------------------------


def test_without_a_start_q_is_the_posterior():
    fit = fe.fit(MODEL)
    exact = MODEL.exact_posterior()
    np.testing.assert_array_equal(fit.q.mean, exact.mean)
    np.testing.assert_array_equal(fit.q.scale_tril, exact.scale_tril)
    np.testing.assert_array_equal(fit.elbo_per_point.value, MODEL.exact_log_evidence())
    assert fit.elbo == fit.log_evidence
    assert fit.elbo.value == pytest.approx(MODEL.exact_log_evidence().sum(), rel=1e-14)
    assert fit.elbo.se == 0.0
    assert (fit.method, fit.converged, fit.n_iter, fit.estimate) == ("closed", True, 0, None)
    assert np.isnan(fit.pareto_k).all()
    assert fit.model is MODEL


def test_a_full_start_ends_at_the_posterior():
    fit = fe.fit(MODEL, own())
    np.testing.assert_array_equal(fit.q.mean, MODEL.exact_posterior().mean)
    # All draws have the same weight, so that none are made.
    assert fit.estimate is None
    assert fit.elbo == fit.log_evidence
    asked = fe.fit(MODEL, own(), n_eval=50, rng=0)
    np.testing.assert_allclose(asked.estimate.elbo, MODEL.exact_log_evidence(), rtol=1e-12)
    assert np.isnan(asked.pareto_k).all()


def test_the_posterior_of_a_mixture_prior():
    model = fe.LinearGaussian(X, W, noise_cov=1.0, prior=TWO)
    fit = fe.fit(model)
    np.testing.assert_array_equal(fit.q.weights, model.exact_posterior().weights)
    np.testing.assert_array_equal(fit.elbo_per_point.value, model.exact_log_evidence())


def test_mean_field_of_the_digits():
    q0 = fe.Gaussian(np.zeros((1797, 10)), scale=1.0)
    fit = fe.fit(digits_model(), q0, rng=0)
    assert fit.elbo.value / 1797 == pytest.approx(-160.67986062, abs=5e-9)
    assert fit.log_evidence.value / 1797 == pytest.approx(-159.99373150, abs=5e-9 * 2000)
    assert fit.q.scale is not None
    # Fresh draws tell what q misses: k-hat of each data point.
    assert fit.pareto_k.shape == (1797,)
    assert np.isfinite(fit.pareto_k).all()
    by_steps = fe.fit(digits_model(), q0, method="newton", rng=1, n_eval=0)
    assert by_steps.elbo.value / 1797 == pytest.approx(fit.elbo.value / 1797, abs=1e-6)
    assert by_steps.elbo.value / 1797 == pytest.approx(-160.67986062, abs=1e-6)
    assert np.isnan(by_steps.pareto_k).all()


def best_elbo(model, build, start):
    """The largest sum of ELBOs over a vector of parameters, by a general optimiser."""
    found = minimize(
        lambda v: -fe.exact_elbo(model, build(v)).sum(), start, method="BFGS",
        options={"gtol": 1e-7},
    )  # fmt: skip
    return build(found.x), -found.fun


@pytest.mark.parametrize("batch", [(), (4,)])
@pytest.mark.parametrize("full", [False, True])
def test_closed_forms_are_maxima(full, batch):
    """Against a search: of diagonal and full q, one for each data point and one for all."""
    count = 4 if batch else 1

    def build(v):
        mean, rest = v[: 2 * count].reshape(*batch, 2), v[2 * count :]
        if not full:
            return fe.Gaussian(mean, scale=np.exp(rest[:2]))
        return fe.Gaussian(mean, scale_tril=[[np.exp(rest[0]), 0.0], [rest[2], np.exp(rest[1])]])

    q, value = best_elbo(MODEL, build, np.zeros(2 * count + 3))
    fit = fe.fit(MODEL, own(None if full else 1.0) if batch else build(np.zeros(2 * count + 3)))
    assert fit.method == "closed"
    assert fit.elbo.value == pytest.approx(value, abs=1e-9)
    assert fit.q.batch_shape == batch
    np.testing.assert_allclose(fit.q.mean, q.mean, atol=1e-5)
    np.testing.assert_allclose(fit.q.cov, np.broadcast_to(q.cov, fit.q.cov.shape), atol=1e-5)


def test_one_q_where_priors_differ():
    """Each data point has a precision of its own."""
    prior = fe.Gaussian(np.linspace(-1, 1, 8).reshape(4, 2), scale=[[0.3], [1.0], [2.0], [0.5]])
    model = fe.LinearGaussian(X, W, noise_cov=PSI, prior=prior)

    def build(v):
        return fe.Gaussian(v[:2], scale_tril=[[np.exp(v[2]), 0.0], [v[4], np.exp(v[3])]])

    _, value = best_elbo(model, build, np.zeros(5))
    assert fe.fit(model, build(np.zeros(5))).elbo.value == pytest.approx(value, abs=1e-9)
    diagonal = fe.fit(model, fe.Gaussian([0.0, 0.0], scale=1.0))
    _, value = best_elbo(model, lambda v: fe.Gaussian(v[:2], scale=np.exp(v[2:])), np.zeros(4))
    assert diagonal.elbo.value == pytest.approx(value, abs=1e-9)


def test_classes_of_a_mixture():
    model = fe.MixtureModel(X[:, :2], TWO)
    fit = fe.fit(model)
    np.testing.assert_array_equal(fit.q.probs, model.exact_posterior().probs)
    np.testing.assert_allclose(fit.elbo.value, model.exact_log_evidence().sum())
    shared = fe.fit(model, fe.Categorical([0.5, 0.5]))

    def loss(v):
        return -fe.exact_elbo(model, fe.Categorical([v[0], 1.0 - v[0]])).sum()

    best = minimize(loss, [0.5], bounds=[(1e-6, 1.0 - 1e-6)], tol=1e-14)
    assert shared.q.batch_shape == ()
    np.testing.assert_allclose(shared.q.probs[0], best.x[0], atol=1e-5)
    assert shared.elbo.value == pytest.approx(-best.fun, abs=1e-9)
    assert shared.elbo.value < fit.elbo.value


def test_the_mixture_of_a_model():
    x = fe.datasets.load_faithful()
    start = fe.Mixture(
        [0.5, 0.5],
        fe.Gaussian([[2.0, 55.0], [4.0, 80.0]], scale_tril=np.stack([np.diag([0.5, 8.0])] * 2)),
    )
    fit = fe.fit(fe.MixtureModel(x, start), wrt="model")
    assert fit.method == "em"
    assert fit.converged
    assert fit.log_evidence.value == pytest.approx(-1130.26396018, abs=1e-5)
    assert fit.elbo == fit.log_evidence
    assert fit.history.elbo[-1] == pytest.approx(fit.log_evidence.value, rel=1e-9)
    np.testing.assert_array_equal(fit.q.probs, fit.model.exact_posterior().probs)
    with pytest.warns(FitNotConvergedWarning) as caught:
        fe.fit(fe.MixtureModel(x, start), wrt="model", max_iter=2)
    assert len(caught) == 1


def test_no_data_points():
    fit = fe.fit(fe.LinearGaussian(np.zeros((0, 3)), W, noise_cov=1.0), own(1.0, 0))
    assert fit.q.batch_shape == (0,)
    assert fit.elbo.value == 0.0


# --- fits by draws -------------------------------------------------------------------------------


def test_which_method():
    for q0, method in (
        (own(), "newton"),
        (None, "newton"),
        (fe.Gaussian([0.0, 0.0], scale=1.0), "lbfgs"),
        (fe.StudentT(5.0, np.zeros((4, 2)), scale=1.0), "lbfgs"),
    ):
        assert fe.fit(CURVED, q0, rng=0, tol=1e-3, n_eval=0).method == method
    options = {"batch_size": 2, "max_iter": 20, "rng": 0, "n_eval": 0}
    with pytest.warns(FitNotConvergedWarning):
        assert fe.fit(CURVED, fe.Gaussian([0.0, 0.0], scale=1.0), **options).method == "adam"


def test_methods_agree_with_the_closed_form():
    q0 = own(1.0)
    best = fe.fit(MODEL, q0)
    for method in ("newton", "lbfgs"):
        fit = fe.fit(MODEL, q0, method=method, rng=0)
        assert fit.method == method
        assert fit.elbo.value == pytest.approx(best.elbo.value, abs=1e-6)
        # Its ELBO is exact, k-hat is that of fresh draws.
        assert fit.elbo.se == 0.0
        assert fit.estimate.n_samples == 1000
        np.testing.assert_array_equal(fit.pareto_k, fit.estimate.pareto_k)


def test_fresh_draws_are_another_estimate():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fe.fit(CURVED, rng=0, n_eval=2000)
        again = fe.fit(CURVED, rng=0, n_eval=2000)
        total = fit.estimate.total()
    assert fit.estimate.n_samples == 2000
    np.testing.assert_array_equal(fit.elbo, (total.elbo, total.elbo_se))
    assert fit.log_evidence.value == total.log_evidence
    np.testing.assert_array_equal(fit.pareto_k, fit.estimate.pareto_k)
    np.testing.assert_array_equal(fit.elbo_per_point.value, fit.estimate.elbo)
    assert fit.elbo.value != fit.history.elbo[-1]
    assert abs(fit.elbo.value - fit.history.elbo[-1]) < 0.1
    # The same seed gives the same fit, and the same fresh draws.
    np.testing.assert_array_equal(again.estimate.elbo, fit.estimate.elbo)


def test_draws_where_all_is_exact():
    fit = fe.fit(MODEL, own(1.0), n_eval=500, rng=0)
    assert fit.elbo.se == 0.0
    assert fit.estimate.n_samples == 500
    assert np.isfinite(fit.pareto_k).all()


def test_no_fresh_draws():
    fit = fe.fit(CURVED, rng=0, n_eval=0)
    assert fit.estimate is None
    assert np.isnan(fit.elbo.value)
    assert np.isnan(fit.log_evidence_per_point.value).all()


def test_the_exact_part_of_a_student():
    fit = fe.fit(MODEL, fe.StudentT(6.0, np.zeros((4, 2)), scale_tril=FULL), rng=0)
    assert fit.log_evidence.value == pytest.approx(MODEL.exact_log_evidence().sum(), rel=1e-14)
    assert fit.elbo.value == pytest.approx(fe.exact_elbo(MODEL, fit.q).sum(), rel=1e-14)


def test_warnings_name_the_caller():
    with pytest.warns(FitNotConvergedWarning, match="did not converge") as caught:
        fit = fe.fit(CURVED, max_iter=1, rng=0, n_eval=0)
    assert not fit.converged
    assert [each.filename for each in caught] == [__file__]


# --- the result ----------------------------------------------------------------------------------


def test_texts():
    fit = fe.fit(MODEL, own(1.0))
    value = f"{fit.elbo.value:.4f}"
    assert repr(fit).startswith(f"Fit(closed, converged, n_iter=0, 4 data points, elbo={value}")
    lines = fit.summary().split("\n")
    assert lines[0].split() == ["sum", "a", "data", "point"]
    assert value in lines[1]
    assert f"{fit.log_evidence.value / 4:.4f}" in lines[2]
    assert lines[3] == "closed: closed form"
    assert str(fit) == f"{fit!r}\n{fit.summary()}"


def test_the_history():
    fit = fe.fit(CURVED, rng=0, n_eval=0)
    history = fit.history
    size = len(history)
    for name in ("iteration", "seconds", "elbo", "elbo_se", "evaluations"):
        assert getattr(history, name).shape == (size,)
        assert not getattr(history, name).flags.writeable
    assert fit.n_iter == history.iteration[-1] > 0
    assert (np.diff(history.seconds) >= 0.0).all()
    assert (np.diff(history.evaluations) >= 0).all()
    assert history.elbo[-1] > history.elbo[0]
    assert f"{size} entries" in repr(history)
    assert repr(FitHistory([], [], [], [], [])) == "FitHistory(empty)"
    copy = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(copy.history.elbo, history.elbo)
    with pytest.raises(AttributeError, match="elbo"):
        history.elbo = 0.0


@pytest.mark.parametrize("x", ["iteration", "seconds", "evaluations"])
def test_the_figure(x):
    fit = fe.fit(MODEL, own(1.0), method="newton", rng=0)
    ax = fit.plot(x)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), getattr(fit.history, x))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), fit.history.elbo)
    assert x in ax.get_xlabel()
    assert ax.get_ylabel() == "nats"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["ELBO of the fit", "ELBO of q, exact", "log evidence, exact"]


def test_how_noise_was_given():
    for noise, form in ((2.0, "isotropic"), (PSI, "diagonal"), (np.diag(PSI), "full")):
        model = fe.LinearGaussian(X, W, noise_cov=noise)
        assert model.likelihood.noise_form == form
        assert pickle.loads(pickle.dumps(model)).likelihood.noise_form == form


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (3.0, {}, "model must be"),
        (fe.Gaussian, {}, "model must be"),
        (MODEL, {"q0": 3.0}, "q0 must be a distribution"),
        (MODEL, {"q0": fe.Gaussian([0.0], scale=1.0)}, "dimension of the model, 2; got 1"),
        (MODEL, {"q0": own(1.0, 3)}, r"batch of the model, \(4,\)"),
        (fe.Gaussian([0.0, 0.0], scale=1.0), {"q0": own(1.0)}, "batch of the model"),
        (MODEL, {"wrt": "z"}, "wrt must be"),
        (MODEL, {"method": "sgd"}, "method must be"),
        (MODEL, {"method": "em"}, "EM fits a model"),
        (CURVED, {"method": "closed"}, "no closed form"),
        (MODEL, {"noise": "diagonal"}, "noise must be left out"),
        (MODEL, {"method": "closed", "batch_size": 2}, "batch_size must be left out"),
        (MODEL, {"method": "newton", "learning_rate": 0.1}, "learning_rate must be left out"),
        (MODEL, {"q0": fe.Gaussian([0.0, 0.0], scale=1.0), "method": "newton"}, "q0 must be"),
        (MODEL, {"tol": 0.0}, "tol must be positive"),
        (MODEL, {"max_iter": 0}, "max_iter must be at least 1"),
        (MODEL, {"n_eval": -1}, "n_eval must be at least 0"),
        (MODEL, {"n_samples": 2.5}, "n_samples must be an integer"),
        (fe.MixtureModel(X[:, :2], TWO), {"q0": fe.Categorical([1.0])}, "of 2 classes"),
        (fe.MixtureModel(X[:, :2], TWO), {"method": "newton"}, "for a MixtureModel"),
        (
            fe.MixtureModel(X[None, :, :2], TWO),
            {"q0": fe.Categorical(np.full((4, 2), 0.5))},
            "for a MixtureModel",
        ),
    ],
)
def test_what_is_refused(model, options, message):
    with pytest.raises(InvalidInputError, match=message):
        fe.fit(model, **options)
