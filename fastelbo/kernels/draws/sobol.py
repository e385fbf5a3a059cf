"""Scrambled Sobol points by address, and the standard normals made of them.

Coordinate d of point j is a 32-bit word: the exclusive or of the columns of a generator matrix that
the bits of j choose (Sobol', 1967). A replicate has columns of its own: those of Joe and Kuo (2008)
times a random lower triangular matrix over the field of two elements (Matousek, 1998). All data
points share them. A data point adds a random word for each replicate and coordinate, a digital
shift. So the words of one point are uniform, those of different replicates and data points are
independent, and those of the 2^m points of a replicate fill space evenly.

A uniform is ``(word + 1/2) / 2^32``: never 0 or 1. Its normals end at 6.5 standard deviations.

A block of points is made by doubling: the words of the next 2^b points are those of the first 2^b,
each with column b.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, borrower, scalar
from ..math.normal_quantile import normal_quantile
from ..math.scalar import (
    PERMUTE,
    SCRAMBLE,
    SHIFT,
    angle_bits,
    radius_argument,
    random_words,
    uniform,
)

BITS = 32
# Most positions of a replicate that are matched with those of others at once, and its chunk.
UNIT = 1024

_ZERO, _ONE, _TWO, _THREE = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3)
# Second words, below a word, that make of it (word + 1/2) / 2^32: for `uniform`, which adds an ulp,
# and for the bits of an angle.
HALF_LOW = np.uint64(0x7FFFFFFF)
_HALF_HIGH = np.uint64(0x80000000)


@scalar
def _chosen(which, w0, w1, w2, w3):
    """One of four words."""
    low = w1 if which & _ONE else w0
    high = w3 if which & _ONE else w2
    return np.uint32(high if which & _TWO else low)


@scalar
def _shift(key, index, replicate, coordinate):
    """The digital shift of a data point."""
    words = random_words(key, index, replicate, coordinate >> _TWO, SHIFT, _ZERO)
    return _chosen(coordinate & _THREE, *words)


@scalar
def _power_from(n):
    """The least power of two that is n or more."""
    power = 1
    while power < n:
        power *= 2
    return power


@borrower
def _word_of(columns, word, point):
    """The word of a point; ``word`` is that of point 0."""
    bit = 0
    while point > _ZERO:
        column = columns[bit]
        word ^= column if point & _ONE else np.uint32(0)
        point >>= _ONE
        bit += 1
    return word


@borrower
def _double(columns, word, start, size, words):
    """words[x] = word of point start + x, for x below ``size``: a power of 2 that divides start.

    ``word`` is that of point 0.
    """
    words[0] = _word_of(columns, word, start)
    filled, bit = 1, 0
    while filled < size:
        column = columns[bit]
        for x in range(filled):
            words[filled + x] = words[x] ^ column
        filled *= 2
        bit += 1


@borrower
def net_words(net, coordinate, key, index, first, n, room, words):
    """words[k] = word of a coordinate of draw first + k of data point ``index``, for k below n."""
    log_size = np.uint64(net.log_size)
    points = _ONE << log_size
    if n == 1:
        # A draw alone, as all are on a device.
        replicate, point = first >> log_size, first & (points - _ONE)
        word = _shift(key, index, replicate, np.uint64(coordinate))
        words[0] = _word_of(net.columns[np.int64(replicate), coordinate], word, point)
        return
    span = min(_power_from(n), np.int64(points))
    at = 0
    while at < n:
        draw = first + np.uint64(at)
        replicate, point = draw >> log_size, draw & (points - _ONE)
        low = np.int64(point & np.uint64(span - 1))
        count = min(n - at, span - low)
        columns = net.columns[np.int64(replicate), coordinate]
        word = _shift(key, index, replicate, np.uint64(coordinate))
        if count == n and low == 0:
            _double(columns, word, point, span, words)
        else:
            _double(columns, word, point - np.uint64(low), span, room)
            for k in range(count):
                words[at + k] = room[low + k]
        at += count


@borrower
def net_uniforms_and_angles(u, angle, radii, angles, n):
    """The arguments of a pair of normals (Box and Muller, 1958) from the words of a pair."""
    kind = u.dtype.type(0.0)
    for k in range(n):
        u[k] = radius_argument(kind, np.uint64(radii[k]), HALF_LOW)
        angle[k] = angle_bits(kind, np.uint64(angles[k]), _HALF_HIGH)


@borrower
def net_quantiles(words, n, out):
    """out = the normals of which the words' uniforms are the probabilities."""
    for k in range(n):
        out[k] = out.dtype.type(normal_quantile(uniform(np.uint64(words[k]), HALF_LOW)))


# --- matrices and permutations ------------------------------------------------------------------


@block
def scrambles(part, parts, directions, key, columns):
    """columns[r, d] = the columns ``directions[d]`` times the random matrix of replicate r."""
    replicates, coordinates = columns.shape[:2]
    items = replicates * coordinates
    lower = np.empty(BITS, np.uint32)
    for item in range(part * items // parts, (part + 1) * items // parts):
        r, d = item // coordinates, item % coordinates
        for bit in range(BITS):
            words = random_words(
                key, np.uint64(r), np.uint64(d), np.uint64(bit // 4), SCRAMBLE, _ZERO
            )
            unit = np.uint32(1) << np.uint32(bit)
            below = _chosen(np.uint64(bit % 4), *words) & np.uint32(unit - np.uint32(1))
            lower[bit] = unit | below
        for b in range(BITS):
            word = np.uint32(0)
            for bit in range(BITS):
                there = (directions[d, b] >> np.uint32(bit)) & np.uint32(1)
                word ^= lower[bit] if there else np.uint32(0)
            columns[r, d, b] = word


@scalar
def permutation(key, index, replicate, unit, size):
    """A permutation of 0 to size - 1, a power of two, made from the address; see `place`.

    It is not linear in the bits, as points that a linear one matches would be dependent.
    """
    w0, w1, w2, w3 = random_words(key, index, replicate, unit, PERMUTE, _ZERO)
    bits = 0
    while (size >> bits) > 1:
        bits += 1
    mask, half = np.uint32(size - 1), np.uint32(max(1, (bits + 1) // 2))
    start = np.uint32(w0)
    return start, np.uint32(w1 | _ONE), np.uint32(w2 | _ONE), np.uint32(w3 | _ONE), mask, half


@scalar
def place(permutation, g):
    """The value of a permutation at g."""
    start, f1, f2, f3, mask, half = permutation
    x = np.uint32(np.uint32(g) + start) & mask
    x = np.uint32(x * f1) & mask
    x ^= x >> half
    x = np.uint32(x * f2) & mask
    x ^= x >> half
    x = np.uint32(x * f3) & mask
    x ^= x >> half
    return np.int64(x)


@borrower
def permute(key, index, replicate, unit, size, places):
    """places = the values of a `permutation`."""
    chosen = permutation(key, index, replicate, unit, size)
    for g in range(size):
        places[g] = place(chosen, g)
