"""Registers, spills and shared memory of the CUDA kernels, without a GPU.

``python -m benchmarks.registers`` compiles every kernel to PTX and prints what ptxas reports of it.
It needs numba-cuda and libNVVM (``pip install ".[ptx]"``), and ptxas from a CUDA toolkit.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from numba import typeof

import fastelbo as fe
from fastelbo.engine.cuda_functions import device_calls, with_device_calls
from fastelbo.engine.states import StateForm
from fastelbo.engine.task import EstimateRequest
from fastelbo.kernels.cuda import device
from fastelbo.kernels.cuda import launch as cuda_launch
from fastelbo.kernels.draws.blocks import CHUNK, Cut
from fastelbo.models.nets import new_design

from .user_models import MODELS

TARGETS = ((7, 5), (8, 0), (9, 0))
PRECISIONS = ("float64", "float32")


class Usage(NamedTuple):
    """What ptxas reports of a kernel."""

    registers: int
    spilled: int  # bytes, stored and loaded
    stack: int  # bytes of a thread's local memory
    shared: int  # bytes of a block


def gaussian(dim: int, *, full: bool = False) -> tuple[Any, Any]:
    """A linear-Gaussian model and a Gaussian q."""
    q = fe.Gaussian(np.zeros(dim), scale=1.0)
    if full:
        q = fe.Gaussian(np.zeros(dim), cov=np.eye(dim))
    return fe.LinearGaussian(np.zeros((1, dim)), np.eye(dim), noise_cov=1.0), q


def mixtures(dim: int) -> tuple[Any, Any]:
    """A linear-Gaussian model with a mixture as prior, and a mixture of full Student-t as q."""
    means, eye = np.zeros((3, dim)), np.eye(dim)
    q = fe.Mixture([0.2, 0.3, 0.5], fe.StudentT(4.0, means, scale_tril=eye))
    prior = fe.Mixture([0.4, 0.6], fe.Gaussian(means[:2], cov=eye))
    x = np.zeros((1, dim))
    return fe.LinearGaussian(x, np.eye(dim), noise_cov=1.0, prior=prior), q


def user_model(name: str) -> tuple[Any, Any]:
    """A user's density, and a Gaussian q."""
    each = MODELS[name]
    model = fe.Model(log_joint=each.function, dim=each.dim, params=each.params)
    return model, fe.Gaussian(np.zeros(each.dim), scale=0.5)


FORMS = {
    "gaussian, D=2": lambda: gaussian(2),
    "gaussian, D=10": lambda: gaussian(10),
    "full gaussian, D=32": lambda: gaussian(32, full=True),
    "t mixtures, D=5": lambda: mixtures(5),
    "t mixtures, D=16": lambda: mixtures(16),
    "t mixtures, D=32": lambda: mixtures(32),
}
# Forms whose draws are quasi-random, and how points become normals.
NETS = {"gaussian, D=10": "box_muller", "t mixtures, D=16": "inverse"}
# Models of users.
FORMS |= {name: functools.partial(user_model, name) for name in MODELS}


class Launch(NamedTuple):
    """A kernel and the types of its arguments."""

    kernel: Any
    types: tuple[Any, ...]


@contextlib.contextmanager
def recorded(*, multiplies: bool = False) -> Any:
    """Record launches without running them; arrays are in host memory.

    ``multiplies``: whether warps of the pretended device multiply matrices.
    """
    launches: list[Launch] = []

    def record(kernel: Any, blocks: int, *args: Any, threads: int = 0) -> None:
        launches.append(Launch(kernel, tuple(map(typeof, args))))

    def put(array: Any) -> Any:
        return np.array(array, order="C")

    def room(shape: Any, dtype: Any = np.float64) -> Any:
        return np.zeros(shape, dtype)

    with pretended(TARGETS[-1]), mock.patch.multiple(
        device, launch=record, put=put, room=room, fetch=np.asarray, synchronize=lambda: None,
        multiplies=lambda: multiplies,
    ):  # fmt: skip
        yield launches


def pretended(target: tuple[int, int]) -> Any:
    """Compile for a compute capability, without a device."""
    there = mock.Mock(compute_capability=target)
    return mock.patch("numba.cuda.dispatcher.get_current_device", return_value=there)


def launches(name: str, precision: str, *, sobol: bool = False) -> dict[str, Launch]:
    """The kernels that an estimate launches, for a form of model and q.

    ``sobol``: of quasi-random draws, which are rotated.
    """
    model, q = FORMS[name]()
    request = EstimateRequest(model, q, (1,), 1024, 0, 0, precision, StateForm((), 0))
    if sobol:
        design = new_design(q, (1,), 1024, 4, NETS[name], 0)
        request = request._replace(design=design._replace(rotation=np.eye(q.dim)[None, None]))
    with recorded() as found:
        plan = with_device_calls(request.plan(slice(0, 1)), device_calls(request))
        for iw_sizes, capacity in ((np.array([10, 100]), 100), (np.array([], np.int64), 0)):
            states = cuda_launch.DeviceStates(1, iw_sizes, capacity, request.cut)
            states.draw(cuda_launch.put_plan(plan), 0, 0, 1)
        cuda_launch.terms(cuda_launch.put_plan(plan), 0, 0, 0, 10, 1)
    names = ["states", "fold", "fold of largest", "states without groups", "fold", "terms"]
    if sobol:
        names.insert(1, "groups across replicates")
    return dict(zip(names, found, strict=True))


