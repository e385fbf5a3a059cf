"""Warnings about posterior expectations."""

from __future__ import annotations

import numpy as np

from ..errors import AllWeightsZeroWarning, HighParetoKWarning, LowESSWarning, ShortTailWarning
from ..validation import Floats
from .diagnostics import Flags, places, warn
from .pareto import LOW_ESS_VARIANCE, Counts, in_words, k_limit


def warn_about_posterior(
    what: str,
    consequence: str,
    n_samples: Counts,
    replicates: int,
    high: Flags,
    pareto_k: Floats,
    log_evidence: Floats,
    weights_k: Floats,
    ess: Floats,
    depth: int = 0,
    same: Flags | None = None,
) -> None:
    """Warn about what draws cannot support, of a k-hat above the limit for one.

    ``high``, ``pareto_k`` and ``same``, whether all values are equal, have one entry for each value
    of each data point, the others one for each data point. ``depth`` is that of `warn`.
    """
    zero = np.isneginf(log_evidence)
    if zero.any():
        warn(
            AllWeightsZeroWarning,
            f"every weight is 0 for {places(zero, zero.astype(float))}: {what} is NaN there",
            depth=depth,
        )
    warn_high_entries(what, consequence, n_samples, replicates, high, pareto_k, depth + 1)
    if same is not None and (same & ~high).any():
        warn(
            ShortTailWarning,
            f"all draws have one value for {int((same & ~high).sum())} of {same.size} entries of "
            f"{what}: they do not tell its error, which is NaN",
            depth=depth,
        )
    # The delta method is of first order in the relative variance of the mean weight.
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = 1.0 / ess - 1.0 / np.asarray(n_samples)
    flagged = high.reshape(zero.size, high.size // max(1, zero.size)).all(axis=1)
    low = (variance > LOW_ESS_VARIANCE) & ~zero & ~flagged
    if low.any() and replicates == 1:
        warn(
            LowESSWarning,
            f"the effective sample size of the weights is below {1.0 / LOW_ESS_VARIANCE:g} for "
            f"{places(low, variance)}: too few effective draws to trust {what} there",
            depth=depth,
        )
    # Equal weights have no k-hat, nor need one; one draw has neither.
    with np.errstate(invalid="ignore"):
        equal = ess >= np.multiply(n_samples, 1.0 - 1e-9)
    short = np.isnan(weights_k) & ~zero & (~equal | (np.asarray(n_samples) == 1))
    if short.any():
        warn(
            ShortTailWarning,
            f"k-hat cannot be computed from {in_words(n_samples)} draws for "
            f"{places(short, short.astype(float))}: {what} is not checked there",
            depth=depth,
        )


def warn_high_entries(
    what: str,
    consequence: str,
    n_samples: Counts,
    replicates: int,
    high: Flags,
    pareto_k: Floats,
    depth: int = 0,
) -> None:
    """Warn about entries of which a k-hat is too high."""
    if high.any():
        limit = in_words(k_limit(n_samples, replicates), ".2f")
        worst = np.where(high, pareto_k, -np.inf)
        where = tuple(map(int, np.unravel_index(worst.argmax(), worst.shape)))
        at = f" at index {where}" if where else ""
        warn(
            HighParetoKWarning,
            f"k-hat exceeds {limit}, the limit for {in_words(n_samples)} draws, for "
            f"{int(high.sum())} of {high.size} entries of {what} (the worst is "
            f"{worst.max():.2f}{at}): {consequence}. A q with heavier tails, or nearer to the "
            "posterior, helps",
            depth=depth,
        )
