"""Sums over the lanes of a block: the arithmetic of the mergeable state.

A sum consists of `PARTIAL_SUMS` partial sums. Partial sum j takes the terms whose index is j modulo
`PARTIAL_SUMS`. The partial sums are added in one fixed order. So the loop vectorises, and the
compiler needs no permission to reorder: with it, the last bit would depend on the surrounding code.
"""

from __future__ import annotations

import numpy as np

from ..jit.compile import block, borrower, exact

PARTIAL_SUMS = 32
# A partial sum takes this many terms in a register before it is stored.
TERMS = 4
STEP = TERMS * PARTIAL_SUMS


@block
def make_partial_sums():
    """Allocate the partial sums of three sums."""
    return np.empty((3, PARTIAL_SUMS))


@exact(interleave=2)
def close_sums(partial):
    """The sum of the partial sums."""
    for j in range(8):
        partial[j] = (partial[j] + partial[j + 8]) + (partial[j + 16] + partial[j + 24])
    return ((partial[0] + partial[1]) + (partial[2] + partial[3])) + (
        (partial[4] + partial[5]) + (partial[6] + partial[7])
    )


@borrower(interleave=4)
def begin(partial, value):
    """Set all partial sums, or what stands in their place."""
    for j in range(PARTIAL_SUMS):
        partial[j] = value


@borrower(interleave=4)
def add_row(x, first, partial):
    """Add a row of terms: one to each partial sum."""
    for j in range(PARTIAL_SUMS):
        # An unsigned index is not looked at for a sign.
        partial[j] += x[np.uint64(first) + np.uint64(j)]


@borrower
def sum_all(x, n, partial_sums):
    """Sum of x[:n]."""
    partial = partial_sums[0]
    begin(partial, 0.0)
    whole = n - n % STEP
    for first in range(0, whole, STEP):
        for j in range(PARTIAL_SUMS):
            total = partial[j]
            for term in range(TERMS):
                total += x[first + j + term * PARTIAL_SUMS]
            partial[j] = total
    full = n - n % PARTIAL_SUMS
    for first in range(whole, full, PARTIAL_SUMS):
        add_row(x, first, partial)
    for k in range(full, n):
        partial[k - full] += x[k]
    return close_sums(partial)


@borrower
def range_sum(x, start, stop):
    """Sum of a few values, x[start:stop], in four partial sums."""
    a = b = c = d = 0.0
    k = start
    while k + 4 <= stop:
        a += x[k]
        b += x[k + 1]
        c += x[k + 2]
        d += x[k + 3]
        k += 4
    while k < stop:
        a += x[k]
        k += 1
    return (a + b) + (c + d)


@borrower
def finite_sum(x, n, partial_sums):
    """Count and sum of the finite values."""
    total = sum_all(x, n, partial_sums)
    if abs(total) < np.inf:
        return n, total
    count = np.int64(0)
    for k in range(n):
        count += np.int64(1) if abs(x[k]) < np.inf else np.int64(0)
    partial = partial_sums[0]
    begin(partial, 0.0)
    for first in range(0, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            value = x[first + j]
            partial[j] += value if abs(value) < np.inf else 0.0
    return count, close_sums(partial)


@borrower
def product_sums(x, y, z, n, partial_sums):
    """The sums of x z and of y z."""
    with_x, with_y = partial_sums[0], partial_sums[1]
    begin(with_x, 0.0)
    begin(with_y, 0.0)
    whole = n - n % STEP
    for first in range(0, whole, STEP):
        for j in range(PARTIAL_SUMS):
            xz, yz = with_x[j], with_y[j]
            for term in range(TERMS):
                k = first + j + term * PARTIAL_SUMS
                xz += x[k] * z[k]
                yz += y[k] * z[k]
            with_x[j], with_y[j] = xz, yz
    for first in range(whole, n, PARTIAL_SUMS):
        for j in range(min(PARTIAL_SUMS, n - first)):
            with_x[j] += x[first + j] * z[first + j]
            with_y[j] += y[first + j] * z[first + j]
    return close_sums(with_x), close_sums(with_y)
