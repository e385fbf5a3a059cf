"""Machine code of the hot loops: packed instructions, and no call to a mathematical library.

Run as a script, this file compiles the loops for the processor in numba's settings. It prints how
often each instruction occurs on vector registers.
"""

import collections
import json
import os
import platform
import re
import subprocess
import sys

import numba
import numpy as np
import pytest

import fastelbo as fe
from fastelbo.arrays.inputs import constant as as_constant
from fastelbo.kernels.cpu import mixture_em
from fastelbo.kernels.draws import (
    blocks,
    densities,
    gradient_rows,
    radial,
    rotation,
    sampling,
    slopes,
    sobol,
)
from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math import selection, shifted_sums, sums
from fastelbo.kernels.state import estimators, moments, state
from fastelbo.models import gradient_plan, plans
from fastelbo.models.protocol import Frame, Points

pytestmark = pytest.mark.compiler
DIM = 4


@kernel
def workspace(like):
    return blocks.make_workspace(DIM, like)


@kernel
def standard_normals(work, key, n):
    sampling.standard_normals(work, DIM, key, np.uint64(0), np.uint64(0), n)


@kernel
def student_factors(factor, df, least, key, n):
    radial.student_factors(factor, df, least, 0.0, key, np.uint64(0), np.uint64(0), n)


@kernel
def square_norm_identity(v, rows, n, out):
    densities.square_norm_identity(v, rows, n, out)


@kernel
def square_norm_diagonal(factor, target, v, n, out):
    densities.square_norm_diagonal(factor, target, v, n, out)


@kernel
def square_norm_triangular(factor, target, v, n, acc, out):
    densities.square_norm_triangular(factor, target, v, n, acc, out)


@kernel
def mixture_density(density, work, n):
    densities.elliptical_block(density, 0, work.v, DIM, work, n, work.log_q)


@kernel
def double(columns, word, start, size, words):
    sobol._double(columns, word, start, size, words)


@kernel
def net_uniforms_and_angles(u, angle, radii, angles, n):
    sobol.net_uniforms_and_angles(u, angle, radii, angles, n)


@kernel
def net_quantiles(words, n, out):
    sobol.net_quantiles(words, n, out)


@kernel
def rotate(matrix, e, n, v):
    # Tiles of every shape: four rows and two, of four coordinates and of two.
    rotation.rotate(matrix, e, 6, n, v)


@kernel
def permute(key, index, replicate, unit, size, places):
    sobol.permute(key, index, replicate, unit, size, places)


@kernel
def push_block(row, fresh, sizes, work, n):
    state.push_block(row, fresh, sizes, 0, work, n)


@kernel
def moments_room(values):
    return moments.make_room(values, True)


@kernel
def push_moments(row, log_weight, v, n, room):
    moments.push_block(row, log_weight, v, 0, 0, n, True, room)


@kernel
def product_sums(x, y, z, n, partial_sums):
    return sums.product_sums(x, y, z, n, partial_sums)


@kernel
def take_above(x, n, threshold, value, place):
    return selection.take_above(x, n, threshold, 0, value, place)


@kernel
def take_below(x, n, threshold, value):
    return selection.take_below(x, n, threshold, value)


@kernel
def set_ranks(coarse, n, rank):
    selection._set_ranks(coarse, n, rank)


@kernel
def mixture_room():
    return mixture_em._make_room(2, DIM, 1)


@kernel
def share_out(work, n):
    mixture_em._share_out(2, work, n)


@kernel
def add_moments(whitened, work, n):
    mixture_em._add_moments(whitened, work, n)


@kernel
def take_transposed(factor, a, n, gradient):
    slopes.take_transposed(factor, DIM, a, DIM, n, gradient)


@kernel
def coefficients_room(n):
    return estimators.make_coefficients(n, n)


@kernel
def softmax_across(x, size, count, out):
    estimators._across(x, 1.0, size, count, out)


@kernel
def gradient_rows_of(asked, work, gradient, form, coefficients, n, rows):
    gradient_rows.set_rows(asked, 0, DIM, work, gradient, form, coefficients, 0, n, rows)


@kernel
def shifted_product_sums(x, y, n, shift, partial_sums):
    return shifted_sums.shifted_product_sums(x, y, n, shift, partial_sums)


@kernel
def grouped_products(x, y, size, count, out):
    shifted_sums.grouped_products(x, y, size, count, out)


# For each loop, the instructions that do the work, and their least number on vector registers. The
# numbers follow from the loops: ten rounds of two products for Philox, ten terms of a polynomial,
# half as many for float32.
PHILOX = {r"vpmuludq": 16}


def product(kind):
    return {rf"vfn?m(add|sub)\d+{kind}": 4}


def polynomial(kind):
    return {rf"vfn?m(add|sub)\d+{kind}": 15 if kind == "pd" else 8}


def normals(kind):
    # A float64 logarithm divides, a float32 logarithm does not.
    division = {"vdivpd": 1} if kind == "pd" else {}
    return PHILOX | polynomial(kind) | {f"vsqrt{kind}": 1} | division


