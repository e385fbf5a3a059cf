"""Functions that no log density should be: an answer like Python's, or one error with its line."""

import functools
import linecache
import math
import pickle

import numba
import numpy as np
import pytest
from test_vectors import Y, compiled, plain

from fastelbo.kernels.draws.blocks import LANES
from fastelbo.kernels.vectors.arguments import Arguments
from fastelbo.kernels.vectors.block import compile_block, evaluate
from fastelbo.kernels.vectors.errors import NotCompiled
from fastelbo.kernels.vectors.syntax import definition

pytestmark = pytest.mark.compiler

Z = np.random.default_rng(14).normal(size=(3, 40))
TABLE = np.array([1.0, 2.0, 3.0])
NUMBERS = [1.0, 2.0]


def agrees(function, *params, width=32):
    got = compiled(function, params, width=width)(Z)
    np.testing.assert_allclose(got, plain(function, Z, *params), rtol=1e-12)
    return got


# --- branches on z that become selects ------------------------------------------------------------


def early_return(z):
    """A text."""
    if z[0] <= 0:
        return -math.inf
    return math.log(z[0]) + z[1]


def two_guards(z):
    if z[0] <= -1 or not z[1] > -2:
        return -math.inf
    s = z[0]
    for v in z:
        if v < -1.5:
            return -1.0
        s += v * v
    return s


def else_returns(z):
    if z[0] > 0:
        t = 1.0
    else:
        return -math.inf
    return t + z[1]


def all_return(z):
    if z[0] > 1:
        return 1.0
    elif z[0] > 0 and z[1] > 0:
        return z[1]
    else:
        return z[2]


def nested(z):
    s = 0.0
    if z[0] > 0:
        if z[1] > 0:
            s = 1.0
        else:
            return -1.0
        for v in z:
            s += v * 2
    elif z[1] > 0 or (z[2] > 0 and not z[0] > 1):
        return z[2]
    else:
        out = 2.0
        s += out
    return s


def temporary(z):
    s = 0.0
    if z[0] > 0:
        t = z[0] * 2
        a, b = t, t + z[1]
        s += a * b
    return s


def loops_on_both_sides(z):
    s = 0.0
    if z[0] > 0:
        for i in range(3):
            s += i * z[i]
    else:
        for i in range(2):
            s -= z[i] * z[i + 1]
    return s


def carries(z):
    last = 0.0
    for v in z:
        if v > 0:
            last = v
    return last


def continues(z):
    s, n = 0.0, 0
    for v in z:
        if v < 0:
            continue
        n += 1
        s += v
    return s / max(n, 1)


def writes_under_mask(z):
    out = np.zeros(3)
    for d in range(3):
        if z[d] > 0:
            out[d] = z[d]
        else:
            out[d] -= 2.0 * z[d]
    return out.sum()


def short_circuit(z):
    s = 0.0
    for i in range(3):
        if i < 2 and z[i + 1] > z[i]:
            s += TABLE[i + 1] if i < 2 else 0.0
        if i == 2 or z[i] * z[i + 1] > 0:
            s += 1.0
    return s


def number_as_condition(z):
    t = 2.0 if z[0] - z[0] else 3.0
    if z[1]:
        t += 1.0
    return t


def truths(z):
    inside = z[0] > 0 and z[1] > 0
    return 1.0 if -1 < z[2] < 1 and not inside else 2.0 * inside


def plain_values_beside_z(z):
    """What may depend on z, but is plain: the number of a tuple, a name of another branch."""
    pair = (z[0], 3.0, 2)
    b, n = 1.0, pair[2]
    t = 1.0 if b + pair[1] >= 2.0 and not n > 5 else z[1]
    if n < 1 or pair[1] * 2.0 - b < 0:
        t += 10.0
    t += pair[1] * b
    t -= pair[1] * b * n
    return t + (b - pair[1] * n) + (pair[1] * b - n) + (n + n * pair[1])


