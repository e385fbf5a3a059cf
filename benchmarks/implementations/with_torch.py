"""PyTorch in double precision: eagerly, with torch.distributions, and through torch.compile.

Random numbers are not compiled: torch.compile would call the same generators. Work comes in blocks
by which the speed is best.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.distributions import Categorical, Independent, MultivariateNormal, Normal

from ..forms import forms
from ..inputs import Draws, Evidence, Normals, Points, Responsibilities, Rows

# Points and draws that are worked on at once.
_POINTS = 1024
_DRAWS = 2**14

Prepared = Callable[[], Any]


def _tensor(array: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def _concatenate(blocks: list[Any]) -> Any:
    return tuple(torch.cat(parts) for parts in zip(*blocks, strict=True))


# --- reductions ------------------------------------------------------------------------------


def _logsumexp(style: Style, inputs: Rows) -> Prepared:
    a = _tensor(inputs.values)
    function = style.wrap(partial(torch.logsumexp, dim=inputs.axis))
    return lambda: function(a)


def _summarize(a: torch.Tensor, axis: int) -> tuple[torch.Tensor, ...]:
    k = a.shape[axis]
    top = a.amax(dim=axis, keepdim=True)
    w = torch.exp(a - top)
    variance, mean = torch.var_mean(w, dim=axis)
    variance = variance / mean**2
    evidence = torch.log(mean) + top.squeeze(axis)
    return evidence, a.mean(dim=axis), variance, k / (1.0 + variance * ((k - 1) / k))


def _summary(style: Style, inputs: Rows) -> Prepared:
    a = _tensor(inputs.values)
    function = style.wrap(partial(_summarize, axis=inputs.axis))
    return lambda: function(a)


# --- mixtures --------------------------------------------------------------------------------


Joint = Callable[[torch.Tensor], torch.Tensor]


def _distributions(mixture: Any) -> Joint:
    """log weight + log density of each component, by torch.distributions; (points, C)."""
    mean = _tensor(mixture.components.mean)
    if mixture.components.scale is None:
        tril = _tensor(mixture.components.scale_tril)
        components: Any = MultivariateNormal(mean, scale_tril=tril)
    else:
        components = Independent(Normal(mean, _tensor(mixture.components.scale)), 1)
    log_weights = torch.log(_tensor(mixture.weights))
    return lambda z: log_weights + components.log_prob(z[:, None, :])


def _by_hand(mixture: Any) -> Joint:
    """The same from inverted triangles, which the compiler makes more of."""
    inverse, target, const = map(_tensor, forms(mixture))

    def joint(z: torch.Tensor) -> torch.Tensor:
        if inverse.ndim == 2:
            product = z[:, None, :] * inverse
        else:
            product = torch.einsum("nj,cij->nci", z, inverse)
        return const - 0.5 * ((product - target) ** 2).sum(-1)

    return joint


class Style(NamedTuple):
    """Eager or compiled."""

    wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
    joint: Callable[[Any], Joint]


def _mixture_log_prob(style: Style, inputs: Points) -> Prepared:
    joint = style.joint(inputs.mixture)
    log_prob = style.wrap(lambda z: torch.logsumexp(joint(z), 1))
    blocks = _tensor(inputs.points).split(_POINTS)
    return lambda: torch.cat([log_prob(block) for block in blocks])


def _mixture_model(style: Style, inputs: Responsibilities) -> Prepared:
    joint_log_prob = style.joint(inputs.mixture)
    points, q = _tensor(inputs.points).split(_POINTS), _tensor(inputs.q.probs).split(_POINTS)

    @style.wrap
    def block(z: torch.Tensor, q: torch.Tensor) -> Any:
        joint = joint_log_prob(z)
        evidence = torch.logsumexp(joint, 1)
        elbo = (q * (joint - torch.log(q))).sum(1)
        return evidence, elbo, torch.exp(joint - evidence[:, None])

    return lambda: _concatenate([block(*parts) for parts in zip(points, q, strict=True)])


# --- estimates -------------------------------------------------------------------------------


def _evidence(style: Style, inputs: Evidence) -> Prepared:
    """Linear-Gaussian model, standard normal prior, diagonal q."""
    model, q, n_samples = inputs
    loadings, sd = _tensor(model.loadings).T, _tensor(np.sqrt(model.noise_cov))
    data = [
        _tensor(np.broadcast_to(array, (len(model.x), array.shape[-1]))).split(
            max(1, _DRAWS // n_samples)
        )
        for array in (model.x - model.offset, q.mean, q.scale)
    ]

    @style.wrap
    def log_weights(x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        approximation = Independent(Normal(mean, scale, validate_args=False), 1)
        z = approximation.sample((n_samples,))
        log_prior = Independent(Normal(torch.zeros_like(z), 1.0, validate_args=False), 1)
        likelihood = Independent(Normal(z @ loadings, sd, validate_args=False), 1)
        return likelihood.log_prob(x) + log_prior.log_prob(z) - approximation.log_prob(z)

    def run() -> Any:
        torch.manual_seed(0)
        blocks = zip(*data, strict=True)
        return _concatenate([_summarize(log_weights(*block), 0)[:3] for block in blocks])

    return run


def _gradient(inputs: Evidence) -> Prepared:
    """ELBO and gradient by mean and log scale of each data point, by autograd.

    Along the path through the draws alone.
    """
    model, q, n_samples = inputs
    loadings, sd = _tensor(model.loadings).T, _tensor(np.sqrt(model.noise_cov))
    data = [
        _tensor(np.broadcast_to(array, (len(model.x), array.shape[-1]))).split(
            max(1, _DRAWS // n_samples)
        )
        for array in (model.x - model.offset, q.mean, np.log(q.scale))
    ]

    def elbo(x: torch.Tensor, mean: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        scale = log_scale.exp()
        z = Normal(mean, scale, validate_args=False).rsample((n_samples,))
        held = Normal(mean.detach(), scale.detach(), validate_args=False)
        log_prior = Normal(torch.zeros_like(mean), 1.0, validate_args=False).log_prob(z)
        log_likelihood = Normal(z @ loadings, sd, validate_args=False).log_prob(x)
        return (log_likelihood.sum(-1) + log_prior.sum(-1) - held.log_prob(z).sum(-1)).mean(0)

    def block(x: torch.Tensor, *start: torch.Tensor) -> Any:
        free = [each.detach().requires_grad_() for each in start]
        value = elbo(x, *free)
        return value.detach(), *torch.autograd.grad(value.sum(), free)

    def run() -> Any:
        torch.manual_seed(0)
        return _concatenate([block(*each) for each in zip(*data, strict=True)])

    return run


def _evidence_mixture(style: Style, inputs: Evidence) -> Prepared:
    """One target and one q, both mixtures of diagonal Gaussians."""
    target, q = style.joint(inputs.model), style.joint(inputs.q)
    choice = Categorical(_tensor(inputs.q.weights))
    mean, scale = _tensor(inputs.q.components.mean), _tensor(inputs.q.components.scale)
    draws = min(inputs.n_samples, _DRAWS)
    blocks = -(-inputs.n_samples // draws)

    @style.wrap
    def log_weights() -> torch.Tensor:
        c = choice.sample((draws,))
        z = mean[c] + scale[c] * torch.randn(draws, mean.shape[1], dtype=torch.float64)
        return torch.logsumexp(target(z), 1) - torch.logsumexp(q(z), 1)

    def run() -> Any:
        torch.manual_seed(0)
        log_weight = torch.cat([log_weights() for _ in range(blocks)])
        return _summarize(log_weight[: inputs.n_samples], 0)[:3]

    return run


# --- random numbers --------------------------------------------------------------------------


def _normals(inputs: Normals) -> Prepared:
    buffer = torch.empty(inputs.block, dtype=torch.float64)

    def run() -> torch.Tensor:
        torch.manual_seed(0)
        for _ in range(inputs.blocks):
            buffer.normal_()
        return buffer

    return run


def _gaussian_sample(inputs: Draws) -> Prepared:
    mean, tril = _tensor(inputs.gaussian.mean), _tensor(inputs.gaussian.scale_tril)
    gaussian = MultivariateNormal(mean, scale_tril=tril)

    def run() -> torch.Tensor:
        torch.manual_seed(0)
        return gaussian.sample((inputs.n,))

    return run


_TASKS = {
    "logsumexp": _logsumexp,
    "summary": _summary,
    "mixture_log_prob": _mixture_log_prob,
    "mixture_model": _mixture_model,
    "evidence/diagonal": _evidence,
    "evidence/mixture": _evidence_mixture,
}


_EAGER = Style(lambda function: function, _distributions)
_COMPILED = Style(torch.compile, _by_hand)
IMPLEMENTATIONS = {
    "torch": {
        **{task: partial(prepare, _EAGER) for task, prepare in _TASKS.items()},
        "gradient/diagonal": _gradient,
        "normals": _normals,
        "gaussian_sample": _gaussian_sample,
    },
    "torch compiled": {task: partial(prepare, _COMPILED) for task, prepare in _TASKS.items()},
}
