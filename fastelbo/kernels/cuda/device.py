"""The only file that imports numba.cuda: what it needs, the device, and its memory.

numba still brings numba.cuda along, deprecated; the package numba-cuda takes its place under the
same name. To import it needs no device, and neither does its simulator (NUMBA_ENABLE_CUDASIM=1).
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

# numba advises against grids of fewer blocks, which little work takes.
_FEW_BLOCKS = 128

# What numba-cuda 0.30 asks for, and NumPy 2.5 has taken away, under another name.
_TAKEN_AWAY = {"row_stack": np.vstack}
for _name, _function in _TAKEN_AWAY.items():
    if not hasattr(np, _name):
        setattr(np, _name, _function)

_not_there: Exception | None = None
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        from numba import cuda as _cuda
    except ImportError as _error:
        _cuda, _not_there = None, _error

SIMULATED = bool(numba.config.ENABLE_CUDASIM)

# Threads of a block, which work on one chunk of draws together. The simulator's are Python's.
TEAM = 4 if SIMULATED else 128
# Draws that each of them makes before what they are is looked at, and of all together.
TURNS = 8 if SIMULATED else 4
TILE = TURNS * TEAM


class _SimulatedShared:
    """Shared arrays told apart by their order in a thread, not by the line that asks for them."""

    def array(self, shape: Any, dtype: Any) -> Any:
        thread: Any = threading.current_thread()
        place = getattr(thread, "shared_arrays", 0)
        thread.shared_arrays = place + 1
        arrays = _context().shared._allocations
        return arrays.setdefault(place, np.empty(shape, dtype))


class _Simulated:
    """numba.cuda as functions outside of the kernel's own file see it in the simulator."""

    shared = _SimulatedShared()

    def syncthreads(self) -> None:
        # The simulator's own looks for threads that wait, and takes milliseconds for it.
        context = _context()
        threads = context.blockDim.x
        context.__dict__.setdefault("barrier", threading.Barrier(threads)).wait()

    def __getattr__(self, name: str) -> Any:
        context = _context()
        return getattr(_cuda if context is None else context, name)


def _context() -> Any:
    from numba.cuda.simulator.kernel import _get_kernel_context

    return _get_kernel_context()


cuda: Any = _Simulated() if SIMULATED else _cuda


def missing() -> str | None:
    """What stands between this process and a device; None where nothing does."""
    try:
        if _cuda is not None and cuda.is_available():
            return None
        error = _not_there or _cuda.cuda_error()
    except Exception as caught:  # whatever the bindings of a broken installation raise
        error = caught
    reason = " ".join(str(error or "no device, or no libNVVM").split())
    if importlib.util.find_spec("numba_cuda") is None:
        reason += "; numba-cuda is not installed"
    return reason


def count() -> int:
    """How many devices there are."""
    return len(cuda.gpus)


def select(index: int) -> Any:
    """A context in which the device of that index is used."""
    return cuda.gpus[index]


def current_index() -> int:
    """The index of the device in use."""
    return 0 if SIMULATED else int(cuda.get_current_device().id)


def name() -> str:
    """What the device in use calls itself."""
    if SIMULATED:
        return "simulator"
    label = cuda.get_current_device().name
    return label.decode() if isinstance(label, bytes) else str(label)


def free_bytes() -> int:
    """Memory of the device that is not in use."""
    return 2**30 if SIMULATED else int(cuda.current_context().get_memory_info()[0])


def put(array: np.ndarray[Any, Any]) -> Any:
    """A copy of the array on the device."""
    if array.size == 0:
        # There is nothing of size 0 there, and nobody reads it.
        return cuda.device_array(array.shape, array.dtype)
    return cuda.to_device(np.ascontiguousarray(array))


def put_all(arrays: Any) -> Any:
    """A named tuple of arrays with all of them on the device."""
    return type(arrays)(*(put(array) for array in arrays))


def room(shape: Any, dtype: Any = np.float64) -> Any:
    """An array on the device, of whatever stands there."""
    return cuda.device_array(shape, dtype)


def fetch(array: Any) -> Any:
    """A copy of a device's array in this machine's memory."""
    return array.copy_to_host()


def launch(kernel: Any, blocks: int, *args: Any, threads: int = TEAM) -> None:
    """Start a kernel with so many blocks of ``threads``, none of which there may be."""
    if blocks >= _FEW_BLOCKS:
        kernel[blocks, threads](*args)
    elif blocks:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grid size")
            configured = kernel[blocks, threads]
        configured(*args)


def blocks_at_once() -> int:
    """About as many blocks as the device in use has running at a time."""
    return 2**10 if SIMULATED else 8 * int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


def multiplies() -> bool:
    """Whether warps of the device in use multiply matrices of float64 by an instruction."""
    return SIMULATED or tuple(cuda.get_current_device().compute_capability) >= (8, 0)


def synchronize() -> None:
    """Wait for what has been started, and learn of its errors."""
    cuda.synchronize()


def holds(value: Any) -> bool:
    """Whether numba takes the value as an array on a device: its own, CuPy's, torch's or JAX's."""
    if SIMULATED and isinstance(value, _cuda.devicearray.FakeCUDAArray):
        return True
    return hasattr(value, "__cuda_array_interface__")


def adopt(value: Any) -> Any:
    """The array on a device, whoever made it, as numba takes it, without a copy."""
    if not SIMULATED:
        return _cuda.as_cuda_array(value)
    if isinstance(value, _cuda.devicearray.FakeCUDAArray):
        return value
    # The simulator's device is this machine.
    there = _HostArray(value)
    return _cuda.devicearray.FakeCUDAArray(np.asarray(there))


class _HostArray:
    """What says that it is on a device, and is in this machine's memory."""

    def __init__(self, value: Any) -> None:
        self.owner = value
        told = value.__cuda_array_interface__
        self.__array_interface__ = {key: told[key] for key in ("shape", "typestr", "data")}
        self.__array_interface__ |= {"strides": told.get("strides"), "version": 3}


def index_of(value: Any) -> int:
    """The index of the device that an array is on; 0 where it does not tell."""
    context = getattr(getattr(value, "gpu_data", None), "context", None)
    return 0 if context is None else int(context.device.id)


def out_of_memory(error: Exception) -> bool:
    """Whether the error says that the device has too little memory."""
    return isinstance(error, MemoryError) or "OUT_OF_MEMORY" in str(error)


def device_kernel(function: Callable[..., Any]) -> Any:
    """Compile an entry point for a CUDA device, lazily, on its first launch."""
    return cuda.jit(fastmath=False)(function)
