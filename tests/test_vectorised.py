"""Machine code of the hot loops: packed instructions, and no call to a mathematical library.

Run as a script, this file prints, for each target and kernel, how many packed instructions there
are, how many of them on the widest registers, and how many spill in an innermost loop:
``PYTHONPATH=. python tests/test_vectorised.py [kernels]``.
"""

import json
import os
import re
import subprocess
import sys

import numba
import numpy as np
import pytest
from machine_code import (
    TARGETS,
    compile_for,
    instructions,
    is_x86,
    lower,
    result_type,
    scalar_loops,
)

import fastelbo as fe
from fastelbo.arrays.inputs import constant as as_constant
from fastelbo.kernels.cpu import linear, mixture_em, pareto_fit
from fastelbo.kernels.draws import (
    blocks,
    densities,
    gradient_rows,
    mixtures,
    radial,
    rotation,
    sampling,
    slopes,
    sobol,
)
from fastelbo.kernels.jit import link_only
from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math import (
    column_sums,
    columns,
    copies,
    diagonal,
    extremes,
    polynomials,
    scaled_weights,
    second_moments,
    selection,
    shifted_sums,
    sorting,
    sums,
)
from fastelbo.kernels.state import estimators, groups, moments, state
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
def student_factors(factor, df, least, key, n, lane, room):
    zero = np.uint64(0)
    radial.student_factors(factor, df, least, 0.0, key, zero, zero, n, lane, room)


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
def diagonal_terms(const, base, factor, target, v, n, out):
    diagonal.diagonal_terms(const, base, factor, target, 0, 2, v, n, out)


@kernel
def load_rows(x, centre, n, v):
    copies.load_rows(x, centre, n, v)


@kernel
def store_shares(terms, total, n, out):
    mixtures.store_shares(terms, total, n, out, 0)


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
def highest(x, n, partial_sums):
    return extremes.highest(x, n, partial_sums)


@kernel
def scale_weights(x, top, n, w, partial_sums):
    return scaled_weights.scale_weights(x, top, n, w, partial_sums)


@kernel
def add_columns(x, place, stride, count, ahead, room):
    column_sums.add_columns(x, place, stride, count, ahead, room)


@kernel
def copy_columns(x, a, first, b, width, count, tile):
    columns.copy_columns(x, a, first, b, width, count, tile)


@kernel
def extremes_and_sum(x, n, partial_sums):
    return extremes.extremes_and_sum(x, n, partial_sums)


@kernel
def joint_moments(w, w_mean, x, x_mean, n, partial_sums):
    return second_moments.finite_joint_moments(w, w_mean, x, x_mean, n, partial_sums)


@kernel
def group_sums(x, start, size, count, out):
    return groups._group_sums(x, start, size, count, out)


@kernel
def log_means(sums_of_groups, size, count, out):
    groups._set_log_means(sums_of_groups, size, count, out)


@kernel
def take_above(x, n, threshold, value, place):
    return selection.take_above(x, n, threshold, 0, value, place)


@kernel
def take_below(x, n, threshold, value):
    return selection.take_below(x, n, threshold, value)


@kernel
def sort_values(x, n, out):
    sorting.sort_values(x, n, out)


@kernel
def multiply_values(coefficients, first, stop, t, product):
    polynomials.multiply_values(coefficients, first, stop, t, product, 0)


@kernel
def set_logs(coefficients, t, count, terms):
    pareto_fit._set_logs(coefficients, t, count, terms)


@kernel
def set_ranks(coarse, n, rank):
    selection._set_ranks(coarse, n, rank)


@kernel
def add_component(log_weight, row, top, q, n, below, kl):
    mixtures.add_component(log_weight, row, top, q, n, below, kl)


@kernel
def exponentiate(weight, log_weight, moderate, work, n, row):
    mixtures.exponentiate(weight, log_weight, moderate, work, n, row)


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


@kernel
def add_products(entries, rows, count, n, out):
    linear._add_products(1.0, entries, rows, count, n, out)


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


# Words become numbers: as the digits of a float.
WORDS = {
    "pd": {r"vpsllq|vp?or(p[sd])?|orr": 1, r"v(add|sub|mul)pd": 1},
    "ps": {"vcvtu?dq2ps": 1, "vmulps": 1},
}

