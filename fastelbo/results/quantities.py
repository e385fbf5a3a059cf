"""From a backend's quantities to an `Estimate`, without the standard errors that k-hat refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..validation import Floats
from ..weights.bounds import Bound
from ..weights.diagnostics import constant_weights, heavy_means, high_k
from .estimate import Estimate


def from_quantities(
    values: Mapping[str, Any],
    shape: tuple[int, ...],
    n_samples: int,
    sizes: Sequence[int],
    *,
    independent: bool,
    addresses: tuple[int, range] | None = None,
) -> Estimate:
    """The estimate from a backend's quantities, which have one row per data point of ``shape``.

    ``addresses`` are the key and the data points of the draws, where they are known.
    """

    def shaped(array: Any) -> Floats:
        return np.asarray(array, dtype=np.float64).reshape(shape)

    names = (
        "log_evidence", "ess", "relative_variance", "n_zero", "elbo", "elbo_se", "kl", "kl_se",
        "expected_log_likelihood", "expected_log_likelihood_se",
    )  # fmt: skip
    fields: dict[str, Any] = {name: shaped(values[name]) for name in names}
    # The k-hat of equal weights would be the k-hat of their rounding errors.
    constant = constant_weights(values["relative_variance"])
    k = np.where(constant, np.nan, values["pareto_k"])
    k_elbo = np.where(constant | (values["n_zero"] > 0), np.nan, values["pareto_k_elbo"])
    # Without a variance that the draws can tell, the delta method has no error to give.
    suppressed = np.where(high_k(k, n_samples), np.nan, 0.0)
    heavy = heavy_means(values, n_samples)
    for name, flags in heavy.items():
        fields[f"{name}_se"] = np.where(flags.reshape(shape), np.nan, fields[f"{name}_se"])
    tail = values["tail"]
    bounds = {}
    for j, size in enumerate(sizes):
        # A mean of size weights is as small only if all of them are: its tail index is k / size.
        flags = heavy["elbo"] & high_k(k_elbo / size, n_samples)
        iw_se = np.where(flags, np.nan, values["iw_se"][:, j])
        bounds[size] = Bound(shaped(values["iw_value"][:, j]), shaped(iw_se))
    bounds[1] = Bound(fields["elbo"], fields["elbo_se"])
    with np.errstate(invalid="ignore", over="ignore"):
        gap = fields["log_evidence"] - fields["elbo"]
    return Estimate(
        n_samples=n_samples,
        log_evidence_se=shaped(np.sqrt(values["relative_variance"] / n_samples) + suppressed),
        jensen_gap=shaped(gap),
        jensen_gap_se=shaped(np.where(heavy["elbo"], np.nan, values["jensen_gap_se"] + suppressed)),
        pareto_k=shaped(k),
        pareto_k_elbo=shaped(k_elbo),
        independent=independent,
        _iw=bounds,
        _tail=tail.reshape(*shape, tail.shape[1]) if tail.shape[1] else None,
        _gap_se=shaped(values["jensen_gap_se"]),
        _addresses=addresses,
        **fields,
    )
