"""Laplace's approximation: modes of log p(x, z), with the curvature there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.inputs import as_floats
from ..errors import InvalidInputError, ModeError
from ..random import RandomState, generator
from ..special import softmax
from ..validation import Floats, as_count, as_number
from .counted import CountedJoint, single_model
from .distributions import Distribution
from .location_scale import Gaussian, StudentT
from .mixture import Mixture
from .modes import Mode, distinct, find_mode
from .protocol import LatentModel

# Standard deviations of the first mode, in which further starts of a log_joint are drawn.
_SPREAD = 4.0
_SPREAD_DF = 5.0


def laplace(
    model: LatentModel,
    start: ArrayLike | None = None,
    *,
    df: float | None = 5.0,
    inflate: float = 1.2,
    restarts: int = 1,
    rng: RandomState = None,
) -> Gaussian | StudentT | Mixture:
    """Laplace's approximation of a posterior, with heavier tails: a q for `estimate`.

    The mode is found by BFGS, with the gradient of Stan, torch or JAX where the model is one of
    theirs, and with central differences elsewhere. The inverse of minus the Hessian there is the
    covariance of a Gaussian. By default q is a Student-t with ``inflate`` times its covariance:
    weights of a Gaussian q have no variance where the posterior has heavier tails.

    Parameters
    ----------
    model : Model, or another model without a batch of data points
        Log p(x, z) should be smooth, and z without constraints.
    start : array_like, shape (D,) or (S, D), optional
        Where searches start; by default at the mean of the prior, or at 0 for ``log_joint``.
    df : float or None
        Degrees of freedom of the Student-t; None or inf is the Gaussian.
    inflate : float
        Factor of the covariance; of the scale matrix for ``df`` up to 2.
    restarts : int
        Number of searches, if it is larger than that of the starts. Further ones start at draws of
        the prior, or for ``log_joint`` at draws around the first mode, with 4 times its scale.
    rng : None, int, SeedSequence or Generator
        Seed of these draws.

    Returns
    -------
    StudentT, Gaussian, or Mixture
        A mixture if the searches ended at different modes. Their weights are proportional to
        ``p(x, mode) |covariance|^(1/2)``.

    Raises
    ------
    InvalidInputError
        If an argument is invalid, or the model has a batch.
    ModeError
        If log p(x, z) is not finite at the start; if a search runs away; if the Hessian is not
        negative definite, or log p(x, z) is NaN or infinite beside the mode. The message says which
        coordinates, and what to do. With several starts, if all searches fail.

    Notes
    -----
    The curvature is that at the mode, where log p(x, z) is lower by 1e-3 nats. At a kink, such as
    that of a Laplace prior, it is far too large, and q too narrow. `adapt` looks farther.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([1.0, 2.0], [[1.0], [0.5]], noise_cov=1.0)
    >>> q = fe.laplace(model, df=None, inflate=1.0)  # of a Gaussian posterior, exact
    >>> bool(abs(q.mean - model.exact_posterior().mean) < 1e-6)
    True
    """
    joint = CountedJoint(single_model(model))
    freedom = math.inf if df is None else as_number(df, "df")
    factor = as_number(inflate, "inflate")
    if not 0.0 < factor < math.inf:
        raise InvalidInputError(f"inflate must be positive and finite, got {factor}")
    if not freedom >= 0.1:
        raise InvalidInputError(f"df must be at least 0.1, or None for a Gaussian, got {freedom}")
    starts, count, seed = as_starts(start, model), as_count(restarts, "restarts"), generator(rng)
    modes = find_modes(joint, starts, count, seed)
    means = np.array([mode.location for mode in modes])
    covs = factor * np.array([covariance(mode) for mode in modes])
    weights = softmax([mode.log_evidence for mode in modes])
    if len(modes) == 1:
        return _component(freedom, means[0], covs[0])
    return Mixture(weights, _component(freedom, means, covs))


def as_starts(start: Any, model: LatentModel) -> Floats:
    """Starts (S, D) of searches."""
    if start is None:
        prior = model.prior
        if isinstance(prior, Distribution) and not getattr(model, "is_joint", False):
            mean = np.asarray(getattr(prior, "mean", np.zeros(model.dim)))
            if mean.shape == (model.dim,) and np.isfinite(mean).all():
                return mean[None]
        return np.zeros((1, model.dim))
    starts = as_floats(start, "start")
    if starts.ndim not in (1, 2) or starts.shape[-1] != model.dim or not len(starts):
        raise InvalidInputError(
            f"start must have shape ({model.dim},) or (S, {model.dim}), got {starts.shape}"
        )
    return np.atleast_2d(starts)


def find_modes(joint: CountedJoint, starts: Floats, restarts: int, rng: RandomState) -> list[Mode]:
    """The different modes that searches end at, the highest first; an error if there are none."""
    found: list[Mode] = []
    failed: list[ModeError] = []
    queue, others = list(starts), max(0, restarts - len(starts))
    while queue:
        try:
            found.append(find_mode(joint, queue.pop(0)))
        except ModeError as error:
            failed.append(error)
        if not queue and others:
            queue, others = _further(joint.model, found, others, rng), 0
    if not found:
        raise failed[0]
    return distinct(found)


def covariance(mode: Mode) -> Floats:
    """The inverse of minus the Hessian."""
    inverse = np.linalg.inv(mode.precision)
    return np.asarray(0.5 * (inverse + inverse.T))


def _further(model: LatentModel, found: list[Mode], count: int, rng: RandomState) -> list[Floats]:
    """Starts of further searches."""
    prior, seed = model.prior, generator(rng)
    if isinstance(prior, (Gaussian, StudentT, Mixture)):
        return list(prior.sample(count, rng=seed))
    if not found:
        return list(seed.standard_normal((count, model.dim)))
    around = StudentT(
        _SPREAD_DF, found[0].location, scale_tril=_SPREAD * np.linalg.cholesky(covariance(found[0]))
    )
    return list(around.sample(count, rng=seed))


def _component(df: float, mean: Floats, cov: Floats) -> Gaussian | StudentT:
    if df == math.inf:
        return Gaussian(mean, cov=cov)
    if df > 2.0:
        return StudentT(df, mean, cov=cov)
    return StudentT(df, mean, scale_tril=np.linalg.cholesky(cov))
