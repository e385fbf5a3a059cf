"""Division of values in lanes, rounded correctly; by one number, it is several times faster."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from . import processor
from .trace import constant, intrinsic
from .types import DOUBLE, INDEX, number_of, splat

# Divisors between these, with quotients in [2^-511, 2^513), are divided quickly: no step leaves the
# range of floats, and the remainder is exact.
_DIVISORS = (2.0**-400, 2.0**400)
# This sum of words has bit 62 where a float is in [2^-511, 2^513) or its negative.
_TO_BIT_62 = 512 << 52
_REDUCED = 8


def divide(builder: Any, x: Any, y: Any) -> Any:
    """x / y."""
    number = number_of(y)
    if number is None or not processor.fuses_products() or _is_simple(number):
        return builder.fdiv(x, y)
    return _by_number(builder, x, y, number)


def _is_simple(number: Any) -> bool:
    """Whether a number is a constant by which the compiler divides well, or that is no divisor."""
    if not isinstance(number, ir.Constant):
        return False
    fraction, _ = math.frexp(number.constant)
    return abs(fraction) == 0.5 or not _DIVISORS[0] <= abs(number.constant) <= _DIVISORS[1]


def _by_number(builder: Any, x: Any, y: Any, number: Any) -> Any:
    """x / y by the reciprocal, with one correction.

    It is the rounded quotient (Markstein, 1990; Brisebarre, Muller and Raina, 2004): with z = 1/y
    and q = x z, both rounded, q + (x - q y) z is rounded correctly if nothing leaves the range of
    floats. Where something may, all lanes are divided.
    """
    reciprocal = splat(builder, builder.fdiv(DOUBLE(1.0), number), x.type.count)
    first = builder.fmul(x, reciprocal)
    rest = intrinsic(builder, "fma", builder.fneg(first), y, x)
    quotient = intrinsic(builder, "fma", rest, reciprocal, first)
    inside = _all_usual(builder, first)
    square = builder.fmul(number, number)
    for symbol, bound in zip((">=", "<="), _DIVISORS, strict=True):
        usual = builder.fcmp_ordered(symbol, square, DOUBLE(bound * bound))
        inside = builder.and_(inside, usual)
    before = builder.block
    with builder.if_then(builder.not_(inside), likely=False):
        divided = builder.fdiv(x, y)
        outside = builder.block
    result = builder.phi(x.type)
    result.add_incoming(quotient, before)
    result.add_incoming(divided, outside)
    return result


def _all_usual(builder: Any, x: Any) -> Any:
    """Whether the size of x is in [2^-511, 2^513) in all lanes."""
    words = builder.bitcast(x, ir.VectorType(INDEX, x.type.count))
    words = builder.add(words, constant(words, _TO_BIT_62))
    # The lanes are joined before they are tested: few processors have masks.
    while words.type.count > _REDUCED:
        half = words.type.count // 2
        halves = (
            builder.shuffle_vector(
                words,
                words.type(ir.Undefined),
                ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(first, first + half))),
            )
            for first in (0, half)
        )
        words = builder.and_(*halves)
    mask = builder.icmp_signed("<", builder.shl(words, constant(words, 1)), constant(words, 0))
    all_lanes = ir.IntType(mask.type.count)(-1)
    return builder.icmp_unsigned("==", builder.bitcast(mask, all_lanes.type), all_lanes)
