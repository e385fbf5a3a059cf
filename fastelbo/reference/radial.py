"""The radial part of each elliptical family: its log density and its draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import poch

from .stream import Array, Words, chi_square

LARGEST = np.finfo(float).max
# Distances whose squares do not overflow.
_LARGE = 1e150
_LARGE_SHAPE = 30.0


def log_radial(dist: Any, y: Array, log_det: Array) -> Array:
    """Log density of a Gaussian or StudentT at whitened points y = L^-1 (z - mean), (..., D).

    ``log_det`` is the log determinant of the scale. Squares that overflow are divided by the
    square of the largest coordinate.
    """
    dim, y = y.shape[-1], np.clip(y, -LARGEST, LARGEST)
    size = np.maximum(np.abs(y).max(axis=-1), 1.0)
    share = y / size[..., None]
    square = np.einsum("...d,...d->...", share, share)
    with np.errstate(over="ignore"):
        gaussian = -0.5 * (square * size) * size - (0.5 * dim * np.log(2.0 * np.pi) + log_det)
    if dist.family == "gaussian":
        return np.asarray(gaussian)
    _check_family(dist.family)
    df = np.asarray(dist.parameter)
    finite = np.minimum(df, LARGEST / 2.0)
    size = size / np.sqrt(finite)
    moderate = np.minimum(size, _LARGE)
    power = np.where(
        size < _LARGE,
        np.log1p(moderate * moderate * square),
        2.0 * np.log(np.maximum(size, _LARGE)) + np.log(np.maximum(square, 1.0)),
    )
    with np.errstate(over="ignore"):
        radial = (0.5 * finite + 0.5 * dim) * power
    student = _t_log_constant(finite, dim) - log_det - radial
    return np.asarray(np.where(df < np.inf, student, gaussian))


def _check_family(family: str) -> None:
    if family != "student_t":
        raise ValueError(f"family must be gaussian or student_t, got {family!r}")


def scale_radius(
    family: str, parameter: Array | None, y: Array, key: int, index: Words, draw: Words
) -> Array:
    """Draws of the family with scale 1, (n, K, D), from standard normals y.

    ``parameter`` of the family is (n, K) or broadcasts to it. Student t: one chi-square a draw,
    which the coordinates share.
    """
    if family == "gaussian":
        return y
    _check_family(family)
    assert parameter is not None
    # A draw of infinite df is that of any df so large that all digits are the same.
    finite = np.minimum(parameter, 1e300)
    factor = np.sqrt(finite / chi_square(key, index, draw, finite))
    return np.asarray(y * factor[..., None])


def _t_log_constant(df: Array, dim: int) -> Array:
    """``log Gamma((df + D) / 2) - log Gamma(df / 2) - (D / 2) log(df pi)``.

    By Gamma(a + 1) = a Gamma(a), since the two log Gammas of a large df would cancel.
    """
    a, half = 0.5 * df, 0.5 * (dim % 2)
    steps = np.log1p((half + np.arange(dim // 2)) / a[..., None]).sum(axis=-1)
    ratio = _log_half_step(a) if dim % 2 else 0.0
    return np.asarray(ratio + steps - 0.5 * dim * np.log(2.0 * np.pi))


def _log_half_step(a: Array) -> Array:
    """``log(Gamma(a + 1/2) / (Gamma(a) sqrt(a)))``; the log Gammas of a large a would cancel."""
    near, far = np.minimum(a, _LARGE_SHAPE), 1.0 / np.maximum(a, _LARGE_SHAPE)
    # The difference of two of Stirling's series (DLMF 5.11.8).
    with np.errstate(under="ignore"):
        series = far * (-1 / 8 + far**2 / 192 - far**4 / 640 + far**6 * 17 / 14336)
    return np.asarray(np.where(a < _LARGE_SHAPE, np.log(poch(near, 0.5) / np.sqrt(near)), series))
