"""ELBOs and their gradients without draws."""

import itertools

import mpmath
import numpy as np
import pytest
from cases import scales, triangles
from gradient_answers import MEAN_A, MODEL_A, PRIOR_A, TRIL_A, A
from scipy.special import softmax

import fastelbo as fe
from fastelbo import Bound
from fastelbo.engine.gradients import exact
from fastelbo.engine.gradients.exact import exact_elbo, exact_gradient
from fastelbo.errors import InvalidInputError
from fastelbo.models.location_scale import LocationScale
from fastelbo.results.gradient import PARAMETERS, ElboGradient

BOTH = ("q", "model")
MIXTURE_PRIOR = fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0))


def values(model, q, wrt=BOTH, per_point=False):
    result = exact_gradient(model, q, wrt, per_point)
    assert all(not bound.se.any() for bound in (result.value, *result.gradients.values()))
    return {name: bound.value for name, bound in result.gradients.items()}


# --- known answers ------------------------------------------------------------------------------


def test_of_a_full_gaussian():
    q = fe.Gaussian(MEAN_A, scale_tril=TRIL_A)
    assert float(fe.exact_elbo(MODEL_A, q)) == pytest.approx(-7.625784175595274, rel=1e-14)
    expected = {
        "mean": [-1.0329842932, 6.359947644],
        "scale_tril": [[-2.4458987784, 0.0], [-0.4081151832, -3.5117801047]],
        "loadings": [[-0.44, -0.89], [-0.96, 0.59], [0.16, -2.34]],
        "offset": [1.7, -1.5, 2.6],
        "noise_cov": [1.415, 1.355, 6.06],
        "prior_mean": [-0.2670157068, -0.1099476440],
    }
    got = values(MODEL_A, q)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=6e-11, err_msg=name)
    # Of a matrix of free entries: S0^-1 ((m - m0)(m - m0)' + S) S0^-1 - S0^-1, halved.
    inverse, gap = np.linalg.inv(PRIOR_A["cov"]), np.subtract(MEAN_A, PRIOR_A["mean"])
    inner = np.outer(gap, gap) + q.cov
    expected = 0.5 * (inverse @ inner @ inverse - inverse)
    np.testing.assert_allclose(got["prior_cov"], expected, rtol=1e-13)


def test_of_a_diagonal_gaussian():
    q = fe.Gaussian(MEAN_A, scale=[0.6, 0.5])
    assert float(fe.exact_elbo(MODEL_A, q)) == pytest.approx(-7.640090458317787, rel=1e-14)
    got = values(MODEL_A, q, ("log_scale",))
    assert set(got) == {"mean", "log_scale"}
    np.testing.assert_allclose(got["log_scale"], [-1.53696335, -1.75589005], rtol=0, atol=6e-9)
    np.testing.assert_allclose(values(MODEL_A, q)["scale"] * [0.6, 0.5], got["log_scale"])


def test_of_a_student():
    q = fe.StudentT(5.0, MEAN_A, scale_tril=TRIL_A)
    assert float(fe.exact_elbo(MODEL_A, q)) == pytest.approx(-8.980531121494053, rel=1e-14)
    got = values(MODEL_A, q)
    expected = {
        "mean": [-1.0329842932, 6.359947644],
        "scale_tril": [[-5.187609075, 0.0], [-0.680191972, -7.186300175]],
        "noise_cov": [2.06166667, 1.84166667, 9.18],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=6e-9, err_msg=name)


@pytest.mark.parametrize(
    ("mean", "scale", "expected"),
    [
        (0.0, 1.0, (-1.91893853, 1.0, -1.0, -1.0, 1.0, 0.5)),
        (0.4, 0.4**0.5, (-1.53708390, 0.2, 0.2, -0.16, 0.6, -0.12)),
        (0.2, 0.9, (-1.67429905, 0.6, -0.62, -0.65, 0.8, 0.225)),
    ],
)
def test_in_one_dimension(mean, scale, expected):
    model = fe.LinearGaussian([1.0], [[1.0]], noise_cov=1.0)
    result = exact_gradient(model, fe.Gaussian([mean], scale=scale), ("log_scale", "model"), False)
    names = ("value", "mean", "log_scale", "loadings", "offset", "noise_cov")
    got = [getattr(result, name).value.item() for name in names]
    np.testing.assert_allclose(got[0], expected[0], rtol=0, atol=6e-9)
    np.testing.assert_allclose(got[1:], expected[1:], rtol=1e-12)