# Words become numbers.
WORDS = {"pd": {"vpsllq": 1, r"v(add|sub|mul)pd": 1}, "ps": {"vcvtu?dq2ps": 1, "vmulps": 1}}

EXPECTED = {
    "take_above": {r"vcmp\w*pd": 8},
    "take_below": {r"vcmp\w*pd": 8},
    "set_ranks": {r"vpsubd": 8, r"vpsrld": 8},
    "double": {r"vpxor[dq]?": 4},
    # The shifts of a permutation have 64 bits, its products 32.
    "permute": {r"vpsrlv?q": 3},
    "student_factors": normals("pd"),
    "push_block": polynomial("pd") | {r"vaddpd": 4, r"vpmaxsq|vpcmpgtq|vmaxpd": 1},
    # Two sums, of four terms each before they are stored.
    "product_sums": {r"vfn?m(add|sub)\d+pd": 8},
    # A tile of sixteen products of a matrix.
    "take_transposed": {r"vfn?m(add|sub)\d+pd": 16},
    # The largest, exponentials and shares.
    "softmax_across": {r"vfn?m(add|sub)\d+pd": 12, "vdivpd": 1, r"v(cmp\w*|max)pd": 2},
    # A tile each for q, for z and for the scores of the model, and products with coefficients.
    "gradient_rows_of": {r"vfn?m(add|sub)\d+pd": 48, "vmulpd": 4},
    # Two sums, of four terms each before they are stored.
    "shifted_product_sums": {r"vfn?m(add|sub)\d+pd": 8},
    # Four draws of each group before the sum is stored.
    "grouped_products": {r"vfn?m(add|sub)\d+pd": 4},
    # An exponential, a logarithm and a division.
    "share_out": polynomial("pd") | {"vdivpd": 2, "vmulpd": 2},
    # Tiles of eight products and of four.
    "add_moments": {r"vfn?m(add|sub)\d+pd": 20, "vmulpd": 1, "vsubpd": 1},
    # Exponentials, squares, deviations from means, and weights times deviations.
    "push_moments": polynomial("pd") | {r"vmulpd": 6, r"vsubpd": 1, r"vfn?m(add|sub)\d+pd": 23},
}
for kind, suffix in (("pd", ""), ("ps", "_single")):
    EXPECTED |= {
        "standard_normals" + suffix: normals(kind),
        "square_norm_identity" + suffix: product(kind),
        "square_norm_diagonal" + suffix: product(kind),
        "square_norm_triangular" + suffix: {rf"vfn?m(add|sub)\d+{kind}": 16},
        "mixture_density" + suffix: polynomial(kind) | {f"vdiv{kind}": 1},
        "rotate" + suffix: {rf"vfn?m(add|sub)\d+{kind}": 36},
        # Two ratios of polynomials, and the root of a logarithm: float64 in both precisions.
        "net_quantiles" + suffix: polynomial("pd") | {"vdivpd": 2, "vsqrtpd": 1},
        "net_uniforms_and_angles" + suffix: WORDS[kind],
    }
# Loops that convert between precisions: a log density that leaves float32, and quantiles that
# enter it.
CONVERTING = {
    "mixture_density_single": {"vcvtps2pd"},
    "net_quantiles_single": {"vcvtpd2ps"},
}
LIBRARY = {"exp", "log", "log1p", "sin", "cos", "sincos", "pow", "sqrt"}


def signatures():
    """Argument types of each kernel, as the drivers pass them."""
    vector, integer, key = numba.float64[::1], numba.int64, numba.uint64
    work = numba.typeof(workspace(np.empty(0)))
    matrix = numba.float64[:, ::1]
    whitened = mixture_em.Whitened(*(as_constant(np.zeros((2,) * axes)) for axes in (1, 2, 3)))
    coefficients = numba.typeof(coefficients_room(1))
    places, ranks, words = numba.int64[::1], numba.int32[::1], numba.uint32[::1]
    return {
        "take_above": (vector, integer, numba.float64, vector, places),
        "take_below": (vector, integer, numba.float64, vector),
        "set_ranks": (ranks, integer, ranks),
        "double": (words, numba.uint32, key, integer, words),
        "permute": (key, key, key, key, integer, places),
        "student_factors": (vector, vector, numba.float64, key, integer),
        "push_block": (vector, vector, numba.typeof(np.zeros(1, np.int64)), work, integer),
        "push_moments": (vector, vector, matrix, integer, numba.typeof(moments_room(DIM))),
        "share_out": (numba.typeof(mixture_room()), integer),
        "add_moments": (numba.typeof(whitened), numba.typeof(mixture_room()), integer),
        "product_sums": (vector, vector, vector, integer, matrix),
        "take_transposed": (numba.typeof(as_constant(np.zeros((1, 1)))), matrix, integer, matrix),
        "softmax_across": (vector, integer, integer, coefficients),
        "gradient_rows_of": (
            numba.typeof(gradient_of_all()),
            work,
            matrix,
            matrix,
            coefficients,
            integer,
            matrix,
        ),
        "shifted_product_sums": (vector, vector, integer, numba.float64, matrix),
        "grouped_products": (vector, vector, integer, integer, vector),
        **signatures_of(numba.float64, ""),
        **signatures_of(numba.float32, "_single"),
    }


