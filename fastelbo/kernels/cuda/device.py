"""The only file that imports numba.cuda: its requirements, the device, and the device's memory.

numba still contains a deprecated numba.cuda. The package numba-cuda replaces it under the same
name. The import needs no device, and neither does the simulator (NUMBA_ENABLE_CUDASIM=1).
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ..jit.compile import serve_devices

# numba warns about grids with fewer blocks. Little work needs no more.
_FEW_BLOCKS = 128

# numba-cuda 0.30 needs these names, which NumPy 2.5 has removed; the functions have other names.
_REMOVED = {"row_stack": np.vstack}
for _name, _function in _REMOVED.items():
    if not hasattr(np, _name):
        setattr(np, _name, _function)

_not_there: Exception | None = None
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        from numba import cuda as _cuda
    except ImportError as _error:
        _cuda, _not_there = None, _error

serve_devices()
SIMULATED = bool(numba.config.ENABLE_CUDASIM)

# Threads per block. Together they work on one chunk of draws. The simulator uses Python threads.
BLOCK_THREADS = 4 if SIMULATED else 128
# Draws that a thread makes before the block sums them, and draws of the whole block in that time.
TURNS = 8 if SIMULATED else 4
TILE = TURNS * BLOCK_THREADS


class _SimulatedShared:
    """Shared arrays, identified by their order in a thread, not by the line that requests them."""

    def array(self, shape: Any, dtype: Any) -> Any:
        thread: Any = threading.current_thread()
        place = getattr(thread, "shared_arrays", 0)
        thread.shared_arrays = place + 1
        arrays = _context().shared._allocations
        return arrays.setdefault(place, np.empty(shape, dtype))


class _Simulated:
    """numba.cuda in the simulator, for functions outside of the kernel's own file."""

    shared = _SimulatedShared()

    def syncthreads(self) -> None:
        # The simulator's own barrier searches for waiting threads, which takes milliseconds.
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
    """Why this process cannot use a device; None if it can."""
    try:
        if _cuda is not None and cuda.is_available():
            return None
        error = _not_there or _cuda.cuda_error()
    except Exception as caught:  # the bindings of a broken installation can raise anything
        error = caught
    reason = " ".join(str(error or "no device, or no libNVVM").split())
    if importlib.util.find_spec("numba_cuda") is None:
        reason += "; numba-cuda is not installed"
    return reason


def count() -> int:
    """The number of devices."""
    return len(cuda.gpus)


def select(index: int) -> Any:
    """A context manager that uses the device of that index."""
    return cuda.gpus[index]


def current_index() -> int:
    """The index of the device in use."""
    return 0 if SIMULATED else int(cuda.get_current_device().id)


def name() -> str:
    """The name of the device in use."""
    if SIMULATED:
        return "simulator"
    label = cuda.get_current_device().name
    return label.decode() if isinstance(label, bytes) else str(label)


def free_bytes() -> int:
    """Free memory of the device in use."""
    return 2**30 if SIMULATED else int(cuda.current_context().get_memory_info()[0])


def put(array: np.ndarray[Any, Any]) -> Any:
    """A copy of the array on the device."""
    if array.size == 0:
        # A device cannot copy an array of size 0, and no kernel reads it.
        return cuda.device_array(array.shape, array.dtype)
    return cuda.to_device(np.ascontiguousarray(array))


def put_all(parts: Any) -> Any:
    """Copy the arrays of a tuple to the device. It may hold numbers and such tuples, too."""

    def moved(part: Any) -> Any:
        if isinstance(part, tuple):
            return put_all(part)
        return put(part) if isinstance(part, np.ndarray) else part

    items = map(moved, parts)
    return type(parts)(*items) if hasattr(parts, "_fields") else tuple(items)


def room(shape: Any, dtype: Any = np.float64) -> Any:
    """An array on the device, not initialised."""
    return cuda.device_array(shape, dtype)


def fetch(array: Any) -> Any:
    """A copy of a device array in the host's memory."""
    return array.copy_to_host()


def launch(kernel: Any, blocks: int, *args: Any, threads: int = BLOCK_THREADS) -> None:
    """Start a kernel with ``blocks`` blocks, which may be 0, of ``threads`` threads."""
    if blocks >= _FEW_BLOCKS:
        kernel[blocks, threads](*args)
    elif blocks:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grid size")
            configured = kernel[blocks, threads]
        configured(*args)


def blocks_at_once() -> int:
    """Roughly the number of blocks that the device in use runs at a time."""
    return 2**10 if SIMULATED else 8 * int(cuda.get_current_device().MULTIPROCESSOR_COUNT)


def multiplies() -> bool:
    """Whether the device in use has an instruction for a warp's matrix product of float64."""
    return SIMULATED or tuple(cuda.get_current_device().compute_capability) >= (8, 0)


def synchronize() -> None:
    """Wait for all launches, and raise their errors."""
    cuda.synchronize()


def holds(value: Any) -> bool:
    """Whether numba accepts the value as a device array: of numba, CuPy, torch or JAX."""
    if SIMULATED and isinstance(value, _cuda.devicearray.FakeCUDAArray):
        return True
    return hasattr(value, "__cuda_array_interface__")


def adopt(value: Any) -> Any:
    """A device array of any library as an array of numba, without a copy."""
    if not SIMULATED:
        return _cuda.as_cuda_array(value)
    if isinstance(value, _cuda.devicearray.FakeCUDAArray):
        return value
    # The simulator's device is the host.
    there = _HostArray(value)
    return _cuda.devicearray.FakeCUDAArray(np.asarray(there))


class _HostArray:
    """An array that says it is on a device, and is in the host's memory."""

    def __init__(self, value: Any) -> None:
        self.owner = value
        told = value.__cuda_array_interface__
        self.__array_interface__ = {key: told[key] for key in ("shape", "typestr", "data")}
        self.__array_interface__ |= {"strides": told.get("strides"), "version": 3}


def index_of(value: Any) -> int:
    """The index of an array's device; 0 if the array does not name one."""
    context = getattr(getattr(value, "gpu_data", None), "context", None)
    return 0 if context is None else int(context.device.id)


def out_of_memory(error: Exception) -> bool:
    """Whether the error says that the device has too little memory."""
    return isinstance(error, MemoryError) or "OUT_OF_MEMORY" in str(error)


def device_kernel(function: Callable[..., Any]) -> Any:
    """An entry point for a CUDA device, compiled on its first launch."""
    return cuda.jit(fastmath=False)(function)


def device_function(function: Callable[..., Any]) -> Any:
    """A function that kernels call; it is inlined, so that its arrays stay in registers."""
    return function if SIMULATED else cuda.jit(device=True, forceinline=True)(function)
