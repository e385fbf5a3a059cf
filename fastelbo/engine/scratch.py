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
    def __init__(self) -> None:
        self.memory: Floats = np.empty(0)


_kept = _Kept()


def _references() -> int:
    """How many refer to the memory: this function and the module always do."""
    memory = _kept.memory
    return sys.getrefcount(memory)


_UNUSED = _references()


def scratch(shape: tuple[int, ...]) -> Floats:
    """As ``np.empty``. The memory may be that of an earlier array to which nobody refers.

    An array that its owner keeps holds at most twice the memory that it needs.
    """
    size = math.prod(shape)
    if not _LEAST <= size <= _MOST:
        return np.empty(shape)
    if not size <= len(_kept.memory) <= 2 * size or _references() > _UNUSED:
        _kept.memory = np.empty(size)
    # A view refers to the array that owns the memory, however many views are between them.
    return _kept.memory[:size].reshape(shape)
