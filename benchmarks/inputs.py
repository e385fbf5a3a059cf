"""Inputs of the tasks: their classes, and functions that make them from fixed seeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastelbo as fe
from fastelbo.demo import digits_approximations, digits_model

Floats = NDArray[np.float64]


# --- classes, each for one task or more ------------------------------------------------------


class Rows(NamedTuple):
    """Log weights, reduced along an axis.

    - ``logsumexp`` -> array
    - ``summary`` -> (evidence, ELBO, variance, ESS)
    - ``logsumexp/rows`` and ``summary/rows``: only a matrix, along its last axis
    - ``default_summary``: fastelbo with bounds and k-hats, others as ``summary``
    - ``psis``, of a matrix along its last axis -> (smoothed log weights, k-hat, log evidence,
      smoothed log evidence), or the first two of these
    """

    values: Floats
    axis: int


class Points(NamedTuple):
    """Task ``mixture_log_prob`` -> array, one entry per point."""

    mixture: fe.Mixture
    points: Floats


class Responsibilities(NamedTuple):
    """Task ``mixture_model`` -> (evidence, ELBO of q, responsibilities)."""

    mixture: fe.Mixture
    points: Floats
    q: fe.Categorical


class Evidence(NamedTuple):
    """Task ``evidence`` -> (evidence, ELBO, relative variance of the weights).

    - ``evidence/diagonal``: linear-Gaussian model, standard normal prior, diagonal q
    - ``evidence/shape``: the same, with extreme numbers of data points and draws
    - ``evidence/mixture``: model and q are mixtures with diagonal components
    - ``evidence/any``: linear-Gaussian model, any prior, any q

    Task ``gradient/diagonal``, of the first of these -> (ELBO, its gradient by the mean, by the log
    scale) of each data point, by the path through the draws alone (STL).
    """

    model: Any
    q: Any
    n_samples: int


class Start(NamedTuple):
    """Task ``mixture_em`` -> mean log likelihood before the last of so many passes over the points.

    From a mixture with full covariances, by steps that gain no less than those of EM.
    """

    points: Floats
    mixture: fe.Mixture
    steps: int


class Images(NamedTuple):
    """Task ``factor_analysis`` -> mean log evidence at the maximum likelihood."""

    x: Floats
    factors: int


class Normals(NamedTuple):
    """Task ``normals`` -> the last block. A block may overwrite the one before it."""

    block: int
    blocks: int


class SobolNormals(NamedTuple):
    """Task ``sobol_normals`` -> (replicates, n, D), from scrambled Sobol points."""

    replicates: int
    n: int
    dim: int


class Draws(NamedTuple):
    """Task ``gaussian_sample`` -> (n, D)."""

    gaussian: fe.Gaussian
    n: int


# --- reductions ------------------------------------------------------------------------------


def normal_rows(shape: tuple[int, ...], axis: int) -> Rows:
    """Normal log weights."""
    return Rows(3.0 * np.random.default_rng(0).normal(size=shape), axis)


def pareto_rows(shape: tuple[int, int]) -> Rows:
    """Log weights of exact Pareto distributions, with shapes k from 0.1 to 0.9."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.1, 0.9, size=(shape[0], 1)) * rng.standard_exponential(size=shape)
    return Rows(values, -1)


# --- mixtures --------------------------------------------------------------------------------


def _triangles(rng: np.random.Generator, *shape: int) -> Floats:
    """Lower triangular factors with diagonals about 1 and rows of bounded norm."""
    below = np.tril(rng.normal(size=shape), -1) / np.sqrt(shape[-1])
    return below + rng.uniform(0.7, 1.3, shape[:-1])[..., None] * np.eye(shape[-1])


def _mixture(rng: np.random.Generator, components: int, dim: int, full: bool) -> fe.Mixture:
    mean = rng.normal(size=(components, dim))
    if full:
        parts = fe.Gaussian(mean, scale_tril=_triangles(rng, components, dim, dim))
    else:
        parts = fe.Gaussian(mean, scale=rng.uniform(0.7, 1.3, (components, dim)))
    return fe.Mixture(rng.dirichlet(np.full(components, 5.0)), parts)


def _points(rng: np.random.Generator, n: int, components: int, dim: int, full: bool) -> Points:
    mixture = _mixture(rng, components, dim, full)
    return Points(mixture, 1.5 * rng.normal(size=(n, dim)))


def mixture_points(n: int, components: int, dim: int, full: bool) -> Points:
    """A mixture, and points at which to evaluate it."""
    return _points(np.random.default_rng(0), n, components, dim, full)


def responsibilities(n: int, components: int, dim: int, full: bool) -> Responsibilities:
    """The same mixture and points, and a random q."""
    rng = np.random.default_rng(0)
    mixture, points = _points(rng, n, components, dim, full)
    return Responsibilities(mixture, points, fe.Categorical(rng.dirichlet(np.ones(components), n)))


