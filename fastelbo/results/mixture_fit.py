"""The result of a fit of a mixture: the mixture, its likelihood, and how that rose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..frozen import Frozen
from ..models.mixture import Mixture
from ..models.mixture_model import MixtureModel
from ..plotting import plot_mixture_fit
from ..validation import Floats
from ..weights.bounds import Bound

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class MixtureHistory(NamedTuple):
    """How the mean log likelihood rose from the start that was kept; see `MixtureFit`.

    Attributes
    ----------
    seconds : ndarray, shape (n,)
        Time since this start.
    log_likelihood : ndarray, shape (n,)
        In nats a data point; it never falls. Extrapolated steps that were taken back are left out.

    Examples
    --------
    >>> import fastelbo as fe
    >>> history = fe.fit_mixture([[0.0], [0.5], [4.0], [5.0]], 1, rng=0).history
    >>> history.log_likelihood.round(4)
    array([-2.1897, -2.1897])
    """

    seconds: Floats
    log_likelihood: Floats


@dataclass(frozen=True, repr=False, eq=False)
class MixtureFit(Frozen):
    """A Gaussian mixture that was fitted to data; see `fit_mixture`.

    Attributes
    ----------
    mixture : Mixture
        C Gaussian components. It can be the p or the q of an `estimate`, and
        ``MixtureModel(x, fit.mixture)`` has labels as latent variables.
    log_likelihood : float
        ``sum_i w_i log p(x_i)``, in nats, of this mixture.
    mean_log_likelihood : Bound
        The same a data point, ``log_likelihood / sum_i w_i``, and its standard error over data
        points. The mixture was fitted to these points, so that it is too high for others.
    converged : bool
        Whether no more than the tolerance was left to gain.
    n_iter : int
        Passes over the data from the start that was kept.
    start : int
        Number of the start that was kept, from 0.
    start_log_likelihoods : ndarray, shape (n_init,)
        Where each start ended. Starts that end in different places have found local maxima.
    history : MixtureHistory
        How the mean log likelihood rose from that start.
    covariance_type : str
        ``"full"``, ``"tied"``, ``"diag"`` or ``"spherical"``.
    n_parameters : int
        Free parameters of the mixture.
    n_data : float
        Sum of the weights; without weights, the number of data points.
    problems : tuple of str
        What the warning said, one sentence each; empty if nothing was found.

    Examples
    --------
    >>> import fastelbo as fe
    >>> fit = fe.fit_mixture(fe.datasets.load_faithful(), 2, rng=0)
    >>> round(fit.log_likelihood, 5), fit.converged
    (-1130.26396, True)
    >>> fit.responsibilities([[2.0, 55.0]]).round(3).max()
    np.float64(1.0)
    """

    mixture: Mixture
    log_likelihood: float
    mean_log_likelihood: Bound
    converged: bool
    n_iter: int
    start: int
    start_log_likelihoods: Floats
    history: MixtureHistory
    covariance_type: str
    n_parameters: int
    n_data: float
    problems: tuple[str, ...]

    def __post_init__(self) -> None:
        self._set(**vars(self))

    @property
    def aic(self) -> float:
        """Akaike's criterion, ``2 n_parameters - 2 log_likelihood``: the lower the better."""
        return 2.0 * (self.n_parameters - self.log_likelihood)

    @property
    def bic(self) -> float:
        """Schwarz's criterion, ``n_parameters log n_data - 2 log_likelihood``; lower is better."""
        return self.n_parameters * math.log(self.n_data) - 2.0 * self.log_likelihood

    def responsibilities(self, x: ArrayLike) -> Floats:
        """p(c | x) for data points x (..., D), shape (..., C).

        Examples
        --------
        >>> import fastelbo as fe
        >>> fit = fe.fit_mixture(fe.datasets.load_galaxies()[:, None], 3, rng=0)
        >>> fit.responsibilities([[20.0], [33.0]]).shape
        (2, 3)
        """
        return MixtureModel(x, self.mixture).exact_posterior().probs

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Mean log likelihood against seconds, and where the other starts ended.

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
        >>> ax = fe.fit_mixture(fe.datasets.load_faithful(), 2, rng=0).plot()
        >>> ax.get_xlabel()
        'seconds'
        """
        ends = self.start_log_likelihoods / self.n_data
        return plot_mixture_fit(*self.history, np.delete(ends, self.start), ax=ax)

    def __repr__(self) -> str:
        value, se = self.mean_log_likelihood
        many = len(self.start_log_likelihoods)
        how = "converged" if self.converged else "not converged"
        lines = [
            f"MixtureFit({self.mixture!r}, {self.covariance_type},",
            f"  log_likelihood={self.log_likelihood:.8g}, a data point {value:.6g} +- {se:.2g},",
            f"  start {self.start} of {many}, {how} after {self.n_iter} passes,",
            f"  bic={self.bic:.6g},",
        ]
        lines += [f"  problem: {problem}," for problem in self.problems]
        return "\n".join(lines)[:-1] + ")"
