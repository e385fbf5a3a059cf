"""The run of an adaptation that is reported: draws of q that nothing was fitted to."""

from __future__ import annotations

import math

import numpy as np

from ...inner_warnings import collected
from ...models.counted import CountedJoint
from ...random import pilot_key
from ...results.estimate import Estimate
from ...validation import Floats
from ...weights.pareto import k_limit
from ..summaries import summarize
from ..terms import ElboTerms, elbo_terms
from .fit import AdaptiveFit, Options

# Which of the keys that are made from the one of the call: one for each part of a run.
_KEY = 2**20
# A run that misses the target is lengthened, to aim at this part of it.
_AIM_AGAIN = 0.96
_MOST_PARTS = 4
# A k-hat above its limit by no more may be so by chance: of 10^4 draws, its error is 0.1.
_DOUBTFUL = 0.15
_TO_TELL = 0.5
# A run that needs more than this part of its first draws teaches q instead, unless it is the last.
_MOST_LONGER = 1.0
# Fresh runs: all but the last may teach the proposal. A run that looks good after others that did
# not may do so by chance: for a banana in ten dimensions, 3 answers of 20 seeds were then too low
# by more than 3 errors. It is trusted after others whose k-hats were no higher than this, and whose
# relative variances were no larger multiple of its own: after one of them, or two if more than half
# of its draws are effective.
_MOST_REJECTED = 1
_GOOD_VARIANCE = 1.0
_REJECTED_K = 0.85
_REJECTED_VARIANCE = 10.0
# With a k-hat above 1/2 the weights seem to have no variance. Where that of the draws is large,
# too, larger weights may be too rare for a run: its error is then too small.
_DOUBTFUL_K = 0.5
_DOUBTFUL_VARIANCE = 2.5
MOST_RUNS = 4
# Difference between the rounds and the run, in standard errors and in nats, that is no chance.
# Log evidences of rounds are too low by some hundredths of a nat, as q was fitted to their draws.
_MOST_SES = 5.0
_MOST_NATS = 0.1


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


class FreshRun:
    """Draws of a settled q, with as many more as the target needs."""

    estimate: Estimate
    z: Floats
    log_joint: Floats

    def __init__(self, joint: CountedJoint, options: Options, key: int) -> None:
        self._joint, self._options, self._key = joint, options, key
        self._rejected: list[Estimate] = []

    def start(self, fit: AdaptiveFit, number: int) -> None:
        """Draw; the run is lengthened if its error is above the target."""
        if number:
            self._rejected.append(self.estimate)
        keys = [pilot_key(self._key, _KEY + _MOST_PARTS * number + i) for i in range(_MOST_PARTS)]
        count, parts = min(fit.planned, max(fit.left, 1)), []
        for key in keys:
            parts.append(self._draw(fit, count, key))
            self.estimate = self._summary(parts)
            count = self._more(fit, len(parts[0].log_q), number == MOST_RUNS - 1)
            if not count:
                break
        self.z = np.concatenate(
            [fit.q.sample(len(part.log_q), rng=key) for part, key in zip(parts, keys, strict=False)]
        )
        self.log_joint = np.concatenate([part.log_likelihood + part.log_prior for part in parts])

    def is_worth_another(self, fit: AdaptiveFit) -> bool:
        """Whether the tail is heavy or the target missed, and there are draws left for more."""
        return (self._is_heavy or self._se > self._options.target_se) and fit.left > len(self.z)

    def problems(self, fit: AdaptiveFit) -> tuple[str, ...]:
        """Why the estimate may be wrong."""
        found = []
        k, limit = float(self.estimate.pareto_k), self._limit
        if self._is_heavy:
            found.append(
                f"k-hat of the fresh draws is {k:.2f}, above {limit:.2f}, the limit for "
                f"{len(self.z)} draws: q is too small where the posterior is not, and log_evidence "
                "has no standard error; more components (n_components) or draws (max_evaluations) "
                "may help"
            )
        elif self._se > self._options.target_se:
            found.append(
                f"the standard error is {self._se:.2g}, above target_se = "
                f"{self._options.target_se:g}"
                + ("; max_evaluations leaves no more draws" if fit.left < len(self.z) else "")
            )
        variance = float(self.estimate.relative_variance)
        if not self._is_heavy and k > _DOUBTFUL_K and variance > _DOUBTFUL_VARIANCE:
            found.append(
                f"k-hat of the fresh draws is {k:.2f}, above 1/2, and their relative variance is "
                f"{variance:.2g}, above {_DOUBTFUL_VARIANCE:g}: larger weights may be rare, and "
                "the standard error too small; more components may help"
            )
        if self._is_lucky:
            found.append(
                f"{_times(len(self._rejected))} before these, fresh draws had weights that the fit "
                "did not foresee: there may be more of them; more components may help"
            )
        rounds, error = fit.log_evidence
        gap = float(self.estimate.log_evidence) - rounds
        if abs(gap) > _MOST_SES * math.hypot(error, self._se) and abs(gap) > _MOST_NATS:
            found.append(
                f"the log evidence of the fresh draws differs by {gap:.2g} nats from that of the "
                "rounds: draws of some regions were rare"
            )
        return tuple(found)

    @property
    def _is_lucky(self) -> bool:
        """Whether runs before this one were so bad that it may look good by chance."""
        variance = float(self.estimate.relative_variance)
        limit = _REJECTED_VARIANCE * variance
        most = _MOST_REJECTED + int(variance < _GOOD_VARIANCE)
        return len(self._rejected) > most or any(
            each.pareto_k > _REJECTED_K or each.relative_variance > limit for each in self._rejected
        )

    @property
    def _se(self) -> float:
        """The standard error, whatever k-hat is."""
        return math.sqrt(float(self.estimate.relative_variance) / float(self.estimate.n_samples))

    @property
    def _limit(self) -> float:
        return float(k_limit(int(self.estimate.n_samples), 1))

    @property
    def _is_heavy(self) -> bool:
        return float(self.estimate.pareto_k) > self._limit

    def _more(self, fit: AdaptiveFit, first: int, last: bool) -> int:
        """Draws that are missing for the target, or to tell whether k-hat is too high; or 0."""
        target, count = self._options.target_se, int(self.estimate.n_samples)
        needed = math.ceil(float(self.estimate.relative_variance) / (_AIM_AGAIN * target) ** 2)
        more = needed - count if self._se > target else 0
        if self._is_heavy:
            doubtful = float(self.estimate.pareto_k) < self._limit + _DOUBTFUL
            more = max(more, math.ceil(_TO_TELL * first)) if doubtful else 0
        if count + more > (1.0 + _MOST_LONGER) * first and not last:
            return 0
        return max(0, min(more, fit.left))

    def _draw(self, fit: AdaptiveFit, count: int, key: int) -> ElboTerms:
        self._joint.evaluations += count
        return elbo_terms(
            self._joint.model, fit.q, count, rng=key, backend="cpu",
            n_threads=self._options.n_threads,
        )  # fmt: skip

    def _summary(self, parts: list[ElboTerms]) -> Estimate:
        terms = ElboTerms(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        joint = bool(getattr(self._joint.model, "is_joint", False))
        # The adaptation says in its own words what is wrong.
        with collected():
            return summarize(terms.log_weights if joint else terms)