# --- finite differences, batches, parts ---------------------------------------------------------


class Case:
    """A model and a q as their parameters, so that each can be changed."""

    def __init__(self, family, noise, q_scale, prior_scale, batches, seed=0):
        rng = np.random.default_rng(seed)
        x, mean, scale, prior_mean, prior_cov = batches
        self.given = {
            "x": rng.normal(size=(*x, 4)),
            "loadings": rng.normal(size=(4, 3)),
            "offset": rng.normal(size=4),
            "noise_cov": rng.uniform(0.5, 2.0, 4),
            "mean": 0.3 * rng.normal(size=(*mean, 3)),
            "prior_mean": 0.3 * rng.normal(size=(*prior_mean, 3)),
        }
        if noise == "full":
            tril = triangles(rng, 4)
            self.given["noise_cov"] = tril @ tril.T
        q_name = "scale" if q_scale == "diagonal" else "scale_tril"
        self.given[q_name] = {"scale": scales, "scale_tril": triangles}[q_name](rng, *scale, 3)
        self.diagonal = prior_scale == "diagonal"
        prior = triangles(rng, *prior_cov, 3)
        if self.diagonal:
            prior = prior * np.eye(3)
        self.given["prior_cov"] = prior @ np.swapaxes(prior, -1, -2)
        self.df = 5.0 if family is fe.StudentT else None

    def pair(self, **changed):
        given = self.given | changed
        prior = {"cov": given["prior_cov"]}
        if self.diagonal:
            prior = {"scale": np.sqrt(np.diagonal(given["prior_cov"], axis1=-2, axis2=-1))}
        model = fe.LinearGaussian(
            *(given[name] for name in ("x", "loadings")),
            **{name: given[name] for name in ("noise_cov", "offset")},
            prior=fe.Gaussian(given["prior_mean"], **prior),
        )
        scale = {name: given[name] for name in ("scale", "scale_tril") if name in given}
        if self.df is None:
            return model, fe.Gaussian(given["mean"], **scale)
        return model, fe.StudentT(self.df, given["mean"], **scale)


def plain_elbo(model, q):
    """The ELBO of one data point by the textbook's formula, in matrices of data space."""
    noise = np.diag(model.noise_cov) if model.noise_cov.ndim == 1 else model.noise_cov
    prior, gap = model.prior.cov, q.mean - model.prior.mean
    residual = model.x - model.offset - model.loadings @ q.mean

    def terms(cov, at, spread):
        log_det = np.linalg.slogdet(2.0 * np.pi * cov)[1]
        return -0.5 * (
            log_det + at @ np.linalg.solve(cov, at) + np.trace(np.linalg.solve(cov, spread))
        )

    spread = model.loadings @ q.cov @ model.loadings.T
    return terms(noise, residual, spread) + terms(prior, gap, q.cov) + q.entropy()


NONE = ((), (), (), (), ())
CASES = {
    "one": (fe.Gaussian, "diagonal", "full", "full", NONE),
    "full noise": (fe.Gaussian, "full", "diagonal", "diagonal", NONE),
    "data": (fe.Gaussian, "diagonal", "diagonal", "full", ((4,), (4,), (4,), (), ())),
    "amortised": (fe.StudentT, "full", "full", "full", ((2, 3), (2, 3), (), (), ())),
    "broadcast": (fe.Gaussian, "full", "full", "diagonal", ((2, 3), (3,), (2, 1), (1, 3), ())),
    "one x": (fe.StudentT, "diagonal", "diagonal", "full", ((), (), (3,), (2, 1), (3,))),
}


