"""A damaged or useless disk cache: compiled anew, one warning, right results, and mended."""

import errno
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from numba import config
from numba.core.caching import CacheImpl, _CacheLocator
from numba.core.serialize import dumps

from fastelbo.errors import CompileCacheWarning
from fastelbo.kernels.jit import disk_cache
from fastelbo.kernels.jit.compile import kernel

pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="without a compiler nothing is kept")


def double(x):
    return x + x


def call():
    """What a new process would see: the result, whether it was read, and the warnings."""
    disk_cache._has_warned = False
    dispatcher = kernel(double)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = [dispatcher(21), dispatcher(1.5)]
    assert results == [42, 3.0]
    hits = sum(dispatcher.stats.cache_hits.values())
    assert hits + sum(dispatcher.stats.cache_misses.values()) == 2
    assert all(warning.category is CompileCacheWarning for warning in caught)
    return hits, [str(warning.message) for warning in caught]


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Two folders for caches, the first choice first."""
    monkeypatch.setattr(disk_cache, "_has_warned", False)
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "first"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    chosen, _, of_the_user, *_ = CacheImpl._locator_classes
    monkeypatch.setattr(CacheImpl, "_locator_classes", [chosen, of_the_user])
    return tmp_path / "first", tmp_path / "second"


def files(folder):
    return sorted(folder.rglob("*.nbc"))


def rewritten(path, change):
    """Another content, with the right checksum: a fault of whoever wrote it."""
    key, result = disk_cache.pickle.loads(path.read_bytes()[disk_cache._DIGEST :])
    data = change(key, result)
    path.write_bytes(disk_cache.hashlib.sha256(data).digest() + data)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def another_instead(path):
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def swap(path):
    other = next(name for name in files(path.parent) if name != path)
    shutil.copy(other, path)


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def file_for_folder(path):
    shutil.rmtree(path.parent)
    path.parent.write_text("no folder")


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "cut to its checksum": lambda path: path.write_bytes(path.read_bytes()[:32]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "text": lambda path: path.write_text("<html>no space left</html>"),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a bit of the machine code": lambda path: flip(path, path.stat().st_size // 2),
    "a bit of the checksum": lambda path: flip(path, 0),
    "another kernel": swap,
    "another version of numba": lambda path: rewritten(
        path, lambda key, result: dumps((("0.1", *key[1:]), result))
    ),
    # pickle's opcode for a name in a module.
    "a class that is gone": lambda path: rewritten(
        path, lambda key, result: b"cfastelbo.kernels.draws.blocks\nNoSuchDensity\n."
    ),
    "a module that is gone": lambda path: rewritten(
        path, lambda key, result: b"cfastelbo.kernels.nowhere\nDensity\n."
    ),
    "another result": lambda path: rewritten(path, lambda key, result: dumps((key, result[:2]))),
    "no result": lambda path: rewritten(path, lambda key, result: dumps((key, None))),
    "a folder": another_instead,
    "a link to itself": link_to_itself,
    "a file in place of the folder": file_for_folder,
}

if hasattr(os, "mkfifo"):
    DAMAGE["a pipe"] = pipe


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_costs_a_compilation_and_a_warning_and_is_mended(caches, kind):
    assert call() == (0, [])
    assert call() == (2, [])
    path, other = files(caches[0])
    DAMAGE[kind](path)
    # The other kernel is read, unless its folder is gone too.
    readable = int(other.exists())
    hits, (message,) = call()
    assert hits == readable
    assert path.parent.name in message
    assert call() == (2, [])
    assert not files(caches[1])
    # No temporary file is left.
    assert all(name.suffix == ".nbc" for name in path.parent.iterdir())


def test_a_damaged_file_is_one_of_its_kernel_alone(caches):
    call()
    for path in files(caches[0]):
        path.write_bytes(b"")
    hits, messages = call()
    assert hits == 0
    assert len(messages) == 1


def test_what_is_gone_is_made_again_without_a_warning(caches):
    call()
    files(caches[0])[0].unlink()
    assert call() == (1, [])
    shutil.rmtree(caches[0])
    assert call() == (0, [])
    assert call() == (2, [])


def refuse(monkeypatch, folder, code, name="write_bytes"):
    """Make an operation on the files below a folder fail with an error of the system."""
    operate = getattr(Path, name)

    def refused(self, *args, **options):
        if folder in self.parents:
            raise OSError(code, os.strerror(code), str(self))
        return operate(self, *args, **options)

    monkeypatch.setattr(Path, name, refused)


def numba_sees(monkeypatch, folder):
    """Let numba know that a folder cannot be written, which it tries by a file of its own."""
    ensure = _CacheLocator.ensure_cache_path

    def refused(self):
        if folder in Path(self.get_cache_path()).parents:
            raise OSError
        ensure(self)

    monkeypatch.setattr(_CacheLocator, "ensure_cache_path", refused)


def fill_up(monkeypatch, folder):
    """Make a full disk: half of a file is written."""
    write = Path.write_bytes

    def half(self, content):
        write(self, content[: len(content) // 2])
        if folder in self.parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        write(self, content)

    monkeypatch.setattr(Path, "write_bytes", half)


UNWRITABLE = {
    "full": fill_up,
    "read-only system": lambda patch, folder: refuse(patch, folder, errno.EROFS),
    "read-only folder": lambda patch, folder: refuse(patch, folder, errno.EACCES),
    "no folder can be made": lambda patch, folder: refuse(patch, folder, errno.EACCES, "mkdir"),
    "quota": lambda patch, folder: refuse(patch, folder, errno.EDQUOT),
    "no replacing": lambda patch, folder: refuse(patch, folder, errno.EPERM, "replace"),
}


@pytest.mark.parametrize("kind", UNWRITABLE)
def test_a_cold_cache_that_cannot_be_written(caches, tmp_path, monkeypatch, kind):
    with monkeypatch.context() as patch:
        UNWRITABLE[kind](patch, tmp_path)
        for _ in range(2):
            hits, (message,) = call()
            assert hits == 0
            assert "NUMBA_CACHE_DIR" in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    # Where the second folder can be written, nobody need be warned.
    numba_sees(monkeypatch, caches[0])
    UNWRITABLE[kind](monkeypatch, caches[0])
    assert call() == (0, [])
    assert len(files(caches[1])) == 2
    assert call() == (2, [])


@pytest.mark.parametrize("kind", UNWRITABLE)
def test_a_warm_cache_that_cannot_be_written_is_read(tmp_path, monkeypatch, kind):
    call()
    UNWRITABLE[kind](monkeypatch, tmp_path)
    assert call() == (2, [])


@pytest.mark.parametrize("kind", UNWRITABLE)
def test_damage_that_cannot_be_mended(caches, tmp_path, monkeypatch, kind):
    call()
    files(caches[0])[0].write_bytes(b"")
    with monkeypatch.context() as patch:
        UNWRITABLE[kind](patch, tmp_path)
        assert [call()[0] for _ in range(2)] == [1, 1]
    numba_sees(monkeypatch, caches[0])
    UNWRITABLE[kind](monkeypatch, caches[0])
    hits, messages = call()
    assert (hits, len(messages)) == (1, 1)
    # It has gone into the second folder.
    assert call() == (2, [])


def test_a_file_that_cannot_be_read(caches, monkeypatch):
    call()
    with monkeypatch.context() as patch:
        refuse(patch, caches[0], errno.EACCES, "read_bytes")
        hits, (message,) = call()
    assert hits == 0
    assert os.strerror(errno.EACCES) in message
    assert call() == (2, [])


def test_without_any_folder(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    hits, (message,) = call()
    assert hits == 0
    assert "no folder" in message


def test_without_a_home(tmp_path, monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", CacheImpl._locator_classes[1:])
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    hits, (message,) = call()
    assert hits == 0
    assert "no folder" in message
    assert not list(tmp_path.iterdir())


def test_the_folder_vanishes_while_a_kernel_is_written(caches, monkeypatch):
    write = Path.write_bytes

    def vanish(self, content):
        write(self, content)
        if caches[0] in self.parents:
            shutil.rmtree(caches[0])

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", vanish)
        hits, (message,) = call()
    assert hits == 0
    assert "cannot be written" in message
    assert call() == (0, [])
    assert call() == (2, [])


def test_a_warning_may_be_an_error(caches):
    call()
    path = files(caches[0])[0]
    path.write_bytes(b"")
    disk_cache._has_warned = False
    dispatcher = kernel(double)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CompileCacheWarning, match="checksum"):
            [dispatcher(argument) for argument in (21, 1.5)]
        assert [dispatcher(argument) for argument in (21, 1.5)] == [42, 3.0]
    assert call() == (2, [])


def test_an_interrupt_leaves_no_file_behind(caches, monkeypatch):
    call()
    files(caches[0])[0].unlink()

    def interrupted(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call()
    assert len(list(caches[0].rglob("*.nbc*"))) == 1
    assert call() == (1, [])
