"""Faults of a cluster: the bits of an undisturbed run, or one clear error."""

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from clusters import local_client
from helpers import IGNORE_DIAGNOSTICS, bits

import fastelbo as fe
from fastelbo.engine.cluster import clients, pipeline, task_sizes, travelling, workers
from fastelbo.engine.redraw import Redraw
from fastelbo.engine.requests import new_request

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS),
    # What distributed leaves open when a worker dies.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

K = 400_000


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    # A nanny whose worker dies while it starts gives up. Rather an error than a long wait.
    monkeypatch.setattr(clients, "PATIENCE", 120.0)
    monkeypatch.setattr(task_sizes, "_SECONDS", 0.1)
    monkeypatch.setattr(task_sizes, "_LEAST_SECONDS", 0.01)


@pytest.fixture
def two_workers():
    """A client of workers that a test may kill. Others take their place, but not for ever."""
    pytest.importorskip("distributed")
    with local_client(2) as client:
        yield client


def slow_model(seconds=0.02, params=0):
    """A function that takes so long for a call, with an array that travels with it."""
    shared = np.ones(params)

    def log_joint(z):
        time.sleep(seconds)
        return -0.5 * (z**2).sum(-1) - 0.0 * shared.sum()

    return fe.Model(log_joint=log_joint, dim=2, vectorized=True)


Q = fe.Gaussian(np.zeros(2), scale=0.9)


def estimate(model, **options):
    return fe.estimate(model, Q, **({"n_samples": K, "rng": 1} | options))


def kill(client, count):
    """Kill so many of the workers."""
    for pid in list(client.run(os.getpid).values())[:count]:
        os.kill(pid, signal.SIGKILL)


def running(client, **options):
    """A run in another thread, which has begun."""
    pool = ThreadPoolExecutor(1)
    run = pool.submit(estimate, slow_model(**options), client=client)
    pool.shutdown(wait=False)
    time.sleep(0.7)
    assert not run.done()
    return run


@contextmanager
def interrupts():
    """Ctrl-C after a second, and then now and then: one that comes in a destructor is lost."""
    # What a shell starts in the background ignores it.
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    over = threading.Event()

    def interrupt():
        seconds = 1.0
        while not over.wait(seconds):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            seconds = 10.0

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, own)


def tasks_left(client):
    """Our tasks and arrays, when the scheduler has had time to forget those released."""
    deadline = time.monotonic() + 10.0
    while True:
        known = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))
        left = [name for name in known if str(name).startswith(("fastelbo", "bytes"))]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


# --- workers ------------------------------------------------------------------------------------


def test_a_run_whose_workers_are_killed(two_workers):
    expected = estimate(slow_model(0.0, params=travelling.LARGE))
    run = running(two_workers, seconds=0.1, params=travelling.LARGE)
    kill(two_workers, 1)
    two_workers.wait_for_workers(2, timeout=60)
    time.sleep(0.5)
    # With all workers, the arrays that they hold are lost.
    kill(two_workers, 2)
    assert bits(run.result(60)) == bits(expected)
    assert tasks_left(two_workers) == []


def test_a_task_that_kills_its_workers():
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    here = os.getpid()
    request = new_request(Q, Q, K, 1, 0, "float64", (), True)
    draws = Redraw(request, 0, 1).at(0, K)[:, 0, 0]
    largest, place = draws.max(), int(draws.argmax())

    def log_joint(z):
        if os.getpid() != here and (z[:, 0] >= largest).any():
            time.sleep(1.0)  # a nanny has then seen its worker start
            os.kill(os.getpid(), signal.SIGKILL)
        return -0.5 * (z**2).sum(-1)

    model = fe.Model(log_joint=log_joint, dim=2, vectorized=True)
    # By default, the fourth death is the last one.
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), local_client(2) as client:
        with pytest.raises(fe.errors.ClusterError) as info:
            estimate(model, client=client)
        assert tasks_left(client) == []
    assert "lost 2 workers, one after the other, that had the task of data p" in str(info.value)
    # It is one of the ranges that are named.
    ranges = re.findall(r"draws (\d+) to (\d+)", str(info.value))
    assert any(int(lo) <= place <= int(hi) for lo, hi in ranges)


def test_an_error_of_a_function_is_raised_as_it_is(one_worker):
    here = os.getpid()

    def log_joint(z):
        if os.getpid() != here:
            raise ZeroDivisionError("on purpose")
        return -0.5 * (z**2).sum(-1)

    model = fe.Model(log_joint=log_joint, dim=2, vectorized=True)
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        estimate(model, client=one_worker)


def test_an_interrupt_leaves_no_task(one_worker):
    with interrupts(), pytest.raises(KeyboardInterrupt):
        estimate(slow_model(), n_samples=100 * K, client=one_worker)
    assert tasks_left(one_worker) == []
    # The client is as good as new.
    expected = estimate(slow_model(0.0))
    assert bits(estimate(slow_model(0.0), client=one_worker)) == bits(expected)


# --- the cluster --------------------------------------------------------------------------------


def test_a_cluster_that_is_lost():
    pytest.importorskip("distributed")
    with local_client(1) as client:
        run = running(client)
        client.cluster.close()
        with pytest.raises(fe.errors.ClusterError, match="lost its scheduler, or was closed"):
            run.result(60)


