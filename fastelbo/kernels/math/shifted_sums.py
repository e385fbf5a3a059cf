"""First and second sums of products of rows, about a shift that is near them.

From ``S1 = sum (x - c)`` and ``S2 = sum (x - c)^2``, the mean is ``c + S1 / n`` and the centred
second moment ``S2 - S1^2 / n``, in one pass. Where c is one of the values, ``(mean - c)^2`` is at
most n times their variance, so that the difference keeps all but a few digits.

The partial sums are those of `sums`.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import borrower
from .sums import PARTIAL_SUMS, close_sums

_TERMS = 4
_STEP = _TERMS * PARTIAL_SUMS


@borrower
def shifted_product_sums(x, y, n, shift, partial_sums):
    """S1 and S2 of x[:n] y[:n]."""
    first, second = partial_sums[0], partial_sums[1]
    for j in range(PARTIAL_SUMS):
        first[j] = 0.0
        second[j] = 0.0
    whole = n - n % _STEP
    for start in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            one, two = first[j], second[j]
            for term in range(_TERMS):
                k = start + j + term * PARTIAL_SUMS
                value = x[k] * y[k] - shift
                one += value
                two += value * value
            first[j], second[j] = one, two
    for start in range(whole, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - start)):
            value = x[start + j] * y[start + j] - shift
            first[j] += value
            second[j] += value * value
    return close_sums(first), close_sums(second)


@borrower
def grouped_products(x, y, size, count, out):
    """out[g] = the sum over j of x y, at j count + g, for j < size: groups lie across the block."""
    # An unsigned index is not looked at for a sign.
    step = np.uint64(count)
    for j in range(0, size, 4):
        first = np.uint64(j * count)
        second, third, fourth = first + step, first + step + step, first + step + step + step
        if size - j >= 4:
            for g in range(count):
                k = np.uint64(g)
                before = 0.0 if j == 0 else out[g]
                value = before + x[first + k] * y[first + k]
                value += x[second + k] * y[second + k]
                value += x[third + k] * y[third + k]
                out[g] = value + x[fourth + k] * y[fourth + k]
            continue
        for r in range(size - j):
            here = np.uint64((j + r) * count)
            for g in range(count):
                k = np.uint64(g)
                before = 0.0 if j + r == 0 else out[g]
                out[g] = before + x[here + k] * y[here + k]


@borrower
def range_product(x, y, start, stop, partial_sums):
    """The sum of x y from start to stop."""
    partial, n = partial_sums[0], stop - start
    for j in range(PARTIAL_SUMS):
        partial[j] = 0.0
    for first in range(0, n, PARTIAL_SUMS):
        here = np.uint64(start + first)
        for j in range(min(PARTIAL_SUMS, n - first)):
            k = here + np.uint64(j)
            partial[j] += x[k] * y[k]
    return close_sums(partial)
