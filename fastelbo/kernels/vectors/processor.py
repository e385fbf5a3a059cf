"""Instructions that some processors have. With them or without, a result has the same bits."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

from .types import DOUBLE

_SCALED = 8  # floats that one instruction scales


def _has(feature: str) -> bool:
    *_, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")


def fuses_products() -> bool:
    """Whether a b + c, rounded once, is one instruction."""
    triple, *_ = cpu_target.target_context.codegen().magic_tuple()
    return _has("fma") if triple.startswith(("x86", "i686")) else "64" in triple


def rows_at_once() -> int:
    """Rows of a matrix that are multiplied by one vector together, their sums in registers."""
    return 4 if _has("avx512f") else 1


def lanes_beside(partials: int) -> int:
    """Lanes of a number with so many partials: more, where a sum of them stays in registers."""
    return 8 if _has("avx512f") or partials <= 8 else 4


def scales(width: int) -> bool:
    """Whether `scaled` is there, for vectors of a width."""
    return width % _SCALED == 0 and _has("avx512f")


def scaled(builder: Any, y: Any, n: Any) -> Any:
    """2^n y for integers n, rounded once."""
    part, byte, word = ir.VectorType(DOUBLE, _SCALED), ir.IntType(8), ir.IntType(32)
    signature = ir.FunctionType(part, [part, part, part, byte, word])
    name = "llvm.x86.avx512.mask.scalef.pd.512"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    none, all_lanes, usual_rounding = part(ir.Undefined), byte(-1), word(4)

    def lanes(value: Any, first: int, count: int, other: Any = None) -> Any:
        places = ir.Constant(ir.VectorType(word, count), list(range(first, first + count)))
        other = value.type(ir.Undefined) if other is None else other
        return builder.shuffle_vector(value, other, places)

    parts = [
        builder.call(
            function,
            [*(lanes(each, first, _SCALED) for each in (y, n)), none, all_lanes, usual_rounding],
        )
        for first in range(0, y.type.count, _SCALED)
    ]
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [lanes(one, 0, 2 * one.type.count, other) for one, other in pairs]
    return parts[0]
