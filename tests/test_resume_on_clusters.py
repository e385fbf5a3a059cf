"""Checkpoints of runs on clusters: the scheduler may be killed, and another cluster goes on."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import IGNORE_DIAGNOSTICS, bits

import fastelbo as fe
from fastelbo.engine.checkpoints import ESTIMATE, read
from fastelbo.engine.cluster import task_sizes

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(IGNORE_DIAGNOSTICS),
    # What distributed leaves open when a scheduler dies.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CLUSTER = """
import sys
sys.path.insert(0, sys.argv[1])
from clusters import local_client
if __name__ == "__main__":
    with local_client(2) as client:
        print(client.scheduler.address, flush=True)
        sys.stdin.readline()
"""
K = 300_000


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr(task_sizes, "_SECONDS", 0.1)
    monkeypatch.setattr(task_sizes, "_LEAST_SECONDS", 0.01)


def estimate(**options):
    def log_joint(z, x):
        time.sleep(0.02)
        return -0.5 * (z**2).sum(-1) - (x[:, 0] - z[..., 0]) ** 2

    model = fe.Model(log_joint=log_joint, dim=2, data=np.eye(2), vectorized=True)
    q = fe.Gaussian(np.zeros(2), scale=0.9)
    return fe.estimate(model, q, K, **{"rng": 1} | options)


@pytest.fixture(scope="module")
def expected():
    """The bits of a run here, which nothing stops."""
    return bits(estimate())


def test_more_draws_and_checkpoints_on_a_cluster(tmp_path, one_worker, expected):
    path = tmp_path / "run.ckpt"
    model, q = fe.Gaussian(np.zeros((3, 1)), scale=1.0), fe.Gaussian([0.2], scale=1.1)

    def draw(n, **options):
        return fe.estimate(model, q, n, rng=2, **options)

    first = draw(30_000, client=one_worker, keep_state=True, checkpoint=path)
    assert bits(first) == bits(draw(30_000))
    more = draw(70_000, client=one_worker, previous=first)
    assert bits(more) == bits(draw(70_000))
    # What a cluster has begun, this process ends, and the other way round.
    assert bits(draw(50_000, checkpoint=path)) == bits(draw(50_000))
    assert bits(draw(90_000, checkpoint=path, client=one_worker)) == bits(draw(90_000))


def test_the_process_of_the_scheduler_is_killed(tmp_path, one_worker, expected):
    dask, distributed = (pytest.importorskip(name) for name in ("dask", "distributed"))
    path, folder = tmp_path / "run.ckpt", os.path.dirname(__file__)
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER, folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        address = cluster.stdout.readline().strip()
        # How long a client looks for a scheduler that is gone.
        patience = dask.config.set({"distributed.comm.timeouts.connect": "2s"})
        with patience, distributed.Client(address) as client, ThreadPoolExecutor(1) as pool:
            run = pool.submit(estimate, client=client, checkpoint=path, checkpoint_every=0.05)
            deadline = time.monotonic() + 60.0
            while not _begun(path) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not run.done()
            cluster.send_signal(signal.SIGKILL)
            start = time.perf_counter()
            error = run.exception(timeout=120.0)
            print(f"{time.perf_counter() - start:.1f} s to {error!r}")
    finally:
        os.killpg(cluster.pid, signal.SIGKILL)
        cluster.communicate()
    assert isinstance(error, fe.errors.ClusterError), repr(error)
    assert _begun(path)
    assert bits(estimate(checkpoint=path, client=one_worker)) == expected


def _begun(path):
    """Whether the checkpoint has draws."""
    if not path.exists():
        return False
    facts, _ = read(path, ESTIMATE)
    lo, _, step = facts["position"]
    return lo + step > 0
