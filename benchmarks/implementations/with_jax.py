"""JAX: one jitted function a task, in double and in single precision.

Densities of mixtures are written by hand, with inverted triangles: `jax.scipy.stats` would factor
and solve each time. Blocks, by which the speed is best, come from lax.map.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

from ..forms import forms
from ..inputs import Draws, Evidence, Normals, Points, Responsibilities, Rows

jax.config.update("jax_enable_x64", True)

# Points and draws that are worked on at once.
_POINTS = 512
BLOCK_DRAWS = 2**16


def timed(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """The jitted function on its arguments, with the wait for its answer."""
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*args))


def _logsumexp(dtype: Any, inputs: Rows) -> Callable[[], Any]:
    return timed(partial(logsumexp, axis=inputs.axis), jnp.asarray(inputs.values, dtype))


def summarize(a: Any, axis: int) -> Any:
    k = a.shape[axis]
    log_sum = logsumexp(a, axis=axis, keepdims=True)
    w = jnp.exp(a - (log_sum - jnp.log(k)))
    second = ((w - 1.0) ** 2).sum(axis=axis)
    evidence = log_sum.squeeze(axis) - jnp.log(k)
    return evidence, a.mean(axis=axis), second / (k - 1), k / (1.0 + second / k)


def _summary(dtype: Any, inputs: Rows) -> Callable[[], Any]:
    return timed(partial(summarize, axis=inputs.axis), jnp.asarray(inputs.values, dtype))


# --- mixtures --------------------------------------------------------------------------------


def _joint(parameters: Any, z: Any) -> Any:
    """log weight + log density of each component at one point."""
    inverse, target, const = parameters
    product = inverse * z if inverse.ndim == 2 else jnp.einsum("cij,j->ci", inverse, z)
    return const - 0.5 * ((product - target) ** 2).sum(axis=-1)


def _parameters(dtype: Any, mixture: Any) -> tuple[Any, ...]:
    return tuple(jnp.asarray(array, dtype) for array in forms(mixture))


def _mixture_log_prob(dtype: Any, inputs: Points) -> Callable[[], Any]:
    def run(parameters: Any, points: Any) -> Any:
        return jax.lax.map(lambda z: logsumexp(_joint(parameters, z)), points, batch_size=_POINTS)

    return timed(run, _parameters(dtype, inputs.mixture), jnp.asarray(inputs.points, dtype))


def _mixture_model(dtype: Any, inputs: Responsibilities) -> Callable[[], Any]:
    def run(parameters: Any, points: Any, q: Any) -> Any:
        def one(point: tuple[Any, Any]) -> Any:
            z, probs = point
            joint = _joint(parameters, z)
            evidence = logsumexp(joint)
            elbo = (probs * (joint - jnp.log(probs))).sum()
            return evidence, elbo, jnp.exp(joint - evidence)

        return jax.lax.map(one, (points, q), batch_size=_POINTS)

    return timed(
        run,
        _parameters(dtype, inputs.mixture),
        jnp.asarray(inputs.points, dtype),
        jnp.asarray(inputs.q.probs, dtype),
    )


# --- estimates -------------------------------------------------------------------------------


def _evidence(dtype: Any, inputs: Evidence) -> Callable[[], Any]:
    """Linear-Gaussian model, standard normal prior, diagonal q."""
    model, q, n_samples = inputs

    def log_weights(key: Any, x: Any, mean: Any, scale: Any, loadings: Any, sd: Any) -> Any:
        z = mean + scale * jax.random.normal(key, (n_samples, mean.size), dtype)
        log_q = norm.logpdf(z, mean, scale).sum(axis=-1)
        log_prior = norm.logpdf(z).sum(axis=-1)
        return norm.logpdf(x, z @ loadings.T, sd).sum(axis=-1) + log_prior - log_q

    def run(key: Any, x: Any, mean: Any, scale: Any, loadings: Any, sd: Any) -> Any:
        def point(data: Any) -> Any:
            return summarize(log_weights(*data, loadings, sd), 0)[:3]

        keys = jax.random.split(key, len(x))
        block = max(1, BLOCK_DRAWS // n_samples)
        return jax.lax.map(point, (keys, x, mean, scale), batch_size=block)

    arrays = (
        model.x - model.offset, q.mean, np.broadcast_to(q.scale, q.mean.shape), model.loadings,
        np.sqrt(model.noise_cov),
    )  # fmt: skip
    return timed(run, jax.random.key(0), *(jnp.asarray(array, dtype) for array in arrays))


def _gradient(inputs: Evidence) -> Callable[[], Any]:
    """ELBO and gradient by mean and log scale of each data point, as a user writes it.

    `jax.value_and_grad`, of all draws of all data points at once.
    """
    model, q, n_samples = inputs

    def elbo(free: Any, key: Any, x: Any, loadings: Any, offset: Any, sd: Any) -> Any:
        mean, log_scale = free
        scale = jnp.exp(log_scale)
        z = mean + scale * jax.random.normal(key, (n_samples, mean.size))
        # The path through the draws alone.
        log_q = norm.logpdf(z, *jax.lax.stop_gradient((mean, scale))).sum(axis=-1)
        log_likelihood = norm.logpdf(x, z @ loadings.T + offset, sd).sum(axis=-1)
        return (log_likelihood + norm.logpdf(z).sum(axis=-1) - log_q).mean()

    def run(key: Any, x: Any, mean: Any, log_scale: Any, *shared: Any) -> Any:
        one = jax.vmap(jax.value_and_grad(elbo), ((0, 0), 0, 0, None, None, None))
        value, slopes = one((mean, log_scale), jax.random.split(key, len(x)), x, *shared)
        return value, *slopes

    log_scale = np.log(np.broadcast_to(q.scale, q.mean.shape))
    arrays = (model.x, q.mean, log_scale, model.loadings, model.offset, np.sqrt(model.noise_cov))
    return timed(run, jax.random.key(0), *map(jnp.asarray, arrays))


def _gradient_in_blocks(reduced: bool, inputs: Evidence) -> Callable[[], Any]:
    """The same, of a block of data points after the other and with the noise whitened.

    If ``reduced``, the density is that of the least squares solution: the loadings are factored
    once, which is not timed.
    """
    model, q, n_samples = inputs
    whitened = model.loadings / np.sqrt(model.noise_cov)[:, None]
    x = (model.x - model.offset) / np.sqrt(model.noise_cov)
    const = -0.5 * np.log(2.0 * np.pi * model.noise_cov).sum() * np.ones(len(x))
    if reduced:
        basis, whitened = np.linalg.qr(whitened)
        rest = x - x @ basis @ basis.T
        x, const = x @ basis, const - 0.5 * (rest**2).sum(axis=1)

    def elbo(free: Any, key: Any, x: Any, const: Any, loadings: Any) -> Any:
        mean, log_scale = free
        scale = jnp.exp(log_scale)
        z = mean + scale * jax.random.normal(key, (n_samples, mean.size))
        log_q = norm.logpdf(z, *jax.lax.stop_gradient((mean, scale))).sum(axis=-1)
        log_likelihood = const - 0.5 * ((x - z @ loadings.T) ** 2).sum(axis=-1)
        return (log_likelihood + norm.logpdf(z).sum(axis=-1) - log_q).mean()

    def run(key: Any, x: Any, const: Any, mean: Any, log_scale: Any, loadings: Any) -> Any:
        def point(data: Any) -> Any:
            key, x, const, *free = data
            value, slopes = jax.value_and_grad(elbo)(tuple(free), key, x, const, loadings)
            return value, *slopes

        keys = jax.random.split(key, len(x))
        block = max(1, BLOCK_DRAWS // n_samples)
        return jax.lax.map(point, (keys, x, const, mean, log_scale), batch_size=block)

    log_scale = np.log(np.broadcast_to(q.scale, q.mean.shape))
    arrays = (jnp.asarray(each) for each in (x, const, q.mean, log_scale, whitened))
    return timed(run, jax.random.key(0), *arrays)


def _evidence_mixture(dtype: Any, inputs: Evidence) -> Callable[[], Any]:
    """One target and one q, both mixtures with diagonal components."""
    target, q, n_samples = inputs
    draws = min(n_samples, BLOCK_DRAWS)

    density = jax.vmap(lambda parameters, z: logsumexp(_joint(parameters, z)), (None, 0))

    def run(key: Any, log_weight: Any, mean: Any, scale: Any, q: Any, target: Any) -> Any:
        def block(key: Any) -> Any:
            which, noise = jax.random.split(key)
            c = jax.random.categorical(which, log_weight, shape=(draws,))
            z = mean[c] + scale[c] * jax.random.normal(noise, (draws, mean.shape[1]), dtype)
            return density(target, z) - density(q, z)

        drawn = jax.lax.map(block, jax.random.split(key, -(-n_samples // draws)))
        return summarize(drawn.reshape(-1)[:n_samples], 0)[:3]

    parts = (np.log(q.weights), q.components.mean, q.components.scale)
    return timed(
        run,
        jax.random.key(0),
        *(jnp.asarray(array, dtype) for array in parts),
        _parameters(dtype, q),
        _parameters(dtype, target),
    )


# --- random numbers --------------------------------------------------------------------------


def _normals(dtype: Any, inputs: Normals) -> Callable[[], Any]:
    block = jax.jit(lambda key: jax.random.normal(key, (inputs.block,), dtype))
    keys = jax.random.split(jax.random.key(0), inputs.blocks)

    def run() -> Any:
        for key in keys:
            normals = block(key).block_until_ready()
        return normals

    return run


def _gaussian_sample(dtype: Any, inputs: Draws) -> Callable[[], Any]:
    mean = jnp.asarray(inputs.gaussian.mean, dtype)
    tril = jnp.asarray(inputs.gaussian.scale_tril, dtype)

    def run(key: Any, mean: Any, tril: Any) -> Any:
        return mean + jax.random.normal(key, (inputs.n, mean.size), dtype) @ tril.T

    return timed(run, jax.random.key(0), mean, tril)


_TASKS = {
    "logsumexp": _logsumexp,
    "summary": _summary,
    "default_summary": _summary,
    "mixture_log_prob": _mixture_log_prob,
    "mixture_model": _mixture_model,
    "evidence/diagonal": _evidence,
    "evidence/mixture": _evidence_mixture,
    "normals": _normals,
    "gaussian_sample": _gaussian_sample,
}
IMPLEMENTATIONS = {
    "jax": {
        **{task: partial(prepare, jnp.float64) for task, prepare in _TASKS.items()},
        "gradient/diagonal": _gradient,
    },
    "jax in blocks": {"gradient/diagonal": partial(_gradient_in_blocks, False)},
    "jax reduced": {"gradient/diagonal": partial(_gradient_in_blocks, True)},
    "jax float32": {task: partial(prepare, jnp.float32) for task, prepare in _TASKS.items()},
}
