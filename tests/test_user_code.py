"""Python of odd forms: compiled code gives what plain Python gives, at ordinary and extreme z."""

import math
import warnings

import numpy as np
import pytest

from fastelbo.kernels.draws.blocks import LANES
from fastelbo.kernels.vectors.arguments import Arguments
from fastelbo.kernels.vectors.block import compile_block, evaluate
from fastelbo.kernels.vectors.errors import NotCompiled

pytestmark = pytest.mark.compiler

RNG = np.random.default_rng(141)
EXTREME = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 1e-300, 1e300, -1e300, 1e18, 709.0, -745.0, 1e-9]
Z = np.concatenate([1.5 * RNG.normal(size=(3, 60)), RNG.choice(EXTREME, (3, 120))], axis=1)
WEIGHTS, COUNTS = np.array([0.5, 2.0, -1.0]), np.array([3, -2, 0])
TRUTHS, TABLE = np.array([True, False, True]), np.array([1.0, 2.0, 3.0])


def slices(z, w, n, b):
    s = np.sum(z[::2]) + z[::-1][0] + 2 * z[-1:0:-1][1] + np.sum(z[1:10]) + np.sum(z[5:])
    return s + len(z[-10:2]) + z[1:][::-1][0] + z[-1] * n[1] + z[n[1]]


def views_and_copies(z, w, n, b):
    t = z * 1.0
    part = t[1:]
    part[0] = 7.0
    t[2] = 9.0
    other = t
    other += w
    own = t.copy()
    own[0] = 100.0
    t[1:] = t[:-1]
    t[1:] += t[:-1]
    return t[0] + 2 * t[1] + 3 * t[2] + np.sum(own) + part[1] * z[1]


def loops(z, w, n, b):
    s = 0.0
    for i, v in enumerate(z, 1):
        s += i * v
    for a, c in zip(z[:-1], w):  # noqa: B905
        s += max(a - c, -3.0)
    for i in range(2, -1, -1):
        s = 0.5 * s + z[i]
    else:
        s += 1.0
    k = 0
    while True:
        last = z[k]
        k += 1
        if k == len(z):
            break
    return s + last + i + sum(v * 2.0 for v in z)


def truths_of_numbers(z, w, n, b):
    empty = ""
    total = (z[0] and z[1]) + (z[1] or 3) + (not z[2]) * 2.0 + float(bool(z[0]))
    if n[0] and z[0] > 0 and not (n[2] or z[1]):
        total += 4.0
    if empty or z[2]:
        total += 8.0
    return total + (16.0 if not 0 < z[0] <= z[1] < 3 else 0.0) + (z[0] != z[1] != z[2]) * 1.0


def data_of_truths(z, w, n, b):
    s = 0.0
    for j in range(3):
        if b[j]:
            s += z[j]
        elif z[j] > 0:
            s -= 2.0 * z[j]
    count = 0
    for each in b:
        count += each
    s += z[0] * sum(b) + b.sum() * z[1] + z @ b + count + z[1] * (1 - b[0]) + np.sum(TABLE[b])
    return s + z[int(b[0])] + float(b[1]) + float(z[0] > 0) + np.sum(np.where(b, z, 0.0))


