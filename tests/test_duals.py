"""Dual numbers in lanes: each rule against mpmath, whole functions against differences and hand."""

import math
import re

import mpmath
import numba
import numpy as np
import pytest
from scipy import special
from test_vectors import EFFECTS, ERRORS, MATRIX, MODELS, PROGRAMS, compiled, plain

from benchmarks.user_models import schools
from fastelbo.kernels.draws.blocks import LANES
from fastelbo.kernels.vectors.arguments import Arguments
from fastelbo.kernels.vectors.calls import call_gradient_block
from fastelbo.kernels.vectors.derivatives import RULES
from fastelbo.kernels.vectors.errors import NotCompiled
from fastelbo.kernels.vectors.gradient_block import compile_duals, partials_of, width_of
from fastelbo.kernels.vectors.operations import OPERATIONS

RNG = np.random.default_rng(20261129)


def differentiated(function, params=(), data=None, *, dim, width=None):
    """gradient(z, i): values (n,) and slopes (D, n) at draws z (D, n)."""
    arguments = Arguments(data, params)
    width = width or width_of(dim)
    block = compile_duals(
        function, arguments.kind, data is not None, dim=dim, stride=LANES, width=width
    )

    def gradient(z, i=0):
        n = z.shape[1]
        room, out, slopes = np.zeros((dim, LANES)), np.empty(LANES), np.empty((dim, LANES))
        room[:, :n] = z
        assert not call_gradient_block(block.address, arguments.address, room, i, n, out, slopes)
        return out[:n], slopes[:, :n]

    return gradient


# --- rules --------------------------------------------------------------------------------------


def of_one(z):
    """The function of ONE whose number is the second coordinate."""
    x, k = z
    y = np.where(k == 0, np.exp(x), np.where(k == 1, np.log(x), np.log1p(x)))
    y = np.where(k == 3, np.expm1(x), np.where(k == 4, np.exp2(x), y))
    y = np.where(k == 5, np.log2(x), np.where(k == 6, math.log10(x), y))
    y = np.where(k == 7, math.tanh(x), np.where(k == 8, math.sin(x), y))
    y = np.where(k == 9, np.cos(x), np.where(k == 10, np.tan(x), y))
    y = np.where(k == 11, math.erf(x), np.where(k == 12, math.erfc(x), y))
    y = np.where(k == 13, math.lgamma(x), np.where(k == 14, math.gamma(x), y))
    y = np.where(k == 15, special.expit(x), np.where(k == 16, math.sqrt(x), y))
    y = np.where(k == 17, abs(-x), np.where(k == 18, np.square(x), y))
    y = np.where(k == 19, np.floor(x) + np.sign(x) + np.rint(x), np.where(k == 20, -x, y))
    y = np.where(k == 21, 1.0 / x, np.where(k == 22, x**3, y))
    y = np.where(k == 23, x**-2, np.where(k == 24, x**0.5, y))
    y = np.where(k == 25, x**0.3, np.where(k == 26, x**0, y))
    y = np.where(k == 27, 2.0**x, np.where(k == 28, x / 3.0, y))
    return np.where(k == 29, np.logaddexp(x, 0.5), y)


ONE = [
    mpmath.exp, mpmath.log, mpmath.log1p, mpmath.expm1, lambda x: mpmath.mpf(2) ** x,
    lambda x: mpmath.log(x, 2), mpmath.log10, mpmath.tanh, mpmath.sin, mpmath.cos, mpmath.tan,
    mpmath.erf, mpmath.erfc, mpmath.loggamma, mpmath.gamma, lambda x: 1 / (1 + mpmath.exp(-x)),
    mpmath.sqrt, abs, lambda x: x * x, lambda x: mpmath.mpf(0), lambda x: -x, lambda x: 1 / x,
    lambda x: x**3, lambda x: x**-2, mpmath.sqrt, lambda x: x ** mpmath.mpf(0.3),
    lambda x: mpmath.mpf(1), lambda x: mpmath.mpf(2) ** x, lambda x: x / 3,
    lambda x: mpmath.log(mpmath.exp(x) + mpmath.exp(0.5)),
]  # fmt: skip
POINTS = np.array([0.013, 0.3, 0.77, 1.2, 1.9, 2.6, 4.3, 11.4])


