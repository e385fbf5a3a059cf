"""The random-number argument of public calls, by SPEC 7 of Scientific Python."""

from __future__ import annotations

import numpy as np

RandomState = int | np.random.SeedSequence | np.random.Generator | None


def philox_key(rng: RandomState) -> int:
    """The 64-bit key of one call: an int repeats, a Generator advances, None is fresh."""
    return int(np.random.default_rng(rng).integers(0, 2**64, dtype=np.uint64))
