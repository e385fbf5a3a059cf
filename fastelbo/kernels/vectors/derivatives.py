"""The derivative of each operation, in its arguments, from its value and them: see `duals`."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from ..math import elementary, gamma, scalar
from . import arithmetic, fused
from .duals import RULES
from .trace import Traced, intrinsic, vector_function
from .types import number_of, splat


def _on_traced(emit: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Any, *others: Any) -> Any:
        return Traced(x.builder, emit(x.builder, x.value, *(each.value for each in others)))

    return call


_exp = _on_traced(vector_function(scalar.exp, join=True))
_log = _on_traced(vector_function(scalar.log, join=True))
_sin = _on_traced(vector_function(elementary.sin))
_cos = _on_traced(vector_function(elementary.cos))
_digamma = _on_traced(vector_function(gamma.digamma))
_power = _on_traced(arithmetic.power)
_times = _on_traced(arithmetic.multiply)  # no part of a fused operation
_floor = _on_traced(lambda builder, x: intrinsic(builder, "floor", x))
_with_sign = _on_traced(lambda builder, x, y: intrinsic(builder, "copysign", x, y))
_select = _on_traced(lambda builder, mask, x, y: builder.select(mask, x, y))


def _number(like: Any, number: float) -> Any:
    return Traced(like.builder, like.like(number))


def _reciprocal(x: Any) -> Any:
    """1 / x, of one number if x is one in all lanes."""
    number = number_of(x.value)
    if number is None:
        return 1.0 / x
    one = x.builder.fdiv(number.type(1.0), number)
    return Traced(x.builder, splat(x.builder, one, x.value.type.count))


def _of_quotient(out: Any, x: Any, y: Any) -> Any:
    over = _reciprocal(y)
    return over, lambda: -out * over


def _of_power(out: Any, x: Any, y: Any) -> Any:
    number = number_of(y.value)
    exponent = getattr(number, "constant", None)
    if exponent == 0.0:
        return None, None
    if exponent == 0.5:
        return 0.5 / out, None
    less = y - 1.0 if exponent is None else _number(x, exponent - 1.0)
    zero = _number(out, 0.0)
    return lambda: y * _power(x, less), lambda: _select(out == 0.0, zero, out * _log(x))


def _of_hypot_of_exps(out: Any, x: Any, y: Any) -> Any:
    """Of log(e^x + e^y): the shares of both; a number that is the whole has all."""
    one = _number(out, 1.0)
    return tuple(_select(each == out, one, _exp(each - out)) for each in (x, y))


def _no_change(out: Any, *args: Any) -> Any:
    return (None,) * len(args)


def _is_nan(x: Any) -> Any:
    return x != x


def _add(*pairs: tuple[tuple[Any, ...], Any]) -> None:
    RULES.update({target: rule for targets, rule in pairs for target in targets})


_TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)

_add(
    ((np.add,), lambda out, x, y: (1.0, 1.0)),
    ((np.subtract,), lambda out, x, y: (1.0, -1.0)),
    ((np.multiply,), lambda out, x, y: (y, x)),
    ((np.divide,), _of_quotient),
    ((fused.product_plus,), lambda out, a, b, c: (b, a, 1.0)),
    ((fused.product_minus,), lambda out, a, b, c: (b, a, -1.0)),
    ((fused.plus_product,), lambda out, c, a, b: (1.0, b, a)),
    ((fused.minus_product,), lambda out, c, a, b: (1.0, lambda: -b, lambda: -a)),
    ((operator.neg,), lambda out, x: (-1.0,)),
    ((operator.pos,), lambda out, x: (1.0,)),
    ((np.square,), lambda out, x: (x + x,)),
    ((np.power,), _of_power),
    ((np.mod,), lambda out, x, y: (1.0, lambda: -_floor(x / y))),
    ((np.floor_divide, np.floor, np.ceil, np.trunc, np.rint, np.sign), _no_change),
    # --- choices
    ((np.where,), lambda out, mask, x, y: mask),
    ((np.abs,), lambda out, x: (_with_sign(_number(x, 1.0), x),)),
    (
        (np.copysign,),
        lambda out, x, y: (_with_sign(_number(x, 1.0), x) * _with_sign(_number(x, 1.0), y), None),
    ),
    ((builtins.min,), lambda out, x, y: (y < x) ^ 1),
    ((builtins.max,), lambda out, x, y: (y > x) ^ 1),
    ((np.minimum,), lambda out, x, y: (x <= y) | _is_nan(x)),
    ((np.maximum,), lambda out, x, y: (x >= y) | _is_nan(x)),
    ((np.fmin,), lambda out, x, y: (x <= y) | _is_nan(y)),
    ((np.fmax,), lambda out, x, y: (x >= y) | _is_nan(y)),
    # --- functions
    ((np.sqrt,), lambda out, x: (0.5 / out,)),
    ((np.exp,), lambda out, x: (out,)),
    ((np.exp2,), lambda out, x: (out * math.log(2.0),)),
    ((np.expm1, special.expm1), lambda out, x: (_exp(x),)),
    ((np.log,), lambda out, x: (_reciprocal(x),)),
    ((np.log2,), lambda out, x: (1.0 / math.log(2.0) / x,)),
    ((np.log10,), lambda out, x: (1.0 / math.log(10.0) / x,)),
    ((np.log1p, special.log1p), lambda out, x: (1.0 / (1.0 + x),)),
    ((np.tanh,), lambda out, x: ((1.0 - out) * (1.0 + out),)),
    ((np.sin,), lambda out, x: (_cos(x),)),
    ((np.cos,), lambda out, x: (-_sin(x),)),
    ((np.tan,), lambda out, x: (1.0 + out * out,)),
    ((math.erf, special.erf), lambda out, x: (_TWO_OVER_ROOT_PI * _exp(-_times(x, x)),)),
    ((math.erfc, special.erfc), lambda out, x: (-_TWO_OVER_ROOT_PI * _exp(-_times(x, x)),)),
    ((math.lgamma, special.gammaln), lambda out, x: (_digamma(x),)),
    ((math.gamma,), lambda out, x: (out * _digamma(x),)),
    ((special.expit,), lambda out, x: (out * (1.0 - out),)),
    ((np.logaddexp,), _of_hypot_of_exps),
)
