"""The types: `Lanes`, `Mask` and `LaneVector`, their form in memory, and conversions.

All have a form: the number of lanes, and of the partial derivatives that stand beside each number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from llvmlite.ir import instructions
from numba import types
from numba.core.imputils import lower_cast
from numba.core.typeconv import Conversion
from numba.extending import models, register_model

DOUBLE = ir.DoubleType()
BIT = ir.IntType(1)
INDEX = ir.IntType(64)
# Plain numbers that stand beside lanes.
NUMBERS = (types.Integer, types.Float, types.Boolean)


class Form(NamedTuple):
    """How many lanes, and how many partial derivatives beside a number; 0 for numbers alone."""

    width: int
    partials: int = 0

    def __str__(self) -> str:
        return f"{self.width}, {self.partials}" if self.partials else str(self.width)


class Lanes(types.Type):  # type: ignore[misc]
    """A float64 in each of ``width`` lanes, one lane a draw; a dual number, if it has partials."""

    def __init__(self, width: int, partials: int = 0) -> None:
        self.form, self.width = Form(width, partials), width
        super().__init__(name=f"Lanes({self.form})")

    def unify(self, context: Any, other: Any) -> Any:
        """``acc = 0.0`` before ``acc += z[0]`` is a value in lanes, too."""
        return self if _becomes_lanes(other, self.form) else None

    def can_convert_from(self, context: Any, other: Any) -> Any:
        return Conversion.promote if _becomes_lanes(other, self.form) else None


class Mask(types.Type):  # type: ignore[misc]
    """A truth value in each of ``width`` lanes. With one lane, it can steer a branch."""

    def __init__(self, width: int, partials: int = 0) -> None:
        self.form, self.width = Form(width, partials), width
        super().__init__(name=f"Mask({self.form})")

    def unify(self, context: Any, other: Any) -> Any:
        if isinstance(other, types.Boolean):
            return self
        return Lanes(*self.form) if isinstance(other, NUMBERS) else None

    def can_convert_from(self, context: Any, other: Any) -> Any:
        return Conversion.promote if isinstance(other, types.Boolean) else None


def _becomes_lanes(other: Any, form: Form) -> bool:
    return isinstance(other, NUMBERS) or (isinstance(other, Mask) and other.form == form)


class LaneVector(types.IterableType):  # type: ignore[misc]
    """A vector of `Lanes`, or of masks: z, a part of z, or a temporary.

    Masks are stored as the numbers 0 and 1.
    """

    mutable = True  # numba then lowers ``v += w`` in place

    def __init__(self, form: Form, writable: bool = True, is_mask: bool = False) -> None:
        self.form, self.width = form, form.width
        self.writable, self.is_mask = writable, is_mask
        kind = f"{'mask' if is_mask else 'float'}, {'writable' if writable else 'read only'}"
        super().__init__(name=f"LaneVector({form}, {kind})")

    @property
    def item(self) -> Any:
        """The type of an item."""
        return (Mask if self.is_mask else Lanes)(*self.form)

    @property
    def item_size(self) -> int:
        """Doubles of an item in memory: the value, and its partials."""
        return self.width * (1 + self.form.partials)

    @property
    def iterator_type(self) -> Any:
        return LaneIterator(self)

    def unify(self, context: Any, other: Any) -> Any:
        if not isinstance(other, LaneVector) or other.form != self.form:
            return None
        writable = self.writable and other.writable
        return LaneVector(self.form, writable, self.is_mask and other.is_mask)

    def can_convert_to(self, context: Any, other: Any) -> Any:
        same = isinstance(other, LaneVector) and other.form == self.form
        # A mask is stored as a number; a vector that is read only stays so.
        fits = same and self.writable >= other.writable and self.is_mask >= other.is_mask
        return Conversion.safe if fits else None


class LaneIterator(types.SimpleIteratorType):  # type: ignore[misc]
    """Iterates over a `LaneVector`."""

    def __init__(self, vector: LaneVector) -> None:
        self.vector = vector
        super().__init__(f"iter({vector.name})", vector.item)


def lanes_type(form: Form) -> Any:
    """LLVM's type of `Lanes`: a vector, or a packed struct of the value and its partials."""
    vector = ir.VectorType(DOUBLE, form.width)
    if not form.partials:
        return vector
    return ir.LiteralStructType([vector] * (1 + form.partials), packed=True)


