"""Machine code of the hot loops: packed instructions, and no call to a mathematical library.

Run as a script, this file compiles them for the processor that numba is told of, and prints how
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
from fastelbo import lowering
from fastelbo.kernels import blocks, state
from fastelbo.kernels.compile import kernel

DIM = 4


@kernel
def workspace():
    return blocks.make_workspace(DIM)


@kernel
def standard_normals(work, key, n):
    blocks.standard_normals(work, DIM, key, np.uint64(0), np.uint64(0), n)


@kernel
def student_factors(factor, df, least, key, n):
    blocks.student_factors(factor, df, least, key, np.uint64(0), np.uint64(0), n)


@kernel
def square_norm_identity(v, rows, n, out):
    blocks.square_norm_identity(v, rows, n, out)


@kernel
def square_norm_diagonal(factor, target, v, n, out):
    blocks.square_norm_diagonal(factor, target, v, n, out)


@kernel
def square_norm_triangular(factor, target, v, n, acc, out):
    blocks.square_norm_triangular(factor, target, v, n, acc, out)


@kernel
def mixture_density(density, work, n):
    blocks.log_density_block(density, 0, work.v, DIM, work, n, work.log_q)


@kernel
def push_block(row, fresh, sizes, work, n):
    state.push_block(row, fresh, sizes, 0, work, n)


# A name, the instructions that do the work, and how many of them there are at least on vector
# registers: ten rounds of two products for Philox, ten terms of a polynomial.
PRODUCT = {r"vfn?m(add|sub)\d+pd": 4}
POLYNOMIAL = {r"vfn?m(add|sub)\d+pd": 15}
LOGARITHM = {r"vdivpd": 1}
PHILOX = {r"vpmuludq": 16}
EXPECTED = {
    "standard_normals": PHILOX | POLYNOMIAL | LOGARITHM | {r"vsqrtpd": 1},
    "student_factors": PHILOX | POLYNOMIAL | LOGARITHM | {r"vsqrtpd": 1},
    "square_norm_identity": PRODUCT,
    "square_norm_diagonal": PRODUCT,
    "square_norm_triangular": PRODUCT | {r"vfn?m(add|sub)\d+pd": 16},
    "mixture_density": POLYNOMIAL | LOGARITHM,
    "push_block": POLYNOMIAL | {r"vaddpd": 4, r"vpmaxsq|vpcmpgtq|vmaxpd": 1},
}
LIBRARY = {"exp", "log", "log1p", "sin", "cos", "sincos", "pow", "sqrt"}


def signatures():
    """Argument types of each kernel, as the drivers pass them."""
    work = numba.typeof(workspace())
    mixture = fe.Mixture([0.5, 0.5], fe.Gaussian(np.zeros((2, DIM)), scale=1.0))
    frame = lowering.Frame(np.zeros((1, DIM)), None, None)
    density = lowering.density(mixture._components, (), slice(None), frame)
    vector, matrix = numba.float64[::1], numba.float64[:, ::1]
    constant, rows = (numba.typeof(lowering.constant(np.zeros(s))) for s in (1, (1, 1)))
    integer, key = numba.int64, numba.uint64
    return {
        "standard_normals": (work, key, integer),
        "student_factors": (vector, vector, numba.float64, key, integer),
        "square_norm_identity": (matrix, integer, integer, vector),
        "square_norm_diagonal": (constant, constant, matrix, integer, vector),
        "square_norm_triangular": (rows, constant, matrix, integer, matrix, vector),
        "mixture_density": (numba.typeof(density), work, integer),
        "push_block": (vector, vector, numba.typeof(np.zeros(1, np.int64)), work, integer),
    }


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
        dispatcher = globals()[name]
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


@pytest.fixture(scope="module", params=["host", "haswell"])
def machine_code(request, tmp_path_factory):
    if not host_is_wide():
        pytest.skip("needs an x86 processor with AVX2")
    # Only what is compiled afresh can be read: the cache is empty.
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
    assert not LIBRARY & set(found[name]["called"])
    # The order of a sum left to the compiler would depend on the kernel around it.
    assert not found[name]["reorders"]


if __name__ == "__main__":
    main()
