"""The workloads: inputs, the work that they take, and a check of the answer.

A workload has a *task*, which defines the inputs and the answer (see `benchmarks.inputs`). A part
after a slash narrows the task: an implementation of ``evidence`` also does ``evidence/diagonal``,
but not the other way round. `benchmarks.implementations` finds the implementations of a task.

Work is the least number of lane operations and of bytes that a task takes. Lane operations are
counted by kind (`benchmarks.machine.Work`); bytes are those that must be read from or written to
memory. The rates that `benchmarks.machine` measures turn both into times, and those into the floor
of a workload. No program reaches it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

import fastelbo as fe

from . import checks, inputs
from .machine import Work


class Problem(NamedTuple):
    """A workload at one size."""

    inputs: Any
    units: int
    work: Work  # per unit
    bytes: float  # per unit
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
    """Build a problem. Only the last is cached: a workload's implementations run in turn."""
    workload = WORKLOADS[name]
    return workload.build(**workload.options, **(workload.small if small else workload.size))


# --- operations ------------------------------------------------------------------------------

MULTIPLY_ADD, OTHER = Work(multiply_adds=1), Work(others=1)
# The polynomials of fastelbo's kernels: reduction of the argument, terms, scaling by the exponent.
# Of an exponential, that of an argument that is not too large, as in a sum of scaled weights.
EXP = Work(multiply_adds=15, integer=1, others=2, operations=26)
LOG = Work(multiply_adds=13, integer=1, others=8, divisions=1)
# Four words of Philox4x32-10: ten rounds of two products, two shifts and two three-way xors.
PHILOX = Work(integer=40, xors=20)
UNIFORM = Work(multiply_adds=2, integer=1, others=2)
# A pair of normals: Philox, radius (log, product, root), angle, sine and cosine, signs.
PAIR = PHILOX + UNIFORM + LOG + MULTIPLY_ADD + Work(roots=1)
PAIR += Work(multiply_adds=17, integer=2, others=10)
NORMAL = 0.5 * PAIR
# One term of an online log-sum-exp: constant, difference, absolute value, exp, sum, two selects.
ADD_COMPONENT = EXP + Work(multiply_adds=1, others=6)
# Reduction of one draw: log weight l, its exponential w, moments of w, of l and of two terms.
REDUCE = EXP + Work(multiply_adds=5, others=15)


def _norm_work(dim: int, full: bool) -> Work:
    """|F z - t|^2: a product for each entry of F, a square for each row."""
    return ((dim * (dim + 1) / 2 if full else dim) + dim) * MULTIPLY_ADD


def _density_work(distribution: Any) -> Work:
    """The log density of a draw."""
    dim = distribution.dim
    if isinstance(distribution, fe.Mixture):
        one = _norm_work(dim, distribution.components.scale is None) + ADD_COMPONENT
        return distribution.weights.size * one + LOG
    work = _norm_work(dim, distribution.scale is None) + 2 * OTHER
    return work + LOG + 4 * OTHER if isinstance(distribution, fe.StudentT) else work


def _evidence_work(model: Any, q: Any) -> Work:
    """One draw: sampling, log densities of q, prior and likelihood, reduction."""
    dim = q.dim
    work = dim * NORMAL + REDUCE
    if isinstance(q, fe.Mixture):
        rows = dim * (dim + 1) / 2 if q.components.scale is None else dim
        work += PHILOX + (3 + 2 * q.weights.size) * OTHER + rows * MULTIPLY_ADD
        work += _density_work(q)
    else:
        # log q needs only the norm of the standardised draw. The forms of prior and likelihood
        # include location and scale.
        work += dim * MULTIPLY_ADD
        if isinstance(q, fe.StudentT):
            work += 2 * PHILOX + NORMAL + 2 * LOG
    if isinstance(model, fe.Mixture):
        return work + _density_work(model)
    return work + _density_work(model.prior) + _norm_work(dim, full=True)


# --- problems: inputs, their work, and the check of an answer --------------------------------


