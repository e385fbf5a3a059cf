"""Draws of a distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .parameters import component, simple
from .radial import scale_radius
from .stream import (
    CHOICE,
    Array,
    Words,
    address,
    standard_normals,
    word53,
    words_at,
)


def sample(q: Any, key: int, index: ArrayLike, draw: ArrayLike) -> Array:
    """Draws ``z ~ q``. Each draw is a function of (key, index, draw) alone.

    Parameters
    ----------
    q
        Gaussian, StudentT or Mixture with batch shape () or (n,).
    key
        64-bit key of the stream.
    index, draw
        Data points, shape (n,), and draws, shape (K,).

    Returns
    -------
    array of shape (n, K, D)
        ``mean + L eps sqrt(df / chi2)``, without the root for a Gaussian. For a mixture, mean, L
        and df are those of the component that the draw chooses.
    """
    index, draw = address(index, 32, "index")[:, None], address(draw, 40, "draw")[None, :]
    y = standard_normals(key, index, draw, simple(q).mean.shape[-1])
    if q.family != "mixture":
        own = None if q.parameter is None else np.asarray(q.parameter)[..., None]
        return _affine(q, scale_radius(q.family, own, y, key, index, draw))
    words, n_components = words_at(key, index, draw, CHOICE), q.weights.shape[-1]
    choice = _choose(q.weights, word53(words[0], words[1]))
    chosen = q.components.parameter
    if chosen is not None:
        every = np.broadcast_to(chosen, (len(index), n_components))
        chosen = np.take_along_axis(every, choice, axis=-1)
    y = scale_radius(q.components.family, chosen, y, key, index, draw)
    z = np.empty_like(y)
    for c in range(n_components):
        np.copyto(z, _affine(component(q, c), y), where=(choice == c)[..., None])
    return z


def _choose(weights: Array, word: Words) -> NDArray[np.intp]:
    """Component of each draw, (n, K). Integer thresholds make every device choose the same."""
    cumulative = np.cumsum(weights, axis=-1)
    thresholds = np.floor(cumulative / cumulative[..., -1:] * 2.0**53).astype(np.uint64)
    return np.asarray((word[..., None] >= thresholds[..., None, :-1]).sum(axis=-1))


def _affine(dist: Any, y: Array) -> Array:
    """``mean + L y`` for y (n, K, D) and a batch of () or (n,)."""
    stretched = (
        y * dist.scale[..., None, :]
        if dist.scale is not None
        else y @ np.swapaxes(dist.scale_tril, -1, -2)
    )
    return np.asarray(dist.mean[..., None, :] + stretched)
