"""Bridge sampling from log ratios at draws of the posterior and of a normalised q."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_unchecked_floats
from ..errors import InvalidInputError, InvalidWeightError
from ..special import log_expit
from ..validation import Floats, as_number
from .bridge_checks import (
    HOPELESS_R_HAT,
    Mixing,
    Parts,
    problems_of_chains,
    problems_of_overlap,
    warn_about_bridge,
)
from .bridge_result import BridgeEstimate
from .convergence import effective_draws, halves

# Differences of log ratios beyond are cut off there; and the last digits of a root.
_FAR, _TINY = 1e300, 4.0 * 2.0**-52
# The most effective draws that a draw can be.
_MOST_EFFICIENT = 10


def bridge_log_ratios(
    l1: ArrayLike, l2: ArrayLike, *, n_eff: float | None = None
) -> BridgeEstimate:
    """Log evidence by optimal bridge sampling, from log ratios of p(x, z) and q(z).

    Parameters
    ----------
    l1 : (draws,) or (chains, draws) array_like
        ``log p(x, z) - log q(z)`` at draws z of the posterior, which q was not fitted to.
    l2 : (n,) array_like
        The same at independent draws of q, which is normalised. -inf where p is 0.
    n_eff : float, optional
        Effective number of the draws of the posterior: their number if they are independent. By
        default it is estimated from the autocorrelations of each chain.

    Returns
    -------
    BridgeEstimate

    Raises
    ------
    InvalidWeightError
        If l1 is not finite, or l2 is NaN or +inf.
    InvalidInputError
        If an array is empty or has a wrong number of axes, or n_eff is below 1 or beyond
        10 times the draws.

    Warns
    -----
    ChainsWarning
        If chains have not mixed: R-hat above 1.01, fewer than 100 effective draws a chain, or too
        few draws to tell.
    OverlapWarning
        If p and q overlap so little that the error cannot be trusted, or if l1 and l2 give answers
        for the overlap that differ by more than 6 standard errors. Draws with far modes in wrong
        proportions, or with a spread that is off by 5 to 10 %, pass this check.

    Notes
    -----
    The log evidence is log r with

    ``r = mean(1 / (s1 + s2 r e^-l2)) / mean(1 / (s1 e^l1 + s2 r))``,

    s1 = n_eff / (n_eff + n), s2 = 1 - s1 (Meng and Wong, 1996, Statistica Sinica 6). Both sides are
    monotone in r: there is one root, found by Brent's method. With f1 = p / (s1 p + s2 q) at the
    draws of q and f2 = q / (s1 p + s2 q) at those of the posterior, for the normalised p, the
    relative mean squared error is ``Var f1 / (n E(f1)^2) + Var f2 / (n_eff E(f2)^2)``
    (Fruhwirth-Schnatter, 2004, Econometrics Journal 7). n_eff is the effective number of draws of
    f2 itself, by Geyer's initial monotone sequence of each half of a chain.

    Examples
    --------
    >>> import fastelbo as fe
    >>> p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.5], scale=1.25)
    >>> points = p.sample(4000, rng=0), q.sample(4000, rng=1)
    >>> l1, l2 = (p.log_prob(z) + 7.0 - q.log_prob(z) for z in points)  # p has the norm e^7
    >>> low, high = fe.bridge_log_ratios(l1, l2, n_eff=4000).confidence_interval(0.999)
    >>> bool(low < 7.0 < high)
    True
    """
    ratios, proposal = _ratios(l1, l2)
    given = None if n_eff is None else as_number(n_eff, "n_eff")
    most = _MOST_EFFICIENT * ratios.size
    if given is not None and not 1.0 <= given <= most:
        raise InvalidInputError(
            f"n_eff must be from 1 to {most}, {_MOST_EFFICIENT} times the draws of l1, got {given}"
        )
    result = bridged(ratios, proposal, Mixing.of(ratios), given)
    warn_about_bridge(result)
    return result


@np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
def bridged(
    l1: Floats,
    l2: Floats,
    mixing: Mixing,
    n_eff: float | None = None,
    key: int | None = None,
) -> BridgeEstimate:
    """The estimate from checked log ratios (chains, draws) and (n,), without its warnings."""
    effective = n_eff if n_eff is not None else float(l1.size)
    log_r, parts = _solved(l1, l2, effective)
    if n_eff is None:
        # Draws of the posterior count by the autocorrelations of what is averaged.
        found = _effective(parts.f2)
        if np.isfinite(found):
            log_r, parts = _solved(l1, l2, found)
        effective = _effective(parts.f2)
    mse = _relative_variance(parts.f1) / l2.size + _relative_variance(parts.f2) / effective
    problems = problems_of_chains(l1, mixing, n_eff is not None)
    overlap = problems_of_overlap(parts, effective, mse)
    sound = math.isfinite(mse) and not overlap and not mixing.r_hat >= HOPELESS_R_HAT
    return BridgeEstimate(
        log_evidence=np.asarray(log_r),
        log_evidence_se=np.asarray(math.sqrt(mse) if sound else math.nan),
        relative_mse=mse,
        overlap=parts.overlap,
        n_eff=effective,
        r_hat=mixing.r_hat,
        ess_bulk=mixing.ess_bulk,
        n_draws=l1.size,
        n_proposal=l2.size,
        problems=(*problems, *overlap),
        _key=key,
    )


def _solved(l1: Floats, l2: Floats, n_eff: float) -> tuple[float, Parts]:
    """log r, and the two functions of which it is a ratio of means."""
    # With c = log(s2 / s1) the equation of log r = x is s2 mean(expit(l2 - x - c)) =
    # s1 mean(expit(x + c - l1)): of s1 f1, and of s2 f2.
    log_odds, share = math.log(l2.size / n_eff), n_eff / (n_eff + l2.size)
    # The shift keeps the digits of what differs.
    shift = float(np.median(l1))
    with np.errstate(over="ignore"):
        first, second = (np.clip(each - shift, -_FAR, _FAR) for each in (l1, l2))
    if np.isneginf(l2).all():
        return -math.inf, Parts(np.zeros_like(l2), np.ones_like(l1), share)

    def logs(x: float) -> tuple[Floats, Floats]:
        return log_expit(second - x - log_odds), log_expit(x + log_odds - first)

    def falling(x: float) -> float:
        f1, f2 = logs(x)
        return log_odds + _log_mean(f1) - _log_mean(f2)

    x = _root(falling)
    f1, f2 = map(np.exp, logs(x))
    return x + shift, Parts(f1, f2, share)


def _effective(f: Floats) -> float:
    # In other units, as all may be tiny.
    return float(effective_draws(halves(f / (f.max() or 1.0))))


def _relative_variance(f: Floats) -> float:
    return float(f.std(ddof=1) / f.mean()) ** 2 if f.size > 1 and f.any() else math.inf


def _log_mean(logs: Floats) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def _root(falling: Callable[[float], float]) -> float:
    """Where a function falls through 0, to the last digits; its slope is -2 to 0."""
    from scipy.optimize import brentq

    value = falling(0.0)
    if value == 0.0:
        return 0.0
    ends, step = [0.0, value], abs(value)
    sign = math.copysign(1.0, value)
    while falling(sign * step) * sign > 0.0:
        ends[0], step = sign * step, 2.0 * step
    low, high = sorted((ends[0], sign * step))
    return float(brentq(falling, low, high, xtol=_TINY, rtol=_TINY, maxiter=1000))


def _ratios(l1: ArrayLike, l2: ArrayLike) -> tuple[Floats, Floats]:
    """The log ratios as (chains, draws) and (n,), checked."""
    first, second = as_unchecked_floats(l1, "l1"), as_unchecked_floats(l2, "l2")
    if first.ndim not in (1, 2) or not first.size:
        raise InvalidInputError(
            "l1 must have shape (draws,) or (chains, draws) and at least one draw, got shape "
            f"{first.shape}"
        )
    if second.ndim != 1 or not second.size:
        raise InvalidInputError(
            f"l2 must have shape (n,) with at least one draw of q, got shape {second.shape}"
        )
    first = first.reshape(-1, first.shape[-1])
    if len(first) > first.shape[1]:
        raise InvalidInputError(
            f"l1 must have shape (chains, draws), got {len(first)} chains of {first.shape[1]} "
            "draws; transpose it"
        )
    for name, array, bad in (
        ("l1", first, ~np.isfinite(first)),
        ("l2", second, ~(second < np.inf)),
    ):
        if bad.any():
            what = "finite" if name == "l1" else "neither NaN nor +inf"
            where = tuple(map(int, np.argwhere(bad)[0]))
            raise InvalidWeightError(
                f"{name} must be {what}, got {int(bad.sum())} numbers that are not, the first, "
                f"{array[where]}, at index {where}"
            )
    return first, second
