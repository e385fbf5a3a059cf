"""The result of leave-one-out cross-validation: a table, its classes of k-hat, and comparisons."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import InvalidInputError
from ..optional import optional
from ..tables import format_cell, format_table, html_table, pareto_k_rows, pareto_k_table
from ..validation import Floats
from .differences import Difference
from .intervals import normal_interval
from .pareto import pareto_k_classes
from .scaled import sum_and_error

if TYPE_CHECKING:
    from pandas import DataFrame


# What a result that was pickled by an earlier version has for arrays of later ones.
_MISSING: Floats = np.empty(0)
_MISSING.flags.writeable = False


class LooResult(NamedTuple):
    """Leave-one-out cross-validation, in nats; see `loo`.

    ``result - other`` compares two models of the same observations: a `Difference` of their
    ``elpd_loo``, with a standard error from the differences of the pointwise values.

    Attributes
    ----------
    elpd_loo, elpd_loo_se : float
        Expected log pointwise predictive density for new data, the sum of ``pointwise``, and its
        standard error, which is NaN for fewer than two observations.
    p_loo, p_loo_se : float
        Effective number of parameters, and its standard error.
    pointwise : ndarray
        (N,) ``log p(y_i | y_-i)``.
    pareto_k : ndarray
        (N,) k-hat of the weights that leave out one observation.
    threshold : float
        A pointwise value with a k-hat above this cannot be trusted.
    min_draws : ndarray
        (N,) number of draws that each k-hat needs.
    elpd_loo_mcse : float
        Monte Carlo standard error of ``elpd_loo``: of the draws, not of the data. NaN if a k-hat is
        above the threshold or unknown. It takes the errors of observations as independent, as the R
        package loo does; they share their draws, so that it may be too small.
    mcse, ess : ndarray
        (N,) Monte Carlo standard error of each pointwise value, and effective number of its draws.
    r_eff : ndarray
        (N,) relative efficiency of the draws, by which both are corrected. These three are empty
        in a result that was pickled by a version without them.

    Examples
    --------
    >>> import fastelbo as fe, numpy as np
    >>> log_likelihood = 0.1 * np.random.default_rng(0).normal(size=(1000, 3)) - 2.0
    >>> result = fe.loo(log_likelihood)
    >>> result.pointwise.shape
    (3,)
    >>> print(str(result).splitlines()[0])
    Leave-one-out cross-validation of 3 observations, in nats
    """

    elpd_loo: float
    elpd_loo_se: float
    p_loo: float
    p_loo_se: float
    pointwise: Floats
    pareto_k: Floats
    threshold: float
    min_draws: Floats
    elpd_loo_mcse: float = math.nan
    mcse: Floats = _MISSING
    ess: Floats = _MISSING
    r_eff: Floats = _MISSING

    def pareto_k_table(self) -> str:
        """Number of observations per class of Pareto k-hat: good up to ``threshold``, bad up to 1.

        Examples
        --------
        >>> import fastelbo as fe, numpy as np
        >>> log_likelihood = 0.1 * np.random.default_rng(0).normal(size=(1000, 3)) - 2.0
        >>> print(fe.loo(log_likelihood).pareto_k_table())
        Pareto k-hat     class  data points        %
        (-inf, 0.67]      good            3  100.0 %
           (0.67, 1]       bad            0    0.0 %
            (1, inf)  very bad            0    0.0 %
        """
        return pareto_k_table(self._classes)

    def to_pandas(self) -> DataFrame:
        """A pandas DataFrame with one row per observation.

        The columns are ``pointwise``, ``pareto_k``, ``min_draws``, ``mcse``, ``ess`` and ``r_eff``,
        the index is ``observation``. The ``attrs`` of the frame have the other fields.

        Raises
        ------
        ImportError
            If pandas is not installed (``pip install "fastelbo[export]"``).

        Examples
        --------
        >>> import fastelbo as fe, numpy as np
        >>> log_likelihood = 0.1 * np.random.default_rng(0).normal(size=(1000, 3)) - 2.0
        >>> fe.loo(log_likelihood).to_pandas().columns.tolist()
        ['pointwise', 'pareto_k', 'min_draws', 'mcse', 'ess', 'r_eff']
        """
        pandas = optional("pandas", "to_pandas()", '"fastelbo[export]"')
        fields = self._asdict()
        columns = {
            name: value if len(value) else np.full(len(self.pointwise), np.nan)
            for name, value in fields.items()
            if isinstance(value, np.ndarray)
        }
        index = pandas.RangeIndex(len(self.pointwise), name="observation")
        frame: DataFrame = pandas.DataFrame(columns, index=index)
        frame.attrs = {name: value for name, value in fields.items() if name not in columns}
        return frame

    def __sub__(self, other: LooResult) -> Difference:
        """``self - other``: the difference of ``elpd_loo``, in nats.

        Parameters
        ----------
        other : LooResult
            Of another model of the same observations, in the same order.

        Returns
        -------
        Difference
            The standard error is sqrt(N) times the sample standard deviation of the N differences
            of pointwise values (Vehtari, Gelman and Gabry, 2017): models tend to predict the same
            observations badly, so that it is far below the errors of both. ``flagged`` is True
            if a k-hat of one of them is above its threshold or unknown.

        Raises
        ------
        InvalidInputError
            If the numbers of observations differ.

        Examples
        --------
        >>> import fastelbo as fe, numpy as np
        >>> log_likelihood = 0.1 * np.random.default_rng(0).normal(size=(1000, 30)) - 2.0
        >>> difference = fe.loo(log_likelihood + 0.5) - fe.loo(log_likelihood)
        >>> round(float(difference.value), 6)
        15.0
        """
        if not isinstance(other, LooResult):
            return NotImplemented
        count, others = len(self.pointwise), len(other.pointwise)
        if count != others:
            raise InvalidInputError(
                f"both results must be of the same observations, got {count} and {others} of them"
            )
        value, se = map(np.asarray, sum_and_error(self.pointwise, -other.pointwise))
        high = self._flagged or other._flagged
        interval = partial(normal_interval, value, se)
        return Difference("elpd_loo", value, se, np.asarray(high), interval)

    @property
    def _flagged(self) -> bool:
        """Whether a k-hat is above the threshold or unknown; equal likelihoods need none."""
        unknown = np.isnan(self.pareto_k).any() and np.isnan(self.elpd_loo_mcse)
        return bool(unknown or (self.pareto_k > self.threshold).any())

    @property
    def _classes(self) -> list[tuple[str, str, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]]:
        return pareto_k_classes(self.pareto_k, self.threshold)

    @property
    def _heading(self) -> str:
        count = len(self.pointwise)
        observations = "1 observation" if count == 1 else f"{count} observations"
        return f"Leave-one-out cross-validation of {observations}, in nats"

    def _rows(self) -> list[list[str]]:
        """The cells of the table of estimates, headings first."""
        rows = [["", "estimate"]]
        for name in ("elpd_loo", "p_loo"):
            value, se = (np.asarray(getattr(self, f"{name}{part}")) for part in ("", "_se"))
            rows.append([name, format_cell(value, se, ())])
        return rows

    def __repr__(self) -> str:
        parts = [self._heading, format_table(self._rows()), self._precision, self.pareto_k_table()]
        return "\n\n".join(parts)

    @property
    def _precision(self) -> str:
        if np.isnan(self.elpd_loo_mcse):
            return (
                "Monte Carlo error of elpd_loo: unknown, as a k-hat is above its limit or missing"
            )
        return f"Monte Carlo error of elpd_loo: {self.elpd_loo_mcse:.2g}"

    def _repr_html_(self) -> str:
        """The tables of the estimates and of the classes of k-hat, for notebooks."""
        classes = html_table(pareto_k_rows(self._classes), "Observations by class of k-hat")
        return f"<div>\n{html_table(self._rows(), self._heading)}\n{classes}\n</div>"
