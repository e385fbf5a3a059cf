"""Instructions that compute: from an opcode to a function of arrays, one element per thread."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from .program import UnknownPTXError

TYPES = {
    **{f"{kind}{bits}": np.dtype(f"u{bits // 8}") for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "pred": np.dtype(np.bool_),
}


@intrinsic
def _fused(typing_context, a, b, c):  # type: ignore[no-untyped-def]
    return a(a, b, c), lambda context, builder, signature, args: builder.fma(*args)


# numba takes the first signature that fits. float32 comes first, because it fits float64 too.
@numba.vectorize(["f4(f4,f4,f4)", "f8(f8,f8,f8)"])
def fma(a, b, c):  # type: ignore[no-untyped-def]
    """a b + c, rounded once."""
    return _fused(a, b, c)


def divide(a: Any, b: Any) -> Any:
    """The quotient of floats, or of integers, rounded towards 0."""
    if a.dtype.kind == "f":
        return a / b
    quotient = a // b
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(quotient.dtype)


def high_product(a: Any, b: Any) -> Any:
    """The upper half of a product of unsigned 64-bit integers."""
    half, low = np.uint64(32), np.uint64(2**32 - 1)
    a_high, a_low, b_high, b_low = a >> half, a & low, b >> half, b & low
    first, second = a_low * b_low, a_high * b_low
    middle = a_low * b_high + (first >> half) + (second & low)
    return a_high * b_high + (second >> half) + (middle >> half)


def high_signed_product(a: Any, b: Any) -> Any:
    """The upper half of a product of signed 64-bit integers."""
    high = high_product(a.view(np.uint64), b.view(np.uint64)).view(np.int64)
    zero = np.zeros_like(a)
    return high - np.where(a < 0, b, zero) - np.where(b < 0, a, zero)


def insert_bits(a: Any, b: Any, place: Any, length: Any) -> Any:
    """b, with its ``length`` bits from ``place`` on replaced by the lowest bits of a."""
    one, place = np.ones_like(b), place.astype(b.dtype)
    mask = (one << length.astype(b.dtype)) - one
    return (b & ~(mask << place)) | ((a & mask) << place)


def leading_zeros(a: Any) -> Any:
    """The number of highest bits that are 0."""
    places = np.arange(8 * a.dtype.itemsize, dtype=a.dtype)
    return ((a[..., None] >> places) == 0).sum(axis=-1).astype(np.uint32)


def roughly_inverse(a: Any) -> Any:
    """1 / a in the upper half of the bits; those of the lower half are 0."""
    if a.dtype != np.float64:
        raise UnknownPTXError("rcp.approx of float32")
    inverse = np.asarray(np.reciprocal(a)).view(np.uint64)
    return (inverse & np.uint64(0xFFFFFFFF_00000000)).view(np.float64)


# Functions of two operands and of one, and the modifiers that their opcodes may have.
_TWO_SIDED = {
    "add": np.add,
    "sub": np.subtract,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "min": np.fmin,
    "max": np.fmax,
    "div": divide,
    "rem": np.fmod,
    "copysign": lambda sign, a: np.copysign(a, sign),
}
_ONE_SIDED = {
    "mov": lambda a: a,
    "neg": np.negative,
    "abs": np.abs,
    "not": np.invert,
    "sqrt": np.sqrt,
    "rcp": np.reciprocal,
    "ex2": np.exp2,
    # Addresses are the same in all spaces.
    "cvta": lambda a: a,
}
_PLAIN = {("rn",), ()}
_READINGS = {
    "sqrt": {("rn",), ("approx", "ftz")},
    "ex2": {("approx", "ftz")},
    "rcp": {("rn",), ("approx", "ftz")},
    "cvta": {("to", "global"), ("to", "local"), ("shared",), ("local",)},
}
_ROUND = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}
_COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def _flushed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with subnormal numbers replaced by 0."""

    def flush(a: Any) -> Any:
        return np.where(np.abs(a) < np.finfo(a.dtype).tiny, np.copysign(a.dtype.type(0), a), a)

    return lambda a: flush(function(flush(a)))


def _either_is_nan(a: Any, b: Any) -> Any:
    return np.isnan(a) | np.isnan(b)


def _compare(name: str, kind: str) -> Callable[..., Any]:
    """A comparison. If a float is NaN, it is false, or true if the name ends with "u"."""
    if not kind.startswith("f"):
        return _COMPARE[name]
    if name in ("num", "nan"):
        return _either_is_nan if name == "nan" else lambda a, b: ~_either_is_nan(a, b)
    if name in _COMPARE:
        return lambda a, b: _COMPARE[name](a, b) & ~_either_is_nan(a, b)
    return lambda a, b: _COMPARE[name.removesuffix("u")](a, b) | _either_is_nan(a, b)


