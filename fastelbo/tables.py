"""What is printed of results: the data points by class of k-hat, and tables for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from .results import format_table
from .validation import Floats


def pareto_k_table(pareto_k: Floats, threshold: float, ess: Floats | None = None) -> str:
    """Data points by class of Pareto k-hat, as ArviZ and the R package loo print them.

    Parameters
    ----------
    pareto_k : ndarray
        k-hat of each data point.
    threshold : float
        The k-hat up to which an estimate can be trusted, ``min(1 - 1 / log10 K, 0.7)``.
    ess : ndarray, optional
        Effective sample sizes, of the same shape; their least in each class is then a column.

    Returns
    -------
    str
        A line a class: up to the threshold (good), up to 1 (bad), above (very bad), and those
        without a k-hat if there are any.

    Examples
    --------
    >>> import numpy as np
    >>> from fastelbo.tables import pareto_k_table
    >>> print(pareto_k_table(np.array([0.1, 0.4, 0.8]), 0.7))
    Pareto k-hat     class  data points       %
    (-inf, 0.70]      good            2  66.7 %
       (0.70, 1]       bad            1  33.3 %
        (1, inf)  very bad            0   0.0 %
    """
    classes = []
    # One draw, or a sum without draws, has no k-hat and no threshold.
    if threshold > -np.inf:
        classes = [
            (f"(-inf, {threshold:.2f}]", "good", pareto_k <= threshold),
            (f"({threshold:.2f}, 1]", "bad", (pareto_k > threshold) & (pareto_k <= 1.0)),
            ("(1, inf)", "very bad", pareto_k > 1.0),
        ]
    unknown = np.isnan(pareto_k)
    if unknown.any():
        classes.append(("NaN", "unknown", unknown))
    table = [["Pareto k-hat", "class", "data points", "%"]]
    if ess is not None:
        table[0].append("least ESS")
    for interval, name, flags in classes:
        count = int(flags.sum())
        table.append([interval, name, str(count), f"{100.0 * count / max(1, flags.size):.1f} %"])
        if ess is not None:
            least = float(ess.min(where=flags, initial=np.inf))
            table[-1].append(f"{least:.0f}" if np.isfinite(least) else "-")
    return format_table(table)


def html_table(rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table for a notebook: headings first, all text escaped, nothing from outside of it."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows[1:])
    return (
        f'<table style="text-align: right">\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{line(rows[0], 'th')}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    )
