"""The result of an estimate: arrays with one entry per data point, and their standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import ArrayLike

from ..plotting import plot
from ..tables import pareto_k_table
from ..validation import Floats, as_count
from ..weights.bounds import Bound
from ..weights.differences import Difference
from ..weights.intervals import Interval
from ..weights.pareto import REPLICATED_WARNED, draws_needed, k_limit, pareto_k_classes
from . import display
from .bound_tables import BoundTable, bound_table
from .comparisons import evidence_difference
from .exports import to_pandas, to_xarray
from .fields import Fields
from .intervals import quantity_interval
from .total import Total, total_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame
    from xarray import Dataset


@dataclass(frozen=True, repr=False, eq=False)
class Estimate(Fields):
    """Log evidence, ELBO and bounds of each data point, from one set of draws, in nats.

    Attributes
    ----------
    log_evidence, elbo, expected_log_likelihood, kl, jensen_gap : ndarray
        Estimates in the shape of the batch. To rounding, ``elbo == expected_log_likelihood - kl``
        and ``jensen_gap == log_evidence - elbo``. The log-likelihood and the KL are NaN from log
        weights alone, and for a `Model` of ``log_joint``.
    log_evidence_se, elbo_se, expected_log_likelihood_se, kl_se, jensen_gap_se : ndarray
        Their standard errors. ``log_evidence_se`` is sqrt(v / K), with v = Var(w) / E(w)^2, by the
        delta method. An error is NaN if the draws do not give one, or if a k-hat is above its limit
        ``min(1 - 1 / log10 K, 0.7)``: ``pareto_k`` for the log evidence and the Jensen gap,
        ``pareto_k_elbo`` for the ELBO and the Jensen gap. If ``pareto_k_elbo`` is above it, the
        errors of the KL and the log-likelihood depend on the k-hats of their own terms. For
        quasi-random draws, errors are ``sd / sqrt(R)`` of the estimates from R replicates, and the
        limit of k-hat is at most 0.5 (see `fastelbo.weights.replicates`).
    pareto_k : ndarray
        Pareto k-hat of the weights, as of `fastelbo.psis`, from at most 4095 of the largest. NaN
        where there is none: K <= 20, or too many equal weights.
    pareto_k_elbo : ndarray
        Pareto k-hat of minus the log weights, of their values and not of exponentials, from as
        many of the smallest log weights. Above 1/2 the ELBO has no standard error, above 1 it may
        be -inf. It is fitted only where one draw has more than an eighth of the sum of squares of
        the log weights about their mean, and NaN elsewhere: no draw then makes up the error of
        the ELBO. NaN also where ``pareto_k`` would be, where a weight is 0 (the ELBO is then
        -inf), and after a checkpoint of version 1. Of several q, it is the k-hat of the draws of
        one, the most above its limit, which is that of as many draws.
    ess : ndarray
        Effective sample size ``(sum w)^2 / sum w^2``. It tells how well q fits, and not how many
        independent draws quasi-random ones are worth; ``variance_ratio`` does.
    relative_variance : ndarray
        v, the relative variance of the weights.
    n_zero : ndarray
        Number of draws with weight 0. If it is not 0, the ELBO is -inf and its standard error NaN.
    n_samples : int or ndarray
        K, the number of draws for each data point; 0 for an exact sum. An array, in the shape of
        the batch, if each data point has a number of its own.
    iw_sizes : tuple of int
        The sizes k, besides 1, that `iw_elbo` accepts.
    independent : bool
        Whether entries are data points with draws of their own, which a total may add up.
    sampler : str
        ``"iid"`` for independent draws, ``"sobol"`` for quasi-random ones, and ``"replicated"`` for
        log weights that came in replicates.
    replicates : int
        R, the number of replicates of quasi-random draws, each of n_samples / R draws; 1 for
        independent draws.
    proposals : int
        Number of q that made the draws. Of several, the log weights are those of their mixture, and
        the errors are stratified: those of the mean of each q's draws, which
        ``relative_variance``, ``ess`` and ``pareto_k``, of all draws together, do not show. Then
        ``log_evidence_se`` is sqrt(u / K) for a u below v (see `fastelbo.weights.strata`).
    rotation : str or None
        How quasi-random draws were rotated: by the ``"exact"`` rotation, by one from a ``"pilot"``,
        or not at all, ``"identity"``; None for other draws.
    pilot_samples : int
        Draws of pilots, for a rotation or a target, for each data point. They are not among
        ``n_samples``, and no estimate has them.
    corrected : bool
        Whether ``log_evidence`` has ``log_evidence_se ** 2 / 2`` added where it has a standard
        error: by so much the log of a mean is too low. True for quasi-random draws and targets.
    posterior_mean, posterior_mean_se, posterior_cov : ndarray
        Moments of the posterior, of ``estimate(..., moments=True)``; an error without it.
    responsibilities : ndarray
        p(c | x) of the components of a `MixtureModel`, (*batch, C), of ``estimate(...,
        responsibilities=True)``; an error without it.
    state : KeptState
        The states of all data points, of ``estimate(..., keep_state=True)``; an error without it.
        ``previous=`` goes on from it. It is pickled with the estimate, and no export has it.
    variance_ratio : ndarray
        ``(v / K) / log_evidence_se ** 2``: the variance of the log evidence from K independent
        draws over its variance from these; 1 for independent draws of one q, and above 1 for those
        of several, if their means differ. With 16 replicates it is known to a factor of about 2
        either way. NaN where there is no standard error.
    stream_version : int
        While this number stays the same, the same request gives the same bits.

    Examples
    --------
    >>> import fastelbo as fe
    >>> p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=1.25)
    >>> est = fe.estimate(p, q, n_samples=10_000, rng=0)
    >>> bool(est.elbo < est.iw_elbo(10).value < est.log_evidence + 3 * est.log_evidence_se)
    True
    """

    @property
    def min_draws(self) -> Floats:
        """Number of draws that each k-hat needs: ``10^(1 / (1 - max(0, k)))``, inf for k >= 1.

        Vehtari et al. (2024, JMLR 25).
        """
        return draws_needed(self.pareto_k)

    def confidence_interval(
        self,
        quantity: str = "log_evidence",
        confidence_level: float = 0.95,
        *,
        k: int | None = None,
    ) -> Interval:
        """Confidence interval of one quantity.

        For independent draws, the intervals of the log evidence and of the Jensen gap also cover
        what the draws leave unknown about the weights' tail. They exist even where the standard
        error does not. They have no upper end where the tail may have no mean. The intervals of all
        other quantities are normal, and NaN where the quantity has no standard error. The interval
        of the Jensen gap is NaN where the ELBO has no standard error. `fastelbo.weights.intervals`
        and `fastelbo.weights.combined_intervals` have the formulas.

        For quasi-random draws in R replicates, all intervals have quantiles of Student's t with
        R - 1 degrees of freedom. Those of the log evidence and of the Jensen gap have no upper end
        where k-hat leaves no standard error, or where that exceeds 0.5. Errors of ``"iw_elbo"`` are
        those of R // k sets of replicates, with one degree of freedom less than sets. Where there
        are fewer than four sets, they are those of groups as if they were independent, and normal:
        these are too wide.

        The error that quasi-random draws leave comes from the rare largest weights, and is skew
        where q is narrower than the posterior. So the upper end of the log evidence has the error
        that the fitted tail of the weights leaves, where this is larger (see
        `fastelbo.weights.replicates`; not without k-hats). For a normal q with k = 0 to 0.44 in 1
        to 10 dimensions, 95 % intervals of R = 16 replicates of 64 to 1024 draws cover 92 to 99 %
        with ``box_muller``, and 91 to 99 % with ``inverse``. Of k = 0.44, intervals with two ends
        alone cover 80 to 97 %.

        Parameters
        ----------
        quantity : str
            ``"log_evidence"``, ``"elbo"``, ``"expected_log_likelihood"``, ``"kl"``,
            ``"jensen_gap"``, or ``"iw_elbo"`` together with ``k``.
        confidence_level : float
            Between 0 and 1.
        k : int, optional
            Group size of the bound ``"iw_elbo"``.

        Returns
        -------
        Interval
            (low, high), each of the batch's shape. The tails are not kept without k-hats, or if
            those of all data points would take more than 256 MB. All intervals are then normal,
            but the interval of the log evidence is one-sided where its k-hat is too high. Without a
            k-hat it has quantiles of Student's t. It is then one-sided where the standard error
            exceeds 0.1 (up to 20 draws) or 0.5 (more).
        """
        return quantity_interval(self, quantity, confidence_level, k)

    def bounds(self) -> BoundTable:
        """A table of ELBO, importance-weighted bounds and log evidence, with an explanation.

        The rows rise in expectation. For every k, E log of the mean of k weights is a lower bound
        on log p(x): k is 1 for the ELBO and K for ``log_evidence``, which is therefore too low by
        about v/2K unless it is corrected. No row is an upper bound. The exact CUBO is an upper
        bound, but the estimate `cubo` from draws is biased low and is not a bound.

        Returns
        -------
        BoundTable
            ``names``, ``value`` and ``se``, one row per bound. Printing shows a table and explains
            its rows.

        Examples
        --------
        >>> import fastelbo as fe
        >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
        >>> q = fe.Gaussian([0.0], scale=1.0)
        >>> bounds = fe.estimate(model, q, n_samples=10**6, rng=0).bounds()
        >>> dict(zip(bounds.names, bounds.value[:, 0].round(1).tolist()))
        {'elbo': -1.9, 'iw_elbo(10)': -1.5, 'iw_elbo(100)': -1.5, 'log_evidence': -1.5}
        """
        bounds = {"elbo": Bound(self.elbo, self.elbo_se)}
        bounds |= {f"iw_elbo({k})": self._iw[k] for k in self.iw_sizes}
        bounds["log_evidence"] = Bound(self.log_evidence, self.log_evidence_se)
        stratified = self.proposals > 1
        return bound_table(bounds, self._known_bias(), self.n_samples, self.corrected, stratified)

    def total(self) -> Total:
        """Sums over all data points, which have draws of their own.

        The log of a mean is too low by about v/2K. Over N data points this bias grows like N, the
        standard error only like sqrt(N). So the total of the log evidence has ``sum v_i/2K`` added;
        ``uncorrected_log_evidence`` is the plain sum. A standard error is the root of the sum of
        the squared errors. It is NaN if a data point has none, but
        ``total().confidence_interval()`` exists even then. For quasi-random draws, the correction
        is ``sum SE_i^2 / 2``, which ``log_evidence`` has already; for draws of several q it is the
        same, and is added.

        Raises
        ------
        InvalidInputError
            If only q has a batch, or if the rows of log weights share draws.

        Warns
        -----
        TotalBiasWarning
            If the correction exceeds a quarter of the standard error.
        """
        return total_of(self)

    def summary(self, max_rows: int = 10) -> str:
        """A table of the first ``max_rows`` data points: estimates and standard errors.

        It has at most 100 columns of text: what does not fit stands below, under the same labels.
        A log evidence that k-hat leaves without a standard error has its 95 % interval instead, or
        ``>`` and the lower end alone, where the interval has no upper end. Of quasi-random draws it
        shows ``variance_ratio`` and ``ess/K``.
        """
        return display.summary(self, as_count(max_rows, "max_rows", least=0))

    def __repr__(self) -> str:
        return display.line(self)

    def _repr_html_(self) -> str:
        """The first rows of a summary, for notebooks."""
        return display.html(self)

    def __sub__(self, other: Estimate) -> Difference:
        """``self - other``: the difference of the log evidences, which is the log Bayes factor.

        Parameters
        ----------
        other : Estimate
            Of the same batch shape, from other draws.

        Returns
        -------
        Difference
            ``value``, ``se`` and ``confidence_interval()``, in the shape of the batch. The standard
            error is the root of the sum of both squared errors. The interval combines those of both
            log evidences, with what they carry of the weights' tails (Zou and Donner, 2008).
            ``flagged`` is True where a k-hat of one of the two is above its limit.

        Raises
        ------
        InvalidInputError
            If the shapes differ, or if both estimates have the same draws: their errors are then
            not independent. One int as ``rng`` of both gives them the same draws. `summarize` and
            `LogWeightAccumulator` do not know the draws of their log weights, and their estimates
            count as independent.

        Examples
        --------
        >>> import fastelbo as fe
        >>> narrow = fe.LinearGaussian([[2.0]], [[1.0]], noise_cov=0.5)
        >>> wide = fe.LinearGaussian([[2.0]], [[1.0]], noise_cov=2.0)
        >>> first, second = (
        ...     fe.estimate(model, fe.Gaussian([1.0], scale=0.9), n_samples=10_000, rng=seed)
        ...     for seed, model in enumerate([narrow, wide])
        ... )
        >>> low, high = (first - second).confidence_interval(0.999)
        >>> exact = narrow.exact_log_evidence() - wide.exact_log_evidence()
        >>> bool(low[0] < exact[0] < high[0])
        True
        """
        if not isinstance(other, Estimate):
            return NotImplemented
        return evidence_difference(self, other)

    def pareto_k_table(self) -> str:
        """Number of data points in each class of Pareto k-hat, with the least ESS of each class.

        - good, up to ``min(1 - 1 / log10 K, 0.7)``: K draws are enough;
        - bad, up to 1: more than K draws are needed;
        - very bad, above 1: possibly no number of draws is enough to estimate the evidence.

        For quasi-random draws, good ends at 0.4, and up to 0.5 k-hats are doubtful: intervals may
        be too short there. Above, there is no standard error.

        A good k-hat can still mislead: it depends only on the draws, and they can miss a mode.

        Examples
        --------
        >>> import fastelbo as fe
        >>> p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=1.25)
        >>> print(fe.estimate(p, q, n_samples=10_000, rng=0).pareto_k_table().split()[0])
        Pareto
        """
        limit = k_limit(self.n_samples, self.replicates)
        if self.replicates > 1:
            return pareto_k_table(pareto_k_classes(self.pareto_k, limit, REPLICATED_WARNED))
        return pareto_k_table(pareto_k_classes(self.pareto_k, limit), self.ess)

    @overload
    def plot(
        self,
        kind: Literal["bounds"] = "bounds",
        *,
        exact: ArrayLike | None = None,
        point: int | tuple[int, ...] | None = None,
        ax: Axes | None = None,
    ) -> Axes: ...
    @overload
    def plot(self, kind: str, *, ax: Axes | None = None) -> Axes: ...
    def plot(self, kind: str = "bounds", **options: Any) -> Axes:
        """Draw a figure with matplotlib (``pip install "fastelbo[plot]"``).

        Parameters
        ----------
        kind : str
            ``"bounds"``: the bound of k weights against k, see `plotting.plot_bounds`.
            ``"pareto_k"``: k-hat of each data point, see `plotting.plot_pareto_k`.
        **options
            ``ax``; for the bounds also ``exact`` and ``point``.

        Returns
        -------
        matplotlib Axes

        Examples
        --------
        >>> import fastelbo as fe
        >>> p, q = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=1.25)
        >>> ax = fe.estimate(p, q, n_samples=1000, rng=0).plot(exact=0.0)
        >>> ax.get_ylabel()
        'nats'
        """
        return plot(self, kind, **options)

    def to_dict(self) -> dict[str, Any]:
        """All arrays by name, and n_samples. Bounds are ``iw_elbo_{k}`` and ``iw_elbo_{k}_se``.

        For quasi-random draws also ``variance_ratio``, ``sampler``, ``replicates`` and
        ``rotation``, where there is one. ``pilot_samples`` is there if it is not 0.
        """
        return self._entries()

    def to_pandas(self) -> DataFrame:
        """A pandas DataFrame with one row per data point and one column per array of `to_dict`.

        The index ``point`` is the index in the batch. A batch with several axes has a MultiIndex
        ``point_0``, ``point_1``, ... The ``attrs`` of the frame have ``n_samples`` and the version.

        Raises
        ------
        ImportError
            If pandas is not installed (``pip install "fastelbo[export]"``).

        Examples
        --------
        >>> import fastelbo as fe
        >>> model = fe.LinearGaussian([[1.0], [2.0]], [[1.0]], noise_cov=1.0)
        >>> q = fe.Gaussian(model.exact_posterior().mean, scale=0.8)
        >>> frame = fe.estimate(model, q, n_samples=10_000, rng=0).to_pandas()
        >>> frame.index.name, frame["log_evidence"].round(1).tolist()
        ('point', [-1.5, -2.3])
        """
        return to_pandas(self._arrays(), self.batch_shape, self._facts())

    def to_xarray(self) -> Dataset:
        """An xarray Dataset with one variable per quantity, and their units.

        The dimension of the batch is ``point``, or ``point_0``, ``point_1``, ... for several axes.
        ``iw_elbo`` and ``iw_elbo_se`` also have the dimension ``k``, with coordinate ``iw_sizes``.
        The attributes have ``n_samples`` and, under ArviZ's names, the library and its version.

        The data set can be a group beside the draws in ArviZ. For an InferenceData, call
        ``idata.add_groups(evidence=est.to_xarray())``. For a DataTree (ArviZ 1.0 and later), set
        ``tree["evidence"] = xarray.DataTree(est.to_xarray())``.

        Raises
        ------
        ImportError
            If xarray is not installed (``pip install "fastelbo[export]"``).

        Examples
        --------
        >>> import fastelbo as fe
        >>> model = fe.LinearGaussian([[1.0], [2.0]], [[1.0]], noise_cov=1.0)
        >>> q = fe.Gaussian(model.exact_posterior().mean, scale=0.8)
        >>> data = fe.estimate(model, q, n_samples=1000, rng=0).to_xarray()
        >>> dict(data["iw_elbo"].sizes), data["iw_elbo"].attrs["units"]
        ({'point': 2, 'k': 2}, 'nats')
        """
        bounds = {k: self._iw[k] for k in self.iw_sizes}
        arrays = {
            name: array for name, array in self._arrays().items() if not name.startswith("iw_elbo")
        }
        return to_xarray(arrays, bounds, self.batch_shape, self._facts())
