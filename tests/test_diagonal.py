"""Terms of components with diagonal scales, summed in registers, against NumPy."""

import numpy as np
import pytest

from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math.diagonal import diagonal_terms

LANES, COMPONENTS = 128, 5


@kernel
def set_terms(const, base, factor, target, first, count, v, n, out):
    diagonal_terms(const, base, factor, target, first, count, v, n, out)


def inputs(rows, dtype=np.float64):
    rng = np.random.default_rng(rows)
    factor = rng.normal(size=(COMPONENTS, 1, rows)).astype(dtype)
    target = rng.normal(size=(COMPONENTS, rows)).astype(dtype)
    return rng.normal(size=COMPONENTS), factor, target, rng.normal(size=(rows, LANES)).astype(dtype)


@pytest.mark.parametrize("rows", [4, 8, 12, 40])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-5)])
def test_terms(rows, dtype, tolerance):
    const, factor, target, v = inputs(rows, dtype)
    first, count = 1, 3
    whitened = factor.swapaxes(1, 2) * v.astype(float) - target[:, :, None]
    expected = const[:, None] - 2.5 - 0.5 * (whitened**2).sum(axis=1)
    bits = {}
    for n in (1, 7, 64, 100, LANES):
        # Nothing behind the lanes is written, nor other rows.
        out = np.full((count + 1, LANES), np.nan, dtype)
        set_terms(const, 2.5, factor, target, first, count, v, n, out)
        np.testing.assert_allclose(
            out[:count, :n], expected[first : first + count, :n], rtol=tolerance, atol=tolerance
        )
        assert np.isnan(out[count]).all()
        bits[n] = [row.tobytes() for row in out[:count, :n]]
    # A lane does not depend on how many there are.
    for rows_of_n in bits.values():
        assert all(map(bytes.startswith, bits[LANES], rows_of_n))


def test_component_without_weight_and_coordinates_that_are_not_finite():
    const, factor, target, v = inputs(8)
    const[2] = -np.inf
    v[3, 5], v[7, 70], v[0, 9] = np.nan, np.inf, 1e200
    out = np.empty((COMPONENTS, LANES))
    set_terms(const, 0.0, factor, target, 0, COMPONENTS, v, LANES, out)
    assert np.isnan(out[:, 5]).all()
    assert (out[:, [9, 70]] == -np.inf).all()
    assert (np.delete(out[2], 5) == -np.inf).all()
    assert np.isfinite(np.delete(np.delete(out, 2, 0), [5, 9, 70], 1)).all()
