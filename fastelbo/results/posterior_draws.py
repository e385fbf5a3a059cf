"""The result of `fastelbo.importance_resample`: draws of the posterior, and their form in ArviZ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..frozen import Frozen
from ..optional import optional
from ..validation import Floats, Integers
from ..version import __version__
from ..weights.pareto import in_words


@dataclass(frozen=True, repr=False, eq=False)
class PosteriorDraws(Frozen):
    """Draws of the posterior, chosen among weighted draws of q; see `importance_resample`.

    Attributes
    ----------
    draws : ndarray, shape (*batch, n, D)
        The chosen draws, in the order of their addresses; without replacement, in the order in
        which they were chosen. Copies of one draw stand beside each other.
    log_weights : ndarray, shape (*batch, n)
        Their log weights ``log p(x, z) - log q(z)``, in nats. They have been used: the draws
        themselves are of equal weight.
    index : ndarray of int, shape (*batch, n)
        Which of the ``n_samples`` draws of q each is, in the order of `fastelbo.log_weights`.
    pareto_k : ndarray, shape (*batch,)
        k-hat of the weights of all draws of q. Above its limit, the draws are not those of the
        posterior.
    ess : ndarray, shape (*batch,)
        Effective sample size of all draws of q. No more than so many draws are worth choosing.
    n_samples : int
        Number of draws of q.
    replace : bool
        Whether a draw may have been chosen more than once.
    names : tuple of str or None
        Names of the coordinates, where the model has them.

    Examples
    --------
    >>> import fastelbo as fe
    >>> p, q = fe.Gaussian([1.0], scale=1.0), fe.Gaussian([0.5], scale=1.5)
    >>> fe.importance_resample(p, q, 500, rng=0).draws.shape
    (500, 1)
    """

    draws: Floats
    log_weights: Floats
    index: Integers
    pareto_k: Floats
    ess: Floats
    n_samples: int
    replace: bool
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self._set(**vars(self))

    def to_arviz(self) -> Any:
        """The draws as ArviZ takes them, as one chain.

        Returns
        -------
        arviz.InferenceData, or xarray.DataTree with ArviZ 1.0 and later
            The group "posterior" has a variable for each name of the model's coordinates, or ``z``
            with the dimension ``z_dim``. The group "sample_stats" has ``log_weight``, ``index``,
            ``pareto_k`` and ``ess``. The axes of a batch are ``point``, or ``point_0`` and so on.

        Raises
        ------
        ImportError
            If ArviZ is not installed (``pip install arviz``).

        Examples
        --------
        >>> import fastelbo as fe
        >>> p, q = fe.Gaussian([1.0], scale=1.0), fe.Gaussian([0.5], scale=1.5)
        >>> data = fe.importance_resample(p, q, 500, rng=0).to_arviz()  # doctest: +SKIP
        """
        arviz = optional("arviz", "to_arviz()", "arviz")
        xarray = optional("xarray", "to_arviz()", '"fastelbo[export]"')
        groups = {
            name: xarray.Dataset(variables, attrs=_FACTS)
            for name, variables in (
                ("posterior", self._posterior()),
                ("sample_stats", self._stats()),
            )
        }
        kind = getattr(arviz, "InferenceData", None)
        tree: Any = getattr(xarray, "DataTree", None)
        # From ArviZ 1.0 on, one is a name of the other.
        if kind in (None, tree):
            return tree.from_dict({f"/{name}": data for name, data in groups.items()})
        return kind(**groups)

    @property
    def _batch(self) -> tuple[str, ...]:
        axes = self.pareto_k.ndim
        return ("point",) if axes == 1 else tuple(f"point_{axis}" for axis in range(axes))

    def _posterior(self) -> dict[str, Any]:
        # ArviZ has the axes of chains and of draws first.
        draws = np.moveaxis(self.draws, -2, 0)[None]
        axes = ("chain", "draw", *self._batch)
        if self.names is None:
            return {"z": ((*axes, "z_dim"), draws.copy())}
        return {name: (axes, draws[..., d].copy()) for d, name in enumerate(self.names)}

    def _stats(self) -> dict[str, Any]:
        axes = ("chain", "draw", *self._batch)
        of_draws = {"log_weight": self.log_weights, "index": self.index}
        stats: dict[str, Any] = {
            name: (axes, np.moveaxis(array, -1, 0)[None].copy()) for name, array in of_draws.items()
        }
        return stats | {
            name: (self._batch, getattr(self, name).copy()) for name in ("pareto_k", "ess")
        }

    def __repr__(self) -> str:
        count, dim = self.draws.shape[-2:]
        points = f"{self.pareto_k.size} data points, " if self.pareto_k.ndim else ""
        known = self.pareto_k[~np.isnan(self.pareto_k)]
        worst = f"{known.max():.2f}" if known.size else "nan"
        ess = f"{self.ess.min(initial=np.inf):.4g}" if self.ess.ndim else f"{self.ess.item():.4g}"
        least, most = ("least ", "worst ") if points else ("", "")
        how = "with" if self.replace else "without"
        return (
            f"PosteriorDraws({points}{count} draws, D={dim}, {how} replacement, of "
            f"{in_words(self.n_samples)} draws of q, {least}ess={ess}, {most}pareto_k={worst})"
        )


# ArviZ's names for the library that made a group.
_FACTS = {
    "inference_library": "fastelbo",
    "inference_library_version": __version__,
    "sampling_method": "importance resampling",
}
