"""Sorting of values by a network of comparisons, without a branch.

The values are four columns, of as many rows as a power of two. A row is a vector: comparisons of
rows sort the columns side by side. The last two merges, of neighbouring columns and of both halves,
compare numbers in different columns: they reverse vectors.

A merge compares the first value with the last, the second with the last but one, and so on. Then
comparisons at half of the distance, at a quarter, and so on, sort both halves (Batcher's bitonic
merge). Blocks of four and of eight rows stay in registers for two and for three of these steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from ..jit.compile import borrower
from .copies import fill

COLUMNS = 4
# Rows that are sorted in registers.
_BLOCK = 8
_VECTOR = ir.VectorType(ir.DoubleType(), COLUMNS)
_INT = ir.IntType(64)

# A pair of rows is compared so that the larger numbers come to the first row.
_Pairs = list[tuple[int, int]]
_SORT = [
    (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3), (4, 5), (6, 7),
    (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6),
]  # fmt: skip
_EIGHTHS = [(k, k + d) for d in (4, 2, 1) for k in range(_BLOCK) if not k & d]
# Columns in the order in which a merge compares them with another row.
_SAME, _NEIGHBOURS, _ALL = (0, 1, 2, 3), (1, 0, 3, 2), (3, 2, 1, 0)
# The even columns of two rows, and the odd ones.
_PAIRS = (0, 4, 2, 6), (1, 5, 3, 7)


def _picked(builder: Any, one: Any, other: Any, places: Any) -> Any:
    index = ir.Constant(ir.VectorType(ir.IntType(32), COLUMNS), list(places))
    return builder.shuffle_vector(one, other, index)


def _ordered(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """The larger and the smaller of each two numbers."""
    above = builder.fcmp_ordered(">", a, b)
    return builder.select(above, a, b), builder.select(above, b, a)


def _compare(builder: Any, rows: list[Any], pairs: _Pairs) -> None:
    for a, b in pairs:
        rows[a], rows[b] = _ordered(builder, rows[a], rows[b])


def _merge_columns(builder: Any, rows: list[Any], a: int, b: int, order: tuple[int, ...]) -> None:
    """The first step of a merge of columns: compare row a with row b, whose columns are permuted.

    The columns to the left get the larger numbers.
    """
    larger, smaller = _ordered(builder, rows[a], _picked(builder, rows[b], rows[b], order))
    left = [k < order[k] for k in range(COLUMNS)]
    rows[a] = _picked(
        builder, larger, smaller, [k if left[k] else COLUMNS + k for k in range(COLUMNS)]
    )
    rows[b] = _picked(builder, larger, smaller, [COLUMNS + k if left[k] else k for k in order])


def _step(rows_of: Callable[[Any, Any, Any, Any], list[Any]], change: Any) -> Any:
    """An intrinsic that changes some rows of a table: see below."""

    @intrinsic
    def step(typing_context, address, first, distance, last):
        def generate(context, builder, signature, args):
            base = builder.inttoptr(args[0], _VECTOR.as_pointer())
            homes = [builder.gep(base, [each]) for each in rows_of(builder, *args[1:])]
            rows = [builder.load(home, align=8) for home in homes]
            change(builder, rows)
            for row, home in zip(rows, homes, strict=True):
                builder.store(row, home, align=8)
            return args[1]

        integer = types.int64
        return integer(types.uintp, integer, integer, integer), generate

    return step


def _at_distances(count: int) -> Any:
    """Rows ``first``, first + distance, first + 2 distance, and so on."""

    def rows_of(builder: Any, first: Any, distance: Any, last: Any) -> list[Any]:
        return [builder.add(first, builder.mul(distance, _INT(k))) for k in range(count)]

    return rows_of


def _from_both_ends(builder: Any, first: Any, distance: Any, last: Any) -> list[Any]:
    """Rows ``first`` and first + distance, and those as far from the end."""
    second = builder.add(first, distance)
    return [first, second, builder.sub(last, first), builder.sub(last, second)]


def _merging(order: tuple[int, ...]) -> Any:
    """The first steps of a merge, of halves of columns or of columns, on rows from both ends."""

    def change(builder: Any, rows: list[Any]) -> None:
        for a, b in ((0, 2), (1, 3)):
            if order == _SAME:
                _compare(builder, rows, [(a, b)])
            else:
                _merge_columns(builder, rows, a, b, order)
        if order == _ALL:
            for a, b in ((0, 1), (2, 3)):
                even, odd = (_picked(builder, rows[a], rows[b], each) for each in _PAIRS)
                both = _ordered(builder, even, odd)
                rows[a], rows[b] = (_picked(builder, *both, each) for each in _PAIRS)
        _compare(builder, rows, [(0, 1), (3, 2)])

    return change


def _comparing(pairs: _Pairs) -> Any:
    return lambda builder, rows: _compare(builder, rows, pairs)


_sort_eight = _step(_at_distances(_BLOCK), _comparing(_SORT))
_clean_eighths = _step(_at_distances(_BLOCK), _comparing(_EIGHTHS))
_clean_quarters = _step(_at_distances(4), _comparing([(0, 2), (1, 3), (0, 1), (2, 3)]))
_merge_halves = _step(_from_both_ends, _merging(_SAME))
_merge_neighbours = _step(_from_both_ends, _merging(_NEIGHBOURS))
_merge_all = _step(_from_both_ends, _merging(_ALL))


@intrinsic
def _transpose(typing_context, address, row, rows, out):
    """Copy four rows of a table to places ``row`` of the columns, of which each is contiguous."""

    def generate(context, builder, signature, args):
        address, row, length, out = args
        base = builder.inttoptr(address, _VECTOR.as_pointer())
        a, b, c, d = (
            builder.load(builder.gep(base, [builder.add(row, _INT(k))]), align=8) for k in range(4)
        )
        even, odd = ([_picked(builder, x, y, each) for x, y in ((a, b), (c, d))] for each in _PAIRS)
        columns = [
            _picked(builder, *pair, places)
            for places in ((0, 1, 4, 5), (2, 3, 6, 7))
            for pair in (even, odd)
        ]
        target = builder.inttoptr(out, ir.DoubleType().as_pointer())
        for k, column in enumerate(columns):
            place = builder.gep(target, [builder.add(row, builder.mul(length, _INT(k)))])
            builder.store(column, builder.bitcast(place, _VECTOR.as_pointer()), align=8)
        return row

    integer = types.int64
    return integer(types.uintp, integer, integer, types.uintp), generate


@borrower
def _clean(table, rows, distance):
    """The steps of a merge at half of a distance, at a quarter, and so on."""
    half = distance // 2
    while half > 0 and 2 * half != _BLOCK:
        for block in range(0, rows, 2 * half):
            for i in range(block, block + half // 2):
                _clean_quarters(table, i, half // 2, 0)
        half //= 4
    if half > 0:
        for block in range(0, rows, _BLOCK):
            _clean_eighths(table, block, 1, 0)


@borrower
def _sort_table(table, rows):
    """Sort a table of four columns, descending from column to column."""
    for block in range(0, rows, _BLOCK):
        _sort_eight(table, block, 1, 0)
    height = 2 * _BLOCK
    while height <= rows:
        quarter = height // 4
        for block in range(0, rows, height):
            for i in range(block, block + quarter):
                _merge_halves(table, i, quarter, 2 * block + height - 1)
        _clean(table, rows, quarter)
        height *= 2
    for i in range(rows // 4):
        _merge_neighbours(table, i, rows // 2, rows - 1)
    _clean(table, rows, rows // 2)
    for i in range(rows // 4):
        _merge_all(table, i, rows // 2, rows - 1)
    _clean(table, rows, rows // 2)


@borrower
def room_to_sort(n):
    """Length of the arrays that `sort_values` needs for n values."""
    rows = _BLOCK
    while COLUMNS * rows < n:
        rows *= 2
    return COLUMNS * rows


def sort_values(x: Any, n: int, out: Any) -> None:
    """out[:n] = x[:n], descending; none is NaN. Both have `room_to_sort`; x is overwritten.

    The numbers 0 and -0 are equal: their order is that of the network.
    """
    out[:n] = sorted(x[:n], reverse=True)


@borrower
def _sort_values(x, n, out):
    size = room_to_sort(n)
    rows = size // COLUMNS
    fill(x[n:], size - n, float("-inf"))
    table = x.ctypes.data
    _sort_table(table, rows)
    for row in range(0, rows, 4):
        _transpose(table, row, rows, out.ctypes.data)


@overload(sort_values)
def _sort_values_overload(x, n, out):
    return lambda x, n, out: _sort_values(x, n, out)


@borrower
def sort_copy(x, n, spare, out):
    """out[:n] = x[:n], descending; NaN and -inf come last, as -inf, and zeros have no sign.

    ``spare`` and ``out`` have `room_to_sort`.
    """
    rises = 0
    for k in range(1, n):
        # NaN rises, too.
        rises += 0 if x[k] <= x[k - 1] else 1
    target = spare if rises > 0 else out
    for k in range(n):
        target[k] = x[k] + 0.0 if x[k] > float("-inf") else float("-inf")
    if rises > 0:
        sort_values(spare, n, out)
