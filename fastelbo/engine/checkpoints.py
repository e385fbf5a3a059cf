"""Checkpoints: facts and arrays in one file, which is either complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ..errors import CheckpointError, CheckpointMismatchError, InvalidInputError
from ..kernels.draws.blocks import CHUNK
from ..kernels.state import state
from ..kernels.state.groups import GROUP_SIZE
from ..validation import Floats, shown
from ..version import STREAM_VERSION
from .atomic_files import replace_file

Facts = dict[str, Any]
Arrays = dict[str, Floats]


class Kind(NamedTuple):
    """A kind of content, and the version of its format."""

    format: str
    version: int
    writer: str  # the call that writes it
    # Whether files of earlier versions are converted, and sums of older streams, which are right
    # but not to the last bit, are taken.
    takes_older: bool


ACCUMULATOR = Kind("fastelbo accumulator", 3, "LogWeightAccumulator.save", True)
ESTIMATE = Kind("fastelbo estimate", 2, "estimate(checkpoint=...)", False)

# The arrays also depend on the chunk size and, in their last bits, on the stream version.
_FORMAT = {"chunk": CHUNK, "stream_version": STREAM_VERSION}
# The oldest checkpoints did not name their stream version.
_UNNAMED = {"stream_version": 1}
# The facts that count versions.
_NUMBERED = "version", "stream_version"


def write(
    path: Path,
    kind: Kind,
    facts: Mapping[str, Any],
    arrays: Mapping[str, Floats],
    kept: str = "",
    take: Callable[[IO[bytes]], None] = lambda file: None,
) -> None:
    """Replace the file at ``path`` in one atomic step, or leave it unchanged and raise.

    With ``kept``, a suffix, the old file is kept under the name with this suffix. ``take`` gets the
    new file, which is locked, before it is complete.
    """

    def save(file: IO[bytes]) -> None:
        take(file)
        # NumPy 2.0 takes a keyword allow_pickle for one array more.
        np.savez(file, **content)

    header = json.dumps(_format(kind) | dict(facts))
    content: dict[str, Any] = {"header": np.frombuffer(header.encode(), np.uint8), **arrays}
    content["checksum"] = np.frombuffer(_checksum(content), np.uint8)
    try:
        replace_file(path, save, kept)
    except (OSError, ValueError) as error:
        # What zipfile says of an archive that an interrupt has left open.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        # Other texts of the system name the temporary file.
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"checkpoint {path} cannot be written: {reason}") from error


def read(path: Path, kind: Kind) -> tuple[Facts, Arrays]:
    """Read and check the facts and the arrays of a checkpoint.

    Sums of an older stream version are right, but not to the last bit: ``exact`` is False.
    """
    try:
        # Open the file here: np.load(path) leaves it open if it is not an archive.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
        if not {"checksum", "header"} <= set(content):
            raise ValueError(
                f"it is a .npz file of other arrays, which {kind.writer} did not write"
            )
        checksum = content.pop("checksum").tobytes()
        facts = json.loads(content["header"].tobytes())
        sound = checksum == _checksum(content)
    # Reading a damaged archive can raise nearly any exception.
    except Exception as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    if not sound:
        raise CheckpointError(f"checkpoint {path} is changed or damaged: its checksum is wrong")
    del content["header"]
    expected = _format(kind)
    found = {name: facts.get(name, _UNNAMED.get(name)) for name in expected}
    numbered = _NUMBERED if kind.takes_older else ()
    converted = {name for name in numbered if _is_older(found[name], expected[name])}
    wrong = [name for name in expected if found[name] != expected[name] and name not in converted]
    if wrong:
        theirs, ours = ({name: each[name] for name in wrong} for each in (found, expected))
        raise CheckpointMismatchError(f"checkpoint {path} has {theirs}, expected {ours}")
    if "stream_version" in converted:
        facts["exact"] = False
    return facts, _converted(content, found["version"]) if "version" in converted else content


def _is_older(version: object, current: int) -> bool:
    return isinstance(version, int) and 0 < version < current


def _format(kind: Kind) -> Facts:
    return {"format": kind.format, "version": kind.version, **_FORMAT}


def _converted(content: Arrays, version: int) -> Arrays:
    """The arrays of an accumulator, from those of an earlier version."""
    if version == 1:
        content = _from_first(content)
    # Up to version 2, chunks were folded as if they were of one span.
    return content | {"earlier": content["moments"][:0]}


def _from_first(content: Arrays) -> Arrays:
    """The arrays of a checkpoint of version 1, whose terms and groups had no scale.

    Nor did it follow the smallest log weights.
    """
    low = state.MIN
    first, size, group = state.LOG_WEIGHT - 1, state.TERM_SIZE - 1, GROUP_SIZE - 1
    groups = first + 3 * size

    def with_scales(states: Floats) -> Floats:
        unknown = np.full((*states.shape[:-1], 1), -np.inf)
        parts = [states[..., :low], unknown, states[..., low:first]]
        for start, stop, width in ((first, groups, size), (groups, states.shape[-1], group)):
            for field in range(start, stop, width):
                parts += [states[..., field : field + width], np.ones((*states.shape[:-1], 1))]
        return np.concatenate(parts, axis=-1)

    moments, chunks = with_scales(content["moments"]), with_scales(content["chunks"])
    return content | {"moments": moments, "chunks": chunks, "kept": content["kept"][:, None]}


def as_path(path: object, name: str) -> Path:
    """A path from the argument with this name."""
    # A number is a file that is open already: it would be closed.
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInputError(f"{name} must be a str or a Path, got {shown(path)}")
    return Path(path)


def _checksum(content: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(content):
        array = np.ascontiguousarray(content[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.data if array.size else b"")
    return digest.digest()
