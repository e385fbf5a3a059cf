"""Which runs the tests belong to."""


def pytest_ignore_collect(collection_path, config):
    """Leave them out where benchmarks alone are asked for, which need less installed."""
    return True if config.getoption("benchmark_only", default=False) else None
