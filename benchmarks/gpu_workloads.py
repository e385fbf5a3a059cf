"""Workloads on a GPU: inputs on the device, fastelbo, and other libraries that do the same work.

PyTorch, CuPy and JAX are timed if they are installed and see the device. A prepared function waits
for the device. It returns small answers as NumPy arrays and leaves large ones on the device: a copy
would take longer than the computation.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastelbo as fe
from fastelbo.demo import digits_approximations, digits_model
from fastelbo.kernels.cuda import device
from fastelbo.kernels.cuda import launch as cuda_launch
from fastelbo.kernels.draws.blocks import CHUNK, Cut

Prepared = Callable[[], tuple[Any, ...]]

# Lane operations of one pair of normals: ten rounds of Philox, a logarithm, sine and cosine.
_PAIR = 140
# Block sizes of the other libraries: draws per data point, and points of a mixture. They divide the
# full sizes, so that all blocks have the one shape for which code is compiled.
_DRAWS = 4000
_POINTS = 31250


@dataclass(frozen=True)
class Workload:
    """A row of the table, with its implementations.

    ``tolerance`` bounds the difference from fastelbo's answer on the CPU. ``precision`` names the
    rate of `gpu_machine.Rates` that bounds the operations.
    """

    name: str
    unit: str  # of which there are ``units``
    units: float
    operations: float  # least number of lane operations
    size: float  # bytes that must be read
    precision: str
    tolerance: float
    implementations: dict[str, Callable[[], Prepared]]
    on_cpu: Prepared | None = None  # gives the answer to compare with, if there is one


def library(name: str) -> Any:
    """Import a library; raise ImportError if it does not see the device."""
    # JAX would reserve most of the memory, which the other libraries need too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    module = importlib.import_module(name)
    if name == "torch" and not module.cuda.is_available():
        raise ImportError("torch sees no device")
    if name == "jax":
        if module.default_backend() != "gpu":
            raise ImportError("jax sees no device")
        module.config.update("jax_enable_x64", True)
    return module


def release() -> None:
    """Free the device memory that the libraries cache."""
    gc.collect()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.empty_cache()
    if "cupy" in sys.modules:
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()


def to_host(values: Any) -> tuple[Any, ...]:
    """Copy arrays of fastelbo, CuPy or JAX to NumPy."""
    found = []
    for value in values:
        if hasattr(value, "copy_to_host"):
            value = device.fetch(value)
        found.append(np.asarray(value.get() if hasattr(value, "get") else value))
    return tuple(found)


# --- summaries ----------------------------------------------------------------------------------


def _summary(xp: Any, x: Any) -> tuple[Any, ...]:
    top = xp.max(x, axis=1)
    w = xp.exp(x - top[:, None])
    mean = xp.mean(w, axis=1)
    return xp.log(mean) + top, xp.mean(x, axis=1), xp.mean(w * w, axis=1) / mean**2


def summaries(rows: int, draws: int) -> list[Workload]:
    """Log evidence, ELBO and ESS of the rows of a float32 matrix on the device.

    Three workloads: states that stay on the device, for which the read bandwidth is the target; an
    `Estimate` on the host; and an `Estimate` with bounds and k-hats.
    """
    x = np.random.default_rng(0).standard_normal((rows, draws), np.float32)
    there: list[Any] = []

    def on_device() -> Any:
        # One copy, shared by the libraries.
        if not there:
            there.append(device.put(x))
        return there[0]

    def with_fastelbo(array: Any, **options: Any) -> tuple[Any, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fe.errors.FastElboWarning)
            est = fe.summarize(array, **options)
        return est.log_evidence, est.elbo, draws / est.ess

    plain = {"iw_sizes": (), "pareto_k": False}

    def states() -> Prepared:
        cut, array = Cut(1, draws, CHUNK), on_device()
        states = cuda_launch.DeviceStates(rows, np.zeros(0, np.int64), 0, cut)

        def run() -> tuple[Any, ...]:
            states.reset()
            states.reduce(array, cut.steps)
            device.synchronize()
            return ()

        return run

    def with_torch() -> Prepared:
        torch = library("torch")
        array = torch.as_tensor(on_device(), device="cuda")

        @torch.compile(dynamic=False)
        def summary(x: Any) -> Any:
            top = x.amax(dim=1)
            w = torch.exp(x - top[:, None])
            mean = w.mean(dim=1)
            return torch.log(mean) + top, x.mean(dim=1), (w * w).mean(dim=1) / mean**2

        return lambda: tuple(part.cpu().numpy() for part in summary(array))

    def with_cupy() -> Prepared:
        cupy = library("cupy")
        array = cupy.asarray(on_device())
        return lambda: to_host(_summary(cupy, array))

    def with_jax() -> Prepared:
        jax = library("jax")
        array = jax.numpy.asarray(x)
        summary = jax.jit(lambda x: _summary(jax.numpy, x))
        return lambda: to_host(summary(array))

    work = {
        "unit": "element", "units": float(rows * draws), "operations": 15.0 * rows * draws,
        "size": float(x.nbytes), "precision": "float32", "tolerance": 1e-6,
    }  # fmt: skip
    peers = {"torch": with_torch, "cupy": with_cupy, "jax": with_jax}
    return [
        Workload(
            "summaries of rows, states", implementations={"fastelbo": states, **peers}, **work,
        ),
        Workload(
            "summaries of rows",
            implementations={
                "fastelbo": lambda: lambda: with_fastelbo(on_device(), **plain), **peers,
            },
            on_cpu=lambda: with_fastelbo(x, **plain), **work,
        ),
        Workload(
            "summaries of rows, bounds and k-hats",
            implementations={"fastelbo": lambda: lambda: with_fastelbo(on_device())},
            on_cpu=lambda: with_fastelbo(x), **work,
        ),
    ]  # fmt: skip


# --- estimates ----------------------------------------------------------------------------------


def evidence(
    points: int, draws: int, precision: str, index: int = 0, *, plain: bool = True
) -> Workload:
    """Log evidence and ELBO of the digits with a diagonal q, D = 10.

    Without ``plain``, also bounds and k-hats, which other libraries do not have.
    """
    model = digits_model()
    q = digits_approximations(model)["mean field"]
    model = fe.LinearGaussian(
        model.x[:points], model.loadings, noise_cov=model.noise_cov, offset=model.offset
    )
    mean, scale = q.mean[:points], np.broadcast_to(q.scale, q.mean.shape)[:points]
    q = fe.Gaussian(mean, scale=scale)
    dim = q.dim
    # Log likelihood of whitened data: constant - |b - A z|^2 / 2.
    whiten = 1.0 / np.sqrt(np.broadcast_to(np.asarray(model.noise_cov), model.x.shape[-1:]))
    a = whiten[:, None] * model.loadings
    root = np.linalg.qr(a)[1]
    b = whiten * (model.x - model.offset)
    projected = np.linalg.solve(root.T, a.T @ b.T).T
    residual = (b**2).sum(-1) - (projected**2).sum(-1)
    log_det = np.log(whiten).sum() - 0.5 * len(whiten) * np.log(2.0 * np.pi)
    constants = (mean, scale, projected, log_det - 0.5 * residual + np.log(scale).sum(-1))

    def log_weights(eps: Any, arrays: Any) -> Any:
        mean, scale, projected, constant = arrays[:4]
        z = mean[:, None] + scale[:, None] * eps
        gap = projected[:, None] - z @ arrays[4].T
        return constant[:, None] - 0.5 * (gap**2 + z**2 - eps**2).sum(-1)

    options: dict[str, Any] = {"iw_sizes": (), "pareto_k": False} if plain else {}

    def with_fastelbo(backend: str) -> tuple[Any, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fe.errors.FastElboWarning)
            est = fe.estimate(
                model,
                q,
                draws,
                rng=0,
                backend=backend,
                device=index,
                precision=precision,
                **options,
            )
        return est.elbo, est.log_evidence

    def blocks(block: Callable[[int], tuple[Any, Any]], xp: Any) -> tuple[Any, ...]:
        """ELBO and log evidence from each block's sum of log weights and log sum of weights."""
        total, evidence = block(0)
        for first in range(_DRAWS, draws, _DRAWS):
            more, other = block(first)
            total, evidence = total + more, xp.logaddexp(evidence, other)
        return total / draws, evidence - float(np.log(draws))

    held = min(_DRAWS, draws)

    def with_torch() -> Prepared:
        torch = library("torch")
        kind = getattr(torch, precision)
        arrays = [torch.as_tensor(part, dtype=kind, device="cuda") for part in (*constants, root)]

        @torch.compile(dynamic=False)
        def reduce() -> Any:
            eps = torch.randn(points, held, dim, dtype=kind, device="cuda")
            x = log_weights(eps, arrays)
            return x.sum(1), torch.logsumexp(x, 1)

        def block(first: int) -> Any:
            return reduce()

        return lambda: tuple(part.cpu().numpy() for part in blocks(block, torch))

    def with_cupy() -> Prepared:
        cupy = library("cupy")
        arrays = [cupy.asarray(part, dtype=precision) for part in (*constants, root)]

        def block(first: int) -> Any:
            eps = cupy.random.standard_normal((points, held, dim), dtype=precision)
            x = log_weights(eps, arrays)
            top = x.max(1)
            return x.sum(1), cupy.log(cupy.exp(x - top[:, None]).sum(1)) + top

        return lambda: to_host(blocks(block, cupy))

    def with_jax() -> Prepared:
        jax = library("jax")
        arrays = [jax.numpy.asarray(part, dtype=precision) for part in (*constants, root)]

        @jax.jit
        def reduce(key: Any) -> Any:
            x = log_weights(jax.random.normal(key, (points, held, dim), precision), arrays)
            return x.sum(1), jax.scipy.special.logsumexp(x, 1)

        keys = jax.random.split(jax.random.key(0), -(-draws // held))
        return lambda: to_host(blocks(lambda first: reduce(keys[first // held]), jax.numpy))

    per_draw = (dim + 1) // 2 * _PAIR + dim * (dim + 1) / 2 + 3 * dim
    peers = {"torch": with_torch, "cupy": with_cupy, "jax": with_jax}
    name = f"evidence, digits, {precision}" + ("" if plain else ", bounds and k-hats")
    return Workload(
        name, "draw-coordinate", float(points) * draws * dim,
        per_draw * points * draws, 0.0, precision, 1e-3 if precision == "float32" else 1e-9,
        {"fastelbo": lambda: lambda: with_fastelbo("cuda"), **(peers if plain else {})},
        lambda: with_fastelbo("cpu"),
    )  # fmt: skip


# --- mixtures -----------------------------------------------------------------------------------


def mixture_log_prob(points: int, components: int, dim: int) -> Workload:
    """Log density of a mixture of full Gaussians, in float64."""
    rng = np.random.default_rng(0)
    tril = np.tril(rng.normal(size=(components, dim, dim)), -1) / np.sqrt(dim) + np.eye(dim)
    mean, z = rng.normal(size=(components, dim)), rng.normal(size=(points, dim))
    weights = np.full(components, 1.0 / components)
    mixture = fe.Mixture(weights, fe.Gaussian(mean, scale_tril=tril))
    inverse = np.linalg.inv(tril)
    const = np.log(weights) - 0.5 * dim * np.log(2.0 * np.pi)
    const = const - np.log(np.diagonal(tril, axis1=1, axis2=2)).sum(-1)
    target = (inverse @ mean[..., None])[..., 0]

    def joint(xp: Any, z: Any, inverse: Any, target: Any, const: Any) -> Any:
        return const - 0.5 * ((xp.einsum("nj,cij->nci", z, inverse) - target) ** 2).sum(-1)

    def with_torch() -> Prepared:
        torch = library("torch")
        arrays = [torch.as_tensor(part, device="cuda") for part in (z, inverse, target, const)]

        @torch.compile(dynamic=False)
        def log_prob(part: Any) -> Any:
            return torch.logsumexp(joint(torch, part, *arrays[1:]), 1)

        def run() -> tuple[Any, ...]:
            answer = torch.cat([log_prob(part) for part in arrays[0].split(_POINTS)])
            torch.cuda.synchronize()
            return (answer,)

        return run

    def with_cupy() -> Prepared:
        cupy = library("cupy")
        arrays = [cupy.asarray(part) for part in (z, inverse, target, const)]

        def log_prob(part: Any) -> Any:
            x = joint(cupy, part, *arrays[1:])
            top = x.max(1)
            return cupy.log(cupy.exp(x - top[:, None]).sum(1)) + top

        starts = range(0, points, _POINTS)

        def run() -> tuple[Any, ...]:
            answer = cupy.concatenate([log_prob(arrays[0][s : s + _POINTS]) for s in starts])
            cupy.cuda.runtime.deviceSynchronize()
            return (answer,)

        return run

    def with_fastelbo() -> Prepared:
        there = device.put(z)

        # `log_prob` waits for the device.
        return lambda: (mixture.log_prob(there),)

    return Workload(
        name="mixture log_prob",
        unit="term",
        units=float(points) * components,
        operations=points * components * (dim * (dim + 1) / 2 + dim + 25.0),
        size=z.nbytes,
        precision="float64 of warps",
        tolerance=1e-9,
        implementations={"fastelbo": with_fastelbo, "torch": with_torch, "cupy": with_cupy},
        on_cpu=lambda: (mixture.log_prob(z),),
    )


def workloads(size: str, index: int = 0) -> list[Workload]:
    """All workloads, for the device of that index.

    The size is "full", "check" (for the comparison with the CPU) or "small" (for the simulator).
    """
    rows, draws, evidences, mixture = {
        "full": (10**5, 10**4, (1797, 10**6), (10**6, 64, 32)),
        "check": (3, 2 * CHUNK + 77, (3, 2 * CHUNK + 77), (1001, 5, 32)),
        "small": (2, 90, (2, 40), (5, 3, 4)),
    }[size]
    points, most = evidences
    fewer = max(most // 10, min(most, 40))
    return [
        *summaries(rows, draws),
        evidence(points, most, "float32", index),
        evidence(points, fewer, "float64", index),
        evidence(points, fewer, "float32", index, plain=False),
        mixture_log_prob(*mixture),
    ]
