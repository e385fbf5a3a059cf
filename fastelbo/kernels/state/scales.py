"""Scales of moments: what keeps the squares of the largest floats finite.

A model may call a draw impossible by a log density of -1e300. Moments of such values are those of
`TINY` times the value. `TINY` is a power of 2, so that scaling rounds nothing, and what becomes 0
by it was nothing beside a value above `LARGE`.
"""

from __future__ import annotations

from ..jit.compile import exact

TINY = 2.0**-600
# A value below this has a square that adds up over 2^53 draws.
LARGE = 2.0**400
# A sum of up to 2048 such values, and of their squared deviations.
_LARGE_SUM = 2.0**411
_LARGE_SQUARES = 2.0**811


@exact
def moments_fit(total, second):
    """Whether a block's sum and second moment fit without a scale; false for NaN."""
    return abs(total) <= _LARGE_SUM and second <= _LARGE_SQUARES


@exact
def scale_of(value):
    """The scale for a value."""
    return 1.0 if abs(value) <= LARGE else TINY