def products_of_truths(z):
    a, b, c = z[0] > -0.5, z[1] > -0.5, z[2] > 0
    s = float(a) + float(b) + 10 * float(a * b) + 100 * (a * 2.0 + c) + np.add(a, 1.0) + sum([a, b])
    return s + 0.5 * c + a * b * z[1] + (a + 1) + (a | b) * 4.0 + a / 2.0


def guards(z):
    """A plain operand guards an index that not all lanes reach."""
    s = 0.0
    for i in range(5):
        if z[0] > 0 and i < 3:
            s += TABLE[i] * z[i]
        if i >= 3 or z[1] > 0:
            s += 1.0
        else:
            s += TABLE[i]
        s += TABLE[i] if z[0] > 0 and i < 3 and z[1] > 0 else 0.5
    return s


def conditions(z):
    """Numbers as truths, plain and of z."""
    n, x = len(z), 0
    s = z[0] and z[1] - z[1]
    if n and z[0] > 0:
        s += 1.0
    if z[0] > 0 and n and (z[1] or x):
        s += 2.0
    if not z[0] - z[0] and not (x or z[1] > 0):
        s += 4.0
    return s + (n and z[0] > 0) * 8.0 + (x or z[1]) + (not z[2]) * 2.0


def copies(z):
    one, two, three = z.copy(), np.copy(z), np.array(z)
    one[0], two[1] = 5.0, z[0]
    three += 1.0
    part = z[1:].copy()
    part[0] = 3.0
    return np.sum(one * two) + np.sum(three) + np.asarray(z)[2] + part[0] * z[1]


def divides(z):
    n = len(z)
    quotient, rest = divmod(z[0], 0.7)
    return quotient + 2 * rest + z[1] // z[2] + z[0] % n + 7 // n + 7 % n + 2**n + z[0] ** n


def sums_of_vectors_of_truths(z):
    a, b = z > -0.5, z < 0.5
    s = np.sum((a + b) * z) + 10 * np.sum(a * b) + np.sum((a * b + (z > 0)) * z) + np.sum(a * z)
    a += b
    return s + np.sum(a * 2.0) + np.sum(a + 1)


def number_of_items(z):
    return len(z)


def plain_condition(z):
    n = number_of_items(z)
    s = 0.0
    if n > 2 and not (n == 5 or n < 1):
        s += z[0]
    if n > 0 and (z[0] > 0 or n == 7):
        s += 1.0
    return s if n > 3 or n != 4 else z[1]


double = lambda a: a * a if a > 0 else -a  # noqa: E731


def default_helper(a, b=2.0, *, c=3.0):
    if a > 0:
        return a * b + c
    return c


def value_of_or(z):
    return z[0] or 1.0


def helpers(z):
    s = default_helper(z[0], c=4.0) + default_helper(b=z[1], a=1.0) + default_helper(z[2])
    return s + double(z[0])


SELECTS = [
    early_return, two_guards, else_returns, all_return, nested, temporary, carries, continues,
    guards, conditions, copies, divides, writes_under_mask, short_circuit, number_as_condition,
    truths, helpers, plain_values_beside_z, loops_on_both_sides, products_of_truths, value_of_or,
    sums_of_vectors_of_truths, plain_condition,
]  # fmt: skip


@pytest.mark.parametrize("function", SELECTS)
def test_selects(function):
    np.testing.assert_array_equal(agrees(function), agrees(function, width=1))


# --- control flow that needs one lane -------------------------------------------------------------


def impure(out, v):
    out[0] += 1
    return v


def impure_branch(z):
    out = np.zeros(1)
    s = z[0] * 0
    if z[0] > 0:
        s = impure(out, z[1])
    return s + out[0]


def impure_ternary(z):
    out = np.zeros(1)
    s = impure(out, z[1]) if z[0] > 0 else z[2]
    return s + out[0]


def pops(z):
    items = [z[0], z[1], z[2]]
    s = 0.0
    if z[0] > 0:
        s = items.pop()
    return s + len(items)


def breaks(z):
    s = 0.0
    for v in z:
        if v < 0:
            break
        s += v
    return s


def filters(z):
    return sum([v for v in z if v > 0]) + 0.0


