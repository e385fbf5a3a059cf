"""Files that are replaced at once: the old one is whole until the new one is."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where no file that is open is removed
    fcntl = None  # type: ignore[assignment]


def replace_file(path: Path, write: Callable[[IO[bytes]], None], kept: str = "") -> None:
    """Write a file beside ``path``, which then takes its place. Of a link, the target is replaced.

    With ``kept``, a suffix, the file that is replaced goes on under its name with this suffix.
    There is a whole file under the name itself at any time.

    The temporary file is locked while it is written, and the lock ends with the process. So those
    that a killed process has left are told from those of others, and are removed.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(f"{target} is a link to itself")
    # Not the name itself: another one may be too long.
    stem = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:32]}."
    for left in target.parent.glob(stem + "*"):
        with suppress(OSError):
            _remove_leftover(left)
    temporary = target.with_name(stem + secrets.token_hex(8))
    try:
        while not _replace(target, temporary, write, kept):
            pass
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _replace(target: Path, temporary: Path, write: Callable[[IO[bytes]], None], kept: str) -> bool:
    """Replace the target, unless the temporary file is taken away before it is locked."""
    with open(temporary, "xb") as file:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        # Another process may have taken it for a leftover.
        if not temporary.exists():
            return False
        write(file)
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()
        if kept:
            _keep(target, target.with_name(target.name + kept), temporary.with_suffix(".kept"))
        os.replace(temporary, target)
    return True


def _keep(path: Path, name: Path, spare: Path) -> None:
    """Let ``name`` be the file at ``path``, too, if there is one; ``spare`` is a name to use."""
    try:
        os.link(path, spare)
    except FileNotFoundError:
        return
    except OSError:
        # A file system without links. Nothing is at the path until the new file is.
        with suppress(FileNotFoundError):
            os.replace(path, name)
        return
    os.replace(spare, name)
    # Two names of one file both stay.
    spare.unlink(missing_ok=True)


def _remove_leftover(path: Path) -> None:
    with open(path, "rb") as file:
        if fcntl is None:
            file.close()
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename last; where folders cannot be opened, the system sees to it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
