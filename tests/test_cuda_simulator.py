"""The CUDA kernels in numba's simulator, without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "simulator"


@pytest.mark.parametrize(
    "marked",
    [
        pytest.param("not slow", marks=pytest.mark.simulator),
        pytest.param("slow", marks=pytest.mark.slow),
    ],
)
def test_kernels_in_the_simulator(marked):
    """Run the suite in tests/simulator, in a process in which numba simulates a device."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marked, str(SUITE)],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        cwd=SUITE.parent.parent,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
