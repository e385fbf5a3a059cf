"""Single precision: scalar maths against mpmath from inside a kernel, normals, and estimates."""

import json
import math
import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import scipy.stats as st
from cases import CASES, linear
from helpers import (
    IGNORE_DIAGNOSTICS,
    assert_single_precision,
    bits,
    elementwise,
    errors,
    linear_gaussian,
    plainly,
    ulps,
)

import fastelbo as fe
from fastelbo.kernels.draws.blocks import LANES, make_workspace
from fastelbo.kernels.draws.sampling import standard_normals
from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math import scalar, scalar32

RNG = np.random.default_rng(20240502)
F32 = np.float32
MAX, TINY = np.finfo(F32).max, np.finfo(F32).tiny
EPS = 2.0**-24
KEY = np.uint64(0x0123456789ABCDEF)

# --- scalars ------------------------------------------------------------------------------------


def both_signs(exponents):
    return np.outer([-1.0, 1.0], np.exp2(exponents)).ravel()


ARGUMENTS = {
    "exp": [
        *RNG.uniform(-105.0, 89.0, 4000),
        # Halfway between multiples of log 2, where the reduced argument is largest.
        *((np.arange(-151, 128) + 0.5) * math.log(2.0)),
        *both_signs(RNG.uniform(-40.0, 0.0, 500)),
        *[0.0, -0.0, 88.72283, 88.72284, 88.73, -87.33654, -103.2789, -103.98, -104.0, -200.0],
        *[200.0, MAX, -MAX, 1e-45, -1e-45],
    ],
    "exp_normal": [
        *RNG.uniform(-87.3, 88.0, 4000),
        *((np.arange(-125, 126) + 0.5) * math.log(2.0)),
        *both_signs(RNG.uniform(-40.0, 0.0, 500)),
        *[0.0, -0.0, -87.33654, -1e-45],
    ],
    "log_positive": [
        *np.exp2(RNG.uniform(-126.0, 128.0, 4000)),
        *(1.0 + both_signs(-RNG.uniform(1.0, 24.0, 2000))),
        *[1.0, 2.0, math.sqrt(0.5), math.sqrt(2.0), TINY, MAX],
    ],
    "log1p": [
        *np.exp2(RNG.uniform(-149.0, 128.0, 3000)),
        *np.exp2(RNG.uniform(-30.0, 4.0, 3000)),
        *[0.0, MAX],
    ],
}
ARGUMENTS = {name: np.array(values).astype(F32) for name, values in ARGUMENTS.items()}
ALLOWED = {"exp": 1.0, "exp_normal": 1.0, "log_positive": 1.0, "log1p": 2.0}
EXACT = {
    "exp": mpmath.exp,
    "exp_normal": mpmath.exp,
    "log_positive": mpmath.log,
    "log1p": mpmath.log1p,
}
SPECIAL = {
    "exp": ([np.inf, -np.inf, np.nan, -np.nan], [np.inf, 0.0, np.nan, np.nan]),
    "exp_normal": ([-np.inf, np.nan, -88.0, -104.0], [0.0, np.nan, 0.0, 0.0]),
    "log1p": ([np.inf, np.nan, 0.0, 1e-45], [np.inf, np.nan, 0.0, 1e-45]),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_accuracy(name):
    x = ARGUMENTS[name]
    got = elementwise(getattr(scalar, name))(x)
    assert got.dtype == F32
    error = errors(EXACT[name], got, x)
    worst = error.argmax()
    assert error[worst] <= ALLOWED[name], f"{name}({x[worst]!r}) is off by {error[worst]:.2f} ulp"


@pytest.mark.parametrize("name", ALLOWED)
def test_plain_source_gives_the_same(name):
    function, x = getattr(scalar, name), ARGUMENTS[name]
    compiled, plain = elementwise(function)(x), plainly(function)(x)
    assert plain.dtype == F32
    finite = np.isfinite(compiled)
    np.testing.assert_array_equal(compiled[~finite], plain[~finite])
    assert ulps(plain[finite], compiled[finite]).max() <= 1.0


@pytest.mark.parametrize("how", [elementwise, plainly])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name, how):
    x, expected = (np.array(values, F32) for values in SPECIAL[name])
    np.testing.assert_array_equal(how(getattr(scalar, name))(x), expected)


