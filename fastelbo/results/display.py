"""An estimate as text and as HTML: the table of its data points, and the line of its repr."""

from __future__ import annotations

import itertools

import numpy as np

from ..tables import format_cell, format_table, html_table, interval_cell
from ..validation import Floats, Integers
from ..weights.pareto import in_words
from ..weights.scaled import mean_and_error
from .fields import Fields
from .intervals import evidence_interval
from .names import QUANTITIES

_HTML_ROWS = 10
_LEVEL = 0.95


def summary(estimate: Fields, max_rows: int) -> str:
    """The table of the first data points; see `Estimate.summary`."""
    text, left_out = format_table(_rows(estimate, max_rows)), estimate.log_evidence.size - max_rows
    if left_out > 0:
        text = f"{text}\n... {left_out} more"
    return f"{text}\n{estimate._note}" if estimate._note else text


def html(estimate: Fields) -> str:
    """The table of the first data points, for notebooks."""
    left_out = estimate.log_evidence.size - _HTML_ROWS
    more = f"; {left_out} more data points" if left_out > 0 else ""
    return html_table(_rows(estimate, _HTML_ROWS), f"{estimate!r}, in nats{more}")


def line(estimate: Fields) -> str:
    """What the estimate is, in one line."""
    evidence, elbo, ess = estimate.log_evidence, estimate.elbo, estimate.ess
    draws = f"n_samples={in_words(estimate.n_samples)}"
    if estimate.proposals > 1:
        draws += f", proposals={estimate.proposals}"
    if estimate.replicates > 1:
        draws += f", sampler={estimate.sampler!r}, replicates={estimate.replicates}"
        worth = _worth(estimate.variance_ratio)
    elif evidence.size == 1:
        worth = f"ess={ess.item():.4g}"
    else:
        worth = f"least ess={ess.min(initial=np.inf):.4g}"
    if evidence.size == 1:
        inside = f"log_evidence={format_cell(evidence, estimate.log_evidence_se, ())}, "
        inside += f"elbo={format_cell(elbo, estimate.elbo_se, ())}"
    else:
        inside = f"{evidence.size} data points, mean log_evidence={_mean(evidence):.6g}, "
        inside += f"mean elbo={_mean(elbo):.6g}"
    return f"Estimate({inside}, {worth}, {draws})"


def _worth(variance_ratio: Floats) -> str:
    """By how much replicates cut the variance of independent draws, at the least."""
    known = variance_ratio[~np.isnan(variance_ratio)]
    least = f"{known.min():.3g}" if known.size else "nan"
    return f"{'least ' if variance_ratio.size > 1 else ''}variance_ratio={least}"


def _rows(estimate: Fields, max_rows: int) -> list[list[str]]:
    """The cells of the table, headings first."""
    columns: list[tuple[str, Floats | Integers, Floats | None]] = [
        (name, getattr(estimate, name), getattr(estimate, f"{name}_se"))
        for name in QUANTITIES
        # Skip quantities that are NaN because log weights alone do not determine them.
        if not estimate.log_evidence.size or not np.isnan(getattr(estimate, name)).all()
    ]
    columns += [(f"iw_elbo({k})", *estimate.iw_elbo(k)) for k in estimate.iw_sizes]
    if estimate.replicates > 1:
        # The ESS of weights is not the number of draws that quasi-random ones are worth.
        columns += [("variance_ratio", estimate.variance_ratio, None)]
        columns += [("ess/K", estimate.ess / estimate.n_samples, None)]
    else:
        columns += [("ess", estimate.ess, None)]
    columns += [("pareto_k", estimate.pareto_k, None)]
    if np.ndim(estimate.n_samples):
        columns += [("n_samples", np.asarray(estimate.n_samples), None)]
    if not np.isnan(estimate.pareto_k_elbo).all():
        columns += [("pareto_k_elbo", estimate.pareto_k_elbo, None)]
    table = [["", *(name for name, _, _ in columns)]]
    for index in itertools.islice(np.ndindex(estimate.batch_shape), max_rows):
        label = ",".join(map(str, index))
        cells = [format_cell(v[index], s, index) for _, v, s in columns]
        cells[0] = _interval(estimate, index) or cells[0]
        table.append([label, *cells])
    return table


def _interval(estimate: Fields, index: tuple[int, ...]) -> str:
    """Log evidence and its interval if its standard error is NaN, else an empty text."""
    unknown = estimate._tail is None and estimate.replicates == 1
    if unknown or not np.isnan(estimate.log_evidence_se[index]):
        return ""
    ends = evidence_interval(estimate, _LEVEL, index)
    return interval_cell(np.asarray(estimate.log_evidence[index]), *ends)


def _mean(values: Floats) -> float:
    return float(mean_and_error(values.reshape(1, -1))[0][0]) if values.size else float("nan")
