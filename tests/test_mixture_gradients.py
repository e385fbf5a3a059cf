"""Gradients of the ELBO and of SIWAE under a mixture q."""

import numpy as np
import pytest
from cases import scales, triangles

import fastelbo as fe
from fastelbo.engine.gradients import mixtures
from fastelbo.engine.gradients.exact import exact_gradient
from fastelbo.engine.gradients.mixtures import MixtureTask, mixture_gradient
from fastelbo.errors import InvalidInputError, InvalidWeightError
from fastelbo.random import pilot_key
from fastelbo.reference import mixture_gradients as plain

ONE = fe.LinearGaussian([1.0], [[1.0]], noise_cov=1.0)
TWO = fe.Mixture([0.4, 0.6], fe.Gaussian([[-0.5], [0.8]], scale=[[0.6], [0.5]]))
ELBO = {
    "value": -1.63247464,
    "logits": [-0.14389013, 0.14389013],
    "mean": [[0.44594756], [-0.00594756]],
    "log_scale": [[-0.12118500], [0.07291683]],
    "loadings": [[-0.498]],
    "noise_cov": [0.109],
}
SIWAE = {
    1: {
        "value": -1.54180016,
        "logits": [-0.013022, 0.013022],
        "mean": [[0.052858], [-0.031482]],
        "log_scale": [[-0.015353], [0.094914]],
    },
    5: {
        "value": -1.52161697,
        "logits": [-0.002647, 0.002647],
        "mean": [[0.010510], [0.003511]],
        "log_scale": [[-0.002508], [0.032943]],
    },
}


def gradient(model, q, n_groups, k=1, estimator="stl", wrt=("q",), per_point=False, **options):
    sizes = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    given = {"key": 3, "heavy": np.zeros(int(np.prod(sizes)), np.bool_), **options}
    task = MixtureTask(model, q, n_groups, k, estimator, wrt, **given)
    return mixture_gradient(task, per_point)


def bounds(result):
    return {"value": result.value, **result.gradients}


# --- known answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "k", "expected"),
    [("stl", 1, ELBO), ("total", 1, ELBO), ("siwae", 1, SIWAE[1]), ("siwae", 5, SIWAE[5])],
)
def test_known_answers(estimator, k, expected):
    result = gradient(ONE, TWO, 60_000, k, estimator, ("log_scale", "model"))
    for name, value in expected.items():
        got, se = bounds(result)[name]
        assert (np.abs(got - value) < 4.5 * se).all(), name
        # Known answers have eight digits or six.
        assert (se < 0.02).all(), name
    assert (result.estimator, result.k) == (estimator, k)
    assert (result.n_groups, result.n_samples) == (60_000, 60_000 * k)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("estimator", "k", "expected"), [("stl", 1, ELBO), ("total", 1, ELBO), ("siwae", 5, SIWAE[5])]
)
def test_errors_are_those_of_many_runs(estimator, k, expected):
    runs = [
        bounds(gradient(ONE, TWO, 400, k, estimator, ("log_scale", "model"), key=seed))
        for seed in range(400)
    ]
    for name, value in expected.items():
        distance = np.array([(run[name].value - value) / run[name].se for run in runs])
        assert np.abs(distance.mean(axis=0)).max() < 4.5 / 400**0.5, name
        assert np.abs((distance**2).mean(axis=0) - 1.0).max() < 0.35, name


# --- common draws: differences, the plain oracle ------------------------------------------------


class Case:
    """A model and a mixture as their parameters, so that each can be changed."""

    def __init__(self, family, q_scale, noise, prior, batches=((), (), (), ())):
        rng = np.random.default_rng(5)
        x, logits, mean, scale = batches
        self.family, self.prior = family, prior
        self.given = {
            "x": rng.normal(size=(*x, 3)),
            "logits": rng.normal(size=(*logits, 2)),
            "mean": 0.5 * rng.normal(size=(*mean, 2, 2)),
            "loadings": rng.normal(size=(3, 2)),
            "offset": rng.normal(size=3),
            "noise_cov": rng.uniform(0.5, 2.0, 3),
        }
        if noise == "full":
            tril = triangles(rng, 3)
            self.given["noise_cov"] = tril @ tril.T
        if prior == "gaussian":
            tril = triangles(rng, 2)
            self.given |= {"prior_mean": rng.normal(size=2), "prior_cov": tril @ tril.T}
        made = {"scale": scales, "scale_tril": triangles}[q_scale]
        self.given[q_scale] = 0.7 * made(rng, *scale, 2, 2)

    def pair(self, **changed):
        given = self.given | changed
        if self.prior == "gaussian":
            prior = fe.Gaussian(given["prior_mean"], cov=given["prior_cov"])
        else:
            prior = fe.Mixture([0.3, 0.7], fe.Gaussian([[0.0, 1.0], [1.0, 0.0]], scale=0.8))
        model = fe.LinearGaussian(
            *(given[name] for name in ("x", "loadings")),
            **{name: given[name] for name in ("noise_cov", "offset")},
            prior=prior,
        )
        scale = {name: given[name] for name in ("scale", "scale_tril") if name in given}
        if self.family is fe.Gaussian:
            components = fe.Gaussian(given["mean"], **scale)
        else:
            components = fe.StudentT([4.0, np.inf], given["mean"], **scale)
        return model, fe.Mixture(logits=given["logits"], components=components)


