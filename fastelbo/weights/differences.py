"""The difference of two results, with its standard error."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..frozen import Frozen
from ..tables import format_cell, interval_cell
from ..validation import Floats
from .intervals import Interval

_SHOWN = 5


@dataclass(frozen=True, repr=False, eq=False)
class Difference(Frozen):
    """The difference of two results, in nats: ``est - other`` or ``loo - other``.

    Attributes
    ----------
    quantity : str
        What is compared: ``"log_evidence"`` of two estimates, whose difference is the log Bayes
        factor, or ``"elpd_loo"`` of two cross-validations. Above 0, the first is better.
    value, se : ndarray
        The difference and its standard error, in the shape of the batch; () for ``"elpd_loo"``.
        NaN where one of two independent estimates has no standard error.
    flagged : ndarray of bool
        Where one of the two is flagged, as by a Pareto k-hat above its limit or by problems of a
        bridge: neither ``value`` nor ``se`` can be relied on.

    Examples
    --------
    >>> import fastelbo as fe
    >>> p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=1.25)
    >>> first, second = (fe.estimate(p, q, n_samples=10_000, rng=seed) for seed in (0, 1))
    >>> difference = first - second
    >>> bool(abs(difference.value) < 4.0 * difference.se)
    True
    """

    quantity: str
    value: Floats
    se: Floats
    flagged: NDArray[np.bool_]
    # The interval at a confidence level.
    _interval: Callable[[float], Interval] = field(repr=False)

    def __post_init__(self) -> None:
        self._set(**vars(self))

    def confidence_interval(self, confidence_level: float = 0.95) -> Interval:
        """Confidence interval of the difference.

        Parameters
        ----------
        confidence_level : float
            Between 0 and 1.

        Returns
        -------
        Interval
            (low, high), each of the shape of ``value``. For log evidences it covers what is unknown
            about the weights' tails: an end is infinite where a tail may have no mean. For
            ``"elpd_loo"`` it is normal.
        """
        return self._interval(confidence_level)

    def __repr__(self) -> str:
        count = self.value.size
        cells = ", ".join(map(self._cell, itertools.islice(np.ndindex(self.value.shape), _SHOWN)))
        if count != 1:
            cells = f"[{cells}{', ...' if count > _SHOWN else ''}] at {count} data points"
        flags = int(self.flagged.sum())
        warning = "" if not flags else "; a result is flagged"
        if flags and count != 1:
            warning += f" at {flags} of them"
        return f"Difference({self.quantity}: {cells}{warning})"

    def _cell(self, index: tuple[int, ...]) -> str:
        cell = ""
        if np.isnan(self.se[index]):
            low, high = self.confidence_interval()
            cell = interval_cell(*(np.asarray(each[index]) for each in (self.value, low, high)))
        return cell or format_cell(self.value[index], self.se, index)
