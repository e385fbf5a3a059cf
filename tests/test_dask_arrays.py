"""Dask arrays of log weights: the bits of an array in main memory, but none is loaded."""

import collections
import contextlib
import gc
import itertools
import os
import pickle
import signal
import threading
import time
import weakref

import numpy as np
import pytest
from clusters import local_client
from helpers import IGNORE_DIAGNOSTICS, bits

import fastelbo as fe
from fastelbo import errors
from fastelbo.arrays import dask_parts, dask_tasks
from fastelbo.engine.cluster import rows as dask_rows
from fastelbo.kernels.cpu import launch

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
CHUNK = 8192


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Chunks are not joined, as large ones are not."""
    monkeypatch.setattr(dask_parts, "_JOINED_ELEMENTS", 1)


@pytest.fixture
def two_threads():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def heavy(shape, seed=0):
    """Log weights of which some have a high k-hat, and some a weight of 0."""
    x = np.random.default_rng(seed).standard_t(2.5, size=shape)
    x[x < -40.0] = -np.inf
    return x


def assert_same(got, want):
    """All fields of two named tuples are alike: types, shapes and bits."""
    for name, one, other in zip(want._fields, got, want, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape), name
        assert one.tobytes() == other.tobytes(), name


def counted(x, chunks):
    """A Dask array of x, and how often each of its blocks has been made."""
    made = collections.Counter()

    def block(part, block_info=None):
        made[block_info[0]["chunk-location"]] += 1
        return part

    return da.from_array(x, chunks=chunks).map_blocks(block, dtype=x.dtype), made


# --- the same bits ------------------------------------------------------------------------------

LAYOUTS = [
    ((40_000,), -1, ["auto", 1000, CHUNK, 9001]),
    ((5, 40_000), 1, [(5, CHUNK), (2, 40_000), (1, -1), (2, 9001), (5, 100)]),
    ((40_000, 5), 0, [(CHUNK, 5), (-1, 1), (9001, 2), (3 * CHUNK, 3)]),
    ((3, 20_000, 4), 1, [(3, 20_000, 4), (2, 9001, 3), (1, CHUNK, 1)]),
    ((40, 30), 1, [(7, 30), (40, 11), (1, 1)]),
]


@pytest.mark.parametrize(("shape", "axis", "chunks"), LAYOUTS)
def test_summarize_in_any_chunks(shape, axis, chunks):
    x = heavy(shape)
    want = bits(fe.summarize(x, axis=axis))
    for each in chunks:
        got = fe.summarize(da.from_array(x, chunks=each), axis=axis)
        assert bits(got) == want, each


@pytest.mark.parametrize("options", [{"iw_sizes": (3, 1000, 9999)}, {"pareto_k": False}])
def test_options(two_threads, options):
    x = heavy((3, 50_000))
    array = da.from_array(x, chunks=(2, 7000))
    got = fe.summarize(array, rows="shared", progress=True, **options)
    assert bits(got) == bits(fe.summarize(x, rows="shared", **options))
    assert not got.independent
    assert fe.ess(array).tobytes() == fe.ess(x).tobytes()


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u1", "?", ">f8"])
def test_dtypes(dtype):
    x = (3.0 * np.random.default_rng(0).normal(size=(4, 30_000)) + 9.0).astype(dtype)
    array = da.from_array(x, chunks=(3, 9001))
    assert bits(fe.summarize(array)) == bits(fe.summarize(x))
    assert_same(fe.psis(array), fe.psis(x))


def test_weights_of_zero():
    x = heavy((4, 30_000))
    x[1, :9000] = x[2] = -np.inf
    assert bits(fe.summarize(da.from_array(x, chunks=(3, 9001)))) == bits(fe.summarize(x))


def test_lower_tails_are_those_of_the_blocks_with_them():
    x = np.random.default_rng(0).normal(size=(7, 30_000))
    x[2] = x[5] = -np.exp(4.0 * x[2])
    array, made = counted(x, (2, CHUNK))
    got, want = fe.summarize(array), fe.summarize(x)
    assert np.isfinite(want.pareto_k_elbo).sum() == 2
    assert bits(got) == bits(want)
    assert {place: n - 1 for place, n in made.items()} == {
        (i, j): int(i in (1, 2)) for i in range(4) for j in range(4)
    }


def test_no_data_points():
    x = np.zeros((3, 0, 100))
    array = da.from_array(x, chunks=(2, 1, 50))
    assert bits(fe.summarize(array)) == bits(fe.summarize(x))
    assert_same(fe.psis(array), fe.psis(x))


def test_terms(two_threads):
    terms = fe.elbo_terms(
        fe.Gaussian(np.zeros((5, 2)), scale=1.0), fe.Gaussian([0.1, 0.0], scale=1.3), 20_000, 0
    )
    lazy = type(terms)(*(da.from_array(each, chunks=(2, 9001)) for each in terms))
    assert bits(fe.summarize(lazy)) == bits(fe.summarize(terms))


@pytest.mark.parametrize("order", [("chain", "draw", "a", "b"), ("a", "chain", "b", "draw")])
@pytest.mark.parametrize(
    "chunks",
    [{}, {"chain": 1, "draw": 5000}, {"chain": 2, "draw": 9001, "a": 2}, {"a": 1, "b": 3}],
)
def test_xarray(order, chunks):
    xarray = pytest.importorskip("xarray")
    x = xarray.DataArray(heavy((3, 10_001, 3, 4)), dims=("chain", "draw", "a", "b"))
    x = x.transpose(*order)
    lazy = x.chunk(chunks)
    assert bits(fe.summarize(lazy)) == bits(fe.summarize(x))
    backwards = {"dim": ("draw", "chain")}
    assert bits(fe.summarize(lazy, **backwards)) == bits(fe.summarize(x, **backwards))
    dataset = lazy[dict(chain=0)].to_dataset(name="y")
    assert bits(fe.summarize(dataset, var="y")) == bits(fe.summarize(x[dict(chain=0)]))
    assert_same(fe.psis(lazy), fe.psis(x))


# --- whole rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [(2, 1000, 3), (6, 3000, 4), (1, -1, 1)])
@pytest.mark.parametrize("r_eff", [1.0, np.linspace(0.3, 1.2, 24).reshape(6, 4)])
def test_psis(two_threads, chunks, r_eff):
    x = heavy((6, 3000, 4))
    array = da.from_array(x, chunks=chunks)
    got = fe.psis(array, r_eff, axis=1)
    assert got.log_weights.chunks == array.chunks
    assert_same(got, fe.psis(x, r_eff, axis=1))
    k = fe.pareto_k(array, r_eff, axis=1)
    assert k.tobytes() == fe.pareto_k(x, r_eff, axis=1).tobytes()


@pytest.mark.parametrize("chunks", [(2, 300, 7), (4, 500, 22), (1, -1, 1)])
def test_loo(chunks):
    x = -(np.random.default_rng(0).normal(size=(4, 500, 22)) ** 2)
    array = da.from_array(x, chunks=chunks)
    log_p, log_q = np.random.default_rng(1).normal(size=(2, 4, 500))
    for options in ({"r_eff": 0.5}, {"log_p": log_p, "log_q": log_q}):
        assert_same(fe.loo(array, **options), fe.loo(x, **options))
    assert_same(fe.loo(array[0]), fe.loo(x[0]))
    assert_same(fe.loo(array[0].astype("f4")), fe.loo(x[0].astype("f4")))
    # By chains: NumPy sums columns in an order that depends on how many there are.
    got, want = fe.loo(array), fe.loo(x)
    assert (want.r_eff != 1.0).any()
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_chains_that_are_copies():
    x = -(np.random.default_rng(0).normal(size=(4, 500, 20)) ** 2)
    # Copies in one block alone are none: so are the likelihoods of an observation that is constant.
    x[3, :, :5] = x[1, :, :5]
    x[:, :, 7] = -1.0
    got = fe.loo(da.from_array(x, chunks=(4, 500, 5)))
    np.testing.assert_allclose(got.elpd_loo, fe.loo(x).elpd_loo, rtol=1e-12)
    x[3] = x[1]
    for array in (x, da.from_array(x, chunks=(2, 300, 5))):
        with pytest.raises(errors.InvalidInputError, match="same draws in the chains 1 and 3"):
            fe.loo(array)


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [fe.summarize, fe.ess, fe.psis, fe.pareto_k, fe.loo])
def test_bad_numbers_have_the_address_that_they_have_in_the_whole(function):
    x = np.random.default_rng(0).normal(size=(9, 20_000))
    x[4, 17_001] = x[7, 2] = np.nan
    x[4, 17_500] = np.inf
    messages = []
    for array in (x, da.from_array(x, chunks=(2, 9001))):
        with pytest.raises(errors.InvalidWeightError) as error:
            function(array, axis=1)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "3 " in messages[0]
    assert "data point 4, draw 17001" in messages[0]


def test_densities_of_an_approximation_that_are_not_finite():
    x = np.random.default_rng(0).normal(size=(500, 6))
    options = {"log_p": np.where(np.arange(500) == 33, 1.5e308, 0.0), "log_q": -np.full(500, 1e308)}
    for array in (x, da.from_array(x, chunks=(200, 2))):
        with pytest.raises(errors.InvalidWeightError, match="inf at draw 33"):
            fe.loo(array, **options)


def test_arrays_that_are_refused():
    array = da.ones((4, 100), chunks=(2, 50))
    unknown = array[array[:, 0] > 0.0]
    with pytest.raises(errors.InvalidInputError, match=r"known sizes.*compute_chunk_sizes"):
        fe.summarize(unknown)
    with pytest.raises(errors.UnsupportedDTypeError, match="complex128"):
        fe.summarize(array.astype(complex))
    with pytest.raises(errors.UnsupportedDTypeError, match="object"):
        fe.psis(array.astype(object))
    with pytest.raises(errors.UnsupportedDTypeError, match="masked"):
        fe.summarize(da.ma.masked_array(array, array > 2.0))
    # A mask that the array does not tell of.
    masked = array.map_blocks(np.ma.masked_array, dtype=float, meta=np.empty((0, 0)))
    with pytest.raises(errors.UnsupportedDTypeError, match="masked"):
        fe.summarize(masked)
    with pytest.raises(errors.InvalidInputError, match="at least 1"):
        fe.summarize(array[:, :0])
    with pytest.raises(errors.InvalidInputError, match="axis"):
        fe.summarize(array, axis=2)
    with pytest.raises(errors.InvalidInputError, match="named dimensions"):
        fe.summarize(array, dim="draw")
    with pytest.raises(errors.InvalidInputError, match=r"replicates.*main memory.*Dask array"):
        fe.summarize(array, replicates=4)
    with pytest.raises(errors.InvalidInputError, match=r"at most 134,217,728 draws.*summarize"):
        fe.psis(da.ones(2**28))
    with pytest.raises(errors.InvalidInputError, match="r_eff must be a scalar or"):
        fe.psis(array, r_eff=np.ones(3))
    with pytest.raises(errors.InvalidInputError, match=r"Dask Delayed.*from_delayed"):
        fe.summarize(dask.delayed(np.ones)(100))


def test_an_array_of_sparse_blocks():
    sparse = type("SparseArray", (), {"__module__": "sparse.core"})()
    array = da.ones((4, 100))
    array._meta = sparse
    with pytest.raises(
        errors.UnsupportedDTypeError, match=r"NumPy arrays, got.*sparse\.SparseArray"
    ):
        fe.summarize(array)


def test_a_block_of_another_shape_than_the_chunks_say():
    array = da.ones((4, 100)).map_blocks(
        lambda part: part[:, :50], dtype=float, meta=np.empty((0, 0))
    )
    with pytest.raises(ValueError, match="log_weights has a block"):
        fe.summarize(array)


ELSEWHERE = {
    "logsumexp": fe.logsumexp,
    "logmeanexp": fe.logmeanexp,
    "a bound": lambda x: fe.renyi_bound(x, 0.5),
    "a parameter": lambda x: fe.Gaussian(x, scale=1.0),
    "pieces": lambda x: fe.summarize(iter([x])),
    "a list": lambda x: fe.summarize([x, x], axis=0),
    "log_p": lambda x: fe.loo(np.ones((100, 2)), log_p=x, log_q=np.ones(100)),
    "r_eff": lambda x: fe.psis(np.ones(100), r_eff=x),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_other_function_loads_a_dask_array(name):
    array, made = counted(np.zeros(100), 10)
    with pytest.raises(errors.InvalidInputError, match=r"Dask collection \(Array\).*compute\(\)"):
        ELSEWHERE[name](array)
    assert not made


# --- never loaded -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [(5, CHUNK), (2, -1), (1, 2 * CHUNK)])
def test_blocks_of_whole_chunks_are_made_once(chunks):
    x = np.random.default_rng(0).normal(size=(5, 50_000))
    array, made = counted(x, chunks)
    fe.summarize(array)
    assert set(made.values()) == {1}
    assert len(made) == array.npartitions


def test_other_blocks_are_made_at_most_twice():
    x = np.random.default_rng(0).normal(size=(2, 300_000))
    array, made = counted(x, (2, 10_000))
    fe.summarize(array)
    assert len(made) == 30
    assert set(made.values()) == {1, 2}


def test_small_chunks_are_joined(monkeypatch):
    x = heavy((400, 300))
    array, made = counted(x, (3, 40))
    monkeypatch.setattr(dask_parts, "_JOINED_ELEMENTS", 30_000)
    parts = dask_parts.cut_spans(array, 1, CHUNK, 1000)
    assert [len(parts.points[0]), len(parts.spans)] == [5, 1]
    assert bits(fe.summarize(array, pareto_k=False)) == bits(fe.summarize(x, pareto_k=False))
    assert set(made.values()) == {1}


class Virtual:
    """Makes blocks of a Dask array, and knows how many there are at a time."""

    def __init__(self):
        self.alive, self.most, self._lock = 0, 0, threading.Lock()

    def make(self, block_info=None):
        place = block_info[None]
        block = np.random.default_rng(place["chunk-location"]).normal(size=place["chunk-shape"])
        with self._lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(block, self._drop)
        return block

    def _drop(self):
        with self._lock:
            self.alive -= 1


@pytest.mark.parametrize("lengths", [((2**17,) * 60,), ((CHUNK,) * 30, (16, 16))])
def test_few_blocks_are_in_memory_at_a_time(two_threads, lengths):
    """60 MB in blocks of 1 MB, on two threads."""
    virtual = Virtual()
    meta = np.empty((0,) * len(lengths))
    array = da.map_blocks(virtual.make, chunks=lengths, dtype=float, meta=meta)
    est = fe.summarize(array, 0, iw_sizes=(), pareto_k=False)
    assert np.all(abs(est.log_evidence - 0.5) < 0.1)
    gc.collect()
    assert virtual.alive == 0
    assert 1 <= virtual.most <= 5


def test_tasks_are_made_as_results_arrive(two_threads):
    """Of a run of 10^12 draws, with no task but those that are due."""
    array = da.zeros(10**12, chunks=2**20 * 1000, dtype=float)
    made = itertools.count()

    def tasks():
        while True:
            next(made)
            yield dask_tasks.Task(dask.delayed(len)("abc"), "nowhere")

    results = dask_tasks.in_order(array, tasks())
    assert list(itertools.islice(results, 10)) == [3] * 10
    assert next(made) <= 10 + 2 * 2
    results.close()


def test_cuts():
    array = da.zeros((1000, 10**9), chunks=(100, 10**6))
    parts = dask_parts.cut_spans(array, 1, CHUNK, most_points=40)
    # Borders at multiples of a chunk, the last one at the end.
    assert all(lo % CHUNK == 0 for lo, _ in parts.spans)
    assert [stop for _, stop in parts.spans[:-1]] == [lo for lo, _ in parts.spans[1:]]
    assert parts.spans[-1][1] == 10**9
    assert len(parts.spans) == 1000
    assert max(stop - lo for lo, stop in parts.points[0]) <= 40
    # Rows that are cut are joined in boxes of limited size.
    array = da.zeros((10**4, 10**6), chunks=(1000, 1000))
    parts = dask_parts.cut_boxes(array, (1,))
    assert {box[0].stop - box[0].start for box in parts.boxes} <= set(range(30, 35))


def test_one_thread_a_block(two_threads, monkeypatch):
    threads = collections.defaultdict(set)
    run = launch.run_on_threads

    def recorded(n_threads, *args, **options):
        threads[threading.current_thread() is threading.main_thread()].add(n_threads)
        run(n_threads, *args, **options)

    monkeypatch.setattr(launch, "run_on_threads", recorded)
    x = np.random.default_rng(0).normal(size=(20, 2**16))
    x[3] = -np.exp(4.0 * x[3])
    array = da.from_array(x, chunks=(10, 2**15))
    fe.summarize(array)
    fe.psis(array).log_weights.compute()
    fe.loo(array, axis=1)
    fe.loo(array, axis=1, log_p=np.zeros(2**16), log_q=np.zeros(2**16))
    assert threads[False] == {1}


def test_tasks_travel():
    array = da.ones((4, 20_000), chunks=(2, 9000))
    parts = dask_parts.cut_spans(array, 1, CHUNK, 10)
    for function in (dask_rows._states_of_block, dask_rows._tails_of_block):
        assert pickle.loads(pickle.dumps(function)) is function
    args = (dask_rows._rows, parts, array, parts.boxes[0], parts.spans[0], 1, "x", 100)
    first, second = (dask_tasks.task_of(*args) for _ in range(2))
    assert first.delayed.key == second.delayed.key
    assert first.where == "draws 0 to 8192 of the data points [0:2]"


# --- on a cluster -------------------------------------------------------------------------------


@contextlib.contextmanager
def on(client):
    """Make it the current client, which Dask uses."""
    # The configuration goes to new workers: it may hold the name of a scheduler, but no client.
    with client.as_current(), dask.config.set(scheduler="distributed"):
        yield


def made_there(shape, chunks):
    """An array whose blocks the workers make, and the same here."""
    array = da.random.default_rng(0).standard_t(2.5, size=shape, chunks=chunks)
    return array, array.compute(scheduler="synchronous")


@pytest.mark.cluster
@pytest.mark.parametrize("workers", ["one_worker", "four_workers"])
def test_on_a_cluster(workers, request):
    client = request.getfixturevalue(workers)
    array, x = made_there((4, 20_000), (3, 9001))
    with on(client):
        got, smoothed = fe.summarize(array), fe.psis(array)
        log_weights = smoothed.log_weights.compute()
        loo = fe.loo(array, axis=1)
    assert bits(got) == bits(fe.summarize(x))
    assert_same(smoothed._replace(log_weights=log_weights), fe.psis(x))
    assert_same(loo, fe.loo(x, axis=1))


@pytest.mark.cluster
def test_lower_tails_on_a_cluster(one_worker):
    array, x = made_there((4, 20_000), (2, 9001))
    with on(one_worker):
        got = fe.summarize(-(array**4))
    want = fe.summarize(-(x**4))
    assert np.isfinite(want.pareto_k_elbo).all()
    assert bits(got) == bits(want)


@pytest.fixture(scope="module")
def mortal_workers():
    """A client of two workers that a test may kill: others take their place."""
    once = {"distributed.scheduler.allowed-failures": 1}
    with dask.config.set(once), local_client(2) as client:
        yield client


@pytest.mark.cluster
def test_a_worker_that_is_killed(mortal_workers):
    array, x = made_there((2, 16 * CHUNK), (2, CHUNK))

    # A function of a test travels whole: workers do not import this file.
    def slowly(block):
        time.sleep(0.2)
        return block

    victim = next(iter(mortal_workers.run(os.getpid).values()))
    killer = threading.Timer(0.5, os.kill, (victim, signal.SIGKILL))
    killer.start()
    with on(mortal_workers):
        got = fe.summarize(array.map_blocks(slowly, dtype=float))
    assert not killer.is_alive()
    assert bits(got) == bits(fe.summarize(x))


@pytest.mark.cluster
def test_a_block_that_kills_its_workers(mortal_workers):
    def kill(block, block_info=None):
        if block_info[0]["chunk-location"] == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    array = da.ones((4, 10**6), chunks=(2, 32 * CHUNK)).map_blocks(kill, dtype=float)
    with (
        on(mortal_workers),
        pytest.raises(
            errors.ClusterError,
            match=r"2 workers.*draws 524288 to 786432 of the data points \[2:4\]",
        ),
    ):
        fe.summarize(array)


def summarized(x):
    return fe.summarize(da.from_array(x, chunks=CHUNK), pareto_k=False).log_evidence


@pytest.mark.cluster
def test_within_a_task_of_the_only_worker(one_worker):
    x = np.random.default_rng(0).normal(size=30_000)
    future = one_worker.submit(summarized, x)
    assert future.result(timeout=60) == fe.summarize(x).log_evidence
