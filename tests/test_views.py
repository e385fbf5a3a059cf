"""Rows of arrays as arrays of constant shape, compiled for the CPU."""

import numba
import numpy as np
import pytest

from fastelbo.kernels.cuda import views
from fastelbo.kernels.cuda.views import viewer


@pytest.mark.parametrize("internals", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4)])
def test_rows(shape, dtype, internals, monkeypatch):
    if not internals:
        monkeypatch.setattr(views, "populate_array", None)
    view = viewer(shape)

    @numba.njit
    def row(array, i):
        (alone,) = view(array, i)
        return alone.copy()

    @numba.njit
    def write(array, i):
        (alone,) = view(array, i)
        alone[:] = -1.0

    array = np.arange(4 * np.prod(shape), dtype=dtype).reshape(4, *shape)
    for i in range(4):
        np.testing.assert_array_equal(row(array, i), array[i : i + 1])
    write(array, 2)
    assert (array[2] == -1.0).all()
    assert (array[[0, 1, 3]] >= 0.0).all()


def test_other_layouts_are_refused():
    view = viewer((3,))

    @numba.njit
    def row(array):
        (alone,) = view(array, 0)
        return alone[0, 0]

    with pytest.raises(numba.TypingError, match="C-contiguous"):
        row(np.zeros((3, 3)).T)
