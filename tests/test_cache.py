"""The disk cache of compiled kernels: hit when nothing changed, never stale, never required."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastelbo
from fastelbo.kernels.jit import disk_cache

pytestmark = pytest.mark.compiler
PACKAGE = Path(fastelbo.__file__).parent

# Prints a log density, and how often its kernel was read from the disk and how often compiled.
PROGRAM = """
import fastelbo as fe
from fastelbo.kernels.cpu import drivers, launch
value = fe.Gaussian([0.0], scale=1.0).log_prob([[0.5]])
stats = launch.compiled(drivers.log_prob).stats
print(float(value[0]), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def run(folder: Path, program: str = PROGRAM, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package, without compiled files."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, folder / "fastelbo", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_hit_and_never_stale(copy: Path) -> None:
    value, hits, misses = run(copy)
    assert (hits, misses) == ("0", "1")
    assert run(copy) == [value, "1", "0"]
    # An edit two files away from the kernel: the quadratic loses its factor of a half.
    radial = copy / "fastelbo" / "kernels" / "draws" / "radial.py"
    text = radial.read_text()
    assert "half = square.dtype.type(0.5)" in text
    radial.write_text(text.replace("square.dtype.type(0.5)\n", "square.dtype.type(1.0)\n"))
    changed, hits, misses = run(copy)
    assert (hits, misses) == ("0", "1")
    assert float(changed) == pytest.approx(float(value) - 0.125)


def test_an_edit_after_the_import_is_not_taken_for_what_was_compiled(copy: Path) -> None:
    # This process compiles the source that it imported, and caches it under that source's name.
    edit = """
import fastelbo as fe
from pathlib import Path
path = Path(fe.__file__).parent / "kernels" / "draws" / "radial.py"
path.write_text(path.read_text() + "# a later version\\n")
"""
    value, *_ = run(copy, edit + PROGRAM)
    again, hits, misses = run(copy)
    assert (again, hits, misses) == (value, "0", "1")


def test_a_class_in_a_signature_may_be_renamed(copy: Path) -> None:
    # Its source is another one, so that nobody looks for the class that is gone.
    value, *_ = run(copy)
    for path in (copy / "fastelbo").rglob("*.py"):
        path.write_text(re.sub(r"\bDensity\b", "LogDensity", path.read_text()))
    assert run(copy) == [value, "0", "1"]
    assert run(copy) == [value, "1", "0"]


@pytest.mark.parametrize("place", range(3), ids=["chosen", "beside the source", "user's"])
def test_a_folder_is_named_after_the_source(copy: Path, tmp_path: Path, place: int) -> None:
    program = f"""
from numba.core.caching import CacheImpl, FunctionCache
CacheImpl._locator_classes = [CacheImpl._locator_classes[{place}]]
from fastelbo.kernels.cpu import drivers, launch
share = launch.compiled(drivers.log_prob)
print(share.stats.cache_path, FunctionCache(share.py_func).cache_path)
"""
    caches = {"NUMBA_CACHE_DIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    folder, parent = map(Path, run(copy, program, **caches))
    assert folder.parent == parent
    assert re.fullmatch(r"fastelbo-[0-9a-f]{16}", folder.name)


def test_few_folders_are_kept(tmp_path: Path) -> None:
    for age in range(5):
        folder = tmp_path / f"fastelbo-{age}"
        folder.mkdir()
        (folder / "kernel.nbc").touch()
        os.utime(folder, (1000 - age, 1000 - age))
    other = tmp_path / "other"
    other.mkdir()
    disk_cache.remove_old(tmp_path / "fastelbo-4")
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"fastelbo-0", "fastelbo-1", "fastelbo-4", "other"}
    disk_cache.remove_old(tmp_path / "nowhere" / "fastelbo-0")


def test_works_while_another_process_removes_the_folder(copy: Path, tmp_path: Path) -> None:
    # Between the two steps of keeping a kernel.
    remover = """
import shutil
from pathlib import Path
write, removed = Path.write_bytes, []
def write_and_remove(self, content):
    write(self, content)
    removed.append(self)
    shutil.rmtree(self.parent)
Path.write_bytes = write_and_remove
"""
    program = remover + PROGRAM + "print(len(removed) > 0)"
    value, *counts = run(copy, program, NUMBA_CACHE_DIR=str(tmp_path))
    assert float(value) < 0.0
    assert counts == ["0", "1", "True"]


def test_works_without_a_cache_folder(copy: Path) -> None:
    nowhere = "from numba.core.caching import CacheImpl\nCacheImpl._locator_classes = []\n"
    value, hits, misses = run(copy, nowhere + PROGRAM)
    assert float(value) < 0.0
    assert (hits, misses) == ("0", "1")


def test_warmup_leaves_nothing_to_compile() -> None:
    program = """
import fastelbo as fe
fe.warmup()
from fastelbo.kernels.cpu import launch
print(launch.compiled.cache_info().currsize)
fe.estimate(fe.Gaussian([0.0, 0.0], scale=1.0), fe.StudentT(4.0, [0.0, 0.0], scale=1.0), rng=0)
fe.logsumexp([0.0, 1.0])
print(launch.compiled.cache_info().currsize)
"""
    before, after = run(PACKAGE.parent, program)
    assert before == after
