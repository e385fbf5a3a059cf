"""Products that are added: one operation on values in lanes, rounded once.

The rewritten source calls these functions; on plain values they are what they say.
"""

from __future__ import annotations

from typing import Any

from numba.extending import overload

from .operations import IN_PLACE, OURS, operation
from .trace import intrinsic


def product_plus(a: Any, b: Any, c: Any) -> Any:
    return a * b + c


def product_minus(a: Any, b: Any, c: Any) -> Any:
    return a * b - c


def plus_product(c: Any, a: Any, b: Any) -> Any:
    return c + a * b


def minus_product(c: Any, a: Any, b: Any) -> Any:
    return c - a * b


def add_product(c: Any, a: Any, b: Any) -> Any:
    c += a * b
    return c


def subtract_product(c: Any, a: Any, b: Any) -> Any:
    c -= a * b
    return c


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c of values in lanes."""
    return intrinsic(builder, "fmuladd", a, b, c)


def _plus(builder: Any, c: Any, a: Any, b: Any) -> Any:
    return _multiply_add(builder, a, b, c)


def _minus(builder: Any, c: Any, a: Any, b: Any) -> Any:
    return _multiply_add(builder, builder.fneg(a), b, c)


IN_PLACE.update({add_product, subtract_product})
# Of three truths, as NumPy has it; see `arithmetic`.
_MASKS: dict[str, Any] = {"arity": 3, "gives_mask": True, "takes_masks": (True, True, True)}
operation(product_plus, **_MASKS)(lambda builder, a, b, c: builder.or_(builder.and_(a, b), c))
operation(plus_product, add_product, **_MASKS)(
    lambda builder, c, a, b: builder.or_(c, builder.and_(a, b))
)
multiply_add = operation(product_plus, arity=3)(_multiply_add)
operation(product_minus, arity=3)(lambda builder, a, b, c: _product_minus(builder, a, b, c))
operation(plus_product, add_product, arity=3)(_plus)
operation(minus_product, subtract_product, arity=3)(_minus)


def _product_minus(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _multiply_add(builder, a, b, builder.fneg(c))


def _plain(function: Any) -> None:
    """The function on other values."""

    def choose(x: Any, y: Any, z: Any) -> Any:
        return None if any(isinstance(each, OURS) for each in (x, y, z)) else function

    overload(function, strict=False)(choose)


for _function in (
    product_plus, product_minus, plus_product, minus_product, add_product, subtract_product,
):  # fmt: skip
    _plain(_function)
