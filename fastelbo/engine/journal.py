"""The journal of a run: where it begins, what it has folded, and when that is written.

A run with a base goes on from states of all data points after fewer draws. A run that was ended in
a slice goes on there, with what it had read of the slices before and the states of the slice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ..validation import Floats
from .folded import Folded, joined
from .loop import Position
from .states import Quantities, Reader, States

Arrays = dict[str, Floats]
# save(position, arrays) writes a checkpoint, or warns.
Save = Callable[[Position, Arrays], None]

_READ = "read."
# What takes longer to write than so many seconds is written so seldom that it takes at most this
# share of the time.
_SHORT = 0.1
_SHARE = 0.005


class Base(NamedTuple):
    """The states of all data points after some steps."""

    steps: int
    folded: Folded


class Found(NamedTuple):
    """What a run that was ended has left."""

    position: Position
    read: Quantities | None  # of the data points before the slice
    folded: Folded | None  # the states of the slice
    kept: Folded | None  # those of the data points before it, after all whole chunks

    @classmethod
    def of(cls, position: Position, arrays: Arrays) -> Found:
        """From the arrays that a journal gave to be saved."""
        read = {n.removeprefix(_READ): a for n, a in arrays.items() if n.startswith(_READ)}
        return cls(position, read or None, _states(arrays, "slice."), _states(arrays, "kept."))


class RunJournal:
    """A `loop.Journal` that keeps states in memory, and saves them from time to time.

    Parameters
    ----------
    whole : int
        Steps of whole chunks.
    found, base : optional
        Where the run begins.
    keeps : bool
        Whether the states of all data points are kept, as they are after the whole chunks.
    save : callable, optional
        Called every so many seconds, between launches, and at the end.
    """

    def __init__(
        self,
        whole: int,
        *,
        found: Found | None = None,
        base: Base | None = None,
        keeps: bool = False,
        save: Save | None = None,
        every: float = 0.0,
    ) -> None:
        self.start = Position() if found is None else found.position
        self._whole, self._found, self._base = whole, found, base
        self._save, self._every, self._next = save, every, time.monotonic() + every
        # Of the slices that are done; None where those of an earlier one are gone.
        self._kept: list[Folded] | None = [] if keeps and whole else None
        if self._kept is not None and self.start.lo:
            earlier = None if found is None else found.kept
            self._kept = None if earlier is None else [earlier]
        # The states of the current slice after the whole chunks.
        self._pending: Folded | None = None
        # What is done and not saved yet. An interrupt may leave more in the reader and in the list.
        self._unsaved: tuple[Position, Folded, Reader, int] | None = None

    def first_step(self, lo: int) -> int:
        """See `loop.Journal`."""
        if self.start.points and lo == self.start.lo:
            return self.start.step
        return 0 if self._base is None else self._base.steps

    def open(self, reader: Reader) -> None:
        """See `loop.Journal`."""
        if self._found is not None and self._found.read is not None:
            reader.restore(self._found.read)

    def begin(self, lo: int, states: States) -> None:
        """See `loop.Journal`."""
        steps = self.first_step(lo)
        if self.start.points and lo == self.start.lo and self._found is not None:
            folded = self._found.folded
        elif self._base is not None:
            folded = self._base.folded.part(lo, lo + len(states))
        else:
            folded = None
        if steps and folded is not None:
            states.restore(folded)
        self._pending = states.folded() if steps == self._whole else None

    def note(self, position: Position, states: States, reader: Reader) -> None:
        """See `loop.Journal`."""
        folded = states.folded()
        if position.points:
            if position.step == self._whole:
                self._pending = folded
        else:
            if self._kept is not None:
                self._kept.append((self._pending or folded).packed())
            self._pending, folded = None, folded.part(0, 0)
        self._unsaved = position, folded, reader, len(self._kept or ())
        if self._save is not None and time.monotonic() >= self._next:
            self._write()

    def close(self) -> None:
        """See `loop.Journal`."""
        if self._save is not None:
            self._write()

    def kept(self) -> Folded | None:
        """The states of all data points that are done, after the whole chunks."""
        return joined(self._kept) if self._kept else None

    def _write(self) -> None:
        if self._save is None or self._unsaved is None:
            return
        position, folded, reader, count = self._unsaved
        start = time.monotonic()
        arrays: Arrays = {}
        if position.lo:
            values = reader.quantities()
            arrays |= {_READ + name: each[: position.lo] for name, each in values.items()}
        if position.points:
            arrays |= _named("slice.", folded.packed())
        if self._kept and count:
            arrays |= _named("kept.", joined(self._kept[:count]))
        self._save(position, arrays)
        end = time.monotonic()
        least = (end - start) / _SHARE if end - start > _SHORT else 0.0
        self._unsaved, self._next = None, end + max(self._every, least)


def _named(prefix: str, folded: Folded) -> Arrays:
    return {prefix + name: each for name, each in folded._asdict().items()}


def _states(arrays: Arrays, prefix: str) -> Folded | None:
    names = [prefix + name for name in Folded._fields]
    return Folded(*(arrays[name] for name in names)) if names[0] in arrays else None
