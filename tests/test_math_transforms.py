"""Transforms of `fastelbo.math`: values and Jacobians against mpmath, edges."""

import mpmath as mp
import numpy as np
import pytest
from math_cases import INF, NAN, RNG, signed
from test_math import assert_within

import fastelbo as fe

U = np.r_[0.0, signed(-10, 1, 30), RNG.uniform(-30, 30, 30)]


def expit(u):
    return 1 / (1 + mp.exp(-u))


# Name: (value of u and bounds, terms of it, bounds).
SCALAR = {
    "positive": (lambda u: [mp.exp(u)], [()]),
    "lower_bounded": (lambda u, a: [a, mp.exp(u)], [(-3.5,), (1e10,), (0.0,)]),
    "upper_bounded": (lambda u, b: [b, -mp.exp(u)], [(-3.5,), (1e10,), (0.0,)]),
    "interval": (
        lambda u, a, b: [a, (b - a) * expit(u)] if u <= 0 else [b, -(b - a) * expit(-u)],
        [(0.0, 1.0), (2.0, 2.5), (-1e-3, 1e5), (-1e-300, 3e-300)],
    ),
}
CASES = [(name, bounds) for name, (_, given) in SCALAR.items() for bounds in given]


@pytest.mark.parametrize(("name", "bounds"), CASES)
def test_numbers(name, bounds):
    terms = SCALAR[name][0]
    value, log_jacobian = getattr(fe.math, name)(U, *bounds)
    with mp.workdps(60):
        exact = [mp.mpf(each) for each in bounds]
        points = [mp.mpf(float(u)) for u in U]
        assert_within(value, [terms(u, *exact) for u in points], 4)
        slopes = [
            mp.diff(
                lambda v, u=u: mp.fsum(terms(v, *exact)), u, h=mp.mpf(10) ** -25, relative=False
            )
            for u in points
        ]
        parts = [[mp.log(abs(slope)), mp.mpf(1), mp.mpf(-1)] for slope in slopes]
        assert_within(log_jacobian, parts, 4)


def ordered(u):
    value = [u[0]]
    for each in u[1:]:
        value.append(value[-1] + mp.exp(each))
    return value


def simplex(u):
    """Stan's definition."""
    value = []
    for k, each in enumerate(u):
        z = expit(each - mp.log(len(u) - k))
        value.append((1 - mp.fsum(value)) * z)
    return value


@pytest.mark.parametrize("name", ["ordered", "simplex"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_vectors(name, size):
    exact_of = {"ordered": ordered, "simplex": simplex}[name]
    for spread in (0.5, 3.0, 20.0):
        u = RNG.normal(0, spread, size)
        value, log_jacobian = getattr(fe.math, name)(u)
        with mp.workdps(80):
            point = [mp.mpf(float(each)) for each in u]
            exact = exact_of(point)
            jacobian = mp.matrix(size)
            for j in range(size):
                step = mp.mpf(10) ** -30
                ahead, behind = (
                    exact_of([each + side * step * (i == j) for i, each in enumerate(point)])
                    for side in (1, -1)
                )
                for i in range(size):
                    jacobian[i, j] = (ahead[i] - behind[i]) / (2 * step)
            size_of_terms = mp.fsum(map(abs, point)) * size + 1
            slope = mp.log(abs(mp.det(jacobian)))
            assert_within([log_jacobian], [[slope, size_of_terms, -size_of_terms]], 4)
            if name == "simplex":
                # An ulp of u, and of the logarithm of the number of parts, is one of the parts.
                scale = 4 + 4 * np.cumsum(1 + np.abs(u))
                error = np.array(
                    [float(abs(g / e - 1)) for g, e in zip(value[:-1], exact, strict=True)]
                )
                assert (error <= scale * np.finfo(float).eps).all()
                assert value.shape == (size + 1,)
                assert abs(value.sum() - 1) <= 4e-16
                rest = 1 - mp.fsum(exact)
                assert abs(value[-1] / rest - 1) <= 2 * scale[-1] * np.finfo(float).eps
            else:
                assert_within(value, [[e, size_of_terms, -size_of_terms] for e in exact], 4)
                assert (np.diff(value) >= 0).all()


def test_equal_parts():
    value, _ = fe.math.simplex(np.zeros(9))
    np.testing.assert_allclose(value, 0.1, rtol=4e-15)


@pytest.mark.parametrize(
    ("name", "args", "value", "log_jacobian"),
    [
        ("positive", (INF,), INF, INF),
        ("positive", (-INF,), 0.0, -INF),
        ("positive", (NAN,), NAN, NAN),
        ("lower_bounded", (-800.0, 3.0), 3.0, -800.0),
        ("upper_bounded", (-800.0, 3.0), 3.0, -800.0),
        ("lower_bounded", (0.0, -INF), -INF, 0.0),
        ("interval", (INF, 1.0, 2.0), 2.0, -INF),
        ("interval", (-INF, 1.0, 2.0), 1.0, -INF),
        ("interval", (1e308, 1.0, 2.0), 2.0, -1e308),
        ("interval", (-1e308, 1.0, 2.0), 1.0, -1e308),
        ("interval", (-700.0, 0.0, 1.0), np.exp(-700.0), -700.0),
        ("interval", (NAN, 1.0, 2.0), NAN, NAN),
        ("interval", (0.0, 2.0, 2.0), NAN, NAN),
        ("interval", (0.0, 2.0, 1.0), NAN, NAN),
    ],
)
def test_edges(name, args, value, log_jacobian):
    got = getattr(fe.math, name)(*args)
    assert all(isinstance(each, float) for each in got)
    np.testing.assert_allclose(got, (value, log_jacobian), rtol=1e-15)


def test_vectors_far_out():
    value, log_jacobian = fe.math.simplex([INF, 0.0])
    np.testing.assert_array_equal(value, [1.0, 0.0, 0.0])
    assert log_jacobian == -INF
    value, log_jacobian = fe.math.simplex([-800.0, 800.0, 0.0])
    np.testing.assert_allclose(value, [0.0, 1.0, 0.0, 0.0], atol=1e-300)
    assert np.isfinite(log_jacobian)
    assert np.isnan(fe.math.simplex([0.0, NAN])[1])
    assert np.isnan(fe.math.ordered([0.0, NAN])[0][1])
