"""The threads of a block: where each thread is, and which threads wait for others."""

from __future__ import annotations

from typing import Any

import numpy as np

WARP = 32
_RUNNING, _WAITING, _DONE = 0, 1, 2


class BarrierError(Exception):
    """Threads wait for others that never arrive."""


class Threads:
    """The place of each thread in a program, and the path of calls that led there."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.numbers = np.arange(count, dtype=np.int16)
        self.place = np.zeros(count, np.int64)
        self.path = np.zeros(count, np.int64)
        self._state = np.full(count, _DONE)

    def start(self) -> None:
        """Start all threads."""
        self.place[:] = self.path[:] = 0
        self._state[:] = _RUNNING

    def finish(self, who: Any) -> None:
        """Mark these threads as done."""
        self._state[who] = _DONE

    def next(self) -> tuple[int, Any] | None:
        """The first place where threads can run, and these threads; None when all are done."""
        running = self._state == _RUNNING
        if running.any():
            at = int(self.place[running].min())
            here = running & (self.place == at)
            return at, slice(None) if here.all() else np.flatnonzero(here)
        waiting = self._state == _WAITING
        if waiting.any():
            places = np.unique(self.place[waiting]).tolist()
            raise BarrierError(f"{waiting.sum()} of {self.count} threads wait at {places}")
        return None

    def meet(self, who: Any, group: int) -> Any:
        """Let these threads wait. Groups that are complete there go on, and are returned.

        Threads that are done do not count as present, which is stricter than a device.
        """
        self._state[who] = _WAITING
        at = self.place[who][0]
        here = ((self._state == _WAITING) & (self.place == at)).reshape(-1, group)
        path = self.path.reshape(-1, group)
        whole = np.repeat((here & (path == path[:, :1])).all(axis=1), group)
        self._state[whole] = _RUNNING
        self.place[whole] = at + 1
        return np.flatnonzero(whole)
