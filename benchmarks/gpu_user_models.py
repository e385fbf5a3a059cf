"""A workload on a GPU: the evidence of a model that a user writes, a logistic regression."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import fastelbo as fe

from .gpu_workloads import Prepared, Workload, library
from .user_models import BATCHES, MODELS

# Lane operations of an exponential and a logarithm, about.
_FUNCTIONS = 40
# Draws that PyTorch and JAX hold at once, which take 500 numbers each.
_DRAWS = 20_000


def logistic(draws: int, rows: int, index: int = 0) -> Workload:
    """Log evidence and ELBO of the logistic regression of `user_models`, in float64."""
    each, batch = MODELS["logistic"], BATCHES["logistic"]
    params, dim = tuple(part[:rows] for part in each.params), each.dim
    scale = 0.2
    model = fe.Model(log_joint=each.function, dim=dim, params=params)
    q = fe.Gaussian(np.zeros(dim), scale=scale)
    constant = dim * float(np.log(scale))
    held = min(_DRAWS, draws)

    def with_fastelbo(backend: str) -> tuple[Any, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fe.errors.FastElboWarning)
            est = fe.estimate(
                model, q, draws, rng=0, backend=backend, device=index, iw_sizes=(), pareto_k=False
            )
        return est.elbo, est.log_evidence

    def log_weights(xp: Any, eps: Any, x: Any, y: Any) -> Any:
        return batch(xp, scale * eps, x, y) + 0.5 * (eps * eps).sum(-1) + constant

    def with_torch() -> Prepared:
        torch = library("torch")
        arrays = [torch.as_tensor(part, device="cuda") for part in params]

        @torch.compile(dynamic=False)
        def reduce() -> Any:
            eps = torch.randn(held, dim, dtype=torch.float64, device="cuda")
            x = log_weights(torch, eps, *arrays)
            return torch.stack([x.sum(), torch.logsumexp(x, 0)])

        return lambda: (torch.stack([reduce() for _ in range(0, draws, held)]).cpu().numpy(),)

    def with_jax() -> Prepared:
        jax = library("jax")
        arrays = [jax.numpy.asarray(part) for part in params]

        @jax.jit
        def reduce(key: Any) -> Any:
            eps = jax.random.normal(key, (held, dim), "float64")
            x = log_weights(jax.numpy, eps, *arrays)
            return jax.numpy.stack([x.sum(), jax.scipy.special.logsumexp(x)])

        keys = jax.random.split(jax.random.key(0), -(-draws // held))
        return lambda: (np.asarray(jax.numpy.stack([reduce(key) for key in keys])),)

    return Workload(
        name="a user's logistic regression, float64", unit="draw-row", units=float(draws) * rows,
        operations=float(draws) * rows * (dim + _FUNCTIONS), size=0.0, precision="float64",
        tolerance=1e-9,
        implementations={
            "fastelbo": lambda: lambda: with_fastelbo("cuda"), "torch": with_torch, "jax": with_jax
        },
        on_cpu=lambda: with_fastelbo("cpu"),
    )  # fmt: skip
