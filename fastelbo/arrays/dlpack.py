"""Arrays on a CUDA device that have DLPack but no ``__cuda_array_interface__``.

numba needs the latter. A DLPack capsule has the same facts in a C structure
(https://dmlc.github.io/dlpack/latest/c_api.html). This module reads the structure and makes a
``__cuda_array_interface__`` from it.
"""

from __future__ import annotations

import ctypes
from typing import Any

from ..errors import UnsupportedDTypeError

# DLPack's device types for CUDA memory and for managed memory, which the host can read, too.
_CUDA = (2, 13)
# The stream of the kernels. Both protocols use this number for it.
_DEFAULT_STREAM = 1
_NAME = b"dltensor"
# DLPack's type codes, as NumPy's letters.
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
    """Index of the CUDA device that holds the value, from DLPack; None for other values."""
    try:
        kind, index = value.__dlpack_device__()
    except Exception:  # no DLPack, or its device is unknown
        return None
    return int(index) if int(kind) in _CUDA else None


class DLPackArray:
    """An array as its DLPack capsule describes it. The capsule lives as long as this object."""

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
