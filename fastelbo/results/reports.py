"""A whole estimate as a text to read, and as JSON."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from ..tables import format_cell, format_table, interval_cell
from ..version import __version__
from ..weights.pareto import k_threshold
from .estimate import Estimate
from .total import Total

_LEVEL = 0.95
# The sums that log weights alone give.
_SUMS = ("log_evidence", "elbo")


def as_text(estimate: Estimate) -> str:
    """Summary, classes of k-hat and, of several data points, the total.

    Parameters
    ----------
    estimate : Estimate
        Of any batch.

    Returns
    -------
    str
        Lines for a terminal.

    Examples
    --------
    >>> import fastelbo as fe
    >>> from fastelbo.results.reports import as_text
    >>> p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=1.25)
    >>> print(as_text(fe.estimate(p, q, n_samples=1000, rng=0)).splitlines()[0])
    1 data point, K = 1000 draws; estimates in nats +- standard errors
    """
    count = estimate.log_evidence.size
    points = "1 data point" if count == 1 else f"{count} data points"
    summary = estimate.summary()
    errors = "standard errors"
    if " in [" in summary:
        errors += ", or in [95 % interval]"
    if " > " in summary:
        errors += ", or > the lower end of a 95 % interval without an upper one"
    parts = [
        f"{points}, K = {estimate.n_samples} draws; estimates in nats +- {errors}",
        summary,
        estimate.pareto_k_table(),
    ]
    if count > 1:
        parts.append(_total_text(estimate))
    return "\n\n".join(parts)


def as_json(estimate: Estimate) -> str:
    """One JSON object of all that an estimate holds.

    Parameters
    ----------
    estimate : Estimate
        Of any batch.

    Returns
    -------
    str
        The arrays of `Estimate.to_dict` as nested lists under their names, ``batch_shape``,
        ``iw_sizes``, ``pareto_k_threshold``, ``version``, ``stream_version``,
        ``log_evidence_interval``, the lower and upper ends of the 95 % intervals, and ``total``:
        null for one data point, and where there is none; with its ``log_evidence_interval``. NaN
        and infinities, which JSON does not know, are null.

    Examples
    --------
    >>> import json
    >>> import fastelbo as fe
    >>> from fastelbo.results.reports import as_json
    >>> p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=1.25)
    >>> json.loads(as_json(fe.estimate(p, q, n_samples=1000, rng=0)))["iw_sizes"]
    [10, 100]
    """
    total = None
    if estimate.log_evidence.size > 1:
        total, _ = _total(estimate)
    return json.dumps(
        {
            "version": __version__,
            "stream_version": estimate.stream_version,
            "batch_shape": estimate.batch_shape,
            "iw_sizes": estimate.iw_sizes,
            "pareto_k_threshold": _plain(k_threshold(estimate.n_samples)),
            **{name: _plain(value) for name, value in estimate.to_dict().items()},
            "log_evidence_interval": _plain(
                list(estimate.confidence_interval("log_evidence", _LEVEL))
            ),
            "total": total and _total_object(total),
        },
        allow_nan=False,
    )


def _total(estimate: Estimate) -> tuple[Total | None, str]:
    """The total, or the reason why there is none."""
    try:
        return estimate.total(), ""
    except InvalidInputError as error:
        return None, str(error)


def _total_object(total: Total) -> dict[str, Any]:
    names = [each.name for each in fields(total) if each.repr]
    return {
        **{name: _plain(getattr(total, name)) for name in names},
        "log_evidence_interval": _plain(total.confidence_interval("log_evidence", _LEVEL)),
    }


def _total_text(estimate: Estimate) -> str:
    total, reason = _total(estimate)
    if total is None:
        return f"No total: {reason}"
    rows = [[f"sum over {total.n_points} data points", *_SUMS]]
    values = [(getattr(total, name), getattr(total, f"{name}_se")) for name in _SUMS]
    cells = [format_cell(np.array(value), np.array(se), ()) for value, se in values]
    if np.isnan(total.log_evidence_se):
        interval = map(np.array, total.confidence_interval("log_evidence", _LEVEL))
        cells[0] = interval_cell(np.array(total.log_evidence), *interval) or cells[0]
    rows.append(["", *cells])
    if not np.isfinite(total.log_evidence):
        return format_table(rows)
    correction = f"The log_evidence has {total.bias_correction:.3g} nats added for its bias, v/2K."
    return f"{format_table(rows)}\n{correction}"


def _plain(value: Any) -> Any:
    """Numbers and nested lists of them, with None for what JSON has no number for."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
