"""From distributions and models to the arrays that the kernels read.

A data point's arrays must not depend, in any bit, on which others are lowered with it: products are
elementwise or of stacked small matrices, one a data point.

Every distribution over a vector is a mixture of location-scale `Components` (often of one). A
density among them depends on ``|S^-1 (z - m)|^2``. In the coordinates v of the draw, with
``z = centre + T v``, that is ``|F v - t|^2``, F = S^-1 T and t = S^-1 (m - centre): the `Density`
of the kernels. For a single q, v is the standardised draw itself (T = S_q), so that log q needs no
solve, and nothing of the size of z is ever subtracted from anything of that size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.special import poch

from ..arrays.inputs import constant
from ..errors import InvalidInputError
from ..kernels.cpu import linear
from ..kernels.cpu.launch import launch
from ..kernels.draws.blocks import Density, Plan, Real, Sampler, padded
from ..validation import Floats, Integers

_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False)
class Components:
    """Location-scale components; the last batch axis counts them. Batches are not broadcast.

    Exactly one of ``scale`` (standard deviations) and ``scale_tril`` (lower triangular) is given;
    ``df`` is None for Gaussian components.
    """

    log_weight: Floats  # (..., C)
    mean: Floats  # (..., C, D)
    scale: Floats | None  # (..., C, D)
    scale_tril: Floats | None  # (..., C, D, D)
    df: Floats | None  # (..., C)

    @property
    def dim(self) -> int:
        return int(self.mean.shape[-1])

    @property
    def single(self) -> bool:
        """Whether there is one component only, whose weight is then 1."""
        return bool(self.log_weight.shape[-1] == 1)

    @cached_property
    def inverse_scale(self) -> Floats:
        """(..., C, D) reciprocals, or (..., C, D, D) inverse triangles."""
        if self.scale is not None:
            return 1.0 / self.scale
        return invert_lower(self.scale_tril)

    @cached_property
    def log_const(self) -> Floats:
        """(..., C) logarithm of weight and normalising constant."""
        if self.scale is not None:
            log_det = np.log(self.scale).sum(axis=-1)
        else:
            assert self.scale_tril is not None
            diagonal = np.diagonal(self.scale_tril, axis1=-2, axis2=-1)
            log_det = np.log(diagonal).sum(axis=-1)
        if self.df is None:
            base: Any = -0.5 * self.dim * _LOG_2PI
        else:
            base = student_log_const(self.df, self.dim)
        return np.asarray(self.log_weight + base - log_det)


def invert_lower(tril: Floats | None) -> Floats:
    """Inverses of a batch of lower triangular matrices, by forward substitution."""
    assert tril is not None
    inverse = np.zeros_like(tril)
    for j in range(tril.shape[-1]):
        row = -(tril[..., j, None, :j] @ inverse[..., :j, :])[..., 0, :]
        row[..., j] += 1.0
        inverse[..., j, :] = row / tril[..., j, j, None]
    return inverse


def student_log_const(df: Floats, dim: int) -> Floats:
    """log of Gamma((df + D)/2) / (Gamma(df/2) (df pi)^(D/2)).

    As a product over whole steps of the Gamma function, and `scipy.special.poch` for the odd half:
    a difference of two log-Gammas cancels for large df.
    """
    half = 0.5 * df
    result = np.full(np.shape(df), -0.5 * dim * _LOG_2PI)
    for step in range(dim // 2):
        result = result + np.log1p(step / half)
    if dim % 2:
        start = half + dim // 2
        result = result + np.log(poch(start, 0.5) / np.sqrt(half))
    return np.asarray(result)


def select(array: Floats, event_axes: int, batch: tuple[int, ...], rows: slice) -> Floats:
    """The entries of the flattened batch at ``rows``; one shared entry stays one."""
    split = array.ndim - event_axes
    own, event = array.shape[:split], array.shape[split:]
    size = math.prod(own)
    flat = array.reshape(size, *event)
    if size == 1:
        return flat
    if size == math.prod(batch):
        return flat[rows]
    position = np.broadcast_to(np.arange(size).reshape(own), batch).reshape(-1)
    return np.asarray(flat[position[rows]])


def _enlarged(array: Floats, *lengths: int) -> Floats:
    """The array with zeros behind it on its last axes, which become so long."""
    kept = array.ndim - len(lengths)
    if array.shape[kept:] == lengths:
        return array
    out = np.zeros((*array.shape[:kept], *lengths))
    old: tuple[Any, ...] = (..., *map(slice, array.shape[kept:]))
    out[old] = array
    return out


def make_density(factor: Floats, target: Floats, log_const: Floats, df: Floats) -> Density:
    """A `Density` of constant arrays, its affine forms padded with zeros to whole tiles."""
    rows, dim = factor.shape[2:]
    factor = _enlarged(factor, padded(rows) if rows > 1 else rows, padded(dim))
    target = _enlarged(target, padded(target.shape[2]))
    return Density(constant(factor), constant(target), constant(log_const), constant(df))


def make_sampler(location: Floats, scale: Floats, limits: Integers, df: Floats) -> Sampler:
    """A `Sampler` of constant arrays."""
    return Sampler(constant(location), constant(scale), constant(limits), constant(df))


class Frame(NamedTuple):
    """Coordinates of the draws of some data points: z = centre + T v."""

    centre: Floats  # (n or 1, D)
    scale: Floats | None  # T diagonal (n or 1, D)
    scale_tril: Floats | None  # T lower triangular (n or 1, D, D); neither: the identity


def _log_const(
    components: Components, batch: tuple[int, ...], rows: slice
) -> tuple[Floats, Floats]:
    """The entries of a `Density` that do not depend on the frame: log_const and df."""
    log_const = select(components.log_const, 1, batch, rows)
    df = np.zeros((1, 0)) if components.df is None else select(components.df, 1, batch, rows)
    count = log_const.shape[-1]
    if df.shape[-1] not in (0, count):
        df = np.broadcast_to(df, (*df.shape[:-1], count))
    return log_const, df


def density(components: Components, batch: tuple[int, ...], rows: slice, frame: Frame) -> Density:
    """The density of the components in the coordinates of ``frame``."""
    log_const, df = _log_const(components, batch, rows)
    count, dim = log_const.shape[-1], components.dim
    shift = select(components.mean, 2, batch, rows) - frame.centre[:, None, :]
    if components.scale is not None:
        inverse = select(components.inverse_scale, 2, batch, rows)
        target = inverse * shift
        if frame.scale_tril is not None:
            factor = inverse[..., None] * frame.scale_tril[:, None]
        else:
            factor = inverse if frame.scale is None else inverse * frame.scale[:, None, :]
            factor = factor[:, :, None, :]
    else:
        inverse = select(components.inverse_scale, 3, batch, rows)
        target = (inverse @ shift[..., None])[..., 0]
        factor = transform_lower(inverse, frame)
    factor = np.broadcast_to(factor, (factor.shape[0], count, *factor.shape[2:]))
    target = np.broadcast_to(target, (target.shape[0], count, dim))
    return make_density(factor, target, log_const, df)


def transform_lower(lower: Floats, frame: Frame) -> Floats:
    """lower T, for lower (n or 1, C, D, D)."""
    if frame.scale_tril is not None:
        count = max(len(lower), len(frame.scale_tril))
        out = np.zeros((count, *lower.shape[1:]))
        launch(linear.product, constant(lower), constant(frame.scale_tril), out)
        return out
    if frame.scale is not None:
        return lower * frame.scale[:, None, None, :]
    return lower


def no_density() -> Density:
    """The density that is 1 everywhere."""
    nothing = np.zeros((1, 0))
    return make_density(np.zeros((1, 0, 0, 0)), np.zeros((1, 0, 0)), nothing, nothing)


def thresholds(log_weight: Floats) -> Integers:
    """Cumulative weights in units of 2^-53, for the choice of a component by integers."""
    cumulative = np.cumsum(np.exp(log_weight), axis=-1)
    return np.asarray(np.floor(cumulative / cumulative[..., -1:] * 2.0**53), dtype=np.int64)


def _draw_single(
    q: Components, batch: tuple[int, ...], rows: slice
) -> tuple[Sampler, Density, Frame]:
    """A single location-scale q: the coordinates are the standardised draw."""
    dim = q.dim
    log_const, df = _log_const(q, batch, rows)
    scale = None if q.scale is None else select(q.scale, 2, batch, rows)[:, 0]
    tril = None if q.scale_tril is None else select(q.scale_tril, 3, batch, rows)[:, 0]
    frame = Frame(select(q.mean, 2, batch, rows)[:, 0], scale, tril)
    nothing = np.zeros((1, 0, 0))
    sampler = make_sampler(nothing, np.zeros((1, 0, 1, 0)), np.zeros((1, 0), np.int64), df)
    own = make_density(np.zeros((1, 1, 0, dim)), nothing, log_const, df)
    return sampler, own, frame


def draw_components(q: Components, batch: tuple[int, ...], rows: slice, centre: Floats) -> Sampler:
    """Sampler of v = z - centre, whatever the number of components."""
    log_weight = select(q.log_weight, 1, batch, rows)
    location = select(q.mean, 2, batch, rows) - centre[:, None, :]
    if q.scale is not None:
        scale = select(q.scale, 2, batch, rows)[:, :, None, :]
    else:
        assert q.scale_tril is not None
        scale = select(q.scale_tril, 3, batch, rows)
    count = log_weight.shape[-1]
    location = np.broadcast_to(location, (location.shape[0], count, q.dim))
    scale = np.broadcast_to(scale, (scale.shape[0], count, *scale.shape[2:]))
    _, df = _log_const(q, batch, rows)
    return make_sampler(location, scale, thresholds(log_weight), df)


def mixture_mean(components: Components, batch: tuple[int, ...], rows: slice) -> Floats:
    """(n or 1, D) weighted mean of the components' locations."""
    weight = np.exp(select(components.log_weight, 1, batch, rows))
    mean = select(components.mean, 2, batch, rows)
    return np.asarray((weight[:, None, :] @ mean)[:, 0])


