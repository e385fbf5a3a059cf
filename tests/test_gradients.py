"""elbo_gradient for a single location-scale q: known answers, oracles, bits, and errors."""

import numpy as np
import pytest
from cases import CASES

import fastelbo as fe
from fastelbo.errors import AllWeightsZeroWarning, InvalidInputError, InvalidWeightError

ESTIMATORS = ("total", "stl", "dreg", "renyi", "rws", "vimco", "score")
# x = 1, z ~ N(0, 1), x | z ~ N(z, 1): bound, and gradients by mean, log scale, loading, offset and
# noise variance, by quadrature.
NAMES = ("value", "mean", "log_scale", "loadings", "offset", "noise_cov")
BOUNDS = {
    ((0.0, 1.0), 1): (-1.91893853, 1.0, -1.0, -1.0, 1.0, 0.5),
    ((0.0, 1.0), 2): (-1.65347379, 0.38584587, -0.22747346, -0.46019820, 0.69292293, 0.07656056),
    ((0.4, 0.4**0.5), 5): (
        -1.52139426,
        0.05867454,
        0.06745649,
        -0.21920548,
        0.52933727,
        -0.12572862,
    ),
    ((0.2, 0.9), 1): (-1.67429905, 0.6, -0.62, -0.65, 0.8, 0.225),
    ((0.2, 0.9), 2): (-1.57252897, 0.22272145, -0.16546364, -0.36614004, 0.61136072, -0.01124962),
    ((0.2, 0.9), 5): (-1.53454353, 0.07102769, -0.04517810, -0.28324320, 0.53551385, -0.09062148),
    ((0.2, 0.9), 10): (-1.52456479, 0.03329561, -0.02050232, -0.26524550, 0.51664780, -0.10905335),
}
# q, k: expectations of STL and RWS, and standard deviations of total, STL and DReG; by mean and log
# scale each.
SPREADS = {
    ((0.0, 1.0), 2): (
        (0.69292293, -0.46019820), (0.30707707, -0.23272474), (1.327033, 1.481818),
        (0.663517, 0.768503), (0.468541, 0.508130),
    ),
    ((0.2, 0.9), 5): (
        (0.39755381, -0.30204860), (0.32652611, -0.25687050), (0.640944, 0.640325),
        (0.245299, 0.223726), (0.056732, 0.045763),
    ),
    ((0.4, 0.4**0.5), 10): (
        (0.24204293, 0.26152997), (0.21021464, 0.22356400), (0.509292, 0.564343),
        (0.127323, 0.169705), (0.023340, 0.044294),
    ),
}  # fmt: skip
RENYI = {
    ((0.0, 1.0), 2): (-1.75535749, 0.59156208, -0.43857654, -0.61717879, None, 0.20647991),
    ((0.4, 0.4**0.5), 10): (-1.52843520, 0.12202051, 0.12727493, -0.19246356, None, -0.12326309),
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
@pytest.mark.parametrize(("q", "k"), SPREADS)
def test_moments_of_a_million_groups(q, k):
    n = 10**6
    options = {"k": k, "wrt": ("log_scale", "model"), "rng": 9}
    found = {
        name: fe.elbo_gradient(one_dimension(), gaussian(q), n * k, estimator=name, **options)
        for name in ("total", "stl", "dreg", "rws")
    }
    exact = BOUNDS.get((q, k))
    for name in ("total", "dreg"):
        if exact is not None:
            check(found[name], exact)
    assert found["stl"].biased
    assert found["rws"].biased
    stl, rws, *spreads = SPREADS[q, k]
    for j, parameter in enumerate(("mean", "log_scale")):
        for name, mean in (("stl", stl[j]), ("rws", rws[j])):
            value, se = getattr(found[name], parameter)
            assert abs(value[0] - mean) < 4.5 * se[0]
        for name, spread in zip(("total", "stl", "dreg"), spreads, strict=True):
            se = getattr(found[name], parameter).se[0]
            assert se * np.sqrt(n) == pytest.approx(spread[j], rel=0.02)
        difference = getattr(found["stl"], parameter).value - getattr(found["rws"], parameter).value
        # On the same draws, the difference is the doubly reparameterised estimate itself.
        assert difference == pytest.approx(getattr(found["dreg"], parameter).value, rel=1e-9)


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


def rebuilt(q, name, value):
    parts = {each: getattr(q, each) for each in ("mean", "scale", "scale_tril")}
    parts = {each: part for each, part in parts.items() if part is not None} | {name: value}
    return type(q)(*([q.df] if isinstance(q, fe.StudentT) else []), **parts)


def remade(model, name, value):
    parts = {
        each: getattr(model, each) for each in ("x", "loadings", "noise_cov", "offset", "prior")
    }
    if name in ("prior_mean", "prior_cov"):
        prior = model.prior
        mean = value if name == "prior_mean" else prior.mean
        cov = value if name == "prior_cov" else prior.cov
        parts["prior"] = fe.Gaussian(mean, cov=cov)
    else:
        parts[name] = value
    return fe.LinearGaussian(parts.pop("x"), parts.pop("loadings"), **parts)


def parameter(model, q, name):
    if name in ("mean", "scale", "scale_tril"):
        return getattr(q, name)
    if name.startswith("prior"):
        return getattr(model.prior, name.removeprefix("prior_"))
    return getattr(model, name)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("name", PLAIN[:4])
def test_finite_differences_on_common_draws(name, k):
    model, q = CASES[name]()
    options = {"k": k, "estimator": "total", "rng": 4}
    gradient = fe.elbo_gradient(model, q, 64, **options)
    rng = np.random.default_rng(0)
    for each, bound in gradient.gradients.items():
        value = parameter(model, q, each)
        step = rng.normal(size=value.shape)
        if each == "scale_tril":
            step = np.tril(step)
        if each.endswith("cov") and value.ndim > 1 and value.shape[-1] == value.shape[-2]:
            step = step + np.swapaxes(step, -1, -2)
            if model.prior.family == "gaussian" and each == "prior_cov":
                step = step * (model.prior.scale is None or np.eye(model.dim))
        sides = []
        for h in (1e-6, -1e-6):
            moved = value + h * step
            changed = (
                (model, rebuilt(q, each, moved))
                if each in ("mean", "scale", "scale_tril")
                else (remade(model, each, moved), q)
            )
            sides.append(float(fe.elbo_gradient(*changed, 64, **options).value.value))
        slope = (sides[0] - sides[1]) / 2e-6
        predicted = float((np.broadcast_to(bound.value, step.shape) * step).sum())
        assert predicted == pytest.approx(slope, rel=2e-6, abs=2e-6), each


def test_same_value_as_estimate():
    model, q = CASES["t_full-mixture-full"]()
    estimate = fe.estimate(model, q, 900, rng=2, iw_sizes=[9], pareto_k=False)
    for k, bound in ((1, estimate.iw_elbo(1)), (9, estimate.iw_elbo(9))):
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
    from fastelbo.engine import gradient_states

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
    monkeypatch.setattr(gradient_states, "SLICE_NUMBERS", 2000)
    sliced = fe.elbo_gradient(model, q, 50, rng=6)
    np.testing.assert_allclose(sliced.loadings.value, sums.loadings.value, rtol=1e-12)


def test_user_model_by_dual_numbers():
    def log_joint(z):
        return -0.5 * (z[0] - 1.0) ** 2 - 0.5 * np.exp(z[1]) * z[0] ** 2 + 0.5 * z[1] - z[1] ** 2

    model = fe.Model(log_joint=log_joint, dim=2)
    q = fe.Gaussian([0.3, 0.1], scale_tril=[[0.7, 0.0], [0.2, 0.6]])
    for k in (1, 3):
        fast = fe.elbo_gradient(model, q, 60, k=k, rng=1, estimator="total")
        assert fast.loadings is None
        for d in range(2):
            sides = [
                fe.elbo_gradient(
                    model, fe.Gaussian(q.mean + h * np.eye(2)[d], scale_tril=q.scale_tril), 60, k=k,
                    rng=1, estimator="total",
                ).value.value
                for h in (1e-5, -1e-5)
            ]  # fmt: skip
            slope = (sides[0] - sides[1]) / 2e-5
            assert fast.mean.value[d] == pytest.approx(slope, rel=1e-7)


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


def broken(z):
    return np.where(z[0] > 2.0, np.nan, -0.5 * z[0] ** 2)


def test_bad_draws_are_named():
    model, q = fe.Model(log_joint=broken, dim=1), fe.Gaussian([0.5], scale=1.0)
    draws = q.sample(1000, rng=0)[:, 0]
    first = int(np.argmax(draws > 2.0))
    for k in (1, 4, 50, 1000):
        with pytest.raises(InvalidWeightError, match=f"data point 0, draw {first}\\b"):
            fe.elbo_gradient(model, q, 1000, k=k, rng=0)
