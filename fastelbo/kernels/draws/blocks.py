"""One block of lanes: what it is drawn from, and what is asked of it.

A block is a structure of arrays: ``v[d, lane]`` is coordinate d of one draw per lane, and the loop
over lanes is the innermost, with unit stride and no call left in it. On a CPU core a block is
`LANES` draws, so that all of it stays in the first-level cache; on a CUDA thread, one draw.

Every log density that a model or an approximation asks for is a `Term` of one of a few kinds:

`ELLIPTICAL`
    A `Density`: a mixture (often of one component) whose components depend on the squared norm of
    an affine form of the draw, ``|F v - t|^2``, with F the identity, diagonal or lower triangular.
    The linear-Gaussian likelihood is one. The caller chooses the coordinates that v stands for when
    it makes the affine forms.
`ZERO`
    Log density 0, the likelihood of a distribution that is its own model.
`SUPPLIED`
    Values that were computed elsewhere, one a draw.

On the CPU the kind is a number, which the one kernel looks at once a block. A CUDA kernel is
compiled for its kinds.

`sampling` draws blocks and `densities` weighs them. Both are written once for float64 and float32,
the type of their arrays; a literal would be float64, and is first converted to that type. Log
densities leave in float64, with constants that float32 would round away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit.compile import block, by_precision, scalar
from ..math.sums import make_partial_sums

LANES = 512
# Coordinates are taken four at a time.
TILE = 4
# Draws in a chunk. A part of the stream version: the last bits of a result change with it.
CHUNK = 8192

# A float64 or, of one precision throughout a plan, a float32.
Real = NDArray[np.floating[Any]]


# Elliptical families, by the radial part of their log density.
GAUSSIAN, STUDENT_T = range(2)


class Density(NamedTuple):
    """log sum_c exp(log_const_c + g_c(|F_c v - t_c|^2)), for each data point.

    The family's g is -s/2 (Gaussian) or -(df + D)/2 log1p(s/df) (Student-t). The leading axis is
    the data point, of length 1 where all share the entry.
    """

    radial: int  # the family of all components
    factor: Real  # (N or 1, C, 0 identity | 1 diagonal | D lower triangular, D)
    target: Real  # (N or 1, C, D); here and above, D is `padded` with zeros
    log_const: NDArray[np.float64]  # (N or 1, C)
    df: Real  # (N or 1, C), or (1, 0) for Gaussian components


# Kinds of `Term`.
ZERO, ELLIPTICAL, SUPPLIED = range(3)


class Term(NamedTuple):
    """One log density of some data points: its kind, and the fields that this kind reads."""

    kind: int
    density: Density  # ELLIPTICAL
    values: NDArray[np.float64]  # SUPPLIED: (N or 1, draws)
    first_draw: int  # SUPPLIED: the address of the draw in column 0


class Sampler(NamedTuple):
    """v = location_c + S_c y, with y standard normal or Student-t and c chosen by thresholds.

    With no location at all (C = 0), v is y itself.
    """

    radial: int  # the family of y
    location: Real  # (N or 1, C, D)
    scale: Real  # (N or 1, C, 1 diagonal | D lower triangular, D)
    thresholds: NDArray[np.int64]  # (N or 1, C): cumulative weights times 2^53
    df: NDArray[np.float64]  # (N or 1, C or 1), or (1, 0) for a Gaussian


class Plan(NamedTuple):
    """All that the draws of some data points need: how to make them, and what to ask of them."""

    sampler: Sampler
    q: Term
    prior: Term
    likelihood: Term
    dim: int


class Workspace(NamedTuple):
    """What one thread needs to hold while it works on a block."""

    v: Real  # (padded D, LANES); rows from D on stay 0
    packed: Real  # (D, LANES)
    accumulator: Real  # (4, LANES)
    norm: Real  # (LANES,)
    top: Real  # (LANES,)
    total: Real  # (LANES,)
    square: Real  # (LANES,)
    component: NDArray[np.int64]  # (LANES,)
    lane: NDArray[np.int64]  # (LANES,)
    angle: NDArray[np.unsignedinteger[Any]]  # (LANES,); see `angle_bits`
    log_likelihood: NDArray[np.float64]  # (LANES,)
    log_prior: NDArray[np.float64]  # (LANES,)
    log_q: NDArray[np.float64]  # (LANES,)
    log_weight: NDArray[np.float64]  # (LANES,)
    scratch: NDArray[np.float64]  # (2, LANES)
    partial_sums: NDArray[np.float64]  # (3, PARTIAL_SUMS)


@scalar
def _single_angles(like):
    return np.empty(LANES, np.uint32)


@by_precision(_single_angles)
def _angles(like):
    """Room for the bits of angles."""
    return np.empty(LANES, np.uint64)


@block
def padded(dim):
    """``dim`` rounded up to whole tiles."""
    return (dim + TILE - 1) // TILE * TILE


@block
def make_workspace(dim, like):
    """Allocate a `Workspace` for draws of ``dim`` coordinates, of the type of array ``like``."""
    return Workspace(
        np.zeros((padded(dim), LANES), like.dtype),
        np.empty((dim, LANES), like.dtype),
        np.empty((4, LANES), like.dtype),
        np.empty(LANES, like.dtype),
        np.empty(LANES, like.dtype),
        np.empty(LANES, like.dtype),
        np.empty(LANES, like.dtype),
        np.empty(LANES, np.int64),
        np.empty(LANES, np.int64),
        _angles(like),
        np.empty(LANES),
        np.empty(LANES),
        np.empty(LANES),
        np.empty(LANES),
        np.empty((2, LANES)),
        make_partial_sums(),
    )


@block
def row_of(i, length):
    """Where data point i finds its entry on an axis that may be shared."""
    return i if length > 1 else 0
