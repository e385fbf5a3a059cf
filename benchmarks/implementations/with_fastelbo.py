"""fastelbo, by its public calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastelbo as fe

from ..inputs import Draws, Evidence, Normals, Points, Responsibilities, Rows, SobolNormals


def _logsumexp(inputs: Rows) -> Callable[[], Any]:
    return lambda: fe.logsumexp(inputs.values, axis=inputs.axis)


def _summary(inputs: Rows) -> Callable[[], Any]:
    def run() -> Any:
        est = fe.summarize(inputs.values, axis=inputs.axis, iw_sizes=(), pareto_k=False)
        return est.log_evidence, est.elbo, est.relative_variance, est.ess

    return run


def _psis(inputs: Rows) -> Callable[[], Any]:
    return lambda: fe.psis(inputs.values, axis=inputs.axis)[:4]


def _mixture_log_prob(inputs: Points) -> Callable[[], Any]:
    return lambda: inputs.mixture.log_prob(inputs.points)


def _mixture_model(inputs: Responsibilities) -> Callable[[], Any]:
    def run() -> Any:
        model = fe.MixtureModel(inputs.points, inputs.mixture)
        est = fe.estimate(model, inputs.q)
        return est.log_evidence, est.elbo, model.exact_posterior().probs

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
        "psis": _psis,
        "mixture_log_prob": _mixture_log_prob,
        "mixture_model": _mixture_model,
        "evidence": evidence,
        "normals": _normals,
        "sobol_normals": _sobol_normals,
        "gaussian_sample": _gaussian_sample,
    }
}
