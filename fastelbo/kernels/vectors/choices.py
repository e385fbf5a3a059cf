"""Choices by masks: a mask of one lane as a boolean, and the select that rewritten source calls."""

from __future__ import annotations

import builtins
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import signature

from .operations import typer
from .types import DOUBLE, NUMBERS, Lanes, Mask


@typer(builtins.bool)
def _bool_typed(context: Any, args: Any) -> Any:
    if len(args) == 1 and isinstance(args[0], (Mask, Lanes)) and args[0].width == 1:
        return signature(types.boolean, args[0])
    return None


@lower_builtin(bool, Mask)
def _mask_to_boolean(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.extract_element(args[0], ir.Constant(ir.IntType(32), 0))


@lower_builtin(bool, Lanes)
def _lane_to_boolean(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    value = builder.extract_element(args[0], ir.Constant(ir.IntType(32), 0))
    return builder.fcmp_unordered("!=", value, ir.Constant(DOUBLE, 0.0))


@typer(builtins.int)
def _int_typed(context: Any, args: Any) -> Any:
    if len(args) == 1 and isinstance(args[0], Lanes) and args[0].width == 1:
        return signature(types.int64, args[0])
    return None


@lower_builtin(int, Lanes)
def _lane_to_integer(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    value = builder.extract_element(args[0], ir.Constant(ir.IntType(32), 0))
    return builder.fptosi(value, ir.IntType(64))


# --- selects that the rewritten source calls ----------------------------------------------------


def choose(condition: Any, x: Any, y: Any) -> Any:
    """``x if condition else y``, both of which are already computed."""
    return x if condition else y


@typer(choose)
def _choose_typed(context: Any, args: Any) -> Any:
    condition, *branches = args
    kind = context.unify_types(*branches)
    if kind is None or not isinstance(condition, (types.Boolean, Mask)):
        return None
    if isinstance(condition, Mask):
        masks = (Mask, types.Boolean)
        if not all(isinstance(each, (*masks, *NUMBERS, Lanes)) for each in branches):
            return None
        are_masks = all(isinstance(each, masks) for each in branches)
        kind = (Mask if are_masks else Lanes)(condition.width)
    return signature(kind, condition, kind, kind)


@lower_builtin(choose, types.Boolean, types.Any, types.Any)
def _choose_by_boolean(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    condition, x, y = args
    for each in (x, y):
        context.nrt.incref(builder, sig.return_type, each)
    chosen = builder.select(condition, x, y)
    context.nrt.decref(builder, sig.return_type, builder.select(condition, y, x))
    return chosen


@lower_builtin(choose, Mask, types.Any, types.Any)
def _choose_by_mask(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.select(*args)