# --- estimates -------------------------------------------------------------------------------


def digits(n: int, k: int) -> Evidence:
    """The first n digits, and a diagonal q."""
    model = digits_model(slice(n))
    return Evidence(model, digits_approximations(model)["wide"], k)


def two_mixtures(components: int, dim: int, k: int) -> Evidence:
    """N = 1: a normalised target, whose log evidence is 0, and a slightly wider q."""
    rng = np.random.default_rng(0)
    target = _mixture(rng, components, dim, full=False)
    parts = target.components
    near = fe.Gaussian(
        parts.mean + 0.1 * rng.normal(size=parts.mean.shape), scale=1.15 * parts.scale
    )
    return Evidence(target, fe.Mixture(target.weights, near), k)


def em_start(n: int, components: int, dim: int) -> Start:
    """Draws of a mixture, and a start from which EM converges slowly."""
    rng = np.random.default_rng(0)
    truth = _mixture(rng, components, dim, full=True)
    points = truth.sample(n, rng=1)
    mean = points[rng.choice(n, components, replace=False)]
    tril = np.broadcast_to(np.linalg.cholesky(np.cov(points.T)), (components, dim, dim))
    start = fe.Mixture(np.full(components, 1 / components), fe.Gaussian(mean, scale_tril=tril))
    return Start(points, start, steps=10)


def varying_pixels(factors: int) -> Images:
    """The pixels of the digits that are not constant."""
    images = fe.datasets.load_digits().images
    return Images(images[:, images.std(axis=0) > 0.0], factors)


# Noise so small that the data nearly determine the latents; otherwise few draws would not suffice.
_NOISE = 0.05


def _prior(kind: str, rng: np.random.Generator, dim: int) -> fe.Gaussian | fe.Mixture | None:
    if kind == "standard":
        return None
    if kind == "gaussian":
        return fe.Gaussian(rng.normal(size=dim), scale_tril=_triangles(rng, dim, dim))
    # Means so near each other that one Gaussian covers the posterior.
    means = rng.normal(size=(2, dim)) / np.sqrt(dim)
    tril = np.repeat(_triangles(rng, 1, dim, dim), 2, axis=0)
    return fe.Mixture([0.4, 0.6], fe.Gaussian(means, scale_tril=tril))


def _approximation(kind: str, rng: np.random.Generator, mean: Floats, tril: Floats) -> Any:
    """A q slightly wider than the Gaussians with these means and factors."""
    dim = mean.shape[-1]
    tril = (1.0 + 0.3 / np.sqrt(dim)) * tril
    if kind == "full":
        return fe.Gaussian(mean, scale_tril=tril)
    if kind == "t":
        return fe.StudentT(max(5.0, dim), mean, scale_tril=tril)
    if kind == "diagonal":
        precision = np.diagonal(np.linalg.inv(tril @ np.swapaxes(tril, -1, -2)), 0, -2, -1)
        return fe.Gaussian(mean, scale=1.0 / np.sqrt(precision))
    step = 0.3 / np.sqrt(dim) * rng.normal(size=(3, dim))
    means = mean[..., None, :] + (tril[..., None, :, :] @ step[:, :, None])[..., 0]
    tril = np.repeat(tril[..., None, :, :], 3, axis=-3)
    components = fe.Gaussian(means, scale_tril=tril)
    return fe.Mixture([0.2, 0.3, 0.5], components)


def linear(q: str, prior: str, n: int, dim: int, k: int) -> Evidence:
    """A linear-Gaussian model of n points with 2 D features, and a q near the posterior."""
    rng = np.random.default_rng(0)
    features = 2 * dim
    # Columns of about unit length. They are orthogonal for a diagonal q, which has no correlations.
    loadings = rng.normal(size=(features, dim)) / np.sqrt(features)
    if q == "diagonal":
        loadings = np.linalg.qr(loadings)[0]
    x = rng.normal(size=(n, dim)) @ loadings.T + np.sqrt(_NOISE) * rng.normal(size=(n, features))
    model = fe.LinearGaussian(x, loadings, noise_cov=_NOISE, prior=_prior(prior, rng, dim))
    posterior = model.exact_posterior()
    if isinstance(posterior, fe.Mixture):
        mean = posterior.components.mean[:, 0]
        tril = posterior.components.scale_tril[:, 0]
    else:
        mean, tril = posterior.mean, posterior.scale_tril
    return Evidence(model, _approximation(q, rng, mean, tril), k)


# --- random numbers --------------------------------------------------------------------------


def gaussian_draws(n: int, dim: int) -> Draws:
    """n draws of a Gaussian with a full covariance."""
    rng = np.random.default_rng(0)
    return Draws(fe.Gaussian(rng.normal(size=dim), scale_tril=_triangles(rng, dim, dim)), n)
