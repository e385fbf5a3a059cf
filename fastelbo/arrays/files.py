"""Log weights from a NumPy file. A ``.npy`` file is mapped, not read into memory."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidInputError

_ZIP = b"PK"


def open_array(path: str | Path, name: str | None = None) -> np.ndarray[Any, Any]:
    """The array in a ``.npy`` file, or one of the arrays in a ``.npz`` file.

    Parameters
    ----------
    path : str or Path
        The file. Pickled objects are never read.
    name : str, optional
        Name of the array in a ``.npz`` file; required if the file has several.

    Returns
    -------
    ndarray
        A read-only memory map of a ``.npy`` file; an array in memory from a ``.npz`` file.

    Raises
    ------
    InvalidInputError
        If the file is empty, truncated or of another kind; if the file has no array ``name``; if
        ``name`` is required and not given.
    OSError
        If the file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from fastelbo.arrays.files import open_array
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "weights.npy")
    ...     np.save(path, np.zeros((2, 1000)))
    ...     open_array(path).shape
    (2, 1000)
    """
    try:
        # Open the file here: np.load(path) leaves a truncated archive open.
        with open(path, "rb") as file:
            if file.read(len(_ZIP)) == _ZIP:
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    return _member(archive, path, name)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except InvalidInputError:
        raise
    except (EOFError, OverflowError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # NumPy's message is about pickle, because it takes any unknown file for a pickle.
        raise InvalidInputError(
            f"{path} is not a complete .npy or .npz file of numbers: {error}"
        ) from error
    if name is not None:
        raise InvalidInputError(
            f"name must not be given for a .npy file, got {name!r}; {path} is not a .npz file"
        )
    return np.asanyarray(array)


def _member(archive: Any, path: str | Path, name: str | None) -> np.ndarray[Any, Any]:
    names = ", ".join(archive.files) or "none"
    if name is None and len(archive.files) != 1:
        raise InvalidInputError(f"name must be one of the arrays in {path} ({names}), got None")
    chosen = archive.files[0] if name is None else name
    if chosen not in archive.files:
        raise InvalidInputError(
            f"name must be one of the arrays in {path} ({names}), got {chosen!r}"
        )
    array = archive[chosen]
    if not isinstance(array, np.ndarray):
        raise InvalidInputError(
            f"{chosen!r} in {path} must be an array, got {type(array).__name__}"
        )
    return array