def indexes(z):
    return TABLE[int(abs(z[0])) % 3]


def indexes_by_truth(z):
    return TABLE[int(z[0] > 0) + int(z[1] > 0)]


def chooses_vectors(z):
    r = z
    if z[0] > 0:
        r = -z
    return np.sum(r)


def raises_at_some(z):
    if z[0] > 1e9:
        raise ValueError("no")
    return z[0]


def largest_square(z):
    return max(v * v for v in z) + min(abs(v) for v in z)


def carries_from_first(z):
    for v in z:
        if v > -100:
            last = v
    return last


def chooses_a_constant(z):
    if z[0] > -100:
        t = z[1]
    return 1.0 if t > 0 else 2.0


ONE_LANE = [
    (impure_branch, "if z"), (impure_ternary, "s ="), (pops, "if z"), (breaks, "if v"),
    (filters, "return"), (indexes, "return"), (largest_square, "return"),
    (carries_from_first, "return last"), (chooses_a_constant, "return 1.0"),
    (indexes_by_truth, "return"), (chooses_vectors, "r = -z"),
    (raises_at_some, "if z"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "line"), ONE_LANE)
def test_one_lane(function, line):
    with pytest.raises(NotCompiled) as caught:
        compiled(function)
    assert caught.value.one_lane
    assert linecache.getline(caught.value.filename, caught.value.line).strip().startswith(line)
    agrees(function, width=1)


# --- functions of every form ----------------------------------------------------------------------


def shifted(z, shift, *, scale=2.0):
    return scale * (z[0] - shift)


def any_number(z, *params):
    return z[0] * params[0] + params[1]


def twice(function):
    @functools.wraps(function)
    def decorated(z):
        return 2 * function(z)

    return decorated


@twice
def decorated(z):
    return z[0] if z[1] > 0 else z[2]


class Model:
    scale = 2.0

    def method(self, z):
        return self.scale * z[0]

    @staticmethod
    def static(z):
        return z[0]

    def __call__(self, z):
        return z[0]


CELL = "def cell(z):\n    if z[0] > 0:\n        return 1.0\n    return z[1]\n"


def executed(text, filename, source=None):
    scope = {"np": np, "math": math}
    source = text if source is None else source
    linecache.cache[filename] = len(source), None, source.splitlines(True), filename
    exec(compile(text, filename, "exec"), scope)
    return scope["cell"]


