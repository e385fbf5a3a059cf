"""Functions of every kind as models: an answer that Python gives too, or one readable paragraph."""

import asyncio
import collections
import functools
import linecache
import math
import random as python_random
import textwrap

import numba
import numpy as np
import pytest
import scipy.stats
from helpers import IGNORE_DIAGNOSTICS

import fastelbo as fe

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

Q = fe.StudentT(5.0, [0.0, 0.1], scale=[1.0, 1.2])
WEIGHTS = np.array([0.5, 2.0])
CALLS = [0]
Pair = collections.namedtuple("Pair", "scale weights")


def plain(z):
    return -0.5 * (z[0] ** 2 + z[1] ** 2)


def weighted(z, w):
    return -0.5 * w * (z[0] ** 2 + z[1] ** 2)


def of_array(z, w):
    return -0.5 * np.sum(w * z**2)


def made(scale):
    def closed(z):
        return scale * plain(z)

    return closed


def decorated(function):
    @functools.wraps(function)
    def wrapper(z):
        return function(z) - 1.0

    return wrapper


def decorated_with_keywords(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Holder:
    scale = 2.0

    def method(self, z):
        return self.scale * plain(z)

    @staticmethod
    def static(z):
        return 2.0 * plain(z)

    @classmethod
    def made(cls, z):
        return cls.scale * plain(z)

    def __call__(self, z):
        return self.scale * plain(z)


def with_default(z, w=2.0):
    return weighted(z, w)


def with_default_array(z, w=np.array([1.0, 3.0])):  # noqa: B008
    return of_array(z, w)


def by_keyword(z, *, w=2.0):
    return w * plain(z)


def of_many(z, *args):
    return args[0] * plain(z) * args[1]


def of_pair(z, pair):
    return pair.scale * plain(z) - pair.weights[1] * z[0]


def with_temporaries(z):
    squares = np.zeros(4)
    for i in range(2):
        squares[i] = z[i]
        squares[2 + i] = z[i] * z[i]
    return -0.5 * np.sum(squares[2:])


def with_list(z):
    return -0.5 * sum([x * x for x in z])


def with_branch(z):
    if z[0] > 0.0:  # noqa: SIM108
        total = -0.5 * z[0] ** 2
    else:
        total = -(z[0] ** 2)
    return total - z[1] ** 2


def with_guards(z):
    if z[0] < -2.0:
        return -math.inf
    if z[0] > 2.0:
        return -np.inf
    return plain(z)


def of_integers_and_floats(z):
    if z[0] > 0.5:
        return 0
    return plain(z)


def uniform(z):
    return 0.0 if -1.0 < z[0] < 1.0 and abs(z[1]) < 1.0 else -math.inf


def printing(z):
    print("called")
    return plain(z)


def of_global(z):
    return -0.5 * np.sum(WEIGHTS * z**2)


def at_infinity(z):
    return plain(z) if z[0] < 2.0 else -1.0 / np.zeros(1)[0]


def copying(z):
    own = z.copy()
    own[0] *= 2.0
    return -0.5 * np.sum(own**2)


def of_truths(z, b):
    total = plain(z)
    for j in range(len(b)):
        if b[j] and z[0] > 0.0:
            total -= float(b[j]) + float(z[1] > 0.0) * 2.0
    return total + b[0] * z[1]


def of_pixels(z, x):
    return plain(z) - 1e-4 * (x[0] - 128) ** 2 - (x[1] // 3) * (x[1] % 3) * z[0] ** 2


def of_nested(z, pair):
    (a, b), w = pair
    return (a + b) * of_array(z, w)


ANSWERS = {
    "a lambda": (lambda z: -0.5 * (z[0] ** 2 + z[1] ** 2), ()),
    "a closure": (made(1.5), ()),
    "a closed-over array": ((lambda w: lambda z: -np.sum(w * z**2))(WEIGHTS), ()),
    "a global array": (of_global, ()),
    "a static method": (Holder.static, ()),
    "a partial": (functools.partial(weighted, w=2.0), ()),
    "a partial that changes a default": (functools.partial(with_default_array, w=WEIGHTS), ()),
    "decorated": (decorated(plain), ()),
    "compiled by numba": (numba.njit(plain), ()),
    "a default": (with_default, ()),
    "a default that is given": (with_default, (3.0,)),
    "an array as default": (with_default_array, ()),
    "by keyword": (by_keyword, ()),
    "*args": (of_many, (1.0, 2.0)),
    "a named tuple": (of_pair, (Pair(1.0, WEIGHTS),)),
    "temporaries": (with_temporaries, ()),
    "a list": (with_list, ()),
    "a branch on z": (with_branch, ()),
    "guards": (with_guards, ()),
    "integers and floats": (of_integers_and_floats, ()),
    "a uniform density": (uniform, ()),
    "print": (printing, ()),
    "a list as param": (of_array, ([0.5, 2.0],)),
    "float32": (of_array, (np.array([0.1, 2.0], np.float32),)),
    "integers": (of_array, (np.array([1, 2], np.int8),)),
    "strided": (of_array, (np.arange(1.0, 9.0)[::4],)),
    "half precision": (of_array, (np.array([0.1, 2.0], np.float16),)),
    "a float32 number": (weighted, (np.float32(0.1),)),
    "reversed": (of_array, (WEIGHTS[::-1],)),
    "an array of no axes": (weighted, (np.array(2.0),)),
    "nested tuples": (of_nested, (((1.0, 2), WEIGHTS),)),
    "truths": (of_truths, ([True, False],)),
    "bytes": (of_pixels, (np.array([5, 200], np.uint8),)),
    "a copy of z": (copying, ()),
    "infinite for some z": (at_infinity, ()),
    "big-endian": (of_array, (WEIGHTS.astype(">f8"),)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_those_of_python(name, recwarn):
    function, params = ANSWERS[name]
    model = fe.Model(log_joint=function, dim=2, params=params)
    got = fe.log_weights(model, Q, 200, rng=0)
    expected = fe.log_weights(model, Q, 200, rng=0, backend="numpy")
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)
    assert not any(w.category is fe.errors.OneDrawAtATimeWarning for w in recwarn)


def looping(z):
    total, k = plain(z), 0
    while total > -2.0:
        total -= 0.5
        k += 1
    return total - k


def indexing(z):
    return plain(z) - z[int(min(abs(z[0]), 1.5))]


@pytest.mark.parametrize(("function", "line"), [(looping, "while total"), (indexing, r"int\(min")])
def test_what_runs_for_one_draw_at_a_time_says_so_once(function, line):
    with pytest.warns(fe.errors.OneDrawAtATimeWarning, match=line) as caught:
        model = fe.Model(log_joint=function, dim=2)
    assert len(caught) == 1
    got = fe.log_weights(model, Q, 200, rng=0)
    expected = fe.log_weights(model, Q, 200, rng=0, backend="numpy")
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


# --- what is refused ----------------------------------------------------------------------------


def raising(z):
    raise KeyError("no such key")


def unread(z):
    return -0.5 * z[0] ** 2


def beyond(z):
    return plain(z) - z[2] ** 2


def beyond_array(z, w):
    total = 0.0
    for i in range(5):
        total -= w[i] * z[0] ** 2 + z[1] ** 2
    return total


def missing_return(z):
    plain(z)


def random(z):
    return plain(z) + np.random.normal()  # noqa: NPY002


def remembering(z):
    CALLS[0] += 1
    return plain(z) + CALLS[0]


def none_or_float(z):
    if z[0] < -0.5:
        return None
    return plain(z)


def writing_z(z):
    z[0] = 1.0
    return plain(z)


def writing_param(z, w):
    w[0] = 1.0
    return of_array(z, w)


def recursive(z, n=3):
    return plain(z) if n == 0 else recursive(z, n - 1)


def trying(z):
    try:
        total = math.log(z[0])
    except ValueError:
        total = 0.0
    return total + plain(z)


def of_scipy(z):
    return scipy.stats.norm.logpdf(z).sum()


def outside(z):
    return math.log(z[0] - 100.0) + plain(z)


def generating(z):
    yield plain(z)


def sorting(z):
    return plain(z) - np.sort(z)[0]


def printing_z(z):
    print(z[0])
    return plain(z)


def random_of_python(z):
    return plain(z) + python_random.gauss(0.0, 1.0)


def random_with_a_seed(z):
    return plain(z) + np.random.default_rng(0).normal()


def writing_global(z):
    WRITTEN[0] = 0.0
    return plain(z)


def text_or_float(z):
    if z[0] > 5.0:
        return "far"
    return plain(z)


def vector_or_float(z):
    if z[0] > 5.0:
        return z
    return plain(z)


def needs_keyword(z, *, w):
    return weighted(z, w)


def halved(value, n):
    return value if n == 0 else halved(0.5 * value, n - 1)


def of_recursive_helper(z):
    return halved(plain(z), 3)


def of_list_outside(z):
    return NUMBERS[0] * plain(z)


def of_dictionary_outside(z):
    return SETTINGS["scale"] * plain(z)


def of_bytes_outside(z):
    return plain(z) - 0.0 * (PIXELS[0] - 128)


def adding_truths(z, b):
    return plain(z) + (b[0] + b[1])


def without_value(z):
    if z[0] > -9.0:
        shift = 1.0
    return plain(z) - shift


def named_inside(z):
    return plain(z) - (t := z[0] ** 2) * t


def spoiled(z):
    return plain(z) + math.log(z[0] - z[1] + np.nan)


WRITTEN, NUMBERS, SETTINGS = np.ones(2), [1.0, 2.0], {"scale": 1.0}
PIXELS = np.array([200, 5], np.uint8)

REFUSED = {
    "raises": (raising, (), "KeyError: 'no such key' at .*`raise KeyError"),
    "nan": (lambda z: math.nan * z[0], (), "returned nan at each of 3 probes"),
    "an array": (lambda z: -0.5 * z**2, (), "an array .* of shape .2,.*one real number"),
    "a complex number": (lambda z: 1j * z[0] + z[1], (), "of type complex"),
    "a text": (lambda z: "x", (), "returned 'x' of type str"),
    "nothing": (missing_return, (), "returned None .*without return"),
    "a truth": (lambda z: z[0] > z[1], (), "of type bool"),
    "a generator": (generating, (), "of type generator"),
    "an index outside of z": (beyond, (), "IndexError.*z\\[2\\].*dim = 2"),
    "an index outside of a param": (beyond_array, (np.ones(3),), "IndexError.*w\\[i\\]"),
    "fewer coordinates": (unread, (), "does not depend on z\\[1\\], with dim = 2"),
    "random numbers": (random, (), "for the same z"),
    "memory": (remembering, (), "for the same z"),
    "None for some z": (none_or_float, (), "None for some z"),
    "writes to z": (writing_z, (), "read-only at .*`z\\[0\\] = 1.0`.*write to a copy"),
    "writes to a param": (writing_param, (WEIGHTS,), "read-only at .*`w\\[0\\] = 1.0`"),
    "recursion": (recursive, (), "cannot be compiled: it calls itself"),
    "try": (trying, (), "cannot be compiled: .*`except ValueError"),
    "an unknown library": (of_scipy, (), "cannot be compiled: .*norm.*`return scipy"),
    "an unknown function": (sorting, (), "cannot be compiled: .*sort.*np.sort"),
    "outside of its domain": (outside, (), "ValueError.* at each of 3 probes.*-inf"),
    "division by 0": (lambda z: plain(z) + 1 / 0, (), "ZeroDivisionError: division by zero"),
    "a method": (Holder().method, (), "the method Holder.method .*params"),
    "an object": (Holder(), (), "must be a function that def or lambda makes"),
    "a class": (Holder, (), "must be a function that def or lambda makes"),
    "a builtin": (math.exp, (), "must be a function that def or lambda makes"),
    "a cache": (functools.lru_cache(plain), (), "must be a function that def or lambda makes"),
    "a partial by position": (functools.partial(weighted, 2.0), (), "bind by keyword"),
    "any keywords": (decorated_with_keywords(plain), (), "cannot be compiled: .*keywords"),
    "a class method": (Holder.made, (), "the method Holder.made"),
    "prints z": (printing_z, (), "cannot be compiled: z cannot be printed, at .*`print"),
    "Python's random numbers": (random_of_python, (), "for the same z"),
    "random numbers with a seed": (random_with_a_seed, (), "draws random numbers.*default_rng"),
    "writes to a global array": (writing_global, (), "read-only .*`WRITTEN.*from outside"),
    "a text for some z": (text_or_float, (), "once that: float, str, at .*`return"),
    "a vector for some z": (vector_or_float, (), "once that: vector, float, at .*`return"),
    "by keyword alone": (needs_keyword, (1.0,), "with 1 params.*too many|missing"),
    "recursion of a helper": (of_recursive_helper, (), "it calls itself.*`def halved"),
    "a list from outside": (of_list_outside, (), "a list that .*`return NUMBERS"),
    "a dictionary from outside": (of_dictionary_outside, (), "SETTINGS.*`return SETTINGS"),
    "bytes from outside": (of_bytes_outside, (), "PIXELS has numbers of type uint8.*are converted"),
    "a sum of truths": (adding_truths, ([True, True],), "of truths .*float.*`return plain"),
    "a name inside": (named_inside, (), ":= has no compiled form.*line of its own"),
    "nan by NumPy": (spoiled, (), "returned nan at each of 3 probes"),
    "no params by keyword": (by_keyword, (1.0,), "with 1 params.*too many"),
    "a set": (weighted, ({1.0},), "params\\[0\\] is .*a set"),
    "a dictionary in a tuple": (weighted, ((1.0, {}),), "params\\[0\\]\\[1\\] is .*a dict"),
    "texts as param": (of_array, (["a", "b"],), "params\\[0\\]"),
    "objects": (of_array, (np.array([None, 1.0], object),), "params\\[0\\]"),
    "too few params": (weighted, (), "with 0 params, but it is defined as weighted.z, w.: missing"),
    "too many params": (weighted, (1.0, 2.0), "with 2 params.*too many"),
    "a dictionary": (weighted, ({"w": 1.0},), "params\\[0\\] is .*a dict.*named tuple"),
    "a text as param": (weighted, ("w",), "params\\[0\\] is 'w', a str"),
    "None as param": (weighted, (None,), "params\\[0\\] is None"),
    "a complex param": (weighted, (2.0j,), "params\\[0\\] has dtype complex128"),
    "a long integer": (weighted, (2**70,), "params\\[0\\] must be an integer of 64 bits"),
    "a ragged list": (of_array, ([1.0, [2.0]],), "params\\[0\\] must be an array"),
    "an array in place of params": (of_array, WEIGHTS, "params must be a tuple"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_said_in_one_paragraph(name):
    function, params, match = REFUSED[name]
    with pytest.raises(fe.errors.FastElboError, match=match) as caught:
        fe.Model(log_joint=function, dim=2, params=params)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    assert "log_joint" in text or "params[0]" in text or "params must" in text


def test_a_coroutine_is_no_number():
    async def waiting(z):
        await asyncio.sleep(0)

    with pytest.raises(fe.errors.InvalidInputError, match="of type coroutine"):
        fe.Model(log_joint=waiting, dim=2)


def test_data_are_read_only():
    def writing(z, x):
        x[0] = 1.0
        return plain(z)

    with pytest.raises(fe.errors.InvalidInputError, match=r"read-only at .*data\[0\]"):
        fe.Model(log_joint=writing, dim=2, data=np.ones((3, 2)))


GIVEN = {
    "neither": ({}, "exactly one of log_joint"),
    "both": ({"log_joint": plain, "log_likelihood": plain}, "exactly one of log_joint"),
    "no dim": ({"log_joint": plain}, "dim, the number of coordinates"),
    "joint and prior": ({"log_joint": plain, "dim": 2, "prior": Q}, "prior must not be given"),
    "no prior": ({"log_likelihood": plain, "dim": 2}, "prior must be given"),
    "no distribution": ({"log_likelihood": plain, "prior": 3.0}, "prior must be a Gaussian"),
    "another dim": ({"log_likelihood": plain, "prior": Q, "dim": 3}, "that of the prior, 2"),
    "no data": ({"log_joint": of_array, "dim": 2, "data": []}, "data must have its N data points"),
    "dim 0": ({"log_joint": plain, "dim": 0}, "dim"),
    "no function": ({"log_joint": 3.0, "dim": 2}, "log_joint must be a function"),
    "a likelihood of more coordinates": (
        {"log_likelihood": beyond, "prior": Q},
        "IndexError.*dim = 2",
    ),
    "a device": (
        {"log_joint": plain, "dim": 2, "device": "cpu"},
        "device is for functions of many",
    ),
    "a batch": ({"log_joint": plain, "dim": 2, "batch_size": 5}, "batch_size is for functions"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_arguments_that_do_not_fit_together(name):
    given, match = GIVEN[name]
    with pytest.raises(fe.errors.InvalidInputError, match=match):
        fe.Model(**given)


def test_a_likelihood_may_leave_coordinates_to_the_prior():
    model = fe.Model(log_likelihood=unread, prior=Q)
    assert np.isfinite(fe.estimate(model, Q, 1000, rng=0).log_evidence)


def test_a_name_without_value_in_some_lanes_takes_one_draw_at_a_time():
    with pytest.warns(fe.errors.OneDrawAtATimeWarning, match="shift has no value for some z"):
        model = fe.Model(log_joint=without_value, dim=2)
    values = model.log_joint([[0.0, 1.0], [-9.5, 0.0]])
    assert values[0] == plain([0.0, 1.0]) - 1.0
    assert np.isnan(values[1])


# --- a function that is defined again -----------------------------------------------------------


def cell(source, number):
    """A function from a notebook's cell."""
    name = f"<notebook {number}>"
    source = textwrap.dedent(source)
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    scope = {"math": math, "np": np}
    exec(compile(source, name, "exec"), scope)
    return scope["f"]


@pytest.mark.parametrize("same", [True, False])
def test_a_function_that_is_defined_again_is_another(same):
    # With the same name, the text that belongs to the first is lost.
    first = cell("def f(z):\n    return -0.5 * z[0] ** 2\n", 1)
    before = fe.Model(log_joint=first, dim=1)
    second = cell("def f(z):\n    return -1.5 * z[0] ** 2\n", 1 if same else 2)
    after = fe.Model(log_joint=second, dim=1)
    again = fe.Model(log_joint=first, dim=1)
    for model, value in ((before, -0.5), (after, -1.5), (again, -0.5)):
        assert model.log_joint([1.0]) == value


def test_a_bare_function_is_told_how_to_become_a_model():
    with pytest.raises(
        fe.errors.InvalidInputError, match=r"fastelbo.Model\(log_joint=plain, dim=D\)"
    ):
        fe.estimate(plain, Q, 10)
