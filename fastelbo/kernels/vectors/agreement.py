"""What Python, NumPy and compiled code compute in different ways is refused, by the types of it.

The types of a function's variables are known once it is compiled. Four things differ:

- Two truths. ``True + True`` is 2 in Python and True in NumPy, and a comparison gives the one or
  the other: ``z[0] > 0`` NumPy's, ``math.exp(z[0]) > 1`` Python's.
- Numbers of fewer than 64 bits, and without a sign. NumPy keeps their type and wraps around.
- Products of integers in a loop, and shifts. Python's have any number of digits. `integers` stops
  powers and divisions when they run.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

from numba import types
from numba.core import ir

from . import fused
from .errors import NotCompiled
from .types import Mask

_TRUTHS = (types.Boolean, Mask)
_SUMS = {operator.add, operator.iadd, operator.sub, operator.isub, operator.neg, operator.pos}
_NO_CHANGE_OF_TRUTHS = {operator.and_, operator.or_, operator.xor, operator.truediv}
_NO_CHANGE_OF_TRUTHS |= {operator.iand, operator.ior, operator.ixor, operator.itruediv}
_COMPARISONS = {
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.is_,
    operator.is_not, operator.contains,
}  # fmt: skip
# Where the factors of a fused product are among its arguments, and where the third one is.
_PRODUCTS: dict[Any, tuple[int, int, int]] = {
    fused.product_plus: (0, 1, 2), fused.product_minus: (0, 1, 2), fused.plus_product: (1, 2, 0),
    fused.minus_product: (1, 2, 0), fused.add_product: (1, 2, 0),
    fused.subtract_product: (1, 2, 0),
}  # fmt: skip
_IN_PLACE_OF_INTEGERS = {
    operator.imul: "n *= k of integers may be beyond 64 bits; begin with a float, such as n = 1.0",
    operator.ifloordiv: "n //= k of integers may divide by zero; write n = n // k",
    operator.imod: "n %= k of integers may divide by zero; write n = n % k",
    operator.ipow: "n **= k of integers may be beyond 64 bits; write n = float(n) ** k",
}
_MOST_SHIFT = 32


def require_agreement(function: Any, dispatchers: Iterable[Any]) -> None:
    """Raise `NotCompiled` if a user's function or a helper of it, compiled, has one of these."""
    for dispatcher in dispatchers:
        for compiled in dispatcher.overloads.values():
            notes = compiled.type_annotation
            statements = list(_statements(notes.blocks))
            copies = {
                each.value.name: each.target
                for each in statements
                if isinstance(each.value, ir.Var)
            }
            for statement in statements:
                reason = _reason(statement, notes.typemap, copies)
                if reason is not None:
                    place = statement.loc
                    raise NotCompiled(function, reason, place.line, place.filename)


def _statements(blocks: Any) -> Iterator[Any]:
    for block in blocks.values():
        yield from block.find_insts(ir.Assign)


def _reason(statement: Any, kinds: Any, copies: dict[str, Any]) -> str | None:
    """``copies`` has the variable that gets a temporary."""
    value = statement.value
    is_outside = isinstance(value, (ir.Global, ir.FreeVar))
    is_made = is_outside or (isinstance(value, ir.Expr) and value.op == "call")
    narrow = _narrow(kinds.get(statement.target.name)) if is_made else None
    if narrow is not None:
        name = f"{value.name} has" if is_outside else "it makes"
        return (
            f"{name} numbers of type {narrow}, which NumPy and compiled code compute in different "
            "ways; .astype(float) converts them, and params are converted"
        )
    if isinstance(value, ir.Expr):
        target = copies.get(statement.target.name, statement.target)
        return _of_operation(target.unversioned_name, value, kinds)
    return None


def _narrow(kind: Any) -> str | None:
    """The name of a number type that is none of bool, int64, float64 and complex128."""
    kind = kind.dtype if isinstance(kind, types.Array) else kind
    if isinstance(kind, types.Integer) and (kind.bitwidth < 64 or not kind.signed):
        return str(kind)
    if isinstance(kind, types.Float) and kind.bitwidth != 64:
        return str(kind)
    return None


def _of_operation(target: str, value: Any, kinds: Any) -> str | None:
    if value.op in ("binop", "inplace_binop"):
        operands = [kinds[value.lhs.name], kinds[value.rhs.name]]
        return _of_truths(value.fn, operands) or _of_integers(target, value, operands)
    if value.op == "unary":
        of_truth = isinstance(kinds[value.value.name], _TRUTHS)
        if value.fn is operator.invert and of_truth:
            return "~ of a truth is another number in Python than in NumPy; write not"
        return _of_truths(value.fn, [kinds[value.value.name]]) if value.fn in _SUMS else None
    elif value.op == "call":
        places = _PRODUCTS.get(getattr(kinds[value.func.name], "typing_key", None))
        if places is not None:
            a, b, c = (kinds[value.args[k].name] for k in places)
            product = _of_truths(operator.mul, [a, b])
            truths = all(isinstance(each, _TRUTHS) for each in (a, b, c))
            return product or (_of_truths(operator.add, [a, c]) if truths else None)
    return None


def _of_truths(function: Any, operands: list[Any]) -> str | None:
    """A product of masks is a mask, and does no harm until it is added."""
    if not all(isinstance(each, _TRUTHS) for each in operands):
        return None
    masks = any(isinstance(each, Mask) for each in operands)
    if function in _COMPARISONS or function in _NO_CHANGE_OF_TRUTHS:
        return None
    if function not in _SUMS and masks:
        return None
    return (
        "arithmetic of truths has another result in Python, where True + True is 2, than in "
        "NumPy; write float(...) around each"
    )


def _of_integers(target: str, value: Any, operands: list[Any]) -> str | None:
    if not all(isinstance(each, types.Integer) for each in operands):
        return None
    if value.fn is operator.mul and target in (
        value.lhs.unversioned_name, value.rhs.unversioned_name,
    ):  # fmt: skip
        return _IN_PLACE_OF_INTEGERS[operator.imul]
    right = operands[1]
    number = right.literal_value if isinstance(right, types.IntegerLiteral) else None
    if value.fn is operator.pow and number is not None and number < 0:
        return "an integer has a negative power; write float(n) ** k"
    if value.op == "inplace_binop" and value.fn in _IN_PLACE_OF_INTEGERS:
        return _IN_PLACE_OF_INTEGERS[value.fn]
    shifts = value.fn in (operator.lshift, operator.ilshift)
    if shifts and (number is None or number > _MOST_SHIFT):
        return "<< of integers may be beyond 64 bits; write a * 2.0 ** b"
    return None
