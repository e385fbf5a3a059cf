"""Rows of points and blocks of lanes, four by four, against NumPy."""

import numpy as np
import pytest

from fastelbo.kernels.draws.mixtures import store_shares
from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math.copies import load_rows


@kernel
def load(x, centre, n, v):
    load_rows(x, centre, n, v)


@kernel
def store(terms, total, n, out, first):
    store_shares(terms, total, n, out, first)


@pytest.mark.parametrize("dim", [1, 4, 7, 16])
@pytest.mark.parametrize("n", [1, 4, 13, 64])
def test_load_rows(dim, n):
    rng = np.random.default_rng(dim)
    x, centre = rng.normal(size=(n, 2, dim)), rng.normal(size=dim)
    x[n // 2, :, dim - 1] = np.nan
    # Rows that lie side by side, and rows of one member of a batch.
    for points in (np.ascontiguousarray(x[:, 1]), x[:, 1]):
        v = np.full((dim + 1, n + 3), 7.0)
        load(points, centre, n, v)
        np.testing.assert_array_equal(v[:dim, :n], (x[:, 1] - centre).T)
        assert (v[dim] == 7.0).all()
        assert (v[:, n:] == 7.0).all()


@pytest.mark.parametrize("components", [1, 4, 7, 32])
@pytest.mark.parametrize("n", [1, 4, 13, 64])
def test_store_shares(components, n):
    rng = np.random.default_rng(n)
    terms, total = rng.uniform(size=(components, 64)), rng.uniform(1.0, 2.0, 64)
    terms[-1, 0] = 0.0
    out = np.full((n + 3, components), 7.0)
    store(terms, total, n, out, 2)
    np.testing.assert_array_equal(out[2 : 2 + n], (terms / total)[:, :n].T)
    assert (out[:2] == 7.0).all()
    assert (out[2 + n :] == 7.0).all()
