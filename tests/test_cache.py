"""The disk cache of compiled kernels: hit when nothing changed, never stale, never required."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastelbo

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
    densities = copy / "fastelbo" / "kernels" / "draws" / "densities.py"
    text = densities.read_text()
    assert "half = square.dtype.type(0.5)" in text
    densities.write_text(text.replace("square.dtype.type(0.5)\n", "square.dtype.type(1.0)\n"))
    changed, hits, misses = run(copy)
    assert (hits, misses) == ("0", "1")
    assert float(changed) == pytest.approx(float(value) - 0.125)


def test_an_edit_after_the_import_is_not_taken_for_what_was_compiled(copy: Path) -> None:
    # This process compiles the source that it imported, and caches it under that source's name.
    edit = """
import fastelbo as fe
from pathlib import Path
path = Path(fe.__file__).parent / "kernels" / "draws" / "densities.py"
path.write_text(path.read_text() + "# a later version\\n")
"""
    value, *_ = run(copy, edit + PROGRAM)
    again, hits, misses = run(copy)
    assert (again, hits, misses) == (value, "0", "1")


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
