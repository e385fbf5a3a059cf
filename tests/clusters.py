"""Clusters on this machine, for tests: workers in processes of their own, without a dashboard."""

import contextlib

import fastelbo as fe


@contextlib.contextmanager
def local_client(n_workers, **options):
    """A client of a cluster of so many processes with one thread each, which ends with it."""
    import distributed

    fe.warmup()
    options = {
        "threads_per_worker": 1, "processes": True, "host": "127.0.0.1",
        # Any free port; there is no dashboard behind it.
        "dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False},
    } | options  # fmt: skip
    with (
        distributed.LocalCluster(n_workers=n_workers, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
