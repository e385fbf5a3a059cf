"""An estimate as text and as HTML: the table of its data points, and the line of its repr."""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np

from ..plotting import Drawable
from ..tables import format_cell, format_table, html_table, interval_cell
from ..validation import Floats
from ..weights.scaled import mean_and_error
from ..weights.tail_intervals import tail_interval
from .total import QUANTITIES

_HTML_ROWS = 10


class Displayed(Drawable, Protocol):
    """The attributes of a `fastelbo.Estimate` that its table reads, besides those of figures."""

    @property
    def elbo(self) -> Floats: ...
    @property
    def elbo_se(self) -> Floats: ...
    @property
    def ess(self) -> Floats: ...
    @property
    def relative_variance(self) -> Floats: ...
    @property
    def pareto_k_elbo(self) -> Floats: ...
    @property
    def _note(self) -> str: ...
    @property
    def _tail(self) -> Floats | None: ...


def summary(estimate: Displayed, max_rows: int) -> str:
    """The table of the first data points; see `Estimate.summary`."""
    text, left_out = format_table(_rows(estimate, max_rows)), estimate.log_evidence.size - max_rows
    if left_out > 0:
        text = f"{text}\n... {left_out} more"
    return f"{text}\n{estimate._note}" if estimate._note else text


def html(estimate: Displayed) -> str:
    """The table of the first data points, for notebooks."""
    left_out = estimate.log_evidence.size - _HTML_ROWS
    more = f"; {left_out} more data points" if left_out > 0 else ""
    return html_table(_rows(estimate, _HTML_ROWS), f"{estimate!r}, in nats{more}")


def line(estimate: Displayed) -> str:
    """What the estimate is, in one line."""
    evidence, elbo, ess = estimate.log_evidence, estimate.elbo, estimate.ess
    if evidence.size == 1:
        inside = f"log_evidence={format_cell(evidence, estimate.log_evidence_se, ())}, "
        inside += f"elbo={format_cell(elbo, estimate.elbo_se, ())}, ess={ess.item():.4g}"
    else:
        inside = f"{evidence.size} data points, mean log_evidence={_mean(evidence):.6g}, "
        inside += f"mean elbo={_mean(elbo):.6g}, least ess={ess.min(initial=np.inf):.4g}"
    return f"Estimate({inside}, n_samples={estimate.n_samples})"


def _rows(estimate: Displayed, max_rows: int) -> list[list[str]]:
    """The cells of the table, headings first."""
    columns: list[tuple[str, Floats, Floats | None]] = [
        (name, getattr(estimate, name), getattr(estimate, f"{name}_se"))
        for name in QUANTITIES
        # Skip quantities that are NaN because log weights alone do not determine them.
        if not estimate.log_evidence.size or not np.isnan(getattr(estimate, name)).all()
    ]
    columns += [(f"iw_elbo({k})", *estimate.iw_elbo(k)) for k in estimate.iw_sizes]
    columns += [("ess", estimate.ess, None), ("pareto_k", estimate.pareto_k, None)]
    if not np.isnan(estimate.pareto_k_elbo).all():
        columns += [("pareto_k_elbo", estimate.pareto_k_elbo, None)]
    table = [["", *(name for name, _, _ in columns)]]
    for index in itertools.islice(np.ndindex(estimate.batch_shape), max_rows):
        label = ",".join(map(str, index))
        cells = [format_cell(v[index], s, index) for _, v, s in columns]
        cells[0] = _interval(estimate, index) or cells[0]
        table.append([label, *cells])
    return table


def _interval(estimate: Displayed, index: tuple[int, ...]) -> str:
    """Log evidence and its interval if its standard error is NaN, else an empty text."""
    if estimate._tail is None or not np.isnan(estimate.log_evidence_se[index]):
        return ""
    value, v, tail = (
        np.asarray(each[index])
        for each in (estimate.log_evidence, estimate.relative_variance, estimate._tail)
    )
    return interval_cell(value, *tail_interval(estimate.n_samples, value, v, tail))


def _mean(values: Floats) -> float:
    return float(mean_and_error(values.reshape(1, -1))[0][0]) if values.size else float("nan")
