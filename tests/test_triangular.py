"""Norms of triangular factors, summed in registers, against NumPy."""

import numpy as np
import pytest

from fastelbo.kernels.draws.densities import square_norm_triangular
from fastelbo.kernels.jit.compile import kernel

LANES = 128


@kernel
def square_norms(factor, target, v, n, room, out):
    square_norm_triangular(factor, target, v, n, room, out)


# Up to 64 rows are read in place; more are copied, if there is room.
@pytest.mark.parametrize("rows", [4, 8, 12, 40, 136])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-5)])
def test_norms(rows, dtype, tolerance):
    rng = np.random.default_rng(rows)
    factor = np.tril(rng.normal(size=(rows, rows))).astype(dtype)
    target = rng.normal(size=rows).astype(dtype)
    v = rng.normal(size=(rows, LANES)).astype(dtype)
    expected = ((factor.astype(float) @ v - target[:, None].astype(float)) ** 2).sum(axis=0)
    bits = {}
    for n in (1, 7, 64, 100, LANES):
        # Nothing behind the lanes is written.
        out = np.full(2 * LANES, np.nan, dtype)
        square_norms(factor, target, v, n, np.empty((4, LANES), dtype), out[:LANES])
        np.testing.assert_allclose(out[:n], expected[:n], rtol=tolerance)
        assert np.isnan(out[LANES:]).all()
        bits[n] = out[:n].tobytes()
    # A lane does not depend on how many there are.
    assert all(bits[LANES].startswith(each) for each in bits.values())


def test_nan_stays_in_its_lane():
    v = np.ones((12, LANES))
    v[3, 5], v[11, 70] = np.nan, np.inf
    out = np.empty(LANES)
    square_norms(np.eye(12), np.zeros(12), v, LANES, np.empty((4, LANES)), out)
    assert np.isnan(out[5])
    assert not np.isfinite(out[70])
    np.testing.assert_array_equal(np.delete(out, [5, 70]), 12.0)
