"""The models and approximations that tests and benchmarks share.

`CASES` maps a name to a function without arguments that builds ``(model, q)``. It combines every
kind of q with every kind of prior and of noise. Dimensions, numbers of features and batches cycle
through the combinations, with periods that have no common factor.
"""

import itertools
from functools import partial

import numpy as np

import fastelbo as fe


def triangles(rng, *shape):
    """Well-conditioned lower triangular factors."""
    dim = shape[-1]
    below = np.tril(rng.normal(size=(*shape, dim)), -1) / np.sqrt(dim)
    return below + rng.uniform(0.5, 1.5, shape)[..., None] * np.eye(dim)


def scales(rng, *shape):
    """Standard deviations."""
    return rng.uniform(0.5, 1.5, shape)


def around(rng, centre, count, spread):
    """Locations of components around a centre, with an axis for the components."""
    return centre[..., None, :] + spread * rng.normal(size=(count, centre.shape[-1]))


QS = {
    "diagonal": lambda rng, m, s: fe.Gaussian(m, scale=s * scales(rng, *m.shape)),
    "full": lambda rng, m, s: fe.Gaussian(m, scale_tril=s * triangles(rng, *m.shape)),
    "t": lambda rng, m, s: fe.StudentT(5.0, m, scale=s * scales(rng, m.shape[-1])),
    "t_full": lambda rng, m, s: fe.StudentT(
        rng.uniform(1.2, 1.8, m.shape[:-1]), m, scale_tril=s * triangles(rng, m.shape[-1])
    ),
    "mixture": lambda rng, m, s: fe.Mixture(
        [0.2, 0.5, 0.3],
        fe.Gaussian(around(rng, m, 3, s), scale=s * scales(rng, 3, m.shape[-1])),
    ),
    "mixture_full": lambda rng, m, s: fe.Mixture(
        [0.6, 0.4],
        fe.Gaussian(
            around(rng, m, 2, s), scale_tril=s * triangles(rng, *m.shape[:-1], 2, m.shape[-1])
        ),
    ),
    "mixture_t": lambda rng, m, s: fe.Mixture(
        [0.3, 0.3, 0.4],
        fe.StudentT([3.0, 1.5, 30.0], around(rng, m, 3, s), scale=s * scales(rng, 3, m.shape[-1])),
    ),
    "zero_weight": lambda rng, m, s: fe.Mixture(
        [0.0, 0.0, 0.4, 0.6],
        fe.Gaussian(around(rng, m, 4, s), scale_tril=s * triangles(rng, 4, m.shape[-1])),
    ),
}

PRIORS = {
    "standard": lambda rng, m: None,
    "gaussian": lambda rng, m: fe.Gaussian(m, scale_tril=triangles(rng, *m.shape)),
    "mixture": lambda rng, m: fe.Mixture(
        [0.3, 0.7], fe.Gaussian(around(rng, m, 2, 2.0), scale_tril=triangles(rng, 2, m.shape[-1]))
    ),
}


def _full_noise(rng, features, variance):
    factor = np.sqrt(variance) * triangles(rng, features)
    return factor @ factor.T


NOISES = {
    "scalar": lambda rng, features, variance: variance,
    "diagonal": lambda rng, features, variance: variance * rng.uniform(0.5, 2.0, features),
    "full": _full_noise,
}


def linear(
    q="diagonal",
    prior="standard",
    noise="scalar",
    *,
    dim=3,
    features=4,
    model_batch=(),
    prior_batch=(),
    q_batch=(),
    variance=0.5,
    shift=0.0,
    spread=0.7,
    seed=0,
):
    """A linear-Gaussian model with data drawn from it, and a q of that kind near the latents.

    ``shift`` is the centre of the latents, ``spread`` the width of q and its distance from them.
    """
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(features, dim)) / np.sqrt(dim)
    offset = rng.normal(size=features)
    latent = shift + rng.normal(size=(*model_batch, dim))
    error = np.sqrt(variance) * rng.normal(size=(*model_batch, features))
    model = fe.LinearGaussian(
        latent @ loadings.T + offset + error,
        loadings,
        noise_cov=NOISES[noise](rng, features, variance),
        offset=offset,
        prior=PRIORS[prior](rng, shift + rng.normal(size=(*prior_batch, dim))),
    )
    start = latent if q_batch == model_batch else shift
    return model, QS[q](rng, start + spread * rng.normal(size=(*q_batch, dim)), spread)


def plain(model, q, *, dim=2, model_batch=(), q_batch=(), seed=0):
    """A distribution as the model, which is the prior with likelihood 1, and a q."""
    rng = np.random.default_rng(seed)
    target = QS[model](rng, rng.normal(size=(*model_batch, dim)), 1.0)
    return target, QS[q](rng, rng.normal(size=(*q_batch, dim)), 1.2)


def _product():
    dims = itertools.cycle([1, 2, 3, 5, 7, 10, 17])
    features = itertools.cycle([1, 4, 2, 12, 20])
    batches = itertools.cycle([((), ()), ((3,), ()), ((), (2,)), ((2, 1), (3,))])
    for seed, kinds in enumerate(itertools.product(QS, PRIORS, NOISES)):
        sizes = {"dim": next(dims), "features": next(features)}
        sizes["model_batch"], sizes["q_batch"] = next(batches)
        yield "-".join(kinds), partial(linear, *kinds, **sizes, seed=seed)


CASES = dict(_product()) | {
    "one_dimension": partial(linear, dim=1, features=1),
    "prior_batch": partial(linear, "full", "gaussian", prior_batch=(3,), q_batch=(3,)),
    "every_batch": partial(
        linear, "mixture_t", "mixture", model_batch=(2, 1), prior_batch=(3,), q_batch=(2, 3)
    ),
    "small_noise": partial(linear, "full", dim=5, features=8, variance=1e-6, spread=1e-3),
    "small_noise_few_features": partial(
        linear, "t", "gaussian", "full", dim=5, features=3, variance=1e-6, spread=1e-3
    ),
    "far": partial(linear, "full", dim=5, features=8, model_batch=(4,), q_batch=(4,), shift=100.0),
    "small_noise_far": partial(
        linear, "full", "gaussian", dim=10, features=17, variance=1e-6, shift=100.0, spread=1e-3
    ),
    "small_noise_far_mixture": partial(
        linear, "mixture_full", "mixture", "diagonal", variance=1e-6, shift=100.0, spread=1e-3
    ),
    "plain_gaussian": partial(plain, "full", "diagonal", dim=10, q_batch=(3,)),
    "plain_t": partial(plain, "t_full", "t", dim=3, model_batch=(2,), q_batch=(2,)),
    "plain_mixture": partial(plain, "mixture_t", "mixture_full", dim=5, model_batch=(2,)),
    "plain_zero_weight": partial(plain, "zero_weight", "full", dim=2),
}
