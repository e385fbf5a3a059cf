"""Registers operations on `Lanes`, masks and their vectors with numba, for these types alone.

An operation is one emitter of instructions on values. `OPERATIONS` also serves vectors, item by
item: see `elementwise`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types
from numba.core import errors
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from .duals import on_duals
from .errors import READ_ONLY
from .types import NUMBERS, Form, Lanes, LaneVector, Mask


class Operation(NamedTuple):
    """What one target does to values in lanes."""

    emit: Callable[..., Any]  # (builder, *values) -> value
    arity: int
    gives_mask: bool
    takes_masks: tuple[bool, ...]


OPERATIONS: dict[Any, list[Operation]] = {}

# Operators that write to a vector on their left.
IN_PLACE: set[Any] = {
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv,
    operator.imod, operator.ipow, operator.iand, operator.ior, operator.ixor,
}  # fmt: skip

OURS = (Lanes, Mask, LaneVector)


def form_of(args: Any) -> Form | None:
    """The form of the arguments; None if none of them is in lanes."""
    forms = {each.form for each in args if isinstance(each, OURS)}
    return forms.pop() if len(forms) == 1 else None


def is_floats(kind: Any, ndim: int = 1) -> bool:
    """Whether a type is an array of plain numbers."""
    return isinstance(kind, types.Array) and kind.ndim == ndim and isinstance(kind.dtype, NUMBERS)


class Own(NamedTuple):
    """The key of machine code for a target on values in lanes.

    Machine code for a target itself stays numba's, so that other values never meet this one.
    """

    target: Any


def typer(target: Any) -> Callable[[Any], Any]:
    """Decorate ``typed(context, args) -> signature or None``, for calls by position."""

    def add(typed: Callable[[Any, Any], Any]) -> Any:
        def generic(self: Any, args: Any, kws: Any) -> Any:
            return None if kws else typed(self.context, args)

        def get_impl_key(self: Any, sig: Any) -> Any:
            return Own(target)

        parts = {"key": target, "generic": generic, "get_impl_key": get_impl_key}
        template = type("_Template", (AbstractTemplate,), parts)
        infer_global(target, types.Function(template))
        return typed

    return add


def lowers(target: Any, *kinds: Any) -> Callable[[Any], Any]:
    """Decorate ``lower(context, builder, sig, args)``, for what a `typer` of the target found."""
    return lower_builtin(Own(target), *kinds)


def _of_values(operation: Operation, args: Any, form: Form) -> Any:
    wanted = []
    for kind, takes_mask in zip(args, operation.takes_masks, strict=True):
        if takes_mask and not isinstance(kind, (Mask, types.Boolean)):
            return None
        if not isinstance(kind, (*NUMBERS, Lanes, Mask)):
            return None
        wanted.append((Mask if takes_mask else Lanes)(*form))
    return signature((Mask if operation.gives_mask else Lanes)(*form), *wanted)


def _of_vectors(operation: Operation, args: Any, form: Form) -> Any:
    for kind, takes_mask in zip(args, operation.takes_masks, strict=True):
        if takes_mask and not (
            isinstance(kind, (Mask, types.Boolean))
            or (isinstance(kind, LaneVector) and kind.is_mask)
            or (is_floats(kind) and isinstance(kind.dtype, types.Boolean))
        ):
            return None
        if not isinstance(kind, (*NUMBERS, *OURS)) and not is_floats(kind):
            return None
    return signature(LaneVector(form, is_mask=operation.gives_mask), *args)


def _in_place(left: Any, found: Any) -> Any:
    if not isinstance(left, LaneVector):
        return found
    if not left.writable:
        raise errors.TypingError(READ_ONLY)
    return signature(left, *found.args)


def _register(target: Any) -> None:
    @typer(target)
    def typed(context: Any, args: Any) -> Any:
        form = form_of(args)
        if form is None:
            return None
        many = any(isinstance(each, (LaneVector, types.Array)) for each in args)
        if many and target in (min, max):  # Python has no order of vectors
            return None
        for operation in OPERATIONS[target]:
            if operation.arity == len(args):
                found = (_of_vectors if many else _of_values)(operation, args, form)
                if found is not None:
                    return _in_place(args[0], found) if target in IN_PLACE else found
        return None


def operation(
    *targets: Any,
    arity: int,
    gives_mask: bool = False,
    takes_masks: tuple[bool, ...] | None = None,
    composed: bool = False,
) -> Callable[[Any], Any]:
    """Decorate an emitter: it is what each of the targets does to values in lanes.

    What it returns emits on dual numbers, too: by the rule of one of the targets, or, if it is
    ``composed``, as it consists of calls of such emitters.
    """
    masks = takes_masks or (False,) * arity

    def add(on_values: Callable[..., Any]) -> Any:
        emit = on_values if composed else on_duals(on_values, targets, gives_mask)
        entry = Operation(emit, arity, gives_mask, masks)

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit(builder, *args)

        for target in targets:
            if target not in OPERATIONS:
                OPERATIONS[target] = []
                _register(target)
            OPERATIONS[target].append(entry)
            lowers(target, *(Mask if each else Lanes for each in masks))(lower)
        return emit

    return add