def _rows(task: str, shape: tuple[int, ...], axis: int) -> Problem:
    rows = inputs.normal_rows(shape, axis)
    if task == "logsumexp":
        check, work = checks.logsumexp(rows), EXP + 3 * OTHER
    else:
        # Beside the largest, the exponential and its sum: sums of the elements, and of squares and
        # products of weights and elements.
        check, work = checks.summary(rows), EXP + Work(multiply_adds=3, others=6)
    if task == "default_summary":
        # Sums over groups of 10 and of 100, the logarithm of each mean and its two moments.
        work += 2 * OTHER + (1 / 10 + 1 / 100) * (LOG + 4 * OTHER)
        work += _tail_work(shape[axis])
    return Problem(rows, rows.values.size, work, 8.0, check)


def _tail(k: int) -> int:
    """The number of log weights in the tail of K."""
    return math.ceil(min(k / 5, 3 * math.sqrt(k)))


def _tail_work(k: int) -> Work:
    """For one of K log weights: its share of finding the tail and of fitting it."""
    tail = _tail(k)
    # A comparison finds the tail. An element of the tail: comparisons to sort it, an exponential, a
    # product for each theta of the fit.
    points = 30 + math.isqrt(tail)
    one = Work(multiply_adds=2 * points, others=math.log2(tail)) + EXP
    return OTHER + tail / k * one


def _pareto(shape: tuple[int, int]) -> Problem:
    rows = inputs.pareto_rows(shape)
    k = shape[1]
    # An element: an exponential for the sum. One of the tail: the quantile and its logarithm.
    work = EXP + 2 * OTHER + _tail_work(k) + _tail(k) / k * (2 * LOG + 10 * OTHER)
    return Problem(rows, rows.values.size, work, 16.0, checks.psis(rows))


def _mixture(task: str, n: int, components: int, dim: int, full: bool) -> Problem:
    units = n * components
    work = _norm_work(dim, full) + ADD_COMPONENT
    traffic = 8.0 * (dim + 1) / components
    if task == "mixture_log_prob":
        points = inputs.mixture_points(n, components, dim, full)
        return Problem(points, units, work, traffic, checks.mixture_log_prob(points))
    known = inputs.responsibilities(n, components, dim, full)
    # A responsibility takes one more exponential, a term of the ELBO takes q log q. Of the arrays
    # with a number per unit, q is read and the responsibilities are written.
    work += EXP + LOG + 5 * OTHER
    return Problem(known, units, work, traffic + 16.0, checks.mixture_model(known))


def _estimate(given: inputs.Evidence, exact: Any) -> Problem:
    units = int(np.prod(exact.shape)) * given.n_samples
    work = _evidence_work(given.model, given.q)
    return Problem(given, units, work, 0.0, checks.evidence(given, exact))


def _digits(n: int, k: int) -> Problem:
    given = inputs.digits(n, k)
    return _estimate(given, given.model.exact_log_evidence())


def _gradient(n: int, k: int) -> Problem:
    given = inputs.digits(n, k)
    dim, model = given.q.dim, given.model
    # Beside the draw and its log weight, which is summed alone: the slope by the triangle once
    # more, and sums and sums of squares of it and of its product with the draw.
    work = _evidence_work(model, given.q) + -1 * REDUCE + 3 * OTHER
    work += (dim * (dim + 1) / 2 + 2 * dim + 7 * dim) * MULTIPLY_ADD
    return Problem(given, n * k, work, 0.0, checks.gradient(given))


def _em(n: int, components: int, dim: int) -> Problem:
    given = inputs.em_start(n, components, dim)
    # A responsibility, and its share of the moments of the points.
    work = _norm_work(dim, True) + ADD_COMPONENT + EXP + OTHER
    work += (1 + dim + dim * (dim + 1) / 2) * MULTIPLY_ADD
    units = n * components * given.steps
    return Problem(given, units, work, 8.0 * dim / components, checks.mixture_em(given))


