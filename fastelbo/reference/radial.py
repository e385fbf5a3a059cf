"""The radial part of each elliptical family: its log density and its draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import poch

from .stream import Array, Words, chi_square


def log_radial(dist: Any, square: Array, log_det: Array, dim: int) -> Array:
    """Log density of a Gaussian or StudentT at squared scaled distances ``square``.

    ``log_det`` is the log determinant of the scale.
    """
    if dist.family == "gaussian":
        return np.asarray(-0.5 * (square + dim * np.log(2.0 * np.pi)) - log_det)
    df = np.asarray(dist.parameter)
    return np.asarray(_t_log_constant(df, dim) - log_det - 0.5 * (df + dim) * np.log1p(square / df))


def scale_radius(
    family: str, parameter: Array | None, y: Array, key: int, index: Words, draw: Words
) -> Array:
    """Draws of the family with scale 1, (n, K, D), from standard normals y.

    ``parameter`` of the family is (n, K) or broadcasts to it. Student t: one chi-square a draw,
    which the coordinates share.
    """
    if family == "gaussian" or parameter is None:
        return y
    factor = np.sqrt(parameter / chi_square(key, index, draw, parameter))
    return np.asarray(y * factor[..., None])


def _t_log_constant(df: Array, dim: int) -> Array:
    """``log Gamma((df + D) / 2) - log Gamma(df / 2) - (D / 2) log(df pi)``.

    By Gamma(a + 1) = a Gamma(a), since the two log Gammas of a large df would cancel.
    """
    a, half = 0.5 * df, 0.5 * (dim % 2)
    steps = np.log1p((half + np.arange(dim // 2)) / a[..., None]).sum(axis=-1)
    return np.asarray(np.log(poch(a, half) / a**half) + steps - 0.5 * dim * np.log(2.0 * np.pi))
