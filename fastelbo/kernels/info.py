"""What the kernels run on: versions, processor, threads."""

from __future__ import annotations

import llvmlite
import llvmlite.binding
import numba

from .threads import available_threads


def info() -> dict[str, str]:
    """Facts about the compiler and the machine, by name, in the order in which to show them."""
    return {
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "CPU": numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name(),
        "vector registers": f"{vector_bits()} bits",
        "threads": str(available_threads()),
        "threading layer": "threads of Python, without its lock",
    }


def vector_bits() -> int:
    """Width of the widest vector registers that the compiler may use, in bits."""
    features = numba.config.CPU_FEATURES
    if features is None:
        try:
            features = llvmlite.binding.get_host_cpu_features().flatten()
        except RuntimeError:
            # LLVM does not know the features of this kind of processor.
            features = ""
    present = set(features.split(","))
    if "+avx512f" in present:
        return 512
    return 256 if present & {"+avx", "+avx2"} else 128