def gradient_of_all():
    """The plan of a gradient by all parameters."""
    model = fe.LinearGaussian(np.zeros(DIM), np.eye(DIM), noise_cov=np.eye(DIM))
    q = fe.Gaussian(np.zeros(DIM), scale_tril=np.eye(DIM))
    asked = gradient_plan.Asked(model, q, ("q", "model"), estimators.DREG, 0.0, 4)
    return gradient_plan.lower(asked, Points(()), gradient_plan.parameters(asked)).plan


def signatures_of(real, suffix):
    """Argument types of the kernels that take either precision."""
    dtype = np.dtype(str(real))
    work = numba.typeof(workspace(np.empty(0, dtype)))
    mixture = fe.Mixture([0.5, 0.5], fe.Gaussian(np.zeros((2, DIM)), scale=1.0))
    frame = Frame(np.zeros((1, DIM)), None, None)
    density = mixture.term(Points(()), frame).density
    if suffix:
        density = plans.single_density(density)
    vector, matrix = real[::1], real[:, ::1]
    constant, rows = (numba.typeof(as_constant(np.zeros(s, dtype))) for s in (1, (1, 1)))
    angles, turn = workspace(np.empty(0, dtype)).angle, rows
    integer, key, words = numba.int64, numba.uint64, numba.uint32[::1]
    arguments = {
        "rotate": (turn, matrix, integer, matrix),
        "net_quantiles": (words, integer, vector),
        "net_uniforms_and_angles": (vector, numba.typeof(angles), words, words, integer),
        "standard_normals": (work, key, integer),
        "square_norm_identity": (matrix, integer, integer, vector),
        "square_norm_diagonal": (constant, constant, matrix, integer, vector),
        "square_norm_triangular": (rows, constant, matrix, integer, matrix, vector),
        "mixture_density": (numba.typeof(density), work, integer),
    }
    return {name + suffix: types for name, types in arguments.items()}


def count_instructions(assembly):
    """Instructions on vector registers wider than 128 bits, and the functions that are called."""
    packed, called = collections.Counter(), set()
    for line in assembly.splitlines():
        instruction, *operands = line.split() or [""]
        if register := re.search(r"%([yz])mm", line):
            packed[f"{instruction} {register[1]}mm"] += 1
        if instruction.startswith(("call", "jmp", "movabs")):
            called.update(re.findall(r"[A-Za-z_]\w*", operands[0]))
    return {"packed": packed, "called": sorted(called)}


def main():
    found = {}
    for name, signature in signatures().items():
        dispatcher = globals()[name.removesuffix("_single")]
        dispatcher.compile(signature)
        found[name] = count_instructions(dispatcher.inspect_asm(signature))
        flags = re.findall(r"\b(?:fast|reassoc)\b", dispatcher.inspect_llvm(signature))
        found[name]["reorders"] = bool(flags)
    print(json.dumps(found))


# --- tests --------------------------------------------------------------------------------------

HASWELL = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+f16c,+fma,+lzcnt,+mmx,+movbe,"
    "+pclmul,+popcnt,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave",
}


def host_is_wide():
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    from llvmlite.binding import get_host_cpu_features

    return {"avx2", "fma"} <= {name for name, on in get_host_cpu_features().items() if on}


def host_is_widest():
    from llvmlite.binding import get_host_cpu_features

    return bool(get_host_cpu_features().get("avx512f"))


@pytest.fixture(scope="module", params=["host", "haswell"])
def machine_code(request, tmp_path_factory):
    if not host_is_wide():
        pytest.skip("needs an x86 processor with AVX2")
    if request.param == "haswell" and not host_is_widest():
        pytest.skip("the host has AVX2 alone: it compiles the same")
    # Machine code can be read only after a new compilation, so the cache is empty.
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    environment |= HASWELL if request.param == "haswell" else {}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


@pytest.mark.parametrize("name", EXPECTED)
def test_hot_loop(machine_code, name):
    target, found = machine_code
    packed = found[name]["packed"]
    if target == "haswell":
        assert not any(key.endswith("zmm") for key in packed)
    for pattern, least in EXPECTED[name].items():
        count = sum(n for key, n in packed.items() if re.fullmatch(pattern, key.split()[0]))
        assert count >= least, f"{pattern}: {count} packed instructions, in {packed}"
    conversions = {key.split()[0] for key in packed if re.match("vcvtp[sd]2p[sd]", key)}
    assert conversions <= CONVERTING.get(name, set())
    assert not LIBRARY & set(found[name]["called"])
    # If the compiler chose the order of a sum, it would depend on the kernel around it.
    assert not found[name]["reorders"]


if __name__ == "__main__":
    main()
