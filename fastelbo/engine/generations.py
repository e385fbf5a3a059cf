"""The checkpoint file of a run, the one before it, and the lock that one run has on them."""

from __future__ import annotations

import os
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
# Files are written in the midst of a call, at no fixed depth.
_DEPTH = 3


class Generations:
    """Two generations of a checkpoint: the file itself, and the one that it replaced.

    The run that last wrote the file holds a lock on it, which ends with the process.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self._kind = path, kind
        self._lock: IO[bytes] | None = None
        # Whether the file is good, so that it is kept when a new one takes its place.
        self._sound = True
        self._warned = self._lost = False

    def read(self) -> tuple[Facts, Arrays] | None:
        """The newest good generation, with a warning if it is the older one; None if there is none.

        From now on the file belongs to this run.
        """
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
        self._warn(f"{first}; the run goes on from the checkpoint before it, {older}")
        return found

    def write(self, facts: Facts, arrays: Arrays) -> None:
        """Replace the file; raise a `CheckpointError` if it cannot be written."""
        write(self.path, self._kind, facts, arrays, _KEPT if self._sound else "")
        self._sound = True
        self._hold()

    def try_to_write(self, facts: Facts, arrays: Arrays) -> None:
        """Replace the file. The first failure is a warning, as the run need not end."""
        if self._lost or self._taken():
            return
        try:
            self.write(facts, arrays)
        except CheckpointError as error:
            if not self._warned:
                self._warned = True
                self._warn(
                    f"{error}; the run goes on, and tries again. The last good checkpoint stays"
                )

    def close(self) -> None:
        """Let another run have the file."""
        if self._lock is not None:
            self._lock.close()
        self._lock = None

    # --- private --------------------------------------------------------------------------------

    def _hold(self) -> None:
        """Lock the file that is at the path; the one before it is let go."""
        if fcntl is None or not self.path.exists():
            return
        file = open(self.path, "rb")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise CheckpointError(
                f"checkpoint {self.path} is in use by another run: give each a file of its own"
            ) from None
        except OSError:  # a file system without locks
            file.close()
            return
        self.close()
        self._lock = file

    def _taken(self) -> bool:
        """Whether another run has replaced the file, which then is left to it, with a warning."""
        if self._lock is None or not self.path.exists():
            return False
        if os.path.samestat(os.fstat(self._lock.fileno()), os.stat(self.path)):
            return False
        self._lost = True
        self._warn(
            f"checkpoint {self.path} was replaced by another run: this run goes on, and writes to "
            "it no more"
        )
        return True

    def _warn(self, message: str) -> None:
        warnings.warn(message, CheckpointWarning, stacklevel=_DEPTH)
