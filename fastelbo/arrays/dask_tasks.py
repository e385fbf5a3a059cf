"""Tasks on the parts of a Dask array, and their results in order."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

from ..errors import ClusterError
from .dask_parts import Box, Interval, Parts
from .lazy import dask_module

# Tasks in flight, and results that wait for an earlier one, for each thread.
_AHEAD = 2


class Task(NamedTuple):
    """A task of Dask, and which part of the array it is about."""

    delayed: Any
    where: str


def task_of(
    function: Callable[..., Any], parts: Parts, x: Any, box: Box, span: Interval, *args: Any
) -> Task:
    """The task ``function(block, *args)`` of one part of x."""
    points = ", ".join(f"{each.start}:{each.stop}" for each in box)
    where = f"draws {span[0]} to {span[1]}" + (f" of the data points [{points}]" if box else "")
    # Not optimised: a chunk that tasks share then has one key in all of them.
    (block,) = parts.block(x, box, span).to_delayed(optimize_graph=False).ravel()
    delayed = dask_module("dask").delayed
    return Task(delayed(function, pure=True)(block, *args), where)


def in_order(x: Any, tasks: Iterator[Task]) -> Generator[Any, None, None]:
    """The results of tasks on parts of x, in their order, from the scheduler that Dask has for x.

    Tasks are made as results arrive. Few are computed, or wait for an earlier one, at a time.
    """
    scheduler = dask_module("dask.base").get_scheduler(collections=[x])
    client = getattr(scheduler, "__self__", None)
    if hasattr(client, "gather"):
        yield from _from_cluster(client, tasks)
        return
    threads = (
        dask_module("dask").config.get("num_workers", None) or dask_module("dask.system").CPU_COUNT
    )
    while batch := [each.delayed for each in itertools.islice(tasks, _AHEAD * threads)]:
        yield from dask_module("dask").compute(*batch)


def _from_cluster(client: Any, tasks: Iterator[Task]) -> Generator[Any, None, None]:
    killed = dask_module("distributed").KilledWorker
    waiting: deque[tuple[str, Any]] = deque()
    with _thread_given_back():
        try:
            while True:
                threads = max(1, sum(client.nthreads().values()))
                while len(waiting) <= (_AHEAD - 1) * threads:
                    batch = list(itertools.islice(tasks, threads))
                    if not batch:
                        break
                    futures = client.compute([each.delayed for each in batch])
                    waiting.extend(zip([each.where for each in batch], futures, strict=True))
                if not waiting:
                    return
                where, future = waiting.popleft()
                try:
                    result = future.result()
                except killed as error:
                    raise ClusterError(
                        f"the Dask array has lost {error.allowed_failures + 1} workers, one after "
                        f"the other, that computed {where}. They were killed, had too little "
                        f"memory, or crashed: their logs may tell. {error}"
                    ) from error
                yield result
        finally:
            # distributed cancels what nobody else wants.
            for _, future in waiting:
                future.release()


@contextlib.contextmanager
def _thread_given_back() -> Iterator[None]:
    """Within a task of a worker, give back the thread of that task, which other tasks may need."""
    holds = getattr(dask_module("distributed.threadpoolexecutor").thread_state, "proceed", False)
    if holds:
        dask_module("distributed").secede()
    try:
        yield
    finally:
        if holds:
            dask_module("distributed").rejoin()
