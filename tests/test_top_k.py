"""The largest values of a stream, for any cuts, against a sort of the whole stream."""

import numpy as np
import pytest
from helpers import quiet
from hypothesis import given, settings
from hypothesis import strategies as some

import fastelbo as fe
from fastelbo.kernels.jit.compile import kernel
from fastelbo.kernels.state import top_k

EACH = settings(deadline=None, derandomize=True, max_examples=40)
RNG = np.random.default_rng(0)
N = 30_000


@kernel
def run_stream(x, edges, rows_end, capacity, rows, out):
    """Fill a row per stream with pieces of x between the edges; fold them, sort into ``out``."""
    stream = top_k.make_top_k(1, capacity)
    piece = 0
    for r in range(rows.shape[0]):
        top_k.open_row(stream, 0, rows[r - 1, top_k.THRESHOLD] if r > 0 else -np.inf)
        while piece < rows_end[r]:
            part = x[edges[piece] : edges[piece + 1]]
            n = part.shape[0]
            top = -np.inf
            for k in range(n):
                top = max(top, part[k])
            top_k.push_top(stream, 0, capacity, part, n, top)
            piece += 1
        top_k.close_row(stream, 0, capacity, rows[r])
    top_k.open_row(stream, 0, -np.inf)
    for r in range(rows.shape[0]):
        top_k.push_top_row(stream, 0, capacity, rows[r])
    top_k.close_row(stream, 0, capacity, rows[0])
    top_k.sort_row(rows[0], out.size, top_k.make_sorting(out.size), out)


def largest(x, capacity, cuts=(), streams=1):
    """The ``capacity`` largest of x, from ``streams`` rows and pieces of at most 2048 values."""
    edges = np.unique([*range(0, x.size, top_k.MOST_PUSHED), *cuts, x.size])
    ends = np.linspace(0, len(edges) - 1, streams + 1).astype(np.int64)[1:]
    rows = np.full((streams, top_k.row_size(capacity)), np.nan)
    out = np.full(capacity, np.nan)
    run_stream(x, edges, ends, capacity, rows, out)
    return out


def expected(x, capacity):
    padded = np.concatenate([x, np.full(capacity, -np.inf)])
    return np.sort(padded)[: -capacity - 1 : -1]


STREAMS = {
    "normal": RNG.normal(size=N),
    "heavy": RNG.standard_t(1, size=N),
    "ascending": 1e-9 * np.arange(N),
    "descending": -1e-9 * np.arange(N),
    "equal": np.full(N, -3.0),
    "few values": RNG.integers(0, 3, N).astype(float),
    "mostly zero weights": np.where(RNG.random(N) < 0.01, RNG.normal(size=N), -np.inf),
    "zero weights": np.full(N, -np.inf),
    "late": np.where(np.arange(N) < N - 100, -40.0 + RNG.random(N), RNG.random(N)),
    "short": RNG.normal(size=50),
    "subnormal": 5e-324 * RNG.integers(0, 1000, N),
}


@pytest.mark.parametrize("streams", [1, 7])
@pytest.mark.parametrize("capacity", [1, 6, 97, 520, 4096])
@pytest.mark.parametrize("x", STREAMS.values(), ids=STREAMS.keys())
def test_streams(x, capacity, streams):
    np.testing.assert_array_equal(largest(x, capacity, (), streams), expected(x, capacity))


@EACH
@given(
    some.integers(0, N), some.integers(1, 2000), some.lists(some.integers(1, N - 1), max_size=30),
    some.integers(1, 5), some.sampled_from(["normal", "few values", "mostly zero weights"]),
)  # fmt: skip
def test_any_cuts(n, capacity, cuts, streams, kind):
    x = STREAMS[kind][:n]
    cuts = [cut for cut in cuts if cut < n]
    np.testing.assert_array_equal(largest(x, capacity, cuts, streams), expected(x, capacity))


def test_rows_do_not_depend_on_the_rows_before():
    # A threshold that suits one row is tried in the next one.
    rng = np.random.default_rng(1)
    kinds = [
        rng.normal(size=N),
        5.0 - rng.standard_exponential(N),
        np.full(N, -3.0),
        rng.standard_exponential(N),
        np.where(rng.random(N) < 0.99, -np.inf, rng.normal(size=N)),
        rng.integers(0, 3, N).astype(float),
    ]
    rows = np.array([kinds[k][:6000] for k in rng.integers(0, len(kinds), 40)])
    with quiet():
        together = fe.summarize(rows, axis=1, iw_sizes=())
        alone = [fe.summarize(row, iw_sizes=()).pareto_k for row in rows]
    np.testing.assert_array_equal(together.pareto_k, alone)
