"""A CUDA device: whether there is one, arrays that are on it, and work in pieces that fit it.

numba.cuda is imported with the first use.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import (
    DeviceMemoryError,
    DeviceUnavailableError,
    InvalidInputError,
    UnsupportedDTypeError,
)
from .dlpack import DLPackArray, device_index

# Memory for what is not yet folded: at most, and the least that is tried.
_MOST_BYTES = 2**30
_LEAST_BYTES = 2**20


def require_device(index: int) -> Any:
    """The module `kernels.device`, if the device of that index can be used."""
    from ..kernels.cuda import device

    reason = device.missing()
    if reason is not None:
        raise DeviceUnavailableError(
            "a CUDA device needs an NVIDIA GPU, its driver and the package numba-cuda; install "
            'fastelbo with the extra "cuda12" or "cuda13", for the version of CUDA that nvidia-smi '
            f"shows. What is missing here: {reason}"
        )
    if index >= device.count():
        raise InvalidInputError(f"device must be below {device.count()}, got {index}")
    return device


def in_slices(
    device: Any, points: int, point_bytes: int, run: Callable[[int, int, int], None]
) -> None:
    """``run(lo, count, most_bytes)`` for all data points, in pieces that fit the device's memory.

    Where they do not, with half as much, down to a piece of a megabyte.
    """
    size = min(_MOST_BYTES, device.free_bytes() // 2)
    lo = 0
    while lo < points:
        count = max(1, min(points - lo, size // point_bytes))
        try:
            run(lo, count, size)
        except Exception as error:
            if not device.out_of_memory(error):
                raise
            if size <= _LEAST_BYTES:
                raise DeviceMemoryError(
                    f"the device has no room for a piece of {size:,} bytes of the work, with "
                    f"{device.free_bytes():,} bytes free; close what else uses it"
                ) from error
            size //= 2
            continue
        lo += count


@contextlib.contextmanager
def room_for(size: int, what: str) -> Iterator[None]:
    """An error of our own where the device has no room for what takes so many bytes."""
    from ..kernels.cuda import device

    try:
        yield
    except Exception as error:
        if not device.out_of_memory(error):
            raise
        raise DeviceMemoryError(
            f"{what} take {size:,} bytes of the device, which has {device.free_bytes():,} free; "
            "ask for fewer at a time, or close what else uses it"
        ) from error


def on_device(value: Any) -> bool:
    """Whether the value is an array in the memory of a device."""
    # DLPack first: torch refuses the other interface of a tensor that requires gradients.
    if device_index(value) is not None or hasattr(value, "__cuda_array_interface__"):
        return True
    # Those of the simulator, which has none of this unless it has been imported.
    if "numba.cuda" not in sys.modules:
        return False
    from ..kernels.cuda import device

    return device.holds(value)


def refuse_on_device(value: Any, name: str) -> None:
    """An error for an array on a device, where it is not computed with: it is never copied."""
    if on_device(value):
        raise InvalidInputError(
            f"{name} is on a device, where this function does not compute; copy it to this "
            "machine's memory first"
        )


def device_of(value: Any) -> Any:
    """A context in which the device that holds the array is used."""
    index = device_index(value)
    device = require_device(index or 0)
    return device.select(device.index_of(value) if index is None else index)


def adopt(value: Any, name: str) -> Any:
    """An array on a device, in place: C-contiguous, of float32 or float64; else an error.

    A torch tensor is detached.
    """
    from ..kernels.cuda import device

    value = value.detach() if hasattr(value, "detach") else value
    # DLPack where there is a choice: its owner waits for what is still being computed.
    if device_index(value) is not None:
        value = DLPackArray(value, name)
    array = device.adopt(value)
    if array.dtype not in (np.float32, np.float64):
        raise UnsupportedDTypeError(
            f"{name} on a device has dtype {array.dtype}; expected float32 or float64"
        )
    if not array.is_c_contiguous():
        raise InvalidInputError(
            f"{name} on a device must be C-contiguous, got strides {array.strides} for shape "
            f"{tuple(array.shape)}; a copy is left to its owner"
        )
    return array
