"""Ctrl-C: kernels stop within a block, and nothing half done is seen.

An interrupt is raised at a chosen place, not after a time: a call that waits for threads, or the
n-th line that is executed, for every n.
"""

import copy
import signal
import sys
import threading
import traceback

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, Interruption, bits

import fastelbo as fe
from fastelbo.kernels.cpu import launch as launches
from fastelbo.kernels.draws.blocks import CHUNK
from fastelbo.kernels.jit import threads
from fastelbo.kernels.jit.threads import STOPPED, most_threads, run_on_threads, stopped
from fastelbo.kernels.state.state import COUNT
from fastelbo.weights import bounds, resampling, scaled, ustatistics

pytestmark = pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS)
compiled_only = pytest.mark.skipif(not threads.can_wait(), reason="without a compiler none waits")


def interrupt_waits(monkeypatch, times):
    """The first ``times`` waits for threads raise KeyboardInterrupt."""
    left, wait = [times], threads.wait

    def interrupted(*args):
        left[0] -= 1
        if left[0] >= 0:
            raise KeyboardInterrupt
        return wait(*args)

    monkeypatch.setattr(threads, "wait", interrupted)
    return left


def each_interruption(act):
    """Call ``act`` with an interruption at its first line, its second, ... until none is left."""
    for n in range(1, 100_000):
        with Interruption(n) as interruption:
            act()
        yield interruption.left <= 0
        if interruption.left > 0:
            return


# --- threads --------------------------------------------------------------------------------------


def until_stopped(counter, running, met):
    """A kernel that only ends where it is stopped."""
    running.append(1)
    if len(running) > 1:
        met.set()
    while not stopped(counter):
        met.wait(0.001)
    running.pop()


@pytest.mark.parametrize("times", [1, 2, 5])
def test_interrupts_stop_all_threads_and_wait_for_them(monkeypatch, times):
    if most_threads() < 2:
        pytest.skip("one thread only")
    counter, running, met = np.zeros(1, np.int64), [], threading.Event()
    left = interrupt_waits(monkeypatch, times)
    with pytest.raises(KeyboardInterrupt):
        run_on_threads(2, until_stopped, counter, running, met, waits=True)
    assert counter[0] == STOPPED
    assert not running
    # Whoever had not begun before the first interrupt never did: there may be none to wait for.
    assert left[0] < times


@pytest.mark.parametrize("waits", [False, True])
def test_an_interrupt_at_any_line_leaves_no_thread_behind(waits):
    if most_threads() < 2:
        pytest.skip("one thread only")

    def step(counter, running):
        running.append(1)
        while counter[0] < 3:
            counter[0] += 1
        running.pop()

    counter, running = np.zeros(1, np.int64), []
    run_on_threads(2, step, counter, running, waits=waits)

    def act():
        counter[0] = 0
        run_on_threads(2, step, counter, running, waits=waits)

    count = 0
    for interrupted in each_interruption(act):
        count += interrupted
        assert not running
    assert count > 10


# Calls of about 2^34 multiply-adds, and the results of a launch that tell how much is done.
DIM, COMPONENTS = 128, 64


def heavy():
    scale_tril = np.tril(np.full((DIM, DIM), 0.01), -1) + np.eye(DIM)
    centres = np.linspace(-1.0, 1.0, COMPONENTS * DIM).reshape(COMPONENTS, DIM)
    cov = np.broadcast_to(scale_tril @ scale_tril.T, (COMPONENTS, DIM, DIM))
    weights = np.full(COMPONENTS, 1.0 / COMPONENTS)
    return fe.Mixture(weights, fe.Gaussian(centres, cov=cov)), fe.Gaussian(np.zeros(DIM), scale=2.0)


def chunk(model, q):
    fe.estimate(model, q, 2 * CHUNK, rng=0)