@pytest.mark.parametrize("name", CASES)
def test_against_plain_formulas_and_differences(name):
    case = Case(*CASES[name])
    model, q = case.pair()
    elbo = exact_elbo(model, q)
    shape = np.broadcast_shapes(model.batch_shape, q.batch_shape)
    assert elbo.shape == shape
    for i in np.ndindex(shape):
        single = [entry(each, i, shape) for each in (model, q)]
        assert elbo[i] == pytest.approx(plain_elbo(*single), rel=1e-12)
    result = exact_gradient(model, q, BOTH, False)
    assert result.value.value == pytest.approx(elbo.sum(), rel=1e-14)
    each = exact_gradient(model, q, BOTH, True)
    np.testing.assert_array_equal(each.value.value, elbo)
    for parameter, bound in result.gradients.items():
        given = case.given[parameter]
        assert bound.value.shape == given.shape
        got = np.zeros(shape + given.shape[given.ndim - event_axes(parameter, given) :])
        for index in np.ndindex(given.shape):
            if not changeable(case, parameter, index):
                continue
            expected = difference(case, parameter, index)
            assert bound.value[index] == pytest.approx(expected.sum(), rel=1e-6, abs=1e-7)
        got = each.gradients[parameter].value
        assert got.shape == shape + given.shape[given.ndim - event_axes(parameter, given) :]
        folded = fold(got, shape, given.shape, event_axes(parameter, given))
        np.testing.assert_allclose(folded, bound.value, rtol=1e-11, atol=1e-12)


def event_axes(parameter, given):
    if parameter in ("scale_tril", "loadings", "prior_cov"):
        return 2
    return given.ndim if parameter == "noise_cov" else 1


def fold(array, shape, to, event):
    """The sum over the batch axes along which a parameter is shared."""
    own = (1,) * (len(shape) + event - len(to)) + to[: len(to) - event]
    axes = tuple(i for i in range(len(shape)) if own[i] == 1)
    return array.sum(axis=axes, keepdims=True).reshape(to)


def changeable(case, parameter, index):
    """Whether an entry can be changed: no upper triangle, no zero of a diagonal prior."""
    if parameter == "scale_tril":
        return index[-2] >= index[-1]
    if parameter == "prior_cov" and case.diagonal:
        return index[-2] == index[-1]
    return True


def difference(case, parameter, index, step=1e-5):
    """A central difference. An entry of a covariance changes with its mirror image, by half."""
    change = np.zeros_like(case.given[parameter])
    change[index] = step
    if parameter == "prior_cov" or (parameter == "noise_cov" and change.ndim == 2):
        change = 0.5 * (change + np.swapaxes(change, -1, -2))
    ends = (
        exact_elbo(*case.pair(**{parameter: case.given[parameter] + s * change})) for s in (1, -1)
    )
    high, low = ends
    return (high - low) / (2.0 * step)


def entry(thing, i, shape):
    """The model or q of one data point."""

    def of(array, axes):
        spread = np.broadcast_to(array, shape + array.shape[array.ndim - axes :])
        return spread[i]

    if isinstance(thing, LocationScale):
        scale = {"scale": thing.scale, "scale_tril": thing.scale_tril}
        given = {k: of(v, 1 if k == "scale" else 2) for k, v in scale.items() if v is not None}
        if isinstance(thing, fe.StudentT):
            return fe.StudentT(of(thing.df, 0), of(thing.mean, 1), **given)
        return fe.Gaussian(of(thing.mean, 1), **given)
    return fe.LinearGaussian(
        of(thing.x, 1),
        thing.loadings,
        noise_cov=thing.noise_cov,
        offset=thing.offset,
        prior=entry(thing.prior, i, shape),
    )


@pytest.mark.parametrize("per_point", [False, True])
def test_parts_of_the_data_points_make_no_difference(monkeypatch, per_point):
    linear = [Case(*given).pair() for given in CASES.values()]
    whole = [values(*pair, per_point=per_point) for pair in linear]
    classes = [values(*pair, ("q",), per_point) for pair in mixture_pairs()]
    monkeypatch.setattr(exact, "_PART", 1)
    for pair, expected in zip(linear, whole, strict=True):
        for name, value in values(*pair, per_point=per_point).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-11, atol=1e-13)
    for pair, expected in zip(mixture_pairs(), classes, strict=True):
        got = values(*pair, ("q",), per_point)
        np.testing.assert_allclose(got["logits"], expected["logits"], rtol=1e-12, atol=1e-15)


