"""`fastelbo.math` in compiled code: ``@njit``, and densities in lanes of two widths."""

import numba
import numpy as np
import pytest
from math_cases import DENSITIES, EDGES, RNG, function
from mpmath import fsum, mpf, workdps
from test_vectors import compiled

import fastelbo as fe

EPS = np.finfo(float).eps
NAMES = list(DENSITIES)
fm = fe.math


def each_density(k, x, a, b, c):
    """The log density number k; plain numbers choose it."""
    if k == 0:
        return fm.normal_log_prob(x, a, b)
    if k == 1:
        return fm.half_normal_log_prob(x, a)
    if k == 2:
        return fm.cauchy_log_prob(x, a, b)
    if k == 3:
        return fm.half_cauchy_log_prob(x, a)
    if k == 4:
        return fm.student_t_log_prob(x, a, b, c)
    if k == 5:
        return fm.log_normal_log_prob(x, a, b)
    if k == 6:
        return fm.exponential_log_prob(x, a)
    if k == 7:
        return fm.gamma_log_prob(x, a, b)
    if k == 8:
        return fm.inverse_gamma_log_prob(x, a, b)
    if k == 9:
        return fm.beta_log_prob(x, a, b)
    if k == 10:
        return fm.bernoulli_logit_log_prob(x, a)
    if k == 11:
        return fm.binomial_logit_log_prob(x, a, b)
    return fm.poisson_log_log_prob(x, a)


def density_of_draw(z, k):
    return each_density(k, z[0], z[1], z[2], z[3])


def padded(args):
    return np.array([*np.broadcast_arrays(*args), *[np.ones_like(args[0])] * (4 - len(args))])


@pytest.fixture(scope="module")
def ways():
    """(njit, lanes of a width): functions of a density's number and its arguments (4, n)."""
    bare = numba.njit(each_density)

    def in_njit(k, args):
        return np.array([bare(k, *column) for column in args.T])

    def in_lanes(width):
        # The number is data, so that one piece of machine code serves all.
        values = compiled(density_of_draw, data=np.arange(len(NAMES)), width=width)
        return lambda k, args: values(args, k)

    return {"njit": in_njit, "32 lanes": in_lanes(32), "one lane": in_lanes(1)}


def close(got, expected, size):
    """Equal to a few ulp of the largest terms."""
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    error = np.abs(got - expected)[finite]
    assert (error <= 12 * EPS * size[finite]).all(), error.max()


def sizes(name, args):
    """What the largest terms of a log density come to, at most."""
    case = DENSITIES[name]
    with workdps(30):
        return np.array(
            [
                float(fsum(map(abs, case.terms(*(mpf(float(v)) for v in each)))))
                for each in zip(*args, strict=True)
            ]
        )


@pytest.mark.parametrize("name", NAMES)
def test_densities(name, ways):
    args = DENSITIES[name].args
    expected, size = function(name)(*args), sizes(name, args)
    got = {way: call(NAMES.index(name), padded(args)) for way, call in ways.items()}
    for values in got.values():
        close(values, expected, size)
    assert got["32 lanes"].tobytes() == got["one lane"].tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_edges(name, ways):
    cases = [(args, value) for each, args, value in EDGES if each == name]
    given = np.array([[*args, *[1.0] * (4 - len(args))] for args, _ in cases]).T
    for call in ways.values():
        np.testing.assert_allclose(
            call(NAMES.index(name), given), [value for _, value in cases], rtol=1e-15
        )


# --- everything else, in one density ------------------------------------------------------------


def the_rest(z, y):
    a, b, v = z[0], z[1], z[2:5]
    parts, log_jacobian = fm.simplex(v)
    rising, second = fm.ordered(v)
    total = np.sum(parts * parts) + log_jacobian + rising[2] + second
    total += fm.softplus(a) + fm.log_sigmoid(a) + fm.expit(a) + fm.logaddexp(a, b)
    total += fm.logsumexp(v) + fm.categorical_logit_log_prob(y, logits=v)
    total += fm.categorical_logit_log_prob(7, v) * 0.0 if y > 5 else a
    for value, slope in (fm.positive(a), fm.lower_bounded(a, lower=-1.0)):
        total += value * slope
    for value, slope in (fm.upper_bounded(a, 2.0), fm.interval(b, -1.0, upper=2.0)):
        total += value * slope
    return total


