"""Collect slices of data points."""

import tracemalloc

import numpy as np
import pytest

from fastelbo.engine import states
from fastelbo.engine.states import Reader, StateForm, States


@pytest.mark.parametrize("kept", [True, False])
def test_memory_of_many_slices(monkeypatch, kept):
    slices, points, capacity = 20, 2000, 96
    form = StateForm((10, 100), capacity)
    tail_bytes = 8 * slices * points * capacity
    monkeypatch.setattr(states, "_TAIL_BYTES", tail_bytes if kept else 0)
    # Compilation takes memory too, so it comes before the measurement.
    Reader(1, 1000, form).add(States(1, form))
    reader = Reader(slices * points, 1000, form)
    tracemalloc.start()
    try:
        for _ in range(slices):
            reader.add(States(points, form))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # About twenty numbers per data point, and the tails only if they are kept.
    assert held - (tail_bytes if kept else 0) < 8 * slices * points * 25
    values = reader.quantities()
    assert values["tail"].shape == (slices * points, capacity if kept else 0)
    np.testing.assert_array_equal(values["log_evidence"], np.full(slices * points, -np.inf))
