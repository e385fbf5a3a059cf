"""Products of lower triangular matrices, many at once.

Not those of a library: its threads and ours, each waiting awake for the next call, would keep one
another off the cores.
"""

from __future__ import annotations

from .blocks import row_of
from .compile import block


@block
def _multiply(left, right, out):
    """out += left right, for lower triangular matrices."""
    dim = left.shape[0]
    for i in range(dim):
        row = out[i]
        for k in range(i + 1):
            entry, other = left[i, k], right[k]
            for j in range(k + 1):
                row[j] += entry * other[j]


@block
def product(part, parts, left, right, out):
    """out[i, c] += left[i, c] right[i]; where left or right has one i only, all share it."""
    components = out.shape[1]
    items = out.shape[0] * components
    for item in range(part * items // parts, (part + 1) * items // parts):
        i, c = item // components, item % components
        _multiply(left[row_of(i, left.shape[0]), c], right[row_of(i, right.shape[0])], out[i, c])
