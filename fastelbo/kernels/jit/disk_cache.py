"""The disk cache of compiled kernels: a file for each signature, checked whenever it is read.

numba's own cache compares only the file that holds the entry point. The functions that a kernel
calls live in other files, so an edit there would go unseen: here a folder is named after the state
of the source. numba's cache also trusts what it reads, fails for ever if that is damaged, and does
not read a folder that it cannot write. Here a failure of any kind costs a compilation.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.caching import CacheImpl, CompileResultCacheImpl, FunctionCache
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from ...errors import CompileCacheWarning

_KERNELS = Path(__file__).parent.parent
_PREFIX = "fastelbo-"
# Folders that stay where a new one is made, that one among them: enough to change between two
# versions of the source, or of numba, without compiling each time.
_KEPT = 3
# Functions of users that stay, the last ones.
_MOST_FUNCTIONS = 256
_DIGEST = hashlib.sha256().digest_size


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


# --- folders and files --------------------------------------------------------------------------


class _Locators:
    """Where numba keeps a function, and the places before, which it prefers but cannot write."""

    def __init__(self, locators: list[Any]) -> None:
        self.locators = locators

    @classmethod
    def from_function(cls, function: Any, file: str) -> _Locators:
        """Always some, be it none that can be used."""
        found = []
        for kind in CacheImpl._locator_classes:
            # A folder that cannot be written may hold what is to be read.
            readable: Any = type(kind.__name__, (kind,), {"ensure_cache_path": lambda _: None})
            with contextlib.suppress(Exception):
                locator = readable.from_function(function, file)
                # One that begins with ~ is of a user without a home.
                if locator is not None and not locator.get_cache_path().startswith("~"):
                    found.append(locator)
                    kind.ensure_cache_path(locator)
                    break
        return cls(found)

    def folders(self) -> list[str]:
        """The folders, the first choice first."""
        return [locator.get_cache_path() for locator in self.locators]

    def get_cache_path(self) -> str:
        return next(iter(self.folders()), "")

    def get_source_stamp(self) -> Any:
        return self.locators[0].get_source_stamp() if self.locators else None

    def get_disambiguator(self) -> str:
        return str(self.locators[0].get_disambiguator()) if self.locators else ""


class _InFolder(CompileResultCacheImpl):  # type: ignore[misc]
    """Takes `_Locators`, unless the user has chosen one of numba's."""

    _locator_classes = (_Locators,)

    def folders(self) -> list[Path]:
        places = self.locator.folders() if isinstance(self.locator, _Locators) else None
        return [Path(path, _FOLDER) for path in places or [self.locator.get_cache_path()] if path]


def _read(path: Path, key: Any) -> Any:
    """What was written for the key."""
    if not path.is_file():
        raise OSError("it is not a file")
    content = path.read_bytes()
    digest, data = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("its checksum is wrong")
    found, result = pickle.loads(data)
    if found != key:
        raise ValueError("it holds another kernel")
    return result


def _write(path: Path, key: Any, result: Any) -> None:
    """Write the file, in the place of anything that stands there."""
    data = dumps((key, result))
    folder = path.parent
    if folder.is_file():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(hashlib.sha256(data).digest() + data)
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remove_old(folder: Path) -> None:
    """Remove the folders of older sources, but for the last ones. Who uses one compiles again."""
    others = [path for path in folder.parent.glob(f"{_PREFIX}*") if path != folder]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[_KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


# --- one kernel ---------------------------------------------------------------------------------


class SourceCache(FunctionCache):  # type: ignore[misc]
    """The disk cache of one kernel, in any of the folders that can be read or written."""

    _impl_class = _InFolder

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._folders = self._impl.folders()
        self._stamp = self._impl.locator.get_source_stamp()

    @property
    def cache_path(self) -> str | None:
        """The folder that is there, else the first that will be tried."""
        there = [folder for folder in self._folders if os.path.isdir(folder)]
        return next((str(folder) for folder in there + self._folders), None)

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled kernel from the first folder that has it, or None."""
        # Machine code calls the runtime. All that numba can compile, which its own cache registers
        # here, takes a third of a second, and is for the compiler, which registers it itself.
        rtsys.initialize(context)
        key = self._key(signature, context.codegen())
        return load_first(self._paths(key), key, lambda found: self._impl.rebuild(context, found))

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled kernel in the first folder that takes it."""
        if self._impl.check_cachable(result):
            key = self._key(signature, result.codegen)
            save_first(self._paths(key), key, lambda: self._impl.reduce(result), remove_old)

    def _key(self, signature: Any, codegen: Any) -> Any:
        return self._stamp, self._index_key(signature, codegen)

    def _paths(self, key: Any) -> list[Path]:
        name = f"{self._impl.filename_base}.{_digest(key)[:16]}.nbc"
        return [folder / name for folder in self._folders]


def _digest(key: Any) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()


class UserCodeCache:
    """Machine code of users' functions, under keys that say all that it depends on."""

    def __init__(self) -> None:
        folders = _InFolder(remove_old).folders()
        self._folders = [folder / "users" for folder in folders]

    def load(self, key: str, rebuild: Callable[[Any], Any]) -> Any:
        """``rebuild`` of what was kept for the key, or None."""
        return load_first(self._paths(key), key, rebuild)

    def save(self, key: str, state: Any) -> None:
        """Keep a state that can be pickled."""
        save_first(self._paths(key), key, lambda: state)
        with contextlib.suppress(OSError):
            self._remove_oldest()

    def _paths(self, key: str) -> list[Path]:
        return [folder / f"{_digest(key)[:32]}.nbc" for folder in self._folders]

    def _remove_oldest(self) -> None:
        for folder in self._folders:
            files = sorted(folder.glob("*.nbc"), key=lambda path: path.stat().st_mtime)
            for path in files[:-_MOST_FUNCTIONS]:
                path.unlink()


# --- the first folder that works ----------------------------------------------------------------


def load_first(paths: Iterable[Path], key: Any, rebuild: Callable[[Any], Any]) -> Any:
    """``rebuild`` of the content of the first file that can be used, or None."""
    failures = []
    for path in paths:
        try:
            return rebuild(_read(path, key))
        except Exception as error:
            # What cannot be reached is not there. A file may stand in the folder's place.
            if os.path.lexists(path) or os.path.isfile(path.parent):
                failures.append(f"{path} cannot be used ({_text(error)})")
    if failures:
        _warn(failures, "The kernel is compiled anew, and the file replaced if it can be")
    return None


def save_first(
    paths: Iterable[Path],
    key: Any,
    make: Callable[[], Any],
    after_new: Callable[[Path], None] | None = None,
) -> None:
    """Write what ``make`` gives to the first file that can be; ``after_new`` gets a new folder."""
    failures = []
    for path in paths:
        is_new = not os.path.isdir(path.parent)
        try:
            _write(path, key, make())
        except Exception as error:
            failures.append(f"{path} cannot be written ({_text(error)})")
        else:
            if is_new and after_new is not None:
                with contextlib.suppress(OSError):
                    after_new(path.parent)
            return
    _warn(
        failures or ["there is no folder for it"],
        "Kernels are compiled anew in each process, unless NUMBA_CACHE_DIR names a folder that "
        "can be written",
    )


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


_has_warned = False


def _warn(failures: Iterable[str], consequence: str) -> None:
    """Warn once a process: who can do something about it needs no more."""
    global _has_warned
    if not _has_warned:
        _has_warned = True
        message = f"the disk cache of compiled kernels: {'; '.join(failures)}. {consequence}."
        warnings.warn(message, CompileCacheWarning, stacklevel=2)
