"""Dual numbers: a value in lanes, and beside it its partial derivatives in coordinates of z.

An operation on dual numbers is the same emitter on their values, so that these keep every bit, and
the chain rule: partials are sums of those of the arguments, with weights that a rule says. The
rules are those of `derivatives`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.ir import instructions
from numba.core import errors

from .trace import Traced, constant, intrinsic
from .types import BIT, is_dual

# rule(value, *arguments), of `Traced` values: a weight for each argument, or a mask that chooses
# between the last two. A weight is a number, a value in lanes, a mask, or a function that makes one
# where it is needed; None is 0.
Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}


def parts(builder: Any, value: Any) -> list[Any]:
    """The value of a dual number and its partials; another value alone."""
    if not is_dual(value.type):
        return [value]
    known: dict[int, Any] = {}
    inner = value
    while isinstance(inner, instructions.InsertValue):  # so that constants are seen
        inner, part = inner.operands[0], inner
        known.setdefault(part.indices[0], part.operands[1])
    count = len(value.type.elements)
    return [known[k] if k in known else builder.extract_value(value, k) for k in range(count)]


def on_duals(
    emit: Callable[..., Any], targets: tuple[Any, ...], gives_mask: bool
) -> Callable[..., Any]:
    """The emitter of some targets, for dual numbers, too."""

    @functools.wraps(emit)
    def general(builder: Any, *values: Any) -> Any:
        if not any(is_dual(each.type) for each in values):
            return emit(builder, *values)
        split = [parts(builder, each) for each in values]
        numbers = [each[0] for each in split]
        if gives_mask:
            return emit(builder, *numbers)
        rule = next((RULES[each] for each in targets if each in RULES), None)
        if rule is None:
            name = getattr(targets[0], "__name__", targets[0])
            raise errors.TypingError(f"{name} has no derivative here")
        result = emit(builder, *numbers)
        weights = rule(*(Traced(builder, each) for each in (result, *numbers)))
        return _joined(builder, [result, *_chained(builder, weights, split)])

    return general


def _joined(builder: Any, values: list[Any]) -> Any:
    kind = ir.LiteralStructType([each.type for each in values], packed=True)
    result = ir.Constant(kind, ir.Undefined)
    for k, each in enumerate(values):
        result = builder.insert_value(result, each, k)
    return result


def _chained(builder: Any, weights: Any, split: list[Any]) -> list[Any]:
    """The partials of a result."""
    if isinstance(weights, Traced):
        one, other = split[-2:]
        pairs = zip(one[1:], other[1:], strict=True)
        return [builder.select(weights.value, *each) for each in pairs]
    terms = []
    for weight, (_, *partials) in zip(weights, split, strict=True):
        if weight is None or all(map(_is_zero, partials)):
            continue
        weight = weight() if callable(weight) else weight
        terms.append((weight.value if isinstance(weight, Traced) else float(weight), partials))
    count = max(len(each) for each in split) - 1
    return [_sum(builder, split, [(w, each[k]) for w, each in terms]) for k in range(count)]


def _is_zero(partial: Any) -> bool:
    """Whether a partial is that of a plain number."""
    return isinstance(partial, ir.Constant) and all(
        getattr(each, "constant", each) == 0.0 for each in partial.constant
    )


def _sum(builder: Any, split: list[Any], terms: list[tuple[Any, Any]]) -> Any:
    """A weighted sum of partials; products are rounded with the sum, once."""
    total = None
    for weight, partial in terms:
        if _is_zero(partial):
            continue
        if isinstance(weight, float) and abs(weight) == 1.0:
            term = partial if weight > 0 else builder.fneg(partial)
        elif not isinstance(weight, float) and weight.type.element == BIT:
            term = builder.select(weight, partial, constant(partial, 0.0))
        else:
            factor = constant(partial, weight) if isinstance(weight, float) else weight
            if total is not None:
                total = intrinsic(builder, "fmuladd", factor, partial, total)
                continue
            term = builder.fmul(factor, partial)
        total = term if total is None else builder.fadd(total, term)
    number = next(each[0] for each in split if len(each) > 1)
    return constant(number, 0.0) if total is None else total
