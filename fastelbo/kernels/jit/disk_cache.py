"""The disk cache of compiled kernels: a folder for each state of their source.

numba's own cache compares only the file that holds the entry point. The functions that a kernel
calls live in other files, so an edit there would go unseen. It also unpickles the index of a cache
before it looks whether the index is stale: that fails for ever once a class that stands in a
signature has been renamed. In a folder named after the source neither can happen.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache

_KERNELS = Path(__file__).parent.parent
_PREFIX = "fastelbo-"
# Folders that stay where a new one is made, that one among them: enough to change between two
# versions of the source, or of numba, without compiling each time.
_KEPT = 3


def _source_token() -> str:
    """Hash of everything a compiled kernel depends on beside its signature and the processor."""
    digest = hashlib.sha256()
    for path in sorted(_KERNELS.rglob("*.py")):
        digest.update(path.relative_to(_KERNELS).as_posix().encode())
        digest.update(path.read_bytes())
    digest.update(f"{numba.__version__} {llvmlite.__version__}".encode())
    return digest.hexdigest()[:16]


# Taken with the import: files that change afterwards are not what this process compiles.
_FOLDER = _PREFIX + _source_token()


class _InFolder(CompileResultCacheImpl):  # type: ignore[misc]
    """Puts the cache into `_FOLDER`, inside of the folder that numba has chosen."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        folder = os.path.join(self.locator.get_cache_path(), _FOLDER)
        self.locator.get_cache_path = lambda: folder


class SourceCache(FunctionCache):  # type: ignore[misc]
    """numba's disk cache of one kernel, in `_FOLDER`."""

    _impl_class = _InFolder

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        if os.path.basename(self.cache_path) != _FOLDER:
            raise RuntimeError("this version of numba names the cache's folder in another way")

    def save_overload(self, *args: Any) -> None:
        """Keep a compiled kernel, or do without: another process may remove the folder."""
        is_new = not os.path.isdir(self.cache_path)
        with contextlib.suppress(OSError):
            super().save_overload(*args)
            if is_new:
                remove_old(Path(self.cache_path))


def remove_old(folder: Path) -> None:
    """Remove the folders of older sources, but for the last ones. Who uses one compiles again."""
    others = [path for path in folder.parent.glob(f"{_PREFIX}*") if path != folder]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[_KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
