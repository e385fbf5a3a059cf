"""What is timed on a GPU: inputs on the device, fastelbo, and what one would use instead.

PyTorch, CuPy and JAX are timed where they are installed and see the device. Each prepared function
returns the answer when the device is done: small ones as NumPy arrays, large ones where they are,
as to copy them would take longer than to compute them.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastelbo as fe
from fastelbo.demo import digits_approximations, digits_model
from fastelbo.kernels import device, grids
from fastelbo.kernels.cpu import CHUNK

Prepared = Callable[[], tuple[Any, ...]]

# Lane operations of one pair of normals: ten rounds of Philox, a logarithm, sine and cosine.
_PAIR = 140
# Draws that libraries hold at once, for each data point.
_DRAWS = 2**12


@dataclass(frozen=True)
class Workload:
    """Work, and who does it; ``tolerance`` is for answers against fastelbo's own on the CPU."""

    name: str
    unit: str  # of which there are ``units``
    units: float
    operations: float  # least number of lane operations
    size: float  # bytes that must be read
    precision: str
    tolerance: float
    implementations: dict[str, Callable[[], Prepared]]
    on_cpu: Prepared


def _library(name: str) -> Any:
    """A module that sees the device, or ImportError."""
    module = importlib.import_module(name)
    if name == "torch" and not module.cuda.is_available():
        raise ImportError("torch sees no device")
    if name == "jax" and module.default_backend() != "gpu":
        raise ImportError("jax sees no device")
    return module


def available(workload: Workload) -> dict[str, Prepared]:
    """Those that can be timed here, with their inputs on the device."""
    found = {}
    for name, prepare in workload.implementations.items():
        with contextlib.suppress(ImportError):
            found[name] = prepare()
    return found


