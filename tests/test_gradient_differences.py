"""Gradients by the total estimator are central differences of the bound on the same draws."""

import numpy as np
import pytest
from cases import scales, triangles

import fastelbo as fe

DIM, N = 2, 24


def own_density(z, x):
    return -0.5 * (z[0] - x[0]) ** 2 - np.exp(0.3 * z[1]) - 0.5 * (z[0] * z[1] - x[1]) ** 2


def family(name, rng, centre):
    """A distribution of a kind, near a centre."""
    if name.startswith("mixture"):
        kind = fe.Gaussian if name == "mixture" else lambda *a, **b: fe.StudentT(6.0, *a, **b)
        means = centre + 0.7 * rng.normal(size=(2, DIM))
        return fe.Mixture([0.3, 0.7], kind(means, scale_tril=0.8 * triangles(rng, 2, DIM)))
    if name == "full":
        return fe.Gaussian(centre, scale_tril=0.8 * triangles(rng, *centre.shape))
    if name == "student":
        return fe.StudentT(5.0, centre, scale_tril=0.8 * triangles(rng, DIM))
    return fe.Gaussian(centre, scale=0.8 * scales(rng, DIM))


def linear(rng, noise, prior):
    loadings, features = rng.normal(size=(3, DIM)), 3
    tril = triangles(rng, features)
    return fe.LinearGaussian(
        rng.normal(size=(2, features)), loadings, offset=rng.normal(size=features),
        noise_cov=tril @ tril.T if noise == "full" else scales(rng, features),
        prior=family(prior, rng, rng.normal(size=DIM)),
    )  # fmt: skip


MODELS = {
    "linear, diagonal noise": lambda rng: linear(rng, "diagonal", "full"),
    "linear, full noise": lambda rng: linear(rng, "full", "diagonal"),
    "linear, mixture prior": lambda rng: linear(rng, "diagonal", "mixture"),
    "gaussian": lambda rng: family("full", rng, np.zeros(DIM)),
    "student": lambda rng: family("student", rng, np.zeros(DIM)),
    "mixture": lambda rng: family("mixture of t", rng, np.zeros(DIM)),
    "function": lambda rng: fe.Model(
        log_joint=own_density, dim=DIM, data=np.array([[0.5, 1.0], [-1.0, 0.3]])
    ),
}
QS = ("diagonal", "full", "student", "mixture")
# A batch of q, where one is allowed, so that the gradients of its members are tested too.
CENTRES = np.array([[0.2, -0.3], [0.8, 0.1]])


def changed(model, q, name, value):
    """Model and q with another value of a parameter."""
    if name in ("mean", "scale", "scale_tril", "logits"):
        if isinstance(q, fe.Mixture) and name == "logits":
            return model, fe.Mixture(logits=value, components=q.components)
        own = q.components if isinstance(q, fe.Mixture) else q
        kinds = ("mean", "scale" if own.scale is not None else "scale_tril")
        given = {each: getattr(own, each) for each in kinds} | {name: value}
        first = (own.df,) if isinstance(own, fe.StudentT) else ()
        made = type(own)(*first, **given)
        return model, fe.Mixture(q.weights, made) if isinstance(q, fe.Mixture) else made
    prior, parts = model.prior, {}
    for each in ("x", "loadings", "noise_cov", "offset", "prior"):
        parts[each] = getattr(model, each)
    if name == "prior_mean":
        parts["prior"] = fe.Gaussian(value, cov=prior.cov)
    elif name == "prior_cov":
        parts["prior"] = fe.Gaussian(prior.mean, cov=value)
    else:
        parts[name] = value
    return fe.LinearGaussian(**parts), q


def parameter(model, q, name):
    if name.startswith("prior"):
        return getattr(model.prior, name.removeprefix("prior_"))
    if name == "logits":
        return np.log(q.weights)
    if name in ("mean", "scale", "scale_tril"):
        return getattr(q.components if isinstance(q, fe.Mixture) else q, name)
    return getattr(model, name)


@pytest.mark.filterwarnings("ignore::fastelbo.errors.HighParetoKWarning")
@pytest.mark.parametrize("q_name", QS)
@pytest.mark.parametrize("model_name", MODELS)
def test_total_gradients_are_differences(model_name, q_name):
    rng = np.random.default_rng(7)
    model = MODELS[model_name](rng)
    q = family(q_name, rng, CENTRES if q_name in ("diagonal", "full") else CENTRES[0])
    for k in (1, 3):
        estimator = "siwae" if q_name == "mixture" and k > 1 else "total"
        options = {"k": k, "estimator": estimator, "rng": 4}
        gradient = fe.elbo_gradient(model, q, N, **options)
        is_linear = isinstance(model, fe.LinearGaussian)
        assert ("loadings" in gradient.gradients) == is_linear
        for name, bound in gradient.gradients.items():
            value = parameter(model, q, name)
            step = rng.normal(size=value.shape)
            if name == "scale_tril":
                step = np.tril(step)
            if name == "prior_cov" or (name == "noise_cov" and value.ndim == 2):
                step = step + np.swapaxes(step, -1, -2)
            high, low = (
                fe.elbo_gradient(
                    *changed(model, q, name, value + h * step), N, wrt="q", **options
                ).value.value
                for h in (1e-5, -1e-5)
            )
            predicted = float((bound.value * step).sum())
            assert predicted == pytest.approx((high - low) / 2e-5, rel=3e-7, abs=3e-7), (name, k)
