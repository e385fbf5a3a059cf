"""Layout of tables as text and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from .validation import Floats, Integers

# Columns of text that a table may take.
_WIDTH = 100
# From here on, decimals are none of a float's digits.
_WIDEST = 1e16
_FLOAT_DIGITS = 17


Classes = Sequence[tuple[str, str, NDArray[np.bool_]]]


def pareto_k_table(classes: Classes, ess: Floats | None = None) -> str:
    """Number of data points in each class of Pareto k-hat, as ArviZ and the R package loo print it.

    Parameters
    ----------
    classes : sequence of (str, str, ndarray of bool)
        Interval and name of each class, and a flag for each data point that is in it; see
        `fastelbo.weights.pareto.pareto_k_classes`.
    ess : ndarray, optional
        Effective sample size of each data point. A column shows the least of each class.

    Examples
    --------
    >>> import numpy as np
    >>> from fastelbo.weights.pareto import pareto_k_classes
    >>> from fastelbo.tables import pareto_k_table
    >>> print(pareto_k_table(pareto_k_classes(np.array([0.1, 0.4, 0.8]), 0.7)))
    Pareto k-hat     class  data points       %
    (-inf, 0.70]      good            2  66.7 %
       (0.70, 1]       bad            1  33.3 %
        (1, inf)  very bad            0   0.0 %
    """
    return format_table(pareto_k_rows(classes, ess))


def pareto_k_rows(classes: Classes, ess: Floats | None = None) -> list[list[str]]:
    """The cells of `pareto_k_table`, headings first."""
    table = [["Pareto k-hat", "class", "data points", "%"]]
    if ess is not None:
        table[0].append("least ESS")
    for interval, name, flags in classes:
        count = int(flags.sum())
        table.append([interval, name, str(count), f"{100.0 * count / max(1, flags.size):.1f} %"])
        if ess is not None:
            least = float(ess.min(where=flags, initial=np.inf))
            table[-1].append(f"{least:.0f}" if np.isfinite(least) else "-")
    return table


def html_table(rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table for a notebook. The first row has the headings. All text is escaped.

    The table loads no external resources.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows[1:])
    return (
        f'<table style="text-align: right">\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{line(rows[0], 'th')}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    )


def format_cell(value: Floats | Integers, se: Floats | None, index: tuple[int, ...]) -> str:
    """A value and its standard error, rounded to two digits of the error; a count as it is."""
    if np.asarray(value).dtype.kind == "i":
        return str(value)
    number = float(np.asarray(value).item())
    if se is None:
        return fixed(number, 2 if abs(number) < 10.0 else 1)
    error = float(np.asarray(se[index]).item())
    if np.isnan(error):
        return fixed(number, 4)
    if error in (0.0, np.inf):
        return f"{fixed(number, 4)} +- {error:g}"
    digits = decimals(error)
    return f"{fixed(number, digits)} +- {fixed(error, digits)}"


def interval_cell(value: Floats, low: Floats, high: Floats) -> str:
    """A value and its interval, or its one end; nothing where there is none."""
    number, least, most = (float(part) for part in (value, low, high))
    ends = ends_cell(value, low, high)
    if not (least < most and np.isfinite(number)) or ends == "-":
        return ""
    if np.isinf(least) or np.isinf(most):
        return ends
    return f"{fixed(number, _interval_decimals(least, most))} in {ends}"


def ends_cell(value: Floats, low: Floats, high: Floats) -> str:
    """The ends of the interval of a value, or its one end; ``-`` where there is none."""
    number, least, most = (float(part) for part in (value, low, high))
    if np.isnan(least + most) or (np.isinf(least) and np.isinf(most)):
        return "-"
    if most == np.inf:
        return f"> {fixed(least, decimals(number - least))}"
    if least == -np.inf:
        return f"< {fixed(most, decimals(most - number))}"
    digits = _interval_decimals(least, most)
    return f"[{fixed(least, digits)}, {fixed(most, digits)}]"


def _interval_decimals(low: float, high: float) -> int:
    """As those of a standard error, of which an interval is four wide."""
    return decimals(0.25 * (high - low))


def decimals(error: float) -> int:
    """Decimals that show two digits of an error; four where it is 0 or infinite."""
    if not 0.0 < error < np.inf:
        return 4
    return min(12, max(0, 1 - int(np.floor(np.log10(error)))))


def fixed(number: float, digits: int) -> str:
    """A number with that many decimals, as far as floats go; scientific from 1e16 on."""
    if _WIDEST <= abs(number) < np.inf:
        return f"{number:.6e}"
    if 1.0 <= abs(number) < np.inf:
        before = int(np.log10(abs(number))) + 1
        digits = min(digits, max(2, _FLOAT_DIGITS - before))
    return f"{number:.{digits}f}"


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns, aligned to the right under their headings.

    A table wider than 100 characters continues below, with its first column again.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n\n".join(
        "\n".join("  ".join(row[column].rjust(widths[column]) for column in part) for row in rows)
        for part in _parts(widths)
    )


def _parts(widths: Sequence[int]) -> list[list[int]]:
    """Which columns stand side by side: the first one, and as many others as fit."""
    parts, used = [[0]], widths[0]
    for column, width in enumerate(widths[1:], 1):
        if len(parts[-1]) > 1 and used + 2 + width > _WIDTH:
            parts.append([0])
            used = widths[0]
        parts[-1].append(column)
        used += 2 + width
    return parts