def test_the_rest():
    y = 1
    z = np.concatenate([RNG.normal(0, 2, (5, 60)), RNG.normal(0, 30, (5, 60))], axis=1)
    expected = np.array([the_rest(column, y) for column in z.T])
    got = [compiled(the_rest, (y,), width=width)(z) for width in (1, 32)]
    assert got[0].tobytes() == got[1].tobytes()
    np.testing.assert_allclose(got[0], expected, rtol=1e-13)


@pytest.mark.compiler
def test_the_rest_in_njit():
    bare = numba.njit(the_rest)
    for z in RNG.normal(0, 2, (20, 5)):
        np.testing.assert_allclose(bare(z, 1), the_rest(z, 1), rtol=1e-13)


def test_sigmoids_far_out():
    far = np.r_[np.inf, -np.inf, np.nan, 1e308, -1e308, 750.0, -750.0, 0.0, -0.0, 5e-324]
    x, y = (each.ravel() for each in np.meshgrid(far, far))

    def density(z):
        return fm.softplus(z[0]) if z[2] == 0 else fm.logaddexp(z[0], z[1])

    def sigmoid(z):
        return fm.log_sigmoid(z[0]) if z[2] == 0 else fm.expit(z[0])

    def bounded(z):
        value, slope = fm.interval(z[0], -1.0, 3.0)
        return value if z[2] == 0 else slope

    for both, (first, second) in {
        density: (fm.softplus(x), fm.logaddexp(x, y)),
        sigmoid: (fm.log_sigmoid(x), fm.expit(x)),
        bounded: fm.interval(x, -1.0, 3.0),
    }.items():
        for k, expected in enumerate((first, second)):
            got = compiled(both)(np.array([x, y, np.full(x.size, float(k))]))
            np.testing.assert_allclose(got, expected, rtol=2e-15)


def eight_schools(z, y, sigma):
    tau, log_jacobian = fm.positive(z[1])
    lp = fm.normal_log_prob(z[0], 0.0, 5.0) + fm.half_cauchy_log_prob(tau, 5.0) + log_jacobian
    for j in range(len(y)):
        lp += fm.normal_log_prob(z[2 + j], 0.0, 1.0)
        lp += fm.normal_log_prob(y[j], loc=z[0] + tau * z[2 + j], scale=sigma[j])
    return lp


def test_a_model():
    y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    z = RNG.normal(size=(10, 40))
    expected = [eight_schools(column, y, sigma) for column in z.T]
    np.testing.assert_allclose(compiled(eight_schools, (y, sigma))(z), expected, rtol=1e-13)


def test_a_lambda_and_keywords():
    z = RNG.normal(size=(1, 20))
    got = compiled(lambda z: fm.normal_log_prob(scale=2.0, loc=1.0, x=z[0]))(z)
    np.testing.assert_allclose(got, fm.normal_log_prob(z[0], 1.0, 2.0), rtol=1e-14)


def item_by_item(z, counts):
    total = np.sum(fm.poisson_log_log_prob(counts, z)) + fm.student_t_log_prob(z, 3, 0.0, 2.0).sum()
    return total + np.sum(fm.binomial_logit_log_prob(counts, counts + 2, z) * fm.expit(z))


def test_vectors_in_lanes():
    counts, z = np.array([0, 3, 1]), RNG.normal(0, 3, (3, 40))
    expected = [item_by_item(column, counts) for column in z.T]
    np.testing.assert_allclose(compiled(item_by_item, (counts,))(z), expected, rtol=1e-13)


@pytest.mark.compiler
def test_arrays_in_njit():
    x = np.array([0.25, 0.5, 0.75])

    def all_of(x, y):
        return fm.normal_log_prob(x, 0.0, 2.0) + fm.poisson_log_log_prob(y, x)

    y = np.array([0, 1, 7], dtype=np.uint8)
    np.testing.assert_allclose(numba.njit(all_of)(x, y), all_of(x, y), rtol=1e-13)
