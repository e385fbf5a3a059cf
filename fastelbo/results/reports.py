"""A report of an estimate as text, and as JSON."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from ..tables import ends_cell, format_cell, format_table
from ..version import __version__
from ..weights.pareto import in_words, k_limit
from .estimate import Estimate
from .total import Total

_LEVEL = 0.95
_INTERVALS = "95 % interval of log_evidence"
_NO_K = "No Pareto k-hat: there are too few draws, or all weights are equal."
# As many data points as a summary shows.
_MOST_ROWS = 10
# The sums that log weights alone determine.
_SUMS = ("log_evidence", "elbo")


def as_text(estimate: Estimate) -> str:
    """The summary, intervals, the classes of k-hat and, for several data points, the total.

    Parameters
    ----------
    estimate : Estimate
        An estimate with any batch shape.

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
        f"{points}, {_draws(estimate)}; estimates in nats +- {errors}",
        summary,
        _intervals_text(estimate),
        # The classes of too few draws have no sense: their limit is below 0.
        estimate.pareto_k_table() if np.isfinite(estimate.pareto_k).any() else _NO_K,
    ]
    if count > 1:
        parts.append(_total_text(estimate))
    return "\n\n".join(parts)


def _draws(estimate: Estimate) -> str:
    text = f"K = {in_words(estimate.n_samples)} draws"
    return f"{text} in {estimate.replicates} replicates" if estimate.replicates > 1 else text


def as_json(estimate: Estimate) -> str:
    """All values of an estimate as one JSON object.

    Parameters
    ----------
    estimate : Estimate
        An estimate with any batch shape.

    Returns
    -------
    str
        A JSON object. It has the entries of `Estimate.to_dict`, arrays as nested lists, and
        ``batch_shape``, ``iw_sizes``, ``pareto_k_threshold``, ``version`` and ``stream_version``.
        ``log_evidence_interval`` has the lower and upper ends of the 95 % intervals. ``total`` is
        null for one data point, or if `Estimate.total` raises an error. NaN and infinities are
        null, because JSON has no numbers for them.

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
            "pareto_k_threshold": _plain(k_limit(estimate.n_samples, estimate.replicates)),
            **{name: _plain(value) for name, value in estimate.to_dict().items()},
            "log_evidence_interval": _plain(
                list(estimate.confidence_interval("log_evidence", _LEVEL))
            ),
            "total": total and _total_object(total),
        },
        allow_nan=False,
    )


def _total(estimate: Estimate) -> tuple[Total | None, str]:
    """The total, or None and the reason."""
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


def _intervals_text(estimate: Estimate) -> str:
    """The intervals of the log evidence of the data points that the summary shows."""
    value, ends = estimate.log_evidence, estimate.confidence_interval("log_evidence", _LEVEL)
    rows = [["", _INTERVALS]]
    for index in itertools.islice(np.ndindex(value.shape), _MOST_ROWS):
        cell = ends_cell(value[index], ends.low[index], ends.high[index])
        rows.append([",".join(map(str, index)), cell])
    return format_table(rows)


def _total_text(estimate: Estimate) -> str:
    total, reason = _total(estimate)
    if total is None:
        return f"No total: {reason}"
    rows = [[f"sum over {total.n_points} data points", *_SUMS, _INTERVALS]]
    values = [(getattr(total, name), getattr(total, f"{name}_se")) for name in _SUMS]
    cells = [format_cell(np.array(value), np.array(se), ()) for value, se in values]
    interval = map(np.array, total.confidence_interval("log_evidence", _LEVEL))
    rows.append(["", *cells, ends_cell(np.array(total.log_evidence), *interval)])
    if not np.isfinite(total.log_evidence):
        return format_table(rows)
    by_errors = estimate.replicates > 1 or estimate.proposals > 1
    bias = "sum SE^2/2" if by_errors else "sum v/2K"
    correction = f"log_evidence includes {total.bias_correction:.3g} nats for its bias, {bias}."
    return f"{format_table(rows)}\n{correction}"


def _plain(value: Any) -> Any:
    """Numbers and nested lists of numbers, with None for NaN and infinities."""
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
