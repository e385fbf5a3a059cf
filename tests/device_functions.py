"""Users' functions that have a form on a device, and functions that have none."""

import functools
import math

import numba
import numpy as np

import fastelbo as fe
from benchmarks.user_models import MODELS


@numba.njit
def _square(x):
    return x * x


@numba.njit
def _distance(z, centre):
    total = 0.0
    for d in range(len(z)):
        total += _square(z[d] - centre[d])
    return math.sqrt(total)


def helpers(z, centre):
    return -0.5 * _distance(z, centre) - 0.5 * _square(z[0]) - 0.1 * _square(z[1] * z[2])


def steered(z):
    """Loops and indices that depend on z."""
    total, k = 0.0, 0
    while total < 1.0 + abs(z[0]) and k < 20:
        total += 0.25
        k += 1
    place = int(abs(z[1])) % 3
    if z[2] > 0.0:
        total += z[place]
    else:
        total -= z[-1]
    return -total - 0.5 * (z[0] ** 2 + z[1] ** 2 + z[2] ** 2)


def temporaries(z):
    work = np.zeros(len(z))
    ones = np.ones(2)
    pair = np.array([z[0], 2.0 * z[1]])
    table = np.empty(z.shape[0] - 1)
    for d in range(len(z)):
        work[d] += 0.5 * z[d]
    table[0], table[1] = work[0], work[-1]
    several = [z[0], z[1], z[2]]
    total = ones[0] + several[1] - several[1]
    for value in several:
        total -= 0.5 * value * value
    return total + 0.1 * pair[1] - 0.1 * table[0] * table[1]


def of_numpy(z, x, scale):
    a, b, c = z
    top = np.maximum(a, np.minimum(b, c)) + np.floor(a) - np.ceil(a)
    top += np.where(b > 0.0, np.log1p(b * b), np.expm1(-b * b))
    top += np.logaddexp(a, b) - np.abs(c) + np.sign(a) + np.clip(b, -1.0, 1.0) + np.square(0.1 * c)
    top += math.lgamma(1.0 + a * a) - math.erf(b) + np.tanh(c) + np.power(1.0 + a * a, -0.5)
    top += np.sum(x) - 0.1 * np.dot(x, z) - 0.1 * (z @ x) + max(a, b, c) - min(x[0], 1)
    if np.isnan(a) or not np.isfinite(b):
        return -np.inf
    return 0.1 * top - scale * (a * a + b * b + c * c)


def of_fe_math(z, y):
    value = fe.math.normal_log_prob(z[0], 0.0, 1.0)
    value += fe.math.student_t_log_prob(z[1], 4.0, 0.0, 1.0)
    sigma, log_jacobian = fe.math.positive(z[2])
    value += fe.math.half_cauchy_log_prob(sigma, 2.0) + log_jacobian
    for k in range(y.shape[0]):
        value += fe.math.poisson_log_log_prob(y[k], z[0]) + fe.math.log_sigmoid(z[1])
    return value + fe.math.gamma_log_prob(sigma, 2.0, 1.0)


def rows(z, x):
    total = 0.0
    for row in x:
        total -= 0.5 * (row[0] - z[0]) ** 2
    for k, row in enumerate(x[1:]):
        total -= 0.5 * k * (row[1] * z[1] + row[-1] * z[2]) ** 2
    for a, b in zip(z, x[:, 1]):  # noqa: B905
        total -= 0.5 * (a - b) ** 2
    return total


def sums(z, x):
    """Sums of generators, and vectors that are made again and again."""
    value = 7.0
    total = -0.5 * sum(value * value for value in z) + sum(0.1 for _ in range(2))
    total -= sum(a * b for a in x for b in z if a > 0.0) ** 2
    total -= 0.1 * sum(sum(a * b for a in x if a > b) for b in z) ** 2
    pair = np.array([z[0], z[1]])
    for _ in range(3):
        pair = np.array([pair[1], pair[0] + z[2]])
    for k in range(3):
        work = np.zeros(2)
        work[k % 2] += z[k]
        total -= 0.1 * np.sum(work) ** 2 + 0.01 * work[0] * work[1]
    return total + 1e-3 * (pair[0] - 2.0 * pair[1]) + value


