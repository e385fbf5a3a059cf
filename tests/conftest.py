"""Which runs include the tests, what each leaves behind, and what they share."""

import contextlib
import os
import sys
import time
import warnings

import pytest
from clusters import local_client

import fastelbo as fe
from fastelbo.warmup import calls

# So many tests call most kernels.
MANY = 1000


def pytest_ignore_collect(collection_path, config):
    """Skip the tests in runs of benchmarks alone, which need fewer packages."""
    return True if config.getoption("benchmark_only", default=False) else None


@pytest.fixture(autouse=True)
def figures_are_closed():
    """matplotlib warns of many open figures, whichever tests opened them."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")


def _is_new(path):
    """Make a file, unless another process has."""
    with contextlib.suppress(FileExistsError):
        path.touch(exist_ok=False)
        return True
    return False


@pytest.fixture(scope="session", autouse=True)
def kernels_are_compiled_once(request, tmp_path_factory):
    """Of the kernels that most tests call, each process of a parallel run compiles some."""
    own = os.environ.get("PYTEST_XDIST_WORKER")
    if own is None or len(request.session.items) < MANY:
        return
    processes = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    model, q = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0), fe.Gaussian([0.0], scale=1.0)
    others = [
        lambda: fe.elbo_gradient(model, q, 16, rng=0),
        lambda: fe.expectation(lambda z: z, model, q, 64, rng=0),
    ]
    folder = tmp_path_factory.getbasetemp().parent
    with warnings.catch_warnings(action="ignore"):
        for i, call in enumerate([*others, *calls()]):
            # Who makes the file makes the call.
            if _is_new(folder / f"call-{i}"):
                call()
    (folder / f"done-{own}").touch()
    deadline = time.monotonic() + 60.0
    while len(list(folder.glob("done-*"))) < processes and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.fixture(scope="session")
def one_worker():
    """A client of one worker process."""
    pytest.importorskip("distributed")
    with local_client(1) as client:
        yield client


@pytest.fixture(scope="session")
def four_workers():
    """A client of four worker processes."""
    pytest.importorskip("distributed")
    with local_client(4) as client:
        yield client
