"""What is timed: inputs made outside the timer, the work in them, and a check of the answer.

A workload asks for a *task*, which names the inputs and the answer (see the classes of inputs
below). A part after a slash narrows the task: who performs ``evidence`` performs
``evidence/diagonal`` too, but not the other way round. `benchmarks.implementations` has them.

Work is stated in lane operations, of which a processor does so many a second as it does
multiply-adds (`benchmarks.machine`): the least number of arithmetic, comparing, shifting and
logical operations that the task takes, a multiply-add as one, and a division or root as one. Bytes
are those that must come from or go to memory. The floor of a workload is the longer of the two
times, and no program reaches it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastelbo as fe
from fastelbo.demo import digits_approximations, digits_model

from . import checks

Floats = NDArray[np.float64]


# --- inputs, one class a task or more --------------------------------------------------------


class Rows(NamedTuple):
    """Tasks ``logsumexp`` -> array, and ``summary`` -> (evidence, ELBO, variance, ESS).

    ``logsumexp/rows`` and ``summary/rows``: a matrix along its last axis. ``psis``: the same
    -> (smoothed log weights, k-hat, log evidence, smoothed log evidence), or the first two.
    """

    values: Floats
    axis: int


class Points(NamedTuple):
    """Task ``mixture_log_prob`` -> array, one entry a point."""

    mixture: fe.Mixture
    points: Floats


class Responsibilities(NamedTuple):
    """Task ``mixture_model`` -> (evidence, ELBO of q, responsibilities)."""

    mixture: fe.Mixture
    points: Floats
    q: fe.Categorical


class Evidence(NamedTuple):
    """Task ``evidence`` -> (evidence, ELBO, relative variance of the weights).

    ``evidence/diagonal``: linear-Gaussian, q diagonal, prior standard normal; ``evidence/shape``:
    the same for extreme numbers of data points and draws; ``evidence/mixture``: a diagonal mixture
    under a diagonal mixture; ``evidence/any``: any q and prior.
    """

    model: Any
    q: Any
    n_samples: int


class Normals(NamedTuple):
    """Task ``normals`` -> the last block; each block overwrites the one before where it can."""

    block: int
    blocks: int


class Draws(NamedTuple):
    """Task ``gaussian_sample`` -> (n, D)."""

    gaussian: fe.Gaussian
    n: int


class Problem(NamedTuple):
    """A workload at one size."""

    inputs: Any
    units: int
    operations: float  # of a unit
    bytes: float  # of a unit
    check: checks.Check


@dataclass(frozen=True)
class Workload:
    """One row of the report; ``build`` makes its problem from a size."""

    name: str
    family: str
    task: str
    unit: str
    build: Callable[..., Problem]
    size: Mapping[str, Any]
    small: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def problem(self, small: bool) -> Problem:
        """The problem at its full or its small size."""
        return _problem(self.name, small)


@functools.lru_cache(maxsize=1)
def _problem(name: str, small: bool) -> Problem:
    """Only the last one is kept: implementations of one workload follow one another."""
    workload = WORKLOADS[name]
    return workload.build(**workload.options, **(workload.small if small else workload.size))


# --- operations ------------------------------------------------------------------------------

# Polynomials as in fastelbo.kernels.scalar: arguments reduced, terms, exponents put back.
EXP = 26
LOG = 23
# Philox4x32-10 makes four words: ten rounds of two products, two shifts and two threefold xors.
PHILOX = 60
UNIFORM = 5
# A pair of normals: Philox, radius (log, product, root), angle, sine and cosine, their signs.
NORMAL = (PHILOX + UNIFORM + (LOG + 2) + 2 + 27) / 2
# One term of an online log-sum-exp: constant, difference, absolute value, exp, sum, two selects.
ADD_COMPONENT = EXP + 7
# Of one draw: the log weight, its exponential, the moments of w, l and two terms.
REDUCE = EXP + 20


def _norm_operations(dim: int, full: bool) -> float:
    """|F z - t|^2: a product for each entry of F, a square for each row."""
    return (dim * (dim + 1) / 2 if full else dim) + dim


def _density_operations(distribution: Any) -> float:
    """The log density of a draw."""
    dim = distribution.dim
    if isinstance(distribution, fe.Mixture):
        one = _norm_operations(dim, distribution.components.scale is None) + ADD_COMPONENT
        return distribution.weights.size * one + LOG
    student = LOG + 4 if isinstance(distribution, fe.StudentT) else 0
    return _norm_operations(dim, distribution.scale is None) + student + 2


def _evidence_operations(model: Any, q: Any) -> float:
    """One draw: made, weighed under q, prior and likelihood, reduced."""
    dim = q.dim
    draw = dim * NORMAL
    if isinstance(q, fe.Mixture):
        rows = dim * (dim + 1) / 2 if q.components.scale is None else dim
        own = PHILOX + 3 + 2 * q.weights.size + rows + _density_operations(q)
    else:
        # log q needs the draw's norm alone, and a location and scale go into the other forms.
        own = dim + (2 * PHILOX + NORMAL + 2 * LOG if isinstance(q, fe.StudentT) else 0)
    prior = _density_operations(model if isinstance(model, fe.Mixture) else model.prior)
    likelihood = 0.0 if isinstance(model, fe.Mixture) else _norm_operations(dim, full=True)
    return draw + own + prior + likelihood + REDUCE


# --- reductions ------------------------------------------------------------------------------


def _rows(task: str, shape: tuple[int, ...], axis: int) -> Problem:
    values = 3.0 * np.random.default_rng(0).normal(size=shape)
    if task == "logsumexp":
        check, operations = checks.logsumexp(values, axis), EXP + 3
    else:
        check, operations = checks.summary(values, axis), EXP + 9
    return Problem(Rows(values, axis), values.size, operations, 8.0, check)


def _log_ratios(shape: tuple[int, int]) -> Problem:
    """Exactly Pareto weights, of indices from .1 to .9."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0.1, 0.9, size=(shape[0], 1)) * rng.standard_exponential(size=shape)
    k = shape[1]
    tail = np.ceil(min(k / 5, 3 * np.sqrt(k)))
    # Of an element: the exponential of the sum, a comparison to find the tail. Of an element of
    # the tail: comparisons to sort it, a product for each theta of the fit, the quantile and its
    # logarithm.
    points = 30 + np.floor(np.sqrt(tail))
    one = np.log2(tail) + 2 * points + EXP + 2 * LOG + 10
    operations = EXP + 3 + tail / k * one
    check = checks.psis(values)
    return Problem(Rows(values, -1), values.size, operations, 16.0, check)


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


