"""Bridge sampling from draws of the posterior of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays.chains import read_chains
from ..arrays.protocols import HasVariables
from ..errors import InvalidInputError, InvalidWeightError, NotPositiveDefiniteError
from ..models.constraints import constraint_of
from ..models.distributions import Elliptical
from ..models.joint import log_joint_of
from ..models.location_scale import Gaussian, StudentT
from ..models.protocol import LatentModel
from ..random import RandomState, philox_key, pilot_key
from ..validation import MAX_DRAWS, Floats, as_count, as_number, require_finite, shown
from ..weights.bridge import bridged
from ..weights.bridge_checks import Mixing, warn_about_bridge
from ..weights.bridge_result import BridgeEstimate
from .requests import kind_of

# The purpose of the draws of q.
_PROPOSAL = 8


def bridge(
    draws: ArrayLike | Path | Sequence[Path | str] | HasVariables,
    model: LatentModel,
    q: Elliptical | None = None,
    *,
    n_proposal: int | None = None,
    df: float | None = None,
    var: Sequence[str] | None = None,
    rng: RandomState = None,
) -> BridgeEstimate:
    """Log evidence of a model by bridge sampling, from draws of its posterior.

    Parameters
    ----------
    draws : array_like, ArviZ InferenceData or DataTree, or paths of CmdStan's CSV files
        Draws of a Markov chain or of any other sampler: an array (chains, draws, D), or (draws, D)
        of one chain, in the coordinates of the model; an object of ArviZ with the group
        "posterior"; a file of CmdStan, or a list of them, one a chain. Of files and objects, the
        coordinates are those that the model names, or all of them in their order where it has no
        names. The constrained parameters of a Stan or NumPyro model are unconstrained for it.
    model : Model, LinearGaussian, or a distribution
        p(x, z), without a batch of data points.
    q : Gaussian, StudentT or Mixture, optional
        A distribution near the posterior that was not fitted to these draws: all of them are
        bridged. By default it is fitted to the first half of each chain, by its mean and
        covariance, and the second half is bridged: q fitted to what it bridges gives a log evidence
        that is too low.
    n_proposal : int, optional
        Number of draws of q; by default that of the draws that are bridged.
    df : float, optional
        Degrees of freedom, above 2, of a Student-t that is fitted in place of a Gaussian.
    var : sequence of str, optional
        Variables or coordinates of files and objects, in the order of the model.
    rng : None, int, SeedSequence or Generator
        Seed of the draws of q.

    Returns
    -------
    BridgeEstimate

    Raises
    ------
    InvalidInputError
        If the draws do not have the model's dimension or names, or are not finite; if the model has
        a batch of data points; if an argument is invalid.
    NotPositiveDefiniteError
        If the draws have no covariance, as there are too few or a coordinate is constant.
    InvalidWeightError
        If p is 0 at a draw of its posterior, or a log density is NaN.

    Warns
    -----
    ChainsWarning
        If the chains have not mixed: R-hat of a coordinate or of log p(x, z) above 1.01, or fewer
        than 100 effective draws a chain.
    OverlapWarning
        If q and the posterior overlap too little, there are too few draws, or two answers for the
        overlap, which agree for draws of this posterior, do not.

    Notes
    -----
    The estimate and its error are those of `bridge_log_ratios`. Draws that miss a mode which q
    misses too cannot tell so. Nor can the two answers for the overlap: modes far apart that the
    draws have in wrong proportions, and spreads that are off by 5 to 10 %, are not seen.

    Examples
    --------
    >>> import fastelbo as fe
    >>> model = fe.LinearGaussian([1.0, 2.0], [[1.0, 0.5], [0.0, 1.0]], noise_cov=1.0)
    >>> draws = model.exact_posterior().sample(4000, rng=0).reshape(4, 1000, 2)
    >>> result = fe.bridge(draws, model, rng=1)
    >>> bool(abs(result.log_evidence - model.exact_log_evidence()) < 0.01)
    True
    """
    _check_model(model)
    points = _points(draws, model, var)
    own = points
    if q is None:
        half = points.shape[1] // 2
        q, own = _fitted(points[:, :half], df), points[:, half:]
    elif df is not None:
        raise InvalidInputError(f"df is of a q that is fitted, got {shown(df)} with q")
    _check_proposal(q, model)
    count = own.shape[0] * own.shape[1]
    n = count if n_proposal is None else as_count(n_proposal, "n_proposal", below=MAX_DRAWS)
    key = pilot_key(philox_key(rng), _PROPOSAL)
    proposal, mixing = q.sample(n, key), Mixing.of(points)
    log_p, log_p2 = _log_joint(model, own, "draws"), _log_joint(model, proposal, "q")
    with np.errstate(over="ignore"):
        l1, l2 = log_p - q.log_prob(own), log_p2 - q.log_prob(proposal)
    result = bridged(l1, l2, mixing.worse(Mixing.of(log_p)), key=key)
    warn_about_bridge(result)
    return result


def _check_model(model: object) -> None:
    if isinstance(model, type) or not isinstance(model, LatentModel):
        raise InvalidInputError(
            f"model must be a Model, a LinearGaussian or a distribution, got {kind_of(model)}"
        )
    if model.batch_shape != ():
        raise InvalidInputError(
            "model must have no batch of data points, as draws are of one posterior, got batch "
            f"shape {model.batch_shape}; data that share one z belong into params"
        )


def _check_proposal(q: object, model: LatentModel) -> None:
    if isinstance(q, type) or not isinstance(q, Elliptical):
        raise InvalidInputError(f"q must be a Gaussian, StudentT or Mixture, got {kind_of(q)}")
    if q.dim != model.dim or q.batch_shape != ():
        raise InvalidInputError(
            f"q must have the dimension of the model, {model.dim}, and no batch, got {q!r}"
        )


def _points(draws: Any, model: LatentModel, var: Sequence[str] | None) -> Floats:
    """The draws (chains, draws, D) in the coordinates of the model."""
    constraint = constraint_of(model)
    if constraint is None:
        return read_chains(draws, model.dim, getattr(model, "names", None), var)[0]
    points, named = read_chains(draws, model.dim, constraint.names, var)
    if not named:
        return points
    flat = constraint.unconstrained(points.reshape(-1, points.shape[-1]))
    require_finite(flat, "the unconstrained draws")
    return flat.reshape(*points.shape[:2], model.dim)


def _fitted(points: Floats, df: float | None) -> Elliptical:
    """A Gaussian, or a Student-t, of the mean and covariance of points (chains, draws, D)."""
    dim = points.shape[-1]
    rows = points.reshape(-1, dim)
    if len(rows) <= dim + 1:
        raise InvalidInputError(
            f"draws must be more than {2 * (dim + 1)} for a q of dimension {dim} that is fitted to "
            f"half of them, got {len(rows)} in the first half; or give q"
        )
    degrees = None if df is None else as_number(df, "df")
    if degrees is not None and not 2.0 < degrees < np.inf:
        raise InvalidInputError(f"df must be above 2 and finite, got {degrees}")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean, cov = rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False))
        scaled = cov if degrees is None else cov * ((degrees - 2.0) / degrees)
    try:
        if degrees is None:
            return Gaussian(mean, cov=scaled)
        return StudentT(degrees, mean, cov=scaled)
    except NotPositiveDefiniteError as error:
        raise NotPositiveDefiniteError(
            f"draws must have a positive definite covariance in their first half: {error}"
        ) from error


def _log_joint(model: LatentModel, z: Floats, of: str) -> Floats:
    """log p(x, z) at draws of the posterior or of q."""
    values = log_joint_of(model, z)
    least = -np.inf if of == "draws" else np.nan
    bad = np.isnan(values) | (values == np.inf) | (values == least)
    if bad.any():
        where = tuple(map(int, np.argwhere(bad)[0]))
        not_of_it = ": they are not of its posterior" if of == "draws" else ""
        raise InvalidWeightError(
            f"log p(x, z) of {model!r} must be finite at the draws of the posterior, and below "
            f"+inf at those of q; at {int(bad.sum())} {'' if of == 'draws' else 'draws of '}{of} "
            f"it is not{not_of_it}, the first, {values[where]}, at index {where}, z = "
            f"{np.array2string(z[where], threshold=8)}"
        )
    return values