# --- relations to other quantities --------------------------------------------------------------


def test_at_the_posterior_it_is_the_gradient_of_the_log_evidence():
    case = Case(fe.Gaussian, "full", "full", "full", ((4,), (), (), (), ()))
    model, _ = case.pair()
    posterior = model.exact_posterior()
    np.testing.assert_allclose(
        fe.exact_elbo(model, posterior), model.exact_log_evidence(), rtol=1e-13
    )
    result = exact_gradient(model, posterior, BOTH, False)
    for name in ("mean", "scale_tril"):
        np.testing.assert_allclose(getattr(result, name).value, 0.0, atol=1e-12)
    for name in ("loadings", "offset", "noise_cov", "prior_mean", "prior_cov"):
        gradient = getattr(result, name).value
        for index in np.ndindex(gradient.shape):
            change = np.zeros_like(gradient)
            change[index] = 1e-5
            if name in ("noise_cov", "prior_cov"):
                change = 0.5 * (change + change.T)
            high, low = (
                case.pair(**{name: case.given[name] + s * change})[0].exact_log_evidence().sum()
                for s in (1, -1)
            )
            assert gradient[index] == pytest.approx((high - low) / 2e-5, rel=1e-6, abs=1e-6)


def test_the_estimate_agrees():
    model, q = Case(*CASES["amortised"]).pair()
    est = fe.estimate(model, q, 4000, rng=0)
    assert (np.abs(est.elbo - fe.exact_elbo(model, q)) < 4.5 * est.elbo_se).all()


def test_nothing_cancels_far_away():
    # Everything is shifted by 1e8: the residual, and so the ELBO, stays the same.
    far, w, noise = 2.0**27, 3.0, 1e-6
    near = fe.LinearGaussian([1.0 + 2.0**-20], [[w]], noise_cov=noise)
    shifted = fe.LinearGaussian(
        [1.0 + 2.0**-20 + w * far],
        [[w]],
        noise_cov=noise,
        prior=fe.Gaussian([far], scale=1.0),
    )
    q, moved = (fe.Gaussian([0.25 + shift], scale=1e-3) for shift in (0.0, far))
    with mpmath.workdps(40):
        r, s2 = mpmath.mpf(1) + mpmath.mpf(2) ** -20 - mpmath.mpf(w) / 4, mpmath.mpf(1e-3) ** 2
        inverse = 1 / mpmath.mpf(noise)
        expected = -(mpmath.log(2 * mpmath.pi / inverse) + inverse * (r**2 + w**2 * s2)) / 2
        expected += (mpmath.log(s2) + 1 - s2 - mpmath.mpf(1) / 16) / 2
        mean = w * r * inverse - mpmath.mpf(1) / 4
    for model, at in ((near, q), (shifted, moved)):
        assert float(fe.exact_elbo(model, at)) == pytest.approx(float(expected), rel=1e-14)
        assert values(model, at)["mean"].item() == pytest.approx(float(mean), rel=1e-14)


def test_a_student_of_few_degrees_of_freedom():
    q = fe.StudentT([1.0, 2.0, 2.5, np.inf], MEAN_A, scale=0.5)
    elbo = fe.exact_elbo(MODEL_A, q)
    assert np.isneginf(elbo[:2]).all()
    assert np.isfinite(elbo[2:]).all()
    gaussian = fe.Gaussian(MEAN_A, scale=0.5)
    assert elbo[3] == pytest.approx(float(fe.exact_elbo(MODEL_A, gaussian)), rel=1e-14)
    with pytest.raises(InvalidInputError, match=r"q must have df above 2.*got df = 1.0"):
        exact_gradient(MODEL_A, q, BOTH, False)


def test_no_data_points():
    model = fe.LinearGaussian(np.zeros((0, 3)), A["loadings"], noise_cov=np.eye(3))
    q = fe.Gaussian(MEAN_A, scale=1.0)
    assert fe.exact_elbo(model, q).shape == (0,)
    for per_point in (False, True):
        got = values(model, q, per_point=per_point)
        assert not any(value.any() for value in got.values())
        assert got["noise_cov"].shape == ((0, 3, 3) if per_point else (3, 3))


