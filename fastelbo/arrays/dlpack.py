"""Arrays on a CUDA device that are known by DLPack alone.

numba takes what has ``__cuda_array_interface__``. A DLPack capsule says the same in a C structure
(https://dmlc.github.io/dlpack/latest/c_api.html), which is read here and told in those words.
"""

from __future__ import annotations

import ctypes
from typing import Any

from ..errors import UnsupportedDTypeError

# DLPack's numbers for the memory of a device and for such memory that the host sees, too.
_CUDA = (2, 13)
# The stream that kernels run on, in the numbers of both protocols.
_DEFAULT_STREAM = 1
_NAME = b"dltensor"
# Kinds of numbers, as NumPy's letters.
_KINDS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("kind", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def device_index(value: Any) -> int | None:
    """The CUDA device whose memory holds the value, by DLPack; None for any other."""
    try:
        kind, index = value.__dlpack_device__()
    except Exception:  # no DLPack, or one that does not know where the value is
        return None
    return int(index) if int(kind) in _CUDA else None


class DLPackArray:
    """An array as its DLPack capsule describes it, which stays as long as this does."""

    def __init__(self, value: Any, name: str) -> None:
        self._capsule = value.__dlpack__(stream=_DEFAULT_STREAM)
        tensor = _read(self._capsule)
        letter = _KINDS.get(tensor.kind)
        if letter is None or tensor.lanes != 1:
            raise UnsupportedDTypeError(
                f"{name} has DLPack's type {tensor.kind} of {tensor.bits} bits; expected float32 "
                "or float64"
            )
        size = tensor.bits // 8
        strides = None
        if tensor.strides:
            strides = tuple(size * tensor.strides[axis] for axis in range(tensor.ndim))
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": tuple(tensor.shape[axis] for axis in range(tensor.ndim)),
            "typestr": f"{'|' if size == 1 else '<'}{letter}{size}",
            "data": ((tensor.data or 0) + tensor.byte_offset, False),
            "strides": strides,
            "stream": _DEFAULT_STREAM,
        }


def _read(capsule: Any) -> _Tensor:
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return _Tensor.from_address(pointer(capsule, _NAME))
