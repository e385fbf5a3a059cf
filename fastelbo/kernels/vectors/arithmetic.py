"""Arithmetic, comparisons, selects and rounding of values in lanes."""

from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from ..math import elementary
from .division import divide
from .duals import on_duals
from .operations import operation
from .trace import constant, intrinsic, square_root, vector_function
from .types import number_of

# NumPy's sum of two truths is their "or", and the product their "and": these come before numbers.
_TWO_MASKS: dict[str, Any] = {"arity": 2, "gives_mask": True, "takes_masks": (True, True)}


@operation(
    operator.and_, operator.iand, np.logical_and, operator.mul, operator.imul, np.multiply,
    **_TWO_MASKS,
)  # fmt: skip
def _both(builder: Any, x: Any, y: Any) -> Any:
    return builder.and_(x, y)


@operation(
    operator.or_, operator.ior, np.logical_or, operator.add, operator.iadd, np.add, **_TWO_MASKS
)
def _either(builder: Any, x: Any, y: Any) -> Any:
    return builder.or_(x, y)


@operation(operator.mul, operator.imul, np.multiply, arity=2)
def multiply(builder: Any, x: Any, y: Any) -> Any:
    return builder.fmul(x, y)


@operation(operator.add, operator.iadd, np.add, arity=2)
def add(builder: Any, x: Any, y: Any) -> Any:
    return builder.fadd(x, y)


@operation(operator.sub, operator.isub, np.subtract, arity=2)
def _subtract(builder: Any, x: Any, y: Any) -> Any:
    return builder.fsub(x, y)


quotient = operation(operator.truediv, operator.itruediv, np.divide, arity=2)(divide)


@operation(operator.neg, np.negative, arity=1)
def _negative(builder: Any, x: Any) -> Any:
    return builder.fneg(x)


@operation(operator.pos, builtins.float, arity=1)
def _positive(builder: Any, x: Any) -> Any:
    return x


@operation(np.square, arity=1)
def square(builder: Any, x: Any) -> Any:
    return multiply(builder, x, x)


