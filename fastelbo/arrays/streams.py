"""A file as a stream of bytes that can be read again from its start, without its compression."""

from __future__ import annotations

import importlib
import io
import os
import stat
import time
from pathlib import Path
from typing import IO, Any

from ..errors import InvalidInputError

Source = str | Path | IO[bytes]

# The first bytes of a compressed file, and the module that opens it.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}
# How long a pipe may be without a writer, in seconds.
_PATIENCE = 1.0


def label(source: Source) -> str:
    """How messages call the file."""
    return str(source) if isinstance(source, (str, Path)) else "standard input"


def open_stream(source: Source) -> IO[bytes]:
    """The bytes of a file, of a pipe or of an open stream. A pipe must have a writer.

    Raises
    ------
    InvalidInputError
        If nothing writes into a pipe, or if the path is a device or a socket.
    OSError
        If the file cannot be opened.
    """
    if not isinstance(source, (str, Path)):
        return io.BytesIO(source.read())
    mode = os.stat(source).st_mode
    if stat.S_ISFIFO(mode):
        return io.BytesIO(_read_pipe(source))
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InvalidInputError(f"{source} is a device or a socket; expected a file")
    return open(source, "rb")


def uncompressed(stream: IO[bytes]) -> IO[bytes]:
    """The stream without its gzip, bzip2 or xz compression; itself if it has none."""
    head = peek(stream, max(map(len, _COMPRESSED)))
    for magic, module in _COMPRESSED.items():
        if head.startswith(magic):
            opened: Any = importlib.import_module(module).open(stream)
            return opened  # type: ignore[no-any-return]
    return stream


def is_compressed(head: bytes) -> bool:
    """Whether these are the first bytes of a file that `uncompressed` undoes."""
    return head.startswith(tuple(_COMPRESSED))


def peek(stream: IO[bytes], count: int) -> bytes:
    """The first bytes of a stream, which is left at its start."""
    head = stream.read(count)
    stream.seek(0)
    return head


def _read_pipe(path: str | Path) -> bytes:
    # A plain open waits for a writer, for ever if there is none.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as pipe:
        deadline = time.monotonic() + _PATIENCE
        # Nothing: no writer. None: a writer that has not written yet.
        while (first := pipe.read(1)) == b"" and time.monotonic() < deadline:
            time.sleep(0.01)
        if first == b"":
            raise InvalidInputError(f"{path} is a pipe into which nothing writes")
        os.set_blocking(descriptor, True)
        return (first or b"") + pipe.read()
