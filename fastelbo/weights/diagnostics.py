"""Warnings about an estimate: once per kind, with the count and the worst data points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import inner_warnings
from ..errors import (
    AllWeightsZeroWarning,
    ConstantWeightsWarning,
    FastElboWarning,
    HighParetoKWarning,
    InvalidWeightError,
    LowESSWarning,
    ShortTailWarning,
    TotalBiasWarning,
)
from ..validation import Floats
from .pareto import (
    LOW_ESS_VARIANCE,
    MOST_LIMIT,
    REPLICATED_WARNED,
    Counts,
    draws_needed,
    in_words,
    k_limit,
    tail_length,
)
from .replicates import evidence_error

Flags = np.ndarray[Any, np.dtype[np.bool_]]

# Weights with a smaller standard deviation, in nats, count as equal. With a missed mode far away
# it is above rounding error. With an approximate q it is always far above this limit.
CONSTANT_SD = 1e-6
_TOTAL_BIAS = 0.25
# So many data points are named in a warning.
_SHOWN = 5


def warn(kind: type[FastElboWarning], message: str, depth: int = 0) -> None:
    """Warn at the line that called a public function; ``depth`` counts additional calls between."""
    inner_warnings.warn(message, kind, stacklevel=4 + depth)


def _first_of_largest(values: Floats, count: int) -> NDArray[np.intp]:
    """The places of the ``count`` largest values, descending; NaN comes last."""
    keys, kept = -values, np.arange(len(values))
    if len(values) > 16 * count:
        # Only these and their equals are sorted. Where NaN is among them, all are.
        limit = np.partition(keys, count - 1)[count - 1]
        kept = np.flatnonzero(~(keys > limit))
    return kept[np.argsort(keys[kept], kind="stable")[:count]]


def places(flags: Flags, worst: Floats) -> str:
    """A text with the number of flagged data points and the worst indices (largest ``worst``)."""
    where = np.flatnonzero(flags)
    order = where[_first_of_largest(worst[where], _SHOWN)]
    return f"{where.size} of {flags.size} data points (worst: {', '.join(map(str, order))})"


def refuse_bad_weights(
    n_bad: Floats, first_bad: Floats, about: Callable[[int, int], str] | None = None
) -> None:
    """Raise an error if a log weight is NaN or +inf.

    ``about(i, k)`` is a text on draw k of data point i, where there is one.
    """
    points = np.flatnonzero(n_bad)
    if points.size:
        i = int(points[0])
        k = int(first_bad[i])
        raise InvalidWeightError(
            f"{int(n_bad.sum())} log weights are NaN or +inf, the first at data point {i}, draw "
            f"{k}: a density overflowed, or q is 0 where the model is positive"
            + ("" if about is None else f". {about(i, k)}")
        )


def constant_weights(relative_variance: Floats) -> Flags:
    """Whether all weights are equal to rounding."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(relative_variance) <= CONSTANT_SD)


def high_k(pareto_k: Floats, n_samples: Counts, replicates: int = 1) -> Flags:
    """Whether k-hat is too high for a standard error, from all draws or from their replicates."""
    with np.errstate(invalid="ignore"):
        return np.asarray(pareto_k > k_limit(n_samples, replicates))


def heavy_means(
    values: Mapping[str, Floats], n_samples: Counts, replicates: int = 1
) -> dict[str, Flags]:
    """Of which data points a mean has too heavy a tail for its standard error.

    The ELBO is the mean of the log weights l. Its tail is that of -l, not of exp(l), and
    ``pareto_k_elbo`` the k-hat of that. The KL and the log-likelihood, where the terms of log
    weights are known, have k-hats of their own. Those of several q are from as many draws as are
    among the values; see `strata.stratified_tails`.
    """

    def high(name: str) -> Flags:
        draws: Any = values.get(f"{name}_draws", n_samples)
        return high_k(values[name], draws, replicates)

    elbo = high("pareto_k_elbo")
    if elbo.any():
        elbo &= np.isfinite(values["elbo"]) & ~constant_weights(values["relative_variance"])
    flags = {"elbo": elbo}
    for name, k in (("kl", "pareto_k_kl"), ("expected_log_likelihood", "pareto_k_likelihood")):
        if k in values:
            flags[name] = elbo & high(k)
    return flags


