"""Sharing parts between threads, and cores between those who launch at the same time."""

import contextlib
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from fastelbo.kernels.cpu import launch as launches
from fastelbo.kernels.cpu.launch import launch
from fastelbo.kernels.jit import threads
from fastelbo.kernels.jit.compile import block
from fastelbo.kernels.jit.threads import most_threads, run_on_threads


@block
def count_parts(part, parts, taken):
    # Parts have very different sizes, so that threads overtake one another.
    for _ in range(1 + (part * 7919) % 1000):
        taken[part] += 1


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_each_part_is_taken_once(n_threads):
    parts = 8 * min(n_threads, most_threads())
    for _ in range(200):
        taken = np.zeros(8 * n_threads, np.int64)
        launch(count_parts, taken, n_threads=n_threads)
        expected = 1 + (np.arange(len(taken)) * 7919) % 1000
        np.testing.assert_array_equal(taken[:parts], expected[:parts])
        assert not taken[parts:].any()


@pytest.mark.parametrize("waits", [False, True])
def test_an_error_in_any_thread_is_raised(waits):
    caller = threading.get_ident()
    met = threading.Barrier(2)

    def fail_elsewhere(_):
        met.wait(timeout=30)
        if threading.get_ident() != caller:
            raise ZeroDivisionError

    if most_threads() < 2:
        pytest.skip("one thread only")
    with pytest.raises(ZeroDivisionError):
        run_on_threads(2, fail_elsewhere, np.zeros(1, np.int64), waits=waits)


def test_an_error_here_waits_for_the_others():
    if most_threads() < 2:
        pytest.skip("one thread only")
    caller, met, done = threading.get_ident(), threading.Barrier(2), threading.Event()

    def fail_here(_):
        met.wait(timeout=30)
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        threading.Event().wait(0.2)
        done.set()

    with pytest.raises(KeyboardInterrupt):
        run_on_threads(2, fail_here, np.zeros(1, np.int64))
    assert done.is_set()


# --- launches at the same time --------------------------------------------------------------------


def counter():
    return np.zeros(1, np.int64)


@pytest.fixture
def cores(monkeypatch):
    """Sets the limit of threads, with none of them running."""

    def limit(number):
        monkeypatch.setattr(threads, "core_limit", lambda: number)
        threads._forget()
        return number

    yield limit
    assert threads._launching == {}
    assert threads._helping == 0


class Held:
    """A launch of a user's thread, which lasts as long as the ``with``."""

    def __init__(self, wanted):
        self.wanted, self.end, self.ran = wanted, threading.Event(), []
        self.thread = threading.Thread(target=self._launch)
        self.begun = threading.Semaphore(0)

    def _launch(self):
        run_on_threads(self.wanted, self._kernel, counter())

    def _kernel(self, _):
        self.ran.append(threading.current_thread())
        self.begun.release()
        assert self.end.wait(60)

    def __enter__(self):
        self.thread.start()
        assert self.begun.acquire(timeout=60)
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


def who_runs(wanted, expected, waits=False):
    """The threads of a launch that goes on until so many run, and a little longer."""
    ran, all_here = [], threading.Event()

    def kernel(_):
        ran.append(threading.current_thread())
        if len(ran) >= expected:
            all_here.set()
        assert all_here.wait(60)
        threading.Event().wait(0.02)

    run_on_threads(wanted, kernel, counter(), waits=waits)
    return ran


def test_who_launches_beside_as_many_as_there_are_cores_runs_alone(cores):
    here = threading.current_thread()
    with contextlib.ExitStack() as stack:
        for _ in range(cores(2)):
            stack.enter_context(Held(1))
        assert who_runs(2, 1) == [here]
        # One thread stands in for the main thread, which only waits.
        (other,) = who_runs(2, 1, waits=True)
        assert other is not here
    assert len(who_runs(2, 2)) == 2


def test_a_launch_takes_what_others_leave(cores):
    cores(4)
    with Held(4) as first:
        for _ in range(3):
            assert first.begun.acquire(timeout=60)
        assert len(first.ran) == 4
        # It began with all of them, and keeps them until it ends.
        assert len(who_runs(4, 1)) == 1
    with Held(1), Held(1):
        assert len(who_runs(4, 2)) == 2
        assert len(who_runs(4, 2, waits=True)) == 2


@pytest.mark.parametrize(
    ("wanted", "helpers"),
    [([8], 7), ([3], 2), ([8, 8], 3), ([8, 1, 1], 5), ([8, 8, 1], 3), ([8] * 3, 2), ([8] * 20, 0)],
)
def test_launches_of_several_threads_share_evenly(cores, wanted, helpers):
    cores(8)
    threads._launching.update(enumerate(wanted))
    assert threads._helpers(wanted[0], 8) == helpers
    threads._launching.clear()


def test_a_helper_that_comes_late_leaves_at_once(cores):
    cores(2)
    with Held(1):
        assert threads._help([lambda: pytest.fail("too many")], 1) is False
        assert threads._help([lambda: None], 2) is True
        assert threads._helping == 0


