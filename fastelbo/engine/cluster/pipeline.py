"""Results of many tasks in the order of the tasks, of which a bounded number is on the way.

Tasks are made when there is room for them, and a result that comes early waits for its turn. So
there are never more of either than a cluster keeps busy. Who computes, what is tried again after a
fault, and how bytes travel, is up to dask.distributed.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from ...errors import ClusterError
from . import clients
from .clients import ASKED_EVERY, Cluster
from .travelling import Apart
from .workers import Order, Reply, run

# Tasks on the way for each thread of the workers: one runs, the others wait for it.
_AHEAD = 4
_LEAST_AHEAD = 8
# Seconds in which a client sees that its scheduler is gone.
_PAUSE = 0.1
# Results that come at once from the workers to this process.
_MOST_GATHERED = 16
# How often a task may lose what it was sent with: arrays die with the workers that hold them.
_MOST_SENT = 20
# Tasks that an error names.
_MOST_NAMED = 3
# What distributed says of futures. One that is lost is computed again.
_DONE, _FAILED, _CANCELLED, _LOST = "finished", "error", "cancelled", "lost"

_Place = TypeVar("_Place")


class Task(NamedTuple, Generic[_Place]):
    """A task, and its large arrays."""

    place: _Place  # who asks for it
    where: str  # which draws of which data points, for errors
    name: str  # the same for the same task
    order: Order
    apart: tuple[Apart, ...]


class _Sent(Generic[_Place]):
    """A task that is on the way, or its result."""

    def __init__(self, task: Task[_Place]) -> None:
        self.task = task
        self.future: Any = None
        self.inputs: list[Any] = []  # futures of its large arrays
        self.times = 0
        self.reply: Reply | None = None


class Pipeline(Generic[_Place]):
    """The results of tasks, one after the other.

    distributed has the tasks of a worker that dies run elsewhere. Arrays that were sent are gone
    when all workers that hold them have died: distributed then cancels what needs them, and they
    and the tasks are sent again. At the end, be it an interrupt, futures are released: distributed
    cancels what nobody else wants.
    """

    def __init__(self, cluster: Cluster, tasks: Iterator[Task[_Place]]) -> None:
        self._distributed = clients.distributed()
        self._cluster, self._client, self._tasks = cluster, cluster.client, tasks
        self._sent: deque[_Sent[_Place]] = deque()
        self._arrays: dict[str, Any] = {}  # futures of large arrays, by their digests
        self._exhausted = False

    def __enter__(self) -> Pipeline[_Place]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for sent in self._sent:
            if sent.future is not None:
                sent.future.release()
        self._sent.clear()
        self._forget_arrays()

    def peek(self) -> _Place | None:
        """The place of the next task, or None after the last one."""
        self._send()
        return self._sent[0].task.place if self._sent else None

    def take(self) -> tuple[_Place, Reply]:
        """The place of the next task, and its result."""
        self._send()
        head = self._sent[0]
        while head.reply is None:
            self._collect()
        self._sent.popleft()
        return head.task.place, head.reply

    # --- out ------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send tasks until there are enough on the way."""
        ahead = max(_LEAST_AHEAD, _AHEAD * self._cluster.threads())
        if self._exhausted or len(self._sent) >= ahead:
            return
        while len(self._sent) < ahead:
            task = next(self._tasks, None)
            if task is None:
                self._exhausted = True
                return
            sent = _Sent(task)
            self._sent.append(sent)
            self._submit(sent)
        self._forget_arrays()

    def _submit(self, sent: _Sent[_Place]) -> None:
        task = sent.task
        sent.inputs = [self._array(each) for each in task.apart]
        # A name that was cancelled may not be used again.
        name = task.name if sent.times == 0 else f"{task.name}-{sent.times}"
        sent.times += 1
        sent.future = self._client.submit(run, task.order, *sent.inputs, key=name, pure=True)

    def _array(self, apart: Apart) -> Any:
        """The future of a large array, which is sent unless it is there already."""
        found = self._arrays.get(apart.digest)
        if found is None or found.status in (_CANCELLED, _LOST):
            self._cluster.wait_for_workers()
            self._forget(apart.digest)
            try:
                [found] = self._client.scatter([apart.content], hash=False)
            except OSError as error:
                raise self._cluster.no_scheduler() from error
            self._arrays[apart.digest] = found
        return found

    def _forget_arrays(self) -> None:
        """Release arrays that no task on the way needs."""
        used = {each.digest for sent in self._sent for each in sent.task.apart}
        for digest in self._arrays.keys() - used:
            self._forget(digest)

    def _forget(self, digest: str) -> None:
        # Whoever else refers to the future, such as an error, does not keep the array.
        if (future := self._arrays.pop(digest, None)) is not None:
            future.release()

    # --- back -----------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Wait for the first task, and take all that have finished with it."""
        self._wait(self._sent[0])
        ready: list[_Sent[_Place]] = []
        for sent in self._sent:
            if sent.reply is not None:
                continue
            if sent.future.status != _DONE or len(ready) == _MOST_GATHERED:
                break
            ready.append(sent)
        if not ready:
            self._recover()
            return
        try:
            replies = self._gathered([sent.future for sent in ready])
        except CancelledError:
            self._recover()
            return
        except OSError:
            # The scheduler is found again, or an error says that it is lost.
            time.sleep(_PAUSE)
            self._recover()
            return
        for sent, reply in zip(ready, replies, strict=True):
            sent.reply = reply
            # The workers need not keep it.
            sent.future.release()

    def _wait(self, sent: _Sent[_Place]) -> None:
        """Wait until a task is done, in short waits: workers may be gone for good."""
        alone = None
        while sent.future.status not in (_DONE, _FAILED, _CANCELLED):
            try:
                self._distributed.wait([sent.future], timeout=ASKED_EVERY)
            except CancelledError:
                return
            except TimeoutError:
                alone = None if self._cluster.threads(now=True) else alone or time.monotonic()
                if alone is not None and time.monotonic() - alone > clients.PATIENCE:
                    raise clients.no_workers() from None

    def _gathered(self, futures: list[Any]) -> list[Reply]:
        """The results of tasks that are done. If their worker dies first, they are done again."""
        gather = functools.partial(self._client.gather, futures, asynchronous=True)
        while True:
            try:
                return list(self._client.sync(gather, callback_timeout=clients.PATIENCE))
            except TimeoutError:
                if not self._cluster.threads(now=True):
                    raise clients.no_workers() from None

    def _recover(self) -> None:
        """Raise the error of the first task, or send again what was lost."""
        head = self._sent[0]
        if head.future.status == _FAILED:
            raise self._error(head)
        self._cluster.require_connection()
        for sent in self._sent:
            if sent.reply is None and sent.future.status == _CANCELLED:
                if sent.times >= _MOST_SENT:
                    raise ClusterError(
                        f"client has lost the task of {sent.task.where} {sent.times} times, with "
                        "the workers that held its arrays"
                    )
                self._submit(sent)

    def _error(self, sent: _Sent[_Place]) -> BaseException:
        """What to raise for a task that failed."""
        error: BaseException = sent.future.exception()
        if isinstance(error, self._distributed.KilledWorker):
            # distributed blames all tasks that such a worker had, of which it ran but some.
            failed = [each for each in self._sent if each.future.status == _FAILED]
            where = "; or of ".join(each.task.where for each in failed[:_MOST_NAMED])
            failure = ClusterError(
                f"client has lost {error.allowed_failures + 1} workers, one after the other, that "
                f"had the task of {where}. They were killed, had too little memory, or crashed; "
                f"the log of the last one, {error.last_worker.address}, may tell. {error}"
            )
        elif isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "fastelbo":
            failure = ClusterError(f"client has a worker that cannot import fastelbo: {error}")
        else:
            error.add_note(f"A worker raised this, for {sent.task.where}.")
            return error
        failure.__cause__ = error
        return failure
