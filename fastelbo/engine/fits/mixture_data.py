"""Data points of a fit: checked, and in coordinates where their mean is 0.

Their variance is 1 there: of every direction for a fit of covariance matrices, of every coordinate
for diagonal ones, and on average for spherical ones. So a fit goes the same way in all units.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...arrays.inputs import as_floats, constant
from ...errors import InvalidInputError
from ...models.gaussian_components import factors
from ...models.lowering import invert_lower
from ...validation import Floats

# Directions of a smaller share of the variance, with coordinates of variance 1, are not raised to
# it: points may lie in a plane.
_LEAST_SHARE = 1e-10


class MixtureData(NamedTuple):
    """Points y in coordinates of a fit, and weights of mean 1; x = centre + unit (mixing y)."""

    y: Floats  # (N, D), points of positive weight alone
    weights: Floats
    x: Floats  # these points as they were given
    centre: Floats  # (D,)
    unit: Floats  # (D,)
    mixing: Floats  # (D, D), lower triangular
    mean_weight: float
    constant: list[int]  # coordinates that never change; their unit is that of the others

    @property
    def log_volume(self) -> float:
        """log |dx / dy|."""
        return float(np.log(self.unit).sum() + np.log(np.diagonal(self.mixing)).sum())


def points_of(x: ArrayLike) -> Floats:
    """Points (N, D), copied and checked."""
    points = as_floats(x, "x")
    if points.ndim != 2 or 0 in points.shape:
        hint = "; x[:, None] makes points of one coordinate" if points.ndim == 1 else ""
        raise InvalidInputError(
            f"x must have shape (N, D), with points and coordinates, got {points.shape}{hint}"
        )
    return points


def weights_of(weights: ArrayLike | None, points: int) -> Floats:
    """Weights (N,), checked; 1 by default."""
    if weights is None:
        return np.ones(points)
    shares = as_floats(weights, "weights")
    if shares.shape != (points,):
        raise InvalidInputError(
            f"weights must have one entry a data point, shape ({points},), got {shares.shape}"
        )
    if (shares < 0.0).any():
        place = int(np.argmax(shares < 0.0))
        raise InvalidInputError(
            f"weights must not be negative, got {shares[place]} at index {place}"
        )
    with np.errstate(over="ignore"):
        total = float(shares.sum())
    if not 0.0 < total < np.inf:
        raise InvalidInputError(f"weights must have a positive, finite sum, got {total}")
    return shares


def standardised(x: Floats, weights: Floats, kind: str) -> MixtureData:
    """Points of positive weight, for a fit with covariances of that type."""
    spherical = kind == "spherical"
    top = float(weights.max())
    scaled = weights / top
    mean_weight = float(scaled.mean())
    w = scaled / mean_weight
    # Powers of 2 first, so that no square overflows.
    power = np.frexp(np.abs(x).max(axis=0))[1]
    if spherical:
        power = np.full_like(power, power.max())
    y = np.ldexp(x, -power)
    still = y.max(axis=0) == y.min(axis=0)
    centre = np.where(still, y[0], (w[:, None] * y).sum(axis=0) / len(y))
    y -= centre
    variance = (w[:, None] * y**2).sum(axis=0) / len(y)
    if still.all():
        raise InvalidInputError(
            f"x must have points that differ, got {len(x)} of positive weight that coincide"
        )
    sizes = np.ldexp(np.sqrt(variance), power)
    mean_size = float(np.sqrt(np.mean((sizes[~still] / sizes.max()) ** 2)) * sizes.max())
    if spherical:
        everything = float(np.sqrt(np.mean((sizes / sizes.max()) ** 2)) * sizes.max())
        unit = np.full(x.shape[1], everything)
    else:
        unit = np.where(still, mean_size, sizes)
    y /= np.ldexp(unit, -power)
    mixing = np.eye(x.shape[1])
    if kind in ("full", "tied"):
        # Not by a library, whose bits may depend on its threads.
        cov = np.einsum("n,nd,ne->de", w / len(y), y, y, optimize=False)
        cov[still, still] = 1.0
        mixing = factors(cov[None], _LEAST_SHARE)[0]
        y = np.einsum("nd,ed->ne", y, invert_lower(mixing), optimize=False)
    return MixtureData(
        constant(y), constant(w), x, np.ldexp(centre, power), unit, mixing, top * mean_weight,
        np.flatnonzero(still).tolist(),
    )  # fmt: skip
