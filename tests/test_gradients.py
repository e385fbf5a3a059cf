"""elbo_gradient for a single location-scale q: known answers, oracles, bits, and errors."""

import numpy as np
import pytest
from cases import CASES
from gradient_answers import BOUNDS, MEAN_A, MODEL_A, MOMENTS, NAMES, NARROW, STANDARD, TRIL_A

import fastelbo as fe
from fastelbo.errors import (
    AllWeightsZeroWarning,
    HighParetoKWarning,
    InvalidInputError,
    InvalidWeightError,
)

ESTIMATORS = ("total", "stl", "dreg", "renyi", "rws", "vimco", "score")
RENYI = {
    (STANDARD, 2): (-1.75535749, 0.59156208, -0.43857654, -0.61717879, None, 0.20647991),
    (NARROW, 10): (-1.52843520, 0.12202051, 0.12727493, -0.19246356, None, -0.12326309),
}


def one_dimension():
    return fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=[1.0])


def gaussian(q):
    return fe.Gaussian([q[0]], scale=q[1])


def check(gradient, row, limit=4.5):
    for name, exact in zip(NAMES, row, strict=True):
        if exact is not None:
            value, se = (float(np.ravel(each)[0]) for each in getattr(gradient, name))
            assert abs(value - exact) < limit * se + 1e-8, name


@pytest.mark.parametrize(("q", "k"), BOUNDS)
def test_known_answers(q, k):
    n = 20_000
    names = ["total", "score", "stl" if k == 1 else "dreg"] + (["vimco"] if k > 1 else [])
    for name in names:
        gradient = fe.elbo_gradient(
            one_dimension(), gaussian(q), n * k, k=k, estimator=name, wrt=("log_scale", "model"),
            rng=8,
        )  # fmt: skip
        check(gradient, BOUNDS[q, k])
        assert not gradient.biased


@pytest.mark.statistical
def test_moments_of_a_million_groups():
    n = 10**6
    for (q, k), (stl, rws, *spreads) in MOMENTS.items():
        found = {
            name: fe.elbo_gradient(
                one_dimension(), gaussian(q), n * k, k=k, estimator=name, rng=9,
                wrt=("log_scale", "model") if name in ("total", "dreg") else "log_scale",
            )
            for name in ("total", "stl", "dreg", "rws")
        }  # fmt: skip
        for name in ("total", "dreg"):
            check(found[name], BOUNDS[q, k])
        assert found["stl"].biased == (k > 1)
        assert found["rws"].biased
        for j, parameter in enumerate(("mean", "log_scale")):
            got = {name: getattr(each, parameter) for name, each in found.items()}
            for name, mean in (("stl", stl[j]), ("rws", rws[j])):
                assert abs(got[name].value[0] - mean) < 4.5 * got[name].se[0] + 1e-8, (q, k, name)
            for name, spread in zip(("total", "stl", "dreg"), spreads, strict=True):
                assert got[name].se[0] * np.sqrt(n) == pytest.approx(spread[j], rel=0.02)
            # On the same draws, the difference is the doubly reparameterised estimate itself.
            difference = got["stl"].value - got["rws"].value
            assert difference == pytest.approx(got["dreg"].value, rel=1e-9)


@pytest.mark.statistical
@pytest.mark.parametrize(
    "q",
    [
        fe.Gaussian(MEAN_A, scale_tril=TRIL_A),
        fe.Gaussian(MEAN_A, scale=[0.6, 0.5]),
        fe.StudentT(5.0, MEAN_A, scale_tril=TRIL_A),
    ],
    ids=["full", "diagonal", "student"],
)
def test_a_million_draws_near_the_exact_gradient(q):
    exact = fe.elbo_gradient(MODEL_A, q, estimator="exact")
    for name in ("total", "stl", "score"):
        found = fe.elbo_gradient(MODEL_A, q, 10**6, estimator=name, rng=11)
        assert found.gradients.keys() == exact.gradients.keys()
        for parameter, bound in [("value", found.value), *found.gradients.items()]:
            value = getattr(exact, parameter).value
            far = np.abs(bound.value - value) > 4.5 * bound.se + 1e-9
            assert not far.any(), (name, parameter)


@pytest.mark.parametrize(("q", "k"), RENYI)
def test_renyi(q, k):
    gradient = fe.elbo_gradient(
        one_dimension(), gaussian(q), 40_000 * k, k=k, estimator="renyi", alpha=0.5, rng=10,
        wrt=("log_scale", "model"),
    )  # fmt: skip
    check(gradient, RENYI[q, k])
    assert gradient.alpha == 0.5