def _convert(target: np.dtype[Any], source: np.dtype[Any], rounding: str | None) -> Any:
    if target.kind == source.kind == "f" and rounding in _ROUND:
        return lambda a: _ROUND[rounding](a).astype(target)
    if target.kind == "f" or source.kind != "f":
        if rounding not in (None, "rn"):
            raise UnknownPTXError(f"cvt.{rounding}")
        return lambda a: a.astype(target)
    # A number out of range becomes the nearest integer; NaN becomes 0 or the highest bit alone.
    info = np.iinfo(target)
    of_nan = 0 if source.itemsize == 4 and target.itemsize < 8 else 1 << (info.bits - 1)
    nan_bits = np.array(of_nan, f"u{target.itemsize}").view(target)
    low, high = float(info.min), np.nextafter(float(info.max), 0.0)
    rounded = _ROUND[rounding]

    def to_integer(a: Any) -> Any:
        whole = rounded(a)
        inside = np.clip(np.where(np.isnan(whole), 0.0, whole), low, high).astype(target)
        inside = np.where(whole > high, info.max, inside).astype(target)
        return np.where(np.isnan(whole), nan_bits, inside)

    return to_integer


class Operation:
    """What an opcode does: a function, and the types of its operands and of its result."""

    def __init__(self, function: Callable[..., Any], sources: Any, result: Any) -> None:
        self.function, self.result = function, TYPES[result]
        self.sources = [TYPES[source] for source in sources]


@functools.cache
def operation(opcode: tuple[str, ...]) -> Operation:
    """The operation of a computing instruction's opcode."""
    name, *modifiers = opcode
    kind = modifiers[-1]
    if tuple(modifiers[:-1]) in _READINGS.get(name, _PLAIN):
        if name in _TWO_SIDED:
            return Operation(_TWO_SIDED[name], [kind] * 2, kind)
        if name in _ONE_SIDED:
            function = _ONE_SIDED[name]
            if name == "rcp" and "approx" in modifiers:
                function = roughly_inverse
            return Operation(_flushed(function) if "ftz" in modifiers else function, [kind], kind)
    if name in ("shl", "shr"):
        shift = np.left_shift if name == "shl" else np.right_shift
        return Operation(lambda a, b: shift(a, b.astype(a.dtype)), [kind, "u32"], kind)
    if name in ("mul", "mad", "fma"):
        return _product(name, modifiers, kind)
    if name == "setp" and len(modifiers) == 2:
        return Operation(_compare(modifiers[0], kind), [kind] * 2, "pred")
    if name == "selp":
        return Operation(lambda a, b, p: np.where(p, a, b), [kind, kind, "pred"], kind)
    if name == "cvt" and len(modifiers) in (2, 3):
        rounding = modifiers[0] if len(modifiers) == 3 else None
        target, source = modifiers[-2:]
        return Operation(_convert(TYPES[target], TYPES[source], rounding), [source], target)
    if name == "clz":
        return Operation(leading_zeros, [kind], "u32")
    if name == "bfi":
        return Operation(insert_bits, [kind, kind, "u32", "u32"], kind)
    raise UnknownPTXError(".".join(opcode))


def _product(name: str, modifiers: list[str], kind: str) -> Operation:
    if name == "fma" and modifiers == ["rn", kind]:
        return Operation(fma, [kind] * 3, kind)
    if name == "mul" and (modifiers[0] in ("lo", "rn", kind)):
        return Operation(np.multiply, [kind] * 2, kind)
    if name == "mad" and modifiers[0] == "lo":
        return Operation(lambda a, b, c: a * b + c, [kind] * 3, kind)
    if name == "mul" and modifiers == ["hi", "u64"]:
        return Operation(high_product, [kind] * 2, kind)
    if name == "mul" and modifiers == ["hi", "s64"]:
        return Operation(high_signed_product, [kind] * 2, kind)
    wide = kind.replace("32", "64")
    if modifiers[0] == "wide" and wide != kind:
        target = TYPES[wide]
        if name == "mul":
            return Operation(lambda a, b: a.astype(target) * b.astype(target), [kind] * 2, wide)
        return Operation(
            lambda a, b, c: a.astype(target) * b.astype(target) + c, [kind, kind, wide], wide
        )
    raise UnknownPTXError(".".join([name, *modifiers]))
