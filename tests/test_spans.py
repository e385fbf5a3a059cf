"""Spans of chunks: the order of their sums, whoever makes them, and what is kept of them."""

import itertools
import pickle

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, bits
from hypothesis import given, settings
from hypothesis import strategies as some

import fastelbo as fe
from fastelbo.engine import spans
from fastelbo.engine.cluster import workers
from fastelbo.engine.cluster.task_sizes import Limits, TaskSizes, parts
from fastelbo.engine.cpu import CPUBackend
from fastelbo.engine.lowered import lower
from fastelbo.engine.requests import new_request
from fastelbo.engine.states import States
from fastelbo.kernels.draws import blocks
from fastelbo.kernels.draws.blocks import CHUNK, Cut
from fastelbo.models.sampling import as_sampling

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)

SPAN = 3
CHUNKS = 11
# Within a chunk, over chunks and over spans.
SIZES = (7, 100, 8192, 10_000, 30_000)
WEIGHTS = np.random.default_rng(0).standard_t(3, size=(2, CHUNKS * CHUNK - 1000))
EACH = settings(deadline=None, derandomize=True, max_examples=20)


@pytest.fixture(autouse=True, scope="module")
def short_spans():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "SPAN", SPAN)
        yield


def filled(weights, **options):
    accumulator = fe.LogWeightAccumulator(SIZES, **options)
    accumulator.update(weights)
    return accumulator


def whole(weights=WEIGHTS):
    return bits(fe.summarize(weights, iw_sizes=SIZES))


def request(points=3, sampler="iid", n=CHUNKS * CHUNK - 1000):
    model = fe.LinearGaussian(
        np.linspace(-1.0, 1.0, 2 * points).reshape(points, 2), np.eye(2), noise_cov=0.5
    )
    q = fe.Gaussian(np.zeros(2), scale=1.1)
    sampling = as_sampling(sampler, 16, "box_muller", True)
    sizes = SIZES if sampler == "iid" else (2, 16)
    return new_request(model, q, n, 7, 3, "float64", sizes, True, sampling)


def equal(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].tobytes() == value.tobytes(), name


# --- the order of sums ----------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [SPAN + 1, 2 * SPAN, CHUNKS])
def test_spans_are_folded_from_the_left(chunks):
    wanted = request(n=chunks * CHUNK)
    part, made = CPUBackend().slice(wanted, 0, 3), []
    part._record = made.append
    part.append(0, chunks)
    [states], sizes = made, np.array(SIZES)
    folded = [
        spans.fold_states(np.ascontiguousarray(states[:, lo : lo + SPAN]), sizes)
        for lo in range(0, chunks, SPAN)
    ]
    total = folded[0]
    for each in folded[1:]:
        total = spans.fold_states(np.stack([total, each], axis=1), sizes)
    assert part.states().moments.tobytes() == total.tobytes()


def test_values_differ_by_rounding_alone(monkeypatch):
    short = fe.summarize(WEIGHTS, iw_sizes=SIZES).to_dict()
    monkeypatch.setattr(blocks, "SPAN", 1024)
    long = fe.summarize(WEIGHTS, iw_sizes=SIZES).to_dict()
    for name, value in long.items():
        np.testing.assert_allclose(short[name], value, rtol=1e-12, err_msg=name)
    assert any(np.any(np.asarray(short[n]) != np.asarray(long[n])) for n in long)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("sampler", ["iid", "sobol"])
def test_launches_of_any_size_give_the_same_bits(monkeypatch, n_threads, sampler):
    wanted = request(sampler=sampler, n=CHUNKS * CHUNK - 1000 if sampler == "iid" else 2**20)
    expected = CPUBackend().quantities(wanted, lambda *_: None)
    monkeypatch.setattr("fastelbo.kernels.cpu.launch._SLICE_SECONDS", 0.0)
    monkeypatch.setattr("fastelbo.engine.cpu._FIRST_WORK", 1)
    equal(CPUBackend(n_threads).quantities(wanted, lambda *_: None), expected)


# --- accumulators ---------------------------------------------------------------------------


@EACH
@given(some.lists(some.integers(0, WEIGHTS.shape[1]), max_size=8))
def test_pieces_give_the_bits_of_the_whole(cuts):
    accumulator = fe.LogWeightAccumulator(SIZES)
    for piece in np.split(WEIGHTS, sorted(cuts), axis=1):
        accumulator.update(piece)
    assert bits(accumulator.result()) == whole()


@pytest.mark.parametrize("cuts", [[1], [3], [4], [1, 2], [2, 7], [3, 6, 9], [1, 5, 10]])
@pytest.mark.parametrize("leftward", [True, False])
def test_merging_at_chunk_borders_is_exact(tmp_path, cuts, leftward):
    edges = [CHUNK * cut for cut in cuts]
    accumulators = []
    for lo, piece in zip([0, *edges], np.split(WEIGHTS, edges, axis=1), strict=True):
        filled(piece, first_draw=lo).save(tmp_path / str(lo))
        accumulators.append(fe.LogWeightAccumulator.load(tmp_path / str(lo)))
    while len(accumulators) > 1:
        i = len(accumulators) - 2 if leftward else 0
        accumulators[i].merge(accumulators.pop(i + 1))
    assert accumulators[0].exact
    assert bits(accumulators[0].result()) == whole()
    accumulators[0].update(WEIGHTS)
    assert bits(accumulators[0].result()) == whole(np.concatenate([WEIGHTS, WEIGHTS], axis=1))


