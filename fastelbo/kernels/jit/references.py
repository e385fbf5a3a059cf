"""Named tuples that a kernel hands on by their address.

An array is seven words, and a plan with its workspace some hundreds. By value, each call copies
what it cannot leave out: for few draws of many points, a seventh of the time.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    infer_getattr,
    lower_builtin,
    lower_getattr_generic,
    register_model,
    type_callable,
)


class Reference(types.Type):  # type: ignore[misc]
    """A named tuple by its address."""

    def __init__(self, value: types.NamedTuple) -> None:
        self.value = value
        super().__init__(f"Reference({value})")

    def field(self, name: str) -> Any:
        """The type of a field: a tuple inside is by reference too."""
        kind = self.value.types[self.value.fields.index(name)]
        return Reference(kind) if isinstance(kind, types.NamedTuple) else kind


@register_model(Reference)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Reference) -> None:
        pointer = manager.lookup(kind.value).get_value_type().as_pointer()
        super().__init__(manager, kind, pointer)


@infer_getattr
class _Attributes(AttributeTemplate):  # type: ignore[misc]
    key = Reference

    def generic_resolve(self, kind: Reference, name: str) -> Any:
        return kind.field(name) if name in kind.value.fields else None


@lower_getattr_generic(Reference)  # type: ignore[untyped-decorator]
def _get(context: Any, builder: Any, kind: Reference, pointer: Any, name: str) -> Any:
    place = cgutils.gep_inbounds(builder, pointer, 0, kind.value.fields.index(name))
    field = kind.field(name)
    if isinstance(field, Reference):
        return place
    return impl_ret_borrowed(context, builder, field, builder.load(place))


def by_reference(value: Any) -> Any:
    """The named tuple ``value``; functions that compiled code calls with it get its address.

    It is for the arguments of a `borrower`. They outlive the call, and their address is taken
    outside of loops. A field is read where it is named: name it before a loop, as a store in the
    loop may be one to the tuple for all that a compiler knows.
    """
    return value


@type_callable(by_reference)  # type: ignore[untyped-decorator]
def _type(context: Any) -> Any:
    return lambda value: Reference(value) if isinstance(value, types.NamedTuple) else None


@lower_builtin(by_reference, types.NamedTuple)  # type: ignore[untyped-decorator]
def _lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return cgutils.alloca_once_value(builder, args[0])
