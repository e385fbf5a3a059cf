"""Which runs include the tests."""


def pytest_ignore_collect(collection_path, config):
    """Skip the tests in runs of benchmarks alone, which need fewer packages."""
    return True if config.getoption("benchmark_only", default=False) else None
