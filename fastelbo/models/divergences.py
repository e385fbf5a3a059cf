"""Kullback-Leibler divergences in closed form."""

from __future__ import annotations

import numpy as np

from ..errors import InvalidInputError
from ..special import rel_entr
from ..validation import Floats, broadcast_shape
from .categorical import Categorical
from .distributions import Distribution
from .location_scale import Gaussian
from .lowering import finite_inverse


def kl_divergence(q: Distribution, p: Distribution) -> Floats:
    """KL(q || p) = E_q[log q - log p], where it has a closed form.

    Parameters
    ----------
    q, p : Gaussian and Gaussian, or Categorical and Categorical
        Their batches broadcast.

    Returns
    -------
    ndarray
        Divergence in nats, shape ``broadcast(q.batch_shape, p.batch_shape)``.

    Raises
    ------
    InvalidInputError
        For any other pair, and for dimensions that disagree. ``estimate(p, q).kl`` is the Monte
        Carlo answer, with a standard error, for distributions over vectors.

    Notes
    -----
    Gaussians: ``(|S_p^-1 S_q|^2 + |S_p^-1 (m_q - m_p)|^2 - D) / 2 + log det S_p - log det S_q``
    with the Frobenius norm (Cover and Thomas, 2006, section 8.5). Categoricals:
    ``sum_c q_c log(q_c / p_c)``, 0 log 0 = 0, infinite where q puts mass that p does not.

    Examples
    --------
    >>> import fastelbo as fe
    >>> float(fe.kl_divergence(fe.Gaussian([1.0], scale=1.0), fe.Gaussian([0.0], scale=1.0)))
    0.5
    """
    if isinstance(q, Gaussian) and isinstance(p, Gaussian):
        return _gaussians(q, p)
    if isinstance(q, Categorical) and isinstance(p, Categorical):
        if q.probs.shape[-1] != p.probs.shape[-1]:
            raise InvalidInputError(
                f"q and p must have as many classes, got {q.probs.shape[-1]} and "
                f"{p.probs.shape[-1]}"
            )
        broadcast_shape(q=q.batch_shape, p=p.batch_shape)
        return np.asarray(rel_entr(q.probs, p.probs).sum(axis=-1))
    raise InvalidInputError(
        f"no closed form for the KL divergence of {type(q).__name__} from {type(p).__name__}; "
        "estimate(p, q).kl gives it by Monte Carlo, with a standard error"
    )


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def _gaussians(q: Gaussian, p: Gaussian) -> Floats:
    if q.dim != p.dim:
        raise InvalidInputError(f"q and p must have one dimension, got {q.dim} and {p.dim}")
    shape = broadcast_shape(q=q.batch_shape, p=p.batch_shape)
    shift = q.mean - p.mean
    if p.scale is not None:
        whitened = shift / p.scale
        if q.scale is not None:
            trace = ((q.scale / p.scale) ** 2).sum(axis=-1)
        else:
            assert q.scale_tril is not None
            trace = ((q.scale_tril / p.scale[..., None]) ** 2).sum(axis=(-2, -1))
    else:
        inverse = finite_inverse(p.scale_tril)
        whitened = np.einsum("...jd,...d->...j", inverse, shift)
        if q.scale is not None:
            ratio = inverse * q.scale[..., None, :]
        else:
            assert q.scale_tril is not None
            ratio = inverse @ q.scale_tril
        trace = (ratio**2).sum(axis=(-2, -1))
    distance = (whitened**2).sum(axis=-1)
    value = 0.5 * (trace + distance - q.dim) + p._log_det() - q._log_det()
    if np.isnan(value).any():
        raise InvalidInputError(
            "q and p must differ less in scale: products of their scales are beyond the largest "
            "float"
        )
    return np.array(np.broadcast_to(value, shape))
