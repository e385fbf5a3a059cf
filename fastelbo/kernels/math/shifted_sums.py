"""First and second sums of products of rows, about a shift that is near them.

From ``S1 = sum (x - c)`` and ``S2 = sum (x - c)^2``, the mean is ``c + S1 / n`` and the centred
second moment ``S2 - S1^2 / n``, in one pass. Where c is one of the values, ``(mean - c)^2`` is at
most n times their variance, so that the difference keeps all but a few digits.

The partial sums are those of `sums`.
"""

from __future__ import annotations

from ..jit.compile import borrower
from .sums import PARTIAL_SUMS, close_sums

_TERMS = 4
_STEP = _TERMS * PARTIAL_SUMS


@borrower
def shifted_sums(x, n, shift, partial_sums):
    """S1 and S2 of x[:n]."""
    first, second = partial_sums[0], partial_sums[1]
    for j in range(PARTIAL_SUMS):
        first[j] = 0.0
        second[j] = 0.0
    whole = n - n % _STEP
    for start in range(0, whole, _STEP):
        for j in range(PARTIAL_SUMS):
            one, two = first[j], second[j]
            for term in range(_TERMS):
                value = x[start + j + term * PARTIAL_SUMS] - shift
                one += value
                two += value * value
            first[j], second[j] = one, two
    for start in range(whole, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - start)):
            value = x[start + j] - shift
            first[j] += value
            second[j] += value * value
    return close_sums(first), close_sums(second)


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
    for j in range(0, size, 4):
        first, left = j * count, size - j
        second = first + count
        third = second + count
        fourth = third + count
        if left >= 4:
            for g in range(count):
                before = 0.0 if j == 0 else out[g]
                value = before + x[first + g] * y[first + g]
                value += x[second + g] * y[second + g]
                value += x[third + g] * y[third + g]
                out[g] = value + x[fourth + g] * y[fourth + g]
            continue
        for r in range(left):
            here = first + r * count
            for g in range(count):
                before = 0.0 if j + r == 0 else out[g]
                out[g] = before + x[here + g] * y[here + g]


@borrower
def range_product(x, y, start, stop, partial_sums):
    """The sum of x y from start to stop."""
    partial, n = partial_sums[0], stop - start
    for j in range(PARTIAL_SUMS):
        partial[j] = 0.0
    for first in range(0, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            partial[j] += x[start + first + j] * y[start + first + j]
    return close_sums(partial)
