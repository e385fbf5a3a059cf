"""Draws a block: standard normals, Student-t factors, component choices, location and scale."""

from __future__ import annotations

import math

import numpy as np

from ..jit.compile import block, by_precision, scalar
from ..math.copies import fill, least
from ..math.scalar import (
    CHOICE,
    GAMMA_NORMAL,
    GAMMA_UNIFORM,
    NORMAL,
    angle_bits,
    exp,
    log_positive,
    normal_pair,
    point_at,
    radius,
    radius_argument,
    random_words,
    uniform,
    word53,
)
from .blocks import STUDENT_T, row_of

_ZERO = np.uint64(0)
_ATTEMPTS = 16
_MOST_SELECTS = 64


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

    Two loops are faster than one: the dependent chain of one long loop exceeds the reorder buffer
    of a core.
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
    """Choose mixture components by integer comparison, so that all backends choose the same."""
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
    """One proposal of Marsaglia and Tsang (2000), for shape >= 1: (value, accepted)."""
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
    """out[k] = values[component[k]] if component[k] is one of base, ..., base + 7."""
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

    Indexed loads do not vectorise if a store may overlap them. Selects by the bits of the index do.
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

    Always in float64, so that acceptance does not depend on the precision of the draws.
    """
    # All lanes make their first proposal together. About one lane in twenty needs more proposals,
    # which it makes alone. A rejected proposal is stored negated.
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
    """Lower bound of a chi-square draw: the square of v stays finite even for tiny ``df``."""
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

    The lanes of one component are packed first, so that the triangular product needs no gather for
    each entry.
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
    """Draw ``work.v[:dim, :n]`` for data point i of the plan; its address is ``index``."""
    v = work.v
    standard_normals(work, dim, key, index, first, n)
    choices = sampler.location.shape[1]
    if choices > 1:
        thresholds = sampler.thresholds[row_of(i, sampler.thresholds.shape[0])]
        choose_components(work.component, work.lane, thresholds, key, index, first, n)
    else:
        for k in range(n):
            work.component[k] = np.int64(0)
    if sampler.radial == STUDENT_T:
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
