"""The arrays and facts of an estimate, and what follows from them alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from ..frozen import Frozen
from ..validation import Floats, as_count
from ..version import STREAM_VERSION
from ..weights.bounds import Bound
from ..weights.pareto import Counts
from .kept_state import KeptState
from .names import QUANTITIES


@dataclass(frozen=True, repr=False, eq=False)
class Fields(Frozen):
    """What an `Estimate` consists of; its docstring says what each is."""

    n_samples: Counts
    log_evidence: Floats
    log_evidence_se: Floats
    elbo: Floats
    elbo_se: Floats
    expected_log_likelihood: Floats
    expected_log_likelihood_se: Floats
    kl: Floats
    kl_se: Floats
    jensen_gap: Floats
    jensen_gap_se: Floats
    ess: Floats
    relative_variance: Floats
    pareto_k: Floats
    pareto_k_elbo: Floats
    n_zero: Floats
    independent: bool
    sampler: str = "iid"
    replicates: int = 1
    proposals: int = 1
    rotation: str | None = None
    pilot_samples: int = 0
    corrected: bool = False
    variance_ratio: Floats = field(default_factory=lambda: np.full((), np.nan))
    stream_version: int = field(default_factory=lambda: STREAM_VERSION, init=False)
    _iw: dict[int, Bound] = field(default_factory=dict)
    # The M + 1 largest log weights of each data point, (..., M + 1), descending; or None.
    _tail: Floats | None = None
    # Standard errors of the log evidence and of the Jensen gap, whatever k-hat.
    _evidence_se: Floats = field(default_factory=lambda: np.zeros(0))
    _gap_se: Floats = field(default_factory=lambda: np.zeros(0))
    # Of replicates, the standard error of the upper end of the interval of the log evidence.
    _upper_se: Floats = field(default_factory=lambda: np.zeros(0))
    # What the log evidence has added for the bias of a log, SE^2 / 2.
    _correction: Floats = field(default_factory=lambda: np.zeros(()))
    # Degrees of freedom of the errors of iw_elbo(k) by k; infinite where k is left out.
    _bound_df: dict[int, float] = field(default_factory=dict)
    # Where the draws are known, the key and the data points of their addresses.
    _addresses: tuple[int, range] | None = None
    # Mean of the posterior, its standard error, and covariance, where they were asked for.
    _posterior: tuple[Floats, Floats, Floats] | None = None
    # p(c | x) of the components of a mixture, (..., C), where they were asked for.
    _responsibilities: Floats | None = None
    # The states of all data points, where they were asked for.
    _state: KeptState | None = None
    # Why quantities are NaN, if it is not for the draws.
    _note: str = ""

    def __post_init__(self) -> None:
        ratio = np.broadcast_to(self.variance_ratio, self.log_evidence.shape)
        self._set(**vars(self) | {"variance_ratio": ratio})

    @property
    def iw_sizes(self) -> tuple[int, ...]:
        """Group sizes of the importance-weighted bounds, without 1."""
        return tuple(sorted(set(self._iw) - {1}))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of every array."""
        return self.log_evidence.shape

    def iw_elbo(self, k: int) -> Bound:
        """Importance-weighted bound ``E log (w_1 + ... + w_k) / k`` (Burda et al., 2016).

        The estimate averages over disjoint groups of k draws. ``iw_elbo(1)`` is the Monte Carlo
        ELBO. Bounds of different k are different quantities: they rise with k to the log evidence.
        Of quasi-random draws, a group has one draw of each of k replicates, in an order that is
        permuted in each of them. Where R // k is below 4, the error is that of independent groups,
        which is too large.

        Raises
        ------
        InvalidInputError
            If k is neither 1 nor in the ``iw_sizes`` of the estimate.
        """
        if as_count(k, "k") not in self._iw:
            sizes = ", ".join(map(str, sorted(self._iw))) or "none"
            raise InvalidInputError(
                f"k must be one of the group sizes of this estimate ({sizes}), got {k!r}; add it "
                "to iw_sizes"
            )
        return self._iw[int(k)]

    @property
    def posterior_mean(self) -> Floats:
        """Self-normalised mean of the posterior, ``sum w z / sum w``, (*batch, D).

        Raises
        ------
        InvalidInputError
            If the estimate was made without ``moments=True``.

        Examples
        --------
        >>> import fastelbo as fe
        >>> p, q = fe.Gaussian([1.0], scale=1.0), fe.Gaussian([0.5], scale=1.5)
        >>> fe.estimate(p, q, 10_000, moments=True, rng=0).posterior_mean.round(1)
        array([1.])
        """
        return self._moments()[0]

    @property
    def posterior_mean_se(self) -> Floats:
        """Standard error of ``posterior_mean``, (*batch, D).

        It is that of the delta method, ``sqrt(sum w^2 (z - mean)^2) / sum w``, and for quasi-random
        draws from the scatter of ``sum w (z - mean)`` over the replicates. It is NaN where
        ``pareto_k`` is above its limit, or the k-hat of ``|z - mean| w`` of a coordinate, from the
        first 16384 draws. Errors as for `posterior_mean`.
        """
        return self._moments()[1]

    @property
    def posterior_cov(self) -> Floats:
        """Self-normalised covariance of the posterior about ``posterior_mean``, (*batch, D, D).

        Errors as for `posterior_mean`.
        """
        return self._moments()[2]

    def _moments(self) -> tuple[Floats, Floats, Floats]:
        if self._posterior is None:
            raise InvalidInputError(
                "the moments of the posterior are not known: call estimate with moments=True"
            )
        return self._posterior

    @property
    def responsibilities(self) -> Floats:
        """p(c | x) of a `fastelbo.MixtureModel`, (*batch, C): the posterior of its component.

        Those of ``exact_posterior().probs``, from the same pass over the data points as the rest.

        Raises
        ------
        InvalidInputError
            If the estimate was made without ``responsibilities=True``.

        Examples
        --------
        >>> import fastelbo as fe
        >>> mixture = fe.Mixture([0.5, 0.5], fe.Gaussian([[-1.0], [1.0]], scale=1.0))
        >>> model, q = fe.MixtureModel([[0.0], [1.0]], mixture), fe.Categorical([0.5, 0.5])
        >>> fe.estimate(model, q, responsibilities=True).responsibilities.round(2)
        array([[0.5 , 0.5 ],
               [0.12, 0.88]])
        """
        if self._responsibilities is None:
            raise InvalidInputError(
                "responsibilities are not known: call estimate with responsibilities=True, for a "
                "MixtureModel"
            )
        return self._responsibilities

    @property
    def state(self) -> KeptState:
        """The states of all data points, from which ``estimate(..., previous=)`` goes on.

        With the default ``iw_sizes`` a data point takes 368 bytes, 736 beyond 8.4 million draws,
        and 8 bytes for each of its largest log weights that are kept: ``min(12 sqrt(K), 4096)``,
        and up to a fifth more. These are about 10 kB for K = 10000, and 40 kB from K = 120000 on.
        ``state.nbytes`` is the sum. Of fewer than 8192 draws nothing is kept, and all are made
        again.

        Raises
        ------
        InvalidInputError
            If the estimate was made without ``keep_state=True``.

        Examples
        --------
        >>> import fastelbo as fe
        >>> p, q = fe.Gaussian([1.0], scale=1.0), fe.Gaussian([0.5], scale=1.5)
        >>> fe.estimate(p, q, 10_000, keep_state=True, rng=0).state.n_samples
        8192
        """
        if self._state is None:
            raise InvalidInputError(
                "the state is not known: call estimate with keep_state=True, which keeps it"
            )
        return self._state

    @property
    def _uncorrected(self) -> Floats:
        """The log of the mean weight."""
        return np.asarray(self.log_evidence - self._correction)

    @property
    def _variance_of_draws(self) -> Floats:
        """K SE^2 of the log evidence: v, and less of the draws of several q."""
        if self.proposals == 1:
            return self.relative_variance
        return np.asarray(self.n_samples * self._evidence_se**2)

    def _bias(self) -> Floats:
        """v / 2K, v that of the draws; 0 where v is not known: from one draw, or from weights of 0.

        Where ``log_evidence`` is corrected, what has been added to it.
        """
        if self.corrected:
            return self._correction
        v = np.nan_to_num(self._variance_of_draws)
        return np.asarray(v / (2 * np.maximum(self.n_samples, 1)))

    def _known_bias(self) -> Floats:
        """By how much the expectation of the log evidence is too low; NaN if it is not known."""
        if self.corrected:
            return np.where(np.isnan(self.log_evidence_se), np.nan, 0.0)
        if np.any(self.n_samples):
            return np.asarray(self._variance_of_draws / (2 * self.n_samples))
        return np.zeros_like(self.relative_variance)

    def _entries(self) -> dict[str, Any]:
        """See `Estimate.to_dict`."""
        names = [*QUANTITIES, *(f"{name}_se" for name in QUANTITIES)]
        names += ["ess", "relative_variance", "pareto_k", "pareto_k_elbo", "n_zero", "n_samples"]
        if self.replicates > 1:
            names += ["variance_ratio", "sampler", "replicates"]
        if self.proposals > 1:
            names += ["variance_ratio", "proposals"]
        names += [name for name in ("rotation", "pilot_samples") if getattr(self, name)]
        result = {name: getattr(self, name) for name in names}
        for k in self.iw_sizes:
            result[f"iw_elbo_{k}"], result[f"iw_elbo_{k}_se"] = self._iw[k]
        return result

    def _arrays(self) -> dict[str, Floats]:
        """The arrays of `to_dict`, which have one entry per data point."""
        entries = self._entries().items()
        return {name: value for name, value in entries if not isinstance(value, (int, str))}

    def _facts(self) -> dict[str, Any]:
        """What `to_dict` has besides the arrays."""
        entries = self._entries().items()
        return {name: value for name, value in entries if isinstance(value, (int, str))}
