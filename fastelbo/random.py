"""The argument ``rng`` of public functions: None, int, SeedSequence or Generator as seed.

Its name and meaning are those of ``numpy.random.default_rng``, and of other libraries in the
scientific Python ecosystem (scientific-python.org/specs/spec-0007).
"""

from __future__ import annotations

import numpy as np

RandomState = int | np.random.SeedSequence | np.random.Generator | None


def philox_key(rng: RandomState) -> int:
    """The 64-bit key of one call.

    An int or a SeedSequence gives the same key again, a Generator advances, None gives a new key.
    """
    return int(np.random.default_rng(rng).integers(0, 2**64, dtype=np.uint64))
