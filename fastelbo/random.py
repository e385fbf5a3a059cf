"""The argument ``rng`` of public functions: None, int, SeedSequence or Generator as seed.

Its name and meaning are those of ``numpy.random.default_rng``, and of other libraries in the
scientific Python ecosystem (scientific-python.org/specs/spec-0007).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .errors import InvalidInputError
from .validation import shown


class Key(NamedTuple):
    """The key of an earlier call, in the place of a seed."""

    value: int


RandomState = int | np.random.SeedSequence | np.random.Generator | None


def generator(rng: RandomState) -> np.random.Generator:
    """The generator of a seed; a Generator is taken as it is."""
    try:
        if not isinstance(rng, (bool, np.bool_)):
            return np.random.default_rng(rng)
    except Exception:  # NumPy prints the value, which may raise anything
        pass
    raise InvalidInputError(
        "rng must be None, an integer of at least 0, a SeedSequence or a Generator, got "
        f"{shown(rng)}"
    )


def philox_key(rng: RandomState | Key) -> int:
    """The 64-bit key of one call.

    An int or a SeedSequence gives the same key again, a Generator advances, None gives a new key.
    """
    if isinstance(rng, Key):
        return rng.value
    return int(generator(rng).integers(0, 2**64, dtype=np.uint64))


def pilot_key(key: int, purpose: int) -> int:
    """The key of the draws that prepare those of another key, and are independent of them."""
    sequence = np.random.SeedSequence([key & 0xFFFFFFFF, key >> 32, purpose])
    return int(sequence.generate_state(1, np.uint64)[0])
