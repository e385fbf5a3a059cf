"""The types: `Lanes`, `Mask` and `LaneVector`, their form in memory, and conversions."""

from __future__ import annotations

from typing import Any

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


class Lanes(types.Type):  # type: ignore[misc]
    """A float64 in each of ``width`` lanes, one lane a draw."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Lanes({width})")

    def unify(self, context: Any, other: Any) -> Any:
        """``acc = 0.0`` before ``acc += z[0]`` is a value in lanes, too."""
        return self if _becomes_lanes(other, self.width) else None

    def can_convert_from(self, context: Any, other: Any) -> Any:
        return Conversion.promote if _becomes_lanes(other, self.width) else None


class Mask(types.Type):  # type: ignore[misc]
    """A truth value in each of ``width`` lanes. With one lane, it can steer a branch."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Mask({width})")

    def unify(self, context: Any, other: Any) -> Any:
        if isinstance(other, types.Boolean):
            return self
        return Lanes(self.width) if isinstance(other, NUMBERS) else None

    def can_convert_from(self, context: Any, other: Any) -> Any:
        return Conversion.promote if isinstance(other, types.Boolean) else None


def _becomes_lanes(other: Any, width: int) -> bool:
    return isinstance(other, NUMBERS) or (isinstance(other, Mask) and other.width == width)


class LaneVector(types.IterableType):  # type: ignore[misc]
    """A vector of `Lanes`, or of masks: z, a part of z, or a temporary.

    Masks are stored as the numbers 0 and 1.
    """

    mutable = True  # numba then lowers ``v += w`` in place

    def __init__(self, width: int, writable: bool = True, is_mask: bool = False) -> None:
        self.width, self.writable, self.is_mask = width, writable, is_mask
        kind = f"{'mask' if is_mask else 'float'}, {'writable' if writable else 'read only'}"
        super().__init__(name=f"LaneVector({width}, {kind})")

    @property
    def item(self) -> Any:
        """The type of an item."""
        return (Mask if self.is_mask else Lanes)(self.width)

    @property
    def iterator_type(self) -> Any:
        return LaneIterator(self)

    def unify(self, context: Any, other: Any) -> Any:
        if not isinstance(other, LaneVector) or other.width != self.width:
            return None
        writable = self.writable and other.writable
        return LaneVector(self.width, writable, self.is_mask and other.is_mask)

    def can_convert_to(self, context: Any, other: Any) -> Any:
        same = isinstance(other, LaneVector) and other.width == self.width
        # A mask is stored as a number; a vector that is read only stays so.
        fits = same and self.writable >= other.writable and self.is_mask >= other.is_mask
        return Conversion.safe if fits else None


class LaneIterator(types.SimpleIteratorType):  # type: ignore[misc]
    """Iterates over a `LaneVector`."""

    def __init__(self, vector: LaneVector) -> None:
        self.vector = vector
        super().__init__(f"iter({vector.name})", vector.item)


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
        super().__init__(manager, kind, ir.VectorType(DOUBLE, kind.width))


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


@lower_cast(types.Integer, Lanes)
@lower_cast(types.Float, Lanes)
@lower_cast(types.Boolean, Lanes)
def _number_to_lanes(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return splat(builder, context.cast(builder, value, source, types.float64), target.width)


@lower_cast(types.IntegerLiteral, Lanes)
def _literal_to_lanes(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return splat(builder, ir.Constant(DOUBLE, float(source.literal_value)), target.width)


@lower_cast(types.Boolean, Mask)
def _boolean_to_mask(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return splat(builder, context.cast(builder, value, source, types.boolean), target.width)


@lower_cast(Mask, Lanes)
def _mask_to_lanes(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return builder.uitofp(value, ir.VectorType(DOUBLE, target.width))


@lower_cast(LaneVector, LaneVector)
def _same_vector(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return value
