"""Draws of a distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .parameters import component, simple
from .radial import scale_radius
from .sobol import HALF, network_size, normals_of, rotated, sobol_words
from .stream import (
    CHOICE,
    Array,
    Words,
    address,
    standard_normals,
    word53,
    words_at,
)


def sample(q: Any, key: int, index: ArrayLike, draw: ArrayLike, design: Any = None) -> Array:
    """Draws ``z ~ q``. Each draw is a function of (key, index, draw) alone.

    Parameters
    ----------
    q
        Gaussian, StudentT or Mixture with batch shape () or (n,).
    key
        64-bit key of the stream.
    index, draw
        Data points, shape (n,), and draws, shape (K,).
    design
        None for independent draws, or what `reference.sobol` describes.

    Returns
    -------
    array of shape (n, K, D)
        ``mean + L Q eps sqrt(df / chi2)``, without the root for a Gaussian, and without the
        rotation Q for independent draws. For a mixture, mean, L, Q and df are those of the
        component that the draw chooses.
    """
    index, draw = address(index, 32, "index")[:, None], address(draw, 40, "draw")[None, :]
    y, word = _normals_and_choice(q, key, index, draw, design)
    if q.family != "mixture":
        own = None if q.parameter is None else np.asarray(q.parameter)[..., None]
        y = scale_radius(q.family, own, y, key, index, draw)
        return _affine(q, rotated(design, 0, y))
    choice, n_components = _choose(q.weights, word), q.weights.shape[-1]
    chosen = q.components.parameter
    if chosen is not None:
        every = np.broadcast_to(chosen, (len(index), n_components))
        chosen = np.take_along_axis(every, choice, axis=-1)
    y = scale_radius(q.components.family, chosen, y, key, index, draw)
    z = np.empty_like(y)
    for c in range(n_components):
        own = _affine(component(q, c), rotated(design, c, y))
        np.copyto(z, own, where=(choice == c)[..., None])
    return z


def _normals_and_choice(
    q: Any, key: int, index: Words, draw: Words, design: Any
) -> tuple[Array, Words]:
    """Standard normals, and the integer of 53 bits by which a mixture chooses a component."""
    dim = simple(q).mean.shape[-1]
    # A mixture of one component has nothing to choose.
    is_mixture = q.family == "mixture" and q.weights.shape[-1] > 1
    if design is None:
        words = words_at(key, index, draw, CHOICE)
        return standard_normals(key, index, draw, dim), word53(words[0], words[1])
    size = network_size(dim, design.transform, is_mixture)
    points = sobol_words(design, key, index, draw, size)
    normals = normals_of(points[..., int(is_mixture) :], dim, design.transform)
    return normals, word53(points[..., 0], HALF)


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