@kernel
def run_sincos(f, sine, cosine):
    for k in range(f.size):
        sine[k], cosine[k] = scalar32.sincos_right_angles(f[k])


@pytest.mark.parametrize("how", [elementwise, plainly])
def test_quick_exponential(how):
    x = np.append(RNG.uniform(-87.0, 88.0, 2000), [0.0, -88.0, -np.inf, np.nan]).astype(F32)
    with np.errstate(under="ignore"):
        got, exact = how(scalar.exp_quickly)(x), np.exp(x.astype(float))
    np.testing.assert_array_equal(got[-4:], [1.0, 0.0, 0.0, np.nan])
    error = np.abs(got[:-3] / exact[:-3] - 1.0)
    assert (error <= 2.0**-21 + 2.0**-23 * np.abs(x[:-3])).all()


def test_sincos_right_angles():
    near_zeros = both_signs(RNG.uniform(-32.0, -1.0, 1000))
    f = np.concatenate(
        [RNG.uniform(-1.0, 1.0, 2000), near_zeros, 1.0 - np.abs(near_zeros), [0.0, 1.0, -1.0]]
    ).astype(F32)
    sine, cosine = np.empty_like(f), np.empty_like(f)
    run_sincos(f, sine, cosine)
    with mpmath.workprec(200):
        assert errors(lambda v: mpmath.sin(v * mpmath.pi / 2), sine, f).max() <= 2.0
        exact = np.array([float(mpmath.cos(mpmath.mpf(float(v)) * mpmath.pi / 2)) for v in f])
    assert np.abs(cosine - exact).max() <= 2.0 * EPS
    plain_sine, plain_cosine = np.array([scalar32.sincos_right_angles(value) for value in f]).T
    assert plain_sine.dtype == plain_cosine.dtype == F32
    assert ulps(plain_sine, sine).max() <= 2.0
    assert np.abs(plain_cosine - cosine).max() <= 2.0 * EPS


@kernel
def run_radius(high, low, out):
    for k in range(high.size):
        out[k] = scalar.radius(scalar.radius_argument(out[k], high[k], low[k]))


