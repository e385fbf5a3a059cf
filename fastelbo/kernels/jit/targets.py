"""The instruction set that this process compiles for, as the environment and the processor say.

A constant that differs by target, such as how many vectors a loop has in flight, is an item of a
dictionary by `vector_bits`. It may change how a loop is laid out, and no bit of a result: the lanes
of a block and the partial sums of a sum are the same everywhere.
"""

from __future__ import annotations

import platform
from typing import NamedTuple

import llvmlite.binding
import numba


class Target(NamedTuple):
    """An instruction set, and the width of its vector registers."""

    name: str
    vector_bits: int


AVX512 = Target("AVX-512", 512)
AVX2 = Target("AVX2 + FMA", 256)
AVX = Target("AVX", 256)
SSE = Target("SSE", 128)
NEON = Target("NEON", 128)
OTHER = Target("unknown", 128)


def target() -> Target:
    """The target of this process."""
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return NEON
    if machine not in ("x86_64", "amd64", "x86", "i386", "i686"):
        return OTHER
    present = set(_features().split(","))
    if "+avx512f" in present:
        return AVX512
    if {"+avx2", "+fma"} <= present:
        return AVX2
    return AVX if present & {"+avx", "+avx2"} else SSE


def vector_bits() -> int:
    """Width of the widest vector registers that the compiler may use, in bits."""
    return target().vector_bits


def _features() -> str:
    """Features of the processor, as LLVM names them; ``NUMBA_CPU_FEATURES`` comes first."""
    features = numba.config.CPU_FEATURES
    if features is None:
        try:
            features = llvmlite.binding.get_host_cpu_features().flatten()
        except RuntimeError:
            # LLVM does not know the features of this processor.
            features = ""
    return str(features)
