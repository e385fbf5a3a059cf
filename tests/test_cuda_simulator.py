"""The CUDA kernels in numba's simulator, without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "simulator"


def run(path, marked):
    """Run tests of the suite in a process in which numba simulates a device."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marked, str(path)],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        cwd=SUITE.parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.simulator
@pytest.mark.parametrize("path", sorted(SUITE.glob("test_*.py")), ids=lambda path: path.stem)
def test_kernels_in_the_simulator(path):
    run(path, "not slow")


@pytest.mark.slow
def test_kernels_that_take_minutes():
    run(SUITE, "slow")