def _mixture_points(task: str, n: int, components: int, dim: int, full: bool) -> Problem:
    rng = np.random.default_rng(0)
    mixture = _mixture(rng, components, dim, full)
    points = 1.5 * rng.normal(size=(n, dim))
    units = n * components
    operations = _norm_operations(dim, full) + ADD_COMPONENT
    traffic = 8.0 * (dim + 1) / components
    if task == "mixture_log_prob":
        check = checks.mixture_log_prob(mixture, points)
        return Problem(Points(mixture, points), units, operations, traffic, check)
    q = fe.Categorical(rng.dirichlet(np.ones(components), n))
    # A responsibility is one more exponential; a term of the ELBO has q log q in it. One array of
    # the size of the units is read, and one written.
    operations += EXP + 1 + LOG + 4
    check = checks.mixture_model(mixture, points, q)
    return Problem(Responsibilities(mixture, points, q), units, operations, traffic + 16.0, check)


# --- estimates -------------------------------------------------------------------------------


def _estimate(model: Any, q: Any, n_samples: int, exact: Any) -> Problem:
    inputs = Evidence(model, q, n_samples)
    units = int(np.prod(exact.shape)) * n_samples
    operations = _evidence_operations(model, q)
    return Problem(inputs, units, operations, 0.0, checks.evidence(inputs, exact))


def _digits(n: int, k: int) -> Problem:
    model = digits_model(slice(n))
    return _estimate(model, digits_approximations(model)["wide"], k, model.exact_log_evidence())


def _two_mixtures(components: int, dim: int, k: int) -> Problem:
    """N = 1: a normalised target, whose log evidence is 0, under a q a little wider."""
    rng = np.random.default_rng(0)
    target = _mixture(rng, components, dim, full=False)
    parts = target.components
    near = fe.Gaussian(
        parts.mean + 0.1 * rng.normal(size=parts.mean.shape), scale=1.15 * parts.scale
    )
    return _estimate(target, fe.Mixture(target.weights, near), k, np.zeros(()))


# Few draws meet an evidence of many data points only if the noise leaves the latents nearly known.
_NOISE = 0.05


def _prior(kind: str, rng: np.random.Generator, dim: int) -> fe.Gaussian | fe.Mixture | None:
    if kind == "standard":
        return None
    if kind == "gaussian":
        return fe.Gaussian(rng.normal(size=dim), scale_tril=_triangles(rng, dim, dim))
    # Near enough for one Gaussian to cover what the data leave of both.
    means = rng.normal(size=(2, dim)) / np.sqrt(dim)
    tril = np.repeat(_triangles(rng, 1, dim, dim), 2, axis=0)
    return fe.Mixture([0.4, 0.6], fe.Gaussian(means, scale_tril=tril))


def _approximation(kind: str, rng: np.random.Generator, mean: Floats, tril: Floats) -> Any:
    """A q a little wider than the Gaussians with these means and factors."""
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


