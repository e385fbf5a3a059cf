"""The largest values of a row with their places, against a stable sort by NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays

from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.math import selection, simd

EACH = settings(deadline=None, derandomize=True, max_examples=60)
RNG = np.random.default_rng(0)
N = 5000


@kernel
def run_select(row, size, value, place):
    candidates = selection.make_candidates(size)
    found = selection.select_largest(row, row.size, size, candidates)
    value[:found], place[:found] = candidates.value[:found], candidates.place[:found]
    return found


@kernel
def run_words(x, first, threshold):
    word = simd.word_above(x, first, threshold)
    return word, simd.lowest_bit(word)


@kernel
def run_words_below(x, first, threshold):
    return simd.word_below(x, first, threshold)


@kernel
def run_above(x, n, threshold, value, place):
    return selection.take_above(x, n, threshold, 0, value, place)[0]


@kernel
def run_below(x, threshold, out):
    return selection.take_below(x, x.size, threshold, out)


def assert_selects(row, size):
    value, place = np.full(size, np.nan), np.full(size, -1)
    found = run_select(row, size, value, place)
    eligible = np.flatnonzero(row > -np.inf)
    # Zeros are equal, whatever their sign.
    order = eligible[np.argsort(-row[eligible], kind="stable")][:size]
    assert found == order.size
    np.testing.assert_array_equal(place[:found], order)
    np.testing.assert_array_equal(value[:found], row[order])


ROWS = {
    "normal": RNG.normal(size=N),
    "equal": np.full(N, 2.0),
    "few values": RNG.integers(-3, 4, N).astype(float),
    "an outlier, beside which all others are as one": np.append(RNG.normal(size=N), 1e12),
    "a unit in the last place apart": 1.0 + 2.0**-52 * RNG.permutation(N),
    "around zero": np.concatenate([RNG.normal(size=N) * 1e-300, [0.0, -0.0, -1.0]]),
    "subnormal": 5e-324 * RNG.integers(0, 50, N),
    "infinitely far apart": RNG.choice([-1.7e308, 1.7e308, 1.0, 0.0], N),
    "infinite": RNG.choice([np.inf, -np.inf, 1.0, 2.0], N),
    "holes": np.where(RNG.random(N) < 0.5, np.nan, RNG.normal(size=N)),
    "ascending": np.arange(N, dtype=float),
    "descending": -np.arange(N, dtype=float),
    "heavy": RNG.standard_cauchy(N),
}


@pytest.mark.parametrize("size", [1, 5, 64, 127, 128, 129, 191, 1000])
@pytest.mark.parametrize("name", ROWS)
def test_order_and_places(name, size):
    assert_selects(ROWS[name], size)
    assert_selects(ROWS[name][:size], size)


@EACH
@given(
    arrays.arrays(float, some.integers(1, 700), elements=some.floats(allow_nan=False)),
    some.integers(1, 300),
)
def test_any_row(row, size):
    assert_selects(row, size)


@EACH
@given(
    arrays.arrays(float, 80, elements=some.sampled_from([-np.inf, -1.0, 0.0, 1.0, np.inf, np.nan])),
    some.integers(0, 16),
    some.sampled_from([-np.inf, -1.0, 0.5, 1.0]),
)
def test_words(x, first, threshold):
    expected = simd.word_above(x, first, threshold)
    word, lowest = run_words(x, first, threshold)
    assert word == expected
    bits = np.flatnonzero(x[first : first + simd.BITS] > threshold)
    assert [k for k in range(simd.BITS) if int(expected) >> k & 1] == bits.tolist()
    assert lowest == simd.lowest_bit(expected) == (bits[0] if bits.size else 0)
    below = simd.word_below(x, first, threshold)
    assert run_words_below(x, first, threshold) == below
    bits = np.flatnonzero(x[first : first + simd.BITS] < threshold)
    assert [k for k in range(simd.BITS) if int(below) >> k & 1] == bits.tolist()


@EACH
@given(
    arrays.arrays(float, some.integers(0, 300), elements=some.floats(-2.0, 1.0)),
    some.sampled_from([-2.5, -2.0, -1.0, 0.0, 0.5, 1.0]),
)
def test_values_above(x, threshold):
    expected = np.flatnonzero(x > threshold)
    room = np.concatenate([x, np.zeros(simd.BITS)])
    # To an array of its own, and in place.
    for value in (np.zeros_like(room), room):
        place = np.full(room.size, -1)
        found = run_above(room, x.size, threshold, value, place)
        np.testing.assert_array_equal(place[:found], expected)
        np.testing.assert_array_equal(value[:found], x[expected])


@EACH
@given(
    arrays.arrays(float, some.integers(0, 300), elements=some.floats()),
    some.floats(allow_nan=False),
)
def test_values_below(x, threshold):
    out = np.full(x.size + 1, np.nan)
    found = run_below(x, threshold, out)
    expected = -x[(x > -np.inf) & (x < threshold)]
    np.testing.assert_array_equal(out[:found], expected)
    assert np.isnan(out[-1])