def test_orders_of_renyi():
    model, q = one_dimension(), fe.Gaussian([0.2], scale=0.9)
    options = {"k": 5, "rng": 3, "estimator": "renyi"}
    dreg = fe.elbo_gradient(model, q, 1000, k=5, rng=3)
    zero = fe.elbo_gradient(model, q, 1000, alpha=0.0, **options)
    assert zero.mean.value == pytest.approx(dreg.mean.value, rel=1e-13)
    elbo = fe.elbo_gradient(model, q, 1000, rng=3)
    one = fe.elbo_gradient(model, q, 1000, alpha=1.0, **options)
    near = fe.elbo_gradient(model, q, 1000, alpha=1.0 + 1e-7, **options)
    assert one.value.value == pytest.approx(elbo.value.value, rel=1e-13)
    for name in one.gradients:
        a, b = one.gradients[name].value, elbo.gradients[name].value
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(a, near.gradients[name].value, rtol=1e-5, atol=1e-5)


PLAIN = [
    "diagonal-standard-scalar", "full-gaussian-full", "t-gaussian-diagonal", "t_full-mixture-full",
    "plain_gaussian",
]  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_against_plain_numpy(name):
    model, q = CASES[name]()
    for k in (1, 3, 33, 600):
        for estimator in ESTIMATORS:
            if (k == 1 and estimator == "vimco") or (k > 3 and estimator in ("stl", "total")):
                continue
            options = {
                "k": k, "estimator": estimator, "rng": 5, "first_index": 7,
                "alpha": 0.3 if estimator == "renyi" else None, "per_point": k == 3,
            }  # fmt: skip
            n = 2 * k + 1 if k > 1 else 7
            fast = fe.elbo_gradient(model, q, n, **options)
            plain = fe.elbo_gradient(model, q, n, backend="numpy", **options)
            pairs = {"value": (fast.value, plain.value)}
            pairs |= {each: (b, plain.gradients[each]) for each, b in fast.gradients.items()}
            assert list(fast.gradients) == list(plain.gradients)
            for each, (a, b) in pairs.items():
                assert a.value.shape == b.value.shape
                size = np.abs(b.value).max() + np.abs(b.se).max()
                np.testing.assert_allclose(
                    a.value, b.value, rtol=1e-9, atol=1e-9 * size, err_msg=each
                )
                np.testing.assert_allclose(a.se, b.se, rtol=1e-8, atol=1e-8 * size, err_msg=each)


@pytest.mark.filterwarnings("ignore::fastelbo.errors.LowESSWarning")
def test_same_value_as_estimate():
    # A Student-t q has no standard error at k = 1 and so few draws.
    for name, k in (("full-gaussian-full", 1), ("t_full-mixture-full", 9)):
        model, q = CASES[name]()
        estimate = fe.estimate(model, q, 900, rng=2, iw_sizes=[9], pareto_k=False)
        bound = estimate.iw_elbo(k)
        value = fe.elbo_gradient(model, q, 900, k=k, rng=2, per_point=True).value
        np.testing.assert_allclose(value.value, bound.value, rtol=1e-12)
        np.testing.assert_allclose(value.se, bound.se, rtol=1e-9)


