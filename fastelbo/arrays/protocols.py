"""Types for arrays of other libraries."""

from __future__ import annotations

from typing import Any, Protocol

from ..validation import Floats


class ExportsDLPack(Protocol):
    """An array of CuPy, torch or JAX, in any memory."""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


class OnDevice(Protocol):
    """An array in the memory of a GPU, with numba's array interface."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


class DeviceFloats(OnDevice, Protocol):
    """A float64 array in the memory of a GPU. `copy_to_host` copies it from there."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def copy_to_host(self) -> Floats: ...


ForeignArray = ExportsDLPack | OnDevice
