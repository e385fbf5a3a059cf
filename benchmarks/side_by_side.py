"""Tables of two kinds of machine in one: a cell has the number of each, as ``14.6 / 41.0``.

A run on one kind replaces its numbers and keeps the other's. A cell with a single number has it
from the first kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# The instruction sets, from left to right, and their names in `fastelbo.kernels.jit.targets`.
KINDS = {"AVX-512": "AVX-512", "AVX2 + FMA": "AVX2"}
NONE = "-"
Cells = dict[str, dict[str, str]]  # by row and column


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, with numbers from its second column on."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def read(text: str) -> dict[str, Cells]:
    """The tables of a text, by the first cell of their headers."""
    tables: dict[str, Cells] = {}
    for table in re.findall(r"(?m)(?:^\|.*\n?)+", text):
        (corner, *columns), _, *rows = (
            # A cell may have a bar, behind a backslash.
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
            for line in table.splitlines()
        )
        tables[corner] = {name: dict(zip(columns, row, strict=True)) for name, *row in rows}
    return tables


def beside(old: str, new: str, target: str, order: Sequence[str] = ()) -> str:
    """The text ``new`` of a run on a target, with the numbers of the other kind from ``old``.

    Paragraphs are tables and, at the end, one line about the machine. ``order`` is that of columns
    that only one of the kinds may have.
    """
    kind = KINDS[target]
    place = list(KINDS.values()).index(kind)
    *_, line = new.split("\n\n")
    before, now = read(old), read(new)
    tables = [_joined(corner, before.get(corner, {}), now.get(corner, {}), place, order)
              for corner in {**now, **before}]  # fmt: skip
    lines = dict(re.findall(rf"(?m)^- ({'|'.join(KINDS.values())}): (.*)$", old))
    lines[kind] = line[0].lower() + line[1:]
    about = [f"- {each}: {lines[each]}" for each in KINDS.values() if each in lines]
    return "\n\n".join([*filter(None, tables), "\n".join(about)])


def _joined(corner: str, old: Cells, new: Cells, place: int, order: Sequence[str]) -> str:
    """A table of both; without the rows and columns in which no number is left."""
    rows = list({**new, **old})
    both = [*new.values(), *old.values()]
    columns = list(dict.fromkeys(name for row in both for name in row))
    columns.sort(key=lambda name: order.index(name) if name in order else len(order))
    cells = {
        row: {
            name: _cell(old.get(row, {}).get(name, NONE), new.get(row, {}).get(name, NONE), place)
            for name in columns
        }
        for row in rows
    }
    rows = [row for row in rows if any(_is_number(cell) for cell in cells[row].values())]
    columns = [name for name in columns if any(cells[row][name] != NONE for row in rows)]
    table = ([row, *(cells[row][name] for name in columns)] for row in rows)
    return markdown([corner, *columns], table) if rows else ""


def _is_number(cell: str) -> bool:
    return cell[0].isdigit() or " / " in cell


def _cell(old: str, new: str, place: int) -> str:
    """One cell. A word, such as a unit, is the same for both kinds."""
    if not all(_is_number(each) or each == NONE for each in (old, new)):
        return old if new == NONE else new
    both = [*old.split(" / "), NONE][: len(KINDS)]
    both[place] = new
    return NONE if set(both) == {NONE} else " / ".join(both)


def shortened(text: str, full: str) -> str:
    """The text, whose tables have cells of tables of ``full``, with what these say now."""
    tables = read(full)
    for corner, cells in read(text).items():
        if corner in tables:
            now = tables[corner]
            rows = [
                [row, *(now.get(row, {}).get(name, cell) for name, cell in of_row.items())]
                for row, of_row in cells.items()
            ]
            table = markdown([corner, *next(iter(cells.values()))], rows) + "\n"
            pattern = rf"(?m)^\| {re.escape(corner)} \|.*\n(?:\|.*\n?)+"
            before, after = re.split(pattern, text, maxsplit=1)
            text = before + table + after
    return text
