"""Vectors of lanes, for intrinsics that keep the sums of a row of a block in registers.

A loop over lanes that LLVM vectorises keeps nothing in registers from one coordinate to the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ..jit.targets import vector_bits

_FLAGS = ("contract",)


class LaneVectors:
    """Operations on lists of vectors, all as wide as a register, in code that a builder makes."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        kind = context.get_value_type(dtype)
        self.lanes = vector_bits() // dtype.bitwidth
        self._builder, self._align = builder, dtype.bitwidth // 8
        self._vector = ir.VectorType(kind, self.lanes)

    def splat(self, number: Any) -> Any:
        """A vector that has one number in all lanes."""
        none, word = ir.Constant(self._vector, ir.Undefined), ir.IntType(32)
        one = self._builder.insert_element(none, number, word(0))
        same = ir.Constant(ir.VectorType(word, self.lanes), [0] * self.lanes)
        return self._builder.shuffle_vector(one, none, same)

    def room(self, count: int) -> list[Any]:
        """Places for vectors, which become registers."""
        return [cgutils.alloca_once(self._builder, self._vector) for _ in range(count)]

    def places(self, data: Any, start: Any, count: int) -> list[Any]:
        """Where the vectors from element ``start`` of an array on are."""
        offsets = [start.type(each * self.lanes) for each in range(count)]
        starts = [self._builder.gep(data, [self._builder.add(start, by)]) for by in offsets]
        return [self._builder.bitcast(each, self._vector.as_pointer()) for each in starts]

    def load(self, places: Iterable[Any]) -> list[Any]:
        return [self._builder.load(place, align=self._align) for place in places]

    def store(self, vectors: Iterable[Any], places: Iterable[Any]) -> None:
        for each, place in zip(vectors, places, strict=True):
            self._builder.store(each, place, align=self._align)

    def add_products(self, totals: list[Any], ones: list[Any], others: list[Any]) -> list[Any]:
        """totals + ones others, each rounded once where the processor can."""
        return [
            self._builder.fadd(self._builder.fmul(one, other, flags=_FLAGS), total, flags=_FLAGS)
            for total, one, other in zip(totals, ones, others, strict=True)
        ]

    def squares(self, numbers: list[Any]) -> list[Any]:
        """Squares, each rounded."""
        return [self._builder.fmul(each, each) for each in numbers]
