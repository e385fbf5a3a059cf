"""NumPyro: its distributions, jitted, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from ..inputs import Evidence, Points
from .with_jax import BLOCK_DRAWS, summarize, timed


def _mixture(mixture: Any) -> Any:
    mean = jnp.asarray(mixture.components.mean)
    if mixture.components.scale is None:
        parts: Any = dist.MultivariateNormal(mean, scale_tril=mixture.components.scale_tril)
    else:
        parts = dist.Normal(mean, mixture.components.scale).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(jnp.asarray(mixture.weights)), parts)


def _mixture_log_prob(inputs: Points) -> Callable[[], Any]:
    mixture = _mixture(inputs.mixture)

    def run(points: Any) -> Any:
        return jax.lax.map(mixture.log_prob, points, batch_size=4096)

    return timed(run, jnp.asarray(inputs.points))


def _evidence_mixture(inputs: Evidence) -> Callable[[], Any]:
    """One target and one q, both mixtures."""
    target, q = _mixture(inputs.model), _mixture(inputs.q)
    draws = min(inputs.n_samples, BLOCK_DRAWS)

    def run(key: Any) -> Any:
        def block(key: Any) -> Any:
            z = q.sample(key, (draws,))
            return target.log_prob(z) - q.log_prob(z)

        drawn = jax.lax.map(block, jax.random.split(key, -(-inputs.n_samples // draws)))
        return summarize(drawn.reshape(-1)[: inputs.n_samples], 0)[:3]

    return timed(run, jax.random.key(0))


IMPLEMENTATIONS = {
    "numpyro": {"mixture_log_prob": _mixture_log_prob, "evidence/mixture": _evidence_mixture}
}