LONG = {
    "states": chunk,
    "terms": lambda model, q: fe.elbo_terms(model, q, 2**14, rng=0),
    "log_prob": lambda model, q: model.log_prob(np.zeros((2**14, DIM))),
    "draws": lambda model, q: model.sample(2**18, rng=0),
    "expectations": lambda model, q: fe.MixtureModel(
        np.zeros((2**14, DIM)), model
    ).exact_posterior(),
    "means": lambda model, q: fe.iw_elbo(np.arange(2.0**17) % 7, 2**16 + 1, method="complete"),
}


@compiled_only
@pytest.mark.parametrize("name", LONG)
def test_long_launches_stop_early_and_return_nothing(monkeypatch, name):
    model, q = heavy()
    watched = []

    def watch(count, share, counter, parts, *args, waits):
        if not waits or share.__name__ != name:
            return run_on_threads(count, share, counter, parts, *args, waits=waits)
        outputs = [a for a in args if isinstance(a, np.ndarray) and a.flags.writeable]
        outputs = [a for a in outputs if a.dtype == np.float64]
        for array in outputs:
            array[...] = np.nan
        watched.append((counter, outputs))
        interrupt_waits(monkeypatch, 1)
        return run_on_threads(count, share, counter, parts, *args, waits=waits)

    monkeypatch.setattr(launches, "run_on_threads", watch)
    with pytest.raises(KeyboardInterrupt):
        LONG[name](model, q)
    ((counter, outputs),) = watched
    assert counter[0] >= STOPPED
    if name == "states":
        # Draws that were counted, in chunks that were begun.
        moments = next(array for array in outputs if array.ndim == 3)
        done = np.nansum(moments[..., COUNT]) / (2 * CHUNK)
    elif name == "means":
        # Of n weights, no subset of more than n has been averaged.
        done = (outputs[0][0] > 0.0).mean()
    else:
        done = max(1.0 - np.isnan(array).mean() for array in outputs)
    assert done < 0.5


# --- accumulators -------------------------------------------------------------------------------

WEIGHTS = np.random.default_rng(0).standard_t(3, size=(3, 2 * CHUNK + 300))
SIZES = (10, 300)


def filled(*pieces, first_draw=0):
    accumulator = fe.LogWeightAccumulator(SIZES, 200, first_draw=first_draw)
    for piece in pieces:
        accumulator.update(piece)
    return accumulator


def changes():
    """An accumulator, and what changes it: pieces that fill chunks or none, and merges."""
    part = WEIGHTS[:, :5000]
    rest = filled(WEIGHTS[:, CHUNK:], first_draw=CHUNK)
    more = WEIGHTS[:, 5000:]
    return {
        "first piece": (filled(), lambda a: a.update(WEIGHTS)),
        "held piece": (filled(part), lambda a: a.update(WEIGHTS[:, 5000:6000])),
        "folded piece": (filled(part), lambda a: a.update(more)),
        "recorded piece": (filled(part, first_draw=CHUNK), lambda a: a.update(more)),
        "into nothing": (filled(), lambda a: a.merge(filled(part))),
        "exact merge": (filled(WEIGHTS[:, :CHUNK]), lambda a: a.merge(rest)),
        "other merge": (filled(part), lambda a: a.merge(rest)),
    }


def content(accumulator):
    """All that an accumulator holds, as `save` writes it."""
    if accumulator.batch_shape is None:
        return None
    return accumulator.n_samples, accumulator.exact, bits(accumulator.result())


@pytest.mark.parametrize("name", changes())
@pytest.mark.parametrize("shared", [False, True])
def test_an_interrupted_piece_goes_in_wholly_or_not_at_all(monkeypatch, name, shared):
    if shared:
        monkeypatch.setattr("fastelbo.engine.content.threads_for", lambda _: None)
    start, change = changes()[name]
    whole = copy.deepcopy(start)
    change(whole)
    before, after = content(start) if start.n_samples else None, content(whole)
    changed = copy.copy(start)

    def act():
        nonlocal changed
        changed = copy.copy(start)
        change(changed)

    seen = set()
    for _ in each_interruption(act):
        if changed.n_samples == whole.n_samples:
            assert content(changed) == after
            seen.add("whole")
        else:
            assert changed.n_samples == start.n_samples
            if before is not None:
                assert content(changed) == before
            # What was interrupted is done again.
            change(changed)
            assert content(changed) == after
            seen.add("none")
    assert seen == {"whole", "none"}


