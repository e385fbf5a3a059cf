"""The memory of the machine, and a record of which thread touched which word when."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np


class MemoryFaultError(Exception):
    """An address without memory of that kind, or a misaligned one."""


class RaceError(Exception):
    """Two threads touched the same number with no barrier between, and one of them wrote."""


# The bytes of memory before the first write: NaN. Compiled code may read them without using them.
_GARBAGE = 0xFF
_WORD = 4
_GUARD = 64
# Kind of an access that may be to any kind of memory.
_ANY = ""
KINDS = ("global", "shared", "local")
_SEVERAL = -1


class _Touches:
    """For each word: when and by which thread it was last touched, and if by several blocks."""

    def __init__(self, words: int) -> None:
        self.time = np.zeros(words, np.int32)
        self.thread = np.zeros(words, np.int16)
        # The launch in which more than one block touched the word.
        self.shared = np.zeros(words, np.int32)


class Memory:
    """One range of addresses for global, shared and local memory, and for generic pointers.

    The record names a number by its first word of four bytes. It does not distinguish accesses to
    parts of a number, nor accesses to several numbers in one word.
    """

    def __init__(self, size: int = 2**24) -> None:
        self._bytes = np.zeros(size, np.uint8)
        self._views = {width: self._bytes.view(f"u{width}") for width in (1, 2, 4, 8)}
        self._base = self._bytes.ctypes.data
        self._kind = np.zeros(size // _WORD, np.uint8)
        self._end = _GUARD
        self._reads, self._writes, self._sums = (_Touches(size // _WORD) for _ in range(3))
        # Barriers count time. Blocks of a launch have no order; earlier launches are complete.
        self._now = self._block = self._launch = 1
        self._rng = np.random.default_rng(0)

    # --- time -----------------------------------------------------------------------------------

    def barrier(self) -> None:
        """Note that all threads of a block have met."""
        self._now += 1

    def start_block(self) -> None:
        """Note that the threads now belong to another block."""
        self._now += 1
        self._block = self._now

    def start_launch(self) -> None:
        """Note that all earlier launches are complete."""
        self._now += 1
        self._block = self._launch = self._now

    # --- allocation -----------------------------------------------------------------------------

    def room(self, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
        """An array that is not initialised."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        start = self.reserve(size, "global") - self._base
        return self._bytes[start : start + size].view(dtype).reshape(shape)

    def put(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A copy of an array."""
        there = self.room(array.shape, array.dtype)
        there[...] = array
        return there

    def reserve(self, size: int, kind: str) -> int:
        """Reserve ``size`` bytes, with a gap on either side; return their address."""
        start = self._end
        self._end = -(-(start + size) // _GUARD) * _GUARD + _GUARD
        if self._end > len(self._bytes):
            raise MemoryError(f"the machine has {len(self._bytes)} bytes")
        self._kind[start // _WORD : -(-(start + size) // _WORD)] = 1 + KINDS.index(kind)
        self.forget(self._base + start, size)
        return self._base + start

    def forget(self, address: int, size: int) -> None:
        """Reset bytes to never written and never touched."""
        start = address - self._base
        self._bytes[start : start + size] = _GARBAGE
        words = slice(start // _WORD, -(-(start + size) // _WORD))
        for touches in (self._reads, self._writes, self._sums):
            touches.time[words] = touches.shared[words] = 0

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[None]:
        """Free at the end what was reserved in between."""
        start = self._end
        try:
            yield
        finally:
            self._kind[start // _WORD : self._end // _WORD] = 0
            self._end = start

    # --- access ---------------------------------------------------------------------------------

    def load(self, address: Any, dtype: Any, threads: Any, kind: str = _ANY) -> Any:
        """The number at the address of each thread."""
        numbers, places, words = self._find(address, dtype, kind)
        for others in (self._writes, self._sums):
            self._check(others, words, threads)
        self._note(self._reads, words, threads)
        return numbers[places]

    def store(self, address: Any, value: Any, dtype: Any, threads: Any, kind: str = _ANY) -> None:
        """Write the value of each thread to its address."""
        numbers, places, words = self._find(address, dtype, kind)
        for others in (self._reads, self._writes, self._sums):
            self._check(others, words, threads)
        self._note(self._writes, words, threads)
        if (self._writes.thread[words] == _SEVERAL).any():
            raise RaceError("several threads write to one address at once")
        numbers[places] = value

    def add(self, address: Any, value: Any, dtype: Any, threads: Any, kind: str = _ANY) -> Any:
        """Add each thread's value at its address, in random order; return what each found."""
        numbers, places, words = self._find(address, dtype, kind)
        for others in (self._reads, self._writes):
            self._check(others, words, threads)
        self._note(self._sums, words, threads)
        found = np.empty(len(places), dtype)
        for k in self._rng.permutation(len(places)):
            found[k] = numbers[places[k]]
            numbers[places[k]] += value[k]
        return found

    def _find(self, address: Any, dtype: Any, kind: str) -> tuple[Any, Any, Any]:
        """Memory as numbers of that type, the indices of the addresses, and their first words."""
        width = np.dtype(dtype).itemsize
        self.require_multiple(address, width)
        offset = address.astype(np.int64) - self._base
        if not ((offset >= 0) & (offset < len(self._bytes))).all():
            raise MemoryFaultError("there is no memory at that address")
        words = offset // _WORD
        found = self._kind[words]
        ends = self._kind[words + (width - 1) // _WORD] != found
        if ends.any() or (found == 0).any():
            raise MemoryFaultError("there is no memory at that address")
        if kind != _ANY and (found != 1 + KINDS.index(kind)).any():
            raise MemoryFaultError(f"there is no {kind} memory at that address")
        return self._views[width].view(dtype), offset // width, words

    def require_multiple(self, address: Any, size: int) -> None:
        """Raise an error if an address is not a multiple of ``size`` bytes."""
        if (address % np.uint64(size)).any():
            raise MemoryFaultError(f"an address is not a multiple of {size}")

    def _earlier(self, touches: _Touches, words: Any) -> Any:
        """Whether an earlier block of this launch touched a word."""
        time = touches.time[words]
        return (time >= self._launch) & (time < self._block)

    def _check(self, touches: _Touches, words: Any, threads: Any) -> None:
        """Raise an error if these accesses and the recorded ones have no order."""
        if ((touches.shared[words] == self._launch) | self._earlier(touches, words)).any():
            raise RaceError("another block touched the same number")
        thread = touches.thread[words]
        at_once = (touches.time[words] == self._now) & (thread != threads)
        if at_once.any():
            first = np.argmax(at_once)
            other = "several threads" if thread[first] == _SEVERAL else f"thread {thread[first]}"
            raise RaceError(
                f"{other} touched what thread {threads[first]} touches, with no barrier between"
            )

    def _note(self, touches: _Touches, words: Any, threads: Any) -> None:
        """Record which threads touch the words now."""
        touches.shared[words[self._earlier(touches, words)]] = self._launch
        several = (touches.time[words] == self._now) & (touches.thread[words] != threads)
        touches.time[words] = self._now
        touches.thread[words] = threads
        several |= touches.thread[words] != threads
        touches.thread[words[several]] = _SEVERAL