@pytest.mark.parametrize("k", [1, 3, 700])
def test_same_bits(k):
    rng = np.random.default_rng(0)
    model = fe.LinearGaussian(rng.normal(size=(5, 3)), rng.normal(size=(3, 2)), noise_cov=0.7)
    q = fe.Gaussian(rng.normal(size=(5, 2)), scale=[0.5, 0.8])
    n = 20_000

    def numbers(gradient, rows=slice(None)):
        each = (gradient.value, *gradient.gradients.values())
        return [part[rows] for bound in each for part in bound]

    one = fe.elbo_gradient(model, q, n, k=k, rng=1, n_threads=1)
    two = fe.elbo_gradient(model, q, n, k=k, rng=1, n_threads=2)
    for a, b in zip(numbers(one, ...), numbers(two, ...), strict=True):
        np.testing.assert_array_equal(a, b)
    points = fe.elbo_gradient(model, q, n, k=k, rng=1, per_point=True)
    part = fe.elbo_gradient(
        fe.LinearGaussian(model.x[2:], model.loadings, noise_cov=0.7),
        fe.Gaussian(q.mean[2:], scale=q.scale), n, k=k, rng=1, per_point=True, first_index=2,
    )  # fmt: skip
    for a, b in zip(numbers(points, slice(2, None)), numbers(part), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sums_over_data_points(monkeypatch):
    from fastelbo.engine.gradients import states

    model, q = CASES["full-gaussian-full"]()
    rng = np.random.default_rng(1)
    model = fe.LinearGaussian(
        rng.normal(size=(2, 3, 1, model.loadings.shape[0])), model.loadings,
        noise_cov=model.noise_cov, offset=model.offset,
        prior=fe.Gaussian(rng.normal(size=(3, 1, model.dim)), scale=1.0),
    )  # fmt: skip
    q = fe.Gaussian(rng.normal(size=(2, 1, 1, q.dim)), scale_tril=np.eye(q.dim))
    points = fe.elbo_gradient(model, q, 50, rng=6, per_point=True)
    sums = fe.elbo_gradient(model, q, 50, rng=6)
    axes = {"mean": (1,), "prior_mean": (0,)}
    for name, bound in [*points.gradients.items(), ("value", points.value)]:
        over = axes.get(name, (0, 1, 2))
        keep = name in axes
        value = bound.value.sum(axis=over, keepdims=keep)
        error = np.sqrt((bound.se**2).sum(axis=over, keepdims=keep))
        total = sums.value if name == "value" else sums.gradients[name]
        np.testing.assert_allclose(
            total.value, value.reshape(total.value.shape), rtol=1e-12, atol=1e-12, err_msg=name
        )
        np.testing.assert_allclose(total.se, error.reshape(total.se.shape), rtol=1e-12)
    monkeypatch.setattr(states, "SLICE_NUMBERS", 2000)
    sliced = fe.elbo_gradient(model, q, 50, rng=6)
    np.testing.assert_allclose(sliced.loadings.value, sums.loadings.value, rtol=1e-12)


def outside(z):
    return np.where(z[0] > 0.0, -0.5 * z[0] ** 2, -np.inf)


def test_weights_of_zero():
    model = fe.Model(log_joint=outside, dim=1)
    q = fe.Gaussian([0.5], scale=1.0)
    with pytest.warns(AllWeightsZeroWarning, match="all weights of a group are 0"):
        gradient = fe.elbo_gradient(model, q, 100, rng=0)
    assert gradient.value.value == -np.inf
    assert np.isnan(gradient.mean.value).all()
    gradient = fe.elbo_gradient(model, q, 4000, k=40, rng=0)
    assert np.isfinite(gradient.mean.value).all()
    assert gradient.mean.se[0] > 0.0


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_weights_of_zero_in_other_estimators(backend):
    model = fe.Model(log_joint=outside, dim=1)
    q = fe.Gaussian([0.5], scale=1.0)
    options = {"rng": 0, "backend": backend}
    # VIMCO compares each weight with the others: one positive weight has none.
    with pytest.raises(InvalidWeightError, match=r"gradient .* is not finite"):
        fe.elbo_gradient(model, q, 80, k=2, estimator="vimco", **options)
    some = fe.elbo_gradient(model, q, 4000, k=40, estimator="vimco", **options)
    assert np.isfinite(some.mean.value).all()
    for alpha in (1.0, 2.0):
        with pytest.warns(AllWeightsZeroWarning, match="a weight is 0, and alpha"):
            found = fe.elbo_gradient(model, q, 80, k=4, estimator="renyi", alpha=alpha, **options)
        assert found.value.value == -np.inf
        assert np.isnan(found.mean.value).all()


def cut_off(z):
    return 0.0 if z[0] > 0.0 else -np.inf


def test_scores_see_a_jump_that_paths_do_not():
    # The log density is flat where it is finite: a path has the gradient of -log q alone.
    model, q = fe.Model(log_joint=cut_off, dim=1), fe.Gaussian([0.5], scale=0.5)
    by_score, by_path = (
        fe.elbo_gradient(model, q, 40_000, k=40, estimator=name, rng=0)
        for name in ("vimco", "total")
    )
    assert by_score.value == by_path.value
    assert abs(by_path.mean.value[0]) < 1e-12
    below = int((q.sample(40_000, rng=0) <= 0.0).sum())
    assert by_path.note.startswith(f"{below} draws have weight 0")
    assert by_score.note == ""
    assert by_score.mean.value[0] > 4.5 * by_score.mean.se[0]


def test_one_group_has_no_error():
    gradient = fe.elbo_gradient(one_dimension(), fe.Gaussian([0.2], scale=0.9), 10, k=10, rng=0)
    assert gradient.n_groups == 1
    assert np.isnan(gradient.mean.se).all()
    assert np.isfinite(gradient.mean.value).all()


def test_the_rest_is_not_drawn():
    model, q = one_dimension(), fe.Gaussian([0.2], scale=0.9)
    a, b = (fe.elbo_gradient(model, q, n, k=10, rng=0) for n in (50, 59))
    assert a.n_samples == b.n_samples == 50
    assert a.mean.value == b.mean.value


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"estimator": "vimco"}, "k must be at least 2"),
        ({"estimator": "best"}, "estimator must be"),
        ({"estimator": "renyi"}, "needs alpha"),
        ({"estimator": "renyi", "alpha": np.inf}, "alpha must be finite"),
        ({"alpha": 0.5}, 'alpha needs estimator="renyi"'),
        ({"estimator": "siwae"}, "needs a Mixture"),
        ({"estimator": "exact", "k": 2}, "k must be 1"),
        ({"k": 2000}, "k must be at most n_samples = 1000"),
        ({"k": 0}, "k must be"),
        ({"wrt": "theta"}, "wrt must be"),
        ({"wrt": ()}, "wrt must name"),
        ({"wrt": 3}, "wrt must be a sequence"),
        ({"backend": "cuda"}, "gradients are computed on the CPU"),
        ({"backend": "gpu"}, "backend must be"),
        ({"per_point": 2}, "per_point"),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(InvalidInputError, match=match):
        fe.elbo_gradient(one_dimension(), fe.Gaussian([0.2], scale=0.9), **options)


