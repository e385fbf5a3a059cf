"""Special functions inside compiled functions of users: against mpmath over all floats."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from helpers import errors
from scipy import special

from fastelbo.kernels.draws.blocks import LANES
from fastelbo.kernels.vectors.arguments import Arguments
from fastelbo.kernels.vectors.block import compile_block, evaluate

pytestmark = pytest.mark.compiler

RNG = np.random.default_rng(20261130)
MAX, TINY = np.finfo(float).max, np.finfo(float).tiny
EDGES = np.array([0.0, 5e-324, TINY, 1e-9, 0.5, 1.0, 2.0, 1e6, 2.0**53, MAX, np.inf])
EDGES = np.concatenate([EDGES, -EDGES, [np.nan]])


def compiled(function):
    """values(x, ...): the function in lanes."""
    arguments = Arguments(None, ())
    block = compile_block(function, arguments.kind, False, stride=LANES)

    def values(*x):
        z = np.array(x)
        parts = []
        for first in range(0, z.shape[1], LANES):
            status, part = evaluate(block, arguments, z[:, first : first + LANES])
            assert status == 0
            parts.append(part)
        return np.concatenate(parts)

    return values


def positive(low=-1074.0, high=1024.0, n=400):
    """Numbers of all sizes."""
    return np.ldexp(RNG.uniform(0.5, 1.0, n), RNG.integers(int(low), int(high), n, endpoint=True))


def signed(low=-1074.0, high=1024.0, n=400):
    return positive(low, high, n) * RNG.choice([-1.0, 1.0], n)


def beside(*points, n=100):
    """Numbers close to some points."""
    return np.concatenate([point * (1.0 + signed(-52, -3, n)) for point in points])


def between(low, high, n=400):
    return RNG.uniform(low, high, n)


def c_lgamma(x):
    """The C library's, where Python raises, too."""
    pole = x <= 0 and x == np.floor(x)
    return np.inf if pole or abs(x) == MAX else math.lgamma(x)


TURNS = np.arange(-300, 300) * (math.pi / 2)
# Of lgamma, below 0; it has poles at the integers.
ROOTS = (-2.4570247382208006, -2.7476826467274126, -3.143580888349980, -3.955294284858598)


def exact_lgamma(x):
    return mpmath.log(abs(mpmath.gamma(x))) if x < 0 else mpmath.loggamma(x)


def exact_erfc(x):
    return mpmath.erfc(max(min(x, 40), -40))


def exact_expit(x):
    return 1 / (1 + mpmath.exp(-x))


# Name: (function of users, exact, the same by NumPy or SciPy, arguments, ulp).
CASES = {
    "sqrt": (math.sqrt, mpmath.sqrt, np.sqrt, [positive()], 0.5),
    "exp": (math.exp, mpmath.exp, np.exp, [signed(), between(-746, 710)], 1),
    "log": (math.log, mpmath.log, np.log, [positive(), beside(1.0)], 1),
    "log1p": (
        math.log1p, mpmath.log1p, np.log1p,
        [positive(), -positive(high=-1), between(-1, 1), -1.0 + positive(-53, -2)], 2,
    ),
    "expm1": (math.expm1, mpmath.expm1, np.expm1, [signed(), between(-40, 710)], 2),
    "tanh": (math.tanh, mpmath.tanh, np.tanh, [signed(), between(-25, 25)], 3),
    "sin": (math.sin, mpmath.sin, np.sin, [signed(), TURNS, between(-9, 9)], 3),
    "cos": (math.cos, mpmath.cos, np.cos, [signed(), TURNS, between(-9, 9)], 3),
    "tan": (math.tan, mpmath.tan, np.tan, [signed(), TURNS, between(-9, 9)], 4),
    "erf": (math.erf, mpmath.erf, special.erf, [signed(), between(-7, 7), beside(1.0)], 2),
    "erfc": (
        math.erfc, exact_erfc, special.erfc, [signed(), between(-7, 27.5), beside(1.0, 0.5)], 6,
    ),
    "lgamma": (
        math.lgamma, exact_lgamma, np.vectorize(c_lgamma),
        [positive(high=1014), between(0, 12), beside(1.0, 2.0, 5.5), -positive(high=7),
         between(-30, 0), beside(*ROOTS)], 5,
    ),
    "expit": (special.expit, exact_expit, special.expit, [signed(), between(-708, 40)], 3),
}  # fmt: skip


def values(name, x):
    function = CASES[name][0]
    return compiled(lambda z: function(z[0]))(x)


@pytest.mark.parametrize("name", CASES)
def test_over_all_floats(name):
    _, exact, _, parts, allowed = CASES[name]
    x = np.concatenate(parts)
    x = x[np.floor(x) != x] if name == "lgamma" else x
    error = errors(exact, values(name, x), x)
    worst = error.argmax()
    assert error[worst] <= allowed, f"{name}({x[worst]!r}) is off by {error[worst]:.2f} ulp"


@pytest.mark.parametrize("name", CASES)
def test_edges(name):
    with np.errstate(all="ignore"):
        expected = CASES[name][2](EDGES)
    got = values(name, EDGES)
    np.testing.assert_allclose(got, expected, rtol=2e-15, atol=0.0)
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))


