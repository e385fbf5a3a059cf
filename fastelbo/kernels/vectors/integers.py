"""Operations on integers that have no result in 64 bits: they stop the function.

Machine code gives 0 for ``n // 0``, and for 2 to the power of -1. The rewritten source calls these
functions; on other values they are what they say.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import overload

_INTEGERS = (types.Integer, types.Boolean)
_BEYOND = 2.0**63


def floor_quotient(a: Any, b: Any) -> Any:
    """``a // b``."""
    return a // b


def remainder(a: Any, b: Any) -> Any:
    """``a % b``."""
    return a % b


def power(a: Any, b: Any) -> Any:
    """``a ** b``."""
    return a**b


def quotient_and_remainder(a: Any, b: Any) -> Any:
    """``divmod(a, b)``."""
    return floor_quotient(a, b), remainder(a, b)


def _floor_quotient(a: Any, b: Any) -> Any:
    if b == 0:
        raise ZeroDivisionError("an integer is divided by zero")
    return a // b


def _remainder(a: Any, b: Any) -> Any:
    if b == 0:
        raise ZeroDivisionError("an integer is divided by zero")
    return a % b


def _power(a: Any, b: Any) -> Any:
    if b < 0:
        raise ValueError("an integer has a negative integer as its power")
    if abs(float(a)) ** float(b) >= _BEYOND:
        raise OverflowError("an integer is beyond 64 bits")
    return a**b


def _register(function: Callable[..., Any], of_integers: Callable[..., Any]) -> None:
    def choose(a: Any, b: Any) -> Any:
        both = isinstance(a, _INTEGERS) and isinstance(b, _INTEGERS)
        return of_integers if both else function

    overload(function, strict=False)(choose)


_register(floor_quotient, _floor_quotient)
_register(remainder, _remainder)
_register(power, _power)


@overload(quotient_and_remainder, strict=False)
def _pair(a, b):
    return quotient_and_remainder


# --- for rewriting ------------------------------------------------------------------------------

_BY_SYMBOL: dict[Any, Any] = {ast.FloorDiv: floor_quotient, ast.Mod: remainder, ast.Pow: power}
# Powers of integers up to this one are taken as they are.
_SMALL = 2


def operation_of(node: ast.BinOp, left_depends: bool) -> Any:
    """The function in the place of an operator; None if it has a result for any integers.

    The compiler sees a literal negative power of an integer: see `agreement`.
    """
    function = _BY_SYMBOL.get(type(node.op))
    negative = isinstance(node.right, ast.UnaryOp)
    right: Any = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
    if function is None or not isinstance(right, ast.Constant):
        return function
    if function is not power:
        return None if right.value else function
    small = negative or not isinstance(right.value, int) or right.value <= _SMALL
    return None if small or left_depends else function
