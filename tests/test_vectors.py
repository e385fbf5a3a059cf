"""Values in lanes: operations against NumPy and mpmath, users' functions against plain Python."""

import math
import os
import subprocess
import sys

import mpmath
import numba
import numpy as np
import pytest
import scipy.special
from helpers import errors, plainly
from scipy import special

from benchmarks.user_models import banana, linear_gaussian, logistic, poisson, schools
from fastelbo.kernels.draws.blocks import LANES, lanes_for
from fastelbo.kernels.math import elementary, error_function, gamma
from fastelbo.kernels.vectors.arguments import Arguments
from fastelbo.kernels.vectors.block import WIDTH, compile_block, evaluate
from fastelbo.kernels.vectors.errors import NotCompiled
from fastelbo.kernels.vectors.operations import Own
from fastelbo.kernels.vectors.types import LaneIterator, Lanes, LaneVector, Mask

RNG = np.random.default_rng(20261128)
MAX, TINY = np.finfo(float).max, np.finfo(float).tiny
EDGES = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, TINY, MAX, -MAX, 1.0, -1.0])


def compiled(function, params=(), data=None, width=WIDTH):
    """values(z, i): the function in lanes, at draws z (D, n)."""
    arguments = Arguments(data, params)
    block = compile_block(function, arguments.kind, data is not None, stride=LANES, width=width)

    def values(z, i=0):
        parts = []
        for first in range(0, z.shape[1], LANES):
            status, part = evaluate(block, arguments, z[:, first : first + LANES], i)
            assert status == 0
            parts.append(part)
        return np.concatenate(parts)

    return values


def plain(function, z, *args):
    with np.errstate(all="ignore"):
        return np.array([function(column, *args) for column in z.T], dtype=float)


# --- functions ----------------------------------------------------------------------------------


def signs(low, high, n=150):
    return np.outer([-1.0, 1.0], np.exp2(RNG.uniform(low, high, n))).ravel()


POSITIVE = np.exp2(RNG.uniform(-1022, 1023.9, 300))
NEAR_TWO = np.concatenate([1 + signs(-52, -2), 2 + signs(-51, -2), RNG.uniform(0, 12, 800)])
TURNS = np.concatenate([signs(-60, 19.9), RNG.uniform(-7, 7, 500), np.arange(1, 200) * math.pi / 2])
# Name: (scalar, exact, arguments, ulp).
FUNCTIONS = {
    "expm1": (elementary.expm1, mpmath.expm1, np.r_[signs(-60, 6), RNG.uniform(-40, 709, 500)], 2),
    "exp2": (
        elementary.exp2,
        lambda v: mpmath.mpf(2) ** v,
        np.r_[RNG.uniform(-1022, 1023.9, 500), signs(-60, 2)],
        1,
    ),
    "log1p": (
        elementary.log1p_signed,
        mpmath.log1p,
        np.r_[-np.exp2(RNG.uniform(-60, 0, 300)), POSITIVE, RNG.uniform(-1, 1, 300)],
        2,
    ),
    "log2": (
        elementary.log2,
        lambda v: mpmath.log(v) / mpmath.log(2),
        np.r_[POSITIVE, RNG.uniform(0.5, 2, 300)],
        2,
    ),
    "log10": (elementary.log10, mpmath.log10, np.r_[POSITIVE, RNG.uniform(0.5, 2, 300)], 2),
    "tanh": (elementary.tanh, mpmath.tanh, np.r_[signs(-60, 6), RNG.uniform(-3, 3, 500)], 3),
    "sin": (elementary.sin, mpmath.sin, TURNS, 3),
    "cos": (elementary.cos, mpmath.cos, TURNS, 3),
    "tan": (elementary.tan, mpmath.tan, TURNS, 4),
    "erf": (error_function.erf, mpmath.erf, np.r_[signs(-60, 3), RNG.uniform(-3, 3, 500)], 2),
    "erfc": (error_function.erfc, mpmath.erfc, np.r_[signs(-60, 2), RNG.uniform(-6, 26, 700)], 6),
    "lgamma": (gamma.lgamma, mpmath.loggamma, np.r_[POSITIVE[:150], NEAR_TWO], 5),
}


