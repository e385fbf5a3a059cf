"""Memory that a thread uses again, for large arrays that are dropped soon.

The C library gives large arrays back to the system. The next array then has fresh pages, and to
touch these may cost as much as what is computed in them.
"""

from __future__ import annotations

import math
import sys
import threading

import numpy as np

from ..validation import Floats

# Numbers that a thread keeps at most: 8 MB. The C library itself keeps arrays below the least.
_LEAST, _MOST = 2**14, 2**20


class _Kept(threading.local):
    memory: Floats | None = None


_kept = _Kept()


def _references() -> int:
    """Counted references to the memory, one of which is a variable of this function's kind."""
    memory = _kept.memory
    return sys.getrefcount(memory)


def _references_if_unused() -> int:
    _kept.memory = np.empty(0)
    count = _references()
    _kept.memory = None
    return count


_UNUSED = _references_if_unused()


def scratch(shape: tuple[int, ...]) -> Floats:
    """As ``np.empty``. The memory may be that of an earlier array to which nobody refers."""
    size = math.prod(shape)
    if not _LEAST <= size <= _MOST:
        return np.empty(shape)
    if _kept.memory is None or len(_kept.memory) < size or _references() > _UNUSED:
        _kept.memory = np.empty(size)
    # A view refers to the array that owns the memory, however many views are between them.
    return _kept.memory[:size].reshape(shape)
