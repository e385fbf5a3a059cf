"""From distributions and models to the arrays that the kernels read.

A data point's arrays must not depend, in any bit, on which others are lowered with it: products are
elementwise or of stacked small matrices, one a data point.

Every distribution over a vector is a mixture of location-scale `Components` (often of one). A
density among them depends on ``|S^-1 (z - m)|^2``. In the coordinates v of the draw, with
``z = centre + T v``, that is ``|F v - t|^2``, F = S^-1 T and t = S^-1 (m - centre): the `Density`
of the kernels. For a single q, v is the standardised draw itself (T = S_q), so that log q needs no
solve, and nothing of the size of z is ever subtracted from anything of that size. For several
components, v is z - centre; a component many of its scales from the centre is
``|F (v - (m - centre))|^2``, as F v and t would cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays.inputs import constant
from ..caching import cached_property
from ..errors import InvalidInputError
from ..kernels.cpu import linear
from ..kernels.cpu.launch import launch, threads_for
from ..kernels.draws.blocks import ELLIPTICAL, Density, Sampler, Term, padded
from ..kernels.draws.radial import GAUSSIAN
from ..validation import Floats, Integers
from .protocol import Frame, Points, Source

_LOG_2PI = math.log(2.0 * math.pi)
_NO_VALUES = constant(np.zeros((1, 0)))
_NO_SHIFT = np.zeros((1, 0, 0))
_NO_ROTATION = constant(np.zeros((1, 0, 0)))
# Draws are independent.
# Scales between a component and the centre from which F v - t would lose more than a few ulp.
_FAR = 8.0
# What leaves the range of floats is infinite or 0, as in the kernels, which raise no flags. A log
# weight that is NaN for it is refused, as is a scale that has no finite inverse.
_unflagged = np.errstate(all="ignore")
# A chi-square draw over its degrees of freedom is 1 from here on.
_MOST_DF = 1e300


@dataclass(frozen=True, eq=False)
class Components:
    """Location-scale components; the last batch axis counts them. Batches are not broadcast.

    Exactly one of ``scale`` (standard deviations) and ``scale_tril`` (lower triangular) is given.
    ``log_base`` is the log of the normalising constant for a scale of 1.
    """

    log_weight: Floats  # (..., C)
    mean: Floats  # (..., C, D)
    scale: Floats | None  # (..., C, D)
    scale_tril: Floats | None  # (..., C, D, D)
    radial: int  # the family: a code of kernels.draws.radial
    log_base: Floats  # (..., C)
    df: Floats | None  # (..., C), the parameter of families that have one

    @property
    def dim(self) -> int:
        return int(self.mean.shape[-1])

    @_unflagged
    def times(self, unit: float) -> Components:
        """The same density, as a function of points that are ``unit`` times as large."""
        if unit == 1.0:
            return self
        return replace(
            self,
            mean=unit * self.mean,
            scale=None if self.scale is None else unit * self.scale,
            scale_tril=None if self.scale_tril is None else unit * self.scale_tril,
            log_base=self.log_base + self.dim * math.log(unit),
        )

    @property
    def single(self) -> bool:
        """Whether there is one component only, whose weight is then 1."""
        return bool(self.log_weight.shape[-1] == 1)

    @cached_property
    @_unflagged
    def inverse_scale(self) -> Floats:
        """(..., C, D) reciprocals, or (..., C, D, D) inverse triangles."""
        if self.scale is None:
            return finite_inverse(self.scale_tril)
        return _require_inverse(1.0 / self.scale, "scale")

    @cached_property
    @_unflagged
    def log_const(self) -> Floats:
        """(..., C) logarithm of weight and normalising constant."""
        if self.scale is not None:
            log_det = np.log(self.scale).sum(axis=-1)
        else:
            assert self.scale_tril is not None
            diagonal = np.diagonal(self.scale_tril, axis1=-2, axis2=-1)
            log_det = np.log(diagonal).sum(axis=-1)
        return np.asarray(self.log_weight + self.log_base - log_det)


@_unflagged
def invert_lower(tril: Floats | None) -> Floats:
    """Inverses of a batch of lower triangular matrices, by forward substitution."""
    assert tril is not None
    inverse = np.zeros_like(tril)
    for j in range(tril.shape[-1]):
        row = -(tril[..., j, None, :j] @ inverse[..., :j, :])[..., 0, :]
        row[..., j] += 1.0
        inverse[..., j, :] = row / tril[..., j, j, None]
    return inverse


def finite_inverse(tril: Floats | None, name: str = "scale_tril") -> Floats:
    """Inverses that are finite; an error where they are not."""
    return _require_inverse(invert_lower(tril), name)


def _require_inverse(inverse: Floats, name: str) -> Floats:
    if not np.isfinite(inverse).all():
        raise InvalidInputError(
            f"{name} must have a finite inverse; its entries are too small, or differ too much"
        )
    return inverse


def _enlarged(array: Floats, *lengths: int) -> Floats:
    """The array with zeros behind it on its last axes, which become so long."""
    kept = array.ndim - len(lengths)
    if array.shape[kept:] == lengths:
        return array
    out = np.zeros((*array.shape[:kept], *lengths))
    old: tuple[Any, ...] = (..., *map(slice, array.shape[kept:]))
    out[old] = array
    return out


def make_density(
    radial: int,
    factor: Floats,
    target: Floats,
    log_const: Floats,
    df: Floats,
    shift: Floats = _NO_SHIFT,
) -> Density:
    """A `Density` of constant arrays, its affine forms padded with zeros to whole tiles."""
    rows, dim = factor.shape[2:]
    factor = _enlarged(factor, padded(rows) if rows > 1 else rows, padded(dim))
    target = _enlarged(target, padded(target.shape[2]))
    shift = _enlarged(shift, padded(shift.shape[2]))
    return Density(radial, *map(constant, (factor, target, shift, log_const, df)))


def make_sampler(
    radial: int, location: Floats, scale: Floats, limits: Integers, df: Floats
) -> Sampler:
    """A `Sampler` of constant arrays."""
    location, scale, limits, df = map(constant, (location, scale, limits, df))
    return Sampler(radial, location, scale, limits, df, False, _NO_ROTATION, None)


def _log_const(components: Components, points: Points) -> tuple[Floats, Floats]:
    """The entries of a `Density` that do not depend on the frame: log_const and df."""
    log_const = points.select(components.log_const, 1)
    df = np.zeros((1, 0)) if components.df is None else points.select(components.df, 1)
    count = log_const.shape[-1]
    if df.shape[-1] not in (0, count):
        df = np.broadcast_to(df, (*df.shape[:-1], count))
    return log_const, df


@_unflagged
def density(components: Components, points: Points, frame: Frame) -> Density:
    """The density of the components in the coordinates of ``frame``."""
    log_const, df = _log_const(components, points)
    mean, count = points.select(components.mean, 2), log_const.shape[-1]
    if components.scale is None:
        inverse = points.select(components.inverse_scale, 3)
    else:
        inverse = points.select(components.inverse_scale, 2)[:, :, None, :]
    if frame.scale is not None or frame.scale_tril is not None:
        factor, target = (_each(part, count) for part in standardised(inverse, frame, mean))
        return make_density(components.radial, factor, target, log_const, df)
    shift = mean - frame.centre[:, None, :]
    if components.scale is None:
        target = (inverse @ shift[..., None])[..., 0]
    else:
        target = inverse[:, :, 0] * shift
    factor, target = _each(inverse, count), _each(target, count)
    # A distance whose square overflowed may be NaN.
    far = ~(_distance(factor, shift) <= _FAR)
    own_shift = np.where(far[..., None], shift, 0.0) if far.any() else _NO_SHIFT
    target = np.where(far[..., None], 0.0, target)
    return make_density(components.radial, factor, target, log_const, df, own_shift)


def _each(array: Floats, count: int) -> Floats:
    """The array (n or 1, C or 1, ...) with an entry for each of ``count`` components."""
    return np.broadcast_to(array, (len(array), count, *array.shape[2:]))


def common_length(*arrays: Floats) -> int:
    """The number of data points of arrays with an entry for each of them, or one for all."""
    return 0 if any(len(each) == 0 for each in arrays) else max(map(len, arrays))


def standardised(scale: Floats, frame: Frame, mean: Floats | None = None) -> tuple[Floats, Floats]:
    """F = scale T and t = scale (mean - centre), padded as those of a `Density`.

    ``scale`` is (n or 1, C or 1, 1 diagonal | D lower triangular, D), and so is T in the frame.
    Without a mean there is no t.
    """
    transform = frame.scale_tril
    if transform is None:
        assert frame.scale is not None
        transform = frame.scale[:, None, :]
    count, rows, dim = scale.shape[1:]
    rows, length = max(rows, transform.shape[1]), padded(dim)
    factor = np.empty(
        (common_length(scale, transform), count, padded(rows) if rows > 1 else 1, length)
    )
    target = np.empty((0, 0, length))
    if mean is None:
        mean = np.empty((1, 1, dim))
    else:
        shape = common_length(scale, mean, frame.centre), max(count, mean.shape[1])
        target = np.empty((*shape, length))
    arrays = (scale, transform, mean, frame.centre)
    launch(
        linear.standardise, *map(constant, arrays), factor, target,
        n_threads=threads_for(factor.size), work=factor.size * (rows + 2) / 2,
    )  # fmt: skip
    return factor, target


def _distance(factor: Floats, shift: Floats) -> Floats:
    """(n or 1, C) distances of components from the centre: the largest |entry| of F shift.

    If F is triangular, its terms are added as if they were independent, so that none cancel.
    """
    if factor.shape[2] == 1:
        return np.asarray(np.abs(factor[:, :, 0] * shift).max(axis=-1))
    square = (factor * factor) @ (shift * shift)[..., None]
    return np.asarray(np.sqrt(square.max(axis=(-2, -1))))


@_unflagged
def thresholds(log_weight: Floats) -> Integers:
    """Cumulative weights in units of 2^-53, for the choice of a component by integers."""
    cumulative = np.cumsum(np.exp(log_weight), axis=-1)
    return np.asarray(np.floor(cumulative / cumulative[..., -1:] * 2.0**53), dtype=np.int64)


def _single_source(q: Components, points: Points) -> Source:
    """A single location-scale q: the coordinates are the standardised draw."""
    dim = q.dim
    log_const, df = _log_const(q, points)
    scale = None if q.scale is None else points.select(q.scale, 2)[:, 0]
    tril = None if q.scale_tril is None else points.select(q.scale_tril, 3)[:, 0]
    frame = Frame(points.select(q.mean, 2)[:, 0], scale, tril)
    sampler = _standardised_sampler(q.radial, _df_of_draws(df))
    own = make_density(q.radial, np.zeros((1, 1, 0, dim)), _NO_SHIFT, log_const, df)
    return Source(sampler, frame, elliptical_term(own))


def _standardised_sampler(radial: int, df: Floats) -> Sampler:
    """The sampler of y itself, without a location."""
    return make_sampler(radial, _NO_SHIFT, np.zeros((1, 0, 1, 0)), np.zeros((1, 0), np.int64), df)


def no_coordinates() -> Sampler:
    """The sampler of draws whose log weights alone are known."""
    return _standardised_sampler(GAUSSIAN, np.zeros((1, 0)))


def source(q: Components, points: Points) -> Source:
    """The draws of q: standardised where there is one component, else relative to a centre."""
    if q.single:
        return _single_source(q, points)
    centre = exact_centre(q, points)
    frame = Frame(centre, None, None)
    own = elliptical_term(density(q, points, frame))
    return Source(draw_components(q, points, centre), frame, own)


def sampler_of_draws(source: Source) -> Sampler:
    """A sampler of the draws z themselves; that of ``source`` makes v, with z = centre + T v."""
    sampler, (centre, scale, tril) = source.sampler, source.frame
    if sampler.location.shape[1]:
        # T is the identity: the frame of several components only moves them.
        return sampler._replace(location=constant(sampler.location + centre[:, None, :]))
    if tril is None:
        tril = (np.ones_like(centre) if scale is None else scale)[:, None, :]
    return sampler._replace(
        location=constant(centre[:, None, :]), scale=constant(tril[:, None, :, :])
    )


def _df_of_draws(df: Floats) -> Floats:
    """Finite degrees of freedom, from which a draw comes out as it would for infinite ones."""
    return np.minimum(df, _MOST_DF)


def elliptical_term(density: Density) -> Term:
    """The term of a density."""
    return Term(ELLIPTICAL, density, _NO_VALUES, 0)


@_unflagged
def draw_components(q: Components, points: Points, centre: Floats) -> Sampler:
    """Sampler of v = z - centre, whatever the number of components."""
    log_weight = points.select(q.log_weight, 1)
    location = points.select(q.mean, 2) - centre[:, None, :]
    if q.scale is not None:
        scale = points.select(q.scale, 2)[:, :, None, :]
    else:
        assert q.scale_tril is not None
        scale = points.select(q.scale_tril, 3)
    count = log_weight.shape[-1]
    location = np.broadcast_to(location, (location.shape[0], count, q.dim))
    scale = np.broadcast_to(scale, (scale.shape[0], count, *scale.shape[2:]))
    _, df = _log_const(q, points)
    return make_sampler(q.radial, location, scale, thresholds(log_weight), _df_of_draws(df))


def chooser(limits: Integers) -> Sampler:
    """Sampler of the numbers of components, for thresholds (n or 1, C): a draw is its number."""
    count = limits.shape[-1]
    numbers, none = np.arange(float(count)).reshape(1, count, 1), np.zeros((1, count, 1, 1))
    return make_sampler(GAUSSIAN, numbers, none, limits, np.zeros((1, 0)))


@_unflagged
def exact_centre(components: Components, points: Points) -> Floats:
    """(n or 1, D) a centre whose differences from the components' locations are exact.

    The weighted mean of the locations. A coordinate is 0 if a location is more than a quarter of
    the mean away from it: the difference would be rounded, and is not much smaller.
    """
    weight = np.exp(points.select(components.log_weight, 1))
    mean = points.select(components.mean, 2)
    centre = (weight[:, None, :] @ mean)[:, 0]
    spread = np.abs(mean - centre[:, None, :]).max(axis=1)
    return np.where(spread <= 0.25 * np.abs(centre), centre, 0.0)
