"""fastelbo, by its public calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fastelbo as fe
from fastelbo.errors import FastElboWarning

from ..inputs import (
    Draws,
    Evidence,
    Images,
    Normals,
    Points,
    Responsibilities,
    Rows,
    SobolNormals,
    Start,
)


def _logsumexp(inputs: Rows) -> Callable[[], Any]:
    return lambda: fe.logsumexp(inputs.values, axis=inputs.axis)


def _summary(inputs: Rows) -> Callable[[], Any]:
    def run() -> Any:
        est = fe.summarize(inputs.values, axis=inputs.axis, iw_sizes=(), pareto_k=False)
        return est.log_evidence, est.elbo, est.relative_variance, est.ess

    return run


def _default_summary(inputs: Rows) -> Callable[[], Any]:
    """With bounds of groups of 10 and 100, and k-hats, which no other implementation has."""

    def run() -> Any:
        with warnings.catch_warnings():
            # Some tails are heavy.
            warnings.simplefilter("ignore", FastElboWarning)
            est = fe.summarize(inputs.values, axis=inputs.axis)
        return est.log_evidence, est.elbo, est.relative_variance, est.ess

    return run


def _psis(inputs: Rows) -> Callable[[], Any]:
    return lambda: fe.psis(inputs.values, axis=inputs.axis)[:4]


def _mixture_log_prob(inputs: Points) -> Callable[[], Any]:
    return lambda: inputs.mixture.log_prob(inputs.points)


def _mixture_model(inputs: Responsibilities) -> Callable[[], Any]:
    def run() -> Any:
        model = fe.MixtureModel(inputs.points, inputs.mixture)
        est = fe.estimate(model, inputs.q, responsibilities=True)
        return est.log_evidence, est.elbo, est.responsibilities

    return run


def evidence(inputs: Evidence, n_threads: int | None = None) -> Callable[[], Any]:
    """Without importance-weighted groups and k-hat, which no other implementation follows."""

    def run() -> Any:
        est = fe.estimate(
            inputs.model, inputs.q, inputs.n_samples, rng=0, iw_sizes=(), pareto_k=False,
            n_threads=n_threads,
        )  # fmt: skip
        return est.log_evidence, est.elbo, est.relative_variance

    return run


def _gradient(inputs: Evidence) -> Callable[[], Any]:
    """With standard errors, which no other implementation gives."""

    def run() -> Any:
        found = fe.elbo_gradient(
            inputs.model, inputs.q, inputs.n_samples, wrt="log_scale", per_point=True, rng=0
        )
        return found.value.value, found.mean.value, found.log_scale.value

    return run


def _mixture_em(inputs: Start) -> Callable[[], Any]:
    def run() -> Any:
        fit = fe.fit_mixture(
            inputs.points, inputs.mixture.weights.size, init=inputs.mixture,
            max_iter=inputs.steps, tol=0.0,
        )  # fmt: skip
        return fit.history.log_likelihood[-1]

    return run


def _factor_analysis(inputs: Images) -> Callable[[], Any]:
    start = np.eye(inputs.x.shape[1], inputs.factors)
    model = fe.LinearGaussian(inputs.x, start, noise_cov=np.ones(inputs.x.shape[1]))

    def run() -> Any:
        fitted = fe.fit(model, wrt="model").model
        return fitted.exact_log_evidence().mean()

    return run


# Coordinates of a draw, when the draws are there for their standard normals alone.
_DIM = 16


def _normals(inputs: Normals) -> Callable[[], Any]:
    standard = fe.Gaussian(np.zeros(_DIM), scale=1.0)

    def run() -> Any:
        rng = np.random.default_rng(0)
        for _ in range(inputs.blocks):
            draws = standard.sample(inputs.block // _DIM, rng)
        return draws

    return run


def _sobol_normals(inputs: SobolNormals) -> Callable[[], Any]:
    standard, draws = fe.Gaussian(np.zeros(inputs.dim), scale=1.0), inputs.replicates * inputs.n
    return lambda: standard.sample(
        draws, rng=0, sampler="sobol", replicates=inputs.replicates, transform="inverse"
    )


def _gaussian_sample(inputs: Draws) -> Callable[[], Any]:
    return lambda: inputs.gaussian.sample(inputs.n, rng=0)


IMPLEMENTATIONS = {
    "fastelbo": {
        "logsumexp": _logsumexp,
        "summary": _summary,
        "default_summary": _default_summary,
        "psis": _psis,
        "mixture_log_prob": _mixture_log_prob,
        "mixture_model": _mixture_model,
        "gradient": _gradient,
        "mixture_em": _mixture_em,
        "factor_analysis": _factor_analysis,
        "evidence": evidence,
        "normals": _normals,
        "sobol_normals": _sobol_normals,
        "gaussian_sample": _gaussian_sample,
    }
}