CASES = {
    "diagonal": Case(fe.Gaussian, "scale", "full", "gaussian"),
    "full": Case(fe.Gaussian, "scale_tril", "diagonal", "mixture"),
    "student": Case(fe.StudentT, "scale_tril", "diagonal", "gaussian"),
    "batches": Case(fe.StudentT, "scale", "diagonal", "gaussian", ((3,), (), (3,), (1,))),
    "broadcast": Case(
        fe.Gaussian, "scale_tril", "full", "gaussian", ((2, 3), (2, 1), (3,), (2, 3))
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("estimator", "k"), [("total", 1), ("siwae", 1), ("siwae", 3)])
def test_it_is_the_derivative_of_the_estimate(name, estimator, k):
    case, n_groups = CASES[name], 5
    result = gradient(*case.pair(), n_groups, k, estimator, ("q", "model"))
    assert set(result.gradients) == set(case.given) - {"x"}
    for parameter, (value, _) in result.gradients.items():
        given = case.given[parameter]
        assert value.shape == given.shape
        # Some entries of each suffice.
        for index in list(np.ndindex(given.shape))[:: max(1, given.size // 6)]:
            if parameter == "scale_tril" and index[-2] < index[-1]:
                assert value[index] == 0.0
                continue
            change = np.zeros_like(given)
            change[index] = 1e-5
            if parameter == "prior_cov" or (parameter == "noise_cov" and change.ndim == 2):
                change = 0.5 * (change + change.T)
            high, low = (
                gradient(
                    *case.pair(**{parameter: given + s * change}), n_groups, k, estimator
                ).value.value
                for s in (1, -1)
            )
            expected = (high - low) / 2e-5
            assert value[index] == pytest.approx(expected, rel=2e-6, abs=2e-7), (parameter, index)


def test_the_model_has_the_same_gradients_by_stl():
    pair = CASES["student"].pair()
    one, other = (gradient(*pair, 50, 1, each, ("model",)) for each in ("stl", "total"))
    assert "logits" not in one.gradients
    for name, bound in one.gradients.items():
        np.testing.assert_array_equal(bound.value, other.gradients[name].value)
        np.testing.assert_array_equal(bound.se, other.gradients[name].se)


def parameters_of(q):
    own = q.components
    tril = own.scale_tril if own.scale is None else own.scale[..., None] * np.eye(q.dim)
    return plain.MixtureParameters(q.weights, own.mean, tril, getattr(own, "df", None))


@pytest.mark.parametrize("name", ["diagonal", "full"])
@pytest.mark.parametrize(("estimator", "k"), [("stl", 1), ("total", 1), ("siwae", 3)])
def test_against_the_plain_oracle(name, estimator, k):
    model, q = CASES[name].pair()
    groups, key = 7, 11

    def log_joint(z):
        value = float(model.log_joint(z))
        steps = 1e-6 * np.eye(2)
        slope = [(model.log_joint(z + s) - model.log_joint(z - s)) / 2e-6 for s in steps]
        return value, np.array(slope)

    components = []
    for c in range(2):
        scale = q.components.scale if q.components.scale is not None else q.components.scale_tril
        which = "scale" if q.components.scale is not None else "scale_tril"
        components.append(fe.Gaussian(q.components.mean[c], **{which: scale[c]}))
    # The draws of component c have a key of their own.
    z = np.array(
        [
            [fe.draw(own, 0, j, key=pilot_key(key, 2**20 + c)) for j in range(groups * k)]
            for c, own in enumerate(components)
        ]
    ).reshape(2, groups, k, 2)
    runs = []
    for g in range(groups):
        if estimator == "siwae":
            runs.append(plain.siwae(parameters_of(q), z[:, g], log_joint))
        else:
            total = estimator == "total"
            runs.append(plain.component_sums(parameters_of(q), z[:, g], log_joint, total))
    result = gradient(model, q, groups, k, estimator, key=key)
    assert result.value.value == pytest.approx(np.mean([value for value, _ in runs]), rel=1e-12)
    for part in ("logits", "mean", "scale"):
        rows = np.array([found[part] for _, found in runs])
        got = getattr(result, part) or result.scale_tril
        expected = rows.mean(axis=0)
        if part == "scale" and result.scale is not None:
            rows = np.diagonal(rows, axis1=-2, axis2=-1)
            expected = rows.mean(axis=0)
        np.testing.assert_allclose(got.value, expected, rtol=1e-7, atol=1e-8)
        if estimator == "siwae":
            se = rows.std(axis=0, ddof=1) / groups**0.5
            np.testing.assert_allclose(got.se, se, rtol=1e-6, atol=1e-8)


# --- special mixtures ---------------------------------------------------------------------------


def test_one_component_at_the_posterior_has_no_variance():
    posterior = ONE.exact_posterior()
    q = fe.Mixture([1.0], fe.Gaussian(posterior.mean[None], scale_tril=posterior.scale_tril[None]))
    result = gradient(ONE, q, 50)
    for value, se in result.gradients.values():
        np.testing.assert_allclose(value, 0.0, atol=1e-14)
        np.testing.assert_allclose(se, 0.0, atol=1e-14)
    assert result.value.value == pytest.approx(float(ONE.exact_log_evidence()), rel=1e-14)


def test_one_component_estimates_the_exact_gradient():
    single = fe.Gaussian([[0.2]], scale=0.9)
    result = gradient(ONE, fe.Mixture([1.0], single), 20_000, wrt=("q", "model"))
    exact = exact_gradient(ONE, fe.Gaussian([0.2], scale=0.9), ("q", "model"), False)
    for name, (value, se) in result.gradients.items():
        if name == "logits":
            np.testing.assert_array_equal(value, 0.0)
            continue
        expected = np.reshape(getattr(exact, name).value, value.shape)
        assert (np.abs(value - expected) < 4.5 * se).all(), name


@pytest.mark.parametrize(("estimator", "k"), [("stl", 1), ("total", 1), ("siwae", 4)])
def test_a_component_without_a_weight_does_not_count(estimator, k):
    far = fe.Gaussian([[-0.5], [1e200], [0.8]], scale=[[0.6], [1e-9], [0.5]])
    result = gradient(ONE, fe.Mixture([0.4, 0.0, 0.6], far), 30, k, estimator, ("q", "model"))
    assert result.logits.value[1] == 0.0
    assert not result.mean.value[1].any()
    assert not result.scale.value[1].any()
    for bound in bounds(result).values():
        assert np.isfinite(bound.value).all()
        assert np.isfinite(bound.se).all()


def test_components_far_apart():
    # The components do not see each other: each has the gradients of a q of its own.
    far, tiny = 2.0**40, 1e-3
    prior = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [far]], scale=1.0))
    q = fe.Mixture([0.3, 0.7], fe.Gaussian([[0.1], [far + 0.25]], scale=[[tiny], [2.0]]))
    result = gradient(prior, q, 4000)
    mean = np.array([[-0.3 * 0.1], [-0.7 * 0.25]])
    assert (np.abs(result.mean.value - mean) < 4.5 * result.mean.se + 1e-13).all()
    scale = np.array([[0.3 * (1.0 / tiny - tiny)], [0.7 * (0.5 - 2.0)]])
    assert (np.abs(result.scale.value - scale) < 4.5 * result.scale.se).all()


