"""The checkpoint file of a run, the one before it, and the lock that one run has on them."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import IO

from ..errors import CheckpointError, CheckpointWarning
from .checkpoints import Arrays, Facts, Kind, read, write

try:
    import fcntl
except ImportError:  # Windows, where two runs are only told apart when they write
    fcntl = None  # type: ignore[assignment]

_KEPT = ".previous"
_PACKAGE = __name__.partition(".")[0] + "."


class Generations:
    """Two generations of a checkpoint: the file itself, and the one that it replaced.

    The run that last wrote the file holds a lock on it, which ends with the process.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        # The same file after a change of the working directory.
        self.path, self._kind = path.absolute(), kind
        # Descriptors of files that this run has locked. The last one is, or will be, at the path.
        self._locked: list[int] = []
        # Whether the file is good, so that it is kept when a new one takes its place.
        self._sound = True
        self._warned = self._lost = False

    def read(self) -> tuple[Facts, Arrays] | None:
        """The newest good generation, with a warning if it is the older one; None if there is none.

        From now on the file belongs to this run.
        """
        try:
            return self._read()
        except BaseException as error:
            self.close()
            if type(error) is OSError or isinstance(error, (IsADirectoryError, PermissionError)):
                reason = error.strerror
                raise CheckpointError(f"checkpoint {self.path} cannot be read: {reason}") from error
            raise

    def _read(self) -> tuple[Facts, Arrays] | None:
        older = Path(os.path.realpath(self.path) + _KEPT)
        if not self.path.exists() and not older.exists():
            return None
        self._hold()
        try:
            return read(self.path, self._kind)
        except CheckpointError as error:
            self._sound, first = False, error
        try:
            found = read(older, self._kind)
        except CheckpointError as error:
            also = f"; {error}" if older.exists() else ""
            raise CheckpointError(f"{first}{also}; remove it to begin anew") from error
        warn_at_call(f"{first}; the run goes on from the checkpoint before it, {older}")
        return found

    def write(self, facts: Facts, arrays: Arrays) -> None:
        """Replace the file; raise a `CheckpointError` if it cannot be written."""
        count, kept = len(self._locked), _KEPT if self._sound else ""
        try:
            write(self.path, self._kind, facts, arrays, kept, self._take)
        except CheckpointError:
            self._let_go(self._locked[count:])
            raise
        self._sound = True
        self._let_go(self._locked[:-1])

    def try_to_write(self, facts: Facts, arrays: Arrays) -> None:
        """Replace the file. The first failure is a warning, as the run need not end."""
        if self._lost or self._taken():
            return
        try:
            self.write(facts, arrays)
        except CheckpointError as error:
            if not self._warned:
                self._warned = True
                warn_at_call(
                    f"{error}; the run goes on, and tries again. The last good checkpoint stays"
                )

    def close(self) -> None:
        """Let another run have the file."""
        self._let_go(self._locked)

    # --- private --------------------------------------------------------------------------------

    def _hold(self) -> None:
        """Lock the file that is at the path."""
        if fcntl is None or not self.path.exists():
            return
        self._locked.append(os.open(self.path, os.O_RDONLY))
        try:
            fcntl.flock(self._locked[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(
                f"checkpoint {self.path} is in use by another run: give each a file of its own"
            ) from None
        except OSError:
            # A file system without locks: runs are told apart when they write.
            pass

    def _take(self, file: IO[bytes]) -> None:
        """Go on to hold the lock of a file that is being written and will be at the path."""
        if fcntl is not None:
            self._locked.append(os.dup(file.fileno()))

    def _let_go(self, descriptors: list[int]) -> None:
        for each in descriptors[:]:
            self._locked.remove(each)
            os.close(each)

    def _taken(self) -> bool:
        """Whether another run has replaced the file, which then is left to it, with a warning."""
        if not self._locked or not self.path.exists():
            return False
        there = os.stat(self.path)
        if any(os.path.samestat(os.fstat(each), there) for each in self._locked):
            return False
        self._lost = True
        warn_at_call(
            f"checkpoint {self.path} was replaced by another run: this run goes on, and writes to "
            "it no more"
        )
        return True


def warn_at_call(message: str) -> None:
    """A `CheckpointWarning` at the line that called the package, from whatever depth."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(_PACKAGE):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, CheckpointWarning, stacklevel=depth)
