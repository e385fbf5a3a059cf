"""Input arrays from users: from files, from other libraries, larger than main memory."""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidInputError, UnsupportedDTypeError
from .choice import ChoiceError
from .devices import refuse_on_device
from .files import open_array

# File bytes per copied strip of columns. The system maps more pages than are read, possibly all.
_STRIP_BYTES = 2**26

Axis = int | tuple[int, ...] | None


def as_array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """Real numbers as an array, without a copy if they are in main memory.

    A path names a file that `fastelbo.arrays.files.open_array` reads. A torch tensor is detached.
    bfloat16 becomes float32, because NumPy does not have it.
    """
    if isinstance(value, (str, Path)):
        try:
            return check_real(open_array(value), name)
        except ChoiceError as error:
            raise InvalidInputError(
                f"{name}: {error}; fastelbo.arrays.files.open_array takes the choice"
            ) from error
        except InvalidInputError as error:
            raise InvalidInputError(f"{name}: {error}") from error
    refuse_on_device(value, name)
    if hasattr(value, "detach") and hasattr(value, "__dlpack__"):
        return check_real(_from_torch(value), name)
    dtype = getattr(value, "dtype", None)
    # NumPy imports a module to name a type, and none can be imported when Python ends.
    if getattr(dtype, "kind", "V") == "V" and str(dtype) == "bfloat16":
        return check_real(np.asarray(value).astype(np.float32), name)
    return check_real(value, name)


def _from_torch(tensor: Any) -> Any:
    tensor = tensor.detach()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    return np.from_dlpack(tensor.cpu())


def check_real(value: Any, name: str) -> np.ndarray[Any, Any]:
    """The argument as an array, after a check that its elements are real numbers."""
    refuse_on_device(value, name)
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedDTypeError(
            f"{name} must not be a masked array, because its mask would be ignored; fill the "
            "masked entries first (-inf is a weight of 0)"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise UnsupportedDTypeError(
            f"{name} has dtype {array.dtype}; expected real numbers: float16, float32, float64, "
            "integers or bool"
        )
    return array


def as_real(value: Any, name: str) -> np.ndarray[Any, Any]:
    """A float32 or float64 array in native byte order, without a copy if it already is one."""
    array = check_real(value, name)
    return array.astype(_real_dtype(array), copy=False)


def is_real(array: np.ndarray[Any, Any]) -> bool:
    """Whether `as_real` returns the array without conversion."""
    return bool(array.dtype == _real_dtype(array) and array.dtype.isnative)


def _real_dtype(array: np.ndarray[Any, Any]) -> np.dtype[Any]:
    wide = array.dtype.kind == "f" and array.dtype.itemsize >= 4
    return array.dtype.newbyteorder("=") if wide else np.dtype(np.float64)


def normal_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The reduced axes as non-negative numbers; all axes for None."""
    if axis is None:
        return tuple(range(ndim))
    try:
        return tuple(np.lib.array_utils.normalize_axis_tuple(axis, ndim))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"axis must name axes of an array with {ndim} axes, each once, got {axis!r}: {error}"
        ) from None


def as_rows(
    array: np.ndarray[Any, Any], axes: tuple[int, ...]
) -> tuple[np.ndarray[Any, Any], tuple[int, ...]]:
    """The array as (A, K, B), to be reduced along K, and the shape of the result.

    There is no copy if the array is contiguous and one axis or all axes are reduced. In Fortran
    order, this holds for one axis only if the array is a matrix.
    """
    shape = tuple(n for axis, n in enumerate(array.shape) if axis not in axes)
    if len(axes) == 1:
        axis = axes[0]
        if array.ndim == 2 and array.flags.f_contiguous:
            array, axis = array.T, 1 - axis
        before, after = math.prod(array.shape[:axis]), math.prod(array.shape[axis + 1 :])
        return constant(array.reshape(before, array.shape[axis], after)), shape
    if not shape:
        return constant(array.reshape((1, array.size, 1), order="A")), shape
    length = math.prod(array.shape[axis] for axis in axes)
    last = np.moveaxis(array, axes, range(-len(axes), 0))
    return constant(last.reshape(math.prod(shape), length, 1)), shape


def constant(array: np.ndarray[Any, Any]) -> Any:
    """The array as kernels expect their parameters: contiguous and read-only.

    A kernel is compiled once for each kind of array. This function makes all arrays one kind.
    """
    view = np.ascontiguousarray(array).view()
    view.setflags(write=False)
    return view


def memory_map(array: np.ndarray[Any, Any]) -> mmap.mmap | None:
    """The file map behind the array, if its pages can be dropped and read again; else None.

    Only a `numpy.memmap` qualifies, and not in copy-on-write mode. Data in a private copy, or in a
    map without a file, exist nowhere else.
    """
    base: Any = array
    reread = False
    while isinstance(base, np.ndarray):
        reread = reread or (isinstance(base, np.memmap) and base.mode in ("r", "r+", "w+"))
        base = base.base
    return base if reread and isinstance(base, mmap.mmap) else None


def drop_pages(pages: mmap.mmap | None) -> None:
    """Release the memory of the pages of a file. The system reads them again when needed."""
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def copy_part(part: np.ndarray[Any, Any], pages: mmap.mmap | None, name: str) -> Any:
    """Part of an array (A, k, B), contiguous, and float32 or float64 as the kernels expect."""
    if pages is None or part.flags.c_contiguous:
        return constant(as_real(part, name))
    strips = []
    draws = max(1, _STRIP_BYTES // max(1, abs(part.strides[1]) * part.shape[0]))
    for start in range(0, part.shape[1], draws):
        strips.append(np.array(as_real(part[:, start : start + draws], name)))
        drop_pages(pages)
    return constant(np.concatenate(strips, axis=1))