def data_of_integers(z, w, n, b):
    s = z[0] * (n[1] // n[0]) + n[1] % n[0] + z[1] * (n[0] / n[1]) + n[0] ** 2 + n[1] ** 3
    s += z[2] ** n[0] + 2.0 ** n[1] + abs(n[1]) + max(n) + min(n[0], n[1]) + n @ z
    quotient, rest = divmod(n[1], n[0])
    return s + np.sum(n * w * z) + n.mean() + np.prod(n) + quotient - rest + n[0] / n[2]


def remainders(z, w, n, b):
    quotient, rest = divmod(z[0], 0.7)
    a = z[1]
    a %= n[0]
    a //= 2
    return quotient - rest + z[0] % z[1] + z[1] // z[2] + a


def powers(z, w, n, b):
    s = z[0] ** 3 + z[1] ** -2 + z[0] ** 0.5 + z[1] ** z[2] + 2 ** min(z[0], 9.0)
    return s + (-2.0) ** z[1] + np.power(z[2], 1 / 3)


def without_a_number(z, w, n, b):
    q = np.log(z[0])
    s = 1.0 if q > 0 else 2.0 if q <= 0 else 3.0
    s += 4.0 if not q > 0 else 8.0
    s += 16.0 if q == q else 32.0
    s += 64.0 if q else 128.0
    return s + min(q, 0.5) + max(0.5, q) + np.where(math.isnan(q), 256.0, 0.0)


def signs_of_zero(z, w, n, b):
    s = math.copysign(1.0, -z[0]) + math.copysign(2.0, 0.0 * z[1]) + math.copysign(4.0, 0 - z[2])
    return s + math.copysign(8.0, z[0] - z[0]) + (math.inf * z[0] - math.inf * z[1]) * 0


def scopes(z, w, n, b):
    len = 2.5
    i = 5.0
    sum = 0.0
    for v in [i for i in z]:
        sum += v

    def inner(a):
        return a * len

    return sum + i + inner(z[0]) + (lambda a: a + 1.0)(z[1])


def unpacked(z, w, n, b):
    a, c, d = z
    a, c = c, a + c
    (e, f), g = (a, d), 2.0
    pair = (z[0], z[1], 3)
    return a + 2 * c + 3 * d + e * f * g + pair[-1] + pair[1] + np.array([z[0], 1.0]).sum()


def sorted_by_hand(z, w, n, b):
    t = z * 1.0
    for i in range(2):
        for j in range(2 - i):
            if t[j] > t[j + 1]:
                t[j], t[j + 1] = t[j + 1], t[j]
    a, c = z[0], z[1]
    if a > c:
        a, c = c, a
    return t[0] + 2 * t[1] + 3 * t[2] + a - 2 * c


def guarded(z, w, n, b):
    s = 0.0
    for i in range(4):
        if i == 0:
            s += z[0]
        elif i < 3 and z[i] > 0:
            s += TABLE[i] * z[i]
        elif i == 3 or z[2] > 0:
            s += 1.0
        else:
            s -= 1.0
        if z[0] > 0:
            if i < 3 and z[i] > 1:
                return s + TABLE[i]
            s *= 0.5
    return s


def masked_loops(z, w, n, b):
    s = 0.0
    for v in z:
        if v > 1:
            continue
        s += v
    if z[0] > 0:
        for i in range(3):
            s = 0.5 * s + z[i]
            if s > 1:
                s = 1.0
        s *= 2
    for v in z:
        if v > 2:
            return s + v
    return s


def masks(z, w, n, b):
    s = 1.0 if (z[0] > 0) & (z[1] > 0) | (z[2] > 0) else 2.0
    s += 4.0 if (z[0] > 0) ^ (z[1] > 0) else 0.0
    s += 8.0 if (z[0] > 0) == (z[1] > 0) else 0.0
    return s + np.sum(z > 0) + np.sum(np.where(z > w, z, w)) + sum([z[0] > 0, z[1] > 0])


LANES_OF_MANY = [
    slices, views_and_copies, loops, truths_of_numbers, data_of_truths, data_of_integers,
    remainders, powers, without_a_number, signs_of_zero, scopes, unpacked, sorted_by_hand,
    guarded, masked_loops, masks,
]  # fmt: skip


def breaks(z, w, n, b):
    k, s = 0, 0.0
    while k < 3:
        if z[k] > 1:
            break
        s += z[k]
        k += 1
    else:
        s += 100.0
    return s + k


def integers_of_z(z, w, n, b):
    k = int(max(min(z[0], 50.0), -50.0))
    s = float(k > 2) + 7 // k + 7 % k + k // 2
    return s + TABLE[k % 3] + z[int(z[1] > 0) + int(z[2] > 0)]


def members(z, w, n, b):
    s = 1.0 if z[0] in (0.0, 1.0) else 2.0
    return s + (4.0 if z[1] not in (0.0, 1.0) else 8.0) + min([z[0], 2.0 * z[1]])


def lists(z, w, n, b):
    found = [0.0]
    for v in z:
        if v > 0:
            found.append(v)
    return sum(found) + len(found) + max(v * v for v in z) + sum(v for v in z if v > 0)


def raises(z, w, n, b):
    if z[1] > 100.0:
        raise ValueError("too far")
    return z[0]


def without_value(z, w, n, b):
    for v in z:
        if v > 0:
            last = v
    return 1.0 if last > 1.0 else 2.0


def by_vectors(z, w, n, b):
    t = z * 1.0
    same = t
    if z[0] > 0:
        same += 1.0
    chosen = z if z[1] > 0 else t
    return np.sum(t) + chosen[0]


ONE_LANE = [breaks, integers_of_z, members, lists, raises, without_value, by_vectors]
ARGUMENTS = (WEIGHTS, COUNTS, TRUTHS)


def outcomes(function):
    """The values of plain Python; None where it raises."""
    found = []
    for column in Z.T:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found.append(float(function(column, *ARGUMENTS)))
            except (ArithmeticError, ValueError, UnboundLocalError):
                found.append(None)
    return found


def compare(function, width):
    arguments = Arguments(None, ARGUMENTS)
    block = compile_block(function, arguments.kind, False, stride=LANES, width=width)
    for k, expected in enumerate(outcomes(function)):
        status, (got,) = evaluate(block, arguments, Z[:, k : k + 1])
        if expected is None:
            assert status or not np.isfinite(got), Z[:, k]
        else:
            assert status == 0
            np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12, err_msg=str(Z[:, k]))


@pytest.mark.parametrize("width", [32, 1])
@pytest.mark.parametrize("function", LANES_OF_MANY)
def test_many_draws_at_once(function, width):
    compare(function, width)


@pytest.mark.parametrize("function", ONE_LANE)
def test_one_draw_at_a_time(function):
    with pytest.raises(NotCompiled) as caught:
        compare(function, 32)
    assert caught.value.one_lane
    compare(function, 1)
