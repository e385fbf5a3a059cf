"""Choices by masks: what rewritten source calls, and a mask of one lane as a boolean."""

from __future__ import annotations

import builtins
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import overload

from .arithmetic import where
from .arrays import raise_if
from .duals import parts
from .operations import OURS, lowers, typer
from .trace import constant, intrinsic
from .types import DOUBLE, INDEX, NUMBERS, Lanes, Mask

_TRUTHS = (Mask, types.Boolean)


# --- for the selects of rewritten source --------------------------------------------------------


def choose(condition: Any, x: Any, y: Any) -> Any:
    """``x if condition else y``, both of which are already computed."""
    return x if condition else y


def truth(x: Any) -> Any:
    """``bool(x)``."""
    return bool(x)


def both(x: Any, y: Any) -> Any:
    """``x and y``."""
    return x and y


def either(x: Any, y: Any) -> Any:
    """``x or y``."""
    return x or y


def negated(x: Any) -> Any:
    """``not x``."""
    return not x


def as_float(x: Any) -> float:
    """``float(x)``, which the compiler does not know for a truth."""
    return float(x)


@typer(choose)
def _choose_typed(context: Any, args: Any) -> Any:
    condition, *branches = args
    kind = context.unify_types(*branches)
    if kind is None or not isinstance(condition, _TRUTHS):
        return None
    if isinstance(condition, Mask):
        if not all(isinstance(each, (*_TRUTHS, *NUMBERS, Lanes)) for each in branches):
            return None
        are_masks = all(isinstance(each, _TRUTHS) for each in branches)
        kind = (Mask if are_masks else Lanes)(*condition.form)
    return signature(kind, condition, kind, kind)


@lowers(choose, types.Any, types.Any, types.Any)
def _choose(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    condition, x, y = args
    if isinstance(sig.args[0], Mask):
        return where(builder, condition, x, y)
    for each in (x, y):
        context.nrt.incref(builder, sig.return_type, each)
    context.nrt.decref(builder, sig.return_type, builder.select(condition, y, x))
    return builder.select(condition, x, y)


@typer(truth)
def _truth_typed(context: Any, args: Any) -> Any:
    (x,) = args
    return signature(Mask(*x.form), x) if isinstance(x, (Lanes, Mask)) else None


@lowers(truth, types.Any)
def _truth(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    (x,) = args
    if isinstance(sig.args[0], Mask):
        return x
    value = parts(builder, x)[0]
    return builder.fcmp_unordered("!=", value, constant(value, 0.0))


def _masks_typed(context: Any, args: Any) -> Any:
    forms = {each.form for each in args if isinstance(each, Mask)}
    if len(forms) != 1 or not all(isinstance(each, _TRUTHS) for each in args):
        return None
    mask = Mask(*forms.pop())
    return signature(mask, *(mask for _ in args))


def _on_masks(function: Any, instruction: str) -> None:
    """A function of masks as one instruction."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)

    typer(function)(_masks_typed)
    lowers(function, *(types.Any,) * function.__code__.co_argcount)(lower)


_on_masks(both, "and_")
_on_masks(either, "or_")
_on_masks(negated, "not_")


# On plain values the functions are what they say. A strict overload compares annotations, too.
@overload(truth, strict=False)
def _plain_truth(x):
    return None if isinstance(x, OURS) else truth


@overload(both, strict=False)
def _plain_both(x, y):
    return None if isinstance(x, OURS) or isinstance(y, OURS) else both


@overload(either, strict=False)
def _plain_either(x, y):
    return None if isinstance(x, OURS) or isinstance(y, OURS) else either


@overload(negated, strict=False)
def _plain_negated(x):
    return None if isinstance(x, OURS) else negated


@overload(as_float, strict=False)
def _plain_float(x):
    return (lambda x: 1.0 if x else 0.0) if isinstance(x, types.Boolean) else as_float


# --- one lane ------------------------------------------------------------------------------------


@typer(builtins.bool)
def _bool_typed(context: Any, args: Any) -> Any:
    if len(args) == 1 and isinstance(args[0], (Mask, Lanes)) and args[0].width == 1:
        return signature(types.boolean, args[0])
    return None


@lowers(builtins.bool, types.Any)
def _bool(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    value = builder.extract_element(parts(builder, args[0])[0], ir.Constant(ir.IntType(32), 0))
    if isinstance(sig.args[0], Mask):
        return value
    return builder.fcmp_unordered("!=", value, ir.Constant(DOUBLE, 0.0))


@typer(builtins.int)
def _int_typed(context: Any, args: Any) -> Any:
    if len(args) == 1 and isinstance(args[0], (Mask, Lanes)) and args[0].width == 1:
        return signature(types.int64, args[0])
    return None


@lowers(builtins.int, types.Any)
def _int(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    first = ir.Constant(ir.IntType(32), 0)
    vector = parts(builder, args[0])[0]
    value = builder.extract_element(vector, first)
    if isinstance(sig.args[0], Mask):
        return builder.zext(value, INDEX)
    size = builder.extract_element(intrinsic(builder, "fabs", vector), first)
    outside = builder.fcmp_unordered(">=", size, ir.Constant(DOUBLE, 2.0**63))
    raise_if(context, builder, outside, OverflowError, "an integer is beyond 64 bits")
    return builder.fptosi(value, INDEX)
