"""One block of lanes: draw it, and evaluate log densities on it.

A block is a structure of arrays: ``v[d, lane]`` is coordinate d of one draw per lane, and the loop
over lanes is the innermost, with unit stride and no call left in it. On a CPU core a block is
`LANES` draws, so that all of it stays in the first-level cache.

Every log density that a model or an approximation asks for has one shape, `Density`: a mixture
(of one component, often) whose components depend on the squared norm of an affine form of the
draw, ``|F v - t|^2``, with F the identity, diagonal or lower triangular. The linear-Gaussian
likelihood is one of them. Which coordinates v stands for is settled above, where the affine
forms are made.

Blocks are written once for float64 and float32, the type of their arrays; a literal would be
float64, and is made one of that type first. Log densities leave in float64, with constants that
float32 would round away.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compile import block, by_precision, scalar
from .scalar import (
    CHOICE,
    GAMMA_NORMAL,
    GAMMA_UNIFORM,
    NORMAL,
    angle_bits,
    exp,
    exp_normal,
    log1p,
    log_positive,
    normal_pair,
    point_at,
    radius,
    radius_argument,
    random_words,
    uniform,
    word53,
)
from .sums import make_strands
from .vectors import fill, least

LANES = 512
# Coordinates are taken four at a time.
TILE = 4

_ZERO, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
_ATTEMPTS = 16
_MOST_SELECTS = 64

# A float64 or, of one precision throughout a plan, a float32.
Real = NDArray[np.floating[Any]]


class Density(NamedTuple):
    """log sum_c exp(log_const_c + g_c(|F_c v - t_c|^2)), for each data point.

    g is -s/2, or -(df + D)/2 log1p(s/df) where ``df`` has entries. The leading axis is the data
    point, of length 1 where all share the entry. No component at all means log density 0.
    """

    factor: Real  # (N or 1, C, 0 identity | 1 diagonal | D lower triangular, D)
    target: Real  # (N or 1, C, D); here and above, D is `padded` with zeros
    log_const: NDArray[np.float64]  # (N or 1, C)
    df: Real  # (N or 1, C), or (1, 0) for Gaussian components


class Sampler(NamedTuple):
    """v = location_c + S_c y, with y standard normal or Student-t and c chosen by thresholds.

    With no location at all (C = 0), v is y itself.
    """

    location: Real  # (N or 1, C, D)
    scale: Real  # (N or 1, C, 1 diagonal | D lower triangular, D)
    thresholds: NDArray[np.int64]  # (N or 1, C): cumulative weights times 2^53
    df: NDArray[np.float64]  # (N or 1, C or 1), or (1, 0) for a Gaussian


class Plan(NamedTuple):
    """All that the draws of some data points need: how to make them, and what to ask of them."""

    sampler: Sampler
    q: Density
    prior: Density
    likelihood: Density
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
    strands: NDArray[np.float64]  # (3, STRANDS)


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
        make_strands(),
    )


@block
def row_of(i, length):
    """Where data point i finds its entry on an axis that may be shared."""
    return i if length > 1 else 0


# --- drawing --------------------------------------------------------------------------------


@block
def _uniforms_and_angles(u, angle, pair, key, index, first, n):
    kind = u.dtype.type(0.0)
    for k in range(n):
        w0, w1, w2, w3 = random_words(
            key, index, first + np.uint64(k), np.uint64(pair), NORMAL, _ZERO
        )
        u[k] = radius_argument(kind, w0, w1)
        angle[k] = angle_bits(kind, w2, w3)


@block
def _normals(u, angle, x, y, n):
    for k in range(n):
        a, b = point_at(radius(u[k]), angle[k])
        x[k] = a
        y[k] = b


@block
def standard_normals(work, dim, key, index, first, n):
    """Fill v[:dim, :n] with the normals of data point ``index``, draws first, first + 1, ...

    In two loops: the dependent chain of one long loop would outgrow what a core reorders.
    """
    v = work.v
    for pair in range((dim + 1) // 2):
        _uniforms_and_angles(work.norm, work.angle, pair, key, index, first, n)
        _normals(work.norm, work.angle, v[2 * pair], v[2 * pair + 1], n)
    if dim % 2 == 1:
        for k in range(n):
            v[dim, k] = v.dtype.type(0.0)


@block
def choose_components(component, word, thresholds, key, index, first, n):
    """Mixture choice by integer comparison, so that every backend chooses alike."""
    for k in range(n):
        w0, w1, _, _ = random_words(key, index, first + np.uint64(k), _ZERO, CHOICE, _ZERO)
        word[k] = np.int64(word53(w0, w1))
        component[k] = np.int64(0)
    for c in range(thresholds.shape[0] - 1):
        threshold = thresholds[c]
        for k in range(n):
            component[k] += np.int64(1) if word[k] >= threshold else np.int64(0)


@scalar
def _gamma_proposal(key, index, draw, attempt, shape):
    """One proposal of Marsaglia and Tsang (2000) for shape >= 1: its value, and if it stands."""
    d = shape - 1.0 / 3.0
    w0, w1, w2, w3 = random_words(key, index, draw, _ZERO, GAMMA_NORMAL, attempt)
    x, _ = normal_pair(w0, w1, w2, w3)
    w0, w1, w2, w3 = random_words(key, index, draw, _ZERO, GAMMA_UNIFORM, attempt)
    t = 1.0 + x / math.sqrt(9.0 * d)
    cube = t * t * t
    positive = cube > 0.0
    cube = cube if positive else 1.0
    bound = 0.5 * x * x + d - d * cube + d * log_positive(cube)
    return d * cube, positive & (log_positive(uniform(w0, w1)) < bound)


@scalar
def _either(bit, one, zero):
    return one if bit != 0 else zero


@block
def _gather_eight(values, component, base, n, out):
    """out[k] = values[component[k]] where that is one of eight from ``base``."""
    last = values.shape[0] - 1
    v0, v1 = values[base], values[min(base + 1, last)]
    v2, v3 = values[min(base + 2, last)], values[min(base + 3, last)]
    v4, v5 = values[min(base + 4, last)], values[min(base + 5, last)]
    v6, v7 = values[min(base + 6, last)], values[min(base + 7, last)]
    for k in range(n):
        place = component[k] - base
        one, two, four = place & 1, place & 2, place & 4
        low = _either(two, _either(one, v3, v2), _either(one, v1, v0))
        high = _either(two, _either(one, v7, v6), _either(one, v5, v4))
        value = _either(four, high, low)
        out[k] = value if (place & -8) == 0 else out[k]


@block
def gather(values, component, n, out):
    """out[k] = values[component[k]].

    Indexed loads do not vectorise beside a store that might overlap them; selects do, by the bits
    of the index.
    """
    count = values.shape[0]
    if count > _MOST_SELECTS:
        for k in range(n):
            out[k] = values[component[k]]
        return
    if count == 1:
        fill(out, n, values[0])
        return
    for base in range(0, count, 8):
        _gather_eight(values, component, base, n, out)


@block
def student_factors(factor, df, least, least_chi2, key, index, first, n):
    """factor[k] = sqrt(df[k] / chi-square(df[k])), for df[k] >= least.

    In float64 always: proposals are to be accepted alike whatever the precision of a draw.
    """
    # The first proposal of all lanes at once; about one lane in twenty then goes on alone.
    for k in range(n):
        shape = 0.5 * df[k]
        shape = shape if shape >= 1.0 else shape + 1.0
        value, accepted = _gamma_proposal(key, index, first + np.uint64(k), _ZERO, shape)
        factor[k] = value if accepted else -value
    for k in range(n):
        attempt = 1
        while factor[k] < 0.0:
            shape = 0.5 * df[k]
            shape = shape if shape >= 1.0 else shape + 1.0
            value, accepted = _gamma_proposal(
                key, index, first + np.uint64(k), np.uint64(attempt), shape
            )
            attempt += 1
            factor[k] = value if accepted or attempt == _ATTEMPTS else -value
    if least < 2.0:
        for k in range(n):
            shape = 0.5 * df[k]
            _, _, w2, w3 = random_words(
                key, index, first + np.uint64(k), _ZERO, GAMMA_UNIFORM, _ZERO
            )
            boost = exp(log_positive(uniform(w2, w3)) / shape)
            factor[k] *= boost if shape < 1.0 else 1.0
    for k in range(n):
        chi2 = 2.0 * factor[k]
        chi2 = chi2 if chi2 > least_chi2 else least_chi2
        factor[k] = math.sqrt(df[k] / chi2)


@scalar
def _single_least_chi2(like):
    return 2.0**-100


@by_precision(_single_least_chi2)
def _least_chi2(like):
    """The least chi-square draw, so that one of tiny degrees of freedom stays finite squared."""
    return 2.0**-1000


@block
def place_diagonal(v, component, location, scale, n, where, width):
    """v = location_c + scale_c * v, in place."""
    alone = location.shape[0] == 1
    for d in range(location.shape[1]):
        if alone:
            middle, spread = location[0, d], scale[0, 0, d]
            for k in range(n):
                v[d, k] = middle + spread * v[d, k]
            continue
        gather(location[:, d], component, n, where)
        gather(scale[:, 0, d], component, n, width)
        for k in range(n):
            v[d, k] = where[k] + width[k] * v[d, k]


@block
def place_triangular(v, component, location, scale, n, packed, lane, row):
    """v = location_c + L_c v, in place.

    The lanes of one component are packed side by side first, so that the triangular product runs
    over them without a gather for each entry.
    """
    dim = location.shape[1]
    for c in range(location.shape[0]):
        count = 0
        for k in range(n):
            if component[k] == c:
                lane[count] = k
                count += 1
        if count == 0:
            continue
        for d in range(dim):
            for k in range(count):
                packed[d, k] = v[d, lane[k]]
        for j in range(dim):
            for k in range(count):
                row[k] = location[c, j]
            for d in range(j + 1):
                entry = scale[c, j, d]
                for k in range(count):
                    row[k] += entry * packed[d, k]
            for k in range(count):
                v[j, lane[k]] = row[k]


@block
def sample_block(sampler, i, dim, work, key, index, first, n):
    """Draw ``work.v[:dim, :n]`` for data point i, whose address is ``index``."""
    v = work.v
    standard_normals(work, dim, key, index, first, n)
    choices = sampler.location.shape[1]
    if choices > 1:
        thresholds = sampler.thresholds[row_of(i, sampler.thresholds.shape[0])]
        choose_components(work.component, work.lane, thresholds, key, index, first, n)
    else:
        for k in range(n):
            work.component[k] = np.int64(0)
    if sampler.df.shape[1] > 0:
        df = sampler.df[row_of(i, sampler.df.shape[0])]
        gather(df, work.component, n, work.log_q)
        factor = work.scratch[0]
        student_factors(factor, work.log_q, least(df), _least_chi2(v), key, index, first, n)
        for d in range(dim):
            for k in range(n):
                v[d, k] *= factor[k]
    if choices > 0:
        location = sampler.location[row_of(i, sampler.location.shape[0])]
        scale = sampler.scale[row_of(i, sampler.scale.shape[0])]
        if scale.shape[1] == 1:
            place_diagonal(v, work.component, location, scale, n, work.norm, work.top)
        else:
            place_triangular(
                v, work.component, location, scale, n, work.packed, work.lane, work.norm
            )


# --- log densities --------------------------------------------------------------------------


@block
def square_norm_identity(v, rows, n, out):
    """out = |v|^2; ``rows`` is a multiple of `TILE`."""
    zero = out.dtype.type(0.0)
    for d in range(0, rows, TILE):
        for k in range(n):
            before = zero if d == 0 else out[k]
            v0, v1, v2, v3 = v[d, k], v[d + 1, k], v[d + 2, k], v[d + 3, k]
            out[k] = (((before + v0 * v0) + v1 * v1) + v2 * v2) + v3 * v3


@block
def square_norm_diagonal(factor, target, v, n, out):
    """out = |factor * v - target|^2."""
    zero = out.dtype.type(0.0)
    for d in range(0, target.shape[0], TILE):
        f0, f1, f2, f3 = factor[d], factor[d + 1], factor[d + 2], factor[d + 3]
        t0, t1, t2, t3 = target[d], target[d + 1], target[d + 2], target[d + 3]
        for k in range(n):
            before = zero if d == 0 else out[k]
            a0 = f0 * v[d, k] - t0
            a1 = f1 * v[d + 1, k] - t1
            a2 = f2 * v[d + 2, k] - t2
            a3 = f3 * v[d + 3, k] - t3
            out[k] = (((before + a0 * a0) + a1 * a1) + a2 * a2) + a3 * a3


@block
def _add_tile(factor, target, j, d, v, n, acc):
    """acc[r] += factor[j + r, d:d + 4] v[d:d + 4], from -target at d = 0."""
    t0, t1, t2, t3 = target[j], target[j + _ONE], target[j + _TWO], target[j + _THREE]
    row0, row1, row2, row3 = factor[j], factor[j + _ONE], factor[j + _TWO], factor[j + _THREE]
    f00, f01, f02, f03 = row0[d], row0[d + _ONE], row0[d + _TWO], row0[d + _THREE]
    f10, f11, f12, f13 = row1[d], row1[d + _ONE], row1[d + _TWO], row1[d + _THREE]
    f20, f21, f22, f23 = row2[d], row2[d + _ONE], row2[d + _TWO], row2[d + _THREE]
    f30, f31, f32, f33 = row3[d], row3[d + _ONE], row3[d + _TWO], row3[d + _THREE]
    for k in range(n):
        v0, v1, v2, v3 = v[d, k], v[d + _ONE, k], v[d + _TWO, k], v[d + _THREE, k]
        a0 = -t0 if d == _ZERO else acc[0, k]
        a1 = -t1 if d == _ZERO else acc[1, k]
        a2 = -t2 if d == _ZERO else acc[2, k]
        a3 = -t3 if d == _ZERO else acc[3, k]
        acc[0, k] = (((a0 + f00 * v0) + f01 * v1) + f02 * v2) + f03 * v3
        acc[1, k] = (((a1 + f10 * v0) + f11 * v1) + f12 * v2) + f13 * v3
        acc[2, k] = (((a2 + f20 * v0) + f21 * v1) + f22 * v2) + f23 * v3
        acc[3, k] = (((a3 + f30 * v0) + f31 * v1) + f32 * v2) + f33 * v3


@block
def _close_tile(factor, target, j, v, n, acc, out):
    """Add the tile on the diagonal, and the four squares to out."""
    zero = out.dtype.type(0.0)
    t0, t1, t2, t3 = target[j], target[j + _ONE], target[j + _TWO], target[j + _THREE]
    f00 = factor[j, j]
    f10, f11 = factor[j + _ONE, j], factor[j + _ONE, j + _ONE]
    f20, f21, f22 = factor[j + _TWO, j], factor[j + _TWO, j + _ONE], factor[j + _TWO, j + _TWO]
    row3 = factor[j + _THREE]
    f30, f31, f32, f33 = row3[j], row3[j + _ONE], row3[j + _TWO], row3[j + _THREE]
    for k in range(n):
        v0, v1, v2, v3 = v[j, k], v[j + _ONE, k], v[j + _TWO, k], v[j + _THREE, k]
        a0 = -t0 if j == _ZERO else acc[0, k]
        a1 = -t1 if j == _ZERO else acc[1, k]
        a2 = -t2 if j == _ZERO else acc[2, k]
        a3 = -t3 if j == _ZERO else acc[3, k]
        before = zero if j == _ZERO else out[k]
        a0 = a0 + f00 * v0
        a1 = a1 + f10 * v0 + f11 * v1
        a2 = ((a2 + f20 * v0) + f21 * v1) + f22 * v2
        a3 = (((a3 + f30 * v0) + f31 * v1) + f32 * v2) + f33 * v3
        out[k] = (((before + a0 * a0) + a1 * a1) + a2 * a2) + a3 * a3


@block
def square_norm_triangular(factor, target, v, n, acc, out):
    """out = |factor v - target|^2 for a lower triangular factor.

    In tiles of 4 x 4: 16 products for at most 8 reads and 4 writes.
    """
    # The bounds are such that a device's compiler unrolls the loops for few coordinates. Indices
    # are unsigned, as negative ones would count from the end.
    for j in range(0, target.shape[0], TILE):
        for d in range(0, target.shape[0], TILE):
            if d < j:
                _add_tile(factor, target, np.uint64(j), np.uint64(d), v, n, acc)
            elif d == j:
                _close_tile(factor, target, np.uint64(j), v, n, acc, out)


@block
def log_terms(density, i, c, base, square, dim, n, out):
    """out = log_const_c - base + g_c(square)."""
    const = out.dtype.type(density.log_const[row_of(i, density.log_const.shape[0]), c] - base)
    if density.df.shape[1] > 0:
        df = density.df[row_of(i, density.df.shape[0]), c]
        power = square.dtype.type(0.5 * (df + dim))
        for k in range(n):
            out[k] = const - power * log1p(square[k] / df)
    else:
        half = square.dtype.type(0.5)
        for k in range(n):
            out[k] = const - half * square[k]


@block
def log_component(density, i, c, base, v, dim, n, acc, square, out):
    """out = log_const_c - base + g_c(square), by way of square = |F_c v - t_c|^2."""
    rows = density.factor.shape[2]
    if rows == 0:
        square_norm_identity(v, padded(dim), n, square)
    else:
        factor = density.factor[row_of(i, density.factor.shape[0]), c]
        target = density.target[row_of(i, density.target.shape[0]), c]
        if rows == 1:
            square_norm_diagonal(factor[0], target, v, n, square)
        else:
            square_norm_triangular(factor, target, v, n, acc, square)
    log_terms(density, i, c, base, square, dim, n, out)


@scalar
def _single_base(like, log_const):
    base = log_const[0]
    for c in range(1, log_const.shape[0]):
        base = max(base, log_const[c])
    return base


@by_precision(_single_base)
def _base(like, log_const):
    """What the constants of components have in common, where their type would round it away."""
    return 0.0


@scalar
def add_term(top, total, term, one):
    """A running maximum, and the sum of exponentials relative to it, with one term more.

    ``one`` is 1 in their precision.
    """
    zero = one - one
    gap = term - top
    e = exp_normal(-abs(gap))
    # Both -inf (components of weight 0): the gap is NaN, and nothing is added.
    e = e if gap == gap else zero
    raised = gap > zero
    scaled = total if raised else one
    kept = one if raised else total
    return (term if raised else top), scaled * e + kept


@block
def log_density_block(density, i, v, dim, work, n, out):
    """out = the log density of data point i at v[:dim, :n]; the sum over components is online."""
    acc, square = work.accumulator, work.square
    term, top, total = work.norm, work.top, work.total
    components = density.log_const.shape[1]
    if components == 0:
        for k in range(n):
            out[k] = 0.0
        return
    if components == 1:
        log_component(density, i, 0, 0.0, v, dim, n, acc, square, out)
        return
    base = _base(v, density.log_const[row_of(i, density.log_const.shape[0])])
    one = v.dtype.type(1.0)
    # top holds the running maximum, total the sum of exponentials relative to it.
    log_component(density, i, 0, base, v, dim, n, acc, square, top)
    for k in range(n):
        total[k] = one
    for c in range(1, components):
        log_component(density, i, c, base, v, dim, n, acc, square, term)
        for k in range(n):
            top[k], total[k] = add_term(top[k], total[k], term[k], one)
    for k in range(n):
        out[k] = (base + top[k]) + log_positive(total[k])


@block
def weigh_block(plan, i, work, n):
    """Fill the three log densities of the drawn block, and the log weight they make."""
    log_density_block(plan.q, i, work.v, plan.dim, work, n, work.log_q)
    log_density_block(plan.prior, i, work.v, plan.dim, work, n, work.log_prior)
    log_density_block(plan.likelihood, i, work.v, plan.dim, work, n, work.log_likelihood)
    for k in range(n):
        work.log_weight[k] = work.log_likelihood[k] + (work.log_prior[k] - work.log_q[k])