@pytest.mark.parametrize("cut", [100, 3 * CHUNK + 5, 7 * CHUNK])
def test_merging_elsewhere_is_equal_to_rounding(cut):
    accumulator, other = filled(WEIGHTS[:, :cut]), filled(WEIGHTS[:, cut:])
    accumulator.merge(other)
    accumulator.update(WEIGHTS)
    assert not accumulator.exact
    expected = fe.summarize(np.concatenate([WEIGHTS, WEIGHTS], axis=1), iw_sizes=[7])
    got = accumulator.result()
    for name in ("log_evidence", "elbo", "elbo_se", "ess", "pareto_k"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-11)
    # Groups begin anew at the merge, and after it.
    cuts = [0, cut, WEIGHTS.shape[1], 2 * WEIGHTS.shape[1]]
    twice = np.concatenate([WEIGHTS, WEIGHTS], axis=1)
    kept = [twice[:, lo : lo + (hi - lo) // 100 * 100] for lo, hi in itertools.pairwise(cuts)]
    bound = fe.summarize(np.concatenate(kept, axis=1), iw_sizes=[100]).iw_elbo(100)
    np.testing.assert_allclose(got.iw_elbo(100).value, bound.value, rtol=1e-11)


def test_a_pickle_of_another_stream_is_refused(monkeypatch):
    monkeypatch.setattr("fastelbo.engine.accumulator.STREAM_VERSION", 3)
    content = pickle.dumps(filled(WEIGHTS[:, :50_000]))
    monkeypatch.undo()
    with pytest.raises(fe.errors.CheckpointMismatchError, match=r"version 3, expected \d+; what"):
        pickle.loads(content)


def test_what_begins_at_draw_0_ends_no_span(monkeypatch):
    """Draws after a merge elsewhere, and those of a second q, are counted from 0 again."""

    def values():
        accumulator = filled(WEIGHTS[:, :10_000])
        accumulator.merge(filled(WEIGHTS[:, 10_000:20_000]))
        accumulator.update(WEIGHTS[:, : 2 * CHUNK])
        both = fe.expectation("mean", LINEAR, [NORMAL, NORMAL], 2 * CHUNK, rng=3)
        return bits(accumulator.result()), both.ess.tobytes(), both.pareto_k.tobytes()

    expected = values()
    monkeypatch.setattr(blocks, "SPAN", 1024)
    assert values() == expected


# --- runs that go on ------------------------------------------------------------------------

LINEAR = fe.LinearGaussian([[0.3, -0.2], [1.0, 0.5]], np.eye(2), noise_cov=0.5)
NORMAL = fe.Gaussian(np.zeros(2), scale=1.1)


def run(chunks, **options):
    return fe.estimate(LINEAR, NORMAL, chunks * CHUNK + 7, rng=3, iw_sizes=SIZES[:3], **options)


@pytest.mark.parametrize(("before", "after"), [(2, 5), (3, 4), (4, 9), (6, 6), (7, 8)])
def test_more_draws_go_on_from_a_kept_state(before, after):
    kept = pickle.loads(pickle.dumps(run(before, keep_state=True)))
    assert (kept.state.earlier.size > 0) == (before > SPAN)
    more = run(after, previous=kept)
    assert bits(more) == bits(run(after))


@pytest.mark.parametrize("launches", [1, 2, 3, 4, 6, 7, 9])
def test_a_run_that_is_stopped_goes_on(tmp_path, monkeypatch, launches):
    expected, path, left = bits(run(8)), tmp_path / "run.ckpt", launches
    own = States.advance

    def interrupted(states, *args):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return own(states, *args)

    # Launches of a chunk of both data points.
    monkeypatch.setattr("fastelbo.kernels.cpu.launch._SLICE_SECONDS", 0.0)
    monkeypatch.setattr("fastelbo.engine.cpu._FIRST_WORK", 1)
    monkeypatch.setattr(States, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(8, checkpoint=path)
    monkeypatch.setattr(States, "advance", own)
    assert bits(run(8, checkpoint=path)) == expected


# --- what workers return --------------------------------------------------------------------


@EACH
@given(some.sets(some.integers(1, CHUNKS - 1)))
def test_workers_fold_spans(cuts):
    wanted = request()
    lowered, states = lower(wanted, slice(0, 3)), States(3, wanted.form)
    for first, stop in itertools.pairwise([0, *sorted(cuts), CHUNKS]):
        moments, begins, rows = workers.chunk_states(lowered, wanted.form, first, stop)
        # From the first border on, a state for each span.
        border = min(stop, first + -first % SPAN)
        assert moments.shape[1] == border - first + -(-(stop - border) // SPAN)
        states.append(moments, begins, rows)
    expected = CPUBackend().slice(wanted, 0, 3)
    expected.append(0, CHUNKS)
    assert states.moments.tobytes() == expected.states().moments.tobytes()
    for got, value in zip(states.tails(10**5), expected.states().tails(10**5), strict=True):
        assert got.tobytes() == value.tobytes()


def test_tasks_end_at_borders():
    sizes = TaskSizes(10**12, 5 * CHUNK, lambda: 4)
    cut = Cut(1, 40 * CHUNK, CHUNK)
    stops = [part.stop for part in parts(1, cut, 1, sizes, Limits(10, 40), lambda *_: None)]
    assert stops == [*range(SPAN, 37, SPAN), 40]
    few = TaskSizes(10**12, 2 * CHUNK, lambda: 4)
    stops = [part.stop for part in parts(1, cut, 1, few, Limits(10, 40), lambda *_: None)]
    assert stops[:5] == [2, 3, 5, 6, 8]
