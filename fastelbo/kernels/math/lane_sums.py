"""The steps of a log-sum-exp across rows, lane by lane.

The maximum comes first. Exponentials relative to one that may still rise need selects, and chains
of dependent operations that are half as long again.
"""

from __future__ import annotations

from ..jit.compile import borrower, scalar
from .scalar import exp_moderate, log_positive

# Beside a sum of 1 or more, the exponential of this is nothing, in either precision.
_NEGLIGIBLE = -87.0


@scalar
def _share(term, top, negligible):
    """exp(term - top), or next to nothing; also where both are -inf, or the term is NaN."""
    gap = term - top
    return exp_moderate(gap if gap > negligible else negligible)


@borrower
def raise_top(top, term, other, n):
    """top = max(top, term, other); a NaN in ``top`` stays, one in a term is passed over."""
    # Of one term, LLVM would make a store under a mask, which takes ten times as long with AVX2.
    for k in range(n):
        best = term[k] if term[k] > top[k] else top[k]
        top[k] = other[k] if other[k] > best else best


@borrower(interleave=4)
def rescale(total, before, top, n):
    """total = total exp(before - top)."""
    negligible = top.dtype.type(_NEGLIGIBLE)
    for k in range(n):
        total[k] *= _share(before[k], top[k], negligible)


@borrower(interleave=4)
def add_shares(total, term, top, n):
    """total += exp(term - top)."""
    negligible = top.dtype.type(_NEGLIGIBLE)
    for k in range(n):
        total[k] += _share(term[k], top[k], negligible)


@borrower(interleave=2)
def close_sum(base, top, total, n, out):
    """out = base + top + log(total)."""
    for k in range(n):
        out[k] = (base + top[k]) + log_positive(total[k])