def _factors(factors: int) -> Problem:
    given = inputs.varying_pixels(factors)
    n, features = given.x.shape
    # The covariance alone must be computed from the data.
    work = features * (features + 1) / 2 * MULTIPLY_ADD
    return Problem(given, n, work, 8.0 * features, checks.factor_analysis(given))


def _two_mixtures(components: int, dim: int, k: int) -> Problem:
    return _estimate(inputs.two_mixtures(components, dim, k), np.zeros(()))


def _linear(q: str, prior: str, n: int, dim: int, k: int) -> Problem:
    given = inputs.linear(q, prior, n, dim, k)
    return _estimate(given, checks.marginal(given.model))


def _normals(block: int, blocks: int) -> Problem:
    given = inputs.Normals(block, blocks)
    return Problem(given, block * blocks, NORMAL, 0.0, checks.standard_normals)


def _sobol_normals(replicates: int, n: int, dim: int) -> Problem:
    given = inputs.SobolNormals(replicates, n, dim)
    # A word by one exclusive or. The quantile near the middle: a square, two polynomials of degree
    # 7, a quotient, a product.
    work = UNIFORM + Work(multiply_adds=16, others=1, divisions=1)
    return Problem(given, replicates * n * dim, work, 8.0, checks.standard_normals)


def _gaussian_draws(n: int, dim: int) -> Problem:
    given = inputs.gaussian_draws(n, dim)
    # A number: a normal, its share of the triangular product, one write.
    work = NORMAL + (dim + 1) / 2 * MULTIPLY_ADD
    return Problem(given, n * dim, work, 8.0, checks.gaussian_draws(given.gaussian))


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
            {"n": 100_000, "dim": 10, "k": 64}, {"n": 40, "dim": 5, "k": 64}, shapes,
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
            "term", _mixture, {"n": 102_400, "components": 32, "dim": 16},
            {"n": 700, "components": 3, "dim": 5}, {"task": task, "full": full},
        )
        for task in ("mixture_log_prob", "mixture_model")
        for full in (True, False)
    ]  # fmt: skip


def _fits() -> list[Workload]:
    return [
        Workload(
            "ELBO gradient, digits", "gradients", "gradient/diagonal", "draw", _gradient,
            {"n": 1797, "k": 1000}, {"n": 5, "k": 700},
        ),
        Workload(
            "mixture EM, full", "gradients", "mixture_em", "term", _em,
            {"n": 100_000, "components": 8, "dim": 8}, {"n": 700, "components": 3, "dim": 3},
        ),
        Workload(
            "factor analysis, digits", "gradients", "factor_analysis", "image", _factors,
            {"factors": 10}, {"factors": 2},
        ),
    ]  # fmt: skip


def _random() -> list[Workload]:
    return [
        Workload(
            "standard normals", "random", "normals", "normal", _normals,
            {"block": 2**20, "blocks": 96}, {"block": 2**14, "blocks": 2},
        ),
        Workload(
            "Sobol normals", "random", "sobol_normals", "normal", _sobol_normals,
            {"replicates": 16, "n": 2**16, "dim": 16}, {"replicates": 16, "n": 64, "dim": 5},
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
            f"{task.replace('_', ' ')} of {along}", "reductions",
            f"{task}/{along}", "element", _rows, {"shape": full, "axis": axis},
            {"shape": small, "axis": axis}, {"task": task},
        )
        for task in ("logsumexp", "summary", "default_summary")
        for along, full, small, axis in (
            ("rows", _MATRIX, _SMALL_MATRIX, -1),
            ("columns", _MATRIX, _SMALL_MATRIX, 0),
            ("all", (10**7,), (20_000,), -1),
        )
        if (task, along) != ("default_summary", "columns")
    ]  # fmt: skip


def _smoothing() -> list[Workload]:
    return [
        Workload(
            "Pareto smoothing", "smoothing", "psis", "element", _pareto,
            {"shape": (10_000, 4000)}, {"shape": (30, 700)},
        )
    ]  # fmt: skip


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        *_estimates(),
        *_mixtures(),
        *_fits(),
        *_random(),
        *_reductions(),
        *_smoothing(),
    )
}