FORMS = {
    "lambda": (lambda z: 1.0 if z[0] > 0 else z[1], ()),
    "partial": (functools.partial(shifted, shift=0.5, scale=3.0), ()),
    "partial by position": (functools.partial(lambda s, z: s * z[0], 2.0), ()),
    "default by keyword": (shifted, (0.5,)),
    "any number": (any_number, (2.0, 3.0)),
    "compiled": (numba.njit(early_return), ()),
    "decorated": (decorated, ()),
    "static": (Model.static, ()),
    "cell": (executed(CELL, "<cell 1>"), ()),
    "no source": (executed("def cell(z):\n    return z[0] * 2 + z[1]", "<cell 2>", ""), ()),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    function, params = FORMS[form]
    agrees(function, *params)


def test_an_edited_source_is_not_used():
    cell = executed(CELL, "<cell 3>", CELL.replace("1.0", "7.0"))
    assert definition(cell) is None
    assert definition(executed(CELL, "<cell 4>")) is not None
    agrees(cell, width=1)


def test_lambdas_in_one_line():
    one, other = lambda z: z[0] * 2 if z[0] > 0 else z[1], lambda z: z[0] * 3 if z[0] > 0 else z[1]
    agrees(one)
    agrees(other)


def test_parameters_of_every_kind():
    def density(z, single, strided, fortran, none, number, small, flags, missing):
        s = np.sum(single * z) + np.dot(strided, z) + np.sum(fortran @ z) + np.sum(none)
        s += number * z[0] + z[1] * small[0] + small.sum()
        for i in range(3):
            if flags[i]:
                s += z[i]
        return s if missing is None else 0.0

    params = (
        np.float32(Y), np.arange(9.0)[::3], np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros(0), np.array(2.0), np.int8([100, 100, 100]), Y > 0.15, None,
    )  # fmt: skip
    agrees(density, *params)


@pytest.mark.parametrize(
    "value", [np.float16([1.0]), np.ma.array(Y), np.arange(3.0).astype(">f8"), 2**70, [1.0], None]
)
def test_parameters_that_are_refused(value):
    if value is None:
        assert Arguments(None, (value,)).value == (None, (None,))
        return
    with pytest.raises(TypeError, match=r"params\[0\] is"):
        Arguments(None, (value,))


# --- functions without a compiled form ------------------------------------------------------------


def gives_vector(z):
    return z * 2


def gives_complex(z):
    return z[0] * 1j


def gives_text(z):
    return "a"


def gives_nothing(z):
    z[0]


def gives_tuple(z):
    return z[0], 1.0


def opens(z):
    return z[0] + float(open("/dev/null").read())


def imports(z):
    import scipy.stats

    return scipy.stats.norm.logpdf(z[0])


def calls_itself(z):
    if z[0] > 0:
        return z[0]
    return calls_itself(z + 1)


def helper_that_calls_itself(z):
    return calls_itself(z) + 1


def prints(z):
    print(z[0])
    return z[0]


def formats(z):
    return len(f"{z[0]}") * 1.0


def writes_z(z):
    z[0] = 1.0
    return z[0]


def writes_to_table(z):
    TABLE[0] = 1.0
    return z[0]


def draws(z):
    return z[0] + np.random.normal()  # noqa: NPY002


def counts(z):
    global count
    count += 1
    return z[0]


def reads_list(z):
    return NUMBERS[0] * z[0]


def tries(z):
    try:
        return 1.0 / z[0]
    except ZeroDivisionError:
        return 0.0


def unknown(z):
    return nowhere(z[0])  # noqa: F821


def attribute(z):
    return z.foo


def two_axes(z):
    return z[0, 1]


def largest(z):
    return np.argmax(z) * 1.0


def deletes(z):
    a = z[0]
    del a
    return z[1]


def takes_more(z, y):
    return z[0]


def any_keyword(z, **options):
    return z[0]


def yields(z):
    yield z[0]


def names_inside(z):
    return (t := z[0] * 2.0) + t


def unknown_in_math(z):
    return math.fmod(z[0], 2.0)


REFUSED = [
    (gives_vector, "it returns vector"), (gives_complex, "complex"), (gives_text, "returns str"),
    (gives_nothing, "returns None"), (gives_tuple, "Tuple"), (opens, "open has no"),
    (imports, "IMPORT_NAME"), (calls_itself, "itself"), (helper_that_calls_itself, "itself"),
    (prints, "printed"), (formats, "text"), (writes_z, "read only"), (writes_to_table, "writes"),
    (draws, "random"), (counts, "STORE_GLOBAL"), (reads_list, "list"), (tries, "try"),
    (unknown, "no name nowhere"), (attribute, "no attribute foo"), (two_axes, "getitem"),
    (takes_more, "takes"), (largest, "no form for vectors"), (deletes, "del a has"),
    (any_keyword, "keywords"), (yields, "generator"),
    (names_inside, "a line of its own"), (unknown_in_math, "math.fmod has no compiled form"),
    (Model().method, "method"), (Model(), "expected a function"), (np.sum, "expected a function"),
    (functools.lru_cache(early_return), "expected a function"),
]  # fmt: skip


# --- what Python, NumPy and machine code compute in different ways --------------------------------

SMALL, BYTES, SINGLE = np.array([1, 2], np.int8), np.array([5, 6], np.uint8), np.float32(0.1)
TRUTHS, COUNTS = np.array([True, True, False]), np.array([3, 0, -2])


def adds_truths(z, b, n):
    return z[0] + (b[0] + b[1])


def adds_truths_in_place(z, b, n):
    total = b[0]
    total += b[1]
    return total * z[0]


def adds_truths_of_z(z, b, n):
    return 1.0 * ((math.exp(z[0]) > 1) + (z[1] > 0))


def adds_products_of_truths(z, b, n):
    return 1.0 * ((z[0] > 0) * (z[1] > 0) + (z[2] > 0))


def multiplies_truths(z, b, n):
    return z[0] * (b[0] * b[1])


def subtracts_truths(z, b, n):
    return z[0] * (b[0] - b[1])


def subtracts_truths_of_z(z, b, n):
    return 1.0 * ((z[0] > 0) - (z[1] > 0))


def negates_truths(z, b, n):
    return z[0] * (-b[0])


def negates_truths_of_z(z, b, n):
    return 1.0 + -(z[0] > 0)


def inverts_truths(z, b, n):
    return z[0] if ~(n[0] > 2) else z[1]


def inverts_truths_of_z(z, b, n):
    return z[0] if ~(math.exp(z[0]) > 1) else z[1]


def inverts_in_a_helper(z, b, n):
    return inverts_truths(z, b, n) + z[0]


def of_small(z, b, n):
    return z[0] * (SMALL[0] - 100)


def of_bytes(z, b, n):
    return z[0] * (BYTES[0] - 128)


def of_single(z, b, n):
    return z[0] * SINGLE * 0.1


def makes_singles(z, b, n):
    return z[0] * np.float32(n[0])


def makes_small(z, b, n):
    return z[0] * (n.astype(np.int8)[0] + 200)


def factorial(z, b, n):
    product = 1
    for k in range(1, n[0] + 1):
        product *= k
    return z[0] * product


def other_factorial(z, b, n):
    product = 1
    for k in range(1, n[0] + 1):
        product = k * product
    return z[0] * product


def shifts(z, b, n):
    return z[0] * (1 << n[0])


def negative_power(z, b, n):
    return z[0] * n[0] ** -1


def remainder_in_place(z, b, n):
    k = n[0]
    k %= n[1]
    return z[0] * k


DIFFERENT = [
    (adds_truths, "arithmetic of truths"), (adds_truths_in_place, "arithmetic of truths"),
    (adds_truths_of_z, "arithmetic of truths"), (adds_products_of_truths, "arithmetic of truths"),
    (multiplies_truths, "arithmetic of truths"), (subtracts_truths, "arithmetic of truths"),
    (subtracts_truths_of_z, "arithmetic of truths"), (negates_truths, "arithmetic of truths"),
    (negates_truths_of_z, "arithmetic of truths"),
    (inverts_truths, "~ of a truth"), (inverts_truths_of_z, "~ of a truth"),
    (inverts_in_a_helper, "~ of a truth"), (of_small, "SMALL has numbers of type int8"),
    (of_bytes, "BYTES has numbers of type uint8"),
    (of_single, "SINGLE has numbers of type float32"),
    (makes_singles, "makes numbers of type float32"), (makes_small, "makes numbers of type int8"),
    (factorial, "beyond 64 bits; begin with a float"), (shifts, "2.0 \\*\\* b"),
    (other_factorial, "beyond 64 bits; begin with a float"),
    (negative_power, "negative power"), (remainder_in_place, "write n = n % k"),
]  # fmt: skip


@pytest.mark.parametrize("width", [32, 1])
@pytest.mark.parametrize(("function", "reason"), DIFFERENT)
def test_what_differs_between_python_and_machine_code_is_refused(function, reason, width):
    with pytest.raises(NotCompiled, match=reason) as caught:
        compiled(function, (TRUTHS, COUNTS), width=width)
    assert not caught.value.one_lane
    line = linecache.getline(caught.value.filename, caught.value.line)
    assert any(each in line for each in "+*-~%<") or ".astype" in line or "np.float32" in line


def one_truth(z, b, n):
    return (
        z[0]
        + b[0] * 2.0
        + float(b[1])
        + (b[1] + 1)
        + b[0] / 2
        + (b[0] & b[2])
        + np.sum(b + b)
        + sum(b)
        + n[0]
    )


def integers_of_every_sign(z, b, n):
    m, k = n[0], n[2]
    s = m // k + m % k + m**2 + m / k + k // m + k % m + abs(k) + divmod(k, m)[1]
    return z[0] * s


@pytest.mark.parametrize("width", [32, 1])
@pytest.mark.parametrize("function", [one_truth, integers_of_every_sign])
def test_truths_and_integers_are_those_of_numpy(function, width):
    agrees(function, TRUTHS, COUNTS, width=width)


def quotient(z, n):
    return z[0] * (n[0] // n[1])


def rest(z, n):
    return z[0] * (n[0] % n[1])


def power(z, n):
    return z[0] * n[0] ** n[2]


def large_power(z, n):
    return z[0] * n[0] ** (20 - 10 * n[2])


def no_value(z, n):
    for k in range(n[1]):
        last = z[k]
    return last


def no_value_to_add_to(z, n):
    if n[1] > 0:
        total = z[0]
    total += z[1]
    return total


@pytest.mark.parametrize("width", [32, 1])
@pytest.mark.parametrize(
    "function", [quotient, rest, power, large_power, no_value, no_value_to_add_to]
)
def test_an_integer_or_a_name_without_value_stops_the_function(function, width):
    arguments = Arguments(None, (COUNTS,))
    block = compile_block(function, arguments.kind, False, stride=LANES, width=width)
    status, values = evaluate(block, arguments, Z)
    assert status != 0
    assert np.isnan(values).all()
    agrees_with = {no_value: (np.array([3, 1, 2]),), no_value_to_add_to: (np.array([3, 1, 2]),)}
    agrees(function, *agrees_with.get(function, (np.array([3, 2, 2]),)), width=width)


@pytest.mark.parametrize("width", [32, 1])
@pytest.mark.parametrize(("function", "reason"), REFUSED)
def test_refused(function, reason, width):
    with pytest.raises(NotCompiled, match=reason) as caught:
        compiled(function, width=width)
    error = caught.value
    assert len(str(error)) < 500
    code = getattr(function, "__code__", None)
    if code is not None and function is not helper_that_calls_itself:
        assert error.filename == __file__
        last = code.co_firstlineno + 8
        assert code.co_firstlineno <= error.line <= last
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.line, again.one_lane) == (str(error), error.line, error.one_lane)


# --- errors when a function runs ------------------------------------------------------------------


def outside(z, y):
    return z[7] + y[0]


def outside_parameter(z, y):
    return z[0] + y[5]


def other_sizes(z, y):
    return np.sum(z[:2] * y)


def no_items(z, y):
    return np.max(z[3:])


@pytest.mark.parametrize("factor", [1e19, -1e19, math.inf, math.nan])
def test_an_integer_beyond_64_bits_is_an_error(factor):
    def density(z, factor):
        return float(int(factor * (z[0] ** 2 + 1.0)))

    arguments = Arguments(None, (factor,))
    block = compile_block(density, arguments.kind, False, stride=LANES, width=1)
    status, values = evaluate(block, arguments, Z)
    assert status != 0
    assert np.isnan(values).all()


def too_large(z, y):
    t = np.zeros(2**60)
    t[0] = z[0]
    return t[0]


@pytest.mark.parametrize("function", [outside, outside_parameter, other_sizes, no_items, too_large])
@pytest.mark.parametrize("width", [32, 1])
def test_a_run_that_fails_gives_a_status_and_nan(function, width):
    arguments = Arguments(None, (Y,))
    block = compile_block(function, arguments.kind, False, stride=LANES, width=width)
    status, values = evaluate(block, arguments, Z)
    assert status != 0
    assert np.isnan(values).all()


def test_the_first_failing_draw_is_the_first_nan():
    def density(z):
        if z[0] > 2.0:
            raise ValueError("no")
        return z[0]

    z = np.zeros((1, 50))
    z[0, 17] = 3.0
    arguments = Arguments(None, ())
    block = compile_block(density, arguments.kind, False, stride=LANES, width=1)
    status, values = evaluate(block, arguments, z)
    assert status != 0
    assert np.isnan(values).argmax() == 17


def impossible(z):
    return float("nan")


def test_nan_is_a_value():
    agrees(impossible)
