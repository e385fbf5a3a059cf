"""Sorted values and products of polynomials, against NumPy."""

import numpy as np
import pytest

from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math import polynomials, sorting

RNG = np.random.default_rng(0)


@kernel
def run_sort(x, spare, out):
    sorting.sort_copy(x, x.size, spare, out)


@kernel
def run_products(coefficients, first, stop, t, product):
    for row in range(product.shape[0]):
        polynomials.multiply_values(coefficients, first, stop, t[row], product, row)


def room(n):
    rows = 8
    while 4 * rows < n:
        rows *= 2
    return np.full(4 * rows, np.nan)


VALUES = {
    "normal": lambda n: RNG.normal(size=n),
    "few values": lambda n: RNG.integers(-2, 3, n).astype(float),
    "zeros and ones": lambda n: RNG.integers(0, 2, n).astype(float),
    "ascending": lambda n: np.arange(n, dtype=float),
    "descending": lambda n: -np.arange(n, dtype=float),
    "infinite": lambda n: RNG.choice([np.inf, -np.inf, np.nan, 1.0], n),
    "zeros": lambda n: RNG.choice([-0.0, 0.0], n),
}


@pytest.mark.parametrize("kind", VALUES)
def test_sorted(kind):
    for n in [*range(1, 40), 64, 65, 127, 128, 129, 240, 256, 257, 513, 1025, 2100, 4608]:
        x = VALUES[kind](n)
        before, out = x.copy(), room(n)
        run_sort(x, room(n), out)
        np.testing.assert_array_equal(x, before)
        expected = -np.sort(-np.where(np.isnan(x), -np.inf, x))
        np.testing.assert_array_equal(out[:n], expected)
        assert not np.signbit(out[:n][out[:n] == 0.0]).any()


def test_products_of_polynomials():
    coefficients = RNG.random((polynomials.DEGREE, 40))
    t = np.array([-0.7, 0.0, 0.3])
    product = np.ones((3, polynomials.PRODUCTS))
    expected = product.copy()
    run_products(coefficients, 8, 40, t, product)
    for row in range(3):
        polynomials.multiply_values(coefficients, 8, 40, t[row], expected, row)
    np.testing.assert_allclose(product, expected, rtol=1e-14)
    values = [np.polyval([*column[::-1], 1.0], t) for column in coefficients.T[8:]]
    np.testing.assert_allclose(product.prod(axis=1), np.prod(values, axis=0), rtol=1e-13)