def test_every_function_of_one_number():
    numbers = np.arange(float(len(ONE)))
    z = np.array(np.meshgrid(POINTS, numbers)).reshape(2, -1)
    values, slopes = differentiated(of_one, dim=2)(z)
    np.testing.assert_array_equal(values, compiled(of_one)(z))
    with mpmath.workdps(40):
        exact = [float(mpmath.diff(ONE[int(k)], mpmath.mpf(x))) for x, k in z.T]
    np.testing.assert_allclose(slopes[0], exact, rtol=1e-13, atol=2e-16)
    assert not slopes[1].any()


def of_two(z):
    """The function of TWO whose number is the third coordinate."""
    x, y, k = z
    r = np.where(k == 0, x + y, np.where(k == 1, x - y, x * y))
    r = np.where(k == 3, x / y, np.where(k == 4, x % y, r))
    r = np.where(k == 5, x // y, np.where(k == 6, x**y, r))
    r = np.where(k == 7, np.logaddexp(x, y), np.where(k == 8, max(x, y, 0.5), r))
    r = np.where(k == 9, min(x, y), np.where(k == 10, np.maximum(x, y), r))
    r = np.where(k == 11, np.minimum(x, y), np.where(k == 12, np.fmax(x, y), r))
    r = np.where(k == 13, np.fmin(x, y), np.where(k == 14, math.copysign(x, y), r))
    r = np.where(k == 15, np.clip(x, 0.5, y), np.where(k == 16, x * y + x, r))
    r = np.where(k == 17, x * y - y, np.where(k == 18, x - x * y, r))
    r = np.where(k == 19, y + x * y, r)
    r += np.where(k == 20, x * x, 0.0) - 0.5 * np.where(k == 20, y, 0.0)
    return r - y * np.where(k == 21, x, 0.0)


def signed(x, y):
    return abs(x) if y > 0 else -abs(x)


TWO = [
    lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: x / y,
    lambda x, y: x - y * mpmath.floor(x / y), lambda x, y: mpmath.mpf(0), lambda x, y: x**y,
    lambda x, y: mpmath.log(mpmath.exp(x) + mpmath.exp(y)), lambda x, y: max(x, y, 0.5), min, max,
    min, max, min, signed, lambda x, y: min(max(x, 0.5), y), lambda x, y: x * y + x,
    lambda x, y: x * y - y, lambda x, y: x - x * y, lambda x, y: y + x * y,
    lambda x, y: x * y + x * x - y / 2, lambda x, y: mpmath.mpf(0),
]  # fmt: skip
PAIRS = np.array([[0.3, 1.7], [1.9, 0.7], [2.6, 5.1], [0.2, 0.31], [7.7, 2.1]]).T


def test_every_operation_on_two_numbers():
    z = np.array([(*pair, k) for k in range(len(TWO)) for pair in PAIRS.T]).T
    values, slopes = differentiated(of_two, dim=3)(z)
    np.testing.assert_array_equal(values, compiled(of_two)(z))
    with mpmath.workdps(40):
        exact = [
            [float(mpmath.diff(TWO[int(k)], (mpmath.mpf(x), mpmath.mpf(y)), order))
             for x, y, k in z.T]
            for order in ((1, 0), (0, 1))
        ]  # fmt: skip
    np.testing.assert_allclose(slopes[:2], exact, rtol=1e-13, atol=1e-15)
    assert not slopes[2].any()


def test_every_operation_on_numbers_has_a_rule():
    """All but those that give masks, those that are several, and what has none by purpose."""
    without = {
        target
        for target, alike in OPERATIONS.items()
        for each in alike
        if not each.gives_mask and hasattr(each.emit, "__wrapped__")
        and not any(other in RULES for other, same in OPERATIONS.items() if each in same)
    }  # fmt: skip
    assert without == {special.digamma}


EDGE_CASES = {
    "a power of 0": (lambda z: z[0] ** 3 + z[0] ** 1 + z[0] ** 0, [[0.0]], [1.0]),
    "0 to a positive power": (lambda z: z[0] ** z[1], [[0.0], [2.0]], [0.0, 0.0]),
    "what is not chosen": (
        lambda z: np.where(z[0] > 0, np.log(z[0]), 2.0 * z[0]), [[0.0]], [2.0],
    ),
    "beyond the range of exp": (lambda z: np.logaddexp(z[0], z[1]), [[900.0], [0.0]], [1.0, 0.0]),
    "-inf has no weight": (
        lambda z: np.logaddexp(z[0], np.where(z[0] > 0, -math.inf, 0.0)), [[3.0]], [1.0],
    ),
    "a number": (lambda z: 3, [[1.0]], [0.0]),
    "a truth": (lambda z: z[0] > 0, [[1.0]], [0.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGE_CASES)
def test_edges(name):
    function, z, expected = EDGE_CASES[name]
    _, slopes = differentiated(function, dim=len(z))(np.array(z))
    np.testing.assert_array_equal(slopes[:, 0], expected)


# --- whole functions ----------------------------------------------------------------------------


def differences(function, z, params, step=1e-6):
    """Central differences (D, n) of plain Python."""
    shifts = step * np.eye(len(z))[:, :, None]
    both = (plain(function, z + sign * each, *params) for each in shifts for sign in (1, -1))
    values = np.array(list(both)).reshape(len(z), 2, -1)
    return (values[:, 0] - values[:, 1]) / (2.0 * step)


@pytest.mark.parametrize(("function", "params"), PROGRAMS)
def test_unchanged_python(function, params):
    z = RNG.normal(size=(3, 40))
    values, slopes = differentiated(function, params, dim=3)(z)
    np.testing.assert_array_equal(values, compiled(function, params)(z))
    np.testing.assert_allclose(slopes, differences(function, z, params), rtol=1e-6, atol=1e-8)


def loops(z):
    """z steers a loop, so that it runs for one draw at a time."""
    total, k = 0.0, 0
    while total < z[0]:
        total += 0.25 * z[1] ** 2 + 0.1
        k += 1
    return total * math.exp(-z[1]) if z[0] > 0.5 else -z[0] * k


def test_one_draw_at_a_time():
    z = np.abs(RNG.normal(size=(2, 30)))
    with pytest.raises(NotCompiled) as caught:
        differentiated(loops, dim=2)
    assert caught.value.one_lane
    values, slopes = differentiated(loops, dim=2, width=1)(z)
    np.testing.assert_array_equal(values, compiled(loops, width=1)(z))
    np.testing.assert_allclose(slopes, differences(loops, z, ()), rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("function", "dim", "data", "params"), [MODELS[1]])
def test_widths_give_the_same_bits(function, dim, data, params):
    z = RNG.normal(size=(dim, 19))
    found = [
        differentiated(function, params, data, dim=dim, width=width)(z, 0) for width in (1, 4, 8)
    ]
    assert len({values.tobytes() for values, _ in found}) == 1
    assert len({slopes.tobytes() for _, slopes in found}) == 1
    np.testing.assert_array_equal(found[0][0], compiled(function, params, data)(z, 0))


def schools_by_hand(z):
    """The gradient of `schools`, (D, n)."""
    mu, tau, eta = z[0], np.exp(z[1]), z[2:]
    pull = (EFFECTS[:, None] - mu - tau * eta) / ERRORS[:, None] ** 2
    square = (tau / 5.0) ** 2
    of_tau = 1.0 - 2.0 * square / (1.0 + square) + tau * (pull * eta).sum(0)
    return np.concatenate([[pull.sum(0) - mu / 25.0, of_tau], tau * pull - eta])


def test_eight_schools_by_hand():
    z = RNG.normal(size=(10, LANES)) * 1.5
    values, slopes = differentiated(schools, (EFFECTS, ERRORS), dim=10)(z)
    exact = schools_by_hand(z)
    assert (abs(slopes - exact) <= 1e-12 * np.maximum(1.0, abs(exact))).all()
    np.testing.assert_array_equal(values, compiled(schools, (EFFECTS, ERRORS))(z))


def chain(z):
    total = -0.5 * z[0] ** 2
    for d in range(1, len(z)):
        total -= 0.5 * (z[d] - 0.9 * math.sin(z[d - 1])) ** 2
    return total


@pytest.mark.parametrize("dim", [1, 16, 17, 45])
def test_more_coordinates_take_several_passes(dim):
    z = RNG.normal(size=(dim, 21))
    rest = z[1:] - 0.9 * np.sin(z[:-1])
    exact = np.concatenate([-z[:1], -rest])
    exact[:-1] += rest * 0.9 * np.cos(z[:-1])
    values, slopes = differentiated(chain, dim=dim)(z)
    np.testing.assert_allclose(slopes, exact, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(values, plain(chain, z), rtol=1e-13)


def test_partials_are_shared_out_evenly():
    assert [partials_of(dim) for dim in (1, 10, 16, 17, 33, 45)] == [1, 10, 16, 9, 11, 15]


# --- calls and code -----------------------------------------------------------------------------


@numba.njit
def from_a_kernel(address, arguments, z, out, slopes):
    return call_gradient_block(address, arguments, z, 0, z.shape[1], out, slopes)


def fails(z, x):
    if x[0] > 0:
        raise ValueError("no")
    return z[0] * x[1]


def test_calls_from_kernels_and_their_status():
    z = RNG.normal(size=(1, LANES))
    out, slopes = np.empty(LANES), np.empty((1, LANES))
    for first, status in ((0.0, 0), (1.0, 1)):
        arguments = Arguments(None, (np.array([first, 3.0]),))
        block = compile_duals(fails, arguments.kind, False, dim=1, stride=LANES, width=8)
        got = from_a_kernel(block.address, arguments.address, z, out, slopes)
        assert bool(got) == bool(status)
    np.testing.assert_array_equal(out, 3.0 * z[0])  # what the call that failed left as it was
    assert (slopes == 3.0).all()


def without_a_rule(z):
    total = z[0] ** 2
    return total + special.digamma(z[0])


def test_an_operation_without_a_rule_names_its_line():
    with pytest.raises(NotCompiled, match=r"no derivative.*total \+ special.digamma") as caught:
        differentiated(without_a_rule, dim=1)
    assert not caught.value.one_lane


def test_partials_are_computed_in_vectors():
    """No arithmetic on single numbers, and no sum of partials by a product and a sum apart."""
    arguments = Arguments(None, (EFFECTS, ERRORS))
    block = compile_duals(schools, arguments.kind, False, dim=10, stride=LANES, width=4)
    (code,) = block.keep.inspect_asm().values()
    packed = re.findall(r"\bv?(?:f[n]?m(?:add|sub)\d+|mul|add|sub)pd\b", code)
    single = re.findall(r"\bv?(?:f[n]?m(?:add|sub)\d+|mul|add|sub)sd\b", code)
    if packed or single:  # of an x86 processor
        assert len(packed) > 100
        assert len(single) < 10


def test_values_of_matrices():
    def density(z):
        r = MATRIX @ z
        return -0.5 * np.sum(r * r) + np.mean(z) + np.prod(z) - np.max(z)

    z = RNG.normal(size=(3, 25))
    _, slopes = differentiated(density, dim=3)(z)
    exact = -MATRIX.T @ (MATRIX @ z) + 1.0 / 3.0
    exact += np.array([z[1] * z[2], z[0] * z[2], z[0] * z[1]])
    exact -= z == z.max(0)
    np.testing.assert_allclose(slopes, exact, rtol=1e-13, atol=1e-14)