# An instruction, or a comparison and a choice.
LARGEST = r"v(max|cmp\w*)pd"

EXPECTED = {
    "take_above": {r"vcmp\w*pd": 8},
    "take_below": {r"vcmp\w*pd": 8},
    # Eight rows in registers, sorted and merged; four rows, merged in two steps.
    "sort_values": {r"v(max|cmp\w*)pd": 43},
    # A polynomial of degree four for each lane, and the product.
    "multiply_values": {r"vfn?m(add|sub)\d+pd": 4, "vmulpd": 1},
    "set_logs": polynomial("pd") | {"vdivpd": 2},
    # Eight comparisons are added up; one of them may be a shift.
    "set_ranks": {r"vpsubd": 7, r"vpcmpgtd": 8},
    "highest": {LARGEST: 8},
    # Four exponentials in flight.
    "scale_weights": {r"vfn?m(add|sub)\d+pd": 52, LARGEST: 4, r"vaddpd": 4},
    # A row of sixteen columns in flight.
    "add_columns": {r"vfn?m(add|sub)\d+pd": 26, LARGEST: 10, r"vaddpd": 4},
    # Two columns of four rows at a time.
    "copy_columns": {r"vinsertf\w+|vunpck[lh]pd|zip[12]q": 4},
    # Two coordinates of four points at a time.
    "load_rows": {r"vinsertf\w+|vunpck[lh]pd|zip[12]q": 4, "vsubpd": 4},
    # Four components of four points, each divided.
    "store_shares": {
        r"v(unpck[lh]|perm\w*|shuf)pd|vperm2f128|vinsertf\w+|zip[12]q": 4,
        "vdivpd": 4,
    },
    # Four terms before three numbers are stored.
    "extremes_and_sum": {LARGEST: 4, r"v(min|cmp\w*)pd": 4, r"vaddpd": 4},
    "joint_moments": {r"vsubpd": 8, r"vfn?m(add|sub)\d+pd": 12},
    # Four partial sums in a register.
    "group_sums": {r"vaddpd": 1},
    # Several vectors in flight.
    "log_means": {r"vdivpd": 4, r"vfn?m(add|sub)\d+pd": 18},
    "double": {r"vpxor[dq]?": 2},
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
    # A logarithm, and two products with probabilities.
    "add_component": {"vdivpd": 1, r"vfn?m(add|sub)\d+pd": 10},
    # An exponential, for weights of moderate size and for others.
    "exponentiate": {r"vfn?m(add|sub)\d+pd": 28, "vmulpd": 4},
    # Four products, and one.
    "add_products": {r"vfn?m(add|sub)\d+pd": 5},
    # An exponential, a logarithm and a division.
    "share_out": polynomial("pd") | {"vdivpd": 2, "vmulpd": 2},
    # Tiles of eight products and of four.
    "add_moments": {r"vfn?m(add|sub)\d+pd": 20, "vmulpd": 1, "vsubpd": 1},
    # Exponentials, squares, deviations from means, and weights times deviations.
    "push_moments": polynomial("pd") | {r"vmulpd": 6, r"vsubpd": 1, r"vfn?m(add|sub)\d+pd": 20},
}
for kind, suffix in (("pd", ""), ("ps", "_single")):
    EXPECTED |= {
        "standard_normals" + suffix: normals(kind),
        "square_norm_identity" + suffix: product(kind),
        "square_norm_diagonal" + suffix: product(kind),
        "square_norm_triangular" + suffix: {rf"vfn?m(add|sub)\d+{kind}": 16},
        # Two products for each of four coordinates of four vectors, first those of the first tile.
        "diagonal_terms" + suffix: {rf"vfn?m(add|sub)\d+{kind}": 64},
        "mixture_density" + suffix: polynomial(kind) | {f"vdiv{kind}": 1},
        "rotate" + suffix: {rf"vfn?m(add|sub)\d+{kind}": 36},
        # Two ratios of polynomials, and the root of a logarithm: float64 in both precisions.
        "net_quantiles" + suffix: polynomial("pd") | {"vdivpd": 2, "vsqrtpd": 1},
        "net_uniforms_and_angles" + suffix: WORDS[kind],
    }
