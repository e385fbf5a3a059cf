"""Sharing parts between threads."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from fastelbo.kernels.cpu.launch import launch
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