def _linear(q: str, prior: str, n: int, dim: int, k: int) -> Problem:
    """A linear-Gaussian model of n points of 2 D features, under a q near the posterior."""
    rng = np.random.default_rng(0)
    features = 2 * dim
    # Columns of unit length; orthogonal ones for a diagonal q, which would miss correlations.
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
    return _estimate(model, _approximation(q, rng, mean, tril), k, checks.marginal(model))


# --- random numbers --------------------------------------------------------------------------


def _normals(block: int, blocks: int) -> Problem:
    return Problem(Normals(block, blocks), block * blocks, NORMAL, 0.0, checks.standard_normals)


def _gaussian_draws(n: int, dim: int) -> Problem:
    rng = np.random.default_rng(0)
    gaussian = fe.Gaussian(rng.normal(size=dim), scale_tril=_triangles(rng, dim, dim))
    # Of one number: a normal, its share of the triangular product; written once.
    operations = NORMAL + (dim + 1) / 2
    return Problem(Draws(gaussian, n), n * dim, operations, 8.0, checks.gaussian_draws(gaussian))


# --- the workloads ---------------------------------------------------------------------------


def _estimates() -> list[Workload]:
    shapes = {"q": "diagonal", "prior": "standard"}
    draws = {2: (200, 2000), 32: (50, 1000), 128: (10, 1000)}
    return [
        Workload(
            "evidence, digits", "estimates", "evidence/diagonal", "draw", _digits,
            {"n": 1797, "k": 5120}, {"n": 5, "k": 700},
        ),
        Workload(
            "evidence, two mixtures", "estimates", "evidence/mixture", "draw", _two_mixtures,
            {"components": 8, "dim": 8, "k": 10**7}, {"components": 3, "dim": 3, "k": 20_000},
        ),
        Workload(
            "evidence, one point, many draws", "estimates", "evidence/shape", "draw", _linear,
            {"n": 1, "dim": 10, "k": 2 * 10**6}, {"n": 1, "dim": 5, "k": 20_000}, shapes,
        ),
        Workload(
            "evidence, many points, few draws", "estimates", "evidence/shape", "draw", _linear,
            {"n": 20_000, "dim": 10, "k": 64}, {"n": 40, "dim": 5, "k": 64}, shapes,
        ),
        *(
            Workload(
                f"evidence, {q} q, {prior} prior, D={dim}", "estimates", "evidence/any", "draw",
                _linear, {"n": n, "dim": dim, "k": k}, {"n": 3, "dim": dim, "k": 600},
                {"q": q, "prior": prior},
            )
            for dim, (n, k) in draws.items()
            for q in ("full", "t", "mixture")
            for prior in ("gaussian", "mixture")
        ),
    ]  # fmt: skip


def _mixtures() -> list[Workload]:
    return [
        Workload(
            f"{task.replace('_', ' ')}, {'full' if full else 'diagonal'}", "mixtures", task,
            "term", _mixture_points, {"n": 102_400, "components": 32, "dim": 16},
            {"n": 700, "components": 3, "dim": 5}, {"task": task, "full": full},
        )
        for task in ("mixture_log_prob", "mixture_model")
        for full in (True, False)
    ]  # fmt: skip


def _random() -> list[Workload]:
    return [
        Workload(
            "standard normals", "random", "normals", "normal", _normals,
            {"block": 2**20, "blocks": 96}, {"block": 2**14, "blocks": 2},
        ),
        Workload(
            "Gaussian draws, full", "random", "gaussian_sample", "normal", _gaussian_draws,
            {"n": 10**6, "dim": 16}, {"n": 3000, "dim": 5},
        ),
    ]  # fmt: skip


_MATRIX, _SMALL_MATRIX = (2000, 5000), (30, 700)


def _reductions() -> list[Workload]:
    return [
        Workload(
            f"{task} of {along}", "reductions", f"{task}/{along}", "element", _rows,
            {"shape": full, "axis": axis}, {"shape": small, "axis": axis}, {"task": task},
        )
        for task in ("logsumexp", "summary")
        for along, full, small, axis in (
            ("rows", _MATRIX, _SMALL_MATRIX, -1),
            ("columns", _MATRIX, _SMALL_MATRIX, 0),
            ("all", (10**7,), (20_000,), -1),
        )
    ]  # fmt: skip


def _smoothing() -> list[Workload]:
    return [
        Workload(
            "Pareto smoothing", "smoothing", "psis", "element", _log_ratios,
            {"shape": (10_000, 4000)}, {"shape": (30, 700)},
        )
    ]  # fmt: skip


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (*_estimates(), *_mixtures(), *_random(), *_reductions(), *_smoothing())
}
