"""CUDA devices: check for one, read arrays on it, split work into pieces that fit its memory.

numba.cuda is imported at the first use.
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

# Memory for chunks before they are folded: the most that is used, and the least that is tried.
_MOST_BYTES = 2**30
_LEAST_BYTES = 2**20


def require_device(index: int) -> Any:
    """The module `kernels.cuda.device`, if the device with this index is usable; else an error."""
    from ..kernels.cuda import device

    reason = device.missing()
    if reason is not None:
        raise DeviceUnavailableError(
            "a CUDA device needs an NVIDIA GPU, its driver and the package numba-cuda; install "
            'fastelbo with the extra "cuda12" or "cuda13", for the version of CUDA that nvidia-smi '
            f"shows. Missing on this machine: {reason}"
        )
    if index >= device.count():
        raise InvalidInputError(f"device must be below {device.count()}, got {index}")
    return device


def in_slices(
    device: Any, points: int, point_bytes: int, run: Callable[[int, int, int], None]
) -> None:
    """Call ``run(lo, count, most_bytes)`` for all data points, in pieces that fit the device.

    If a piece does not fit, try again with half the memory, down to one megabyte.
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
                    f"the device needs room for a piece of {size:,} bytes, but has "
                    f"{device.free_bytes():,} bytes free; close other programs that use it"
                ) from error
            size //= 2
            continue
        lo += count


@contextlib.contextmanager
def room_for(size: int, what: str) -> Iterator[None]:
    """Raise `DeviceMemoryError` if the device runs out of memory for ``size`` bytes of ``what``."""
    from ..kernels.cuda import device

    try:
        yield
    except Exception as error:
        if not device.out_of_memory(error):
            raise
        raise DeviceMemoryError(
            f"{what} take {size:,} bytes of the device, which has {device.free_bytes():,} bytes "
            "free; ask for fewer at a time, or close other programs that use it"
        ) from error


def on_device(value: Any) -> bool:
    """Whether the value is an array in the memory of a device."""
    # DLPack first: torch raises an error for the other interface if a tensor requires gradients.
    if device_index(value) is not None or hasattr(value, "__cuda_array_interface__"):
        return True
    # Arrays of numba's simulator have neither interface, and exist only after its import.
    if "numba.cuda" not in sys.modules:
        return False
    from ..kernels.cuda import device

    return device.holds(value)


def refuse_on_device(value: Any, name: str) -> None:
    """Raise an error for an array on a device. No array is copied from a device implicitly."""
    if on_device(value):
        raise InvalidInputError(
            f"{name} is on a device, but this function needs an array in main memory; copy it "
            "there first"
        )


def device_of(value: Any) -> Any:
    """A context that selects the device of the array."""
    index = device_index(value)
    device = require_device(index or 0)
    return device.select(device.index_of(value) if index is None else index)


def adopt(value: Any, name: str) -> Any:
    """An array on a device as an array of numba, without a copy. A torch tensor is detached.

    It must be C-contiguous, with dtype float32 or float64.
    """
    from ..kernels.cuda import device

    value = value.detach() if hasattr(value, "detach") else value
    # Prefer DLPack: the owner of the array then waits for computations that still write to it.
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
            f"{tuple(array.shape)}; make a C-contiguous copy"
        )
    return array
