"""Every CUDA kernel compiles for every generation of devices, on a machine without one."""

import functools
import itertools
import re
import shutil

import pytest
from ptx_machine.device import missing

from benchmarks import registers
from benchmarks.user_models import MODELS

# Most registers of each kernel. With 128 threads per block, a multiprocessor of compute capability
# 9.0 runs three blocks or more with up to 168 registers, and two with up to 255.
BUDGET = {
    "states": 168,
    "states without groups": 168,
    "terms": 128,
    "fold": 128,
    "fold of largest": 128,
    "groups of float32": 128,
    "groups of float64": 128,
    "largest of float32": 168,
    "largest of float64": 168,
    "summaries of float32": 64,
    "summaries of float64": 64,
    "log_prob, D=8": 128,
    "log_prob by warps, D=8": 128,
    "mixture model, D=8, C=4": 128,
}

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@functools.cache
def kernels(form, precision, *, sobol=False):
    if form is None:
        return registers.array_launches()
    return registers.launches(form, precision, sobol=sobol)


# Kernels that are compiled for a form of model and q.
DRAWING = ("states", "states without groups", "terms")
CASES = [
    *[("gaussian, D=2", "float64", kernel) for kernel in DRAWING],
    *[("gaussian, D=2", "float32", kernel) for kernel in DRAWING[1:]],
    *[(None, "float64", name) for name in BUDGET if name not in DRAWING],
]


def check(form, precision, kernel, target, budget, *, sobol=False):
    ptx = registers.compile_ptx(kernels(form, precision, sobol=sobol)[kernel], target)
    assert f".target sm_{target[0]}{target[1]}" in ptx
    # No atomic sum of floats, whose order would differ from run to run.
    assert "atom.add.f" not in ptx.replace("global.", "").replace("shared.", "")
    assert sum(map(int, re.findall(r"\.shared .*\[(\d+)\];", ptx))) <= 48 * 1024
    if kernel in DRAWING:
        # Each product of Philox is one instruction.
        assert ptx.count("mul.wide.u32") >= 20
    # Approximate division, square roots and functions would mean that fast maths is on. Those that
    # draws and weights of float32 use are exceptions.
    chosen = (
        ("sqrt.approx.ftz.f32", "ex2.approx.ftz.f32") if "float32" in precision + kernel else ()
    )
    if form in MODELS:
        # NVIDIA's log1p divides by an approximate inverse, and corrects the quotient.
        chosen = ("rcp.approx.ftz.f64",)
    approximate = re.findall(r"\w+\.approx[.\w]*", ptx)
    assert set(approximate) <= set(chosen)
    if shutil.which("ptxas"):
        usage = registers.assemble(ptx, target)
        print(form, precision, kernel, target, usage)
        assert usage.spilled == 0
        assert usage.registers <= budget
        assert usage.shared <= 48 * 1024


# One of the kernels that take the same parts.
QUICK = [
    ("gaussian, D=2", "float64", "states"),
    (None, "float64", "fold"),
    (None, "float64", "summaries of float64"),
    (None, "float64", "log_prob by warps, D=8"),
    (None, "float64", "mixture model, D=8, C=4"),
]


def every_kernel():
    """Some kernels for the newest generation; the others are slow."""
    assert set(QUICK) <= set(CASES)
    for case, target in itertools.product(CASES, registers.TARGETS):
        quick = target == registers.TARGETS[-1] and case in QUICK
        if registers.compiles(case[2], target):
            yield pytest.param(*case, target, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("form", "precision", "kernel", "target"), [*every_kernel()])
def test_every_kernel(form, precision, kernel, target):
    check(form, precision, kernel, target, BUDGET[kernel])


def test_products_of_warps_are_instructions():
    ptx = registers.compile_ptx(kernels(None, "float64")["log_prob by warps, D=8"], (9, 0))
    # Two steps of four coordinates, for four groups of points.
    assert ptx.count("mma.sync.aligned.m8n8k4") == 8
    assert ".local" not in ptx


LARGER = [
    ("gaussian, D=10", "float32", 168),
    ("gaussian, D=10", "float64", 168),
    ("full gaussian, D=32", "float32", 168),
    ("full gaussian, D=32", "float64", 184),
    ("t mixtures, D=5", "float64", 168),
    ("t mixtures, D=32", "float32", 184),
    ("t mixtures, D=32", "float64", 184),
]


def larger_models():
    """The one with the most registers; the others are slow."""
    for case, kernel in itertools.product(LARGER, ["states", "states without groups"]):
        quick = kernel == "states" and case == LARGER[-1]
        yield pytest.param(*case, kernel, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("form", "precision", "budget", "kernel"), [*larger_models()])
def test_estimates_of_larger_models(form, precision, budget, kernel):
    check(form, precision, kernel, (9, 0), budget)


@pytest.mark.parametrize(
    "kernel",
    [pytest.param("states", marks=pytest.mark.slow), "groups across replicates"],
)
def test_quasi_random_draws(kernel):
    # The largest parameters of mixtures that are not in shared memory.
    check("t mixtures, D=16", "float64", kernel, (9, 0), 168, sobol=True)


def functions_of_users():
    """The largest kernel of one model, for one device; the others are slow."""
    for name, target, kernel in itertools.product(MODELS, registers.TARGETS, DRAWING):
        quick = target == (9, 0) and kernel == DRAWING[1] and name == "schools"
        yield pytest.param(name, target, kernel, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("name", "target", "kernel"), [*functions_of_users()])
def test_functions_of_users(name, target, kernel):
    check(name, "float64", kernel, target, BUDGET[kernel])


def test_figures_of_ptxas():
    text = """ptxas info    : Function properties for f
    64 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 164 registers, used 64 bytes cumulative stack size, 26824 bytes smem
ptxas info    : Function properties for g
    16 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"""
    assert registers.parse(text) == registers.Usage(164, 20, 64, 26824)