def all_functions(z):
    """The function of FUNCTIONS whose number is the second coordinate."""
    x, k = z
    y = np.where(k == 0, math.expm1(x), np.where(k == 1, np.exp2(x), math.log1p(x)))
    y = np.where(k == 3, np.log2(x), np.where(k == 4, np.log10(x), y))
    y = np.where(k == 5, math.tanh(x), np.where(k == 6, math.sin(x), y))
    y = np.where(k == 7, math.cos(x), np.where(k == 8, math.tan(x), y))
    y = np.where(k == 9, math.erf(x), np.where(k == 10, math.erfc(x), y))
    return np.where(k == 11, math.lgamma(x), y)


@pytest.fixture(scope="module")
def in_lanes():
    values = compiled(all_functions)

    def call(name, x):
        number = np.full(x.size, float(list(FUNCTIONS).index(name)))
        return values(np.array([x, number]))

    return call


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name, in_lanes):
    scalar, exact, x, allowed = FUNCTIONS[name]
    for got in (in_lanes(name, x), plainly(scalar)(x)):
        error = errors(exact, got, x)
        worst = error.argmax()
        assert error[worst] <= allowed, f"{name}({x[worst]!r}) is off by {error[worst]:.2f} ulp"


def lgamma(x):
    """The C library's, where Python raises, too."""
    pole = x <= 0 and x == np.floor(x)
    return np.inf if pole or abs(x) == MAX else math.lgamma(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_edges(name, in_lanes):
    x = np.r_[EDGES, 1e7, -1e300, 800.0, -800.0]
    special = {
        "erf": scipy.special.erf,
        "erfc": scipy.special.erfc,
        "lgamma": np.vectorize(lgamma),
    }
    with np.errstate(all="ignore"):
        expected = special.get(name, getattr(np, name, None))(x)
    got = in_lanes(name, x)
    np.testing.assert_allclose(got, expected, rtol=2e-15, atol=0.0)
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))


def test_digamma():
    x = np.r_[np.exp2(RNG.uniform(-500, 1000, 200)), RNG.uniform(0, 12, 500)]
    got = plainly(gamma.digamma)(x)
    exact = np.array([float(mpmath.digamma(mpmath.mpf(float(each)))) for each in x])
    assert (np.abs(got - exact) <= np.maximum(2e-15, 4 * np.spacing(np.abs(exact)))).all()


def power(z):
    return z[0] ** z[1]


def test_powers():
    x, y = np.exp2(RNG.uniform(-100, 100, 800)), RNG.uniform(-100, 100, 800)
    y = y / np.log(x)
    values = compiled(power)
    got = values(np.array([x, y]))
    with mpmath.workprec(200):
        exact = [
            mpmath.mpf(a) ** mpmath.mpf(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)
        ]
        gaps = [
            abs(float((g - e) / float(np.spacing(float(e)))))
            for g, e in zip(got.tolist(), exact, strict=True)
        ]
    assert (np.array(gaps) <= 1.0 + np.abs(y * np.log(x)) / 25.0).all()
    edges = np.r_[EDGES, 2.0, 3.0, 0.5, -2.0, -0.5]
    z = np.array(np.meshgrid(edges, edges)).reshape(2, -1)
    with np.errstate(all="ignore"):
        expected = np.power(*z)
    np.testing.assert_allclose(values(z), expected, rtol=1e-13)


# --- operations ---------------------------------------------------------------------------------

BINARY = {
    "+": lambda z: z[0] + z[1],
    "-": lambda z: z[0] - z[1],
    "*": lambda z: z[0] * z[1],
    "/": lambda z: z[0] / z[1],
    "%": lambda z: z[0] % z[1],
    "//": lambda z: z[0] // z[1],
    "maximum": lambda z: np.maximum(z[0], z[1]),
    "minimum": lambda z: np.minimum(z[0], z[1]),
    "logaddexp": lambda z: np.logaddexp(z[0], z[1]),
    "sign": lambda z: np.sign(z[0]) + 0.0 * z[1],
    "compared": lambda z: 1.0 * (z[0] < z[1]) + 2.0 * (z[0] == z[1]) + 4.0 * (z[0] != z[1]),
}