def test_radius_keeps_both_ends_of_the_uniform():
    integers = np.concatenate([[1, 2, 3], np.exp2(RNG.uniform(0.0, 53.0, 2000)).astype(np.int64)])
    half = int(math.sqrt(0.5) * 2**53)
    # Values from both ends, and on both sides of the point where the formula changes.
    numerators = np.concatenate([integers, 2**53 - integers, half + integers // 2**30, [2**53]])
    u = numerators * 2.0**-53
    words = (numerators - 1).astype(np.uint64)
    # The last 11 bits of a low word are not read.
    high, low = (
        words >> np.uint64(21),
        (words << np.uint64(11)) & np.uint64(2**32 - 1) | np.uint64(5),
    )
    out = np.empty(u.size, F32)
    run_radius(high, low, out)
    assert errors(lambda v: mpmath.sqrt(-2.0 * mpmath.log(v)), out, u).max() <= 2.0
    # With a 32-bit word it would be 6.66 sigma.
    assert out.max() == pytest.approx(math.sqrt(2 * 53 * math.log(2.0)), rel=1e-6)
    assert out.min() == 0.0
    arguments = [scalar.radius_argument(F32(0.0), *pair) for pair in zip(high, low, strict=True)]
    plain = [scalar.radius(argument) for argument in arguments]
    assert ulps(np.array(plain), out)[out > 0.0].max() <= 2.0


# --- normals ------------------------------------------------------------------------------------


@kernel
def run_normals(like, dim, key, first, n):
    work = make_workspace(dim, like)
    standard_normals(work, dim, key, np.uint64(0), first, n)
    return work.v


def normals(dtype, dim, first, n=LANES):
    return run_normals(np.empty(0, dtype), dim, KEY, np.uint64(first), n)[:dim, :n]


@pytest.mark.parametrize("first", [0, 2**32 - 100, 2**40 - LANES])
def test_normals_are_those_of_float64(first):
    exact, got = normals(np.float64, 1000, first), normals(F32, 1000, first)
    assert got.dtype == F32
    # The error is relative to the radius, which a pair shares, because an angle has 32 bits.
    radius = np.hypot(exact[::2], exact[1::2]).repeat(2, axis=0)
    assert (np.abs(got - exact) / radius).max() <= 4.0 * EPS


@kernel
def run_power_sums(like, key, n_blocks, sums):
    work = make_workspace(8, like)
    for b in range(n_blocks):
        standard_normals(work, 8, key, np.uint64(0), np.uint64(b * LANES), LANES)
        for d in range(8):
            for k in range(LANES):
                value = np.float64(work.v[d, k])
                power = 1.0
                for m in range(sums.size):
                    power *= value
                    sums[m] += power


def test_moments_of_normals():
    # 5 SE of 4 million draws: catches errors of .0025 in the mean, .0035 in the variance.
    n_blocks = 1000
    sums = np.zeros(8)
    run_power_sums(np.empty(0, F32), KEY, n_blocks, sums)
    n = 8 * LANES * n_blocks
    moments = np.array([st.norm.moment(m) for m in range(1, 17)])
    variance = moments[1::2] - moments[:8] ** 2
    assert (np.abs(sums / n - moments[:8]) <= 5.0 * np.sqrt(variance / n)).all()
    sample = np.concatenate([normals(F32, 8, b * LANES).ravel() for b in range(250)])
    assert st.kstest(sample, st.norm.cdf).pvalue > 1e-3


# --- log densities ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_accuracy_of_terms(case):
    assert_single_precision(*case(), 700)


@pytest.mark.parametrize("ratio", [1e2, 1e3, 1e4])
def test_accuracy_of_a_narrow_density(ratio):
    # Some draws are near the peak of p. There the rounding of a draw counts ``ratio`` times.
    p, q = fe.Gaussian([1.5], scale=1.0 / ratio), fe.Gaussian([0.0], scale=1.0)
    exact = fe.elbo_terms(p, q, 10**6, rng=1).log_prior
    got = fe.elbo_terms(p, q, 10**6, rng=1, precision="float32").log_prior
    drop = np.maximum(p.log_prob(p.mean) - exact, 0.0)
    assert drop.min() < 10.0
    assert (np.abs(got - exact) <= 2e-6 * (10.0 + drop + ratio * np.sqrt(drop))).all()


def test_constants_of_any_size_are_kept():
    # Constants of 3.5 million nats, which float32 would round to quarters.
    model, q = linear(dim=2, features=200_000, variance=1e-9, spread=1e-7)
    exact = fe.log_weights(model, q, 100, rng=1)
    assert np.abs(exact).min() > 1e6
    single = fe.log_weights(model, q, 100, rng=1, precision="float32")
    assert np.abs(single - exact).max() < 0.01


def test_components_are_chosen_as_in_float64():
    # Components are so far apart that log q shows which one was drawn.
    q = fe.Mixture(
        [0.2, 0.5, 0.3], fe.Gaussian([[0.0], [50.0], [-80.0]], scale=[[1.0], [3.0], [9.0]])
    )
    exact = fe.elbo_terms(q, q, 5000, rng=1).log_q
    got = fe.elbo_terms(q, q, 5000, rng=1, precision="float32").log_q
    np.testing.assert_allclose(got, exact, atol=2e-5)


@pytest.mark.parametrize("df", [0.1, 0.7, 5.0, 1e10, 1e300])
def test_degrees_of_freedom(df):
    # The chi-square accepts the same proposals as in float64, so that draws correspond.
    q = fe.StudentT(df, np.zeros(3), scale=1.0)
    p = fe.StudentT(0.5, np.ones(3), scale=2.0)
    exact = fe.elbo_terms(p, q, 5000, rng=1)
    got = fe.elbo_terms(p, q, 5000, rng=1, precision="float32")
    assert np.isfinite(got.log_weights).all()
    # For smaller df, draws end at 10^15 scales.
    if df > 0.5:
        np.testing.assert_allclose(got.log_q, exact.log_q, rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(got.log_prior, exact.log_prior, rtol=1e-5, atol=2e-5)


# --- estimates ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
@pytest.mark.parametrize("case", ["every_batch", "plain_t", "plain_mixture"])
def test_threads(case):
    model, q = CASES[case]()
    options = {"rng": 3, "precision": "float32"}
    one = fe.estimate(model, q, 20_000, n_threads=1, **options)
    assert bits(one) == bits(fe.estimate(model, q, 20_000, n_threads=2, **options))


@pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
def test_minibatches():
    model, q = linear("full", "mixture", model_batch=(7,), q_batch=(7,))
    options = {"rng": 3, "precision": "float32"}
    whole = fe.log_weights(model, q, 3000, **options)
    part = fe.LinearGaussian(
        model.x[4:], model.loadings, noise_cov=model.noise_cov, offset=model.offset,
        prior=model.prior,
    )  # fmt: skip
    tail = fe.Gaussian(q.mean[4:], scale_tril=q.scale_tril[4:])
    np.testing.assert_array_equal(
        fe.log_weights(part, tail, 3000, first_index=4, **options), whole[4:]
    )


def test_estimate_is_near_that_of_float64():
    model, q = linear_gaussian(), fe.Gaussian([0.4], scale=0.7)
    exact = fe.estimate(model, q, 100_000, rng=0).to_dict()
    got = fe.estimate(model, q, 100_000, rng=0, precision="float32").to_dict()
    assert got["log_evidence"].dtype == np.float64
    assert got["log_evidence"] != exact["log_evidence"]
    for name in ("log_evidence", "elbo", "kl", "log_evidence_se", "ess", "iw_elbo_10"):
        np.testing.assert_allclose(got[name], exact[name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(got["log_evidence"], model.exact_log_evidence(), atol=0.01)


def test_numpy_backend_computes_in_float64():
    model, q = CASES["plain_mixture"]()
    options = {"rng": 1, "backend": "numpy"}
    np.testing.assert_array_equal(
        fe.log_weights(model, q, 50, precision="float32", **options),
        fe.log_weights(model, q, 50, **options),
    )


@pytest.mark.parametrize("precision", ["float16", "single", None, np.float32])
@pytest.mark.parametrize("function", [fe.estimate, fe.elbo_terms, fe.log_weights])
def test_unknown_precision(function, precision):
    p = fe.Gaussian([0.0], scale=1.0)
    with pytest.raises(
        fe.errors.InvalidInputError, match='precision must be "float64" or "float32"'
    ):
        function(p, p, 10, precision=precision)


def test_parameters_beyond_float32():
    p, q = fe.Gaussian([0.0], scale=1e-20), fe.Gaussian([0.0], scale=1.0)
    with pytest.raises(fe.errors.InvalidInputError, match=r'precision must be "float64".*1e\+20'):
        fe.log_weights(p, q, 10, precision="float32")


PLAIN = """
import numpy as np, fastelbo as fe
q = fe.Mixture([0.5, 0.5], fe.StudentT([3.0, 8.0], [[0.0], [1.0]], scale=1.0))
print(fe.log_weights(fe.Gaussian([0.5], scale=2.0), q, 20, rng=1, precision="float32").tolist())
"""


def test_runs_without_a_compiler():
    def run(**environment):
        done = subprocess.run(
            [sys.executable, "-c", PLAIN], env=os.environ | environment, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return np.array(json.loads(done.stdout))

    np.testing.assert_allclose(run(NUMBA_DISABLE_JIT="1"), run(), rtol=1e-5, atol=1e-5)
