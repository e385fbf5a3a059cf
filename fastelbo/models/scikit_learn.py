"""Gaussian mixtures from scikit-learn and back, through the attributes of a fitted one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays.inputs import as_floats
from ..errors import InvalidInputError
from ..optional import optional
from ..validation import Floats, shown
from .location_scale import Gaussian
from .lowering import invert_lower

_FITTED = ("covariance_type", "weights_", "means_", "covariances_")


def parameters(gm: Any) -> tuple[Floats, Gaussian]:
    """Weights (C,) and components of a fitted mixture."""
    missing = [name for name in _FITTED if not hasattr(gm, name)]
    if missing:
        raise InvalidInputError(
            f"gm must be a fitted GaussianMixture of scikit-learn, got {shown(gm)} without "
            f"{' and '.join(missing)}"
        )
    kind, covariances = gm.covariance_type, gm.covariances_
    if kind in ("full", "tied"):
        components = Gaussian(gm.means_, cov=covariances)
    elif kind in ("diag", "spherical"):
        scale = np.sqrt(as_floats(covariances, "covariances_"))
        components = Gaussian(gm.means_, scale=scale if kind == "diag" else scale[:, None])
    else:
        raise InvalidInputError(
            "gm.covariance_type must be 'full', 'tied', 'diag' or 'spherical', got " + shown(kind)
        )
    return as_floats(gm.weights_, "weights_"), components


def fitted(weights: Floats, components: Gaussian) -> Any:
    """A fitted ``sklearn.mixture.GaussianMixture`` of C components."""
    mixture = optional("sklearn.mixture", "to_sklearn()", "scikit-learn")
    count, dim = len(weights), components.dim
    kind, covariances, roots, precisions = _by_kind(components, count)
    result = mixture.GaussianMixture(n_components=count, covariance_type=kind)
    result.weights_ = np.array(weights)
    result.means_ = np.array(np.broadcast_to(components.mean, (count, dim)))
    result.covariances_, result.precisions_cholesky_ = np.array(covariances), np.array(roots)
    result.precisions_ = np.array(precisions)
    result.n_features_in_ = dim
    result.converged_, result.n_iter_, result.lower_bound_ = True, 0, -np.inf
    return result


@np.errstate(all="ignore")
def _by_kind(components: Gaussian, count: int) -> tuple[str, Floats, Floats, Floats]:
    """The most special covariance type, covariances, roots of their inverses, and the inverses."""
    dim = components.dim
    if components.scale is not None:
        scale, kind = np.broadcast_to(components.scale, (count, dim)), "diag"
        if (scale == scale[:, :1]).all():
            scale, kind = scale[:, 0], "spherical"
        return kind, scale**2, 1.0 / scale, scale**-2.0
    tril, kind = components.scale_tril, "full"
    assert tril is not None
    shared = tril.ndim == 2 or len(tril) == 1
    if shared:
        tril, kind = tril.reshape(dim, dim), "tied"
    roots = np.swapaxes(invert_lower(tril), -1, -2)
    cov = tril @ np.swapaxes(tril, -1, -2)
    return kind, cov, roots, roots @ np.swapaxes(roots, -1, -2)