# A file that is interrupted at the end of its `with` is closed by Python.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_save_leaves_the_old_file_or_the_new(tmp_path):
    path = tmp_path / "checkpoint"
    old, new = filled(WEIGHTS[:, :100]), filled(WEIGHTS)
    contents = {old.n_samples: content(old), new.n_samples: content(new)}
    seen = set()
    old.save(path)
    for _ in each_interruption(lambda: new.save(path)):
        loaded = fe.LogWeightAccumulator.load(path)
        assert content(loaded) == contents[loaded.n_samples]
        seen.add(loaded.n_samples)
        old.save(path)
        # A temporary file that an interrupted clean-up has left is removed with the next.
        assert list(tmp_path.iterdir()) == [path]
    assert seen == set(contents)


def test_updates_of_several_threads_are_all_taken_in():
    accumulator = filled(WEIGHTS[:, :1])
    pieces = np.array_split(WEIGHTS[:, 1:], 60, axis=1)

    def work(k):
        for piece in pieces[k::6]:
            accumulator.update(piece)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    got, expected = accumulator.result(), filled(WEIGHTS).result()
    assert accumulator.n_samples == WEIGHTS.shape[1]
    # The order of the pieces is that of the threads.
    for name in ("log_evidence", "elbo", "ess", "log_evidence_se", "pareto_k"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-10)


def test_a_signal_handler_may_update_too(monkeypatch):
    accumulator, inner = filled(WEIGHTS[:, :10]), [WEIGHTS[:, 10:20]]
    run = threads.run_on_threads

    def interrupted(*args, **options):
        if inner:
            accumulator.update(inner.pop())
        run(*args, **options)

    monkeypatch.setattr(launches, "run_on_threads", interrupted)
    accumulator.update(WEIGHTS[:, 20:])
    assert content(accumulator) == content(filled(WEIGHTS))


# --- long calls of NumPy --------------------------------------------------------------------------

BOUNDS = {
    "jackknife 1": lambda rng: fe.jackknife(WEIGHTS, 1),
    "jackknife 2": lambda rng: fe.jackknife(WEIGHTS, 2),
    "cubo": lambda rng: fe.cubo(WEIGHTS),
    "renyi_bound": lambda rng: fe.renyi_bound(WEIGHTS, 0.5),
    "iw_elbo": lambda rng: fe.iw_elbo(WEIGHTS, [1, 2], rng=rng),
    "partitions": lambda rng: fe.iw_elbo(WEIGHTS, 5, method="partitions", rng=rng),
    **{
        method: lambda rng, method=method: fe.resample(WEIGHTS, 10**4, method, rng=rng)
        for method in ("systematic", "stratified", "multinomial", "residual")
    },
    "without": lambda rng: fe.resample(WEIGHTS, 10**4, replace=False, rng=rng),
}
# NumPy takes more than half a second for these, of arrays of 1e8 numbers.
SLOW = {"exp", "expm1", "log1p", "sort", "argsort", "partition", "argpartition", "searchsorted"}


class WatchedNumpy:
    """NumPy, whose slow functions note where they are called with long arrays."""

    def __init__(self, noted):
        self.noted = noted

    def __getattr__(self, name):
        function = getattr(np, name)
        if name not in SLOW:
            return function

        def call(*args, **options):
            if max(np.size(arg) for arg in args) >= 5000:
                self.noted.append((name, threading.current_thread() is threading.main_thread()))
            return function(*args, **options)

        return call


