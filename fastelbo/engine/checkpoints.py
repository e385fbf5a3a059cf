"""Checkpoints: facts and arrays in one file, which is either complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointError, CheckpointMismatchError, InvalidInputError
from ..kernels.draws.blocks import CHUNK
from ..kernels.state import state
from ..kernels.state.groups import GROUP_SIZE
from ..validation import Floats, shown
from ..version import STREAM_VERSION
from .atomic_files import replace_file

# Identifies the format. The arrays also depend on the chunk size and, in their last bits, on the
# stream version.
_FORMAT = {
    "format": "fastelbo accumulator",
    "version": 2,
    "chunk": CHUNK,
    "stream_version": STREAM_VERSION,
}
# Checkpoints of the first version are converted. The oldest did not name their stream version.
_FIRST = 1
_UNNAMED = {"stream_version": 1}


def write(path: str | Path, facts: Mapping[str, Any], arrays: Mapping[str, Floats]) -> None:
    """Replace the file at ``path`` in one atomic step, or leave it unchanged and raise."""
    target = _as_path(path)
    header = json.dumps(_FORMAT | dict(facts))
    content: dict[str, Any] = {"header": np.frombuffer(header.encode(), np.uint8), **arrays}
    content["checksum"] = np.frombuffer(_checksum(content), np.uint8)
    try:
        # NumPy 2.0 takes a keyword allow_pickle for one array more.
        replace_file(target, lambda file: np.savez(file, **content))
    except (OSError, ValueError) as error:
        # What zipfile says of an archive that an interrupt has left open.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        # Other texts of the system name the temporary file.
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"checkpoint {target} cannot be written: {reason}") from error


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Read and check the facts and the arrays of a checkpoint.

    Sums of an older stream version are right, but not to the last bit: ``exact`` is False.
    """
    path = _as_path(path)
    try:
        # Open the file here: np.load(path) leaves it open if it is not an archive.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
        if not {"checksum", "header"} <= set(content):
            raise ValueError(
                "it is a .npz file of other arrays, which LogWeightAccumulator.save did not write"
            )
        checksum = content.pop("checksum").tobytes()
        facts = json.loads(content["header"].tobytes())
        sound = checksum == _checksum(content)
    # Reading a damaged archive can raise nearly any exception.
    except Exception as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    if not sound:
        raise CheckpointError(f"checkpoint {path} is changed or damaged: its checksum is wrong")
    found = {name: facts.get(name, _UNNAMED.get(name)) for name in _FORMAT}
    first = found["version"] == _FIRST
    older = found["stream_version"] in range(1, STREAM_VERSION)
    known = dict(found)
    if first:
        known["version"] = _FORMAT["version"]
    if older:
        known["stream_version"] = STREAM_VERSION
    if known != _FORMAT:
        raise CheckpointMismatchError(f"checkpoint {path} has {found}, expected {_FORMAT}")
    if older:
        facts["exact"] = False
    del content["header"]
    return facts, _from_first(content) if first else content


def _from_first(content: dict[str, Floats]) -> dict[str, Floats]:
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


def _as_path(path: object) -> Path:
    # A number is a file that is open already: it would be closed.
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidInputError(f"path must be a str or a Path, got {shown(path)}")
    return Path(path)


def _checksum(content: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(content):
        array = np.ascontiguousarray(content[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.data if array.size else b"")
    return digest.digest()
