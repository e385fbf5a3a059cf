"""Draws a block: standard normals, Student-t factors, component choices, location and scale."""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower
from ..math.copies import fill
from ..math.scalar import (
    CHOICE,
    NORMAL,
    angle_bits,
    point_at,
    radius,
    radius_argument,
    random_words,
    word53,
)
from .blocks import row_of
from .radial import GAUSSIAN, scale_radius
from .rotation import rotate
from .sobol import HALF_LOW, net_quantiles, net_uniforms_and_angles, net_words

_ZERO = np.uint64(0)


@borrower(interleave=2)
def _uniforms_and_angles(u, angle, pair, key, index, first, n):
    kind = u.dtype.type(0.0)
    for k in range(n):
        w0, w1, w2, w3 = random_words(
            key, index, first + np.uint64(k), np.uint64(pair), NORMAL, _ZERO
        )
        u[k] = radius_argument(kind, w0, w1)
        angle[k] = angle_bits(kind, w2, w3)


@borrower(interleave=4)
def _radii(u, n):
    for k in range(n):
        u[k] = radius(u[k])


@borrower(interleave=4)
def _points(radii, angle, x, y, n):
    for k in range(n):
        a, b = point_at(radii[k], angle[k])
        x[k] = a
        y[k] = b


@borrower
def _normals(u, angle, x, y, n):
    """Fill x and y with pairs of normals; ``u`` becomes their radii."""
    _radii(u, n)
    _points(u, angle, x, y, n)


@borrower
def standard_normals(work, dim, key, index, first, n):
    """Fill v[:dim, :n] with the normals of data point ``index``, draws first, first + 1, ...

    Three loops are faster than one: a core sees so few instructions ahead that it does not begin
    the next draws while it waits in the long dependent chain of these.
    """
    v = work.v
    for pair in range((dim + 1) // 2):
        _uniforms_and_angles(work.norm, work.angle, pair, key, index, first, n)
        _normals(work.norm, work.angle, v[2 * pair], v[2 * pair + 1], n)
    if dim % 2 == 1:
        for k in range(n):
            v[dim, k] = v.dtype.type(0.0)


@borrower
def net_normals(work, net, start, dim, key, index, first, n, v):
    """As `standard_normals`, from the coordinates of the net from ``start`` on."""
    words, room = work.words, work.words[2]
    if net.inverse:
        for d in range(dim):
            net_words(net, start + d, key, index, first, n, room, words[0])
            net_quantiles(words[0], n, v[d])
    else:
        for d in range(start, start + dim, 2):
            net_words(net, d, key, index, first, n, room, words[0])
            net_words(net, d + 1, key, index, first, n, room, words[1])
            net_uniforms_and_angles(work.norm, work.angle, words[0], words[1], n)
            _normals(work.norm, work.angle, v[d - start], v[d - start + 1], n)
    for d in range(dim, v.shape[0]):
        fill(v[d], n, 0.0)


@borrower
def _draw_normals(net, sampler, i, start, dim, work, key, index, first, n):
    """Fill v[:dim, :n] with standard normals, from the coordinates of a net from ``start`` on.

    A kernel is compiled for independent draws where the net is None.
    """
    if net is None:
        standard_normals(work, dim, key, index, first, n)
    elif sampler.rotation.shape[1] == 0:
        net_normals(work, net, start, dim, key, index, first, n, work.v)
    else:
        net_normals(work, net, start, dim, key, index, first, n, work.packed)
        rotation = sampler.rotation[row_of(i, sampler.rotation.shape[0])]
        rotate(rotation, work.packed, dim, n, work.v)


@borrower(interleave=2)
def random_choices(word, key, index, first, n):
    """Words of 53 random bits that choose components."""
    for k in range(n):
        w0, w1, _, _ = random_words(key, index, first + np.uint64(k), _ZERO, CHOICE, _ZERO)
        word[k] = np.int64(word53(w0, w1))


@borrower
def net_choices(work, net, key, index, first, n):
    """As `random_choices`, from the first coordinate of the net."""
    net_words(net, 0, key, index, first, n, work.words[2], work.words[0])
    for k in range(n):
        work.lane[k] = np.int64(word53(np.uint64(work.words[0, k]), HALF_LOW))


@borrower
def _draw_choices(net, work, key, index, first, n):
    """Set the words that choose components, from a net or none as in `_draw_normals`."""
    if net is None:
        random_choices(work.lane, key, index, first, n)
    else:
        net_choices(work, net, key, index, first, n)


@borrower
def choose_components(component, word, thresholds, n):
    """Choose mixture components by integer comparison, so that all backends choose the same."""
    for k in range(n):
        component[k] = np.int64(0)
    for c in range(thresholds.shape[0] - 1):
        threshold = thresholds[c]
        for k in range(n):
            component[k] += np.int64(1) if word[k] >= threshold else np.int64(0)


@borrower
def place_diagonal(v, component, location, scale, n):
    """v = location_c + scale_c * v, in place."""
    alone = location.shape[0] == 1
    for d in range(location.shape[1]):
        if alone:
            middle, spread = location[0, d], scale[0, 0, d]
            for k in range(n):
                v[d, k] = middle + spread * v[d, k]
            continue
        for k in range(n):
            c = np.uint64(component[k])
            v[d, k] = location[c, d] + scale[c, 0, d] * v[d, k]


@borrower
def place_matrix(v, component, location, scale, full, n, packed, lane, row):
    """v = location_c + S_c v, in place, for a triangular or a ``full`` scale.

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
            for d in range(dim if full else j + 1):
                entry = scale[c, j, d]
                for k in range(count):
                    row[k] += entry * packed[d, k]
            for k in range(count):
                v[j, lane[k]] = row[k]


@borrower
def sample_block(sampler, i, dim, work, key, index, first, n):
    """Draw ``work.v[:dim, :n]`` for data point i of the plan; its address is ``index``."""
    v, net = work.v, sampler.net
    choices = sampler.location.shape[1]
    start = 1 if choices > 1 else 0
    _draw_normals(net, sampler, i, start, dim, work, key, index, first, n)
    if choices > 1:
        _draw_choices(net, work, key, index, first, n)
        thresholds = sampler.thresholds[row_of(i, sampler.thresholds.shape[0])]
        choose_components(work.component, work.lane, thresholds, n)
    else:
        fill(work.component, n, np.int64(0))
    if sampler.radial != GAUSSIAN:
        scale_radius(sampler, i, dim, work, key, index, first, n)
    if choices > 0:
        location = sampler.location[row_of(i, sampler.location.shape[0])]
        scale = sampler.scale[row_of(i, sampler.scale.shape[0])]
        if scale.shape[1] == 1:
            place_diagonal(v, work.component, location, scale, n)
        else:
            place_matrix(
                v, work.component, location, scale, sampler.full, n, work.packed, work.lane,
                work.norm,
            )  # fmt: skip
