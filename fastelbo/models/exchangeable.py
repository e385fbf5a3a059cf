"""A search for symmetries that nobody named: swaps of two labels, and changes of sign.

It knows vectors that are made of groups of one parameter a label, behind each other, or of one
block of parameters a label. The first group may have an entry less, as logits against the last
weight do. Other parameters may stand before and after. The first two labels of groups are swapped,
or two neighbouring blocks. A q that has this swap, but not others, is not found out, nor are other
layouts, nor what lies beyond the first 512 maps: in more than about 20 dimensions, some groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ..validation import Floats, Integers
from .counted import CountedJoint
from .mixture import Mixture
from .symmetries import is_same

_MOST_CANDIDATES = 512
_POINTS = 4
# The part of q at images of draws; it is 1/2 for a q with the symmetry.
_LEAST_PART = 0.05


def missed_symmetry(joint: CountedJoint, q: Mixture, draws: Floats) -> str | None:
    """A symmetry of log p(x, z) without which q seems to be, in words; None if none was found.

    ``draws`` (n, D) are of the posterior.
    """
    dim = joint.dim
    maps = np.array(list(itertools.islice(_candidates(dim), _MOST_CANDIDATES)))
    if not len(maps):
        return None
    order, signs = abs(maps).astype(np.int64) - 1, np.sign(maps)
    for point in draws[:_POINTS]:
        if not len(order):
            return None
        values = joint(np.concatenate([point[None], signs * point[order]]))
        same = is_same(values[1:], values[0])
        order, signs = order[same], signs[same]
    log_q = q.log_prob(draws)
    for index, sign in zip(order, signs, strict=True):
        images = q.log_prob(sign * draws[:, index])
        with np.errstate(under="ignore"):
            part = np.exp(images - np.logaddexp(images, log_q)).mean()
        if part < _LEAST_PART:
            return _in_words(index, sign)
    return None


def _in_words(index: Integers, sign: Floats) -> str:
    flipped = [int(i) for i in np.flatnonzero(sign < 0.0)]
    pairs = [(i, int(j)) for i, j in enumerate(index) if i < j]
    parts = []
    if pairs:
        parts.append("swapping coordinates " + ", ".join(f"{i} and {j}" for i, j in pairs))
    if flipped:
        parts.append("changing the sign of coordinates " + ", ".join(map(str, flipped)))
    return " with ".join(parts)


def _candidates(dim: int) -> Iterator[Floats]:
    """Maps as signed permutations, whose entries count from 1."""
    one = np.arange(1.0, dim + 1.0)
    yield from itertools.islice(_swaps(one), max(0, _MOST_CANDIDATES - dim - 1))
    yield -one
    for i in range(dim):
        yield np.where(one == i + 1.0, -one, one)


def _swaps(one: Floats) -> Iterator[Floats]:
    """Swaps of blocks, then of labels in groups."""
    dim = len(one)
    # Blocks of one label behind each other.
    for length in range(1, dim // 2 + 1):
        for first in range(dim - 2 * length + 1):
            new = one.copy()
            middle, last = first + length, first + 2 * length
            new[first:last] = np.concatenate([one[middle:last], one[first:middle]])
            yield new
    # Groups of one parameter of each label.
    for labels in range(2, dim):
        for shorter in (1, 0):
            for first in range(dim - labels):
                yield from _groups(one, labels, shorter, first)


def _groups(one: Floats, labels: int, shorter: int, first: int) -> Iterator[Floats]:
    """Swaps of the first two labels in two groups or more."""
    new, dim = one.copy(), len(one)
    if shorter and labels == 2:
        # A single logit against the other weight changes its sign.
        new[first] = -new[first]
    else:
        new[[first, first + 1]] = new[[first + 1, first]]
    for start in range(first + labels - shorter, dim - labels + 1, labels):
        new[[start, start + 1]] = new[[start + 1, start]]
        yield new.copy()
