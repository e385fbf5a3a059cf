"""Fits with a closed form: the best q of a linear-Gaussian model, or of a mixture's labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...models.categorical import Categorical
from ...models.linear_gaussian import LinearGaussian
from ...models.location_scale import Gaussian
from ...models.lowering import finite_inverse
from ...models.mixture_model import MixtureModel
from ...special import softmax
from ...validation import Floats


class ClosedForm(NamedTuple):
    """The q of the largest ELBO; None stands for the exact posterior."""

    q: Any = None


def closed_q(model: Any, q0: Any) -> ClosedForm | None:
    """The q of the family of q0 with the largest ELBO, or None where there is no closed form.

    Without q0 it is the exact posterior.
    """
    if not isinstance(model, (LinearGaussian, MixtureModel)):
        return None
    own = q0 is None or q0.batch_shape == model.batch_shape
    if isinstance(model, MixtureModel):
        if own:
            return ClosedForm()
        return None if q0.batch_shape else ClosedForm(_shared_classes(model))
    if q0 is None:
        return ClosedForm()
    if not isinstance(model.prior, Gaussian) or not isinstance(q0, Gaussian):
        return None
    if own and q0.scale is None:
        return ClosedForm()
    posterior = model.exact_posterior()
    if own:
        scale = _scale(_precision_diagonal(model), q0.mean.shape)
        return ClosedForm(Gaussian(posterior.mean, scale=scale))
    return None if q0.batch_shape else ClosedForm(_shared_gaussian(model, posterior, q0))


def _precision_diagonal(model: LinearGaussian) -> Floats:
    """(S0^-1 + W' Psi^-1 W)_dd, with the prior's batch: sums of squares, so nothing cancels."""
    prior = model.prior
    if prior.scale is not None:
        of_prior = (1.0 / prior.scale) ** 2
    else:
        of_prior = (finite_inverse(prior.scale_tril) ** 2).sum(axis=-2)
    return np.asarray(of_prior + (model.likelihood.reduced.factor**2).sum(axis=0))


def _scale(precision: Floats, shape: tuple[int, ...]) -> Floats:
    return np.array(np.broadcast_to(1.0 / np.sqrt(precision), shape))


def _shared_gaussian(model: LinearGaussian, posterior: Gaussian, q0: Gaussian) -> Gaussian:
    """One q for all data points, whose posteriors have precisions P_n and means m_n.

    The sum of ELBOs is largest at the precision mean(P_n), or its diagonal, and the mean
    ``sum(P_n)^-1 sum P_n m_n``.
    """
    dim = model.dim
    means = posterior.mean.reshape(-1, dim)
    precisions = posterior.precision.reshape(-1, dim, dim)
    precision = precisions.mean(axis=0)
    if len(precisions) == 1:
        mean = means.mean(axis=0)
    else:
        weighted = np.einsum("nij,nj->i", precisions, means) / len(means)
        mean = np.linalg.solve(precision, weighted)
    if q0.scale is None:
        return Gaussian(mean, precision=precision)
    return Gaussian(mean, scale=_scale(_precision_diagonal(model).reshape(-1, dim).mean(0), (dim,)))


def _shared_classes(model: MixtureModel) -> Categorical:
    """One q for all data points: proportional to w_c exp(mean of log p(x_n | c))."""
    with np.errstate(divide="ignore", under="ignore"):
        means = model.component_log_prob().reshape(-1, model.n_classes).mean(axis=0)
        return Categorical(softmax(np.log(model.mixture.weights) + means))