# --- classes ------------------------------------------------------------------------------------


def mixture_pairs():
    rng = np.random.default_rng(3)
    mixture = fe.Mixture([0.2, 0.5, 0.3], fe.Gaussian(rng.normal(size=(3, 2)), scale=0.8))
    model = fe.MixtureModel(rng.normal(size=(2, 5, 2)), mixture)
    return [
        (model, fe.Categorical(rng.dirichlet(np.ones(3), shape)))
        for shape in ((), (5,), (2, 1), (2, 5))
    ]


@pytest.mark.parametrize("pair", range(4))
def test_logits_of_classes(pair):
    model, q = mixture_pairs()[pair]
    logits = np.log(q.probs)
    got = values(model, q, ("q",))["logits"]
    assert got.shape == q.probs.shape
    np.testing.assert_allclose(got.sum(axis=-1), 0.0, atol=1e-13)
    for index in np.ndindex(logits.shape):
        change = np.zeros_like(logits)
        change[index] = 1e-5
        high, low = (
            fe.exact_elbo(model, fe.Categorical(softmax(logits + s * change, axis=-1))).sum()
            for s in (1, -1)
        )
        assert got[index] == pytest.approx((high - low) / 2e-5, rel=1e-6, abs=1e-8)
    each = exact_gradient(model, q, ("q",), True)
    np.testing.assert_allclose(each.value.value, fe.estimate(model, q).elbo, rtol=1e-15)
    folded = fold(each.logits.value, (2, 5), q.probs.shape, 1)
    np.testing.assert_allclose(folded, got, rtol=1e-12, atol=1e-14)


def test_classes_without_a_weight():
    mixture = fe.Mixture([0.5, 0.5, 0.0], fe.Gaussian([[0.0], [1.0], [2.0]], scale=1.0))
    model = fe.MixtureModel([[0.3]], mixture)
    got = values(model, fe.Categorical([1.0, 0.0, 0.0]), ("q",))
    np.testing.assert_array_equal(got["logits"], 0.0)
    got = values(model, fe.Categorical([0.4, 0.6, 0.0]), ("q",))["logits"]
    assert got[2] == 0.0
    assert got[0] == pytest.approx(-got[1], rel=1e-12)
    possible = model.exact_posterior()
    np.testing.assert_allclose(values(model, possible, ("q",))["logits"], 0.0, atol=1e-15)
    impossible = fe.Categorical([0.4, 0.3, 0.3])
    assert np.isneginf(fe.exact_elbo(model, impossible)).all()
    with pytest.raises(InvalidInputError, match="no class of weight 0"):
        exact_gradient(model, impossible, ("q",), False)


# --- errors, the result -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "q", "message"),
    [
        (MODEL_A, fe.Gaussian([0.0], scale=1.0), "same dimension, got 2 and 1"),
        (MODEL_A, fe.Categorical([1.0]), "no closed form; got LinearGaussian and Categorical"),
        (fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=1.0), "got Gaussian and Gaussian"),
        (
            fe.LinearGaussian(
                [0.0],
                [[1.0]],
                noise_cov=1.0,
                prior=fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1)),
            ),
            fe.Gaussian([0.0], scale=1.0),
            "LinearGaussian with a Mixture as prior and Gaussian",
        ),
        (mixture_pairs()[0][0], fe.Categorical([1.0]), "as many classes"),
        (
            fe.LinearGaussian([1e200], [[1e200]], noise_cov=1e-200),
            fe.Gaussian([1e200], scale=1.0),
            "must differ less in size",
        ),
    ],
)
def test_what_has_no_closed_form_is_refused(model, q, message):
    for call in (fe.exact_elbo, lambda model, q: exact_gradient(model, q, ("q",), False)):
        with pytest.raises(InvalidInputError, match=message):
            call(model, q)


