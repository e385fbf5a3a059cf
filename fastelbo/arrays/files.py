"""Log weights from a file of any kind that can be read without running what is in it.

The kind is told from the first bytes, not from the name.
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from ..errors import InvalidInputError
from . import cmdstan, netcdf, npy, text
from .choice import Choice, ChoiceError
from .streams import Source, is_compressed, label, open_stream, peek, uncompressed

_HEAD = 4096
# A parser's message may quote all of the file.
_LONGEST_REASON = 200
_NPY, _NPZ, _NETCDF, _TEXT = (
    "a .npy file", "a .npz or other zip archive", "a netCDF file", "a text file",
)  # fmt: skip
# What a file begins with, and what it then seems to be.
_KINDS = (
    (b"\x93NUMPY", _NPY),
    (b"PK", _NPZ),
    (netcdf.HDF5, _NETCDF),
    (b"CDF", _NETCDF),
)
_REFUSED = (
    *((bytes([0x80, protocol]), "a pickle, which can run any program when it is read")
      for protocol in range(2, 6)),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow or Feather file"),
    (b"\x28\xb5\x2f\xfd", "a file compressed by zstd"),
    (b"RDX", "an R data file"),
    (b"X\n\x00\x00\x00", "an R data file"),
    (b"MATLAB 5.0 MAT", "a MATLAB file"),
    (b"\xd0\xcf\x11\xe0", "an Excel or other Office file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "a PDF file"),
    (b"\x89PNG", "an image"),
    (b"{", "JSON"),
    (b"[", "a list in brackets, as in JSON"),
    (b"<", "HTML or XML"),
)  # fmt: skip


def open_array(
    path: Source, choice: Choice = Choice()  # noqa: B008, it is frozen
) -> np.ndarray[Any, Any]:  # fmt: skip
    """The log weights in a file.

    Parameters
    ----------
    path : str, Path or binary stream
        One of these files, compressed by gzip, bzip2 or xz or not:

        - ``.npy``. If it is not compressed, it is mapped, not read into memory. A file that is cut
          off while it is mapped ends the process (SIGBUS), as with every map.
        - ``.npz``, of which ``choice.name`` selects an array if it has several.
        - Text (``.csv``, ``.txt``, ``.tsv``): numbers between commas, semicolons, tabs or spaces,
          below names or not. Lines that begin with ``#`` are comments. A first column without a
          name has row names and is left out. ``choice.column`` selects a column.
        - CmdStan's CSV files of ``variational``, ``laplace`` and ``pathfinder``: their log
          densities make log weights.
        - netCDF, as ArviZ writes it, of which ``choice.group`` and ``choice.var`` select a
          variable. The dimensions ``chain``, ``draw`` and ``sample`` become one axis, the last. It
          needs ``pip install "fastelbo[export]"``.

        Pickles, and arrays of Python objects, are never read.
    choice : Choice
        Which array is meant, if the file has several.

    Returns
    -------
    ndarray
        A read-only memory map of a ``.npy`` file; else an array in memory.

    Raises
    ------
    InvalidInputError
        If the file is damaged, empty or of another kind; if it has no such array, or several and
        none was chosen.
    ImportError
        If the file needs a library that is not installed.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from fastelbo.arrays.choice import Choice
    >>> from fastelbo.arrays.files import open_array
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "weights.npy")
    ...     np.save(path, np.zeros((2, 1000)))
    ...     open_array(path).shape
    (2, 1000)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "weights.csv")
    ...     _ = path.write_text("chain,log_weight\\n1,-0.5\\n1,0.25\\n")
    ...     open_array(path, Choice(column="log_weight"))
    array([-0.5 ,  0.25])
    """
    return read_weights(path, choice)[0]


def read_weights(source: Source, choice: Choice) -> tuple[np.ndarray[Any, Any], bool]:
    """The array of `open_array`, and whether the file names the draws, then the last axis."""
    kind = ""
    try:
        with open_stream(source) as stream, uncompressed(stream) as content:
            head = peek(content, _HEAD)
            kind = _kind(head)
            return _read(content, head, kind, choice, label(source))
    except (InvalidInputError, ImportError, MemoryError, Warning):
        raise
    except Exception as error:  # a damaged file can raise anything in what reads it
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = (str(error) or type(error).__name__)[:_LONGEST_REASON]
        seems = f" seems to be {kind}, but" if kind else ""
        raise InvalidInputError(f"{label(source)}{seems} cannot be read: {reason}") from error


def _kind(head: bytes) -> str:
    """What the first bytes of a file say that it is."""
    if not head:
        raise ValueError("it is empty")
    for magic, kind in (*_KINDS, *_REFUSED):
        if head.startswith(magic):
            return kind
    if is_compressed(head):
        raise ValueError("it is compressed twice")
    if not text.is_text(head):
        raise ValueError("its bytes are of no kind that fastelbo knows")
    return _TEXT


def _read(
    stream: IO[bytes], head: bytes, kind: str, choice: Choice, path: str
) -> tuple[np.ndarray[Any, Any], bool]:
    if kind == _NPY:
        choice.require(kind, path)
        return npy.read_npy(stream), False
    if kind == _NPZ:
        choice.require(kind, path, "name")
        return npy.read_npz(stream, choice.name, path), False
    if kind == _NETCDF:
        choice.require(kind, path, "group", "var")
        array, named = netcdf.read_netcdf(stream, head, choice.group, choice.var, path)
        if named and choice.axis is not None:
            raise ChoiceError(
                f"axis must not be given where {path} names the draws, got {choice.axis}"
            )
        return array, named
    if kind != _TEXT:
        raise InvalidInputError(
            f"{path} seems to be {kind}; write its log weights to a .npy or a .csv file"
        )
    choice.require(kind, path, "column")
    with text.open_table(stream, head) as table:
        if choice.column is None and cmdstan.has_log_weights(table):
            return cmdstan.log_weights(table, path), False
        if choice.column is None:
            cmdstan.require_no_sample(table, path)
        return text.read_columns(table, choice, path), False
