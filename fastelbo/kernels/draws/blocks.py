"""Data structures of a block of draws: its plan, its log-density terms, its workspace.

A block is a structure of arrays: ``v[d, lane]`` is coordinate d of the draw in that lane. The loop
over lanes is the innermost loop; it has unit stride, and every call in it is inlined. On a CPU, a
block has `LANES` draws, so that it fits the first-level cache. On a CUDA thread, it has one draw.

Every log density of a model or an approximation is a `Term` of one of these kinds:

`ELLIPTICAL`
    A `Density`: a mixture, often of one component. A component depends on the squared norm of an
    affine form of the draw, ``|F v - t|^2``; F is the identity, diagonal or lower triangular. The
    linear-Gaussian likelihood is one. The caller makes the affine forms, and so chooses the
    coordinates v.
`ZERO`
    Log density 0: the likelihood of a distribution that is its own model.
`SUPPLIED`
    Values computed elsewhere, one per draw.
`CALLED`
    What a user's function computes of the draw itself, ``z = F v - t``, with F and t those of the
    `Density`. It takes float64 alone. On a CPU it is machine code at an address (a `Call`, see
    `kernels.vectors`), on a device a part of the kernel (a `DeviceCall`, see `kernels.cuda`).

On the CPU, one kernel handles all kinds and reads the kind once per block; only draws from a net
have a kernel of their own. A CUDA kernel is compiled for its kinds.

`sampling` draws blocks and `densities` evaluates their log densities. The source is the same for
float64 and float32: it takes the type of its arrays, and converts each literal to this type, as a
literal is float64. Log densities are returned in float64, with constants that float32 would round
away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit.compile import block, by_precision, scalar
from ..math.sums import make_partial_sums

LANES = 512
# Loops over coordinates take four at a time.
TILE = 4
# Components whose terms a block keeps.
GROUP = 8
_LINE = 8  # float64 numbers of a line of the cache
# A workspace has a multiple of so many lanes: users' functions write whole vectors, of 32.
_MULTIPLE = 64
# Draws in a chunk. It is part of the stream version: the last bits of a result depend on it.
CHUNK = 8192
# Steps in a span, where a step is a chunk of each replicate; see `state.spans`. Also part of it.
SPAN = 1024

# float64 or float32; all arrays of a plan have the same precision.
Real = NDArray[np.floating[Any]]


class Density(NamedTuple):
    """log sum_c exp(log_const_c + g_c(|F_c (v - shift_c) - t_c|^2)), for each data point.

    The family's g(s) is -s/2 (Gaussian) or -(df + D)/2 log1p(s/df) (Student-t). The first axis is
    the data point; its length is 1 if all data points share the entry.

    A component has a shift or a target t, and zeros for the other. A shift is subtracted before
    anything is multiplied, so that a far component loses no digit.
    """

    radial: int  # the family of all components
    factor: Real  # (N or 1, C, 0 identity | 1 diagonal | D lower triangular, D)
    target: Real  # (N or 1, C, D); here, above and below, D is `padded` with zeros
    shift: Real  # (N or 1, C, D), or (1, 0, 0) if no component has one
    log_const: NDArray[np.float64]  # (N or 1, C)
    df: Real  # (N or 1, C), or (1, 0) for Gaussian components


# Kinds of `Term`.
ZERO, ELLIPTICAL, SUPPLIED, CALLED = range(4)


class Call(NamedTuple):
    """Addresses of machine code, and of its arguments.

    Python keeps both alive for as long as it keeps the plan in use.
    """

    function: int
    arguments: int


NO_CALL = Call(0, 0)


class DeviceCall(NamedTuple):
    """Data and parameters of a user's function, in the memory of a device.

    The function is a part of the type, so that a kernel is compiled for it: a subclass has
    ``evaluate(z, call, row, out)``.
    """

    data: Any  # (N, ...); an empty tuple if there is none
    params: tuple[Any, ...]


class Term(NamedTuple):
    """One log density of some data points: its kind, and the fields of each kind."""

    kind: int
    density: Density  # ELLIPTICAL, CALLED
    values: NDArray[np.float64]  # SUPPLIED: (N or 1, draws); CALLED: (N or 1, 1), its data point
    first_draw: int  # SUPPLIED: the address of the draw in column 0
    call: Call | DeviceCall = NO_CALL  # CALLED


class Net(NamedTuple):
    """The scrambled Sobol points that draws are made of.

    Draw k is point k mod 2^m of replicate k div 2^m; see `sobol`.
    """

    columns: NDArray[np.uint32]  # (replicates, coordinates, 32): generator matrices, by columns
    log_size: int  # m
    inverse: bool  # normals by the inverse of their distribution function; else by Box and Muller


class Sampler(NamedTuple):
    """v = location_c + S_c y; y is standard normal or Student-t, thresholds choose c.

    Without a location (C = 0), v is y, or y rotated.
    """

    radial: int  # the family of y
    location: Real  # (N or 1, C, D)
    scale: Real  # (N or 1, C, 1 diagonal | D lower triangular or full, D)
    thresholds: NDArray[np.int64]  # (N or 1, C): cumulative weights times 2^53
    df: NDArray[np.float64]  # (N or 1, C or 1), or (1, 0) for a Gaussian
    full: bool  # whether the scale has entries above its diagonal
    rotation: Real  # (N or 1, D, D) for C = 0, D padded; (1, 0, 0) for none
    net: Net | None  # None for independent draws: kernels are compiled for either


class Cut(NamedTuple):
    """How the draws of a data point are cut: replicates, each of so many draws, and their chunks.

    Chunk c of every replicate together are step c of the work. The state of chunk c of replicate r
    of R is the state c R + r of the data point.
    """

    replicates: int  # 1 for independent draws
    draws: int  # of a replicate
    chunk: int  # most draws of a chunk

    @property
    def total(self) -> int:
        """Draws of all replicates."""
        return self.replicates * self.draws

    @property
    def steps(self) -> int:
        """Chunks of a replicate."""
        return -(-self.draws // self.chunk)

    def drawn(self, steps: int) -> int:
        """Draws of the first ``steps`` steps."""
        return self.replicates * min(self.draws, steps * self.chunk)


class Plan(NamedTuple):
    """How to draw for some data points, and the log densities to evaluate at the draws."""

    sampler: Sampler
    q: Term
    prior: Term
    likelihood: Term
    dim: int


class Workspace(NamedTuple):
    """Arrays of one thread for its current block."""

    v: Real  # (padded D, lanes); rows from D on stay 0
    packed: Real  # (padded D, LANES)
    accumulator: Real  # (4, lanes)
    norm: Real  # (lanes,)
    top: Real  # (lanes,)
    total: Real  # (lanes,)
    square: Real  # (lanes,)
    terms: Real  # (GROUP, lanes); of a device, a stand-in
    component: NDArray[np.int64]  # (lanes,)
    lane: NDArray[np.int64]  # (lanes,)
    angle: NDArray[np.unsignedinteger[Any]]  # (lanes,); see `angle_bits`
    log_likelihood: NDArray[np.float64]  # (lanes,)
    log_prior: NDArray[np.float64]  # (lanes,)
    log_q: NDArray[np.float64]  # (lanes,)
    log_weight: NDArray[np.float64]  # (lanes,)
    scratch: NDArray[np.float64]  # (6, lanes); of a device, (2, 1)
    words: NDArray[np.uint32]  # (3, LANES)
    partial_sums: NDArray[np.float64]  # (3, PARTIAL_SUMS)
    counter: NDArray[np.int64] | None  # of the launch, where a block may take long; see `threads`


@scalar
def _single_angles(like, lanes):
    return np.empty(lanes, np.uint32)


@by_precision(_single_angles)
def _angles(like, lanes):
    """Allocate the bits of angles."""
    return np.empty(lanes, np.uint64)


@block
def padded(dim):
    """``dim`` rounded up to a multiple of `TILE`."""
    return (dim + TILE - 1) // TILE * TILE


@block
def aligned_rows(rows, like):
    """Rows that start at a line of the cache, which the vectors of users' functions then fit."""
    room = np.empty(rows * LANES + _LINE, like.dtype)
    first = -(np.int64(room.ctypes.data) // room.itemsize) % _LINE
    return room[first : first + rows * LANES].reshape((rows, LANES))


@block
def lanes_for(draws):
    """Lanes of a workspace for blocks of at most so many draws.

    Rows `LANES` apart begin in the same set of the cache, which has room for few of them.
    """
    return min(LANES, (max(1, draws) + _MULTIPLE - 1) // _MULTIPLE * _MULTIPLE)


@block
def make_workspace(dim, like, counter=None, lanes=LANES):
    """Allocate a `Workspace` for draws of ``dim`` coordinates, in the type of array ``like``.

    Two have `LANES` lanes always: users' functions are compiled for them (``packed``), and words of
    a net are made for powers of two.
    """
    width = lanes + _LINE
    return Workspace(
        np.zeros((padded(dim), width), like.dtype),
        aligned_rows(padded(dim), like),
        np.empty((TILE, width), like.dtype),
        np.empty(lanes, like.dtype),
        np.empty(lanes, like.dtype),
        np.empty(lanes, like.dtype),
        np.empty(lanes, like.dtype),
        np.empty((GROUP, width), like.dtype),
        np.empty(lanes, np.int64),
        np.empty(lanes, np.int64),
        _angles(like, lanes),
        np.empty(lanes),
        np.empty(lanes),
        np.empty(lanes),
        np.empty(lanes),
        np.empty((6, width)),
        np.empty((3, LANES), np.uint32),
        make_partial_sums(),
        counter,
    )


@block
def row_of(i, length):
    """Index of the entry of data point i on an axis of ``length``, which is 1 if shared."""
    return i if length > 1 else 0