def test_bad_pairs():
    model, full = one_dimension(), fe.Gaussian([0.2], cov=[[0.8]])
    with pytest.raises(InvalidInputError, match="log_scale"):
        fe.elbo_gradient(model, full, wrt="log_scale")
    assert fe.elbo_gradient(model, full, 10).scale_tril.value.shape == (1, 1)
    with pytest.raises(InvalidInputError, match="LinearGaussian"):
        fe.elbo_gradient(full, full, wrt="model")
    mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1.0]], scale=1.0))
    with pytest.raises(InvalidInputError, match="estimator must be 'siwae'"):
        fe.elbo_gradient(model, mixture, k=2, estimator="dreg")
    with pytest.raises(InvalidInputError, match="model must be"):
        fe.elbo_gradient(3, full)


def test_gradients_beyond_the_largest_float_are_refused():
    with pytest.raises(InvalidInputError, match="differ less in size"):
        fe.elbo_gradient(one_dimension(), fe.Gaussian([0.0], scale=1e-310), 4, rng=0)


def broken(z):
    return np.where(z[0] > 2.0, np.nan, -0.5 * z[0] ** 2)


def test_bad_draws_are_named():
    model, q = fe.Model(log_joint=broken, dim=1), fe.Gaussian([0.5], scale=1.0)
    draws = q.sample(1000, rng=0)[:, 0]
    first = int(np.argmax(draws > 2.0))
    for k in (1, 4, 50, 1000):
        with pytest.raises(InvalidWeightError, match=f"data point 0, draw {first}\\b"):
            fe.elbo_gradient(model, q, 1000, k=k, rng=0)


# --- heavy tails ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_an_elbo_without_a_variance_has_no_standard_error(backend):
    # The terms of the ELBO grow like z^2: with df = 1 they have no mean, and the ELBO is -inf.
    model = fe.LinearGaussian([[1.0], [0.5]], [[1.0]], noise_cov=1.0)
    q = fe.StudentT([1.0, 30.0], [[0.2], [0.3]], scale=0.9)
    with pytest.warns(HighParetoKWarning, match="for 1 of 2 data points .the first: 0."):
        found = fe.elbo_gradient(model, q, 10_000, per_point=True, rng=0, backend=backend)
    for bound in (found.value, *found.gradients.values()):
        assert np.isnan(bound.se[0]).all()
        assert np.isfinite(bound.se[1]).all()
    with pytest.warns(HighParetoKWarning):
        together = fe.elbo_gradient(model, q, 10_000, rng=0, backend=backend)
    assert np.isnan(together.value.se)
    assert np.isnan(together.loadings.se).all()
    assert np.isnan(together.scale.se).any()


def test_the_components_of_a_mixture_may_have_heavy_tails():
    model = fe.LinearGaussian([1.0], [[1.0]], noise_cov=1.0)
    q = fe.Mixture([0.5, 0.5], fe.StudentT(1.0, [[0.2], [0.3]], scale=0.9))
    with pytest.warns(HighParetoKWarning):
        found = fe.elbo_gradient(model, q, 10_000, rng=0)
    assert np.isnan(found.value.se)
    assert all(np.isnan(bound.se).all() for bound in found.gradients.values())


def test_a_mixture_says_that_draws_have_weight_0():
    model = fe.Model(log_joint=cut_off, dim=1)
    q = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.5], [0.7]], scale=0.5))
    found = fe.elbo_gradient(model, q, 400, k=20, rng=0)
    assert "draws have weight 0" in found.note
