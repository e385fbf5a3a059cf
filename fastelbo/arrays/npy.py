"""NumPy's own files, ``.npy`` and ``.npz``. Nothing in them is ever unpickled.

`numpy.load` takes any unknown file for a pickle, and advises to allow it. So the headers are read
here, and checked against the number of bytes that follow.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from typing import IO, Any, NamedTuple

import numpy as np

from .choice import choose

Array = np.ndarray[Any, Any]

_ENDING = ".npy"
_READ_HEADER: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Any

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(stream: IO[bytes]) -> Array:
    """The array in a ``.npy`` file: a read-only map of a file on the disk, else in memory."""
    header = _header(stream)
    if isinstance(stream, io.BufferedReader) and header.n_bytes:
        offset = stream.tell()
        _require_bytes(header, os.fstat(stream.fileno()).st_size - offset)
        return np.memmap(stream, header.dtype, "r", offset, header.shape, header.order)
    data = stream.read()
    _require_bytes(header, len(data))
    array = np.frombuffer(data, header.dtype) if data else np.empty(0, header.dtype)
    return array.reshape(header.shape, order=header.order)


def read_npz(stream: IO[bytes], name: str | None, path: str) -> Array:
    """The array ``name`` of a ``.npz`` file, or its only one if ``name`` is None."""
    with zipfile.ZipFile(stream) as archive:
        members = [each for each in archive.namelist() if each.endswith(_ENDING)]
        if not members:
            raise ValueError("it has no arrays (.npy files) in it")
        names = [each.removesuffix(_ENDING) for each in members]
        chosen = choose(names, name, "name", "arrays", path)
        with archive.open(members[names.index(chosen)]) as member:
            return read_npy(member)


def _header(stream: IO[bytes]) -> _Header:
    try:
        shape, fortran, dtype = _READ_HEADER[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # a parser raises anything for bytes that are no header
        raise ValueError("the header of its array is damaged") from error
    if dtype.hasobject:
        raise ValueError("its array has Python objects, which only a pickle holds; save numbers")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"the header of its array has the shape {shape}")
    return _Header(dtype, shape, "F" if fortran else "C")


def _require_bytes(header: _Header, found: int) -> None:
    if header.n_bytes != found:
        raise ValueError(
            f"the header of its array says {header.n_bytes} bytes of numbers (shape "
            f"{header.shape}, {header.dtype}), but {found} follow"
        )
