"""Rounds of draws, to all of which a proposal is fitted, until it does not get better."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...errors import InvalidInputError
from ...models.counted import CountedJoint
from ...models.mixture import Mixture
from ...models.student_fit import (
    StudentFit,
    WeightedDraws,
    near_images,
    refitted,
    together,
    wide_component,
    with_one_more,
)
from ...models.symmetries import symmetric_mixture
from ...random import pilot_key
from ...results.adaptation import AdaptationRound
from ...special import logsumexp
from ...validation import Floats
from .draws import PastDraws, effective, normalised, tail_index, tempered

# Which of the keys that are made from the one of the call; one more for each round.
_KEY = 64
# Part of the target that a run aims at, as the variance is not known exactly.
AIM = 0.92
# Effective draws of a fit, for each coordinate; and a part of all, which is enough.
_EFFECTIVE = 20
_EFFECTIVE_PART = 0.25
# The power of p/q by which weights of a fit favour draws where q is too small: moments of p alone
# leave its tails out. With 0, 1/4 and 1/2, the least evaluations for eight schools were at 1/4.
_FAVOUR = 0.25
# The same for the wide component, which is for the tails: by p/q, draws weigh as in the variance.
_WIDE_FAVOUR = 1.0
_MOST_FAVOURED = 20.0
# Variance of the weights that is no better than before.
_SETTLED = 0.9
# Effective draws that a component needs, for each coordinate.
_FOR_COMPONENT = 3
# Rounds that the run must take, for a component to be tried: a trial takes about three.
_WORTH = 15
# Rounds without progress after which a component is added while weights are tempered.
_PATIENCE = 3
# The covariance of the wide component, relative to that of the draws.
_WIDE = 4.0
# The first proposal stays in the defensive part, with this share of it.
_FIRST = 0.3
# Draws far out that look for a wide part, their scales, and the part of all weight that they need
# to count: of a proposal that fits, they have that of their number, 4 % of a round.
_FAR_DRAWS = 40
_REACH = (3.0, 10.0, 30.0, 100.0)
_FAR_SHARE = 0.2
# Draws with less than this part of the mean weight leave a fit as it is.
_LEAST_PART = 1e-4


class Options(NamedTuple):
    """Arguments of `fastelbo.adapt`, checked."""

    target_se: float
    df: float
    n_components: int
    round_size: int
    defensive: float
    max_evaluations: int
    max_rounds: int
    n_threads: int | None


class _Better(NamedTuple):
    """The components before one was added, their variance, and the round after which it was."""

    fit: StudentFit
    variance: float
    after: int


class AdaptiveFit:
    """The proposal, and all draws so far."""

    def __init__(
        self, joint: CountedJoint, first: StudentFit, maps: Floats, options: Options, key: int
    ) -> None:
        self._joint, self._maps, self._options, self._key = joint, maps, options, key
        self._backward = np.linalg.inv(maps)
        self._most = max(options.n_components, first.size)
        self._fit = first
        self._first = first
        self._wide = first._replace(trils=math.sqrt(_WIDE) * first.trils)
        self._spent = joint.evaluations
        self.draws = PastDraws(joint.dim)
        self.history: list[AdaptationRound] = []
        self.problems: tuple[str, ...] = ()
        self.q = self._proposal()
        self._variance = math.inf

    # --- what others ask for

    @property
    def left(self) -> int:
        """Evaluations that are left."""
        return self._options.max_evaluations - (self._joint.evaluations - self._spent)

    @property
    @np.errstate(under="ignore")
    def log_evidence(self) -> tuple[float, float]:
        """Log evidence from all draws, and its standard error."""
        log_weights = self.draws.log_weights
        count = len(log_weights)
        value = float(logsumexp(log_weights)) - math.log(count)
        return value, math.sqrt(max(0.0, 1.0 / effective(log_weights) - 1.0 / count))

    @property
    def planned(self) -> int:
        """Draws of q that the target needs, by the variance on the draws so far."""
        return max(1000, math.ceil(1.05 * max(self._variance, 0.0) * self._price))

    def posterior_draws(self, count: int) -> Floats:
        """Draws of the posterior, by their weights."""
        weights = normalised(self.draws.log_weights)
        edges = (np.arange(count) + 0.5) / count
        rows = np.searchsorted(np.cumsum(weights), edges).clip(0, len(weights) - 1)
        # The first of them are spread over all.
        order = np.argsort((np.arange(count) * 0.6180339887) % 1.0)
        return np.asarray(self.draws.z[rows[order]])

    def settle(self) -> None:
        """Rounds until q does not get better, or the budget ends."""
        better: _Better | None = None
        last, best_power, stuck = math.inf, 0.0, 0
        while self._allowed():
            variance, beta = self._round()
            if beta < 1.0:
                stuck = 0 if beta > 1.1 * best_power else stuck + 1
                best_power, last = max(beta, best_power), math.inf
                adds = stuck >= _PATIENCE and self._fit.size < self._most
                stuck = 0 if adds else stuck
                self._refit(beta, self._one_more(beta) if adds else self._fit)
                continue
            if better is not None:
                pays = (better.variance - variance) * self._price >= self._options.round_size
                lost = self._fit.size <= better.fit.size
                if lost or (not pays and len(self.history) > better.after + 1):
                    self._refit(1.0, better.fit)
                    return
                better = None if pays else better
                if not pays:
                    self._refit(1.0, self._fit)
                    continue
            gain = (last - variance) * self._price
            if gain < self._options.round_size or variance > _SETTLED * last:
                if not self._may_grow(variance):
                    self._refit(1.0, self._fit)
                    return
                better = _Better(self._fit, variance, len(self.history))
                last = math.inf
                self._refit(1.0, self._one_more(1.0))
                continue
            last = min(variance, last)
            self._refit(1.0, self._fit)

    def learn(self, z: Floats, log_joint: Floats) -> None:
        """Take other draws of q, and fit it to them, too."""
        self.draws.add(self.q, z, log_joint)
        beta = self._note(self._fit.size)
        grows = beta == 1.0 and self._fit.size < self._most
        self._refit(beta, self._one_more(beta) if grows else self._fit)

    # --- a round

    @property
    def _price(self) -> float:
        """Draws that a relative variance of 1 costs."""
        return (AIM * self._options.target_se) ** -2

    def _allowed(self) -> bool:
        size = self._options.round_size
        if len(self.history) >= self._options.max_rounds:
            self.problems = (f"q had not settled after {len(self.history)} rounds (max_rounds)",)
            return False
        if self.left < 2 * size:
            self.problems = (
                "q had not settled when a run of fresh draws needed what max_evaluations = "
                f"{self._options.max_evaluations} had left",
            )
            return False
        return True

    def _round(self) -> tuple[float, float]:
        """Draw, weight; the relative variance of p/q, and the power of the weights of a fit."""
        key = pilot_key(self._key, _KEY + len(self.history))
        z = self.q.sample(self._options.round_size, rng=key)
        log_joint = self._joint(z)
        self.draws.add(self.q, z, log_joint)
        if not self.history:
            self._look_far()
        beta = self._note(self._fit.size)
        ratios = log_joint - self.q.log_prob(z)
        alone = len(z) / effective(ratios) - 1.0 if beta == 1.0 else math.inf
        return max(alone, self._variance_of(self.q)), beta

    def _look_far(self) -> None:
        """Keep a few draws far out if they show a wide part around what the first round saw."""
        first, count = self._first, len(_REACH)
        far = StudentFit(
            np.tile(first.weights / count, count),
            np.tile(first.means, (count, 1)),
            np.concatenate([scale * first.trils for scale in _REACH]),
        )
        q = symmetric_mixture(far, self._options.df, self._maps)
        z = q.sample(_FAR_DRAWS, rng=pilot_key(self._key, _KEY - 1))
        log_joint = self._joint(z)
        # So far out, a model may overflow.
        log_joint = np.where(log_joint < np.inf, log_joint, -np.inf)
        if self.draws.share_of(q, z, log_joint) > _FAR_SHARE:
            self.draws.add(q, z, log_joint)

    def _note(self, size: int) -> float:
        """Add to the history; the power of the weights."""
        log_weights = self.draws.log_weights
        if not (log_weights > -np.inf).any():
            raise InvalidInputError(
                f"q0 must have draws where log p(x, z) is finite; it is -inf at all "
                f"{len(log_weights)} draws so far"
            )
        least = min(_EFFECTIVE * self._joint.dim, _EFFECTIVE_PART * len(log_weights))
        beta, value = tempered(log_weights, least), self.log_evidence[0]
        self.history.append(
            AdaptationRound(
                self._joint.evaluations, value, effective(log_weights), tail_index(log_weights),
                beta, size,
            )
        )  # fmt: skip
        return beta

    @np.errstate(under="ignore")
    def _variance_of(self, q: Mixture) -> float:
        """Relative variance of p/q, by all draws."""
        log_weights = self.draws.log_weights
        ratios = self.draws.log_joint - q.log_prob(self.draws.z)
        total = float(logsumexp(log_weights))
        second = float(logsumexp(log_weights + ratios)) - total
        return math.exp(min(second - total + math.log(len(log_weights)), 700.0)) - 1.0

    def _may_grow(self, variance: float) -> bool:
        """Whether one more component could pay, and there are draws to fit it to."""
        size = self._fit.size + 1
        enough = effective(self.draws.log_weights) > _FOR_COMPONENT * self._joint.dim * size
        worth = variance * self._price > _WORTH * self._options.round_size
        return enough and worth and size <= self._most

    # --- a fit

    def _refit(self, beta: float, first: StudentFit) -> None:
        draws = self._weighted(beta, first, _FAVOUR)
        self._fit = refitted(draws, first, self._options.df)
        favoured = self._weighted(beta, self._fit, _WIDE_FAVOUR)
        wide = wide_component(favoured, self._fit, self._options.df, self._wide.trils[0], _WIDE)
        self._wide = together(wide, self._first, _FIRST)
        self.q = self._proposal()
        self._variance = self._variance_of(self.q)

    def _proposal(self) -> Mixture:
        whole = together(self._fit, self._wide, self._options.defensive)
        return symmetric_mixture(whole, self._options.df, self._maps)

    def _weighted(self, beta: float, first: StudentFit, favour: float) -> WeightedDraws:
        """The draws with their images, and the weights of a fit."""
        powers = beta * self.draws.log_weights
        if beta == 1.0:
            ratios = self.draws.log_joint - self.q.log_prob(self.draws.z) - self.log_evidence[0]
            powers = powers + favour * np.clip(ratios, -_MOST_FAVOURED, _MOST_FAVOURED)
        weights = normalised(powers)
        kept = weights > _LEAST_PART / len(weights)
        own = weights[kept] / weights[kept].sum()
        return near_images(self._images(self.draws.z[kept]), own, first, self._options.df)

    def _one_more(self, beta: float) -> StudentFit:
        """The components, and one at the draw that adds most to the variance."""
        ratios = self.draws.log_joint - self.q.log_prob(self.draws.z)
        where = int(np.argmax(beta * self.draws.log_weights + ratios))
        return with_one_more(self._fit, self._images(self.draws.z[[where]])[0], self._options.df)

    def _images(self, z: Floats) -> Floats:
        """Images (n, G, D) of draws: a component of an image is an image of the component."""
        if len(self._backward) == 1:
            return z[:, None]
        return np.asarray(np.einsum("gij,nj->ngi", self._backward, z))
