"""Random words and the standard draws made of them, by address."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]
Words: TypeAlias = NDArray[Any]  # of uint64, which NumPy's stubs lose in every shift

NORMAL, CHOICE, GAMMA_NORMAL, GAMMA_UNIFORM, SHIFT, SCRAMBLE, PERMUTE = range(7)
GAMMA_ATTEMPTS = 16
LOW_WORD = 0xFFFFFFFF


def philox(
    counter_words: Iterable[ArrayLike], key_words: Iterable[ArrayLike]
) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 (Salmon et al. 2011, with the constants of Random123).

    Parameters
    ----------
    counter_words, key_words
        Four and two integers or arrays of integers below 2**32, which broadcast.

    Returns
    -------
    tuple of four arrays
        32-bit words, held in uint64 so that products and shifts do not overflow.
    """
    counter: list[Words] = [np.asarray(word, dtype=np.uint64) for word in counter_words]
    key: list[Words] = [np.asarray(word, dtype=np.uint64) for word in key_words]
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & LOW_WORD, (a >> 32) ^ c3 ^ k1, a & LOW_WORD
        k0, k1 = (k0 + 0x9E3779B9) & LOW_WORD, (k1 + 0xBB67AE85) & LOW_WORD
    return c0, c1, c2, c3


def standard_normals(key: int, index: ArrayLike, draw: ArrayLike, dim: int) -> Array:
    """Standard normals at the addresses (index, draw).

    Parameters
    ----------
    key
        64-bit key of the stream.
    index, draw
        Data points below 2**32 and draws below 2**40, which broadcast to a shape S.
    dim
        Number of coordinates D.

    Returns
    -------
    array of shape S + (D,)
        Coordinates 2p and 2p + 1 are ``r cos theta`` and ``r sin theta`` of the Philox call of
        pair p.
    """
    index, draw = address(index, 32, "index"), address(draw, 40, "draw")
    pair = address(np.arange((dim + 1) // 2), 24, "pair of coordinates")
    words = words_at(key, index[..., None], draw[..., None], NORMAL, pair=pair)
    return np.stack(normal_pair(words), axis=-1).reshape(*words[0].shape[:-1], 2 * pair.size)[
        ..., :dim
    ]


def address(value: ArrayLike, bits: int, name: str) -> Words:
    """A part of an address, as words; OverflowError if it does not fit into its bits."""
    array = np.asarray(value)
    if np.any((array < 0) | (array >= 1 << bits)):
        raise OverflowError(f"{name} must lie in [0, 2**{bits})")
    return array.astype(np.uint64)


def words_at(
    key: int, index: Words, draw: Words, purpose: int, *, pair: Words | int = 0, attempt: int = 0
) -> tuple[Words, Words, Words, Words]:
    """The four random words at an address."""
    counter = (draw & LOW_WORD, (draw >> 32) | (pair << 8), index, purpose | (attempt << 8))
    return philox(counter, (int(key) & LOW_WORD, int(key) >> 32))


def word53(high: Words, low: Words) -> Words:
    """An integer of 53 random bits."""
    return (high << 21) | (low >> 11)


def _uniform(high: Words, low: Words) -> Array:
    """Uniform on (0, 1], a multiple of 2**-53."""
    return np.asarray((word53(high, low) + 1) * 2.0**-53)


def normal_pair(words: tuple[Words, Words, Words, Words]) -> tuple[Array, Array]:
    """Two normals by Box and Muller (1958), of two words for the radius and two for the angle."""
    radius = np.sqrt(-2.0 * np.log(_uniform(words[0], words[1])))
    # The angle is an integer quadrant and a remainder in [-pi/4, pi/4).  Only the remainder meets
    # floating point: the cosine of a rounded angle near pi/2 would have lost its leading digits.
    quadrant = words[2] >> 30
    remainder = (((words[2] << 32) | words[3]) >> 10) & (2**52 - 1)
    angle = (remainder * 2.0**-52 - 0.5) * (np.pi / 2.0)
    cos, sin = np.cos(angle), np.sin(angle)
    odd = (quadrant & 1) == 1
    cos, sin = np.where(odd, sin, cos), np.where(odd, cos, sin)
    cos = np.where((quadrant == 1) | (quadrant == 2), -cos, cos)
    sin = np.where(quadrant >= 2, -sin, sin)
    return radius * cos, radius * sin


def chi_square(key: int, index: Words, draw: Words, df: Array) -> Array:
    """Chi-square with ``df`` degrees of freedom; the arguments broadcast."""
    a = df / 2.0
    gamma, uniform = gamma_parts(key, index, draw, a)
    # The floor keeps 1 / chi-square and its square finite.
    return np.maximum(2.0 * gamma * uniform ** (1.0 / a), 2.0**-1000)


def gamma_parts(key: int, index: Words, draw: Words, shape: Array) -> tuple[Array, Array]:
    """(g, u) such that g u^(1/shape) is Gamma(shape), by Marsaglia and Tsang (2000).

    The arguments broadcast. u is 1 for a shape of at least 1.
    """
    index, draw, a = np.broadcast_arrays(index, draw, shape)
    whole, index, draw, a = a.shape, index.ravel(), draw.ravel(), a.ravel()
    d = np.where(a < 1.0, a + 1.0, a) - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    gamma, uniform = np.empty_like(a), np.ones_like(a)
    pending = np.arange(a.size)
    for attempt in range(GAMMA_ATTEMPTS):
        x, _ = normal_pair(
            words_at(key, index[pending], draw[pending], GAMMA_NORMAL, attempt=attempt)
        )
        words = words_at(key, index[pending], draw[pending], GAMMA_UNIFORM, attempt=attempt)
        if attempt == 0:
            # The method needs a shape of 1 or more: Gamma(a) is Gamma(a + 1) U^(1/a).
            small = a < 1.0
            uniform[small] = _uniform(words[2], words[3])[small]
        root = 1.0 + c[pending] * x
        cube = root * root * root
        v = np.where(cube > 0.0, cube, 1.0)
        bound = 0.5 * x * x + d[pending] - d[pending] * v + d[pending] * np.log(v)
        accepted = (cube > 0.0) & (np.log(_uniform(words[0], words[1])) < bound)
        accepted |= attempt == GAMMA_ATTEMPTS - 1
        gamma[pending[accepted]] = d[pending[accepted]] * v[accepted]
        pending = pending[~accepted]
        if pending.size == 0:
            break
    return gamma.reshape(whole), uniform.reshape(whole)
