"""Several approximate posteriors at once, and the numbers of draws of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_array, as_floats
from ..errors import InvalidInputError
from ..frozen import Frozen
from ..validation import (
    MAX_DRAWS,
    Floats,
    as_count,
    as_number,
    as_sequence,
    broadcast_shape,
    probabilities,
    shown,
)
from .distributions import Elliptical
from .sampling import DEFAULT_SAMPLES

# Draws of each q: fewer have no variance.
_LEAST = 2


class Proposals(Frozen):
    """Several approximate posteriors q_j, whose draws are all weighed by their mixture q_a.

    They go where one q would, in `fastelbo.estimate`, `elbo_terms` and `log_weights`, as does a
    plain list of distributions.

    Parameters
    ----------
    qs : sequence of Gaussian, StudentT or Mixture
        The q_j, of one dimension; families may be mixed, and batches broadcast.
    shares : array_like, shape (J,), optional
        The share of the draws that each has, positive and adding up to 1. By default all are equal.

    Raises
    ------
    InvalidInputError
        If there is no q, if one of them is no such distribution, if dimensions or batches disagree,
        or if a share is not positive.

    Notes
    -----
    With n_j draws of q_j, n in all, and a_j = n_j / n, each draw has the weight p / q_a with the
    density ``q_a = sum_j a_j q_j``: the balance heuristic of Veach and Guibas (1995). No weight is
    larger than p / (a_j q_j), so that a q with light tails is safe beside one with heavy tails.

    Examples
    --------
    >>> import fastelbo as fe
    >>> qs = fe.Proposals([fe.Gaussian([0.0], scale=1.0), fe.StudentT(5.0, [0.0], scale=3.0)])
    >>> qs
    Proposals(dim=1, batch_shape=(), qs=2, shares=[0.5, 0.5])
    >>> round(float(qs.log_prob([0.0])), 6)
    -1.336594
    """

    qs: tuple[Elliptical, ...]
    shares: Floats

    def __init__(self, qs: Sequence[Elliptical], shares: ArrayLike | None = None) -> None:
        members = _members(qs, "qs")
        parts = np.full(len(members), 1.0 / len(members))
        if shares is not None:
            parts = as_floats(shares, "shares")
            if parts.shape != (len(members),):
                raise InvalidInputError(
                    f"shares must have one number for each of {len(members)} q, got shape "
                    f"{parts.shape}"
                )
            parts = probabilities(parts, "shares")
            if not (parts > 0.0).all():
                raise InvalidInputError(f"shares must be positive, got {parts.tolist()}")
        self._set(qs=members, shares=parts)

    @property
    def dim(self) -> int:
        """Length of a draw."""
        return self.qs[0].dim

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch to which those of all q broadcast."""
        return np.broadcast_shapes(*(each.batch_shape for each in self.qs))

    def __len__(self) -> int:
        """J, the number of the q_j."""
        return len(self.qs)

    def __getitem__(self, j: int) -> Elliptical:
        """q_j, as of a list."""
        return self.qs[j]

    def __repr__(self) -> str:
        shares = ", ".join(f"{share:.4g}" for share in self.shares)
        return (
            f"Proposals(dim={self.dim}, batch_shape={self.batch_shape}, qs={len(self.qs)}, "
            f"shares=[{shares}])"
        )

    @np.errstate(over="ignore", under="ignore", divide="ignore")
    def log_prob(self, z: ArrayLike) -> Floats:
        """Log density of q_a, with the shares as a_j, in nats.

        Parameters
        ----------
        z : array_like, shape (..., D)
            Points; the leading axes broadcast against `batch_shape`.

        Returns
        -------
        ndarray
            Shape ``broadcast(z.shape[:-1], batch_shape)``.

        Raises
        ------
        InvalidInputError
            As for `Gaussian.log_prob`.

        Examples
        --------
        >>> import fastelbo as fe
        >>> qs = fe.defensive(fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=4.0))
        >>> qs.log_prob([[0.0], [9.0]]).round(4)
        array([-0.9969, -7.1391])
        """
        points = as_floats(z, "z")
        logs = np.broadcast_arrays(*(each.log_prob(points) for each in self.qs))
        terms = np.stack(logs, axis=-1) + np.log(self.shares)
        top = terms.max(axis=-1)
        # A density of 0 has no terms to compare.
        base = np.where(np.isfinite(top), top, 0.0)
        return np.asarray(base + np.log(np.exp(terms - base[..., None]).sum(axis=-1)))

    def counts(self, n_samples: Any) -> tuple[int, ...]:
        """The numbers of draws of each q, of as many in all, or given one by one.

        Numbers in all are split by the shares, and what is left over goes to the largest
        remainders.

        Raises
        ------
        InvalidInputError
            If there is not one number for each q, or one of them is below 2.
        OverflowError
            For more than 2^40 draws.

        Examples
        --------
        >>> import fastelbo as fe
        >>> q, wide = fe.Gaussian([0.0], scale=1.0), fe.Gaussian([0.0], scale=4.0)
        >>> fe.defensive(q, wide).counts(1005), fe.Proposals([q, wide]).counts([7, 3])
        ((905, 100), (7, 3))
        """
        shape: Any = getattr(n_samples, "shape", ())
        if shape or hasattr(n_samples, "__array__"):
            n_samples = as_array(n_samples, "n_samples").tolist()
        if not isinstance(n_samples, (list, tuple)):
            return self._split(DEFAULT_SAMPLES if n_samples is None else n_samples)
        given = as_sequence(n_samples, "n_samples", "integers")
        if len(given) != len(self.qs):
            raise InvalidInputError(
                f"n_samples must have one number for each of {len(self.qs)} q, got {len(given)}"
            )
        return tuple(
            as_count(each, f"n_samples[{j}]", least=_LEAST, below=MAX_DRAWS)
            for j, each in enumerate(given)
        )

    def _split(self, n_samples: Any) -> tuple[int, ...]:
        total = as_count(n_samples, "n_samples", below=MAX_DRAWS)
        exact = total * self.shares
        counts = np.floor(exact).astype(np.int64)
        left = total - int(counts.sum())
        counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
        if counts.min() < _LEAST:
            j = int(counts.argmin())
            raise InvalidInputError(
                f"n_samples must give each q at least {_LEAST} draws, got {total}, of which q[{j}] "
                f"with a share of {self.shares[j]:.3g} has {counts[j]}"
            )
        return tuple(counts.tolist())