def warn_about_weights(
    n_samples: Counts,
    values: Mapping[str, Floats],
    wants_pareto_k: bool = True,
    replicates: int = 1,
    advice: Callable[[int], str] | None = None,
) -> None:
    """Warn about weights whose log evidence or standard error cannot be trusted.

    With ``replicates`` of quasi-random draws, the error is the one that they show. ``advice(i)``
    says what to change in the q of data point i, which is asked for the worst one.
    """
    log_evidence, v, k = (
        values[name] for name in ("log_evidence", "relative_variance", "pareto_k")
    )
    zero = np.isneginf(log_evidence)
    if zero.any():
        warn(
            AllWeightsZeroWarning,
            f"every weight is 0 for {places(zero, zero.astype(float))}: log_evidence is -inf",
        )
    if np.max(n_samples, initial=1) == 1 and log_evidence.size:
        warn(ShortTailWarning, "n_samples = 1 gives no standard errors: they are NaN")
        return
    constant, high = constant_weights(v), high_k(k, n_samples, replicates)
    if constant.any():
        warn(
            ConstantWeightsWarning,
            f"all weights are equal for {constant.sum()} of {constant.size} data points (first: "
            f"{np.flatnonzero(constant)[0]}): q is exact there, or all draws missed a mode",
        )
    if high.any():
        consequence = "their log_evidence_se and jensen_gap_se are NaN"
        more = _lower_bound_at_best(k, high, n_samples)
        if replicates > 1:
            more += f". {_FALSE_ALARMS}"
        more += _advised(advice, high, k) or _HEAVIER
        warn_high_k(k, high, n_samples, consequence, more, replicates)
    if replicates > 1:
        _warn_doubtful_k(k, high)
    _warn_heavy_means(n_samples, values, replicates)
    with np.errstate(invalid="ignore"):
        variance = v / n_samples if replicates == 1 else evidence_error(values) ** 2
        if "stratified_evidence_se" in values:
            variance = values["stratified_evidence_se"] ** 2
        low = (variance > LOW_ESS_VARIANCE) & ~high
    if low.any():
        warn(
            LowESSWarning,
            f"the standard error of log_evidence exceeds {LOW_ESS_VARIANCE**0.5:g} nats for "
            f"{places(low, variance)}: too few effective draws to trust it"
            f"{'' if high.any() else _advised(advice, low, variance)}",
        )
    short = np.isnan(k) & ~constant & ~zero
    if wants_pareto_k and short.any():
        warn(
            ShortTailWarning,
            f"k-hat cannot be computed from {in_words(n_samples)} draws for {places(short, v)}: "
            "fewer than 5 draws in the tail, or too many equal weights; without k-hat, the "
            "standard error of log_evidence is not checked",
        )


# What helps most often, where the draws themselves are not known.
_HEAVIER = (
    ". Try a q with heavier tails (StudentT), a larger scale, or more of the model's structure"
)


def _advised(advice: Callable[[int], str] | None, flags: Flags, worst: Floats) -> str:
    """What to change for the worst of the flagged data points, as a sentence, where it is known."""
    if advice is None:
        return ""
    text = advice(int(np.argmax(np.where(flags, worst, -np.inf))))
    return f". {text}" if text else ""


def warn_high_k(
    k: Floats,
    high: Flags,
    n_samples: Counts,
    consequence: str,
    more: str = "",
    replicates: int = 1,
) -> None:
    """Warn about data points whose k-hat is too high."""
    warn(
        HighParetoKWarning,
        f"k-hat exceeds {_limit(n_samples, replicates)}, for {places(high, k)}: {consequence} "
        f"({_remedy(k[high], replicates)}){more}",
        depth=1,
    )


def _limit(n_samples: Counts, replicates: int) -> str:
    """The limit of k-hat, and for what."""
    draws = "draws" if replicates == 1 else f"draws in {replicates} replicates"
    limit = in_words(k_limit(n_samples, replicates), ".2f")
    return f"{limit}, the limit for {in_words(n_samples)} {draws}"


