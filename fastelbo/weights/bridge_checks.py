"""What is known against a bridge: chains that have not mixed, and draws that do not fit."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..arrays.draws import warn_user
from ..errors import ChainsWarning, OverlapWarning
from ..validation import Floats
from .bridge_result import BridgeEstimate
from .convergence import bulk_effective_draws, r_hat

# Rank-normalised R-hat and effective draws a chain, as Vehtari et al. (2021) advise, and an R-hat
# from which on chains tell of different distributions.
MOST_R_HAT, LEAST_ESS, HOPELESS_R_HAT = 1.01, 100.0, 1.1
# The fewest effective draws of a mean whose error is trusted, and the largest relative mean squared
# error: up to it intervals of nominally 95 % covered 92 to 96 %, wherever p and q lay.
LEAST_TERMS, MOST_MSE = 20.0, 0.1
# Standard errors by which two answers for the overlap may differ.
MOST_MISMATCH = 6.0
# Relative, of means of thousands of terms.
_ROUNDING = 1e-10


class Mixing(NamedTuple):
    """The largest R-hat, and the least effective number of draws."""

    r_hat: float
    ess_bulk: float

    @classmethod
    def of(cls, x: Floats) -> Mixing:
        """Of the columns of x (chains, draws, ...); NaN for chains of fewer than 10 draws."""
        return cls(float(np.max(r_hat(x))), float(np.min(bulk_effective_draws(x))))

    def worse(self, other: Mixing) -> Mixing:
        """The worse of both numbers."""
        return Mixing(max(self.r_hat, other.r_hat), min(self.ess_bulk, other.ess_bulk))


class Parts(NamedTuple):
    """s1 f1 at the draws of q and s2 f2 at those of the posterior, which are between 0 and 1."""

    f1: Floats
    f2: Floats
    share: float  # s1

    @property
    def overlap(self) -> float:
        """O = int p q / (s1 p + s2 q), the mean of f1, and of f2 at the root."""
        return float(self.f1.mean()) / self.share


def problems_of_chains(l1: Floats, mixing: Mixing, effective_given: bool) -> tuple[str, ...]:
    """What is known against the draws of the posterior."""
    chains, draws = l1.shape
    found = []
    if mixing.r_hat > MOST_R_HAT:
        found.append(
            f"R-hat is {mixing.r_hat:.4g}, above {MOST_R_HAT}: the chains, or the halves of one, "
            "have not mixed"
        )
    if effective_given:
        return tuple(found)
    if np.isnan(mixing.ess_bulk):
        found.append(
            f"chains of {draws} draws are too short to tell whether they have mixed, and how many "
            "effective draws they have"
        )
    elif mixing.ess_bulk < LEAST_ESS * chains:
        found.append(
            f"there are {mixing.ess_bulk:.0f} effective draws, fewer than {LEAST_ESS:.0f} for each "
            f"of {chains} chains"
        )
    return tuple(found)


def problems_of_overlap(parts: Parts, n_eff: float, mse: float) -> tuple[str, ...]:
    """What is known against the error."""
    overlap, count = parts.overlap, parts.f1.size
    if count < LEAST_TERMS:
        return (f"there are too few draws of q: {count}, fewer than {LEAST_TERMS:.0f}",)
    if not overlap > 0.0:
        return ("p is 0, or nearly, at all draws of q: they do not overlap",)
    if math.isnan(n_eff):
        return ()  # chains that are too short, which is a problem of theirs
    if n_eff < LEAST_TERMS:
        return (
            f"there are too few effective draws of p: {n_eff:.3g}, fewer than {LEAST_TERMS:.0f}",
        )
    # By theory the error follows from the overlap (Meng and Wong, 1996). An error that is smaller
    # is of draws that have not met where p and q overlap.
    expected = (1.0 / overlap - 1.0) * (1.0 / count + 1.0 / n_eff)
    if not max(mse, expected) <= MOST_MSE:
        return (
            f"p and q overlap by {overlap:.2g} only: the relative mean squared error is "
            f"{max(mse, expected):.2g}, above {MOST_MSE}; q should be closer to p, or there should "
            "be more draws",
        )
    # Above 0 both, as is the overlap, if not its square.
    scaled = (f / f.max() for f in (parts.f1, parts.f2))
    terms = min(n_eff, *(float(f.sum() ** 2 / (f**2).sum()) for f in scaled))
    if not terms >= LEAST_TERMS:
        return (f"a mean has {terms:.0f} effective terms, fewer than {LEAST_TERMS:.0f}",)
    score = mismatch(parts, n_eff)
    if score > MOST_MISMATCH:
        return (
            f"the draws are not of p, or miss a part of it: what they and those of q tell of the "
            f"overlap differs by {score:.1f} standard errors, above {MOST_MISMATCH:g}",
        )
    return ()


def mismatch(parts: Parts, n_eff: float) -> float:
    """How many standard errors two answers for the overlap differ by: the draws may not be of p.

    For draws of p, ``s1 E_q(f1^2) + s2 E_p(f2^2) = int p q (s1 p + s2 q) / (s1 p + s2 q)^2 = O``,
    while r makes the means of f1 and f2 equal for any draws. The error is by the delta method, that
    of r included.
    """
    u, v, s1, s2 = parts.f1, parts.f2, parts.share, 1.0 - parts.share
    slope = ((u - u**2).mean() / s1 + (v - v**2).mean() / s2) or 1.0
    turn = ((u - u**2) * (0.5 - 2.0 * u)).mean() / s1 - ((v - v**2) * (0.5 - 2.0 * v)).mean() / s2
    by_q = (u**2 + (turn / slope - 0.5) * u) / s1
    by_p = (v**2 - (turn / slope + 0.5) * v) / s2
    error = math.sqrt(by_q.var() / u.size + by_p.var() / n_eff)
    difference = abs((u**2 - 0.5 * u).mean() / s1 + (v**2 - 0.5 * v).mean() / s2)
    # Where q is p, all that is left is rounding.
    return float(difference / error) if difference > _ROUNDING * parts.overlap else 0.0


def warn_about_bridge(result: BridgeEstimate) -> None:
    """Warn, at the line that called a public function, about each problem."""
    unsure = np.isnan(result.log_evidence_se)
    for problem in result.problems:
        about_chains = "chain" in problem
        kind = ChainsWarning if about_chains else OverlapWarning
        end = "; log_evidence_se is NaN" if unsure else "; the error may be too small"
        warn_user(kind, problem + end)
