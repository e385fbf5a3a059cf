"""Scrambled Sobol points by address, and the normals made of them.

A design has the attributes ``replicates`` (R) and ``per_replicate`` (n, a power of two): draw k is
point ``k % n`` of replicate ``k // n``. ``transform`` is ``"box_muller"`` or ``"inverse"``.
``rotation`` is None, or an orthogonal matrix for each data point and component, of shape
(n or 1, C or 1, D, D).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import qmc

from .stream import PERMUTE, SCRAMBLE, SHIFT, Array, Words, address, normal_pair, words_at

BITS = 32
# What stands below the 32 bits of a point, so that it is the middle of its interval: for a uniform
# on (0, 1], to which the stream adds an ulp, and for an angle.
HALF = np.array(0x7FFFFFFF, np.uint64)
HALF_ANGLE = np.array(0x80000000, np.uint64)
# Positions within which the groups of importance-weighted bounds are permuted.
UNIT = 1024


@lru_cache(maxsize=64)
def direction_numbers(dim: int, bits: int) -> Words:
    """Integers V (dim, bits): point j is the xor of V[:, b] over the set bits b of j.

    SciPy walks through the points in the order of the Gray code, in which point 2^b is the xor of
    V[:, b] and V[:, b - 1].
    """
    previous: Words = np.zeros(dim, np.uint64)
    numbers: Words = np.empty((dim, bits), np.uint64)
    for b in range(bits):
        points = qmc.Sobol(dim, scramble=False, bits=BITS).fast_forward(1 << b).random(1)[0]
        previous = numbers[:, b] = (points * 2.0**BITS).astype(np.uint64) ^ previous
    numbers.setflags(write=False)
    return numbers


def scrambled_columns(key: int, replicates: int, dim: int, bits: int) -> Words:
    """Direction numbers of each replicate, (R, dim, bits).

    Each is multiplied by a random lower triangular matrix of bits (Matousek 1998), so that the
    first digits of a point stay distinct.
    """
    numbers = direction_numbers(dim, bits)
    replicate, coordinate, call = _counted(replicates), _counted(dim), _counted(BITS // 4)
    words = words_at(key, replicate[:, None, None], coordinate[:, None], SCRAMBLE, pair=call)
    random = np.stack(words, axis=-1).reshape(replicates, dim, BITS)
    columns = np.zeros((replicates, dim, bits), np.uint64)
    for t in range(BITS):
        image = (1 << t) | (random[..., t] & ((1 << t) - 1))
        columns ^= np.where((numbers >> t) & 1 == 1, image[..., None], 0)
    return columns


def sobol_words(design: Any, key: int, index: ArrayLike, draw: ArrayLike, dim: int) -> Words:
    """The 32 bits of each coordinate at the addresses (index, draw), of shape S + (dim,).

    A replicate's points are those of a Sobol sequence, whose scramble all data points share, and
    each data point has its own digital shift.
    """
    index, draw = address(index, 32, "index"), address(draw, 40, "draw")
    size = design.per_replicate
    if np.any(draw >= design.replicates * size):
        raise OverflowError(f"draw must lie in [0, {design.replicates * size})")
    replicate, point = draw // size, draw % size
    bits = size.bit_length() - 1
    columns = scrambled_columns(key, design.replicates, dim, bits)
    words = np.zeros((*draw.shape, dim), np.uint64)
    for b in range(bits):
        is_set = ((point >> b) & 1 == 1)[..., None]
        words ^= np.where(is_set, columns[replicate, :, b], 0)
    call = _counted(-(-dim // 4))
    parts = words_at(key, index[..., None], replicate[..., None], SHIFT, pair=call)
    shift = np.stack(parts, axis=-1).reshape(*parts[0].shape[:-1], 4 * call.size)
    return np.asarray(words ^ shift[..., :dim])


def uniforms(words: Words) -> Array:
    """The middles of the intervals of length 2^-32."""
    return np.asarray((words + 0.5) * 2.0**-BITS)


def normals_of(words: Words, dim: int, transform: str) -> Array:
    """Standard normals (..., dim) of the words of their coordinates.

    Box-Muller: coordinates 2p and 2p + 1 are the radius and the angle of normals 2p and 2p + 1.
    """
    if transform == "inverse":
        return np.asarray(ndtri(uniforms(words[..., :dim])))
    if transform != "box_muller":
        raise ValueError(f"transform must be box_muller or inverse, got {transform!r}")
    even = dim + dim % 2
    radius, angle = words[..., 0:even:2], words[..., 1:even:2]
    pairs = normal_pair((radius, HALF, angle, HALF_ANGLE))
    return np.stack(pairs, axis=-1).reshape(*angle.shape[:-1], -1)[..., :dim]


def network_size(dim: int, transform: str, is_mixture: bool) -> int:
    """Coordinates of a point: those of the normals, and a first one that chooses a component."""
    return int(is_mixture) + (dim if transform == "inverse" else dim + dim % 2)


def rotated(design: Any, component: int, normals: Array) -> Array:
    """``Q e`` of the normals e (n, K, D), with the matrix of that component."""
    if design is None or design.rotation is None:
        return normals
    matrix = design.rotation[:, min(component, design.rotation.shape[1] - 1)]
    return np.asarray(normals @ np.swapaxes(matrix, -1, -2))


def permuted(key: int, index: int, replicate: int, unit: int, size: int) -> Words:
    """A permutation of the positions of a unit: the position in each group.

    Groups of aligned positions would be dependent across replicates, as a digital shift keeps the
    difference of two points. Sums and products change it.
    """
    place, mask = _counted(size), size - 1
    point, draw = np.array(index, np.uint64), np.array(replicate, np.uint64)
    words = words_at(key, point, draw, PERMUTE, pair=unit)
    shift = max(1, size.bit_length() // 2)
    place = (place + words[0]) & mask
    for word in words[1:]:
        place = (place * (word | 1)) & mask
        place ^= place >> shift
    return place


def groups_of(design: Any, key: int, index: int, logs: Array, size: int) -> Array:
    """The log weights (K,) of a data point in groups: (sets, n, size), one draw a replicate.

    Set t has the replicates ``size t .. size t + size - 1``.
    """
    n = design.per_replicate
    sets, unit = design.replicates // size, min(n, UNIT)
    by_replicate = logs.reshape(design.replicates, n)
    groups = np.empty((sets, n, size))
    for r in range(sets * size):
        for b in range(n // unit):
            place = permuted(key, index, r, b, unit).astype(np.intp)
            groups[r // size, b * unit : (b + 1) * unit, r % size] = by_replicate[r][
                b * unit + place
            ]
    return groups


def _counted(count: int) -> Words:
    return np.arange(count, dtype=np.uint64)
