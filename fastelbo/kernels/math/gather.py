"""Gathers: values chosen by the component of each lane."""

from __future__ import annotations

from ..jit.compile import borrower, scalar
from .copies import fill

_MOST_SELECTS = 64


@scalar
def _either(bit, one, zero):
    return one if bit != 0 else zero


@borrower
def _gather_eight(values, component, base, n, out):
    """out[k] = values[component[k]] if component[k] is one of base, ..., base + 7."""
    last = values.shape[0] - 1
    v0, v1 = values[base], values[min(base + 1, last)]
    v2, v3 = values[min(base + 2, last)], values[min(base + 3, last)]
    v4, v5 = values[min(base + 4, last)], values[min(base + 5, last)]
    v6, v7 = values[min(base + 6, last)], values[min(base + 7, last)]
    for k in range(n):
        place = component[k] - base
        one, two, four = place & 1, place & 2, place & 4
        low = _either(two, _either(one, v3, v2), _either(one, v1, v0))
        high = _either(two, _either(one, v7, v6), _either(one, v5, v4))
        value = _either(four, high, low)
        out[k] = value if (place & -8) == 0 else out[k]


@borrower
def gather(values, component, n, out):
    """out[k] = values[component[k]].

    Indexed loads do not vectorise if a store may overlap them. Selects by the bits of the index do.
    """
    count = values.shape[0]
    if count > _MOST_SELECTS:
        for k in range(n):
            out[k] = values[component[k]]
        return
    if count == 1:
        fill(out, n, values[0])
        return
    for base in range(0, count, 8):
        _gather_eight(values, component, base, n, out)
