"""Columns of numbers in a text file, with or without their names in its first line."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np

from ..errors import FastElboWarning
from ..inner_warnings import warn
from ..validation import Floats
from .choice import Choice, ChoiceError, listed

_COMMENT = "#"
_DELIMITERS = ("\t", ";", ",")
# What stands for a missing number cannot be told from a name.
_MISSING = {"", "na", "n/a", "null", "none", "."}
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r"))


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file can be text."""
    return head.startswith(_BYTE_ORDER_MARKS) or head.translate(None, _CONTROL) == head


@dataclass(frozen=True)
class Table:
    """A text file of which the first lines were read.

    Attributes
    ----------
    names : list of str
        The names of the columns; empty if the file has none. The name of a first column of row
        names, as pandas and R write them, is empty.
    n_columns : int
        Number of columns, that of row names included.
    comments : list of str
        The comment lines above the numbers.
    is_one_row : bool
        Whether the file has one line of numbers.
    """

    names: list[str]
    n_columns: int
    comments: list[str]
    is_one_row: bool
    _delimiter: str | None
    _lines: Iterator[str]

    def read(self, columns: list[int]) -> Floats:
        """The numbers in these columns, of shape (rows, columns). It can be called once."""
        # Without a choice of columns, NumPy checks that all rows have as many.
        chosen = None if columns == list(range(self.n_columns)) else columns
        try:
            return np.loadtxt(
                self._lines, delimiter=self._delimiter, comments=_COMMENT, quotechar='"',
                usecols=chosen, ndmin=2,
            )  # fmt: skip
        except ValueError as error:
            # NumPy counts rows from 0 where it names a column, which is one of the chosen ones.
            text, _, _ = str(error).partition(";")
            text = re.sub(
                r" at row (\d+)(, column \d+)?\.?",
                lambda found: f" in row {int(found[1]) + bool(found[2])} of the numbers",
                text,
            )
            raise ValueError(text) from error

    def columns(self) -> list[int]:
        """The columns that are not row names."""
        first = 1 if self.names and not self.names[0] and self.n_columns > 1 else 0
        return list(range(first, self.n_columns))

    def find(self, column: str) -> int | None:
        """The column of this name, or else of this number, from 1; None if there is none."""
        if column in self.names:
            return self.names.index(column)
        if column.isdecimal() and 1 <= int(column) <= self.n_columns:
            return int(column) - 1
        return None

    def listed(self) -> str:
        """The names of the columns, or their numbers."""
        return listed([self.names[j] if self.names else str(j + 1) for j in self.columns()])


def read_columns(table: Table, choice: Choice, path: str) -> Floats:
    """The log weights: the column that is chosen, the only one, the only row, or the whole table.

    Columns may be data points with draws below each other, or the other way round. So the caller
    must know the axis of the draws, if there are several columns and rows.
    """
    if choice.column is not None:
        found = table.find(choice.column)
        if found is None:
            raise ChoiceError(
                f"column must be one of the columns in {path} ({table.listed()}) or a number from "
                f"1 to {table.n_columns}, got {choice.column!r}"
            )
        return table.read([found])[:, 0]
    columns = table.columns()
    if choice.axis is not None:
        return table.read(columns)
    if len(columns) > 1 and not table.is_one_row:
        raise ChoiceError(
            f"column must be one of the columns in {path} ({table.listed()}), or axis must be 0 "
            "(each column is a data point) or 1 (each row is one), got neither"
        )
    return table.read(columns).reshape(-1)


@contextmanager
def open_table(stream: IO[bytes], head: bytes) -> Iterator[Table]:
    """The table in a text file, to be read before the stream is closed."""
    encoding = "utf-16" if head.startswith(_BYTE_ORDER_MARKS) else "utf-8-sig"
    lines = io.TextIOWrapper(stream, encoding, errors="replace")
    try:
        yield _table(lines)
    finally:
        # The stream is the caller's to close.
        lines.detach()


def _table(lines: Iterator[str]) -> Table:
    """Read the first lines: comments, names and what separates the columns."""
    comments: list[str] = []
    start = list(itertools.islice(_content(lines, comments), 2))
    if not start:
        raise ValueError("it has no numbers")
    # The numbers, if there are any, tell what separates columns; a name may have a space in it.
    delimiter = next((each for each in _DELIMITERS if each in start[-1]), None)
    first, last = (_fields(line, delimiter) for line in (start[0], start[-1]))
    names: list[str] = []
    if len(start) == 1 and not any(map(_is_number, first)):
        raise ValueError(f"it has no numbers: its only line is {start[0].strip()[:50]!r}")
    if len(start) == 2:
        names = _names(first, last) or ([start[0].strip()] if _is_title(first, last) else [])
    if not names and len(first) != len(last):
        raise ValueError(f"its first lines have {len(first)} and {len(last)} columns")
    numbers = start[1:] if names else start
    return Table(
        names, len(last), comments, len(start) == 1, delimiter, itertools.chain(numbers, lines)
    )  # fmt: skip


def _content(lines: Iterator[str], comments: list[str]) -> Iterator[str]:
    """The lines that are neither comments nor blank."""
    for line in lines:
        if line.lstrip().startswith(_COMMENT):
            comments.append(line)
        elif line.strip():
            yield line


def _fields(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        line, delimiter = " ".join(line.split()), " "
    return [each.strip() for each in next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter))]


def _names(first: list[str], second: list[str]) -> list[str]:
    """The names in the first line, or none if it has numbers; ``second`` is the line below it."""
    texts = list(map(_is_text, first))
    if len(first) + 1 == len(second) and all(texts) and any(map(_is_number, second[1:])):
        # R writes no name above its row names.
        return ["", *first]
    if len(first) != len(second):
        return []
    pairs = zip(texts, second, strict=True)
    if any(text and _is_number(below) for text, below in pairs):
        return first
    # pandas numbers columns without names, from 0.
    numbered = first[1:] if first[0] == "" else first
    counted = numbered == [str(j) for j in range(len(numbered))]
    if not counted or all(each.lstrip("+-").isdecimal() for each in second[-len(numbered) :]):
        return []
    if numbered == first:
        warn(
            f"the first line, {','.join(first[:5])}, is taken for the numbers of columns, as "
            "pandas writes them, not for log weights",
            FastElboWarning,
            stacklevel=8,
        )
    return first


def _is_title(first: list[str], second: list[str]) -> bool:
    """Whether the first line is the name, of several words, of a single column of numbers."""
    return len(second) == 1 and _is_number(second[0]) and all(map(_is_text, first))


def _is_text(field: str) -> bool:
    return not _is_number(field) and field.lower() not in _MISSING


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