def array_launches() -> dict[str, Launch]:
    """The kernels that work on arrays, in dimension 8 and for mixtures of 4 components."""
    dim, count = 8, 4
    mixture = fe.Mixture(np.full(count, 0.25), fe.Gaussian(np.zeros((count, dim)), cov=np.eye(dim)))
    density, centre = mixture._lowered(())
    points = np.zeros((10, dim))
    weights, probs, cut = np.zeros((2, count)), np.zeros((1, count)), Cut(1, 1000, CHUNK)
    with recorded() as found:
        for dtype in (np.float32, np.float64):
            cuda_launch.DeviceStates(1, np.array([10, 100]), 100, cut).reduce(
                np.zeros((1, 1000), dtype), 1
            )
        for dtype in (np.float32, np.float64):
            cuda_launch.DeviceStates(1, np.array([], np.int64), 0, cut).reduce(
                np.zeros((1, 1000), dtype), 1
            )
        cuda_launch.log_prob(density, centre, points[:, None])
        cuda_launch.mixture_expectations(density, weights, centre[0], points, probs)
    with recorded(multiplies=True) as by_warps:
        cuda_launch.log_prob(density, centre, points[:, None])
    names = (
        "groups of float32", "largest of float32", "fold", "fold of largest",
        "groups of float64", "largest of float64", "fold", "fold of largest",
        "summaries of float32", "fold", "summaries of float64", "fold", "log_prob, D=8",
        "mixture model, D=8, C=4", "log_prob by warps, D=8",
    )  # fmt: skip
    return dict(zip(names, found + by_warps, strict=True))


def compiles(name: str, target: tuple[int, int]) -> bool:
    """Whether devices of that compute capability can run the kernel."""
    return "by warps" not in name or target >= (8, 0)


@functools.lru_cache(maxsize=1)
def _lowered(launch: Launch) -> Any:
    """A kernel in LLVM's language, which is the same for all targets, and half of the work."""
    from numba import cuda
    from numba.cuda.codegen import CUDACodeLibrary

    found: list[Any] = []

    def keep(library: Any, **_: Any) -> list[str]:
        found.append(library)
        return [""]

    target = TARGETS[-1]
    with pretended(target), mock.patch.object(CUDACodeLibrary, "get_asm_strs", keep):
        cuda.compile_ptx(launch.kernel.py_func, launch.types, cc=target)
    return found[-1]


def compile_ptx(launch: Launch, target: tuple[int, int]) -> str:
    """Compile a kernel to PTX for a compute capability. No device is needed."""
    return str(_lowered(launch).get_asm_str(cc=target))


def assemble(ptx: str, target: tuple[int, int]) -> Usage:
    """What ptxas reports of a kernel and the functions that it calls."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(ptx)
        command = ["ptxas", "-v", f"-arch=sm_{target[0]}{target[1]}", str(path), "-o", f"{path}.o"]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr)
    return parse(run.stderr)


def parse(text: str) -> Usage:
    """Read the output of ``ptxas -v``."""

    def found(pattern: str) -> list[int]:
        return [int(number) for number in re.findall(pattern, text)]

    return Usage(
        registers=max(found(r"Used (\d+) registers")),
        spilled=sum(found(r"(\d+) bytes spill (?:stores|loads)")),
        stack=max([0, *found(r"(\d+) bytes stack frame")]),
        shared=max([0, *found(r"(\d+) bytes smem")]),
    )


def main() -> None:
    """Print the table."""
    if shutil.which("ptxas") is None:
        sys.exit("ptxas is not installed: it comes with a CUDA toolkit")
    print("| kernel | precision | target | registers | spilled | stack | shared |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
    kernels = {("float64", name): launch for name, launch in array_launches().items()}
    for name in FORMS:
        for precision in PRECISIONS[: 1 if name in MODELS else None]:
            for sobol in (False, True) if name in NETS else (False,):
                form = f"sobol {name}" if sobol else name
                for kernel, launch in launches(name, precision, sobol=sobol).items():
                    if not kernel.startswith("fold"):
                        kernels[precision, f"{kernel}, {form}"] = launch
    for (precision, name), launch in kernels.items():
        for target in filter(functools.partial(compiles, name), TARGETS):
            usage = assemble(compile_ptx(launch, target), target)
            figures = " | ".join(map(str, usage))
            print(f"| {name} | {precision} | {target[0]}.{target[1]} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