def test_parameters_that_are_not_there():
    with pytest.raises(InvalidInputError, match=r"log_scale.*diagonal"):
        exact_gradient(MODEL_A, fe.Gaussian(MEAN_A, scale_tril=TRIL_A), ("log_scale",), False)
    for other in ("model", "log_scale"):
        with pytest.raises(InvalidInputError, match=f'wrt must be "q" .*got "{other}"'):
            exact_gradient(*mixture_pairs()[0], ("q", other), False)


def test_the_result_shows_its_bound_and_its_gradients():
    result = exact_gradient(MODEL_A, fe.Gaussian(MEAN_A, scale_tril=TRIL_A), BOTH, False)
    lines = repr(result).split("\n")
    assert lines[0] == "ElboGradient of elbo = -7.6258 +- 0, estimator='exact'"
    assert [line.split()[0] for line in lines[1:]] == list(result.gradients)
    assert "[1,1] -3.5118 +- 0" in lines[2]
    assert lines[3].endswith("... 2 more")
    assert list(result.gradients) == [n for n in PARAMETERS if getattr(result, n) is not None]
    with pytest.raises(AttributeError, match="cannot assign"):
        result.mean = None
    with pytest.raises(ValueError, match="read-only"):
        result.mean.value[0] = 1.0
    bound = Bound(np.array([1.0, 2.0]), np.array([0.1, np.nan]))
    drawn = ElboGradient(
        bound, mean=bound, estimator="rws", k=3, n_samples=9, n_groups=3, biased=True, note="Why."
    )
    assert repr(drawn) == (
        "ElboGradient of iw_elbo(3) (2,)  [0] 1.00 +- 0.10  [1] 2.0000, estimator='rws', k=3, "
        "n_samples=9\n  mean (2,)  [0] 1.00 +- 0.10  [1] 2.0000\nBiased for this bound.\nWhy."
    )
    renyi = ElboGradient(bound, estimator="renyi", k=2, alpha=0.5, n_samples=4, n_groups=2)
    assert "renyi_bound(0.5) of k=2" in repr(renyi)
    assert "siwae(1)" in repr(ElboGradient(bound, estimator="siwae", n_samples=4, n_groups=4))


# --- JAX ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("df", "noise"), [*itertools.product((np.inf, 5.0), (1, 2))])
def test_jax_has_the_same_gradients(df, noise):
    jax = pytest.importorskip("jax")
    jnp, before = jax.numpy, jax.config.jax_enable_x64
    kind = fe.Gaussian if np.isinf(df) else fe.StudentT
    case = Case(kind, "full" if noise == 2 else "diagonal", "full", "full", NONE)
    names = ("mean", "scale_tril", "loadings", "offset", "noise_cov", "prior_mean", "prior_cov")

    def elbo(mean, tril, loadings, offset, noise_cov, prior_mean, prior_cov):
        cov = (1.0 if np.isinf(df) else df / (df - 2.0)) * tril @ tril.T
        noise_matrix = noise_cov if noise == 2 else jnp.diag(noise_cov)

        def terms(matrix, at, spread):
            log_det = jnp.linalg.slogdet(2.0 * jnp.pi * matrix)[1]
            inverse = jnp.linalg.inv(matrix)
            return -0.5 * (log_det + at @ inverse @ at + jnp.trace(inverse @ spread))

        value = terms(
            noise_matrix,
            case.given["x"] - offset - loadings @ mean,
            loadings @ cov @ loadings.T,
        )
        value += terms(prior_cov, mean - prior_mean, cov)
        return value + jnp.log(jnp.abs(jnp.diagonal(tril))).sum()

    try:
        jax.config.update("jax_enable_x64", True)
        arguments = [jnp.asarray(case.given[name]) for name in names]
        expected = jax.grad(elbo, argnums=tuple(range(7)))(*arguments)
        expected = [np.asarray(each) for each in expected]
    finally:
        jax.config.update("jax_enable_x64", before)
    got = values(*case.pair())
    for name, value in zip(names, expected, strict=True):
        value = np.tril(value) if name == "scale_tril" else value
        np.testing.assert_allclose(got[name], value, rtol=1e-12, atol=1e-12, err_msg=name)
