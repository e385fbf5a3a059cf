"""The result of `fastelbo.expectation`: posterior expectations with their standard errors."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from ..frozen import Frozen
from ..tables import format_cell
from ..validation import Floats
from ..weights.intervals import Interval, normal_interval

# Values that a repr shows.
_SHOWN = 8


@dataclass(frozen=True, repr=False, eq=False)
class Expectation(Frozen):
    """Posterior expectations, from weighted draws of q; see `fastelbo.expectation`.

    Attributes
    ----------
    value : ndarray, shape (*batch, *event)
        Self-normalised estimates ``sum f w / sum w``. NaN where all weights are 0.
    se : ndarray, shape (*batch, *event)
        Their standard errors. NaN where ``pareto_k_centred`` or ``pareto_k_weights`` is above its
        limit, that of the log evidence of an `Estimate`, and where all draws have the same value.
    pareto_k : ndarray, shape (*batch, *event)
        Pareto k-hat of ``|f| w``, the k-hat of the function (Vehtari et al., 2024, JMLR 25). The
        plain mean of ``f w`` has a variance if it is below 1/2. NaN where no tail is to be seen:
        the largest values are within a factor of 2 of each other. For "quantiles", which are of
        bounded functions, that of the weights.
    pareto_k_centred : ndarray, shape (*batch, *event)
        Pareto k-hat of ``|f - value| w``, on which the error of a self-normalised estimate depends;
        NaN as ``pareto_k``.
    pareto_k_weights : ndarray, shape (*batch,)
        Pareto k-hat of the weights.
    ess : ndarray, shape (*batch, *event)
        Effective sample size of the function, ``(sum |f - value| w)^2 / sum (f - value)^2 w^2``
        (Owen, Monte Carlo theory, methods and examples, 9.3, about the value). NaN for a constant.
        For "quantiles", that of the indicator of ``z <= value``.
    unnormalised, unnormalised_se : ndarray or None
        The plain mean of ``f w`` and its error, NaN where ``pareto_k`` is above its limit. None
        unless p is normalised (the model is a distribution) and f is "mean" or functions.
    n_samples : int
        K, the number of draws for each data point.
    sampler : str
        "iid" or "sobol".
    replicates : int
        R, the number of replicates of quasi-random draws; 1 for independent draws.
    label : str
        What the expectation is of.
    probs : ndarray or None
        The probabilities of "quantiles".
    note : str
        What limits the result, such as quantiles from fewer draws; empty if nothing does.

    Examples
    --------
    >>> import fastelbo as fe
    >>> p, q = fe.Gaussian([1.0], scale=1.0), fe.Gaussian([0.5], scale=1.5)
    >>> fe.expectation("mean", p, q, 10_000, rng=0).value.round(1)
    array([1.])
    """

    value: Floats
    se: Floats
    pareto_k: Floats
    pareto_k_centred: Floats
    pareto_k_weights: Floats
    ess: Floats
    unnormalised: Floats | None
    unnormalised_se: Floats | None
    n_samples: int
    sampler: str
    replicates: int
    label: str
    probs: Floats | None = None
    note: str = ""

    def __post_init__(self) -> None:
        self._set(**vars(self))

    def confidence_interval(self, confidence_level: float = 0.95) -> Interval:
        """Confidence intervals of the values.

        They are normal; for quasi-random draws they have quantiles of Student's t with R - 1
        degrees of freedom. They are NaN where there is no standard error.

        Parameters
        ----------
        confidence_level : float
            Between 0 and 1.

        Returns
        -------
        Interval
            (low, high), each of the shape of ``value``.

        Examples
        --------
        >>> import fastelbo as fe
        >>> p, q = fe.Gaussian([1.0], scale=1.0), fe.Gaussian([0.5], scale=1.5)
        >>> low, high = fe.expectation("mean", p, q, 10_000, rng=0).confidence_interval(0.999)
        >>> bool(low[0] < 1.0 < high[0])
        True
        """
        df = self.replicates - 1.0 if self.replicates > 1 else math.inf
        return normal_interval(self.value, self.se, confidence_level, df)

    def __repr__(self) -> str:
        shape = "" if self.value.shape == () else f" of shape {self.value.shape}"
        draws = f"n_samples={self.n_samples}"
        if self.replicates > 1:
            draws += f", sampler={self.sampler!r}, replicates={self.replicates}"
        lines = [f"Expectation of {self.label}{shape}, {draws}"]
        for index in itertools.islice(np.ndindex(self.value.shape), _SHOWN):
            cell = format_cell(self.value[index], self.se, index)
            where = f"[{','.join(map(str, index))}] " if index else ""
            k = self.pareto_k_centred[index]
            lines.append(f"  {where}{cell}  ess={self.ess[index]:.4g}, k-hat={k:.2f}")
        if self.value.size > _SHOWN:
            lines.append(f"  ... {self.value.size - _SHOWN} more")
        return "\n".join(lines + ([self.note] if self.note else []))