def as_proposals(q: object) -> Proposals | None:
    """Several q, as users give them: a `Proposals`, a list or a tuple; None for anything else."""
    if isinstance(q, Proposals):
        return q
    return Proposals(_members(q, "q")) if isinstance(q, (list, tuple)) else None


def _members(given: object, name: str) -> tuple[Elliptical, ...]:
    """Distributions of one dimension, whose batches broadcast; errors call them ``name``."""
    members = as_sequence(given, name, "distributions")
    if not members:
        raise InvalidInputError(f"{name} must have at least one distribution, got none")
    for j, each in enumerate(members):
        _require_elliptical(each, f"{name}[{j}]")
        if each.dim != members[0].dim:
            raise InvalidInputError(
                f"{name} must have distributions of one dimension, got {members[0].dim} of "
                f"{name}[0] and {each.dim} of {name}[{j}]"
            )
    _ = broadcast_shape(**{f"{name}[{j}]": each.batch_shape for j, each in enumerate(members)})
    return tuple(members)


def _require_elliptical(q: object, name: str) -> None:
    if not isinstance(q, Elliptical):
        raise InvalidInputError(f"{name} must be a Gaussian, StudentT or Mixture, got {shown(q)}")


def defensive(q: Elliptical, wide: Elliptical, share: float = 0.1) -> Proposals:
    """q with a share of the draws from a wide distribution: defensive importance sampling.

    No weight is then larger than ``p / (share * wide)`` (Hesterberg, 1995): where ``wide`` has
    heavier tails than the posterior, weights have a bound, and with it a variance, whatever q is.

    Parameters
    ----------
    q : Gaussian, StudentT or Mixture
        Approximate posterior, with a share of ``1 - share`` of the draws.
    wide : Gaussian, StudentT or Mixture
        A distribution with heavier tails or a larger scale, of the same dimension.
    share : float
        The share of the draws of ``wide``, between 0 and 1.

    Returns
    -------
    Proposals
        For `estimate`, `elbo_terms` and `log_weights`.

    Raises
    ------
    InvalidInputError
        If ``share`` is not between 0 and 1, or as for `Proposals`.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([[1.0]], [[1.0]], noise_cov=1.0)
    >>> narrow, wide = fe.Gaussian([0.5], scale=0.3), fe.StudentT(5.0, [0.0], scale=2.0)
    >>> est = fe.estimate(model, fe.defensive(narrow, wide), n_samples=10_000, rng=0)
    >>> low, high = est.confidence_interval("log_evidence", 0.999)
    >>> bool(low[0] < model.exact_log_evidence()[0] < high[0])
    True
    """
    _require_elliptical(q, "q")
    _require_elliptical(wide, "wide")
    if q.dim != wide.dim:
        raise InvalidInputError(f"wide must have the dimension of q, {q.dim}, got {wide.dim}")
    part = as_number(share, "share")
    if not 0.0 < part < 1.0:
        raise InvalidInputError(f"share must be between 0 and 1, got {share!r}")
    return Proposals((q, wide), (1.0 - part, part))