# Squares and their sums stay below the largest float32, 3e38.
_SINGLE_MAX = 1e15
# Beyond, a Student-t is a Gaussian to the last digit.
_SINGLE_MOST_DF = 1e30


def _single(array: Real) -> Any:
    """The array in float32, or an error where squares would overflow."""
    largest = float(np.abs(array).max(initial=0.0))
    if largest > _SINGLE_MAX:
        raise InvalidInputError(
            f'precision must be "float64" for this model and q: a number of {largest:g} among '
            f"their lowered parameters, ratios of scales and of distances to scales, is above the "
            f"{_SINGLE_MAX:g} that float32 allows"
        )
    return constant(array.astype(np.float32))


def single_density(density: Density) -> Density:
    """The density in float32, but for its constants, which may be large."""
    df = np.clip(density.df, 1.0 / _SINGLE_MOST_DF, _SINGLE_MOST_DF)
    return density._replace(
        factor=_single(density.factor),
        target=_single(density.target),
        df=constant(df.astype(np.float32)),
    )


def single_plan(plan: Plan) -> Plan:
    """The plan in float32; which component, and how many proposals, is settled in float64."""
    sampler = plan.sampler
    return Plan(
        sampler._replace(location=_single(sampler.location), scale=_single(sampler.scale)),
        single_density(plan.q),
        single_density(plan.prior),
        single_density(plan.likelihood),
        plan.dim,
    )


def plan(
    model: Any, q: Any, batch: tuple[int, ...], rows: slice, precision: str = "float64"
) -> Plan:
    """Lower ``model`` and ``q`` for the data points ``rows`` of the flattened ``batch``."""
    q_components: Components = q._components
    if q_components.single:
        sampler, own, frame = _draw_single(q_components, batch, rows)
    else:
        centre = mixture_mean(q_components, batch, rows)
        frame = Frame(centre, None, None)
        sampler = draw_components(q_components, batch, rows, centre)
        own = density(q_components, batch, rows, frame)
    prior = density(model._prior._components, batch, rows, frame)
    double = Plan(sampler, own, prior, model._likelihood(batch, rows, frame), q_components.dim)
    return double if precision == "float64" else single_plan(double)