def test_digamma():
    """Within 2e-15 or 4 ulp, the larger; there is none for x <= 0."""
    digamma = compiled(lambda z: special.digamma(z[0]))
    x = np.concatenate([positive(), between(0, 12), beside(1.4616321449683622, 6.0)])
    got = digamma(x)
    exact = np.array([float(mpmath.digamma(mpmath.mpf(float(each)))) for each in x])
    infinite = np.isinf(exact)
    np.testing.assert_array_equal(got[infinite], exact[infinite])
    got, exact = got[~infinite], exact[~infinite]
    assert (np.abs(got - exact) <= np.maximum(2e-15, 4.0 * np.spacing(np.abs(exact)))).all()
    edges = [np.inf, MAX, 5e-324, 0.0, -0.0, -0.5, -1.0, -np.inf, np.nan]
    expected = [np.inf, np.log(MAX), -np.inf, *[np.nan] * 6]
    np.testing.assert_allclose(digamma(edges), expected, rtol=2e-15)


# --- of two numbers -----------------------------------------------------------------------------

PAIRS = np.array([*itertools.product(EDGES, EDGES)]).T


def exact_pairs(function, x, y):
    with mpmath.workprec(200):
        return [
            function(mpmath.mpf(a), mpmath.mpf(b))
            for a, b in zip(x.tolist(), y.tolist(), strict=True)
        ]


def gaps(got, exact):
    """Distances; infinities and zeros must be the same."""
    rounded = np.array([float(each) for each in exact])
    infinite = np.isinf(rounded)
    np.testing.assert_array_equal(got[infinite], rounded[infinite])
    with mpmath.workprec(200):
        found = [
            0.0 if skip else float(abs(mpmath.mpf(a) - e))
            for a, e, skip in zip(got.tolist(), exact, infinite, strict=True)
        ]
    return np.array(found), np.where(infinite, 1.0, rounded)


def test_logaddexp():
    """Within 3 ulp of the result or of the larger number, which may cancel."""
    logaddexp = compiled(lambda z: np.logaddexp(z[0], z[1]))
    x = np.concatenate([signed(), between(-800, 800), between(-3, 3), signed(-60, 9)])
    y = np.concatenate([signed(n=400), x[400:800] + between(-50, 50), between(-3, 3), x[1200:]])
    exact = exact_pairs(lambda a, b: max(a, b) + mpmath.log1p(mpmath.exp(-abs(a - b))), x, y)
    off, rounded = gaps(logaddexp(x, y), exact)
    larger = np.maximum(np.abs(rounded), np.abs(np.maximum(x, y)))
    assert (off <= 3.0 * np.spacing(larger)).all()
    with np.errstate(all="ignore"):
        expected = np.logaddexp(*PAIRS)
    np.testing.assert_allclose(logaddexp(*PAIRS), expected, rtol=1e-15)


def test_powers():
    """Within 1.2 + |log(x^y)| / 20 ulp, also where two parts of the logarithm cancel."""
    power = compiled(lambda z: z[0] ** z[1])
    cancelling = [between(0.6, 0.8, 1000), between(1.2, 1.6, 1000)]
    x = np.concatenate([positive(n=600), beside(1.0, n=300), between(0, 3, 300), *cancelling])
    with np.errstate(all="ignore"):
        y = between(-746, 711, x.size) / np.log(x)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    whole = RNG.integers(-40, 40, 400).astype(float)
    x, y = np.concatenate([x, -np.exp2(between(-20, 20))]), np.concatenate([y, whole])
    exact = exact_pairs(mpmath.power, x, y)
    off, rounded = gaps(power(x, y), exact)
    allowed = 1.2 + np.abs(y * np.log(np.abs(x))) / 20.0
    assert (off <= allowed * np.spacing(np.abs(rounded))).all()
    with np.errstate(all="ignore"):
        expected = np.power(*PAIRS)
    np.testing.assert_allclose(power(*PAIRS), expected, rtol=1e-13)


LITERAL_POWERS = {
    -16: lambda z: z[0] ** -16,
    -3: lambda z: z[0] ** -3,
    -1: lambda z: z[0] ** -1,
    0: lambda z: z[0] ** 0,
    1: lambda z: z[0] ** 1,
    2: lambda z: z[0] ** 2,
    3: lambda z: z[0] ** 3,
    7: lambda z: z[0] ** 7,
    16: lambda z: z[0] ** 16,
    17: lambda z: z[0] ** 17,
    0.5: lambda z: z[0] ** 0.5,
    1.5: lambda z: z[0] ** 1.5,
}


@pytest.mark.parametrize("is_literal", [True, False])
@pytest.mark.parametrize("n", LITERAL_POWERS)
def test_constant_powers(n, is_literal):
    """Small integers in the source are products, of half an ulp each; others general powers."""
    power = compiled(LITERAL_POWERS[n] if is_literal else lambda z: z[0] ** n)
    limit = 1000 // max(1, abs(n))
    x = positive(-limit, limit)
    x = np.concatenate([x, -x]) if n == int(n) else x
    off, rounded = gaps(power(x), exact_pairs(mpmath.power, x, np.full(x.size, float(n))))
    general = 1.2 + np.abs(n * np.log(np.abs(x))) / 20.0
    allowed = abs(n) if is_literal and n == int(n) and abs(n) <= 16 else general
    assert (off <= allowed * np.spacing(np.abs(rounded))).all()
    with np.errstate(all="ignore"):
        expected = np.power(EDGES, np.full(EDGES.size, float(n)))
    got = power(EDGES)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(expected[got == 0]))
