"""Calls inside of others' threads and processes: the same bits, and nothing hangs or dies."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import fastelbo as fe

COMMON = """
import multiprocessing, os, signal, sys, threading, time
import numpy as np
import fastelbo as fe

def answer(seed=0):
    model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    found = fe.estimate(model, fe.Gaussian([0.4], scale=0.6), 60_000, rng=seed)
    rows = np.random.default_rng(seed).normal(size=(4, 20_000))
    return found.log_evidence.tobytes() + fe.logsumexp(rows, axis=1).tobytes()
"""


def script(folder, body):
    """A file with the common part and the body, which other processes may import."""
    path = folder / "nested_calls.py"
    path.write_text(COMMON + textwrap.dedent(body))
    return path


def run(path, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(path)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


posix_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

FORKS = """
expected = answer()

def child_says():
    if answer() != expected:
        return 1
    if (child := os.fork()) == 0:  # a child's child
        os._exit(int(answer() != expected))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def fork():
    if (child := os.fork()) == 0:
        signal.alarm(60)
        os._exit(child_says())
    found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

def work():
    while not stop.is_set():
        assert answer() == expected

found, stop = [], threading.Event()
users = [threading.Thread(target=work) for _ in range(3)]
for user in users:
    user.start()
for _ in range(2):
    fork()
    forker = threading.Thread(target=fork)
    forker.start()
    forker.join()
stop.set()
for user in users:
    user.join()
assert found == [0] * 4, found
"""

# Other threads have the locks of numba, of LLVM and of an accumulator.
LOCKED = """
import numba
from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock

def hold(seconds, *locks):
    for lock in locks:
        lock.__enter__()
    held.release()
    done.wait(seconds)
    for lock in reversed(locks):
        lock.__exit__(None, None, None)

accumulator, held, done = fe.LogWeightAccumulator(), threading.Semaphore(0), threading.Event()
for given in ((60, accumulator._lock), (0.3, global_compiler_lock, ffi.lib._lock)):
    threading.Thread(target=hold, args=given).start()
    held.acquire()
if (child := os.fork()) == 0:
    signal.alarm(20)
    accumulator.update(np.zeros((2, 5)))
    os._exit(int(numba.njit(lambda x: x + 1)(1) - 2))
done.set()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
BUSY = {"kernels run": FORKS, "locks are held": LOCKED}


@posix_only
@pytest.mark.parametrize("body", BUSY.values(), ids=BUSY)
def test_a_fork_at_any_time_leaves_a_child_that_works(tmp_path, body):
    done = run(script(tmp_path, body))
    assert done.returncode == 0, done.stderr


# The processes of a pool are daemons.
POOL = """
if __name__ == "__main__":
    expected = [answer(seed) for seed in range(3)]
    for kind in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(kind).Pool(1) as pool:
            assert pool.map(answer, range(3)) == expected, kind
"""


def test_processes_of_every_kind_give_the_same_bits(tmp_path):
    done = run(script(tmp_path, POOL))
    assert (done.returncode, done.stderr) == (0, "")


# The main thread waits for threads, and for a process of the same group, while all of them work.
INTERRUPTED = """
def work():
    while not stop.is_set():
        answer()

def ready():
    # A line in one write: two processes print to one pipe.
    os.write(1, b"ready\\n")

def child():
    try:
        ready()
        while True:
            answer()
    except KeyboardInterrupt:
        os._exit(7)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # LLVM calls Python back while it loads a kernel, and an interrupt there is lost.
    answer()
    stop = threading.Event()
    users = [threading.Thread(target=work) for _ in range(3)]
    for user in users:
        user.start()
    process = multiprocessing.get_context("fork").Process(target=child)
    try:
        process.start()
        ready()
        while True:
            answer()
    except KeyboardInterrupt:
        stop.set()
        for user in users:
            user.join()
        process.join()
        sys.exit(process.exitcode)
"""


@posix_only
def test_an_interrupt_stops_threads_and_processes(tmp_path):
    command = [sys.executable, "-W", "ignore", str(script(tmp_path, INTERRUPTED))]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
            time.sleep(0.1)
            os.killpg(process.pid, signal.SIGINT)
            printed, errors = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, printed, errors) == (7, "", "")


# --- other libraries ------------------------------------------------------------------------------

ROWS = np.random.default_rng(0).normal(size=(6, 2, 20_000))


def evidence(rows):
    return fe.summarize(rows).log_evidence


@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing"])
def test_joblib(backend):
    joblib = pytest.importorskip("joblib")
    expected = [evidence(rows) for rows in ROWS]
    jobs = [joblib.delayed(evidence)(rows) for rows in ROWS]
    with joblib.parallel_config(backend=backend, n_jobs=2):
        np.testing.assert_array_equal(joblib.Parallel()(jobs), expected)


def test_threads_of_dask_workers():
    distributed = pytest.importorskip("distributed")
    expected = [evidence(rows) for rows in ROWS]
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        found = client.gather(client.map(evidence, list(ROWS)))
    np.testing.assert_array_equal(found, expected)
