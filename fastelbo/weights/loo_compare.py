"""Comparison of models by leave-one-out cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import HighParetoKWarning, InvalidInputError
from ..frozen import Frozen
from ..optional import optional
from ..tables import fixed, format_cell, format_table, html_table
from ..validation import Floats, as_sequence, shown
from .diagnostics import warn
from .loo_result import LooResult
from .scaled import sum_and_error
from .stacking import stacking_weights

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False, eq=False)
class LooComparison(Frozen):
    """Models of the same observations, the best first, in nats; see `loo_compare`.

    Attributes
    ----------
    names : tuple of str
        M models, by falling ``elpd_loo``.
    elpd_loo, elpd_loo_se : ndarray
        (M,) Expected log pointwise predictive density of each, and its standard error.
    p_loo : ndarray
        (M,) Effective number of parameters.
    elpd_diff, elpd_diff_se : ndarray
        (M,) ``elpd_loo`` less that of the best, at most 0, and the standard error of this
        difference; 0 for the best.
    weights : ndarray
        (M,) Stacking weights: the mixture of the predictive densities that predicts best.
    flagged : ndarray of bool
        (M,) Whether a k-hat of the model is above its threshold or unknown: none of its numbers can
        be relied on.
    n_observations : int
        N.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> log_likelihood = 0.1 * np.random.default_rng(0).normal(size=(1000, 30)) - 2.0
    >>> better, worse = fe.loo(log_likelihood + 0.5), fe.loo(log_likelihood)
    >>> fe.loo_compare({"worse": worse, "better": better}).names
    ('better', 'worse')
    """

    names: tuple[str, ...]
    elpd_loo: Floats
    elpd_loo_se: Floats
    p_loo: Floats
    elpd_diff: Floats
    elpd_diff_se: Floats
    weights: Floats
    flagged: NDArray[np.bool_]
    n_observations: int

    def __post_init__(self) -> None:
        self._set(**vars(self))

    def to_pandas(self) -> DataFrame:
        """A pandas DataFrame with one row per model, whose index is its name, and these columns:

        ``elpd_loo``, ``elpd_loo_se``, ``p_loo``, ``elpd_diff``, ``elpd_diff_se``, ``weights`` and
        ``flagged``. The ``attrs`` of the frame have ``n_observations``.

        Raises
        ------
        ImportError
            If pandas is not installed (``pip install "fastelbo[export]"``).
        """
        pandas = optional("pandas", "to_pandas()", '"fastelbo[export]"')
        columns = {key: each for key, each in vars(self).items() if isinstance(each, np.ndarray)}
        frame: DataFrame = pandas.DataFrame(columns, index=pandas.Index(self.names, name="model"))
        frame.attrs = {"n_observations": self.n_observations}
        return frame

    @property
    def _heading(self) -> str:
        return f"Models by leave-one-out cross-validation of {self.n_observations}, in nats"

    def _rows(self) -> list[list[str]]:
        """The cells of the table, headings first."""
        rows = [["model", "elpd_loo", "elpd_diff", "weight", "p_loo", ""]]
        for i, name in enumerate(self.names):
            rows.append(
                [
                    name,
                    format_cell(self.elpd_loo[i], self.elpd_loo_se, (i,)),
                    format_cell(self.elpd_diff[i], self.elpd_diff_se, (i,)) if i else "0",
                    fixed(float(self.weights[i]), 2),
                    fixed(float(self.p_loo[i]), 1),
                    "k-hat above its threshold or unknown" if self.flagged[i] else "",
                ]
            )
        return rows

    def __repr__(self) -> str:
        table = format_table(self._rows())
        return "\n\n".join([self._heading, "\n".join(line.rstrip() for line in table.splitlines())])

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return html_table(self._rows(), self._heading)


def loo_compare(models: Mapping[str, LooResult] | Sequence[LooResult]) -> LooComparison:
    """Compare models of the same observations by their leave-one-out cross-validations.

    Parameters
    ----------
    models : mapping of str to LooResult, or sequence of LooResult
        Results of `loo` by name, of the same observations in the same order. Those of a sequence
        are named ``"model1"``, ``"model2"``, ...

    Returns
    -------
    LooComparison
        Differences of ``elpd_loo`` from the best model with their standard errors, and stacking
        weights.

    Raises
    ------
    InvalidInputError
        If there are fewer than two models, if one is no `LooResult`, if the numbers of observations
        differ, or if a pointwise value is not finite.

    Warns
    -----
    HighParetoKWarning
        If a k-hat of a model is above its threshold or unknown; with the names of such models.

    Notes
    -----
    The standard error of a difference is sqrt(N) times the sample standard deviation of the N
    differences of pointwise values, as in the R package loo; ArviZ divides by N, not N - 1.
    Weights maximise ``sum_i log sum_k w_k exp(elpd_ik)`` with w_k of at least 0 that sum to 1 (Yao,
    Vehtari, Simpson and Gelman, 2018, Bayesian Analysis 13). Equal models share their weight.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y, noise = rng.normal(size=50), 0.1 * rng.normal(size=(2, 1000, 1))
    >>> near, far = (fe.loo(-0.5 * (y - at - draws) ** 2) for at, draws in zip((0.0, 2.0), noise))
    >>> comparison = fe.loo_compare({"far": far, "near": near})
    >>> comparison.names, bool(comparison.elpd_diff[1] < -20.0)
    (('near', 'far'), True)
    """
    names, results = _named(models)
    counts = [len(each.pointwise) for each in results]
    if len(set(counts)) > 1 or not counts[0]:
        listed = ", ".join(f"{name} {n}" for name, n in zip(names, counts, strict=True))
        raise InvalidInputError(
            "models must be results for the same observations, at least one, got these numbers of "
            f"them: {listed}"
        )
    pointwise = np.stack([each.pointwise for each in results], axis=1)
    lost = np.asarray(~np.isfinite(pointwise).all(axis=0))
    if lost.any():
        raise InvalidInputError(
            f"models must have finite pointwise values, got others for {_listed(names, lost)}"
        )
    order = np.argsort([-each.elpd_loo for each in results], kind="stable")
    best = pointwise[:, order[0]]
    differences = np.array([sum_and_error(pointwise[:, k], -best) for k in order])
    differences[0, 1] = 0.0
    flagged = np.array([each._flagged for each in results])
    if flagged.any():
        warn(
            HighParetoKWarning,
            f"k-hat is above its threshold, or unknown, for an observation of "
            f"{_listed(names, flagged)}: "
            "neither their elpd_loo and differences nor any weights can be relied on",
            depth=-1,
        )
    return LooComparison(
        names=tuple(names[k] for k in order),
        elpd_loo=np.array([results[k].elpd_loo for k in order]),
        elpd_loo_se=np.array([results[k].elpd_loo_se for k in order]),
        p_loo=np.array([results[k].p_loo for k in order]),
        elpd_diff=differences[:, 0],
        elpd_diff_se=differences[:, 1],
        weights=stacking_weights(pointwise[:, order]),
        flagged=flagged[order],
        n_observations=counts[0],
    )


def _named(models: Any) -> tuple[list[str], list[LooResult]]:
    """Names and results, checked."""
    if isinstance(models, LooResult):
        raise InvalidInputError("models must be at least two results, got one LooResult")
    if isinstance(models, Mapping):
        names, results = list(models), list(models.values())
    else:
        results = as_sequence(models, "models", "results of loo")
        names = [f"model{i}" for i in range(1, len(results) + 1)]
    for name, result in zip(names, results, strict=True):
        if not isinstance(name, str):
            raise InvalidInputError(f"models must have names that are strings, got {shown(name)}")
        if not isinstance(result, LooResult):
            raise InvalidInputError(
                f"models must be results of loo, got {shown(result)} for {name!r}"
            )
    if len(results) < 2:
        raise InvalidInputError(f"models must be at least two results of loo, got {len(results)}")
    return names, results


def _listed(names: list[str], flags: NDArray[np.bool_]) -> str:
    return ", ".join(repr(name) for name, flag in zip(names, flags, strict=True) if flag)