@pytest.mark.parametrize("name", BINARY)
def test_operators(name):
    function = BINARY[name]
    numbers = np.r_[EDGES, RNG.normal(size=8), 0.5, 2.0]
    z = np.array(np.meshgrid(numbers, numbers)).reshape(2, -1)
    expected = plain(function, z)
    np.testing.assert_allclose(compiled(function)(z), expected, rtol=1e-15, atol=0.0)


# --- unchanged Python ---------------------------------------------------------------------------


def helper(a, b):
    if a > b:
        return a * 2
    return b


@numba.njit
def before(v, i):
    return v[i - 1] if i > 0 else 0.0


def unpacks(z):
    p, q, r = z
    s = 0.0
    for v in z[1:]:
        s += v * v
    return s + p * math.exp(-abs(q)) + max(p, q, r, 0) + z[-1] + len(z) + z.sum() + (z @ z)


def numpy_style(z, m):
    r = np.exp(-((z - 0.5) ** 2))
    return np.sum(r) + np.dot(m @ z, m @ z) + np.sum(np.where(z > 0, z, 0.0)) + np.max(z)


def ternary(z):
    return 1.0 if z[0] > 0 else z[1]


def branches(z):
    t = 0.0
    if z[0] > 0 and z[1] < 1:
        t += z[0]
        u = t * 2
    elif -1 < z[2] < 0.5:
        u = 5.0
    else:
        u = z[1]
    return t + u


def guards(z):
    if z[0] <= 0:
        return -3.0
    for v in z:
        if v < -1:
            return v
    return z[0] + z[1]


def temporaries(z, y):
    out = np.zeros(3)
    for i in range(3):
        out[i] = helper(z[i], y[i]) + before(y, i) + before(z, i)
    return np.sum(out * out) + np.array([z[0], 2.0]).sum()


def lists(z):
    items = [z[0], 1.0]
    items.append(z[2])
    s = 0.0
    for each in items:
        s += each
    pair = (z[0], z[1])
    return s + pair[0] * pair[1] + abs(z[0]) ** 0.7 + z[0] ** 2 + sum([v * v for v in z])


def in_place(z, y):
    r = z - y
    same = r
    r *= r
    r += 1.0
    out = np.empty(3)
    out[0] = 1.0
    out[1:] = r[:2]
    out[:2] = out[1:]
    out[2:] += y[:1]
    out -= out[::-1] * 0.5
    return np.sum(same) + np.dot(out, r)


MATRIX, Y = RNG.normal(size=(4, 3)), np.array([0.1, 0.2, 0.3])
PROGRAMS = [
    (unpacks, ()), (numpy_style, (MATRIX,)), (ternary, ()), (branches, ()), (guards, ()),
    (temporaries, (Y,)), (lists, ()), (in_place, (Y,)),
]  # fmt: skip


@pytest.mark.parametrize(("function", "params"), PROGRAMS)
def test_unchanged_python(function, params):
    z = RNG.normal(size=(3, 100))
    got = compiled(function, params)(z)
    np.testing.assert_allclose(got, plain(function, z, *params), rtol=1e-13)
    np.testing.assert_array_equal(compiled(function, params, width=1)(z), got)


def test_closure_and_defaults():
    scale = np.array([1.0, 2.0, 4.0])

    def density(z, shift=0.5):
        s = 0.0
        for d in range(3):
            s += scale[d] * (z[d] - shift if z[d] > 0 else z[d])
        return s

    z = RNG.normal(size=(3, 40))
    np.testing.assert_allclose(compiled(density)(z), plain(density, z), rtol=1e-13)


# --- the five models ----------------------------------------------------------------------------


X = RNG.normal(size=(500, 8)) / 3.0
COUNTS = RNG.poisson(2.0, 500)
EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
MODELS = [
    (logistic, 8, None, (X, COUNTS > 1)),
    (schools, 10, None, (EFFECTS, ERRORS)),
    (banana, 2, None, ()),
    (linear_gaussian, 10, RNG.normal(size=(3, 64)), (RNG.normal(size=(64, 10)),)),
    (poisson, 8, None, (X, COUNTS)),
]


@pytest.mark.parametrize(("function", "dim", "data", "params"), MODELS)
def test_models(function, dim, data, params):
    z = RNG.normal(size=(dim, 33))
    point = () if data is None else (data[2],)
    got = compiled(function, params, data)(z, 2)
    np.testing.assert_allclose(got, plain(function, z, *point, *params), rtol=1e-13)