# What k-hats of a sample are for normal log weights of v = 3.4, whose errors are good.
_FALSE_ALARMS = (
    "k-hats scatter: for lognormal weights with v = 3.4, 38 % of them are above 0.4 and 15 % above "
    "0.5 at K = 1024, 17 % and 1 % at K = 8192, although the errors are good"
)


def _warn_doubtful_k(k: Floats, high: Flags) -> None:
    """Warn about k-hats with which intervals from replicates may be too short."""
    with np.errstate(invalid="ignore"):
        doubtful = (k > REPLICATED_WARNED) & ~high
    if doubtful.any():
        warn(
            HighParetoKWarning,
            f"k-hat exceeds {REPLICATED_WARNED} for {places(doubtful, k)}: where the k of the "
            "weights is 0.44, two-sided 95 % intervals from 16 replicates cover 80 to 97 %. "
            f"{_FALSE_ALARMS}",
            depth=1,
        )


def _warn_heavy_means(n_samples: Counts, values: Mapping[str, Floats], replicates: int) -> None:
    """Warn of means of log weights and of their terms that may not exist."""
    heavy = heavy_means(values, n_samples, replicates)
    flags = {name: each for name, each in heavy.items() if each.any()}
    if flags:
        k, draws = values["pareto_k_elbo"], n_samples
        if "pareto_k_elbo_draws" in values:
            draws = values["pareto_k_elbo_draws"][flags["elbo"]].astype(np.int64)
        *others, last = (f"{name}_se" for name in flags)
        errors = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        worst = float(k[flags["elbo"]].max())
        warn(
            HighParetoKWarning,
            f"k-hat of the log weights' own lower tail exceeds {_limit(draws, replicates)}, "
            f"for {places(flags['elbo'], k)}: {errors} NaN there, each by the tail of its own "
            f"terms, as a few draws make up the mean (the worst is {worst:.2f}; from 1 on the ELBO "
            "may be -inf). A q whose tails are not heavier than those of the model has a finite "
            "ELBO",
            depth=1,
        )


def _remedy(k: Floats, replicates: int) -> str:
    """What can be done about the worst of the k-hats that are above the limit."""
    worst = float(k.max())
    if worst <= MOST_LIMIT and replicates > 1:
        return f"the worst is {worst:.2f}: independent draws have errors up to {MOST_LIMIT}"
    if worst <= MOST_LIMIT:
        return f"the worst, {worst:.2f}, needs {_rounded_up(float(draws_needed(worst)))} draws"
    slow = f"above {MOST_LIMIT} more draws help slowly"
    if worst >= 1.0:
        slow = "no number of draws is enough"
    return f"the worst is {worst:.2f}: {slow}, and q should change"


def _rounded_up(draws: float) -> int:
    """To two digits: above K, as is the number for each k-hat above the limit for K draws."""
    unit: int = 10 ** max(0, int(np.log10(draws)) - 1)
    return unit * (int(draws / unit) + 1)


def _lower_bound_at_best(k: Floats, high: Flags, n_samples: Counts) -> str:
    """A sentence about the tails that may have no mean: k-hat within 2 of its errors of 1."""
    with np.errstate(invalid="ignore"):
        doubtful = k + 2.0 * (1.0 + k) / np.sqrt(tail_length(n_samples)) >= 1.0
        count = int((doubtful & high).sum())
    if not count:
        return ""
    return (
        f". For {count} of them the draws cannot tell whether the weights have a mean: "
        "log_evidence itself, not only its standard error, is a lower bound at best"
    )


def warn_total_bias(correction: float, se: float) -> None:
    """Warn if the bias correction of a total is not small compared with its standard error."""
    if correction > _TOTAL_BIAS * se:
        warn(
            TotalBiasWarning,
            f"the bias correction of the total, {correction:.3g} nats, exceeds {_TOTAL_BIAS:g} "
            f"times its standard error, {se:.3g} nats; more draws per data point reduce it",
        )
