"""The memory of the machine, and who touched which of it when."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np


class MemoryFaultError(Exception):
    """An address where nothing is, or between two numbers."""


class RaceError(Exception):
    """Two threads touched the same number with no barrier between, and one of them wrote."""


# Numbers of threads that are none: several have read, and several have added at once.
_SEVERAL, _ATOMIC = -1, -2
# What stands where nothing has been written: NaN. A compiler may read it, and not use it.
_GARBAGE = 0xFF
_WORD = 4
_GUARD = 64


class _Touches:
    """The last thread that touched each word, and at what time."""

    def __init__(self, words: int) -> None:
        self.time = np.zeros(words, np.int32)
        self.thread = np.zeros(words, np.int16)


class Memory:
    """One range of addresses: those of global, shared and local memory, and of generic pointers.

    A number is known by its first word of four bytes.
    """

    def __init__(self, size: int = 2**24) -> None:
        self._bytes = np.zeros(size, np.uint8)
        self._views = {width: self._bytes.view(f"u{width}") for width in (1, 2, 4, 8)}
        self._base = self._bytes.ctypes.data
        self._there = np.zeros(size // _WORD, np.bool_)
        self._end = _GUARD
        self._writes, self._reads = _Touches(size // _WORD), _Touches(size // _WORD)
        # Barriers count time. Blocks of a launch know no order, those of another one do.
        self._now = self._block = self._launch = 1
        self._rng = np.random.default_rng(0)

    # --- time -----------------------------------------------------------------------------------

    def barrier(self) -> None:
        """All threads of a block have met."""
        self._now += 1

    def start_block(self) -> None:
        """The threads are those of another block now."""
        self._now += 1
        self._block = self._now

    def start_launch(self) -> None:
        """All that was written before has been written."""
        self._now += 1
        self._block = self._launch = self._now

    # --- room -----------------------------------------------------------------------------------

    def room(self, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
        """An array in which nothing has been written."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        start = self.reserve(size) - self._base
        return self._bytes[start : start + size].view(dtype).reshape(shape)

    def put(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A copy of an array."""
        there = self.room(array.shape, array.dtype)
        there[...] = array
        return there

    def reserve(self, size: int) -> int:
        """The address of so many bytes, with nothing on either side."""
        start = self._end
        self._end = -(-(start + size) // _GUARD) * _GUARD + _GUARD
        if self._end > len(self._bytes):
            raise MemoryError(f"the machine has {len(self._bytes)} bytes")
        self._there[start // _WORD : -(-(start + size) // _WORD)] = True
        self.forget(self._base + start, size)
        return self._base + start

    def forget(self, address: int, size: int) -> None:
        """Nothing has been written there."""
        start = address - self._base
        self._bytes[start : start + size] = _GARBAGE
        for touches in (self._writes, self._reads):
            touches.time[start // _WORD : -(-(start + size) // _WORD)] = 0

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[None]:
        """Give back what is reserved in between."""
        start = self._end
        try:
            yield
        finally:
            self._there[start // _WORD : self._end // _WORD] = False
            self._end = start

    # --- access ---------------------------------------------------------------------------------

    def load(self, address: Any, dtype: Any, threads: Any) -> Any:
        """What stands at the address of each thread."""
        numbers, places, words = self._find(address, dtype)
        self._check(self._writes, words, threads)
        last, reader = self._reads.time[words], self._reads.thread[words]
        shared = (last == self._now) & (reader != threads)
        self._reads.time[words] = self._now
        self._reads.thread[words] = threads
        shared |= self._reads.thread[words] != threads
        self._reads.thread[words[shared]] = _SEVERAL
        return numbers[places]

    def store(self, address: Any, value: Any, dtype: Any, threads: Any) -> None:
        """Write the value of each thread to its address."""
        numbers, places, words = self._find(address, dtype)
        self._check(self._writes, words, threads)
        self._check(self._reads, words, threads)
        self._writes.time[words] = self._now
        self._writes.thread[words] = threads
        if (self._writes.thread[words] != threads).any():
            raise RaceError("several threads write to one address at once")
        numbers[places] = value

    def add(self, address: Any, value: Any, dtype: Any, threads: Any) -> Any:
        """Add to what stands there, one thread after another in any order; what each found."""
        numbers, places, words = self._find(address, dtype)
        others = self._writes.thread[words] != _ATOMIC
        self._check(self._writes, words[others], threads[others])
        self._check(self._reads, words, threads)
        self._writes.time[words] = self._now
        self._writes.thread[words] = _ATOMIC
        found = np.empty(len(places), dtype)
        for k in self._rng.permutation(len(places)):
            found[k] = numbers[places[k]]
            numbers[places[k]] += value[k]
        return found

    def _find(self, address: Any, dtype: Any) -> tuple[Any, Any, Any]:
        """All numbers of that type, which of them are meant, and the words where these begin."""
        width = np.dtype(dtype).itemsize
        offset = address.astype(np.int64) - self._base
        if (offset % width).any():
            raise MemoryFaultError(f"an address is no multiple of {width}")
        words = offset // _WORD
        last = words + (width - 1) // _WORD
        inside = (offset >= 0) & (offset < len(self._bytes))
        if not (inside.all() and self._there[words].all() and self._there[last].all()):
            raise MemoryFaultError("there is no memory at that address")
        return self._views[width].view(dtype), offset // width, words

    def _check(self, touches: _Touches, words: Any, threads: Any) -> None:
        time, thread = touches.time[words], touches.thread[words]
        ordered = (time < self._launch) | (
            (time >= self._block) & ((time < self._now) | (thread == threads))
        )
        if not ordered.all():
            first = np.argmin(ordered)
            raise RaceError(
                f"thread {thread[first]} touched what thread {threads[first]} touches, with no "
                "barrier between"
            )