def to_host(values: Any) -> tuple[Any, ...]:
    """The arrays of fastelbo, CuPy or JAX as those of NumPy."""
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

    As states that stay there, of which the bandwidth of memory is asked, and as an `Estimate` of
    this machine, made of them by NumPy.
    """
    x = np.random.default_rng(0).standard_normal((rows, draws), np.float32)
    there: list[Any] = []

    def on_device() -> Any:
        # One copy, that several libraries read.
        if not there:
            there.append(device.put(x))
        return there[0]

    def with_fastelbo(array: Any) -> tuple[Any, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fe.errors.FastElboWarning)
            est = fe.summarize(array, iw_sizes=(), pareto_k=False)
        return est.log_evidence, est.elbo, draws / est.ess

    def states() -> tuple[Any, ...]:
        moments = grids.Moments(rows, np.zeros(0, np.int64), 0)
        moments.reduce(on_device(), -(-draws // CHUNK))
        device.synchronize()
        return ()

    def with_torch() -> Prepared:
        torch = _library("torch")
        array = torch.as_tensor(on_device(), device="cuda")

        @torch.compile
        def summary(x: Any) -> Any:
            top = x.amax(dim=1)
            w = torch.exp(x - top[:, None])
            mean = w.mean(dim=1)
            return torch.log(mean) + top, x.mean(dim=1), (w * w).mean(dim=1) / mean**2

        return lambda: tuple(part.cpu().numpy() for part in summary(array))

    def with_cupy() -> Prepared:
        cupy = _library("cupy")
        array = cupy.asarray(on_device())
        return lambda: to_host(_summary(cupy, array))

    def with_jax() -> Prepared:
        jax = _library("jax")
        array = jax.numpy.asarray(x)
        summary = jax.jit(lambda x: _summary(jax.numpy, x))
        return lambda: to_host(summary(array))

    work = {
        "unit": "element", "units": float(rows * draws), "operations": 40.0 * rows * draws,
        "size": float(x.nbytes), "precision": "float32", "tolerance": 1e-6,
    }  # fmt: skip
    peers = {"torch": with_torch, "cupy": with_cupy, "jax": with_jax}
    return [
        Workload(
            "summaries of rows, states", implementations={"fastelbo": lambda: states, **peers},
            on_cpu=lambda: (), **work,
        ),
        Workload(
            "summaries of rows",
            implementations={"fastelbo": lambda: lambda: with_fastelbo(on_device()), **peers},
            on_cpu=lambda: with_fastelbo(x), **work,
        ),
    ]  # fmt: skip


# --- estimates ----------------------------------------------------------------------------------


def evidence(points: int, draws: int, precision: str) -> Workload:
    """Log evidence and ELBO of digits, with a diagonal q; D = 10."""
    model = digits_model()
    q = digits_approximations(model)["mean field"]
    model = fe.LinearGaussian(
        model.x[:points], model.loadings, noise_cov=model.noise_cov, offset=model.offset
    )
    mean, scale = q.mean[:points], np.broadcast_to(q.scale, q.mean.shape)[:points]
    q = fe.Gaussian(mean, scale=scale)
    dim = q.dim
    # As a likelihood in whitened data: constant - |b - A z|^2 / 2.
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

    def with_fastelbo(backend: str) -> tuple[Any, ...]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fe.errors.FastElboWarning)
            est = fe.estimate(
                model, q, draws, rng=0, iw_sizes=(), pareto_k=False, backend=backend,
                precision=precision,
            )  # fmt: skip
        return (est.elbo,)

    def blocks(block: Callable[[int], tuple[Any, Any]], xp: Any) -> tuple[Any, ...]:
        total = 0.0
        for first in range(0, draws, _DRAWS):
            total = total + block(min(_DRAWS, draws - first))[1]
        return (total / draws,)

    def with_torch() -> Prepared:
        torch = _library("torch")
        kind = getattr(torch, precision)
        arrays = [torch.as_tensor(part, dtype=kind, device="cuda") for part in (*constants, root)]

        @torch.compile
        def reduce(eps: Any) -> Any:
            x = log_weights(eps, arrays)
            return torch.logsumexp(x, 1), x.sum(1)

        def block(n: int) -> Any:
            return reduce(torch.randn(points, n, dim, dtype=kind, device="cuda"))

        return lambda: tuple(part.cpu().numpy() for part in blocks(block, torch))

    def with_cupy() -> Prepared:
        cupy = _library("cupy")
        arrays = [cupy.asarray(part, dtype=precision) for part in (*constants, root)]

        def block(n: int) -> Any:
            x = log_weights(cupy.random.standard_normal((points, n, dim), dtype=precision), arrays)
            top = x.max(1)
            return cupy.log(cupy.exp(x - top[:, None]).sum(1)) + top, x.sum(1)

        return lambda: to_host(blocks(block, cupy))

    def with_jax() -> Prepared:
        jax = _library("jax")
        arrays = [jax.numpy.asarray(part, dtype=precision) for part in (*constants, root)]

        @jax.jit
        def reduce(key: Any) -> Any:
            x = log_weights(jax.random.normal(key, (points, _DRAWS, dim), precision), arrays)
            return jax.scipy.special.logsumexp(x, 1), x.sum(1)

        def run() -> tuple[Any, ...]:
            keys = jax.random.split(jax.random.key(0), -(-draws // _DRAWS))
            return to_host((sum(reduce(key)[1] for key in keys) / (len(keys) * _DRAWS),))

        return run

    per_draw = (dim + 1) // 2 * _PAIR + dim * (dim + 1) / 2 + 3 * dim
    return Workload(
        f"evidence, digits, {precision}", "draw-coordinate", float(points) * draws * dim,
        per_draw * points * draws, 0.0, precision, 1e-3 if precision == "float32" else 1e-9,
        {
            "fastelbo": lambda: lambda: with_fastelbo("cuda"),
            "torch": with_torch, "cupy": with_cupy, "jax": with_jax,
        },
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
        torch = _library("torch")
        arrays = [torch.as_tensor(part, device="cuda") for part in (z, inverse, target, const)]

        @torch.compile
        def log_prob(part: Any) -> Any:
            return torch.logsumexp(joint(torch, part, *arrays[1:]), 1)

        def run() -> tuple[Any, ...]:
            answer = torch.cat([log_prob(part) for part in arrays[0].split(2**15)])
            torch.cuda.synchronize()
            return (answer,)

        return run

    def with_cupy() -> Prepared:
        cupy = _library("cupy")
        arrays = [cupy.asarray(part) for part in (z, inverse, target, const)]

        def log_prob(part: Any) -> Any:
            x = joint(cupy, part, *arrays[1:])
            top = x.max(1)
            return cupy.log(cupy.exp(x - top[:, None]).sum(1)) + top

        starts = range(0, points, 2**15)

        def run() -> tuple[Any, ...]:
            answer = cupy.concatenate([log_prob(arrays[0][s : s + 2**15]) for s in starts])
            cupy.cuda.runtime.deviceSynchronize()
            return (answer,)

        return run

    def with_fastelbo() -> Prepared:
        there = device.put(z)

        def run() -> tuple[Any, ...]:
            answer = mixture.log_prob(there)
            device.synchronize()
            return (answer,)

        return run

    operations = points * components * (dim * (dim + 1) / 2 + dim + 25.0)
    return Workload(
        "mixture log_prob", "term", float(points) * components, operations, z.nbytes, "float64",
        1e-9, {"fastelbo": with_fastelbo, "torch": with_torch, "cupy": with_cupy},
        lambda: (mixture.log_prob(z),),
    )  # fmt: skip


def workloads(*, small: bool) -> list[Workload]:
    """All of them, at full size or at one for a simulator."""
    if small:
        return [*summaries(2, 90), evidence(2, 40, "float32"), evidence(2, 40, "float64"),
                mixture_log_prob(5, 3, 4)]  # fmt: skip
    return [*summaries(10**5, 10**4), evidence(1797, 10**6, "float32"),
            evidence(1797, 10**5, "float64"), mixture_log_prob(10**6, 64, 32)]  # fmt: skip
