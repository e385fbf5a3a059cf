"""Where the largest weights lie, and what a warning about a bad q says to try."""

import warnings

import numpy as np
import pytest

import fastelbo as fe

P = fe.Gaussian(np.zeros(5), scale=1.0)
TWO_MODES = fe.Mixture([0.5, 0.5], fe.Gaussian([[-4.0], [4.0]], scale=0.5))


def warned(model, q, n_samples=1000, **options):
    """The one warning about k-hat or ESS of an estimate."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fe.estimate(model, q, n_samples, rng=1, **options)
    kinds = fe.errors.HighParetoKWarning, fe.errors.LowESSWarning
    (text,) = [str(each.message) for each in found if issubclass(each.category, kinds)]
    return text


def correlated(dim, share):
    return (1.0 - share) * np.eye(dim) + share


CASES = {
    "off centre": (P, fe.Gaussian([0.0, 0.0, 3.0, 0.0, 0.0], scale=1.0), "below its mean in z[2]"),
    "off on the other side": (P, fe.Gaussian([-3.0, 0, 0, 0, 0], scale=1.0), "above its mean in z"),
    "too narrow": (P, fe.Gaussian(np.zeros(5), scale=0.6), "too narrow; try a StudentT of df = 5"),
    "narrow Student": (
        TWO_MODES, fe.StudentT(df=5.0, mean=[0.0], scale=0.5), "too narrow; try a Mixture",
    ),
    "too wide": (P, fe.Gaussian(np.zeros(5), scale=5.0), "too wide; try a smaller scale"),
    "other shape": (
        fe.Gaussian(np.zeros(5), cov=correlated(5, 0.95)), fe.Gaussian(np.zeros(5), scale=1.0),
        "its shape does not fit; try a full covariance, or a Mixture",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "q", "words"), CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_a_warning_says_where_the_largest_weights_lie(model, q, words, backend):
    text = warned(model, q, backend=backend)
    assert words in text
    assert "fastelbo.adapt(model)" in text


def test_it_names_the_coordinate_as_the_model_does():
    def log_joint(z):
        return -0.5 * z[0] ** 2 - 0.5 * z[1] ** 2

    model = fe.Model(log_joint=log_joint, dim=2, names=("mu", "log_tau"))
    assert "in log_tau: move q there" in warned(model, fe.Gaussian([0.0, 4.0], scale=1.0))


@pytest.mark.parametrize("options", [{}, {"sampler": "sobol"}], ids=["iid", "sobol"])
def test_it_is_about_the_worst_data_point(options):
    q = fe.Gaussian([[0.0, 0.1], [2.0, 0.0], [0.0, 5.0], [0.1, 0.0]], scale=1.0)
    text = warned(fe.Gaussian(np.zeros((4, 2)), scale=1.0), q, 1024, **options)
    assert "of data point 2 lie to one side" in text
    assert "below its mean in z[1]" in text
    assert "fastelbo.adapt" not in text  # it takes no batch


def test_a_target_that_is_out_of_reach_has_advice_too():
    q = fe.Gaussian([[0.0, 0.1], [0.0, 4.0]], scale=1.0)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model = fe.Gaussian(np.zeros((2, 2)), scale=1.0)
        fe.estimate(model, q, target_se=0.01, max_samples=4096, rng=1)
    text = " ".join(str(each.message) for each in found)
    assert "of data point 1 lie to one side" in text


def test_it_evaluates_a_tenth_of_the_draws_of_one_data_point():
    sizes = []

    def log_joint(z):
        sizes.append(len(z))
        return -0.5 * (z**2).sum(axis=1)

    model = fe.Model(log_joint=log_joint, dim=2, vectorized=True)
    warned(model, fe.Gaussian([0.0, 4.0], scale=1.0), 5000, backend="cpu")
    assert 5000 < sum(sizes) <= 5600


def test_a_good_q_has_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est = fe.estimate(P, fe.Gaussian(np.zeros(5), scale=1.1), 1000, rng=1)
    assert est.pareto_k < 0.5


def test_draws_without_weight_are_left_out():
    def log_joint(z):
        return -1e4 * abs(z[0] - 3.0) if z[0] > 2.9 else -math_inf

    math_inf = float("inf")
    model = fe.Model(log_joint=log_joint, dim=1)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        est = fe.estimate(model, fe.Gaussian([0.0], scale=1.0), 1000, rng=1)
    assert est.n_zero > 900
    assert found
