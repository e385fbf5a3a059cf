"""Facts about the machine and the compiler: versions, processor, threads, GPU."""

from __future__ import annotations

from importlib import metadata

import llvmlite
import llvmlite.binding
import numba

from ..cores import reasons
from .cpu import drivers
from .cpu.launch import compiled
from .jit.internals import is_fast
from .jit.targets import target, vector_bits
from .jit.threads import available_threads


def info() -> dict[str, str]:
    """Facts about the machine and the compiler, by name, in the order of display."""
    from .cuda import device

    missing = device.missing()
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numba-cuda": _version("numba-cuda"),
        "kernel compiler": _compiler(),
        "kernel cache": _cache_folder(),
        "CPU": numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name(),
        "compiled for": target().name,
        "vector registers": f"{vector_bits()} bits",
        "threads": str(available_threads()),
        "limits of threads": reasons(),
        "threading layer": "Python threads, without the GIL",
        "GPU": f"none: {missing}" if missing else device.name(),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _compiler() -> str:
    if numba.config.DISABLE_JIT:
        return "none: NUMBA_DISABLE_JIT is set"
    return "fast path" if is_fast() else "numba's public path"


def _cache_folder() -> str:
    """Where most kernels are kept."""
    stats = getattr(compiled(drivers.log_prob), "stats", None)
    return getattr(stats, "cache_path", None) or "none"
