"""From a backend's quantities to an `Estimate`, without the standard errors that k-hat refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..validation import Floats
from ..weights.bounds import Bound
from ..weights.diagnostics import constant_weights, heavy_means, high_k
from ..weights.pareto import Counts
from ..weights.replicates import (
    bound_errors,
    evidence_error,
    gap_error,
    standard_error,
    tail_error,
    variance_ratio,
)
from .estimate import Estimate

_MEANS = ("elbo", "kl", "expected_log_likelihood")


def from_quantities(
    values: Mapping[str, Any],
    shape: tuple[int, ...],
    n_samples: Counts,
    sizes: Sequence[int],
    *,
    independent: bool,
    addresses: tuple[int, range] | None = None,
    replicates: int = 1,
    sampler: str = "iid",
    rotation: str | None = None,
    pilot_samples: int = 0,
    corrected: bool = False,
    proposals: int = 1,
) -> Estimate:
    """The estimate from a backend's quantities, which have one row per data point of ``shape``.

    ``n_samples`` is one number, or one for each data point. Shorter tails then end in NaN.
    Draws of several ``proposals`` have errors of their own among the values; see
    `fastelbo.weights.strata`. ``addresses`` are the key and the data points of the draws, where
    they are known. With ``replicates``, errors are those between replicates; see
    `with_replicate_errors`. Their log evidence is ``corrected`` for the bias of a log of a mean,
    SE^2 / 2, where there is an error; that of independent draws on request.
    """

    def shaped(array: Any) -> Floats:
        return np.asarray(array, dtype=np.float64).reshape(shape)

    draws = n_samples if isinstance(n_samples, int) else np.reshape(n_samples, -1)
    values, df = with_replicate_errors(values, draws, sizes, replicates)
    names = (
        "ess", "relative_variance", "n_zero", *_MEANS, *(f"{name}_se" for name in _MEANS),
    )  # fmt: skip
    fields: dict[str, Any] = {name: shaped(values[name]) for name in names}
    # The k-hat of equal weights would be the k-hat of their rounding errors.
    constant = constant_weights(values["relative_variance"])
    k = np.where(constant, np.nan, values["pareto_k"])
    k_elbo = np.where(constant | (values["n_zero"] > 0), np.nan, values["pareto_k_elbo"])
    # Without a variance that the draws can tell, the delta method has no error to give.
    suppressed = np.where(high_k(k, draws, replicates), np.nan, 0.0)
    heavy = heavy_means(values, draws, replicates)
    for name, flags in heavy.items():
        fields[f"{name}_se"] = np.where(flags.reshape(shape), np.nan, fields[f"{name}_se"])
    tail = values["tail"]
    bounds = {}
    for j, size in enumerate(sizes):
        # A mean of size weights is as small only if all of them are: its tail index is k / size.
        flags = heavy["elbo"] & high_k(k_elbo / size, draws, replicates)
        iw_se = np.where(flags, np.nan, values["iw_se"][:, j])
        bounds[size] = Bound(shaped(values["iw_value"][:, j]), shaped(iw_se))
    bounds[1] = Bound(fields["elbo"], fields["elbo_se"])
    se = values["log_evidence_se"]
    log_evidence, correction, ratio = values["log_evidence"], np.zeros(()), np.ones(shape)
    corrected |= replicates > 1
    upper = se
    if replicates > 1:
        upper = np.maximum(se, tail_error(values, draws, replicates))
    if replicates > 1 or proposals > 1:
        ratio = variance_ratio(values["relative_variance"], draws, se + suppressed)
    if corrected:
        with np.errstate(under="ignore"):
            # The log of a mean is low by half its relative variance.
            correction = shaped(np.nan_to_num(0.5 * (se + suppressed) ** 2))
        log_evidence = log_evidence + correction.reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        gap = log_evidence - values["elbo"]
    return Estimate(
        n_samples=draws if isinstance(draws, int) else draws.reshape(shape),
        log_evidence=shaped(log_evidence),
        log_evidence_se=shaped(se + suppressed),
        jensen_gap=shaped(gap),
        jensen_gap_se=shaped(np.where(heavy["elbo"], np.nan, values["jensen_gap_se"] + suppressed)),
        pareto_k=shaped(k),
        pareto_k_elbo=shaped(k_elbo),
        independent=independent,
        sampler=sampler,
        replicates=replicates,
        proposals=proposals,
        rotation=rotation,
        pilot_samples=pilot_samples,
        variance_ratio=shaped(ratio),
        corrected=corrected,
        _iw=bounds,
        _tail=tail.reshape(*shape, tail.shape[1]) if tail.shape[1] and replicates == 1 else None,
        _evidence_se=shaped(se),
        _gap_se=shaped(values["jensen_gap_se"]),
        _upper_se=shaped(upper + suppressed),
        _correction=correction,
        _bound_df=df,
        _addresses=addresses,
        **fields,
    )


def with_replicate_errors(
    values: Mapping[str, Any], n_samples: Counts, sizes: Sequence[int], replicates: int
) -> tuple[dict[str, Any], dict[int, float]]:
    """The quantities with errors that do not ask for k-hat, and the degrees of freedom of bounds.

    Errors of one replicate are those of independent draws, with infinitely many degrees of freedom,
    or stratified where the quantities have such an error. For several, see
    `fastelbo.weights.replicates`.
    """
    if "stratified_evidence_se" in values:
        return {**values, "log_evidence_se": values["stratified_evidence_se"]}, {}
    if replicates == 1:
        with np.errstate(under="ignore"):
            se = np.sqrt(values["relative_variance"] / n_samples)
        return {**values, "log_evidence_se": se}, {}
    errors = {f"{name}_se": _of_mean(values, name) for name in _MEANS}
    errors["log_evidence_se"] = evidence_error(values)
    errors["jensen_gap_se"] = gap_error(values)
    errors["iw_se"], df = bound_errors(values, tuple(sizes), replicates)
    return {**values, **errors}, dict(zip(sizes, df, strict=True)) | {1: replicates - 1.0}


def _of_mean(values: Mapping[str, Any], name: str) -> Floats:
    """The error of a mean between replicates; NaN where the mean is infinite or not known."""
    if f"replicate_{name}" not in values:
        return np.full_like(values[name], np.nan)
    se = standard_error(values[f"replicate_{name}"])
    return np.where(np.isfinite(values[name]), se, np.nan)
