"""Errors of estimates from draws of several q_j, all weighed by their mixture q_a.

There are n_j draws of q_j, n in all, and a_j = n_j / n. The mean over all draws is the mean of the
means of the q_j, with weights a_j: its variance is sum_j a_j^2 V_j / n_j, with V_j the variance
within q_j alone (Owen and Zhou, 2000, JASA 95). What the means of the q_j differ by is no error, as
the n_j are no chance. The variance of all draws together has it too, and gives too large an error.

The tail that a mean of log weights has is that of the draws of one q_j. Among all draws, a q_j that
has few of them, and others of another scale, would look like a heavy tail.

For the mean weight, the V_j are relative to the squared mean of all weights. The Jensen gap varies
like the mean of w / E(w) - l, with the mean of all weights in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..validation import Floats, Integers
from .pareto import k_limit

_ERRORS = ("elbo_se", "kl_se", "expected_log_likelihood_se")


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def stratified_errors(
    pooled: Mapping[str, Floats], strata: Sequence[Mapping[str, Floats]], counts: Integers
) -> dict[str, Floats]:
    """Standard errors from quantities of all draws, and of those of each q_j alone.

    Parameters
    ----------
    pooled, strata : mapping of ndarray
        Each with one entry per data point: ``log_evidence``, ``relative_variance``, means with
        their standard errors, and ``jensen_gap_se``.
    counts : ndarray of int, shape (J,)
        n_j.

    Returns
    -------
    dict of ndarray
        ``stratified_evidence_se``, that of the log evidence, and those of all means and of the
        Jensen gap. NaN where one of the q_j has none.
    """
    shares = counts / counts.sum()
    found = {
        name: np.hypot.reduce([a * each[name] for a, each in zip(shares, strata, strict=True)])
        for name in _ERRORS
    }
    evidence, gap = [], []
    for share, n, each in zip(shares, counts, strata, strict=True):
        # Relative to the mean of all weights. It is 0 where all weights of q_j are.
        mean = np.exp(each["log_evidence"] - pooled["log_evidence"])
        nothing = np.isneginf(each["log_evidence"]) & np.isfinite(pooled["log_evidence"])
        own = np.sqrt(each["relative_variance"] / n)
        evidence.append(share * np.where(nothing, 0.0, mean * own))
        gap.append(share * _gap_error(mean, own, each["elbo_se"], each["jensen_gap_se"]))
    found["stratified_evidence_se"] = np.hypot.reduce(evidence)
    found["jensen_gap_se"] = np.hypot.reduce(gap)
    return found


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def stratified_tails(
    strata: Sequence[Mapping[str, Floats]], counts: Integers, least_share: float
) -> dict[str, Any]:
    """k-hats of means of log weights and of their terms: of the q_j most above the limit, each.

    With each goes the number of draws of that q_j, on which the limit depends; see `heavy_means`.
    A q_j is looked at where one of its draws has more than ``least_share`` of the squared error of
    the ELBO.
    """
    errors = np.stack([n * each["elbo_se"] for n, each in zip(counts, strata, strict=True)])
    part = (errors / np.hypot.reduce(errors)) ** 2
    matters = part * np.stack([each["largest_share"] for each in strata]) > least_share
    limits = np.asarray(k_limit(counts, 1))[:, None]
    found: dict[str, Any] = {}
    for name in ("pareto_k_elbo", "pareto_k_kl", "pareto_k_likelihood"):
        k = np.where(matters, np.stack([each[name] for each in strata]), np.nan)
        worst = np.where(np.isnan(k), -np.inf, k - limits).argmax(axis=0)
        found[name] = np.take_along_axis(k, worst[None], axis=0)[0]
        found[f"{name}_draws"] = counts[worst]
    return found


def _gap_error(mean: Floats, weight: Floats, elbo: Floats, gap: Floats) -> Floats:
    """The error of the mean of r w - l, from those of w, of l and of w - l, where w has mean 1.

    V(r w - l) = r V(w - l) + (1 - r) (V(l) - r V(w)), which at r = 1 cancels nothing.
    """
    # Relative to the largest, whose square may be no float.
    unit = np.maximum(np.fmax(np.fmax(mean * weight, elbo), gap), np.finfo(float).tiny)
    weight, elbo, gap = weight / unit, elbo / unit, gap / unit
    square = mean * gap**2 + (1.0 - mean) * (elbo**2 - mean * weight**2)
    return np.asarray(unit * np.sqrt(np.maximum(square, 0.0)))
