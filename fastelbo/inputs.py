"""Arrays from where users have them: files, other libraries, more than the memory holds."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from .devices import refuse_on_device
from .errors import InvalidInputError
from .lowering import constant
from .reductions import as_real, check_real
from .weight_files import open_array

# Bytes of the file that a strip of columns is copied from: the system maps more of them than are
# read, and may map all.
_STRIP_BYTES = 2**26


def as_array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """Real numbers as an array, without a copy where they lie in this machine's memory.

    A path is that of a ``.npy`` file, which is mapped, or of a ``.npz`` file of one array; neither
    is unpickled. A torch tensor is detached; bfloat16, which NumPy does not have, becomes float32.
    """
    if isinstance(value, (str, Path)):
        try:
            return check_real(open_array(value), name)
        except InvalidInputError as error:
            raise InvalidInputError(f"{name}: {error}") from error
    refuse_on_device(value, name)
    if hasattr(value, "detach") and hasattr(value, "__dlpack__"):
        return check_real(_from_torch(value), name)
    if str(getattr(value, "dtype", "")) == "bfloat16":
        return check_real(np.asarray(value).astype(np.float32), name)
    return check_real(value, name)


def _from_torch(tensor: Any) -> Any:
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    return np.from_dlpack(tensor.cpu())


def memory_map(array: np.ndarray[Any, Any]) -> mmap.mmap | None:
    """The map of a file that the array is a view of, if all of it can be read again.

    That is so of a `numpy.memmap` alone, and not where it is a private copy: what was written to
    that, or to a map without a file, is nowhere else.
    """
    base: Any = array
    reread = False
    while isinstance(base, np.ndarray):
        reread = reread or (isinstance(base, np.memmap) and base.mode in ("r", "r+", "w+"))
        base = base.base
    return base if reread and isinstance(base, mmap.mmap) else None


def drop_pages(pages: mmap.mmap | None) -> None:
    """Give back the memory of what has been read of a file; it is read again if it is needed."""
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def copy_part(part: np.ndarray[Any, Any], pages: mmap.mmap | None, name: str) -> Any:
    """Some of an array (A, k, B), contiguous and as the kernels take numbers."""
    if pages is None or part.flags.c_contiguous:
        return constant(as_real(part, name))
    strips = []
    rows = max(1, _STRIP_BYTES // max(1, abs(part.strides[1]) * part.shape[0]))
    for start in range(0, part.shape[1], rows):
        strips.append(np.array(as_real(part[:, start : start + rows], name)))
        drop_pages(pages)
    return constant(np.concatenate(strips, axis=1))