@pytest.mark.parametrize("params", [0, travelling.LARGE])
def test_a_cluster_without_workers(monkeypatch, params):
    pytest.importorskip("distributed")
    monkeypatch.setattr(clients, "PATIENCE", 1.0)
    monkeypatch.setattr(pipeline, "ASKED_EVERY", 0.5)
    with local_client(0) as client:
        with pytest.raises(fe.errors.ClusterError, match="no workers for 1 seconds"):
            estimate(slow_model(0.0, params), client=client)
        assert tasks_left(client) == []


def test_the_last_worker_dies_before_its_results_are_fetched(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(clients, "PATIENCE", 2.0)
    wait = pipeline.Pipeline._wait

    def wait_and_kill(self, sent):
        wait(self, sent)
        os.kill(nanny.pid, signal.SIGKILL)

    async def nobody():
        """No worker takes its place."""

    monkeypatch.setattr(pipeline.Pipeline, "_wait", wait_and_kill)
    with local_client(1) as client:
        [nanny] = client.cluster.workers.values()
        monkeypatch.setattr(nanny, "instantiate", nobody)
        with pytest.raises(fe.errors.ClusterError, match="no workers for 2 seconds"):
            estimate(slow_model(0.0), client=client)
        assert tasks_left(client) == []


@pytest.mark.parametrize("more", [0, 10_000])
def test_more_draws_than_a_previous_run(one_worker, more):
    model = fe.LinearGaussian(np.linspace(-1.0, 1.0, 8)[:, None], [[1.0, 0.3]], noise_cov=0.5)
    before = {"n_samples": 4 * 8192, "rng": 1, "keep_state": True}
    first = fe.estimate(model, Q, **before, client=one_worker)
    assert bits(first) == bits(fe.estimate(model, Q, **before))
    options = {"n_samples": 4 * 8192 + more, "rng": 1}
    found = fe.estimate(model, Q, **options, previous=first, client=one_worker)
    assert bits(found) == bits(fe.estimate(model, Q, **options))


# --- clients that are refused -------------------------------------------------------------------


def test_workers_of_another_kind(monkeypatch, one_worker):
    own = workers.facts()
    monkeypatch.setattr("fastelbo.engine.cluster.orders.facts", lambda: own._replace(target="SSE"))
    expected = bits(estimate(slow_model(0.0)))
    with pytest.raises(fe.errors.ClusterError, match=r"tcp:.* another instruction set.*SSE; a"):
        estimate(slow_model(0.0), client=one_worker)
    assert bits(estimate(slow_model(0.0), client=one_worker, allow_mixed=True)) == expected
    for name, match in [("python", "Python"), ("stream_version", "stream version")]:
        other = own._replace(**{name: "0"})
        monkeypatch.setattr("fastelbo.engine.cluster.orders.facts", lambda other=other: other)
        with pytest.raises(fe.errors.ClusterError, match=f"another {match}: it has .*{match} 0\n"):
            estimate(slow_model(0.0), client=one_worker, allow_mixed=True)


def test_a_client_that_is_closed(one_worker):
    import distributed

    client = distributed.Client(one_worker.cluster)
    client.close()
    with pytest.raises(fe.errors.InvalidInputError, match=r"client must be open, got .*'closed'"):
        estimate(slow_model(0.0), client=client)


def test_a_client_that_is_asynchronous():
    distributed = pytest.importorskip("distributed")

    async def call():
        async with distributed.Client(processes=False, asynchronous=True,
                                      dashboard_address="127.0.0.1:0") as client:  # fmt: skip
            with pytest.raises(fe.errors.InvalidInputError, match="not asynchronous"):
                estimate(slow_model(0.0), client=client)

    import asyncio

    asyncio.run(call())


def in_task(gives_back):
    """An estimate in a task, which gives its thread back or does not."""
    import distributed

    model = fe.Gaussian([0.0], scale=1.0)
    options = {"n_samples": 100, "rng": 0}
    if gives_back:
        with distributed.worker_client() as client:
            return fe.estimate(model, model, **options, client=client)
    return fe.estimate(model, model, **options, client=distributed.get_client())


def test_a_client_in_a_task(one_worker):
    found = one_worker.submit(in_task, True, pure=False).result(30)
    model = fe.Gaussian([0.0], scale=1.0)
    assert bits(found) == bits(fe.estimate(model, model, 100, rng=0))
    with pytest.raises(fe.errors.InvalidInputError, match="must not be used in a task"):
        one_worker.submit(in_task, False, pure=False).result(30)


def test_options_that_a_client_does_not_have(one_worker):
    model = fe.Gaussian([0.0], scale=1.0)
    for options, match in [
        ({"backend": "cuda"}, 'backend must be "auto" or "cpu" with client='),
        ({"backend": "numpy"}, 'backend must be "auto" or "cpu" with client='),
        ({"n_threads": 2}, "n_threads must be left out with client="),
        ({"client": one_worker.cluster}, "client must be a distributed.Client"),
        ({"client": "tcp://127.0.0.1:1"}, "client must be a distributed.Client"),
        ({"client": None, "allow_mixed": True}, "allow_mixed must be False without client="),
    ]:
        with pytest.raises(fe.errors.InvalidInputError, match=match):
            fe.estimate(model, model, 100, rng=0, **({"client": one_worker} | options))
    mixture = fe.MixtureModel([[0.0]], fe.Mixture([1.0], fe.Gaussian([[0.0]], scale=1.0)))
    with pytest.raises(fe.errors.InvalidInputError, match="client must not be given for a Mixture"):
        fe.estimate(mixture, fe.Categorical([1.0]), client=one_worker)