def test_more_threads_than_cores_only_where_they_are_asked_for(cores, monkeypatch):
    cores(2)
    used = []
    monkeypatch.setattr(launches, "run_on_threads", lambda count, *args, **_: used.append(count))
    monkeypatch.setattr(threads, "cores", lambda: 2)
    for most in (threads.numba.config.NUMBA_DEFAULT_NUM_THREADS, 200):
        # As NUMBA_NUM_THREADS sets it.
        monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", most)
        launch(count_parts, np.zeros(8), n_threads=100)
        launch(count_parts, np.zeros(8))
    assert used == [min(2, most_threads()), 2, 100, 2] if threads.can_wait() else [1, 1, 1, 1]


def test_threads_are_added_when_more_are_asked_for(cores):
    cores(1)
    assert len(who_runs(2, 2)) == 2
    assert len(who_runs(5, 5)) == 5


@pytest.mark.parametrize("waits", [False, True])
def test_a_launch_does_without_threads_that_do_not_start(cores, monkeypatch, waits):
    def fail(_):
        raise RuntimeError("can't start new thread")

    cores(4)
    monkeypatch.setattr(threading.Thread, "start", fail)
    assert who_runs(4, 1, waits=waits) == [threading.current_thread()]


def test_work_that_was_left_to_another_thread_is_waited_for(cores, monkeypatch):
    cores(4)
    first, taken, leave, back = Held(2), threading.Event(), threading.Event(), threading.Event()
    caller = threading.current_thread()

    def kernel(_):
        if threading.current_thread() is caller:
            # Now the thread that helped the first launch has time for what could not be started.
            first.end.set()
            taken.wait(0.2)
            threading.Timer(0.1, leave.set).start()
        else:
            taken.set()
            assert leave.wait(60)
            back.set()

    with first:
        assert first.begun.acquire(timeout=60)
        start = threading.Thread.start

        def fail(thread):
            if thread.name.startswith("fastelbo"):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", fail)
        run_on_threads(2, kernel, counter())
        assert taken.is_set() == back.is_set()


def test_a_handler_that_launches_disturbs_no_count(cores, monkeypatch):
    cores(2)
    served, inner = threads.wait, []

    def interrupted(*args):
        if not inner:
            inner.append(1)
            inner.append(len(who_runs(2, 1)))
        return served(*args)

    monkeypatch.setattr(threads, "wait", interrupted)
    assert len(who_runs(2, 2, waits=True)) == 2
    assert inner == [1, 1]


def test_many_launches_at_once_do_all_their_parts():
    expected = 1 + (np.arange(16) * 7919) % 1000
    failed = []

    def work():
        for _ in range(100):
            taken = np.zeros(64, np.int64)
            launch(count_parts, taken, n_threads=2)
            parts = 8 * min(2, most_threads())
            if not np.array_equal(taken[:parts], expected[:parts]):
                failed.append(taken)

    users = [threading.Thread(target=work) for _ in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    assert not any(user.is_alive() for user in users)
    assert failed == []
    assert threads._launching == {}


# --- the end of the process -----------------------------------------------------------------------

# Prints the bytes of an estimate: here, after the main thread has ended, in a handler of its exit,
# and when the last objects are deleted.
AFTER_THE_END = """
import atexit, threading, time
import numpy as np
import fastelbo as fe

q, p = fe.Gaussian(np.zeros(3), scale=1.0), fe.Gaussian(np.ones(3), scale=1.0)
weights = np.random.default_rng(0).normal(size=(8, 20_000))

def show(place, estimate=fe.estimate, summarize=fe.summarize, log_prob=p.log_prob, print=print):
    values = [estimate(p, q, 50_000, rng=0).log_evidence, *summarize(weights).log_evidence]
    values.append(log_prob(weights[:, :3]).sum())
    print(place, *map(float.hex, map(float, values)), flush=True)

class Last:
    def __del__(self):
        show("deleted")

def later():
    threading.main_thread().join()
    show("thread")

show("main")
last = Last()
atexit.register(show, "atexit")
threading.Thread(target=later).start()
"""


@pytest.mark.parametrize("n_threads", ["1", "4"])
def test_work_goes_on_after_the_main_thread_has_ended(n_threads):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AFTER_THE_END],
        env={**os.environ, "NUMBA_NUM_THREADS": n_threads},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    values = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert set(values) == {"main", "thread", "atexit", "deleted"}
    assert len(set(values.values())) == 1


# Threads that nobody waits for are in kernels when the process ends.
AT_THE_END = """
import threading
import numpy as np
import fastelbo as fe

q, p = fe.Gaussian(np.zeros(3), scale=1.0), fe.Gaussian(np.ones(3), scale=1.0)
begun = threading.Semaphore(0)

def work():
    while True:
        fe.estimate(p, q, 100_000, rng=0)
        begun.release()

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
for _ in range(8):
    begun.acquire()
"""


def test_a_process_ends_while_daemon_threads_run_kernels():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AT_THE_END],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