@pytest.mark.parametrize("name", BOUNDS)
def test_slow_calls_of_numpy_are_waited_for(monkeypatch, name):
    expected = BOUNDS[name](np.random.default_rng(1))
    monkeypatch.setattr(threads, "_LONG_ARRAY", 5000)
    noted = []
    for module in (bounds, resampling, scaled, ustatistics):
        monkeypatch.setattr(module, "np", WatchedNumpy(noted))
    got = BOUNDS[name](np.random.default_rng(1))
    np.testing.assert_array_equal(got, expected)
    assert [call for call, on_main in noted if on_main] == []
    assert noted or name in ("iw_elbo", "partitions")


@pytest.mark.parametrize("name", BOUNDS)
def test_what_is_abandoned_draws_no_random_numbers(monkeypatch, name):
    monkeypatch.setattr(threads, "_LONG_ARRAY", 5000)
    expected = BOUNDS[name](np.random.default_rng(1))
    served = threads.wait
    for n in range(1, 1000):
        left = [n]

        def interrupted(*args, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return served(*args)

        monkeypatch.setattr(threads, "wait", interrupted)
        rng = np.random.default_rng(1)
        try:
            got = BOUNDS[name](rng)
        except KeyboardInterrupt:
            state = rng.bit_generator.state
            # A call on each thread begins when what is abandoned has ended.
            threads.ThreadPoolExecutor.shutdown(threads._executor, wait=True)
            threads._forget()
            assert rng.bit_generator.state == state
        else:
            break
    np.testing.assert_array_equal(got, expected)
    assert n > 1


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX")
def test_an_interrupt_is_served_before_numpy_is_back():
    begun, release, ended = threading.Event(), threading.Event(), []

    @threads.apart
    def long(x):
        begun.set()
        release.wait(60)
        ended.append(x)

    def interrupt():
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    x = np.zeros(threads._LONG_ARRAY)
    threads.apart(np.negative)(x)  # starts the thread
    executor = threads._executor
    # A shell's background jobs ignore SIGINT.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    sender.start()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            long(x)
        assert ended == []
    finally:
        release.set()
        sender.join()
        signal.signal(signal.SIGINT, handler)
    # Even where the error is kept, as Python does at its prompt, the result is not.
    executor.shutdown(wait=True)
    threads._forget()
    assert len(ended) == 1
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert not any(values.get("others") or values.get("work") for values in frames)


def test_what_is_apart_is_as_it_is_here(monkeypatch):
    monkeypatch.setattr(threads, "_LONG_ARRAY", 1)
    where = []

    @threads.apart
    def divide(x, y=0.0):
        where.append(threading.current_thread())
        return x / y

    x, here = np.ones(3), threading.current_thread()
    with np.errstate(divide="ignore"):
        assert np.isinf(divide(x)).all()
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError) as caught:
        divide(x, y=0.0)
    assert caught.traceback[-1].name == "divide"
    assert here not in where
    assert len(where) == 2
    # Another thread, which serves no interrupts, does it itself.
    other = threading.Thread(target=divide, args=(x, 2.0))
    other.start()
    other.join()
    assert where.pop() is other
    monkeypatch.setattr(threads, "_hand_out", lambda *_: None)
    assert (divide(x, 2.0) == 0.5).all()
    assert where.pop() is here


def test_an_interrupt_while_a_thread_starts_leaves_none_that_waits_for_ever(monkeypatch):
    threads._forget()
    start = threading.Thread.start
    started = []

    def interrupted(thread):
        start(thread)
        started.append(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_on_threads(2, lambda counter: None, np.zeros(1, np.int64))
    monkeypatch.undo()
    for thread in started:
        thread.join(60)
    assert started
    assert not any(thread.is_alive() for thread in started)
    run_on_threads(2, lambda counter: None, np.zeros(1, np.int64))
