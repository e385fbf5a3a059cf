"""Ranges of data points and draws for the tasks of a cluster: a second of work, or more for many.

No bit of a result depends on them, only the time that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ...kernels.draws import blocks
from ...kernels.draws.blocks import Cut
from ..loop import Journal, slices

# Seconds of a task, and the most tasks that begin in a second: the scheduler takes a few
# milliseconds for one, so that tasks on many threads are longer.
_SECONDS = 1.0
_MOST_TASKS = 100.0
# At the end tasks are shorter, so that all threads finish at about the same time. Then more of them
# begin in a second, by this factor.
_LEAST_SECONDS = 0.1
_SHORTER = 4.0
# Rounds of tasks that the rest of the draws makes.
_ROUNDS = 3


class Part(NamedTuple):
    """A range of data points, and of steps of a cut."""

    lo: int  # the first data point
    points: int
    first: int  # the first step
    stop: int


class TaskSizes:
    """How many draws the next task has, by how long others took."""

    def __init__(self, total: int, first: int, threads: Callable[[], int]) -> None:
        self._left, self._first, self._threads = total, max(1, first), threads
        self._rate = 0.0  # draws a second

    def took(self, draws: int, seconds: float) -> None:
        """Learn from a task. The first one of a worker may include compilation, others do not."""
        self._rate = max(self._rate, draws / max(seconds, 1e-9))

    def draws(self) -> int:
        """The draws of the next task."""
        if not self._rate:
            return self._first
        threads = max(1, self._threads())
        share = self._left / (_ROUNDS * threads)
        longest = max(_SECONDS, threads / _MOST_TASKS)
        least = max(_LEAST_SECONDS, threads / _MOST_TASKS / _SHORTER)
        seconds = min(longest, max(least, share / self._rate))
        return max(1, int(self._rate * seconds))

    def give(self, draws: int) -> None:
        """Take so many draws off what is left."""
        self._left -= draws


class Limits(NamedTuple):
    """What bounds the numbers that come back from a task."""

    a_point: int  # numbers for each data point
    a_step: int  # and for each of its steps
    most: int = 2**20  # 8 MB

    def points(self, steps: int) -> int:
        """Most data points of so many steps."""
        return max(1, self.most // (self.a_point + steps * self.a_step))

    def steps(self, count: int) -> int:
        """Most steps of so many data points."""
        return max(1, (self.most // count - self.a_point) // max(1, self.a_step))


def _up_to(first: int, steps: int, end: int) -> int:
    """Where a part of about so many steps ends: at a border, if one is there.

    Workers fold whole spans.
    """
    stop = first + steps
    border = stop // blocks.SPAN * blocks.SPAN
    return end if stop >= end else border if border > first else stop


def parts(
    points: int,
    cut: Cut,
    group: int,
    sizes: TaskSizes,
    limits: Limits,
    begin: Callable[[int, int], None],
    journal: Journal | None = None,
) -> Iterator[Part]:
    """Parts of all draws in the order of their addresses, each made when it is asked for.

    ``begin(lo, points)`` is told of each slice before its parts, of which there are none if a
    journal has them all. Slices begin at multiples of ``group``. Where a journal keeps what is
    folded, whole chunks and the last one are apart.
    """
    whole = cut.steps if journal is None else cut.draws // cut.chunk
    whole_steps = min(cut.steps, max(1, limits.most // max(1, limits.a_step)))

    def most_points() -> int:
        fit = min(sizes.draws() // cut.total, limits.points(whole_steps))
        return max(1, fit // group) * group

    for lo, count in slices(points, journal, most_points):
        begin(lo, count)
        first = 0 if journal is None else journal.first_step(lo)
        while first < cut.steps:
            # Rounded up, as the last step of all draws may be a part of one.
            fit = min(-(-sizes.draws() // (count * cut.drawn(1))), limits.steps(count))
            stop = _up_to(first, max(1, fit), whole if first < whole else cut.steps)
            sizes.give(count * (cut.drawn(stop) - cut.drawn(first)))
            yield Part(lo, count, first, stop)
            first = stop