# Of a loop that asks for several vectors in flight, where it does not.
ONE_IN_FLIGHT = {
    "add_columns": {r"vfn?m(add|sub)\d+pd": 13, LARGEST: 9, r"vaddpd": 4},
    "set_logs": {r"vfn?m(add|sub)\d+pd": 13, "vdivpd": 2},
    "log_means": {"vdivpd": 2, r"vfn?m(add|sub)\d+pd": 9},
}
# Loops that convert between precisions: a log density that leaves float32, and quantiles that
# enter it.
CONVERTING = {
    "mixture_density_single": {"vcvtps2pd"},
    "net_quantiles_single": {"vcvtpd2ps"},
}
# What LLVM does number by number where vectors have 128 bits: roots and shifts without AVX, the
# largest of 64-bit integers, and a division alone, which a vector of two does no faster.
BY_NUMBER = {
    ("SSE2", "vdivpd"),
    ("NEON", "vdivpd"),
    ("SSE2", "vsqrtpd"),
    ("SSE2", "vsqrtps"),
    ("SSE2", r"vpsrlv?q"),
    ("NEON", r"vpmaxsq|vpcmpgtq|vmaxpd"),
    # LLVM does not see that the factors of a 64-bit product have 32 bits.
    ("NEON", "vpmuludq"),
}
# Loops over single lanes that are no hot ones: those that `far` mends.
BESIDE = {"mixture_density": 1}
# Loops that need more than the 32 registers of AVX-512: they keep some constants on the stack.
ON_STACK = {
    "gradient_rows_of", "mixture_density", "net_quantiles", "net_quantiles_single", "push_block",
    "rotate", "rotate_single", "standard_normals", "standard_normals_single",
}  # fmt: skip
LIBRARY = {"exp", "log", "log1p", "sin", "cos", "sincos", "pow", "sqrt", "fma"}


