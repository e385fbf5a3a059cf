"""The result of bridge sampling."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..frozen import Frozen
from ..tables import format_cell
from ..validation import Floats
from .intervals import Interval, normal_interval


@dataclass(frozen=True, repr=False, eq=False)
class BridgeEstimate(Frozen):
    """A log evidence by bridge sampling, in nats; see `bridge` and `bridge_log_ratios`.

    Attributes
    ----------
    log_evidence, log_evidence_se : ndarray of shape ()
        The estimate, and its standard error ``sqrt(relative_mse)`` by the delta method. It is NaN
        where the draws do not support one, as ``problems`` says.
    relative_mse : float
        Relative mean squared error of the evidence, whatever the problems.
    overlap : float
        ``int p q / (s1 p + s2 q)`` of the normalised p and q: 1 if they are equal, 0 if they are
        apart.
    n_eff : float
        Effective number of the draws that were bridged, of which the error is.
    r_hat, ess_bulk : float
        The largest split-R-hat, and the least effective number of draws, over the coordinates of
        the draws and log p(x, z); of `bridge_log_ratios`, those of the log ratios. NaN for chains
        of fewer than 10 draws.
    n_draws, n_proposal : int
        Draws of the posterior that were bridged, and draws of q.
    problems : tuple of str
        Why the answer is doubtful; empty if nothing is known against it.

    Examples
    --------
    >>> import fastelbo as fe
    >>> p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.5], scale=1.25)
    >>> points = p.sample(4000, rng=0), q.sample(4000, rng=1)
    >>> l1, l2 = (p.log_prob(z) + 7.0 - q.log_prob(z) for z in points)
    >>> result = fe.bridge_log_ratios(l1, l2, n_eff=4000)
    >>> result.flagged, result.evaluations
    (False, 8000)
    """

    log_evidence: Floats
    log_evidence_se: Floats
    relative_mse: float
    overlap: float
    n_eff: float
    r_hat: float
    ess_bulk: float
    n_draws: int
    n_proposal: int
    problems: tuple[str, ...]
    # The key of the draws of q, where it is known.
    _key: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._set(**vars(self))

    @property
    def flagged(self) -> bool:
        """Whether there are problems."""
        return bool(self.problems)

    @property
    def evaluations(self) -> int:
        """Number of points at which log p(x, z) was needed: ``n_draws + n_proposal``."""
        return self.n_draws + self.n_proposal

    def confidence_interval(self, confidence_level: float = 0.95) -> Interval:
        """Normal confidence interval of the log evidence; without ends if it has no error.

        Parameters
        ----------
        confidence_level : float
            Between 0 and 1.

        Returns
        -------
        Interval
            (low, high).
        """
        se = np.where(np.isnan(self.log_evidence_se), np.inf, self.log_evidence_se)
        return normal_interval(self.log_evidence, se, confidence_level)

    def __repr__(self) -> str:
        lines = [
            "Bridge sampling, in nats",
            f"  log_evidence  {format_cell(self.log_evidence, self.log_evidence_se, ())}",
            f"  draws         {self.n_draws}, effective {self.n_eff:.0f}, R-hat {self.r_hat:.3f}; "
            f"{self.n_proposal} of q",
        ]
        return "\n".join([*lines, *(f"  problem       {each}" for each in self.problems)])