def quotient(z, number):
    return z[0] / number


def test_a_workspace_has_room_for_whole_vectors():
    for draws in (0, 1, 31, 64, 65, 511, 512, 9000):
        assert lanes_for(draws) % WIDTH == 0
        assert min(draws, LANES) <= lanes_for(draws) <= LANES


NEXT = 2.0**-52
DIVISORS = [0.3, -10.0, 2 - NEXT, 2 - 3 * NEXT, 1 + NEXT, 1 + 2**26 * NEXT, math.pi, 1e-200, -1e200,
            4.0, 0.0, math.inf, math.nan, TINY, 5e-324, MAX]  # fmt: skip


@pytest.mark.parametrize("number", DIVISORS)
@pytest.mark.parametrize("width", [1, WIDTH])
def test_division_by_a_number_is_rounded_correctly(number, width):
    """Also at the ends of a binade, where a reciprocal is least exact, and where one overflows."""
    steps = np.arange(2048) * NEXT
    x = np.r_[2 - steps, 1 + steps, signs(-300, 300, 1024), signs(-1074, 1023.9, 512), EDGES]
    with np.errstate(all="ignore"):
        expected, by_constant = x / number, x / 0.3
    got = compiled(quotient, (number,), width=width)(x[None])
    np.testing.assert_array_equal(got, expected)
    kept = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[kept]), np.signbit(expected[kept]))
    constant = compiled(lambda z: z[0] / 0.3, width=width)(x[None])
    np.testing.assert_array_equal(constant, by_constant)


# --- bits, errors, what is left alone -----------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "params"),
    [(schools, (EFFECTS, ERRORS)), (all_functions, ()), (guards, ()), (numpy_style, (MATRIX,))],
)
def test_widths_give_the_same_bits(function, params):
    z = RNG.normal(size=({schools: 10, all_functions: 2}.get(function, 3), 64))
    if function is all_functions:
        z = np.array([np.abs(z[0]), np.arange(64) % 12.0])
    bits = {compiled(function, params, width=w)(z).tobytes() for w in (1, 8, 16, 32)}
    assert len(bits) == 1


def test_numba_keeps_its_own_machine_code():
    """Nothing is registered for numba's functions, but by a key that only values in lanes have."""
    ours = (Lanes, Mask, LaneVector, LaneIterator)
    registry = numba.core.imputils.builtin_registry
    found = 0
    for implementation, key, kinds in registry.functions:
        if not implementation.__module__.startswith("fastelbo.kernels.vectors"):
            continue
        found += 1
        if not isinstance(key, Own):
            assert any(isinstance(each, type) and issubclass(each, ours) for each in kinds), key
    assert found > 100


def special_functions(z, counts):
    s = scipy.special.digamma(z[0]) + special.gammaln(z[1]) + special.expit(z[2] - z[0])
    for count in counts:
        s -= special.gammaln(count + 1) + special.erf(z[0] / count)
    return s + np.sum(special.expm1(-z))


def test_special_functions():
    z = RNG.uniform(0.1, 4.0, size=(3, 50))
    got = compiled(special_functions, (np.array([1, 2, 5]),))(z)
    np.testing.assert_allclose(got, plain(special_functions, z, np.array([1, 2, 5])), rtol=1e-13)


PROCESS = """
import numpy as np
from test_vectors import EFFECTS, ERRORS, all_functions, compiled, guards, schools
z = np.random.default_rng(5).normal(size=(10, 64))
print(compiled(schools, (EFFECTS, ERRORS))(z).tobytes().hex())
print(compiled(guards)(z[:3]).tobytes().hex())
x = np.abs(z[0])
print(compiled(all_functions)(np.array([x, np.arange(64) % 12.0])).tobytes().hex())
powers = np.linspace(-746.0, 710.0, 64)[None]
print(compiled(lambda z: np.exp(z[0]))(powers).tobytes().hex())
print(compiled(lambda z: np.exp2(1.4427 * z[0]) / 0.3)(powers).tobytes().hex())
"""