def signatures():
    """Argument types of each kernel, as the drivers pass them."""
    vector, integer, key = numba.float64[::1], numba.int64, numba.uint64
    work = result_type(workspace, (vector,))
    matrix = numba.float64[:, ::1]
    whitened = mixture_em.Whitened(*(as_constant(np.zeros((2,) * axes)) for axes in (1, 2, 3)))
    coefficients = result_type(coefficients_room, (integer,))
    room = result_type(mixture_room, ())
    places, ranks, words = numba.int64[::1], numba.int32[::1], numba.uint32[::1]
    return {
        "extremes_and_sum": (vector, integer, matrix),
        "highest": (vector, integer, matrix),
        "scale_weights": (vector, numba.float64, integer, vector, matrix),
        "add_columns": (vector, *[integer] * 4, matrix),
        "copy_columns": (numba.float64[:, :, ::1], *[integer] * 5, matrix),
        "load_rows": (
            numba.typeof(as_constant(np.zeros((1, 1)))),
            numba.typeof(as_constant(np.zeros(1))),
            integer,
            matrix,
        ),
        "store_shares": (matrix, vector, integer, matrix),
        "joint_moments": (vector, numba.float64, vector, numba.float64, integer, matrix),
        "group_sums": (vector, integer, integer, integer, vector),
        "log_means": (vector, integer, integer, vector),
        "take_above": (vector, integer, numba.float64, vector, places),
        "take_below": (vector, integer, numba.float64, vector),
        "sort_values": (vector, integer, vector),
        "multiply_values": (matrix, integer, integer, numba.float64, matrix),
        "set_logs": (matrix, numba.float64, integer, vector),
        "set_ranks": (ranks, integer, ranks),
        "double": (words, numba.uint32, key, integer, words),
        "permute": (key, key, key, key, integer, places),
        "student_factors": (vector, vector, numba.float64, key, integer, places, matrix),
        "push_block": (vector, vector, numba.typeof(np.zeros(1, np.int64)), work, integer),
        "push_moments": (vector, vector, matrix, integer, result_type(moments_room, (integer,))),
        "add_component": (numba.float64, vector, vector, vector, integer, vector, vector),
        "exponentiate": (numba.float64, numba.float64, numba.boolean, work, integer, vector),
        "share_out": (room, integer),
        "add_moments": (numba.typeof(whitened), room, integer),
        "product_sums": (vector, vector, vector, integer, matrix),
        "add_products": (vector, matrix, integer, integer, vector),
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
    vector, matrix = real[::1], real[:, ::1]
    work = result_type(workspace, (vector,))
    mixture = fe.Mixture([0.5, 0.5], fe.Gaussian(np.zeros((2, DIM)), scale=1.0))
    frame = Frame(np.zeros((1, DIM)), None, None)
    density = mixture.term(Points(()), frame).density
    if suffix:
        density = plans.single_density(density)
    constant, rows = (numba.typeof(as_constant(np.zeros(s, dtype))) for s in (1, (1, 1)))
    angles = work.types[work.fields.index("angle")]
    integer, key, words = numba.int64, numba.uint64, numba.uint32[::1]
    arguments = {
        "rotate": (rows, matrix, integer, matrix),
        "net_quantiles": (words, integer, vector),
        "net_uniforms_and_angles": (vector, angles, words, words, integer),
        "standard_normals": (work, key, integer),
        "square_norm_identity": (matrix, integer, integer, vector),
        "square_norm_diagonal": (constant, constant, matrix, integer, vector),
        "square_norm_triangular": (rows, constant, matrix, integer, matrix, vector),
        "diagonal_terms": (
            numba.typeof(as_constant(np.zeros(1))),
            numba.float64,
            numba.typeof(as_constant(np.zeros((1, 1, 1), dtype))),
            rows,
            matrix,
            integer,
            matrix,
        ),
        "mixture_density": (numba.typeof(density), work, integer),
    }
    return {name + suffix: types for name, types in arguments.items()}


def examine(*names):
    """Yield target, kernel, and what the machine code of the kernel consists of."""
    for name, signature in signatures().items():
        if names and name not in names:
            continue
        lowered = lower(globals()[name.removesuffix("_single")], signature)
        for target, processor in TARGETS.items():
            module, assembly = compile_for(processor, lowered)
            # If the compiler chose the order of a sum, it would depend on the kernel around it.
            reorders = re.search(r"\b(?:fast|reassoc)\b", str(module)) is not None
            found = {"reorders": reorders, "scalar loops": scalar_loops(module)}
            yield target, name, found | instructions(processor, assembly)


def main(*arguments):
    """Print what was found, as JSON of all or as a table of some kernels or all."""
    if arguments == ("--json",):
        print(json.dumps([*examine()]))
        return
    print("target   kernel                         packed   wide  spills")
    for target, name, found in examine(*arguments):
        total = sum(found["packed"].values())
        print(f"{target:8} {name:30} {total:6} {found['wide']:6} {found['spills']:7}", flush=True)


# --- tests --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine_code(tmp_path_factory):
    """{(target, kernel): what was found} by one process, in which nothing is compiled to be run."""
    if not is_x86():
        pytest.skip("lowers for 64-bit x86")
    # What is loaded from the cache was optimised for this processor.
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, __file__, "--json"], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {(target, name): found for target, name, found in json.loads(done.stdout)}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("target", TARGETS)
def test_hot_loop(machine_code, target, name):
    found = machine_code[target, name]
    packed = found["packed"]
    expected = EXPECTED[name]
    if TARGETS[target].bits > link_only._INTERLEAVED_BITS:
        expected = ONE_IN_FLIGHT.get(name, expected)
    for pattern, least in expected.items():
        count = sum(n for each, n in packed.items() if re.fullmatch(pattern, each))
        assert count >= least or (target, pattern) in BY_NUMBER, (
            f"{pattern}: {count} packed instructions, in {packed}"
        )
    conversions = {each for each in packed if re.match("vcvtp[sd]2p[sd]", each)}
    assert conversions <= CONVERTING.get(name, set())
    assert not LIBRARY & set(found["called"]), found["called"]
    assert not found["reorders"]
    assert len(found["scalar loops"]) <= BESIDE.get(name, 0), found["scalar loops"]


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() - ON_STACK))
def test_no_vector_on_the_stack(machine_code, name):
    assert machine_code["AVX-512", name]["spills"] == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
