"""C, compiled when first asked for: the plain loops, and the blocks of fastelbo (``native/``).

Parameters come as fastelbo hands them to its own kernels: scales inverted, the likelihood reduced
to a triangle of the size of the latent vector, constants worked out.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastelbo as fe

from ..forms import LOG_2PI, forms
from ..inputs import Evidence, Floats, Normals, Points, Rows

COMPILER = "cc"
# The instruction set: this processor's, or that of the benchmarks' option ``--target``.
TARGET = os.environ.get("C_TARGET", "native")
FLAGS = ("-O3", f"-march={TARGET}", "-ffast-math", "-fopenmp", "-fPIC")
_SOURCES = Path(__file__).parent.parent / "native"

# Fields of a result, in the order of moments.h.
FIELDS = (
    "log_evidence", "relative_variance", "elbo", "elbo_variance", "expected_log_likelihood",
    "expected_log_likelihood_variance", "kl", "kl_variance", "co_moment",
)  # fmt: skip


class CompilerError(Exception):
    """The compiler is there, but not for these flags."""


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where the libraries are, until the process ends."""
    return tempfile.TemporaryDirectory()


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """Compile ``native/<name>.c`` and load it."""
    source, target = _SOURCES / f"{name}.c", Path(_folder().name) / name
    # Linked without -ffast-math, which would make zeros of all subnormal numbers of this process.
    for command in (
        [COMPILER, *FLAGS, "-c", str(source), "-o", f"{target}.o"],
        [COMPILER, "-shared", "-fopenmp", f"{target}.o", "-o", f"{target}.so", "-lm"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CompilerError(f"{' '.join(command)}: {done.stderr}")
    return ctypes.CDLL(f"{target}.so")


def _argument(value: Any) -> Any:
    """An int as int64, a float as double, an array as a pointer to it."""
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        assert value.dtype.itemsize == 8
        return value.ctypes.data_as(ctypes.c_void_p)
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(value)


def call(kernels: str, function: str, *args: Any) -> Callable[[], None]:
    """The function of the kernels on these arguments, which live as long as it does."""
    compiled = getattr(library(kernels), function)
    compiled.restype = None
    return lambda: compiled(*map(_argument, args))


def _array(values: Any) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float64)


def _returning(kernel: Callable[[], None], answer: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        kernel()
        return answer()

    return run


# --- reductions ------------------------------------------------------------------------------


def _logsumexp(kernels: str, inputs: Rows) -> Callable[[], Any]:
    out = np.empty(len(inputs.values))
    kernel = call(kernels, "logsumexp_rows", *inputs.values.shape, inputs.values, out)
    return _returning(kernel, lambda: out)


def _summary(kernels: str, inputs: Rows) -> Callable[[], Any]:
    rows, k = inputs.values.shape
    out = np.empty((rows, len(FIELDS)))

    def answer() -> Any:
        evidence, variance, elbo = out[:, :3].T
        return evidence, elbo, variance, k / (1.0 + variance * ((k - 1) / k))

    return _returning(call(kernels, "summarize_rows", rows, k, inputs.values, out), answer)


# --- mixtures --------------------------------------------------------------------------------


def _forms(mixture: fe.Mixture) -> tuple[Floats, ...]:
    return tuple(map(_array, forms(mixture)))


def _mixture_log_prob(kernels: str, inputs: Points) -> Callable[[], Any]:
    mixture, points = inputs
    full = int(mixture.components.scale is None)
    out = np.empty(len(points))
    kernel = call(
        kernels, "mixture_log_probs", len(points), mixture.weights.size, mixture.dim, full,
        *_forms(mixture), points, out,
    )  # fmt: skip
    return _returning(kernel, lambda: out)


# --- estimates -------------------------------------------------------------------------------


def _likelihood(model: fe.LinearGaussian, centre: Floats) -> tuple[Floats, Floats, Floats]:
    """R, t and c of log p(x | centre + v) = c - |R v - t|^2 / 2, R lower triangular.

    The whitened loadings are Q R; what of the residual Q does not reach goes into c.
    """
    sd = np.sqrt(model.noise_cov)
    basis, upper = np.linalg.qr((model.loadings / sd[:, None])[:, ::-1])
    basis, factor = basis[:, ::-1], upper[::-1, ::-1]
    residual = (model.x - model.offset - centre @ model.loadings.T) / sd
    target = residual @ basis
    rest = ((residual - target @ basis.T) ** 2).sum(axis=-1)
    const = -0.5 * (sd.size * LOG_2PI + rest) - np.log(sd).sum()
    return _array(factor), _array(target), _array(const)


def moments(kernels: str, inputs: Evidence, key: int = 0) -> Callable[[], Floats]:
    """All moments of each data point, in the order of `FIELDS`."""
    model, q, n_samples = inputs
    if isinstance(model, fe.Mixture):
        out = np.empty((1, len(FIELDS)))
        cumulative = np.cumsum(q.weights)
        parts = q.components
        kernel = call(
            kernels, "fused_mixture", n_samples, q.dim, key, q.weights.size, cumulative,
            _array(parts.mean), _array(parts.scale), *_forms(q), model.weights.size,
            *_forms(model), out,
        )  # fmt: skip
        return _returning(kernel, lambda: out)
    out = np.empty((len(model.x), len(FIELDS)))
    scale = _array(np.broadcast_to(q.scale, q.mean.shape))
    prior_const = -0.5 * q.dim * LOG_2PI
    factor, target, const = _likelihood(model, q.mean)
    kernel = call(
        kernels, "fused_gaussian", len(out), n_samples, q.dim, key, _array(q.mean), scale,
        _array(prior_const - np.log(scale).sum(axis=-1)), prior_const, factor, target, const, out,
    )  # fmt: skip
    return _returning(kernel, lambda: out)


def _evidence(kernels: str, inputs: Evidence) -> Callable[[], Any]:
    run = moments(kernels, inputs)

    def answer() -> Any:
        log_evidence, variance, elbo = run()[:, :3].T
        return log_evidence, elbo, variance

    return answer


# --- random numbers --------------------------------------------------------------------------

_DIM = 16


def _normals(kernels: str, inputs: Normals) -> Callable[[], Any]:
    buffer = np.empty((_DIM, inputs.block // _DIM))
    fill = [
        call(kernels, "standard_normals", buffer.shape[1], _DIM, key, buffer)
        for key in range(inputs.blocks)
    ]

    def run() -> Any:
        for kernel in fill:
            kernel()
        return buffer

    return run


_TASKS = {
    "logsumexp/rows": _logsumexp,
    "summary/rows": _summary,
    "mixture_log_prob": _mixture_log_prob,
    "evidence/diagonal": _evidence,
    "evidence/shape": _evidence,
    "evidence/mixture": _evidence,
    "normals": _normals,
}
IMPLEMENTATIONS: dict[str, Any] = {}
if shutil.which(COMPILER):
    IMPLEMENTATIONS = {
        f"c_{kernels}": {task: partial(prepare, kernels) for task, prepare in _TASKS.items()}
        for kernels in ("plain", "blocked")
    }