def test_processors_give_the_same_bits():
    here = os.path.dirname(__file__)
    outputs = set()
    for name in (None, "haswell"):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])}
        if name:
            environment |= {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx,+sse4.2"}
        outputs.add(
            subprocess.check_output([sys.executable, "-c", PROCESS], env=environment, text=True)
        )
    assert len(outputs) == 1


def outside(z, y):
    return z[0] + y[7]


def beyond(z, y):
    return z[7]


@pytest.mark.parametrize("function", [outside, beyond])
def test_errors_give_a_status(function):
    arguments = Arguments(None, (Y,))
    block = compile_block(function, arguments.kind, False, stride=LANES)
    assert evaluate(block, arguments, np.zeros((2, 5)))[0] != 0


def writes(z):
    z[0] = 1.0
    return z[0]


def writes_in_place(z):
    z += 1.0
    return z[0]


def writes_data(z, y):
    y[0] = 1.0
    return z[0]


def loops(z):
    s = z[0]
    while s < 10.0:
        s += 1.0
    return s


@pytest.mark.parametrize("function", [writes, writes_in_place, writes_data, loops])
def test_what_is_rejected(function):
    params = (Y,) if function is writes_data else ()
    message = "read only|writes to data" if "writes" in function.__name__ else "s < 10"
    with pytest.raises(NotCompiled, match=message):
        compiled(function, params)


def test_one_lane_can_branch():
    z = RNG.normal(size=(1, 20))
    np.testing.assert_array_equal(compiled(loops, width=1)(z), plain(loops, z))


def test_ordinary_code_is_untouched():
    x = RNG.normal(size=50)
    ours = numba.njit(lambda v: math.exp(v) + math.erf(v) + max(v, 0.0, 2.0) + abs(v) ** 1.5)
    expected = [math.exp(v) + math.erf(v) + max(v, 0.0, 2.0) + abs(v) ** 1.5 for v in x]
    np.testing.assert_array_equal([ours(v) for v in x], expected)
    sums = numba.njit(lambda v: np.sum(v * 2.0) + v.max() + np.dot(v, v) + np.empty_like(v).size)
    np.testing.assert_allclose(sums(x), np.sum(x * 2) + x.max() + x @ x + 50, rtol=1e-12)
    parts = numba.njit(lambda v: np.where(v > 0, v, 1.0) + np.clip(v, -1.0, 0.5) + np.exp(v))
    expected = np.where(x > 0, x, 1.0) + np.clip(x, -1.0, 0.5) + np.exp(x)
    np.testing.assert_allclose(parts(x), expected, rtol=1e-12)
    one = numba.njit(lambda v: np.where(v > 0, v, 1.0) + np.maximum(v, 0.5))
    assert one(0.25) == 0.75


@pytest.mark.parametrize("value", [{}, "text", [1.0], 1j, np.zeros(2, complex)])
def test_arguments_of_other_kinds(value):
    with pytest.raises(TypeError, match=r"params\[0\] is a"):
        Arguments(None, (value,))


def test_arguments_keep_their_types():
    def density(z, pair, flag, k, x32, strided):
        return z[0] * pair[0] + pair[1][1] + (1.0 if flag else 0.0) + k // 2 + x32[1] + strided[2]

    params = ((2.0, np.array([1.0, 3.0])), True, -5, np.float32([1, 2]), np.arange(10.0)[::3])
    z = RNG.normal(size=(1, 5))
    np.testing.assert_allclose(compiled(density, params)(z), plain(density, z, *params), rtol=1e-13)


@pytest.mark.parametrize("width", [1, 32])
def test_extremes_of_items_that_are_nan(width):
    # Python keeps the first item unless another is beyond it; NumPy gives NaN.
    z = np.array([[1.0, np.nan, 2.0, np.nan], [np.nan, 3.0, 1.0, np.nan]])
    python = [[max(each), min(each)] for each in z.T]
    for k, function in enumerate((lambda z: max(z), lambda z: min(z))):
        got = compiled(function, width=width)(z)
        np.testing.assert_array_equal(got, [each[k] for each in python])
    for function, expected in ((lambda z: np.max(z), np.max), (lambda z: z.min(), np.min)):
        np.testing.assert_array_equal(compiled(function, width=width)(z), expected(z, axis=0))
