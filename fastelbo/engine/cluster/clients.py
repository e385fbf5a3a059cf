"""A client of a cluster: what it must be, and what it says of its workers."""

from __future__ import annotations

import math
import time
from typing import Any

from ...errors import ClusterError, InvalidInputError
from ...optional import optional
from ...validation import shown

# Seconds for which no worker may be there: a batch system may need minutes to start others.
PATIENCE = 300.0
# Seconds after which the number of threads is asked for again.
ASKED_EVERY = 5.0
_NEEDED = ("submit", "scatter", "gather", "sync", "nthreads", "status", "wait_for_workers")


def distributed() -> Any:
    """The library; an error that says how to install it."""
    return optional("distributed", "client=", '"fastelbo[dask]"')


def checked_client(client: Any) -> Any:
    """The client, after a check that it can be used here."""
    distributed()
    missing = [name for name in _NEEDED if not hasattr(client, name)]
    if isinstance(client, type) or missing:
        raise InvalidInputError(
            f"client must be a distributed.Client, got {shown(client)}: what starts or reaches a "
            "cluster is no client itself; distributed.Client(it) is"
        )
    if getattr(client, "asynchronous", False):
        raise InvalidInputError(
            "client must be one that is not asynchronous, as fastelbo waits for its results: call "
            "it in a thread, with a distributed.Client made there"
        )
    if client.status in ("closed", "closing"):
        raise InvalidInputError(f"client must be open, got one whose status is {client.status!r}")
    _refuse_in_task()
    return client


def _refuse_in_task() -> None:
    """An error inside a task that holds its thread, which may be the only one."""
    from distributed.threadpoolexecutor import thread_state as pool
    from distributed.worker import thread_state as task

    if getattr(task, "execution_state", None) and getattr(pool, "proceed", False):
        raise InvalidInputError(
            "client must not be used in a task, which holds the thread that its own tasks may wait "
            "for; call fastelbo in `with distributed.worker_client() as client:`, which gives the "
            "thread back"
        )


class Cluster:
    """What a client says of its workers."""

    def __init__(self, client: Any) -> None:
        self.client = checked_client(client)
        self._threads, self._asked = 0, -math.inf

    def threads(self, *, now: bool = False) -> int:
        """The threads of all workers, as they are ``now``, or were a few seconds ago."""
        if now or time.monotonic() - self._asked > ASKED_EVERY:
            self.require_connection()
            try:
                self._threads = sum(self.client.nthreads().values())
            except (OSError, TimeoutError) as error:
                raise self.no_scheduler() from error
            self._asked = time.monotonic()
        return self._threads

    def wait_for_workers(self) -> None:
        """Wait until there is a worker."""
        self.require_connection()
        try:
            self.client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise no_workers() from None

    def require_connection(self) -> None:
        """Wait while the client connects again; an error if it does not."""
        start = time.monotonic()
        while self.client.status == "connecting" and time.monotonic() - start < PATIENCE:
            time.sleep(0.1)
        if self.client.status != "running":
            raise self.no_scheduler()

    def no_scheduler(self) -> ClusterError:
        """The error where the scheduler is lost."""
        return ClusterError(
            "client has lost its scheduler, or was closed while it was in use: its status is "
            f"{self.client.status!r}"
        )


def no_workers() -> ClusterError:
    """The error where there are no workers for too long."""
    return ClusterError(f"client has had no workers for {PATIENCE:.0f} seconds")