def extremes(z):
    nan = np.nan * z[0]
    first = max(nan, 1.0, z[1])  # Python's are NaN if the first argument is
    kept = min(max(1.0, nan), z[1], 3)
    total = kept - 0.5 * (z[0] ** 2 + z[1] ** 2 + z[2] ** 2)
    return total if first != first else np.inf


def of_points(z, x, scale):
    """A data point that is a vector, and one parameter that is a number."""
    return -0.5 * ((x[0] - z[0]) ** 2 + (x[1] - z[1]) ** 2) / scale - 0.5 * z[2] ** 2


def of_numbers(z, x, flag, named=2.0, *, last=0.5):
    """A data point that is a number, and a constant by name."""
    sign = 1.0 if flag else -1.0
    return -0.5 * (x - sign * z[0]) ** 2 - last * (z[1] ** 2 + z[2] ** 2) / named


X = np.array([[0.3, -0.2, 1.0], [1.1, 0.4, -0.7], [0.0, 2.0, 0.1]])
POINTS = np.array([[0.5, 1.0], [-1.0, 2.0], [0.0, 0.3], [4.0, -0.1]])

# Name to (function, dim, data, params).
FUNCTIONS = {
    **{name: (each.function, each.dim, None, each.params) for name, each in MODELS.items()},
    "helpers": (helpers, 3, None, (X[0],)),
    "steered": (steered, 3, None, ()),
    "temporaries": (temporaries, 3, None, ()),
    "NumPy": (of_numpy, 3, None, (X[1], 0.7)),
    "fe.math": (of_fe_math, 3, None, (np.array([1, 0, 3]),)),
    "rows": (rows, 3, None, (X,)),
    "sums": (sums, 3, None, (X[0],)),
    "extremes": (extremes, 3, None, ()),
    "vectors as data": (of_points, 3, POINTS, (0.7,)),
    "numbers as data": (
        functools.partial(of_numbers, named=1.5, last=0.7), 3, np.array([1, 0, 2]), (True,)
    ),
}  # fmt: skip


def model_of(name, most_rows=None):
    """The model, with fewer rows of its parameters where a test is slow."""
    function, dim, data, params = FUNCTIONS[name]
    params = tuple(
        each[:most_rows] if isinstance(each, np.ndarray) and each.shape[0] > 64 else each
        for each in params
    )
    return fe.Model(log_joint=function, dim=dim, data=data, params=params)


def q_of(model):
    return fe.Gaussian(0.1 * np.ones(model.dim), scale=0.5)


# --- no form on a device ------------------------------------------------------------------------


def whole_vectors(z):
    return -0.5 * np.sum(z**2)  # here


def matrix(z, x):
    r = x @ z  # here
    return -0.5 * (r[0] ** 2 + r[1] ** 2 + r[2] ** 2)


def unknown_size(z, x):
    work = np.zeros(x.shape[0])  # here
    for d in range(3):
        work[d] = z[d]
    return -0.5 * (work[0] ** 2 + work[1] ** 2 + work[2] ** 2)


def optional_sum(z):
    total = sum(value**2 for value in z) if z[0] > -50.0 else 0.0  # here
    return -0.5 * total


def second_name(z):
    before = np.zeros(3)
    for d in range(3):
        now = np.zeros(3)
        now[d] = before[d - 1] + z[d]
        before = now  # here
    return -0.5 * (before[2] ** 2 + z[0] ** 2 + z[1] ** 2)


def _doubled(values):  # here
    for d in range(len(values)):
        values[d] *= 2.0
    return values


def returned_array(z):
    work = np.zeros(3)
    for d in range(3):
        work[d] = z[d]
    twice = _doubled(work)
    return -0.5 * (twice[0] ** 2 + twice[1] ** 2 + work[2] ** 2)


REFUSED = {
    "whole vectors": (whole_vectors, ()),
    "matrix": (matrix, (X,)),
    "unknown size": (unknown_size, (X,)),
    "sum that is optional": (optional_sum, ()),
    "second name": (second_name, ()),
    "returned array": (returned_array, ()),
}
