"""The result of a fit: q and the model, the ELBO and evidence they reach, and how it rose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..frozen import Frozen
from ..plotting import plot_fit
from ..tables import format_cell, format_table
from ..validation import Floats, Integers, as_choice
from ..weights.bounds import Bound
from .estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False, eq=False)
class FitHistory(Frozen):
    """How the ELBO rose, one entry an iteration that was recorded.

    Attributes
    ----------
    iteration : ndarray of int
        Number of the iteration, 0 before the first.
    seconds : ndarray
        Time since the fit began.
    elbo, elbo_se : ndarray
        Summed over data points, in nats, from the draws of the fit: optimistic where q was fitted
        to them. The error is 0 where the ELBO is exact, and NaN where it is not known.
    evaluations : ndarray of int
        Values of log p(x, z), or gradients, so far: of all draws of all data points.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fit = fe.fit(fe.LinearGaussian([[1.0], [2.0]], [[1.0]], noise_cov=1.0))
    >>> len(fit.history), fit.history.elbo.round(2)
    (1, array([-3.78]))
    """

    iteration: Integers
    seconds: Floats
    elbo: Floats
    elbo_se: Floats
    evaluations: Integers

    def __post_init__(self) -> None:
        counts = ("iteration", "evaluations")
        self._set(
            **{
                name: np.array(value, np.int64 if name in counts else np.float64)
                for name, value in vars(self).items()
            }
        )

    def __len__(self) -> int:
        return len(self.iteration)

    def __repr__(self) -> str:
        if not len(self):
            return "FitHistory(empty)"
        return (
            f"FitHistory({len(self)} entries, elbo {self.elbo[0]:.6g} to {self.elbo[-1]:.6g}, "
            f"{self.seconds[-1]:.3g} s)"
        )


@dataclass(frozen=True, repr=False, eq=False)
class Fit(Frozen):
    """What was fitted, and how good it is; see `fastelbo.fit`.

    Attributes
    ----------
    q : Gaussian, StudentT, Mixture or Categorical
        The approximate posterior; the exact one of ``model`` where that is known.
    model : LinearGaussian, MixtureModel, Model or a distribution
        The fitted model, or the one that was given.
    elbo_per_point, log_evidence_per_point : Bound
        In the shape of the batch, in nats, from fresh draws, as the draws of a fit are optimistic;
        with errors of 0 where they have a closed form.
    elbo, log_evidence : Bound
        Their sums over data points. That of the log evidence is corrected for its bias, as by
        `Estimate.total`.
    pareto_k : ndarray
        k-hat of the weights of the fresh draws, in the shape of the batch; NaN without draws.
    estimate : Estimate or None
        By the fresh draws; None where q is the exact posterior, unless draws were asked for, and of
        a MixtureModel, whose sums over classes need none.
    method : str
        ``"closed"``, ``"em"``, ``"newton"``, ``"lbfgs"`` or ``"adam"``.
    n_iter : int
        Iterations; 0 for a closed form.
    converged : bool
        Whether the method met its tolerance.
    message : str
        Why it stopped.
    history : FitHistory
        How the ELBO rose.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0, 2.0]], [[1.0, 0.5], [0.0, 1.0]], noise_cov=1.0)
    >>> fit = fe.fit(model, fe.Gaussian([0.0, 0.0], scale=1.0))
    >>> print(fit.summary())
                           sum  a data point
            elbo  -3.6487 +- 0  -3.6487 +- 0
    log_evidence  -3.6202 +- 0  -3.6202 +- 0
    closed: closed form
    """

    q: Any
    model: Any
    elbo: Bound
    log_evidence: Bound
    elbo_per_point: Bound
    log_evidence_per_point: Bound
    pareto_k: Floats
    estimate: Estimate | None
    method: str
    n_iter: int
    converged: bool
    message: str
    history: FitHistory

    def __post_init__(self) -> None:
        self._set(**vars(self))

    def plot(self, x: str = "iteration", *, ax: Axes | None = None) -> Axes:
        """The ELBO, summed over data points, as it rose; at its end the one from fresh draws.

        Parameters
        ----------
        x : {"iteration", "seconds", "evaluations"}
            The horizontal axis.
        ax : matplotlib Axes, optional
            Axes to draw into; a new figure by default.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import fastelbo as fe
        >>> fit = fe.fit(fe.LinearGaussian([[1.0], [2.0]], [[1.0]], noise_cov=1.0))
        >>> fit.plot().get_xlabel()
        'iteration'
        """
        as_choice(x, "x", tuple(_LABELS))
        return plot_fit(
            np.asarray(getattr(self.history, x)), self.history.elbo, self.history.elbo_se,
            _LABELS[x], self.elbo, self.log_evidence, ax=ax,
        )  # fmt: skip

    @np.errstate(all="ignore")
    def summary(self) -> str:
        """A table of ELBO and log evidence: their sums, and their means over data points."""
        count = max(1, self.elbo_per_point.value.size)
        rows = [["", "sum", "a data point"]]
        for name in ("elbo", "log_evidence"):
            value, se = getattr(self, name)
            rows.append([name, format_cell(value, se, ())])
            rows[-1].append(format_cell(value / count, se / count, ()))
        steps = f" after {self.n_iter} iterations" if self.n_iter else ""
        return f"{format_table(rows)}\n{self.method}{steps}: {self.message}"

    def __str__(self) -> str:
        return f"{self!r}\n{self.summary()}"

    def __repr__(self) -> str:
        count = self.elbo_per_point.value.size
        points = "" if count == 1 else f", {count} data points"
        ended = "converged" if self.converged else "not converged"
        return (
            f"Fit({self.method}, {ended}, n_iter={self.n_iter}{points}, "
            f"elbo={format_cell(*self.elbo, ())}, "
            f"log_evidence={format_cell(*self.log_evidence, ())}, q={self.q!r})"
        )


_LABELS = {
    "iteration": "iteration",
    "seconds": "seconds",
    "evaluations": "evaluations of log p(x, z)",
}
