"""The result of `fastelbo.elbo_gradient`: a bound and its gradients, with their standard errors."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..frozen import Frozen
from ..tables import format_cell
from ..weights.bounds import Bound

# The fields that hold gradients, in the order in which they are shown.
PARAMETERS = (
    "mean",
    "scale",
    "scale_tril",
    "log_scale",
    "logits",
    "loadings",
    "offset",
    "noise_cov",
    "prior_mean",
    "prior_cov",
)
# Entries of each gradient that a repr shows.
_SHOWN = 4

# A gradient that was not asked for. Fields are typed as bounds, so that those that were can be read
# without a test for None.
_ABSENT: Any = None


@dataclass(frozen=True, repr=False, eq=False)
class ElboGradient(Frozen):
    """A bound and its gradients, each a `Bound` of value and standard error, in nats.

    Where the gradients are summed, a parameter that data points share has the gradient of the sum
    of their bounds, and one with a batch has a gradient for each member; so has ``value``, which is
    then the sum over the batch. Per data point, everything has the batch in front.

    Attributes
    ----------
    value : Bound
        The bound: the ELBO, the importance-weighted bound of k draws, or Renyi's. One entry a data
        point, or their sum.
    mean : Bound or None, shape (*batch, D), or (*batch, C, D) for a Mixture
        Gradient of q's mean. This field and those below are None where they were not asked for, or
        q and the model have no such parameter.
    scale : Bound or None, shape (*batch, D), or (*batch, C, D)
        Gradient of q's diagonal scale.
    scale_tril : Bound or None, shape (*batch, D, D), or (*batch, C, D, D)
        Gradient of q's lower triangular scale, also for a q that was made of ``cov``; lower
        triangular.
    log_scale : Bound or None, shape (*batch, D), or (*batch, C, D)
        Gradient of the logarithm of q's diagonal scale.
    logits : Bound or None, shape (*batch, C)
        Gradient of the logits of a Mixture's or a Categorical's probabilities; its sum is 0.
    loadings : Bound or None, shape (P, D)
        Gradient of the loadings of a `LinearGaussian`.
    offset : Bound or None, shape (P,)
        Gradient of its offset.
    noise_cov : Bound or None, shape (P,) or (P, P)
        Gradient of its noise variances; of a noise covariance matrix, that of a matrix of which all
        entries are free.
    prior_mean : Bound or None, shape (*batch, D)
        Gradient of the mean of its Gaussian prior.
    prior_cov : Bound or None, shape (*batch, D, D)
        Gradient of the prior's covariance matrix, of which all entries are free; for a diagonal
        prior, the diagonal has the gradients of the variances.
    estimator : str
        "total", "stl", "dreg", "renyi", "rws", "vimco", "score", "siwae", or "exact".
    k : int
        Number of draws in a group, of each component for "siwae".
    alpha : float or None
        Order of Renyi's bound.
    n_samples : int
        Draws of each data point that were used, k for each group; 0 for "exact".
    n_groups : int
        Groups over which errors are taken; 0 for "exact".
    biased : bool
        Whether the gradient is, in expectation, another one than that of ``value``.
    note : str
        What limits the result; empty if nothing does.

    Examples
    --------
    >>> import numpy as np
    >>> from fastelbo import Bound
    >>> from fastelbo.results.gradient import ElboGradient
    >>> value = Bound(np.array(-1.5), np.array(0.01))
    >>> mean = Bound(np.array([0.2]), np.array([0.02]))
    >>> ElboGradient(value, mean=mean, estimator="stl", n_samples=1000, n_groups=1000)
    ElboGradient of elbo = -1.500 +- 0.010, estimator='stl', k=1, n_samples=1000
      mean (1,)  [0] 0.200 +- 0.020
    """

    value: Bound
    mean: Bound = _ABSENT
    scale: Bound = _ABSENT
    scale_tril: Bound = _ABSENT
    log_scale: Bound = _ABSENT
    logits: Bound = _ABSENT
    loadings: Bound = _ABSENT
    offset: Bound = _ABSENT
    noise_cov: Bound = _ABSENT
    prior_mean: Bound = _ABSENT
    prior_cov: Bound = _ABSENT
    estimator: str = "exact"
    k: int = 1
    alpha: float | None = None
    n_samples: int = 0
    n_groups: int = 0
    biased: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        self._set(**vars(self))

    @property
    def gradients(self) -> dict[str, Bound]:
        """The gradients by the names of their parameters."""
        found = {name: getattr(self, name) for name in PARAMETERS}
        return {name: bound for name, bound in found.items() if bound is not None}

    def __repr__(self) -> str:
        drawn = f"estimator={self.estimator!r}"
        if self.estimator != "exact":
            drawn += f", k={self.k}, n_samples={self.n_samples}"
        head = f"ElboGradient of {self._bound} "
        head += f"= {_cells(self.value)}" if self.value.value.ndim == 0 else _row(self.value)
        lines = [f"{head}, {drawn}"]
        lines += [f"  {name} {_row(bound)}" for name, bound in self.gradients.items()]
        if self.biased:
            lines.append("Biased for this bound.")
        return "\n".join(lines + ([self.note] if self.note else []))

    @property
    def _bound(self) -> str:
        """What the value is."""
        if self.alpha is not None:
            return f"renyi_bound({self.alpha:g}) of k={self.k}"
        if self.estimator == "siwae":
            return f"siwae({self.k})"
        return "elbo" if self.k == 1 else f"iw_elbo({self.k})"


def _row(bound: Bound) -> str:
    """The shape and the first entries."""
    return f"{bound.value.shape}  {_cells(bound)}"


def _cells(bound: Bound) -> str:
    """The first entries, with their errors."""
    value, se = bound
    cells = []
    for index in itertools.islice(np.ndindex(value.shape), _SHOWN):
        where = f"[{','.join(map(str, index))}] " if index else ""
        cells.append(where + format_cell(value[index], se, index))
    more = f"  ... {value.size - _SHOWN} more" if value.size > _SHOWN else ""
    return "  ".join(cells) + more