def _remainder(builder: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """C's remainder, and where its sign is not that of y."""
    rest = builder.frem(x, y)
    zero = constant(x, 0.0)
    negative = [builder.fcmp_ordered("<", each, zero) for each in (rest, y)]
    some = builder.fcmp_unordered("!=", rest, zero)
    return rest, builder.and_(builder.xor(*negative), some)


@operation(operator.mod, operator.imod, np.mod, arity=2)
def _modulo(builder: Any, x: Any, y: Any) -> Any:
    """Python's remainder: it has the sign of y."""
    rest, wrong = _remainder(builder, x, y)
    zero = constant(x, 0.0)
    none = builder.fcmp_ordered("==", rest, zero)
    signed = builder.select(none, intrinsic(builder, "copysign", zero, y), rest)
    return builder.select(wrong, builder.fadd(rest, y), signed)


@operation(operator.floordiv, operator.ifloordiv, np.floor_divide, arity=2)
def _floor_divide(builder: Any, x: Any, y: Any) -> Any:
    """The floor of the exact x / y, as NumPy has it."""
    rest, wrong = _remainder(builder, x, y)
    zero, one = constant(x, 0.0), constant(x, 1.0)
    quotient = builder.fdiv(builder.fsub(x, rest), y)
    quotient = builder.select(wrong, builder.fsub(quotient, one), quotient)
    low = intrinsic(builder, "floor", quotient)
    up = builder.fcmp_ordered(">", builder.fsub(quotient, low), constant(x, 0.5))
    nearest = builder.select(up, builder.fadd(low, one), low)
    direct = builder.fdiv(x, y)
    none = builder.fcmp_ordered("==", quotient, zero)
    nearest = builder.select(none, intrinsic(builder, "copysign", zero, direct), nearest)
    return builder.select(builder.fcmp_ordered("==", y, zero), direct, nearest)


# --- comparisons and masks ----------------------------------------------------------------------


def _comparison(symbol: str) -> Callable[..., Any]:
    def emit(builder: Any, x: Any, y: Any) -> Any:
        compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
        return compare(symbol, x, y)

    return emit


for _symbol, _targets in {
    "<": (operator.lt, np.less),
    "<=": (operator.le, np.less_equal),
    ">": (operator.gt, np.greater),
    ">=": (operator.ge, np.greater_equal),
    "==": (operator.eq, np.equal),
    "!=": (operator.ne, np.not_equal),
}.items():
    operation(*_targets, arity=2, gives_mask=True)(_comparison(_symbol))


@operation(operator.xor, operator.ixor, np.logical_xor, **_TWO_MASKS)
def _differ(builder: Any, x: Any, y: Any) -> Any:
    return builder.xor(x, y)


@operation(
    operator.not_, operator.invert, np.logical_not, arity=1, gives_mask=True, takes_masks=(True,)
)
def _negation(builder: Any, x: Any) -> Any:
    return builder.not_(x)


@operation(math.isnan, np.isnan, arity=1, gives_mask=True)
def _is_nan(builder: Any, x: Any) -> Any:
    return builder.fcmp_unordered("uno", x, x)


@operation(math.isinf, np.isinf, arity=1, gives_mask=True)
def _is_infinite(builder: Any, x: Any) -> Any:
    return builder.fcmp_ordered("==", absolute(builder, x), constant(x, math.inf))


@operation(math.isfinite, np.isfinite, arity=1, gives_mask=True)
def _is_finite(builder: Any, x: Any) -> Any:
    return builder.fcmp_ordered("<", absolute(builder, x), constant(x, math.inf))


@operation(np.where, arity=3, takes_masks=(True, False, False))
def where(builder: Any, condition: Any, x: Any, y: Any) -> Any:
    return builder.select(condition, x, y)


# --- the rest -----------------------------------------------------------------------------------


@operation(builtins.abs, math.fabs, np.abs, np.fabs, arity=1)
def absolute(builder: Any, x: Any) -> Any:
    return intrinsic(builder, "fabs", x)


operation(math.sqrt, np.sqrt, arity=1)(square_root)


def _rounding(name: str) -> Callable[..., Any]:
    return lambda builder, x: intrinsic(builder, name, x)


operation(math.floor, np.floor, arity=1)(_rounding("floor"))
operation(math.ceil, np.ceil, arity=1)(_rounding("ceil"))
operation(math.trunc, np.trunc, arity=1)(_rounding("trunc"))
operation(np.rint, arity=1)(_rounding("rint"))


@operation(np.sign, arity=1)
def _sign(builder: Any, x: Any) -> Any:
    zero, one = constant(x, 0.0), constant(x, 1.0)
    signed = intrinsic(builder, "copysign", one, x)
    nonzero = builder.fcmp_ordered("!=", x, zero)
    nan = builder.fcmp_unordered("uno", x, x)
    return builder.select(nonzero, signed, builder.select(nan, x, zero))


operation(math.copysign, np.copysign, arity=2)(
    lambda builder, x, y: intrinsic(builder, "copysign", x, y)
)


def _extreme(symbol: str, keeps_nan: bool) -> Callable[..., Any]:
    """Python's min and max by comparison; NumPy's are NaN if one argument is."""

    def emit(builder: Any, x: Any, y: Any) -> Any:
        if not keeps_nan:
            return builder.select(builder.fcmp_ordered(symbol, y, x), y, x)
        first = builder.or_(
            builder.fcmp_ordered(f"{symbol}=", x, y), builder.fcmp_unordered("uno", x, x)
        )
        return builder.select(first, x, y)

    return emit


def _of_many(target: Any, symbol: str) -> Callable[..., Any]:
    pair = on_duals(_extreme(symbol, keeps_nan=False), (target,), gives_mask=False)
    return lambda builder, *values: functools.reduce(functools.partial(pair, builder), values)


# Arguments of min and max in one call.
_MOST = 16
smaller, larger = _of_many(builtins.min, "<"), _of_many(builtins.max, ">")
for _count in range(2, _MOST + 1):
    operation(builtins.min, arity=_count, composed=True)(smaller)
    operation(builtins.max, arity=_count, composed=True)(larger)
minimum = operation(np.minimum, arity=2)(_extreme("<", keeps_nan=True))
maximum = operation(np.maximum, arity=2)(_extreme(">", keeps_nan=True))
operation(np.fmin, arity=2)(lambda builder, x, y: intrinsic(builder, "minnum", x, y))
operation(np.fmax, arity=2)(lambda builder, x, y: intrinsic(builder, "maxnum", x, y))


@operation(np.clip, arity=3, composed=True)
def _clip(builder: Any, x: Any, low: Any, high: Any) -> Any:
    return minimum(builder, maximum(builder, x, low), high)


# --- powers -------------------------------------------------------------------------------------

# Integer powers up to this one are products.
_MOST_PRODUCTS = 16
_general = vector_function(elementary.pow)


def _by_products(builder: Any, x: Any, n: int) -> Any:
    result, base, rest = None, x, abs(n)
    while rest:
        if rest & 1:
            result = base if result is None else multiply(builder, result, base)
        rest >>= 1
        base = multiply(builder, base, base) if rest else base
    one = constant(x, 1.0)
    if result is None:
        return one
    return result if n >= 0 else builder.fdiv(one, result)


@operation(operator.pow, operator.ipow, math.pow, np.power, arity=2)
def power(builder: Any, x: Any, y: Any) -> Any:
    """Products for small integers, the square root for 1/2, else `elementary.pow`."""
    number = number_of(y)
    if isinstance(number, ir.Constant):
        exponent: Any = number.constant
        if float(exponent).is_integer() and abs(exponent) <= _MOST_PRODUCTS:
            return _by_products(builder, x, int(exponent))
        if exponent == 0.5:  # of -0.0 and -inf, too: there the square root is another
            infinite = builder.fcmp_ordered("==", x, constant(x, -math.inf))
            root = absolute(builder, square_root(builder, x))
            return builder.select(infinite, constant(x, math.inf), root)
    return _general(builder, x, y)