def test_one_group_has_no_error():
    result = gradient(ONE, TWO, 1, 3, "siwae", ("q", "model"))
    for bound in bounds(result).values():
        assert np.isfinite(bound.value).all()
        assert np.isnan(bound.se).all()


# --- data points, bits --------------------------------------------------------------------------


@pytest.mark.parametrize(("estimator", "k"), [("stl", 1), ("siwae", 2)])
def test_points_sum_up(estimator, k):
    for name in ("batches", "broadcast"):
        pair = CASES[name].pair()
        wrt = ("q", "model")
        whole, each = (gradient(*pair, 20, k, estimator, wrt, p) for p in (False, True))
        batch = pair[0].batch_shape
        axes = tuple(range(len(batch)))
        for part, (value, se) in bounds(whole).items():
            apart = bounds(each)[part]
            assert apart.value.shape[: len(batch)] == batch
            np.testing.assert_allclose(value.sum(), apart.value.sum(), rtol=1e-11, atol=1e-12)
            np.testing.assert_allclose((se**2).sum(), (apart.se**2).sum(), rtol=1e-11)
            if value.ndim == apart.value.ndim - len(batch):
                np.testing.assert_allclose(value, apart.value.sum(axis=axes), rtol=1e-10)


def same_bits(one, other):
    assert one.keys() == other.keys()
    for name, bound in one.items():
        for mine, others in zip(bound, other[name], strict=True):
            np.testing.assert_array_equal(mine, others, err_msg=name)


