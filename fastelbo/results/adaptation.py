"""The result of an adaptation: q, the estimate by it, and how it was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..models.mixture import Mixture
from ..plotting import plot_history
from .estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class AdaptationRound(NamedTuple):
    """What an adaptation knew after a round of draws; see `fastelbo.adapt`.

    Attributes
    ----------
    evaluations : int
        Values of log p(x, z) so far, those of the search for a mode too.
    log_evidence : float
        From all draws so far, in nats. Proposals were fitted to these draws: it is biased, and
        mostly too low.
    ess : float
        Effective number of all draws so far.
    pareto_k : float
        k-hat of their weights.
    beta : float
        The power of the weights that the next proposal was fitted to: below 1, few draws had most
        of the weight.
    n_components : int
        Components of the proposal of this round, without the wide ones and without images.

    Examples
    --------
    >>> import fastelbo as fe
    >>> found = fe.adapt(fe.Gaussian([0.0], scale=1.0), target_se=0.05, rng=0)
    >>> found.history[-1].beta, found.history[-1].n_components
    (1.0, 1)
    """

    evaluations: int
    log_evidence: float
    ess: float
    pareto_k: float
    beta: float
    n_components: int


@dataclass(frozen=True, repr=False, eq=False)
class Adaptation:
    """A proposal that was fitted to a model, and the estimate by fresh draws of it; see `adapt`.

    Attributes
    ----------
    q : Mixture
        Student-t components, the last of which are the wide ones; with symmetries, all their
        images.
    estimate : Estimate
        By draws of ``q`` that nothing was fitted to. Its numbers alone are an answer.
    history : tuple of AdaptationRound
        The rounds in which ``q`` was found.
    evaluations : int
        Values of log p(x, z) in all: of the search for a mode, the rounds, and the estimate.
    problems : tuple of str
        Why the estimate may be wrong, one sentence each; empty if nothing was found.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([1.0, 2.0], [[1.0, 0.5], [0.0, 1.0]], noise_cov=1.0)
    >>> found = fe.adapt(model, target_se=0.02, rng=0)
    >>> error = found.estimate.log_evidence - model.exact_log_evidence()
    >>> found.flagged, bool(abs(error) < 0.08)
    (False, True)
    """

    q: Mixture
    estimate: Estimate
    history: tuple[AdaptationRound, ...]
    evaluations: int
    problems: tuple[str, ...]

    @property
    def flagged(self) -> bool:
        """Whether the estimate may be wrong; ``problems`` say why."""
        return bool(self.problems)

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Log evidence against evaluations: of each round, and the estimate by fresh draws.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Axes to draw into; a new figure by default.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import fastelbo as fe
        >>> model = fe.Gaussian([0.5], scale=2.0)
        >>> ax = fe.adapt(model, target_se=0.02, rng=0).plot()
        >>> ax.get_xlabel()
        'evaluations of log p(x, z)'
        """
        evaluations = [each.evaluations for each in self.history]
        return plot_history(
            evaluations, [each.log_evidence for each in self.history],
            [each.ess for each in self.history], self.evaluations,
            float(self.estimate.log_evidence), float(self.estimate.log_evidence_se), ax=ax,
        )  # fmt: skip

    def __repr__(self) -> str:
        lines = [
            f"Adaptation({self.estimate!r},",
            f"  {self.q!r}, {self.evaluations} evaluations, {len(self.history)} rounds,",
        ]
        lines += [f"  problem: {problem}," for problem in self.problems] or ["  no problems,"]
        return "\n".join(lines)[:-1] + ")"