def is_dual(kind: Any) -> bool:
    """Whether LLVM's type is that of dual numbers."""
    return isinstance(kind, ir.LiteralStructType)


class _PackedModel(models.PrimitiveModel):  # type: ignore[misc]
    """An LLVM vector; in memory a packed struct.

    The natural alignment of 32 doubles is 256 bytes, more than arrays, lists and tuples on the
    heap have.
    """

    def get_data_type(self) -> Any:
        return ir.LiteralStructType([self.get_value_type()], packed=True)

    def as_data(self, builder: Any, value: Any) -> Any:
        return builder.insert_value(ir.Constant(self.get_data_type(), ir.Undefined), value, 0)

    def from_data(self, builder: Any, value: Any) -> Any:
        return builder.extract_value(value, 0)


@register_model(Lanes)
class _LanesModel(_PackedModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, lanes_type(kind.form))

    def get_data_type(self) -> Any:
        kind = self.get_value_type()
        return kind if is_dual(kind) else super().get_data_type()

    def as_data(self, builder: Any, value: Any) -> Any:
        return value if is_dual(value.type) else super().as_data(builder, value)

    def from_data(self, builder: Any, value: Any) -> Any:
        return value if is_dual(self.get_value_type()) else super().from_data(builder, value)


@register_model(Mask)
class _MaskModel(_PackedModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(BIT, kind.width))


@register_model(LaneVector)
class _VectorModel(models.StructModel):  # type: ignore[misc]
    """Item i is at ``data + i * step``, in doubles; ``meminfo`` is null for borrowed memory."""

    def __init__(self, manager: Any, kind: Any) -> None:
        members = [
            ("meminfo", types.MemInfoPointer(types.voidptr)),
            ("data", types.CPointer(types.float64)),
            ("size", types.intp),
            ("step", types.intp),
        ]
        super().__init__(manager, kind, members)


@register_model(LaneIterator)
class _IteratorModel(models.StructModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        members = [("index", types.EphemeralPointer(types.intp)), ("vector", kind.vector)]
        super().__init__(manager, kind, members)


# --- conversions --------------------------------------------------------------------------------


def splat(builder: Any, value: Any, width: int) -> Any:
    """A number in every lane."""
    vector = ir.VectorType(value.type, width)
    if isinstance(value, ir.Constant):
        return ir.Constant(vector, [value.constant] * width)
    none = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(none, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        one, none, ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
    )


def number_of(value: Any) -> Any:
    """The number that `splat` put in every lane, or None if it did not make the value."""
    if isinstance(value, ir.Constant) and isinstance(value.constant, list):
        numbers = [getattr(each, "constant", each) for each in value.constant]
        same = all(each == numbers[0] for each in numbers)
        return ir.Constant(value.type.element, numbers[0]) if same else None
    if isinstance(value, instructions.ShuffleVector):
        one, _, places = value.operands
        if isinstance(one, instructions.InsertElement) and not any(
            each.constant for each in places.constant
        ):
            return one.operands[1]
    return None


def with_partials(builder: Any, form: Form, value: Any, partials: Any = None) -> Any:
    """A value in lanes of a form: a dual number, of partials 0 if none are given."""
    if not form.partials:
        return value
    result = ir.Constant(lanes_type(form), ir.Undefined)
    zero = ir.Constant(value.type, [0.0] * form.width)
    for k, each in enumerate([value, *(partials or [zero] * form.partials)]):
        result = builder.insert_value(result, each, k)
    return result


@lower_cast(types.Integer, Lanes)
@lower_cast(types.Float, Lanes)
@lower_cast(types.Boolean, Lanes)
def _number_to_lanes(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    number = context.cast(builder, value, source, types.float64)
    return with_partials(builder, target.form, splat(builder, number, target.width))


@lower_cast(types.IntegerLiteral, Lanes)
def _literal_to_lanes(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    number = ir.Constant(DOUBLE, float(source.literal_value))
    return with_partials(builder, target.form, splat(builder, number, target.width))


@lower_cast(types.Boolean, Mask)
def _boolean_to_mask(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return splat(builder, context.cast(builder, value, source, types.boolean), target.width)


@lower_cast(Mask, Lanes)
def _mask_to_lanes(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    number = builder.uitofp(value, ir.VectorType(DOUBLE, target.width))
    return with_partials(builder, target.form, number)


@lower_cast(LaneVector, LaneVector)
def _same_vector(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return value
