"""Which runs include the tests, what each leaves behind, and the clusters that they share."""

import sys

import pytest
from clusters import local_client


def pytest_ignore_collect(collection_path, config):
    """Skip the tests in runs of benchmarks alone, which need fewer packages."""
    return True if config.getoption("benchmark_only", default=False) else None


@pytest.fixture(autouse=True)
def figures_are_closed():
    """matplotlib warns of many open figures, whichever tests opened them."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")


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