@pytest.mark.parametrize(("estimator", "k"), [("stl", 1), ("siwae", 3)])
def test_bits_depend_on_addresses_alone(estimator, k, monkeypatch):
    case = CASES["batches"]
    model, q = case.pair()
    options = {"k": k, "estimator": estimator, "wrt": ("q", "model"), "per_point": True}
    whole = bounds(gradient(model, q, 9000, **options))
    same_bits(whole, bounds(gradient(model, q, 9000, n_threads=1, **options)))
    last, own = case.pair(x=case.given["x"][2:], mean=case.given["mean"][2:])
    single = bounds(gradient(last, own, 9000, first_index=2, **options))
    same_bits({name: type(b)(*(a[2:] for a in b)) for name, b in whole.items()}, single)
    monkeypatch.setattr(mixtures, "_PART", 1)
    same_bits(whole, bounds(gradient(model, q, 9000, **options)))


# --- errors -------------------------------------------------------------------------------------


def test_what_is_refused():
    full = fe.Mixture([1.0], fe.Gaussian([[0.0]], scale_tril=[[[1.0]]]))
    with pytest.raises(InvalidInputError, match=r"log_scale.*diagonal"):
        gradient(ONE, full, 5, wrt=("log_scale",))
    with pytest.raises(InvalidInputError, match=r"no LinearGaussian.*for Gaussian"):
        gradient(fe.Gaussian([0.0], scale=1.0), full, 5, wrt=("q", "model"))
    far = fe.Mixture([0.5, 0.5], fe.Gaussian([[0.0], [1e200]], scale=1.0))
    with pytest.raises(InvalidWeightError, match=r"data point 0, draw 0 of component 1"):
        gradient(ONE, far, 5)
    # Where another component has all the weight, draws of no weight do no harm.
    assert np.isfinite(gradient(ONE, far, 5, 2, "siwae").value.value)


def cut_off(z):
    return -z[0] if z[0] > 0.0 else -np.inf


@pytest.mark.parametrize(("k", "match"), [(1, "log weight is -inf"), (2, "are all -inf")])
def test_a_group_of_weights_of_zero_is_an_error(k, match):
    with pytest.raises(InvalidWeightError, match=match):
        fe.elbo_gradient(fe.Model(log_joint=cut_off, dim=1), TWO, 20_000, k=k, rng=0)


# --- models on the host -------------------------------------------------------------------------

LOADINGS = np.random.default_rng(8).normal(size=(3, 2))
POINTS = np.random.default_rng(9).normal(size=(5, 3))


def log_likelihood(z, x):
    residual = x - z @ LOADINGS.T
    return -0.5 * (residual * residual).sum(-1)


def slope(z, x):
    return (x - z @ LOADINGS.T) @ LOADINGS


@pytest.mark.parametrize(("estimator", "k"), [("stl", 1), ("siwae", 3)])
@pytest.mark.parametrize("batch_size", [None, 64])
def test_a_function_on_the_host(estimator, k, batch_size):
    prior = fe.Gaussian([0.0, 0.0], scale=1.0)
    host = fe.Model(
        log_likelihood=log_likelihood, grad=slope, data=POINTS, prior=prior, vectorized=True,
        batch_size=batch_size,
    )  # fmt: skip
    linear = fe.LinearGaussian(POINTS, LOADINGS, noise_cov=1.0, prior=prior)
    _, q = CASES["full"].pair()
    result, expected = (gradient(each, q, 700, k, estimator) for each in (host, linear))
    for name, bound in result.gradients.items():
        np.testing.assert_allclose(bound.value, expected.gradients[name].value, rtol=1e-9)
        np.testing.assert_allclose(bound.se, expected.gradients[name].se, rtol=1e-9)
    # The densities differ by the constant of the noise.
    const = 7.5 * np.log(2.0 * np.pi)
    assert result.value.value - const == pytest.approx(float(expected.value.value), rel=1e-12)


def test_a_function_of_numpy_without_a_gradient_is_refused():
    model = fe.Model(log_joint=lambda z: -0.5 * (z * z).sum(-1), dim=1, vectorized=True)
    with pytest.raises(InvalidInputError, match=r'grad=.*"torch" or "jax"'):
        gradient(model, TWO, 5)
