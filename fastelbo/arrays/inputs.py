"""Input arrays from users: from files, from other libraries, larger than main memory."""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import InvalidInputError, UnsupportedDTypeError
from ..validation import Floats, require_finite, shown
from .choice import ChoiceError
from .devices import refuse_on_device
from .files import open_array
from .lazy import refuse_dask

# File bytes per copied strip of columns. The system maps more pages than are read, possibly all.
_STRIP_BYTES = 2**26

Axis = int | tuple[int, ...] | None


def as_array(value: Any, name: str, *, file: bool = False) -> np.ndarray[Any, Any]:
    """Real numbers as an array, without a copy if they are in main memory.

    Every array that a user gives comes this way. Taken are lists and numbers, and the arrays of
    any library that NumPy can read. A torch tensor is detached. bfloat16, which NumPy does not
    have, becomes float32. With ``file``, a path names a file that
    `fastelbo.arrays.files.open_array` reads.
    """
    if file and isinstance(value, (str, Path)):
        try:
            return _real(open_array(value), value, name)
        except ChoiceError as error:
            raise InvalidInputError(
                f"{name}: {error}; fastelbo.arrays.files.open_array takes the choice"
            ) from error
        except InvalidInputError as error:
            raise InvalidInputError(f"{name}: {error}") from error
    return _real(_as_numpy(value, name), value, name)


def as_floats(value: Any, name: str) -> Floats:
    """A copy of a real, finite argument as a float64 array."""
    array = np.array(as_unchecked_floats(value, name))
    require_finite(array, name)
    return array


def as_unchecked_floats(value: Any, name: str) -> Floats:
    """A real argument as a float64 array, without a copy if it already is one."""
    return np.asarray(as_array(value, name), dtype=np.float64, order="C")


def _as_numpy(value: Any, name: str) -> np.ndarray[Any, Any]:
    """The argument as NumPy reads it, of any dtype."""
    refuse_dask(value, name)
    refuse_on_device(value, name)
    if _has_mask(value):
        refuse_mask(name)
    try:
        if hasattr(value, "detach"):
            return _from_torch(value.detach())
        return np.asarray(value)
    except MemoryError:
        raise
    # Conversions are others' code, which may raise anything.
    except Exception as error:
        # A list of tensors has a second chance: each of them may be taken alone.
        if isinstance(value, (list, tuple)) and any(hasattr(item, "detach") for item in value):
            return as_array([as_array(item, name) for item in value], name)
        raise InvalidInputError(
            f"{name} must be an array of real numbers, got {shown(value)} of type "
            f"{type(value).__name__}, which NumPy cannot read as one: {error}"
        ) from error


def refuse_mask(name: str) -> NoReturn:
    """Raise the error for a masked array."""
    raise UnsupportedDTypeError(
        f"{name} must not be a masked array, because its mask would be ignored; fill or drop "
        "the masked entries first (of log weights, -inf is a weight of 0)"
    )


def _from_torch(tensor: Any) -> np.ndarray[Any, Any]:
    if str(getattr(tensor, "dtype", "")) == "torch.bfloat16":
        tensor = tensor.float()
    return np.from_dlpack(tensor.cpu()) if hasattr(tensor, "__dlpack__") else np.asarray(tensor)


def _has_mask(value: Any) -> bool:
    """Whether the value is a masked array, or a list with one."""
    if isinstance(value, (list, tuple)):
        # A list of numbers may be long, and has no mask.
        holds_arrays = bool(value) and not isinstance(value[0], (int, float))
        return holds_arrays and any(map(_has_mask, value))
    return isinstance(value, np.ma.MaskedArray)


def _real(array: np.ndarray[Any, Any], value: Any, name: str) -> np.ndarray[Any, Any]:
    """The array, after a check that its elements are real numbers; ``value`` is what came."""
    if _is_bfloat16(array.dtype):
        return array.astype(np.float32)
    of = "" if isinstance(value, (np.ndarray, list, tuple)) else f" ({type(value).__name__})"
    require_real(array.dtype, of, name)
    return np.asarray(array)


def require_real(dtype: np.dtype[Any], of: str, name: str) -> None:
    """Raise an error for a dtype that `as_array` does not take; ``of`` says what array has it."""
    if (dtype.kind not in "fiub" or dtype.itemsize > 8) and not _is_bfloat16(dtype):
        raise UnsupportedDTypeError(
            f"{name} has dtype {dtype}{of}; expected real numbers: float16, bfloat16, "
            "float32, float64, integers or bool"
        )


def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    # NumPy imports a module to name a type, and none can be imported when Python ends.
    return dtype.kind == "V" and str(dtype) == "bfloat16"


def as_real(value: Any, name: str, *, file: bool = False) -> np.ndarray[Any, Any]:
    """A float32 or float64 array in native byte order, without a copy if it already is one."""
    return in_native_floats(as_array(value, name, file=file))


def in_native_floats(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Real numbers in float32 or float64 of native byte order, without a copy if they are."""
    return array.astype(_real_dtype(array), copy=False)


def is_real(array: np.ndarray[Any, Any]) -> bool:
    """Whether `in_native_floats` returns the array without conversion."""
    return bool(array.dtype == _real_dtype(array) and array.dtype.isnative)


def _real_dtype(array: np.ndarray[Any, Any]) -> np.dtype[Any]:
    wide = array.dtype.kind == "f" and array.dtype.itemsize >= 4
    return array.dtype.newbyteorder("=") if wide else np.dtype(np.float64)


def normal_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The reduced axes as non-negative numbers; all axes for None."""
    if axis is None:
        return tuple(range(ndim))
    try:
        if not any(isinstance(each, (bool, np.bool_)) for each in np.atleast_1d(axis).tolist()):
            return tuple(np.lib.array_utils.normalize_axis_tuple(axis, ndim))
        reason = "a bool is no number"
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error)
    raise InvalidInputError(
        f"axis must name axes of an array with {ndim} axes, each once, got {shown(axis)}: {reason}"
    )


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


def copy_part(part: np.ndarray[Any, Any], pages: mmap.mmap | None) -> Any:
    """Part of an array (A, k, B), contiguous, and float32 or float64 as the kernels expect."""
    if pages is None or part.flags.c_contiguous:
        return constant(in_native_floats(part))
    strips = []
    draws = max(1, _STRIP_BYTES // max(1, abs(part.strides[1]) * part.shape[0]))
    for start in range(0, part.shape[1], draws):
        strips.append(np.array(in_native_floats(part[:, start : start + draws])))
        drop_pages(pages)
    return constant(np.concatenate(strips, axis=1))
