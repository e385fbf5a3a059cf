"""Users' densities have the same bits at all widths, on all processors and on all threads."""

import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import special
from test_vectorised import HASWELL, host_is_wide

import fastelbo as fe
from benchmarks.user_models import MODELS
from fastelbo.kernels.draws.blocks import LANES
from fastelbo.kernels.vectors.arguments import Arguments
from fastelbo.kernels.vectors.block import compile_block, evaluate

WIDTHS = (1, 8, 16, 32)
THREADS = (1, 2)
SKYLAKE = HASWELL | {
    "NUMBA_CPU_NAME": "skylake-avx512",
    "NUMBA_CPU_FEATURES": HASWELL["NUMBA_CPU_FEATURES"]
    + ",+avx512f,+avx512dq,+avx512cd,+avx512bw,+avx512vl",
}

# Groups of a few functions, each of which is compiled at once.


def exponentials(x, y):
    return math.exp(x), math.expm1(x), np.exp2(x), math.tanh(x), special.expit(x)


def logarithms(x, y):
    return math.log(x), math.log1p(x), np.log2(x), np.log10(x), np.logaddexp(x, y)


def circular(x, y):
    return math.sin(x), math.cos(x), math.tan(x)


def gammas(x, y):
    return math.lgamma(x), math.gamma(x), special.digamma(x), math.erf(x), math.erfc(x)


def powers(x, y):
    return x**y, x**3, x**-2, x**0.5, math.sqrt(x), abs(x) ** 1.7, 1.5**x


def arithmetic(x, y):
    return x + y * x, x * y - y, x / y, x % y, x // y, y - x * y, math.copysign(x, y)


def extremes(x, y):
    return (
        min(x, y),
        max(x, y, 0.0),
        np.minimum(x, y),
        np.maximum(x, y),
        np.fmin(x, y),
        np.fmax(x, y),
    )


def rounded(x, y):
    return math.floor(x), math.ceil(x), math.trunc(x), np.rint(x), np.sign(x), np.clip(x, -1.0, y)


def compared(x, y):
    both = 1.0 * (x < y) + 2.0 * (x == y) + 4.0 * math.isnan(x) + 8.0 * math.isfinite(y)
    return both, np.where(x < y, x, y), x if x > y else 2.0 * y, math.isinf(x) + 0.0


GROUPS = (
    exponentials, logarithms, circular, gammas, powers, arithmetic, extremes, rounded, compared,
)  # fmt: skip


def chosen(group):
    """A density: the value of a group whose number is the third coordinate."""

    def density(z):
        result = 0.0
        values = group(z[0], z[1])
        for k in range(len(values)):
            result = np.where(z[2] == k, values[k], result)
        return result

    return density


def sums(z, w):
    """What adds up in an order."""
    total = np.sum(np.exp(z)) + np.dot(z, z) + np.sum(w @ z) + z.mean() + np.prod(1.0 + 0.1 * z)
    for v in z[1:]:
        total += v * v
    return total + sum([math.sin(v) for v in z]) + np.max(z) - np.min(z)


def pairs():
    """Edges and other numbers x, y (2, n), and each with the number of a function (3, m)."""
    edges = [0.0, np.inf, np.nan, 5e-324, np.finfo(float).tiny, np.finfo(float).max, 0.5, 1.0, 3.0]
    edges = [sign * each for each in edges for sign in (1.0, -1.0)]
    rng = np.random.default_rng(3)
    far = np.exp2(rng.uniform(-30.0, 30.0, (2, 300))) * rng.choice([-1.0, 1.0], (2, 300))
    both = np.concatenate(
        [np.array([*itertools.product(edges, edges)]).T, far, 3 * rng.normal(size=(2, 500))], 1
    )
    count = max(len(group(0.5, 0.5)) for group in GROUPS)
    return np.concatenate([np.repeat(both, count, 1), [np.tile(np.arange(count), both.shape[1])]])


def hashed(values):
    """A digest of bits; one NaN is as good as another."""
    values = np.where(np.isnan(values), np.nan, values)
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


def evaluated(function, params, z, width):
    arguments = Arguments(None, params)
    block = compile_block(function, arguments.kind, False, stride=LANES, width=width)
    found = []
    for first in range(0, z.shape[1], LANES):
        status, values = evaluate(block, arguments, z[:, first : first + LANES])
        assert status == 0
        found.append(values)
    return np.concatenate(found)


def main(*widths):
    """Print hashes of what each function gives at each width, and on each number of threads."""
    found = {}
    z = pairs()
    rng = np.random.default_rng(1)
    cases = {group.__name__: (chosen(group), (), z) for group in GROUPS}
    cases["sums"] = sums, (rng.normal(size=(5, 7)),), rng.normal(size=(7, 100))
    for name, model in MODELS.items():
        cases[name] = model.function, model.params, model.draws(700).T.copy()
    for name, case in cases.items():
        found[name] = [hashed(evaluated(*case, width)) for width in widths]
    for name, (function, dim, params) in MODELS.items():
        model = fe.Model(log_joint=function, dim=dim, params=params)
        q = fe.Gaussian(np.zeros(dim), scale=0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[f"{name}, draws"] = [
                hashed(fe.log_weights(model, q, 20_000, rng=0, n_threads=n)) for n in THREADS
            ]
    print(json.dumps(found))


# --- tests --------------------------------------------------------------------------------------


def run(target, widths):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | target
    done = subprocess.run(
        [sys.executable, __file__, *map(str, widths)], env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.compiler
def test_widths_threads_and_processors_give_the_same_bits():
    if not host_is_wide():
        pytest.skip("needs an x86 processor with AVX2")
    from llvmlite.binding import get_host_cpu_features

    # A processor with AVX2 alone differs little from another one.
    widest = get_host_cpu_features().get("avx512vl")
    found = {"host": run({}, WIDTHS), "haswell": run(HASWELL, WIDTHS if widest else WIDTHS[1:2])}
    if widest:
        found["skylake"] = run(SKYLAKE, WIDTHS)
    expected = {name: {hashes[0]} for name, hashes in found["host"].items()}
    assert len(expected) == len(GROUPS) + 1 + 2 * len(MODELS)
    for name in expected:
        assert {each for hashes in found.values() for each in hashes[name]} == expected[name], name


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
